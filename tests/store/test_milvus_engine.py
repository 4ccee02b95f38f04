"""What only Milvus has: approximate indexes behind a gate, traces of killed processes; and copies to it and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.tracklets import assert_same, names, tracklets
from vreid.errors import InputError
from vreid.store.engines import open_vectors
from vreid.store.interface import NO_TIME, Filter
from vreid.store.maintenance import copy_store, prune, verify

pytest.importorskip("pymilvus", reason="run `make test-milvus`")
from vreid.store.milvus_engine import MilvusEngine, gate_index

D = 8


@pytest.fixture
def engine(milvus_address: str) -> Iterator[MilvusEngine]:
    if not milvus_address:
        pytest.skip("run `make test-milvus`")
    address = f"{milvus_address}?collection=only"
    with closing(MilvusEngine(address, dimensions=D, model="m", create=True)) as one:
        one.delete(ids=[name for batch in one.scan() for name in batch.id])
        yield one


def test_an_index_that_misses_neighbours_is_refused(engine: MilvusEngine) -> None:
    if "lite" in engine.info().version and "2.3.5" not in engine.info().version:
        pytest.skip("Milvus Lite ignores the parameters of an index")
    # Milvus builds no index for fewer than 1,024 rows.
    engine.upsert(tracklets(names("a", 2000), 1, crops=1))
    engine.upsert(tracklets(names("b", 2000), 2, crops=1))
    query = tracklets(["q/1"], 3).vector
    exact = engine.search(query, 10)[0].id.tolist()
    with pytest.raises(InputError, match=r"IVF_FLAT finds 0\.\d+ of the 50 nearest .* the exact index stays"):
        gate_index(engine, "IVF_FLAT", {"nlist": 64}, {"nprobe": 1}, k=50, queries=20)
    assert engine.info().details["index"] == "FLAT"
    assert engine.search(query, 10)[0].id.tolist() == exact
    recall = gate_index(engine, "IVF_FLAT", {"nlist": 8}, {"nprobe": 8}, k=50, queries=20)
    assert min(recall.values()) >= 0.99
    assert engine.info().details["index"] == "IVF_FLAT"
    with closing(MilvusEngine(engine.uri)) as again:
        assert again.search(query, 10)[0].id.tolist() == exact
    with pytest.raises(InputError, match="not FLAT"):
        gate_index(engine, "HNSW", {})
    engine.set_index("FLAT", {})


def test_a_store_is_copied_to_milvus_and_back(engine: MilvusEngine, tmp_path: Path) -> None:
    with closing(open_vectors(tmp_path / "one", dimensions=D, model="m", create=True)) as source:
        source.upsert(tracklets(names("a", 300), 1))
        source.put_document("camera/a", {"name": "a"})
        assert copy_store(source, engine) == 300
        with closing(open_vectors(tmp_path / "two", dimensions=D, model="m", create=True)) as back:
            assert copy_store(engine, back) == 300
            for ours, theirs in zip(source.scan(crops=True), back.scan(crops=True), strict=True):
                assert_same(theirs, ours)
            assert back.documents() == {"camera/a": {"name": "a"}}
        query = tracklets(["q/1"], 3).vector
        where = Filter(start=200, end=700)
        assert engine.search(query, 20, where)[0].id.tolist() == source.search(query, 20, where)[0].id.tolist()
        assert verify(engine) == []
        done = prune(engine, 0, now=0.5)
        assert done.tracklets == prune(source, 0, now=0.5).tracklets > 0
        assert engine.info().crops == source.info().crops


def test_crops_of_a_killed_write_are_found(engine: MilvusEngine) -> None:
    engine.upsert(tracklets(names("a", 3), 1))
    from pymilvus import MilvusClient

    address, _, name = engine.uri.partition("?collection=")
    with closing(MilvusClient(address)) as client:
        client.delete(name, filter='id == "a/1"')
    assert any("a/1: 1 tracklets have crops but no row" in problem for problem in verify(engine))
    engine.upsert(tracklets(names("a", 3), 1))
    assert verify(engine) == []


@pytest.mark.parametrize("first", [0, 1_700_000_000_000, -5_000_000])
def test_lists_by_time_of_more_than_a_message(
    engine: MilvusEngine, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    batch = tracklets(names("a", 300), 1, crops=1)
    timed = batch.start != NO_TIME
    start = np.where(timed, first + 40_000 * (batch.start // 20), NO_TIME)  # up to half an hour, several at once
    engine.upsert(replace(batch, start=start, end=start))
    monkeypatch.setattr("vreid.store.milvus_engine.MOST", 20)
    found: list[str] = []
    after = None
    while len(page := engine.list_by_time(after=after, limit=16)):
        found += page.id.tolist()
        after = int(page.start[-1]), str(page.id[-1])
    assert found == [name for _, name in sorted(zip(start.tolist(), batch.id, strict=True))]


def test_wrong_addresses() -> None:
    with pytest.raises(InputError, match="letters, digits and _ only"):
        MilvusEngine("http://localhost:1?collection=a-b")
    with pytest.raises(InputError, match="Milvus reports"):
        MilvusEngine("http://127.0.0.1:9?collection=a")
