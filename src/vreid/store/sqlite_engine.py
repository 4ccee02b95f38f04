"""The embedded engine: one SQLite file as the only truth, and its vectors in memory for exact search.

Every write is one transaction with `synchronous=FULL` in WAL mode: what has returned survives a killed process, and
power loss as far as the disk keeps what it has acknowledged. Any number of processes read while one writes; several
writers wait for each other.

Each transaction increases a change counter and marks its rows with it; deletions are logged. So every process
brings its `RowCache` up to date by reading what changed. Rows, vectors, crops and documents carry a CRC-32, because
SQLite does not notice a flipped bit in a value.

Shapes: N tracklets, D dimensions.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from vreid.data.records import object_array
from vreid.errors import InputError
from vreid.files import reject_endless
from vreid.store.interface import (
    NO_TIME,
    UNIT_TOLERANCE,
    EngineInfo,
    Filter,
    Hits,
    NoStore,
    StoredCrop,
    TrackletBatch,
    check_batch,
    check_query,
    check_vectors,
)
from vreid.store.row_cache import TEXTS, RowCache, Rows, Snapshot
from vreid.store.sqlite_file import FILE, add_time_index, check_tables, create_file, sqlite_errors

PATIENCE = 60.0
"""Seconds that a write waits for another process's write."""

_LOGGED = 1000  # changes whose deletions are kept for other processes; one that is further behind reads everything
_AT_ONCE = 4096  # rows read at a time
_SPARE = 4  # part of the rows for which there is room in memory besides; it is not touched before it is used
_VACUUMED = 1024  # pages given back in one transaction
_FACTS = struct.Struct("<qqi4dd")  # numbers of a crop, for its checksum

_COLUMNS = "t.number, t.id, t.camera, t.start, t.end, t.color, t.vehicle_type"
_JOINED = "FROM tracklets t CROSS JOIN vectors v ON v.number = t.number"


