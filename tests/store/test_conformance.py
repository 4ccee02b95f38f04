"""What every engine must do; one set of tests for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from oracles.plain_store import PlainStore
from support.tracklets import assert_same, names, tracklets, unit_vectors
from vreid.errors import InputError
from vreid.store.engines import open_vectors
from vreid.store.interface import NO_TIME, Filter, StoredCrop, TrackletBatch, VectorStore

D = 8
FILTERS = [
    None,
    Filter(),
    Filter(cameras=frozenset({"a", "absent"})),
    Filter(cameras=frozenset()),
    Filter(not_cameras=frozenset({"a"})),
    Filter(not_cameras=frozenset()),
    Filter(colors=frozenset({"red", ""})),
    Filter(vehicle_types=frozenset({"truck"}), not_cameras=frozenset({"c"})),
    Filter(start=300),
    Filter(end=300),
    Filter(start=300, end=420),
    Filter(start=300, end=300),
    Filter(start=400, end=300),
    Filter(start=NO_TIME, end=2**60),
    Filter(cameras=frozenset({"a", "c"}), start=300),
    Filter(cameras=frozenset({"a"}), end=300),
    Filter(cameras=frozenset({"a"}), start=300, end=310),
    Filter(cameras=frozenset({"a", "b"}), start=400, end=300),
    Filter(cameras=frozenset({"c"}), not_cameras=frozenset({"c"}), start=NO_TIME, end=2**60),
    Filter(cameras=frozenset({"b"}), start=100, end=600, colors=frozenset({"white"})),
]


@pytest.fixture
def filled(engine: VectorStore) -> tuple[VectorStore, PlainStore]:
    plain = PlainStore()
    for seed, camera in enumerate("abc"):
        batch = tracklets(names(camera, 40), seed)
        engine.upsert(batch)
        plain.upsert(batch)
    return engine, plain


@pytest.mark.parametrize("where", FILTERS)
def test_search_and_count_and_scan_equal_the_plain_store(
    filled: tuple[VectorStore, PlainStore], where: Filter | None
) -> None:
    engine, plain = filled
    queries = unit_vectors(np.random.default_rng(9), 3, D)
    assert engine.count(where) == len(plain.selected(where))
    assert [name for batch in engine.scan(where, limit=7) for name in batch.id] == plain.selected(where)
    for k in (1, 10, 500):
        for query, hits in zip(queries, engine.search(queries, k, where), strict=True):
            wanted = plain.search(query, k, where)
            assert list(hits.id) == [name for name, _ in wanted]
            np.testing.assert_allclose(hits.similarity, [value for _, value in wanted], atol=1e-6)
            assert hits.start.tolist() == [int(plain.rows[name].start[0]) for name in hits.id]
            assert hits.end.tolist() == [int(plain.rows[name].end[0]) for name in hits.id]


def test_each_query_may_have_its_own_filter(filled: tuple[VectorStore, PlainStore]) -> None:
    engine, plain = filled
    filters = [
        Filter(cameras=frozenset("a")),
        Filter(cameras=frozenset()),
        *FILTERS[2:],
        Filter(cameras=frozenset("a")),
    ]
    queries = unit_vectors(np.random.default_rng(9), len(filters), D)
    for query, where, hits in zip(queries, filters, engine.search(queries, 4, filters), strict=True):
        assert list(hits.id) == [name for name, _ in plain.search(query, 4, where)]
    with pytest.raises(InputError, match="2 filters were given for 3 queries"):
        engine.search(queries[:3], 4, filters[:2])


def test_equal_similarities_stand_in_the_order_of_ids(engine: VectorStore) -> None:
    batch = tracklets(["a/3", "a/1", "b/2", "a/10"], 1)
    engine.upsert(replace(batch, vector=np.repeat(batch.vector[:1], 4, axis=0)))
    (hits,) = engine.search(batch.vector[:1], 3)
    assert list(hits.id) == ["a/1", "a/10", "a/3"]


def test_everything_comes_back_as_it_was(engine: VectorStore) -> None:
    batch = tracklets(["ä 'b\" \\ %_{x}/1", "日本/2", "c/3"], 1, crops=3)
    batch.facts[0]["nested"] = {"é": [1, None, "'"]}
    batch.crops[1][0] = StoredCrop(batch.crops[1][0].jpeg, batch.crops[1][0].vector)  # type: ignore[index]
    engine.upsert(batch)
    assert_same(engine.fetch(list(batch.id), crops=True), batch)
    assert engine.fetch(["c/3", "absent", "日本/2", "c/3"]).id.tolist() == ["c/3", "日本/2"]
    assert engine.fetch([]).id.tolist() == []
    assert engine.fetch(["c/3"]).crops is None
    for name in batch.id:
        camera = str(name).partition("/")[0]
        (hits,) = engine.search(batch.vector[:1], 5, Filter(cameras=frozenset({camera})))
        assert list(hits.id) == [name]
        assert engine.count(Filter(not_cameras=frozenset({camera}))) == 2


def test_upsert_replaces_and_adds_nothing_twice(engine: VectorStore) -> None:
    engine.upsert(tracklets(names("a", 10), 1, crops=3))
    newer = tracklets(names("a", 5, first=5), 2, crops=1)
    engine.upsert(newer)
    engine.upsert(newer)
    assert engine.count() == 10
    assert_same(engine.fetch(list(newer.id), crops=True), newer)
    assert engine.info().crops == 5 * 3 + 5 * 1
    assert engine.search(newer.vector[:1], 1)[0].id[0] == "a/5"


def test_delete_takes_the_crops_along(filled: tuple[VectorStore, PlainStore]) -> None:
    engine, _ = filled
    assert engine.delete(ids=["a/0", "a/1", "absent"]) == 2
    assert engine.delete(where=Filter(cameras=frozenset({"b"}))) == 40
    assert engine.delete(ids=["a/2", "c/2"], where=Filter(cameras=frozenset({"c"}))) == 1
    assert engine.count() == 77
    assert engine.info().tracklets == 77
    assert engine.info().crops == 2 * 77
    with pytest.raises(InputError, match="nothing says which"):
        engine.delete()


def test_replace_vectors(engine: VectorStore) -> None:
    batch = tracklets(names("a", 6), 1)
    engine.upsert(batch)
    vectors = unit_vectors(np.random.default_rng(5), 3, D)
    engine.replace_vectors(["a/1", "absent", "a/4"], vectors, {"camera_mean/a": {"count": 6}})
    assert engine.get_document("camera_mean/a") == {"count": 6}
    np.testing.assert_array_equal(engine.fetch(["a/1", "a/4"]).vector, vectors[[0, 2]])
    assert engine.search(vectors[2:], 1)[0].id.tolist() == ["a/4"]
    assert engine.count() == 6
    wanted = replace(batch, vector=np.stack([batch.vector[0], vectors[0]]), **_rows(batch, [0, 1]))
    assert_same(engine.fetch(["a/0", "a/1"], crops=True), wanted)


def _rows(batch: TrackletBatch, rows: list[int]) -> dict[str, object]:
    assert batch.crops is not None
    arrays = {c: getattr(batch, c)[rows] for c in ("id", "camera", "start", "end", "color", "vehicle_type")}
    return arrays | {"facts": [batch.facts[row] for row in rows], "crops": [batch.crops[row] for row in rows]}


def test_scan_goes_on_after_an_id(filled: tuple[VectorStore, PlainStore]) -> None:
    engine, plain = filled
    whole = plain.selected(None)
    found = list(engine.scan(after=whole[20], limit=16, crops=True))
    assert [name for batch in found for name in batch.id] == whole[21:]
    assert max(map(len, found)) <= 16
    for batch in found[:2]:
        assert batch.crops is not None
        for row, name in enumerate(batch.id):
            assert_same(replace(batch, **_rows(batch, [row]), vector=batch.vector[[row]]), plain.rows[name])


@pytest.mark.parametrize("where", FILTERS)
def test_lists_by_time_equal_the_plain_store(filled: tuple[VectorStore, PlainStore], where: Filter | None) -> None:
    engine, plain = filled
    assert list(engine.list_by_time(where).id) == plain.by_time(where)
    assert [name for page in pages_by_time(engine, where, 7) for name in page.id] == plain.by_time(where)


def pages_by_time(engine: VectorStore, where: Filter | None, limit: int) -> Iterator[TrackletBatch]:
    after = None
    while len(page := engine.list_by_time(where, after=after, limit=limit)):
        assert len(page) <= limit
        yield page
        after = int(page.start[-1]), str(page.id[-1])


def test_pages_by_time_stay_consistent_while_tracklets_are_added(filled: tuple[VectorStore, PlainStore]) -> None:
    engine, plain = filled
    found: list[str] = []
    for number, page in enumerate(pages_by_time(engine, None, 10)):
        found += page.id.tolist()
        if number < 3:
            start = np.array([NO_TIME, 5000])
            added = tracklets([f"0/before{number}", f"0/behind{number}"], number)
            engine.upsert(replace(added, start=start, end=start))
    assert found == [*plain.by_time(None), "0/behind0", "0/behind1", "0/behind2"]


def test_equal_starts_stand_in_the_order_of_ids(engine: VectorStore) -> None:
    batch = tracklets(["a/3", "a/1", "ä/2", "a/10", "b/0"], 1)
    start = np.array([7, 7, 7, 7, NO_TIME])
    engine.upsert(replace(batch, start=start, end=start))
    assert list(engine.list_by_time().id) == ["b/0", "a/1", "a/10", "a/3", "ä/2"]
    assert list(engine.list_by_time(after=(7, "a/10"), limit=1).id) == ["a/3"]
    page = engine.list_by_time(after=(7, "a/2"))
    assert page.crops is None
    assert_same(replace(page, crops=[]), replace(engine.fetch(["a/3", "ä/2"]), crops=[]))


def test_documents(engine: VectorStore) -> None:
    assert engine.get_document("threshold") is None
    engine.put_document("threshold", {"value": 0.5, "text": "'é\\"})
    engine.put_document("camera/b", 1)
    engine.put_document("camera/a", [None, True])
    engine.put_document("camera/b", 2)
    engine.put_document("camera_mean/a", {})
    assert engine.get_document("threshold") == {"value": 0.5, "text": "'é\\"}
    assert list(engine.documents("camera/").items()) == [("camera/a", [None, True]), ("camera/b", 2)]
    assert list(engine.documents()) == ["camera/a", "camera/b", "camera_mean/a", "threshold"]
    assert engine.delete_document("camera/b") and not engine.delete_document("camera/b")
    assert list(engine.documents("camera")) == ["camera/a", "camera_mean/a"]


def test_large_documents_come_back_whole(engine: VectorStore) -> None:
    value = {"mean": "é" * 150_000}
    engine.put_document("camera_mean/a", value)
    engine.put_document("camera_mean/b", 1)
    assert engine.get_document("camera_mean/a") == value
    assert engine.documents("camera_mean/") == {"camera_mean/a": value, "camera_mean/b": 1}
    engine.put_document("camera_mean/a", "short")
    assert engine.get_document("camera_mean/a") == "short"
    assert engine.delete_document("camera_mean/a")
    assert engine.documents() == {"camera_mean/b": 1}


def test_a_second_connection_sees_what_was_written(opener: Callable[..., VectorStore]) -> None:
    first = opener()
    first.upsert(tracklets(names("a", 5), 1))
    second = opener(create=False, dimensions=None, model="")
    assert (second.dimensions, second.model) == (D, "first")
    batch = tracklets(names("a", 3, first=4), 2)
    assert len(second.search(batch.vector, 10)[0].id) == 5
    first.upsert(batch)
    first.delete(ids=["a/0"])
    assert second.search(batch.vector[:1], 10)[0].id[0] == "a/4"
    assert sorted(second.search(batch.vector[:1], 10)[0].id) == names("a", 6, first=1)


def test_info_describes_the_store(filled: tuple[VectorStore, PlainStore]) -> None:
    engine, _ = filled
    info = engine.info()
    assert (info.tracklets, info.crops, info.dimensions, info.model) == (120, 240, D, "first")
    assert info.engine in ("sqlite", "milvus") and info.version and info.uri


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vector": np.full((2, D), np.nan, np.float32)}, "a/0: its feature is not a finite vector"),
        ({"vector": np.zeros((2, D), np.float32)}, "a/0: its feature is not a finite vector"),
        ({"vector": np.ones((2, D - 1), np.float32)}, "do not fit the store, which holds 8 dimensions"),
        ({"id": np.array(["a/0", "a/0"], object)}, "given twice"),
        ({"id": np.array(["a/0", ""], object)}, "empty"),
        ({"id": np.array(["a/0", "a\0"], object)}, "NUL"),
        ({"id": np.array(["a/0", "a\udc80"], object)}, "not valid Unicode"),
        ({"camera": np.array(["a", "a" * 600], object)}, "camera exceeds 512 bytes"),
        ({"start": np.array([5, 9]), "end": np.array([6, 8])}, "a/1: starts at 9 and ends at 8"),
        ({"start": np.array([5, NO_TIME]), "end": np.array([6, 8])}, "a/1: starts at"),
        ({"crops": [[], []]}, "no crops"),
        ({"crops": None}, "with their crops"),
        ({"facts": [{}]}, "column facts has 1 values for 2"),
        ({"facts": [{"x": "y" * 20_000}, {}]}, "facts exceed"),
    ],
)
def test_wrong_tracklets_are_refused_whole(engine: VectorStore, change: dict[str, object], message: str) -> None:
    good = replace(tracklets(["a/0", "a/1"], 1), start=np.array([5, 9]), end=np.array([6, 9]))
    with pytest.raises(InputError, match=message):
        engine.upsert(replace(good, **change))
    assert engine.count() == 0


def test_wrong_crops_are_refused(engine: VectorStore) -> None:
    good = tracklets(["a/0"], 1)
    vector = unit_vectors(np.random.default_rng(0), 1, D)[0]
    for crop, message in (
        (StoredCrop(b"", vector), "has 0 bytes"),
        (StoredCrop(b"x" * 45_001, vector), "has 45,001 bytes"),
        (StoredCrop(b"x", vector * 2), "not a finite vector of unit length"),
        (StoredCrop(b"x", vector[:3]), r"shape \(3,\)"),
    ):
        with pytest.raises(InputError, match=message):
            engine.upsert(replace(good, crops=[[crop]]))
    engine.upsert(replace(good, crops=[[StoredCrop(b"x" * 45_000, vector)]]))


def test_wrong_queries_are_refused(filled: tuple[VectorStore, PlainStore]) -> None:
    engine, _ = filled
    with pytest.raises(InputError, match="8 dimensions"):
        engine.search(np.ones((1, 3), np.float32), 1)
    with pytest.raises(InputError, match="not finite"):
        engine.search(np.full((1, D), np.inf, np.float32), 1)
    with pytest.raises(InputError, match="at least 1"):
        engine.search(np.ones((1, D), np.float32), 0)


def test_an_empty_store_finds_nothing(engine: VectorStore) -> None:
    assert [len(hits.id) for hits in engine.search(np.eye(D, dtype=np.float32)[:2], 5)] == [0, 0]
    assert list(engine.scan()) == []
    assert engine.count() == 0


def test_another_model_is_refused_with_the_command(opener: Callable[..., VectorStore]) -> None:
    opener().close()
    with pytest.raises(InputError, match=r"another model .*vreid store embed .* --model MODEL"):
        opener(model="second")
    assert opener(model="second", read_only=True).model == "first"
    with pytest.raises(InputError, match="8 dimensions, not 9"):
        opener(dimensions=9)


def test_a_missing_store_names_the_command(address: str) -> None:
    with pytest.raises(InputError, match=r"vreid ingest SOURCE --store"):
        open_vectors(address)


def test_reading_only_refuses_to_write(opener: Callable[..., VectorStore]) -> None:
    opener().upsert(tracklets(["a/0"], 1))
    reader = opener(read_only=True)
    assert reader.count() == 1
    for write in (
        lambda: reader.upsert(tracklets(["a/1"], 1)),
        lambda: reader.delete(ids=["a/0"]),
        lambda: reader.put_document("x", 1),
        lambda: reader.delete_document("x"),
        lambda: reader.replace_vectors([], np.empty((0, D), np.float32)),
    ):
        with pytest.raises(InputError, match="reading only"):
            write()


def test_more_rows_than_a_page_of_results(engine: VectorStore) -> None:
    """Every batch stays below the limit of one message, whatever is given at once."""
    batch = tracklets(names("a", 700), 3, crops=1)
    jpeg = batch.crops[0][0].jpeg.ljust(40_000, b"\0")  # type: ignore[index]
    crops = [[replace(one, jpeg=jpeg) for one in some] for some in batch.crops or ()]
    engine.upsert(replace(batch, crops=crops))
    assert engine.count() == 700
    assert [name for some in engine.scan(limit=300) for name in some.id] == sorted(batch.id)
    assert engine.delete(where=Filter(cameras=frozenset({"a"}))) == 700
