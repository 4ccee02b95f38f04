"""Copy, snapshot, restore, prune, compact and verify."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.tracklets import assert_same, jpeg, names, tracklets
from vreid.errors import InputError
from vreid.store.engines import open_vectors
from vreid.store.interface import NO_TIME, StoredCrop, TrackletBatch, VectorStore
from vreid.store.labelling import ANSWERS, TRIP_LINKS, answered_pairs, put_answer
from vreid.store.maintenance import COPY, copy_store, prune, seconds_of, verify
from vreid.store.snapshots import restore_snapshot, write_snapshot
from vreid.store.sqlite_engine import SqliteEngine
from vreid.store.sqlite_file import FILE

D = 8
DAY = 86_400_000


def make(folder: Path, count: int = 500) -> SqliteEngine:
    engine = SqliteEngine(folder, dimensions=D, model="m", create=True)
    engine.upsert(tracklets(names("a", count), 1))
    engine.put_document("camera/a", {"name": "a"})
    return engine


def everything(engine: VectorStore) -> TrackletBatch:
    (batch,) = engine.scan(limit=10_000, crops=True)
    return batch


@pytest.fixture
def source(tmp_path: Path) -> Iterator[SqliteEngine]:
    with closing(make(tmp_path / "source")) as engine:
        yield engine


class Interrupted(VectorStore):
    """Fails at the third batch."""

    def __init__(self, engine: VectorStore) -> None:
        self._engine, self._left = engine, 2

    def __getattribute__(self, name: str) -> object:
        if name in ("_engine", "_left", "upsert"):
            return object.__getattribute__(self, name)
        return getattr(self._engine, name)

    def upsert(self, batch: TrackletBatch) -> None:
        if not self._left:
            raise KeyboardInterrupt
        self._left -= 1
        self._engine.upsert(batch)


def test_an_interrupted_copy_continues(source: SqliteEngine, tmp_path: Path) -> None:
    with closing(SqliteEngine(tmp_path / "copy", dimensions=D, model="m", create=True)) as target:
        with pytest.raises(KeyboardInterrupt):
            copy_store(source, Interrupted(target))
        assert target.count() == 400
        assert verify(target) == ["an unfinished copy: run `vreid store copy` again with the same source"]
        assert copy_store(source, target) == 100
        assert_same(everything(target), everything(source))
        assert target.documents() == {"camera/a": {"name": "a"}}
        with pytest.raises(InputError, match="holds tracklets already"):
            copy_store(source, target)


def test_a_copy_of_something_else_or_another_model_is_refused(source: SqliteEngine, tmp_path: Path) -> None:
    with closing(SqliteEngine(tmp_path / "copy", dimensions=D, model="m", create=True)) as target:
        target.put_document(COPY, {"source": "elsewhere", "after": ""})
        with pytest.raises(InputError, match="unfinished copy of elsewhere"):
            copy_store(source, target)
    with (
        closing(SqliteEngine(tmp_path / "other", dimensions=D, model="n", create=True)) as target,
        pytest.raises(InputError, match="another model"),
    ):
        copy_store(source, target)


def test_a_snapshot_is_restored(source: SqliteEngine, tmp_path: Path) -> None:
    size = write_snapshot(source.folder, tmp_path / "a.snapshot")
    assert size == (tmp_path / "a.snapshot").stat().st_size
    assert not list(tmp_path.glob("*.partial*"))
    restore_snapshot(tmp_path / "a.snapshot", tmp_path / "new")
    with closing(SqliteEngine(tmp_path / "new")) as engine:
        assert_same(everything(engine), everything(source))
        assert verify(engine) == []
    assert [path.name for path in (tmp_path / "new").iterdir()] == [FILE]
    with pytest.raises(InputError, match="holds a store already; replace it with --force"):
        restore_snapshot(tmp_path / "a.snapshot", tmp_path / "new")


def test_a_running_reader_sees_the_restored_store(source: SqliteEngine, tmp_path: Path) -> None:
    before = everything(source)
    write_snapshot(source.folder, tmp_path / "a.snapshot")
    source.delete(ids=list(before.id[:400]))
    source.upsert(tracklets(names("b", 10), 2))
    with closing(SqliteEngine(source.folder, read_only=True)) as reader:
        assert len(reader.search(before.vector[:1], 1000)[0].id) == 110
        restore_snapshot(tmp_path / "a.snapshot", source.folder, force=True)
        for engine in (reader, source):
            assert sorted(engine.search(before.vector[:1], 1000)[0].id) == sorted(before.id)
            assert_same(everything(engine), before)
    source.upsert(tracklets(names("b", 1), 2))
    assert source.count() == 501


def test_a_store_of_another_model_is_noticed_by_those_who_have_it_open(source: SqliteEngine, tmp_path: Path) -> None:
    query = tracklets(["b/1"], 2)
    source.search(query.vector, 1)
    with closing(SqliteEngine(tmp_path / "other", dimensions=D, model="n", create=True)) as other:
        other.upsert(query)
    write_snapshot(tmp_path / "other", tmp_path / "b.snapshot")
    restore_snapshot(tmp_path / "b.snapshot", source.folder, force=True)
    with pytest.raises(InputError, match="now holds features of another model"):
        source.search(query.vector, 1)
    with pytest.raises(InputError, match="now holds features of another model"):
        source.upsert(query)
    with closing(SqliteEngine(source.folder)) as again:
        assert (again.model, again.count()) == ("n", 1)


@pytest.mark.parametrize("damage", ["flip", "cut", "other"])
def test_a_damaged_snapshot_changes_nothing(source: SqliteEngine, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.snapshot"
    write_snapshot(source.folder, path)
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    path.write_bytes({"flip": content, "cut": content[:-1000], "other": b"x"}[damage])
    with pytest.raises(InputError, match=r"damaged: it does not match|is not a snapshot"):
        restore_snapshot(path, source.folder, force=True)
    assert source.count() == 500
    with pytest.raises(InputError):
        restore_snapshot(path, tmp_path / "new")
    assert not (tmp_path / "new" / FILE).exists()


def test_a_damaged_store_is_kept_and_replaced(tmp_path: Path) -> None:
    with closing(make(tmp_path / "store")) as engine:
        before = everything(engine)
    write_snapshot(tmp_path / "store", tmp_path / "a.snapshot")
    path = tmp_path / "store" / FILE
    path.write_bytes(b"damaged" * 10_000)
    restore_snapshot(tmp_path / "a.snapshot", tmp_path / "store", force=True)
    with closing(SqliteEngine(tmp_path / "store")) as engine:
        assert_same(everything(engine), before)
    assert (tmp_path / "store" / f"{FILE}.damaged").read_bytes() == b"damaged" * 10_000


@pytest.mark.parametrize("dry_run", [False, True])
def test_prune_deletes_by_the_end(tmp_path: Path, dry_run: bool) -> None:
    now = 100 * DAY
    start = np.array([10 * DAY, 60 * DAY, 70 * DAY - 5, 70 * DAY, 80 * DAY, NO_TIME])
    end = np.array([11 * DAY, 70 * DAY - 1, 70 * DAY, 70 * DAY, 80 * DAY, NO_TIME])
    batch = replace(tracklets(["a/0", "b/1", "a/2", "a/3", "a/4", "a/5"], 1), start=start, end=end)
    with closing(SqliteEngine(tmp_path / "store", dimensions=D, model="m", create=True)) as engine:
        engine.upsert(batch)
        done = prune(engine, seconds_of("30d"), now=now / 1000, cameras=["b"], dry_run=dry_run)
        assert (done.tracklets, done.crops, done.without_time) == (1, 2, 0)
        done = prune(engine, seconds_of("30d"), now=now / 1000, dry_run=dry_run)
        assert (done.tracklets, done.crops, done.without_time) == (2 if dry_run else 1, 4 if dry_run else 2, 1)
        assert engine.count() == (6 if dry_run else 4)


def test_prune_forgets_answers_about_what_it_deletes_and_knows_its_cameras(tmp_path: Path) -> None:
    times = np.array([10 * DAY, 99 * DAY, 99 * DAY])
    with closing(SqliteEngine(tmp_path / "store", dimensions=D, model="m", create=True)) as engine:
        engine.upsert(replace(tracklets(["a/0", "b/1", "c/2"], 1), start=times, end=times))
        put_answer(engine, "a/0", "b/1", True)
        put_answer(engine, "b/1", "c/2", True)
        engine.put_document(f"{TRIP_LINKS}a/0|b/1", {"first": "a/0", "second": "b/1"})
        with pytest.raises(InputError, match="camera 'd': is not in"):
            prune(engine, seconds_of("30d"), now=100 * DAY / 1000, cameras=["d"])
        engine.put_document("camera/d", {"name": "d"})  # described, and empty since the last time
        assert prune(engine, seconds_of("30d"), now=100 * DAY / 1000, cameras=["d"]).tracklets == 0
        prune(engine, seconds_of("30d"), now=100 * DAY / 1000)
        assert list(answered_pairs(engine)) == [f"{ANSWERS}b/1|c/2"]
        assert engine.documents(TRIP_LINKS) == {}


def test_space_returns(tmp_path: Path) -> None:
    with closing(SqliteEngine(tmp_path / "store", dimensions=D, model="m", create=True)) as engine:
        for number in range(10):
            batch = tracklets(names(f"c{number}", 100), number, crops=1)
            large = jpeg(0, 100)
            crops = [[StoredCrop(large, some[0].vector)] for some in batch.crops or ()]
            batch = replace(batch, start=np.full(100, number * DAY), end=np.full(100, number * DAY), crops=crops)
            engine.upsert(batch)
        engine.compact()
        full = engine.info().size
        done = prune(engine, 0, now=4.5 * DAY / 1000)
        half = engine.info().size
        assert done.tracklets == 500 and done.bytes > 0.3 * full
        assert half < 0.6 * full
        for part in range(5, 10):  # every second row: pages stay half empty until they are written anew
            engine.delete(ids=[name for name in names(f"c{part}", 100) if int(name[-1]) % 2])
        engine.compact(rewrite=True)
        assert engine.info().size < 0.35 * full
        assert verify(engine) == []
        assert engine.count() == 250


def test_verify_lists_what_is_damaged(tmp_path: Path) -> None:
    with closing(make(tmp_path / "store", 10)) as engine:
        assert verify(engine) == []
    vector = np.zeros(D, "<f4").tobytes()
    changes = [
        ("UPDATE tracklets SET camera = 'x' WHERE id = 'a/1'", (), "a/1: its row does not match its checksum"),
        ("DELETE FROM vectors WHERE number = 3", (), "a/2: has no feature"),
        ("UPDATE vectors SET vector = ? WHERE number = 4", (vector,), "a/3: its feature does not match its checksum"),
        ("UPDATE crops SET jpeg = x'00' WHERE number = 5 AND place = 1", (), "a crop of a/4 is damaged"),
        ("DELETE FROM crops WHERE number = 6", (), "a/5: has no crop"),
        ("UPDATE documents SET value = '{' WHERE key = 'camera/a'", (), "camera/a: does not match its checksum"),
        ("DELETE FROM tracklets WHERE number = 7", (), "1 vectors belong to no tracklet"),
    ]
    with closing(sqlite3.connect(tmp_path / "store" / FILE)) as connection:
        for statement, values, _ in changes:
            connection.execute(statement, values)
        connection.commit()
    with closing(SqliteEngine(tmp_path / "store")) as engine:
        problems = verify(engine)
        for *_, wanted in changes:
            assert any(wanted in problem for problem in problems), (wanted, problems)
        assert not any(name in problem for problem in problems for name in ("a/0", "a/7"))


def test_verify_decodes_every_crop(tmp_path: Path) -> None:
    batch = tracklets(["a/0"], 1)
    crop = StoredCrop(b"no image", batch.vector[0])
    with closing(SqliteEngine(tmp_path / "store", dimensions=D, model="m", create=True)) as engine:
        engine.upsert(replace(batch, crops=[[crop]]))
        (problem,) = verify(engine)
        assert problem.startswith("a/0, crop 1: cannot be decoded")


def test_a_flipped_bit_is_found_or_changes_nothing(tmp_path: Path) -> None:
    with closing(make(tmp_path / "store", 30)) as engine:
        engine.compact()
        before = everything(engine)
    content = (tmp_path / "store" / FILE).read_bytes()
    (tmp_path / "copy").mkdir()
    rng = np.random.default_rng(0)
    found = 0
    for place in rng.integers(100, len(content), 60):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(0, 8))
        (tmp_path / "copy" / FILE).write_bytes(damaged)
        try:
            with closing(SqliteEngine(tmp_path / "copy", read_only=True)) as engine:
                if verify(engine):
                    found += 1
                else:
                    assert_same(everything(engine), before)
        except InputError:
            found += 1
    assert found >= 10  # the others are in pages' free space


def test_a_truncated_store_is_damaged(tmp_path: Path) -> None:
    make(tmp_path / "store").close()
    path = tmp_path / "store" / FILE
    content = path.read_bytes()
    for size in (0, 50, 20_000, len(content) // 2, len(content) - 16_384):
        path.write_bytes(content[:size])
        with pytest.raises(InputError, match=r"is damaged|is not a store"):
            open_vectors(tmp_path / "store").count()
        assert path.read_bytes() == content[:size]


@pytest.mark.parametrize("text", ["", "30", "d", "-3d", "3m", "1e3d", "99999999999d"])
def test_a_wrong_period_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="for example 30d"):
        seconds_of(text)