class SqliteEngine:
    """A store in one folder; see the module and `vreid.store.interface.VectorStore`.

    Its methods may be called from several threads.

    Example:
        >>> engine = SqliteEngine("cameras", dimensions=512, model="a1b2", create=True)   # doctest: +SKIP
        >>> engine.upsert(batch)                                                          # doctest: +SKIP
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        dimensions: int | None = None,
        model: str = "",
        create: bool = False,
        read_only: bool = False,
        patience: float = PATIENCE,
    ) -> None:
        """Open the store of a folder.

        Args:
            folder: holds `FILE`.
            dimensions: D; needed to create, else checked if given.
            model: fingerprint of the model of the vectors; needed to create.
            create: make the store if there is none.
            read_only: open without the right to write; works on read-only folders.
            patience: seconds that a write waits for another process's write.

        Raises:
            InputError: there is no store, it is damaged, of a newer version, or holds other dimensions.
        """
        self.folder = Path(folder)
        self.path = self.folder / FILE
        self._read_only, self._patience = read_only, patience
        with self._errors("opened"):
            exists = self.path.exists()
        if not exists:
            if not create or read_only:
                raise NoStore(f"{folder}: holds no store; make one with `vreid ingest SOURCE --store {folder}`.")
            if not dimensions or dimensions < 1:
                raise InputError(f"{folder}: a new store needs the number of dimensions; give a model.")
            create_file(self.path, dimensions, model)
        self._locks = threading.RLock(), threading.RLock()  # of the reading and the writing connection
        self._cache: RowCache | None = None
        self._seen = self._version = -1  # change counter of the cache, and SQLite's version of the file it was read at
        self._connections: list[sqlite3.Connection] = []
        try:
            with self._errors("opened"):
                reject_endless(self.path)
                self._reader = self._connect()
                self._connections.append(self._reader)
                check_tables(self._reader, self.path)
                self.dimensions, self.model = self._reader.execute("SELECT dimensions, model FROM state").fetchone()
                self._writer = self._reader if read_only else self._connect()
                self._connections.append(self._writer)
                if not read_only:
                    add_time_index(self._writer)
            if dimensions is not None and dimensions != self.dimensions:
                raise InputError(
                    f"{folder}: holds features of {self.dimensions} dimensions, not {dimensions}; use its model."
                )
        except BaseException:
            self.close()
            raise

    # Opening and closing

    def _connect(self) -> sqlite3.Connection:
        writable = os.access(self.folder, os.W_OK) and os.access(self.path, os.W_OK)
        if not writable and not self._read_only:
            raise InputError(f"{self.folder}: cannot be written; change its permissions or open it for reading only.")
        options = "" if writable else "?mode=ro"
        wal = Path(f"{self.path}-wal")
        if not writable and not (wal.exists() and wal.stat().st_size):
            options = (
                "?immutable=1"  # nobody who may write has it open: without this SQLite wants to make its -shm file
            )
        uri = self.path.absolute().as_uri() + options
        connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, timeout=self._patience, cached_statements=64
        )
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA journal_size_limit=67108864")
        if self._read_only:
            connection.execute("PRAGMA query_only=1")
        return connection

    def close(self) -> None:
        """Close the connections; the last process to close merges the WAL file into the store."""
        while self._connections:
            self._connections.pop().close()
        self._cache = None

    def _errors(self, doing: str) -> AbstractContextManager[None]:
        return sqlite_errors(self.folder, doing, self._patience)

    # Transactions

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Yield the reading connection; what is read in the block is of one moment."""
        with self._locks[0], self._errors("read"):
            connection = self._reader
            outer = connection.in_transaction
            if not outer:
                connection.execute("BEGIN")
            try:
                yield connection
            finally:
                if not outer and connection.in_transaction:
                    connection.execute("COMMIT")

    @contextmanager
    def _writing(self) -> Iterator[tuple[sqlite3.Connection, int]]:
        """Yield the writing connection in a transaction, and the number of this change."""
        if self._read_only:
            raise InputError(f"{self.folder}: is open for reading only; open it writable.")
        with self._locks[1], self._errors("written"):
            connection = self._writer
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.execute("UPDATE state SET change = change + 1")
                (change,) = connection.execute("SELECT change FROM state").fetchone()
                self._check_model(connection)
                yield connection, change
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # a full disk has rolled back already
                    connection.execute("ROLLBACK")
                raise

    def _check_model(self, connection: sqlite3.Connection) -> None:
        """Raise if the store was replaced by one of another model since it was opened (`restore`, new features)."""
        if connection.execute("SELECT dimensions, model FROM state").fetchone() != (self.dimensions, self.model):
            raise InputError(f"{self.folder}: now holds features of another model; open it again with that model.")

    # Writing

    def upsert(self, batch: TrackletBatch) -> None:
        """Insert or replace tracklets with their crops, all or none; durable on return."""
        check_batch(batch, self.dimensions)
        assert batch.crops is not None
        ids = [str(one) for one in batch.id]
        with self._writing() as (connection, change):
            known = dict(
                connection.execute(
                    "SELECT id, number FROM tracklets WHERE id IN (SELECT value FROM json_each(?))", _json(ids)
                )
            )
            (last,) = connection.execute("SELECT coalesce(max(number), 0) FROM tracklets").fetchone()
            numbers = []
            for name in ids:
                numbers.append(known.get(name) or (last := last + 1))
            connection.executemany("DELETE FROM crops WHERE number = ?", [(number,) for number in known.values()])
            rows, vectors, crops = [], [], []
            for row, number in enumerate(numbers):
                start, end = int(batch.start[row]), int(batch.end[row])
                texts = ids[row], str(batch.camera[row]), str(batch.color[row]), str(batch.vehicle_type[row])
                facts = json.dumps(batch.facts[row])
                name, camera, color, kind = texts
                rows.append(
                    (number, name, camera, start, end, color, kind, facts, _row_crc(*texts, start, end, facts), change)
                )
                vectors.append(_vector_row(number, batch.vector[row]))
                crops += [_crop_row(number, place, crop) for place, crop in enumerate(batch.crops[row])]
            connection.executemany(f"INSERT OR REPLACE INTO tracklets VALUES ({_marks(10)})", rows)
            connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", vectors)
            connection.executemany(f"INSERT INTO crops VALUES ({_marks(9)})", crops)

    def replace_vectors(
        self, ids: Sequence[str], vectors: NDArray[np.float32], documents: Mapping[str, Any] | None = None
    ) -> None:
        """Replace the vectors of tracklets and put documents, all or none; ids that do not exist are skipped."""
        if vectors.shape != (len(ids), self.dimensions):
            raise InputError(
                f"features of shape {vectors.shape} for {len(ids)} tracklets of {self.dimensions} dimensions."
            )
        check_vectors(vectors, ids)
        with self._writing() as (connection, change):
            known = dict(
                connection.execute(
                    "SELECT id, number FROM tracklets WHERE id IN (SELECT value FROM json_each(?))", _json(ids)
                )
            )
            rows = [
                _vector_row(known[name], vector) for name, vector in zip(ids, vectors, strict=True) if name in known
            ]
            connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)
            connection.executemany(
                "UPDATE tracklets SET change = ? WHERE number = ?", [(change, row[0]) for row in rows]
            )
            _put_documents(connection, documents or {})

    def delete(self, *, ids: Sequence[str] | None = None, where: Filter | None = None) -> int:
        """Delete tracklets with their crops by id, by filter, or by both; return how many there were."""
        if ids is None and (where is None or where.empty):
            raise InputError("nothing says which tracklets to delete; give ids or a filter.")
        condition, values = _condition(where)
        if ids is not None:
            condition += " AND id IN (SELECT value FROM json_each(?))"
            values += _json(ids)
        with self._writing() as (connection, change):
            numbers = connection.execute(f"SELECT number FROM tracklets t WHERE {condition}", values).fetchall()
            for table in ("crops", "vectors", "tracklets"):
                connection.executemany(f"DELETE FROM {table} WHERE number = ?", numbers)
            connection.executemany("INSERT INTO deletions VALUES (?, ?)", [(number, change) for (number,) in numbers])
            connection.execute("DELETE FROM deletions WHERE change <= ?", (change - _LOGGED,))
            connection.execute("UPDATE state SET forgotten = max(forgotten, ?)", (change - _LOGGED,))
        return len(numbers)

    # Reading

    def _snapshot(self) -> Snapshot:
        """Return the rows in memory after reading what has changed."""
        with self._reading() as connection:
            (version,) = connection.execute("PRAGMA data_version").fetchone()  # another connection has written
            if self._cache is not None and version == self._version:
                return self._cache.snapshot()
            change, forgotten = connection.execute("SELECT change, forgotten FROM state").fetchone()
            self._check_model(connection)
            if self._cache is None or self._seen < forgotten:
                cache = RowCache(self.dimensions)
                (count,) = connection.execute("SELECT count(*) FROM tracklets").fetchone()
                cache.reserve(count + count // _SPARE)
                self._read_rows(connection, cache, "")
                self._cache = cache
            elif self._seen < change:
                gone = connection.execute("SELECT number FROM deletions WHERE change > ?", (self._seen,)).fetchall()
                self._cache.remove([number for (number,) in gone])
                self._read_rows(connection, self._cache, f"WHERE t.change > {self._seen}")
            self._seen, self._version = change, version
            return self._cache.snapshot()

    def _read_rows(self, connection: sqlite3.Connection, cache: RowCache, where: str) -> None:
        found = connection.execute(f"SELECT {_COLUMNS}, v.vector {_JOINED} {where}")
        while some := found.fetchmany(_AT_ONCE):
            number, ids, camera, start, end, color, kind, blobs = zip(*some, strict=True)
            vectors = self._vectors(b"".join(blobs), len(some))
            lengths = np.einsum("nd,nd->n", vectors, vectors)
            wrong = ~(np.abs(lengths - 1) < 3 * UNIT_TOLERANCE)
            if wrong.any():
                raise InputError(
                    f"{self.folder}: the feature of {ids[int(np.argmax(wrong))]} is damaged; run `vreid store verify "
                    f"{self.folder}` and restore a snapshot."
                )
            texts = dict(zip(TEXTS, (camera, color, kind), strict=True))
            times = np.array(start, np.int64), np.array(end, np.int64)
            cache.add(Rows(np.array(number, np.int64), ids, *times, texts, vectors))

    def _vectors(self, content: bytes, count: int) -> NDArray[np.float32]:
        if len(content) != 4 * count * self.dimensions:
            raise InputError(f"{self.folder}: a feature has the wrong length; restore a snapshot.")
        return np.frombuffer(content, "<f4").astype(np.float32, copy=False).reshape(count, self.dimensions)

    def search(self, query: NDArray[np.float32], k: int, where: Filter | Sequence[Filter] | None = None) -> list[Hits]:
        """Return the k most similar tracklets of each of (Q, D) queries, under one filter or Q of them; exact."""
        check_query(query, k, self.dimensions)
        return self._snapshot().search(query, k, where)

    def fetch(self, ids: Sequence[str], *, crops: bool = False) -> TrackletBatch:
        """Return the tracklets of `ids` that exist, in this order."""
        with self._reading() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS}, t.facts, v.vector {_JOINED} WHERE t.id IN (SELECT value FROM json_each(?))",
                _json(ids),
            ).fetchall()
            found = {row[1]: row for row in rows}
            return self._batch(connection, [found[name] for name in dict.fromkeys(ids) if name in found], crops)

    def count(self, where: Filter | None = None) -> int:
        """Count tracklets."""
        if self._cache is not None:
            return self._snapshot().count(where)  # some thirty times as fast as SQLite
        condition, values = _condition(where)
        with self._reading() as connection:
            return int(connection.execute(f"SELECT count(*) FROM tracklets t WHERE {condition}", values).fetchone()[0])

    def scan(
        self, where: Filter | None = None, *, after: str = "", limit: int = 1000, crops: bool = False
    ) -> Iterator[TrackletBatch]:
        """Yield all tracklets in the order of their ids; each batch is of one moment."""
        condition, values = _condition(where)
        while True:
            with self._reading() as connection:
                rows = connection.execute(
                    f"SELECT {_COLUMNS}, t.facts, v.vector {_JOINED} "
                    f"WHERE {condition} AND t.id > ? ORDER BY t.id LIMIT ?",
                    (*values, after, limit),
                ).fetchall()
                if not rows:
                    return
                batch = self._batch(connection, rows, crops)
            yield batch
            after = rows[-1][1]

    def list_by_time(
        self, where: Filter | None = None, *, after: tuple[int, str] | None = None, limit: int = 1000
    ) -> TrackletBatch:
        """Return the first `limit` tracklets in the order of their starts and ids, after those of a page before."""
        condition, values = _condition(where)
        order = "ORDER BY t.start, t.id"
        found = f"SELECT t.number FROM tracklets t WHERE {condition} AND (t.start, t.id) > (?, ?) {order} LIMIT ?"
        with self._reading() as connection:  # `found` reads the index only
            rows = connection.execute(
                f"SELECT {_COLUMNS}, t.facts, v.vector {_JOINED} WHERE t.number IN ({found}) {order}",
                (*values, *(after or (NO_TIME, "")), limit),
            ).fetchall()
            return self._batch(connection, rows, False)

    def _batch(self, connection: sqlite3.Connection, rows: list[tuple[Any, ...]], crops: bool) -> TrackletBatch:
        columns = list(zip(*rows, strict=True)) if rows else [()] * 9
        number, ids, camera, start, end, color, kind, facts, blobs = columns
        return TrackletBatch(
            object_array(ids),
            self._vectors(b"".join(blobs), len(rows)),
            object_array(camera),
            np.array(start, np.int64),
            np.array(end, np.int64),
            object_array(color),
            object_array(kind),
            [json.loads(one) for one in facts],
            [self._crops(connection, one, name) for one, name in zip(number, ids, strict=True)] if crops else None,
        )

    def _crops(self, connection: sqlite3.Connection, number: int, name: str) -> list[StoredCrop]:
        crops = []
        for row in connection.execute("SELECT * FROM crops WHERE number = ? ORDER BY place", (number,)):
            _, _, time, frame, box, quality, checksum, vector, jpeg = row
            crop = StoredCrop(
                jpeg, self._vectors(vector, 1)[0], time, frame, tuple(json.loads(box)) if box else None, quality
            )
            if _crop_crc(crop) != checksum:
                raise InputError(f"{self.folder}: a crop of {name} is damaged; restore a snapshot.")
            crops.append(crop)
        return crops

    # Documents

    def get_document(self, key: str) -> Any:
        """Return the document of a key, None if there is none."""
        with self._reading() as connection:
            row = connection.execute("SELECT value FROM documents WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def put_document(self, key: str, value: Any) -> None:
        """Insert or replace a document that survives JSON; durable on return."""
        with self._writing() as (connection, _):
            _put_documents(connection, {key: value})

    def documents(self, prefix: str = "") -> dict[str, Any]:
        """Return the documents whose key starts with `prefix`, in the order of their keys."""
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT key, value FROM documents WHERE substr(key, 1, ?) = ? ORDER BY key", (len(prefix), prefix)
            ).fetchall()
        return {key: json.loads(value) for key, value in rows}

    def delete_document(self, key: str) -> bool:
        """Delete a document; return whether there was one."""
        with self._writing() as (connection, _):
            return connection.execute("DELETE FROM documents WHERE key = ?", (key,)).rowcount > 0

    # Care

    def info(self) -> EngineInfo:
        """Describe the store."""
        with self._reading() as connection:
            tracklets, crops = (
                int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
                for table in ("tracklets", "crops")
            )
            (change,) = connection.execute("SELECT change FROM state").fetchone()
        size = self._size()
        details = {"changes": change}
        return EngineInfo(
            "sqlite",
            sqlite3.sqlite_version,
            str(self.folder),
            self.dimensions,
            self.model,
            tracklets,
            crops,
            size,
            details,
        )

    def problems(self) -> Iterator[str]:
        """Yield what is wrong in the file: its structure, rows that do not belong together, checksums."""
        with self._reading() as connection:
            for (line,) in connection.execute("PRAGMA integrity_check"):
                if line != "ok":
                    yield f"{FILE}: {line}"
            for table, what in (("vectors", "feature"), ("crops", "crop")):
                for (name,) in connection.execute(
                    f"SELECT id FROM tracklets t WHERE number NOT IN (SELECT number FROM {table})"
                ):
                    yield f"{name}: has no {what}"
                (count,) = connection.execute(
                    f"SELECT count(*) FROM {table} WHERE number NOT IN (SELECT number FROM tracklets)"
                ).fetchone()
                if count:
                    yield f"{FILE}: {count} {table} belong to no tracklet"
            for *row, checksum in connection.execute(
                "SELECT id, camera, color, vehicle_type, start, end, facts, checksum FROM tracklets"
            ):
                if _row_crc(*row) != checksum:
                    yield f"{row[0]}: its row does not match its checksum"
            for name, vector, checksum in connection.execute(f"SELECT t.id, v.vector, v.checksum {_JOINED}"):
                if crc32(vector) != checksum:
                    yield f"{name}: its feature does not match its checksum"
            for key, value, checksum in connection.execute("SELECT key, value, checksum FROM documents"):
                if crc32(value.encode()) != checksum:
                    yield f"document {key}: does not match its checksum"

    def backup(self, path: Path) -> None:
        """Write the store as it is at one moment to the new file `path`; others go on reading and writing."""
        with (
            self._errors("copied"),
            closing(self._connect()) as source,
            closing(sqlite3.connect(path, isolation_level=None)) as target,
        ):
            source.backup(target)
            target.execute("PRAGMA journal_mode=DELETE")  # one file

    def replace_by(self, path: Path) -> None:
        """Replace everything by the store in the file `path`, in one transaction; see `vreid.store.snapshots`."""
        with self._locks[1], self._errors("replaced"), closing(sqlite3.connect(path)) as source:
            source.backup(self._writer)

    def compact(self, *, rewrite: bool = False) -> int:
        """Give the space of deleted rows back to the disk, a little at a time so that others can write in between.

        With `rewrite` the file is written anew where the disk has room for two more of it; return the bytes.
        """
        if self._read_only:
            raise InputError(f"{self.folder}: is open for reading only; open it writable.")
        before = self._size()
        with self._locks[1], self._errors("compacted"):
            if rewrite and shutil.disk_usage(self.folder).free > 2.2 * before:
                self._writer.execute("VACUUM")
            while self._writer.execute("PRAGMA freelist_count").fetchone()[0]:
                self._writer.execute(f"PRAGMA incremental_vacuum({_VACUUMED})").fetchall()
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return max(before - self._size(), 0)

    def _size(self) -> int:
        """Bytes of the store and its WAL file."""
        paths = self.path, Path(f"{self.path}-wal")
        return sum(path.stat().st_size for path in paths if path.exists())


