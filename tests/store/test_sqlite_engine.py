"""The embedded engine: several connections, processes and threads, kills, full disks, read-only folders."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles.plain_store import PlainStore
from soak.stores import kill_writers
from support.tracklets import names, tracklets, unit_vectors
from vreid.errors import InputError
from vreid.store.engines import open_vectors
from vreid.store.interface import Filter
from vreid.store.row_cache import RowCache, Rows
from vreid.store.sqlite_engine import SqliteEngine
from vreid.store.sqlite_file import FILE, network_file_system

D = 8
SOME_IDS = [f"{camera}/{number}" for camera in "abc" for number in range(6)]
FILTER = st.builds(
    Filter,
    cameras=st.none() | st.frozensets(st.sampled_from("abcd")),
    not_cameras=st.none() | st.frozensets(st.sampled_from("abcd")),
    start=st.none() | st.integers(-10, 1100),
    end=st.none() | st.integers(-10, 1100),
    colors=st.none() | st.frozensets(st.sampled_from(["red", "white", ""])),
    vehicle_types=st.none() | st.frozensets(st.sampled_from(["car", "truck", ""])),
)
IDS = st.lists(st.sampled_from(SOME_IDS), min_size=1, max_size=12, unique=True)
STEP = st.one_of(
    st.tuples(st.just("upsert"), IDS, st.integers(0, 99)),
    st.tuples(st.just("delete"), IDS, st.just(0)),
    st.tuples(st.just("replace"), IDS, st.integers(0, 99)),
    st.tuples(st.just("search"), FILTER, st.integers(1, 25)),
)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SqliteEngine]:
    with closing(SqliteEngine(tmp_path / "store", dimensions=D, model="m", create=True)) as one:
        yield one


@settings(max_examples=25)
@given(st.lists(STEP, min_size=1, max_size=25), st.randoms(use_true_random=False))
def test_two_connections_equal_the_plain_store(steps: list[tuple[str, object, int]], random: Random) -> None:
    plain = PlainStore()
    with tempfile.TemporaryDirectory() as folder:
        engines = [SqliteEngine(folder, dimensions=D, model="m", create=True) for _ in range(2)]
        for what, given_ids, number in steps:
            engine = random.choice(engines)
            ids: list[str] = list(given_ids) if isinstance(given_ids, list) else []
            if what == "upsert":
                batch = tracklets(ids, number, crops=1)
                engine.upsert(batch)
                plain.upsert(batch)
            elif what == "delete":
                assert engine.delete(ids=ids) == plain.delete(ids)
            elif what == "replace":
                vectors = unit_vectors(np.random.default_rng(number), len(ids), D)
                engine.replace_vectors(ids, vectors)
                plain.replace_vectors(ids, vectors)
            else:
                assert isinstance(given_ids, Filter)
                queries = unit_vectors(np.random.default_rng(number), 2, D)
                for one in engines:
                    assert one.count(given_ids) == len(plain.selected(given_ids))
                    found = one.search(queries, number, given_ids)
                    for query, hits in zip(queries, found, strict=True):
                        pairs = list(zip(hits.id, hits.similarity.tolist(), strict=True))
                        assert pairs == plain.search(query, number, given_ids)
        for one in engines:
            one.close()


def test_similarities_do_not_depend_on_the_filter_or_the_batch() -> None:
    """The float32 product proposes; what is returned is the rounded exact value, ties in the order of ids."""
    rng = np.random.default_rng(0)
    vectors = unit_vectors(rng, 3000, 64)
    vectors[1000:2000] = vectors[:1000]  # duplicates
    vectors[2000:2500] = np.nextafter(vectors[:500], np.float32(2))  # closer than float32 products can tell
    cache = RowCache(64)
    cameras = [str(number % 10) for number in range(3000)]
    texts = {"camera": cameras, "color": [""] * 3000, "vehicle_type": [""] * 3000}
    zeros = np.zeros(3000, np.int64)
    cache.add(Rows(np.arange(3000), [f"{number:04d}" for number in range(3000)], zeros, zeros, texts, vectors))
    snapshot = cache.snapshot()
    queries = vectors[[0, 7, 1500, 2100]]
    exact = (queries.astype(np.float64)[:, None] * vectors[None].astype(np.float64)).sum(axis=2).astype(np.float32)
    filters = {name: Filter(cameras=frozenset(name)) for name in ("0", "0123", "012345678")} | {"": None}
    for allowed, where in [*filters.items(), ("0", filters["0"])]:  # the last with products that are known
        rows = [row for row in range(3000) if not allowed or cameras[row] in allowed]
        together = snapshot.search(queries, 50, where)
        for number, query in enumerate(queries):
            order = sorted(rows, key=lambda row, number=number: (-exact[number, row], row))[:50]
            for hits in (together[number], snapshot.search(query[None], 50, where)[0]):
                assert [int(name) for name in hits.id] == order
                np.testing.assert_array_equal(hits.similarity, exact[number, order])


def test_a_snapshot_in_memory_does_not_change(engine: SqliteEngine) -> None:
    cache = RowCache(D)
    batch = tracklets(names("a", 20), 1)
    texts = {"camera": list(batch.camera), "color": list(batch.color), "vehicle_type": list(batch.vehicle_type)}
    rows = Rows(np.arange(20), list(batch.id), batch.start, batch.end, texts, batch.vector)
    cache.add(rows)
    snapshots = [cache.snapshot()]
    for number in range(12):
        newer = unit_vectors(np.random.default_rng(number), 20, D)
        cache.add(replace(rows, vectors=newer))
        cache.remove([number])
        snapshots.append(cache.snapshot())
    assert len(cache) == 19
    for number, snapshot in enumerate(snapshots):
        assert len(snapshot.search(batch.vector[:1], 100)[0].id) == 20 - (number > 0)
    (hits,) = snapshots[0].search(batch.vector[3:4], 1)
    assert hits.id[0] == "a/3"


def test_a_connection_that_is_far_behind_reads_everything(engine: SqliteEngine, tmp_path: Path) -> None:
    query = unit_vectors(np.random.default_rng(0), 1, D)
    with closing(SqliteEngine(tmp_path / "store")) as other:
        engine.upsert(tracklets(names("a", 30), 1, crops=1))
        assert len(other.search(query, 100)[0].id) == 30
        for number in range(30):
            engine.delete(ids=[f"a/{number}"])
        with closing(sqlite3.connect(tmp_path / "store" / FILE)) as connection:  # a thousand changes later
            connection.execute("UPDATE state SET change = change + 1000")
            connection.commit()
        engine.upsert(tracklets(["b/1"], 1, crops=1))
        engine.delete(ids=["b/1", "absent"])
        with closing(sqlite3.connect(tmp_path / "store" / FILE)) as connection:
            assert connection.execute("SELECT count(*) FROM deletions").fetchone() == (1,)
        assert len(other.search(query, 100)[0].id) == 0


def test_a_store_from_before_the_time_index_gets_it(engine: SqliteEngine) -> None:
    """And the index alone decides which rows a list reads."""
    engine.upsert(tracklets(names("a", 5), 1))
    wanted = engine.list_by_time().id.tolist()
    with closing(sqlite3.connect(engine.path)) as connection:
        connection.execute("DROP INDEX tracklets_by_time")
    with closing(SqliteEngine(engine.folder, read_only=True)) as reader:
        assert reader.list_by_time().id.tolist() == wanted
    with closing(SqliteEngine(engine.folder)) as again:
        assert again.list_by_time().id.tolist() == wanted
    with closing(sqlite3.connect(engine.path)) as connection:
        plan = connection.execute(
            "EXPLAIN QUERY PLAN SELECT number FROM tracklets WHERE camera = 'a' AND end >= 3 AND color = '' AND "
            "vehicle_type = '' AND (start, id) > (2, 'a') ORDER BY start, id LIMIT 3"
        ).fetchall()
    assert len(plan) == 1 and "USING COVERING INDEX tracklets_by_time" in plan[0][3]


def child(code: str, *arguments: object, **options: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options)  # type: ignore[call-overload, no-any-return]


WRITER = """
import sys
from vreid.store.sqlite_engine import SqliteEngine
from support.tracklets import names, tracklets
engine = SqliteEngine(sys.argv[1], dimensions=8, model="m", create=True)
for number in range(15):
    engine.upsert(tracklets(names(sys.argv[2], 20, number * 20), number, crops=1))
