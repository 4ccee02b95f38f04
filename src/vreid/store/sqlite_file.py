"""The file of an embedded store: its tables, how it is made and checked, and SQLite's errors in words."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from vreid.errors import InputError
from vreid.files import writing

FILE = "store.sqlite"
"""Name of the file in a store's folder."""
APPLICATION = 0x76726964
"""SQLite's application_id of a store: "vrid"."""
SCHEMA = 1
"""Version of the tables (SQLite's user_version)."""

_PAGE = 16384  # bytes: seven 512-dimensional vectors fit in a page with little waste
_TABLES = """
CREATE TABLE state (
    dimensions INTEGER NOT NULL, model TEXT NOT NULL, change INTEGER NOT NULL, forgotten INTEGER NOT NULL
);
CREATE TABLE tracklets (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, camera TEXT NOT NULL, start INTEGER NOT NULL,
    end INTEGER NOT NULL, color TEXT NOT NULL, vehicle_type TEXT NOT NULL, facts TEXT NOT NULL,
    checksum INTEGER NOT NULL, change INTEGER NOT NULL
);
CREATE INDEX tracklets_by_change ON tracklets (change);
CREATE TABLE vectors (number INTEGER PRIMARY KEY, vector BLOB NOT NULL, checksum INTEGER NOT NULL);
CREATE TABLE crops (
    number INTEGER NOT NULL, place INTEGER NOT NULL, time INTEGER NOT NULL, frame INTEGER NOT NULL,
    box TEXT NOT NULL, quality REAL NOT NULL, checksum INTEGER NOT NULL, vector BLOB NOT NULL, jpeg BLOB NOT NULL
);
CREATE UNIQUE INDEX crops_by_number ON crops (number, place);
CREATE TABLE documents (key TEXT PRIMARY KEY, value TEXT NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE deletions (number INTEGER NOT NULL, change INTEGER NOT NULL);
CREATE INDEX deletions_by_change ON deletions (change);
"""
_TIME_INDEX = "tracklets_by_time"  # holds what filters ask for, so that rows are read only if they are selected


class DamagedStore(InputError):
    """The file is damaged."""


def create_file(path: Path, dimensions: int, model: str) -> None:
    """Make an empty store; if another process makes it at the same time, the first stays."""
    with partial_file(path.parent) as partial:
        with (
            sqlite_errors(path.parent, "created"),
            closing(sqlite3.connect(partial, isolation_level=None)) as connection,
        ):
            connection.execute(f"PRAGMA page_size={_PAGE}")
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.executescript(f"BEGIN; {_TABLES}")
            add_time_index(connection)
            connection.execute("INSERT INTO state VALUES (?, ?, 0, 0)", (dimensions, model))
            connection.execute(f"PRAGMA application_id={APPLICATION}")
            connection.execute(f"PRAGMA user_version={SCHEMA}")
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode=WAL")
        publish(partial, path)


def check_tables(connection: sqlite3.Connection, path: Path | str) -> None:
    """Raise unless the file is a store of a version that is known.

    Raises:
        InputError: it is another program's file, or a newer version's.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION:
        raise InputError(f"{path}: is not a store of vreid; name another folder.")
    if schema > SCHEMA:
        raise InputError(
            f"{path}: was written by a newer version of vreid (tables {schema}, this version reads {SCHEMA}); update "
            "vreid."
        )


def add_time_index(connection: sqlite3.Connection) -> None:
    """Add the index of tracklets by time to a file that was made before there was one; without it lists are slower."""
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'index' AND name = ?", (_TIME_INDEX,))
    if found.fetchone() is None:
        columns = "start, id, end, camera, color, vehicle_type"
        connection.execute(f"CREATE INDEX IF NOT EXISTS {_TIME_INDEX} ON tracklets ({columns})")


@contextmanager
def partial_file(folder: Path) -> Iterator[Path]:
    """Yield the path of a new file in `folder`, which is made if absent; the file is removed at the end."""
    partial = folder / f".{FILE}.{threading.get_ident()}.{os.getpid()}.partial"
    try:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        yield partial
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            with suppress(OSError):
                os.unlink(f"{partial}{suffix}")


def publish(partial: Path, path: Path) -> None:
    """Give a complete file its name, durably, unless there is a file of that name."""
    with writing(path):
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(partial, path)
        place = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(place)
        finally:
            os.close(place)


@contextmanager
def sqlite_errors(folder: Path, doing: str, patience: float = 0.0) -> Iterator[None]:
    """Turn errors of SQLite and the system into one sentence.

    Args:
        folder: of the store.
        doing: "read", "written", ...
        patience: seconds that SQLite has waited for another process.

    Raises:
        DamagedStore: the file is damaged.
        InputError: another error.
    """
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise DamagedStore(
                f"{folder}: {FILE} is damaged ({error}); restore a snapshot with `vreid store restore SNAPSHOT "
                f"{folder} --force`, or save what can be read with `vreid store copy`."
            ) from error
        raise InputError(f"{folder}: {_reason(error, code, folder, doing, patience)}") from error
    except OSError as error:
        raise InputError(f"{folder}: cannot be {doing} ({error.strerror}); check its permissions.") from error


def _reason(error: sqlite3.Error, code: int, folder: Path, doing: str, patience: float) -> str:
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and shutil.disk_usage(folder).free < 1 << 20):
        return "the disk is full; free some space and run it again (what was stored before is unchanged)."
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL):
        return f"another process has been writing for more than {patience:g} s; wait until it ends and run this again."
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return f"cannot be {doing} ({error}); change its permissions or open it writable."
    if code == sqlite3.SQLITE_CANTOPEN:
        return f"{FILE} cannot be opened ({error}); check its permissions and the limit on open files (ulimit -n)."
    return (
        f"cannot be {doing} ({error}); check the disk, its free space and the limit on file sizes (ulimit -f), then "
        f"run `vreid store verify {folder}`."
    )


def network_file_system(path: Path | str) -> str:
    """Return the type of the network file system that holds `path`; "" if it is a local one or unknown."""
    kinds = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "lustre", "gluster", "beegfs", "fuse.sshfs", "fuse.rclone")
    place, best, kind = os.path.realpath(path), "", ""
    with suppress(OSError), open("/proc/self/mounts", encoding="utf-8", errors="replace") as mounts:
        for line in mounts:
            _, point, found, *_ = line.split(" ")
            point = point.replace("\\040", " ")
            if os.path.commonpath([place, point]) == point and len(point) >= len(best):
                best, kind = point, found
    return kind if kind.startswith(kinds) else ""