def _condition(where: Filter | None) -> tuple[str, tuple[Any, ...]]:
    """Return the SQL condition of a filter on the table `tracklets t`, and its values."""
    if where is None or where.empty:
        return "1", ()
    parts: list[str] = []
    values: list[Any] = []
    for column, wanted, operator in (
        ("camera", where.cameras, "IN"),
        ("camera", where.not_cameras, "NOT IN"),
        ("color", where.colors, "IN"),
        ("vehicle_type", where.vehicle_types, "IN"),
    ):
        if wanted is not None:
            parts.append(f"t.{column} {operator} (SELECT value FROM json_each(?))")
            values += _json(sorted(wanted))
    if where.start is not None or where.end is not None:
        parts.append(f"t.start <> {NO_TIME}")
        if where.start is not None:
            parts.append("t.end >= ?")
            values.append(where.start)
        if where.end is not None:
            parts.append("t.start < ?")
            values.append(where.end)
        if where.start is not None and where.end is not None and where.start >= where.end:
            parts.append("0")
    return " AND ".join(parts), tuple(values)


def _put_documents(connection: sqlite3.Connection, documents: Mapping[str, Any]) -> None:
    rows = [(key, text := json.dumps(value), crc32(text.encode())) for key, value in documents.items()]
    connection.executemany("INSERT OR REPLACE INTO documents VALUES (?, ?, ?)", rows)


def _json(values: Sequence[str]) -> tuple[str]:
    return (json.dumps(list(values)),)


def _marks(count: int) -> str:
    return ", ".join("?" * count)


def _row_crc(name: str, camera: str, color: str, kind: str, start: int, end: int, facts: str) -> int:
    return crc32("\0".join((name, camera, color, kind, str(start), str(end), facts)).encode())


def _vector_row(number: int, vector: NDArray[np.float32]) -> tuple[int, bytes, int]:
    content = vector.astype("<f4").tobytes()
    return number, content, crc32(content)


def _crop_row(number: int, place: int, crop: StoredCrop) -> tuple[Any, ...]:
    box = "" if crop.box is None else json.dumps([float(one) for one in crop.box])
    vector = crop.vector.astype("<f4").tobytes()
    return number, place, int(crop.time), int(crop.frame), box, float(crop.quality), _crop_crc(crop), vector, crop.jpeg


def _crop_crc(crop: StoredCrop) -> int:
    numbers = _FACTS.pack(
        int(crop.time), int(crop.frame), crop.box is not None, *(crop.box or (0, 0, 0, 0)), crop.quality
    )
    return crc32(crop.jpeg, crc32(crop.vector.astype("<f4").tobytes(), crc32(numbers)))
