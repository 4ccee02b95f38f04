"""Tables of tracklets, and answers about pairs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

from support.traffic_world import ToyTraffic, traffic_world
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.files import write_json
from vreid.retrieval.features import FACTS, GALLERY_OF_QUERY, FeatureSet
from vreid.store.interface import NO_TIME, StoredCrop, TrackletBatch
from vreid.trips.confirmations import read_confirmations
from vreid.trips.solve import TripConfig, link_trips, principal_directions, reduced
from vreid.trips.tables import TimedTracklets, joined_rows, read_features, table_of_batches, table_of_features

COLUMNS = {"id": ["b", "a"], "camera": ["c1", "c2"], "start": [5.0, 1.0], "end": [6.0, 2.0], "vector": np.eye(2)}


def test_rows_are_sorted_by_time() -> None:
    table = TimedTracklets.of(**COLUMNS)
    assert table.id.tolist() == ["a", "b"]
    assert table.row_of == {"a": 0, "b": 1}
    assert table.cameras == 2


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"start": [np.nan, 1.0]}, "tracklet b has no time; give start times"),
        ({"camera": ["", "c2"]}, "tracklet b has no camera"),
        ({"end": [4.0, 2.0]}, "tracklet b ends before it starts"),
        ({"id": ["a", "a"]}, "'a' is given twice"),
        ({"vector": np.zeros((2, 2))}, "norm"),
        ({"start": [1.0]}, "give one value per tracklet"),
    ],
)
def test_wrong_tracklets_are_named(changed: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TimedTracklets.of(**{**COLUMNS, **changed})


def images(time: float | None = 100.0) -> FeatureSet:
    rng = np.random.default_rng(0)
    count = 12
    records = Records.of(
        path=[f"{n}.jpg" for n in range(count)],
        camera=[f"c{n // 6}" for n in range(count)],
        tracklet=[f"t{n // 2}" for n in range(count)],
        time=None if time is None else [time + n for n in range(count)],
    )
    return FeatureSet(rng.normal(size=(count, 4)), records)


def test_images_are_pooled_into_tracklets() -> None:
    table = table_of_features(images())
    assert table.id.tolist() == [f"t{n}" for n in range(6)]
    assert (table.start[0], table.end[0]) == (100.0, 101.0)
    unit = images().normalise().features
    pooled = unit[0] + unit[1]
    pooled /= np.linalg.norm(pooled)
    others = [unit[k] + unit[k + 1] for k in (0, 2, 4)]
    mean = np.mean([one / np.linalg.norm(one) for one in others], axis=0)
    expected = (pooled - mean) / np.linalg.norm(pooled - mean)
    np.testing.assert_allclose(table.vector[0], expected, atol=1e-5)


def test_features_without_times_say_how_to_give_them() -> None:
    with pytest.raises(InputError, match=r"cameras\.csv"):
        table_of_features(images(time=None))


def extracted(folder: Path, features: FeatureSet) -> Path:
    features.save(folder / "query.safetensors")
    write_json(folder / FACTS, {GALLERY_OF_QUERY: True})
    return folder


def test_a_folder_of_features_is_read(tmp_path: Path) -> None:
    assert len(read_features(extracted(tmp_path, images()))) == 6


def batch(table: TimedTracklets, known: bool = True) -> TrackletBatch:
    none = np.full(len(table), NO_TIME)
    return TrackletBatch(
        id=table.id,
        vector=table.vector,
        camera=table.camera.values,
        start=(table.start * 1000).astype(np.int64) if known else none,
        end=(table.end * 1000).astype(np.int64) if known else none,
        color=np.full(len(table), "", dtype=object),
        vehicle_type=np.full(len(table), "", dtype=object),
        facts=[{} for _ in range(len(table))],
        crops=[[StoredCrop(b"jpeg", vector)] for vector in table.vector],
    )


def test_tracklets_of_a_store_without_times_are_an_error() -> None:
    table = traffic_world(0, ToyTraffic(vehicles=20))[0]
    assert table_of_batches([batch(table)]).id.tolist() == table.id.tolist()
    with pytest.raises(InputError, match="has no time"):
        table_of_batches([batch(table, known=False)])
    with pytest.raises(InputError, match="the store is empty"):
        table_of_batches([])


def test_projection_keeps_similarities() -> None:
    rng = np.random.default_rng(0)
    vector = (rng.normal(size=(100, 8)) @ rng.normal(size=(8, 64))).astype(np.float32)
    vector /= np.linalg.norm(vector, axis=1, keepdims=True)
    short = reduced(vector, principal_directions(vector, 8))
    np.testing.assert_allclose(short @ short.T, vector @ vector.T, atol=1e-4)
    assert reduced(vector, principal_directions(vector, 64)) is vector


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n", "no column 'first'"),
        ("first,second,same\na,b,maybe\n", "line 2"),
        ("first,second,same\na,,yes\n", "line 2"),
    ],
)
def test_wrong_answers_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_confirmations(tmp_path / "pairs.csv")


@pytest.mark.parametrize("limit", [0, 100, 10_000])
def test_rows_beyond_the_limit_lie_in_a_file_without_a_name(
    limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vreid.trips.tables.IN_MEMORY", limit)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    blocks = [np.arange(n * 3, dtype=np.float32).reshape(n, 3) for n in (2, 0, 7, 1)]
    joined = joined_rows(iter(blocks))
    np.testing.assert_array_equal(joined, np.concatenate(blocks))
    assert not joined.flags.writeable
    assert not list(tmp_path.iterdir())
    assert joined_rows([]).shape == (0, 0)


def test_no_room_for_features_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vreid.trips.tables.IN_MEMORY", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    with pytest.raises(InputError, match="absent: cannot be written"):
        joined_rows([np.ones((2, 2), dtype=np.float32)])


def test_trips_do_not_depend_on_where_features_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    world = ToyTraffic(vehicles=120, hours=1.0)
    expected = link_trips(traffic_world(0, world)[0], TripConfig(dimensions=16))
    monkeypatch.setattr("vreid.trips.tables.IN_MEMORY", 0)
    found = link_trips(traffic_world(0, world)[0], TripConfig(dimensions=16))
    np.testing.assert_array_equal(found.trip, expected.trip)
    np.testing.assert_array_equal(found.probability, expected.probability)