engine.close()
"""
READER = """
import sys
import numpy as np
from vreid.store.sqlite_engine import SqliteEngine
engine = SqliteEngine(sys.argv[1], read_only=True)
query, last = np.eye(8, dtype=np.float32)[:1], 0
while last < int(sys.argv[2]):
    (hits,) = engine.search(query, 10_000)
    assert len(hits.id) % 20 == 0 and len(hits.id) >= last, (len(hits.id), last)
    last = len(hits.id)
engine.close()
"""


def test_two_processes_write_and_two_read(tmp_path: Path) -> None:
    with closing(SqliteEngine(tmp_path, dimensions=D, model="m", create=True)) as engine:
        writers = [child(WRITER, tmp_path, name) for name in "ab"]
        readers = [child(READER, tmp_path, 600) for _ in range(2)]
        for one in (*writers, *readers):
            _, errors = one.communicate(timeout=120)
            assert one.returncode == 0, errors
        assert engine.count() == 600
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_processes_make_one_store_at_the_same_time(tmp_path: Path) -> None:
    writers = [child(WRITER, tmp_path / "new", name) for name in "abc"]
    for one in writers:
        _, errors = one.communicate(timeout=120)
        assert one.returncode == 0, errors
    with closing(SqliteEngine(tmp_path / "new")) as engine:
        assert engine.count() == 900


def test_threads_search_while_one_writes(engine: SqliteEngine) -> None:
    engine.upsert(tracklets(names("a", 40), 0, crops=1))
    query = unit_vectors(np.random.default_rng(1), 1, D)
    problems: list[object] = []
    done = threading.Event()

    def search() -> None:
        try:
            while not done.is_set():
                (hits,) = engine.search(query, 1000)
                if len(hits.id) != 40 or np.abs(hits.similarity).max() > 1.001:
                    problems.append(len(hits.id))
                if len(engine.fetch(list(hits.id[:5]), crops=True)) != 5:
                    problems.append("fetch")
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=search) for _ in range(4)]
    for one in threads:
        one.start()
    for number in range(40):
        engine.upsert(tracklets(names("a", 40), number, crops=1))
    done.set()
    for one in threads:
        one.join()
    assert problems == []


def test_kills_lose_nothing_acknowledged(tmp_path: Path) -> None:
    assert kill_writers(tmp_path / "store", Random(0), kills=6, batches=12) == []


def test_a_full_disk_is_one_sentence_and_changes_nothing(engine: SqliteEngine, tmp_path: Path) -> None:
    engine.upsert(tracklets(names("a", 50), 1))
    engine.close()
    code = """
