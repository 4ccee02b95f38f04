"""Snapshots of an embedded store: one file with a hash, taken while the store is in use.

A snapshot is an SQLite file with a last line that holds the SHA-256 of everything before it; SQLite ignores that line.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import IO

from vreid.errors import InputError
from vreid.files import atomic_write, reading, writing
from vreid.store.sqlite_engine import SqliteEngine
from vreid.store.sqlite_file import FILE, DamagedStore, check_tables, partial_file, publish

_CHUNK = 1 << 20
_TITLE = b"\nvreid snapshot sha256 "
_LINE = len(_TITLE) + 64 + 1
_LEAP = 1_000_000  # changes by which a restored store is ahead, so that every process reads it anew


def write_snapshot(folder: Path | str, path: Path | str) -> int:
    """Write the store of `folder`, as it is at one moment, to the file `path`; return its bytes.

    Raises:
        InputError: there is no store, or the file cannot be written.
    """
    with closing(SqliteEngine(folder, read_only=True)) as engine, atomic_write(path) as temporary:
        engine.backup(temporary)
        with open(temporary, "r+b") as file:
            size = os.fstat(file.fileno()).st_size
            file.write(_TITLE + _hash(file, size).encode() + b"\n")
    return size + _LINE


def restore_snapshot(path: Path | str, folder: Path | str, *, force: bool = False) -> None:
    """Make the store of `folder` from a snapshot; it is checked before anything changes.

    A store that is there is replaced in one transaction, so that processes that read it go on. If it is damaged, its
    files are kept as `store.sqlite.damaged`.

    Args:
        path: file written by `write_snapshot`.
        folder: where to.
        force: replace the store that is there.

    Raises:
        InputError: the snapshot is damaged, or there is a store and not `force`.
    """
    target = Path(folder) / FILE
    if target.exists() and not force:
        raise InputError(f"{folder}: holds a store already; replace it with --force, or name another folder.")
    with reading(path), open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size - _LINE
        file.seek(max(size, 0))
        line = file.read(_LINE)
        file.seek(0)
        if size < 0 or not line.startswith(_TITLE):
            raise InputError(f"{path}: is not a snapshot, or was cut off; give a file of `vreid store snapshot`.")
        if _hash(file, size) != line[len(_TITLE) : -1].decode("ascii", "replace"):
            raise InputError(f"{path}: is damaged: it does not match its hash; give another snapshot.")
    with partial_file(Path(folder)) as partial:
        with writing(partial):
            shutil.copyfile(path, partial)
            os.truncate(partial, size)
        if not target.exists():
            _prepare(partial, path, 0)
            publish(partial, target)
            return
        try:
            with closing(SqliteEngine(folder)) as engine:
                _prepare(partial, path, int(engine.info().details["changes"]) + _LEAP)
                engine.replace_by(partial)
        except DamagedStore:
            _prepare(partial, path, 0)
            with writing(target):
                for suffix in ("", "-wal", "-shm"):
                    with suppress(FileNotFoundError):
                        os.replace(f"{target}{suffix}", f"{target}.damaged{suffix}")
            publish(partial, target)


def _prepare(partial: Path, snapshot: Path | str, change: int) -> None:
    """Make the copy of a snapshot a store: in WAL mode, with a change counter that makes others read all of it."""
    with closing(sqlite3.connect(partial, isolation_level=None)) as connection:
        check_tables(connection, snapshot)
        connection.execute("UPDATE state SET change = max(change, ?), forgotten = max(change, ?)", (change, change))
        connection.execute("DELETE FROM deletions")
        connection.execute("PRAGMA journal_mode=WAL")


def _hash(file: IO[bytes], size: int) -> str:
    """Hash the first `size` bytes, and leave the file there."""
    digest = hashlib.sha256()
    file.seek(0)
    while size and (chunk := file.read(min(size, _CHUNK))):
        digest.update(chunk)
        size -= len(chunk)
    return digest.hexdigest()
