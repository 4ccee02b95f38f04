"""Plausible times between cameras: learned from similar tracklets, used for the order of hits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vreid.store.engines import open_vectors
from vreid.store.interface import NO_TIME, Filter, StoredCrop, TrackletBatch, VectorStore
from vreid.store.relative_distance import TrackletTable
from vreid.store.search import Query, SearchConfig, search_tracklets
from vreid.store.travel_times import TRAVEL_TIMES, learn_travel_times, read_travel_times


def town(folder: Path, *, travel: float, noise: float = 0.35, vehicles: int = 60) -> VectorStore:
    """Vehicles that pass camera a, and camera b `travel` seconds later; every second one has a look-alike."""
    rng = np.random.default_rng(3)
    looks = rng.normal(size=(vehicles // 2, 16))
    leave = np.sort(rng.uniform(0, 3600, vehicles))
    ids, vectors, cameras, starts = [], [], [], []
    for vehicle in range(vehicles):
        for camera, seconds in (("a", leave[vehicle]), ("b", leave[vehicle] + travel + rng.normal(0, 2))):
            ids.append(f"{camera}/{vehicle}")
            vectors.append(looks[vehicle // 2] + noise * rng.normal(size=16))
            cameras.append(camera)
            starts.append(round(1000 * seconds))
    vector = np.array(vectors, dtype=np.float32)
    vector /= np.linalg.norm(vector, axis=1, keepdims=True)
    start = np.array(starts, dtype=np.int64) + 1_700_000_000_000
    store = open_vectors(folder, dimensions=16, model="m", create=True)
    store.upsert(
        TrackletBatch(
            np.array(ids, dtype=object),
            vector,
            np.array(cameras, dtype=object),
            start,
            start + 2000,
            np.array([""] * len(ids), dtype=object),
            np.array([""] * len(ids), dtype=object),
            [{}] * len(ids),
            [[StoredCrop(b"\xff\xd8", row)] for row in vector],
        )
    )
    return store


def first_hits(store: VectorStore, config: SearchConfig) -> float:
    """Share of the tracklets of camera a whose first hit is their own vehicle."""
    right = asked = 0
    for batch in store.scan(Filter(cameras=frozenset({"a"}))):
        for row, name in enumerate(batch.id):
            query = Query(name, batch.vector[row], name, "a", int(batch.start[row]), int(batch.end[row]))
            hit = search_tracklets(store, query, Filter(), config, None).hits[0]
            right += hit.tracklet == name.replace("a/", "b/")
            asked += 1
    return right / asked


def test_known_travel_times_tell_look_alikes_apart(tmp_path: Path) -> None:
    store = town(tmp_path, travel=45.0)
    plain = first_hits(store, SearchConfig())
    prior = learn_travel_times(store, TrackletTable.load(store))
    assert prior is not None and prior.matches > 20
    assert prior.of(np.array([45.0]))[0] > 1 > prior.of(np.array([1500.0]))[0]
    assert first_hits(store, SearchConfig()) > plain + 0.2
    assert first_hits(store, SearchConfig(travel_times=False)) == plain
    kept = read_travel_times(store)
    assert kept is not None
    assert kept.edges_B.tolist() == prior.edges_B.tolist() and np.array_equal(kept.log_ratio_B, prior.log_ratio_B)


def test_nothing_is_learned_without_times_or_from_random_times(tmp_path: Path) -> None:
    store = town(tmp_path / "random", travel=45.0, noise=30.0)  # features say nothing
    store.put_document(TRAVEL_TIMES, {"edges": [], "log_ratio": [0.0], "matches": 0})
    assert learn_travel_times(store, TrackletTable.load(store)) is None
    assert read_travel_times(store) is None
    table = TrackletTable.load(store)
    nowhere = TrackletTable(table.id, table.vector, table.camera, table.start * np.nan, table.end * np.nan)
    assert learn_travel_times(store, nowhere) is None


def test_a_query_without_time_is_ordered_by_distance(tmp_path: Path) -> None:
    store = town(tmp_path, travel=45.0)
    learn_travel_times(store, TrackletTable.load(store))
    batch = store.fetch(["a/3"])
    query = Query("image", batch.vector[0], "", "a", NO_TIME, NO_TIME)
    orders = [
        [hit.tracklet for hit in search_tracklets(store, query, Filter(), SearchConfig(travel_times=use), None).hits]
        for use in (True, False)
    ]
    assert orders[0] == orders[1]


@pytest.mark.parametrize("document", [{"edges": ["x"]}, {"log_ratio": [1.0], "matches": 1}])
def test_a_damaged_document_is_one_sentence(document: dict, tmp_path: Path) -> None:
    store = town(tmp_path, travel=45.0)
    store.put_document(TRAVEL_TIMES, document)
    from vreid.errors import InputError

    with pytest.raises(InputError, match="travel_times"):
        read_travel_times(store)