import resource, sys
from vreid.errors import InputError
from vreid.store.sqlite_engine import SqliteEngine
from support.tracklets import names, tracklets
engine = SqliteEngine(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
done = 50
try:
    for number in range(1000):
        engine.upsert(tracklets(names("b", 50, 50 * number), number))
        done += 50
except InputError as error:
    print(error)
print(done, engine.count())
"""
    ended = child(code, tmp_path / "store")
    out, errors = ended.communicate(timeout=120)
    assert ended.returncode == 0, errors
    sentence, counts = out.splitlines()
    assert "free space" in sentence or "the disk is full" in sentence
    done, count = map(int, counts.split())
    assert done == count >= 50
    with closing(SqliteEngine(tmp_path / "store")) as again:
        assert again.count() == count
        again.upsert(tracklets(names("b", 50, count), 1))
        assert again.count() == count + 50


def test_sqlite_full_says_that_the_disk_is_full(engine: SqliteEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.upsert(tracklets(names("a", 5), 1))

    class Limited(sqlite3.Connection):
        def execute(self, statement: str, *values: object) -> sqlite3.Cursor:  # type: ignore[override]
            if statement.startswith("BEGIN IMMEDIATE"):
                super().execute("PRAGMA max_page_count=20")
            return super().execute(statement, *values)  # type: ignore[arg-type]

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **options: connect(*given, **options, factory=Limited))
    with closing(SqliteEngine(engine.folder)) as limited:
        with pytest.raises(InputError, match="the disk is full; free some space"):
            limited.upsert(tracklets(names("b", 2000), 1, crops=1))
        assert limited.count() == 5
    assert engine.count() == 5


def test_a_write_that_waits_too_long_says_so(engine: SqliteEngine) -> None:
    with closing(sqlite3.connect(engine.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with closing(SqliteEngine(engine.folder, patience=0.1)) as impatient:
            assert impatient.count() == 0
            with pytest.raises(InputError, match=r"writing for more than 0\.1 s"):
                impatient.put_document("a", 1)
        other.execute("ROLLBACK")
    engine.put_document("a", 1)


def test_a_store_on_a_read_only_folder_is_searched() -> None:
    """As another user, since the superuser may write anywhere."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        with closing(SqliteEngine(folder / "store", dimensions=D, model="m", create=True)) as engine:
            engine.upsert(tracklets(names("a", 5), 1))
        code = """
import sys, os
sys.path[:0] = sys.argv[2].split(os.pathsep)
if os.getuid() == 0:
    import numpy.linalg, vreid.store.sqlite_engine, json
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
import numpy as np
from vreid.errors import InputError
from vreid.store.sqlite_engine import SqliteEngine
engine = SqliteEngine(sys.argv[1], read_only=True)
print(len(engine.search(np.eye(8, dtype=np.float32)[:1], 10)[0].id))
try:
    SqliteEngine(sys.argv[1])
except InputError as error:
    print(error)
"""
        for path, mode in ((folder, 0o755), (folder / "store" / FILE, 0o444), (folder / "store", 0o555)):
            path.chmod(mode)
        ended = child(code, folder / "store", os.pathsep.join(sys.path))
        out, errors = ended.communicate(timeout=60)
        assert ended.returncode == 0, errors
        found, sentence = out.splitlines()
        assert found == "5"
        assert "cannot be written; change its permissions or open it for reading only" in sentence
    finally:
        (folder / "store").chmod(0o755)
        shutil.rmtree(folder)


def test_a_wal_file_that_was_left_behind_is_used(tmp_path: Path) -> None:
    with closing(SqliteEngine(tmp_path / "store", dimensions=D, model="m", create=True)) as engine:
        engine.upsert(tracklets(names("a", 5), 1))
        (tmp_path / "copy").mkdir()
        for suffix in ("", "-wal"):
            shutil.copy(f"{engine.path}{suffix}", tmp_path / "copy" / f"{FILE}{suffix}")
    with closing(SqliteEngine(tmp_path / "copy")) as engine:
        assert engine.count() == 5
    assert [path.name for path in (tmp_path / "copy").iterdir()] == [FILE]


@pytest.mark.parametrize("address", ["{}", "sqlite://{}"])
def test_addresses_of_folders(tmp_path: Path, address: str) -> None:
    open_vectors(address.format(tmp_path / "s"), dimensions=D, model="m", create=True).close()
    assert (tmp_path / "s" / FILE).exists()


def test_a_network_file_system_is_noted(engine: SqliteEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert network_file_system("/proc") == ""
    notes: list[str] = []
    monkeypatch.setattr("vreid.store.sqlite_file.network_file_system", lambda path: "nfs4")
    open_vectors(tmp_path / "store", on_note=notes.append).close()
    assert len(notes) == 1 and "network file system (nfs4)" in notes[0]


def test_a_wrong_count_of_vectors_is_refused(engine: SqliteEngine) -> None:
    with pytest.raises(InputError, match="for 2 tracklets"):
        engine.replace_vectors(["a", "b"], np.eye(D, dtype=np.float32)[:1])
    with pytest.raises(InputError, match="b: its feature is not"):
        engine.replace_vectors(["a", "b"], np.stack([np.eye(D, dtype=np.float32)[0], np.zeros(D, np.float32)]))


def test_a_closed_store_and_one_without_dimensions(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs the number of dimensions"):
        SqliteEngine(tmp_path / "store", create=True)
    assert not (tmp_path / "store").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="holds no store"):
        SqliteEngine(tmp_path / "file")
    with pytest.raises(InputError, match="cannot be written"):
        SqliteEngine(tmp_path / "file", dimensions=D, create=True)
