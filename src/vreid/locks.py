"""Folder locks: one process at a time writes to a folder; others get an error that names it.

A lock is an advisory kernel lock (POSIX record lock) on FOLDER/.vreid.lock, which also records its holder. The kernel
releases it when the process ends for any reason; the file is removed on release. The lock file of a killed process is
taken over, and its partial files are removed. Forked children do not hold the lock. File systems without locks are not
protected.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import inspect
import json
import os
import shlex
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import ParamSpec, TypeVar

from vreid.errors import InputError
from vreid.files import writing

LOCK = ".vreid.lock"
"""Name of the lock file in a folder."""
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_SHOWN = 200
"""Maximum length of the holder's command in messages."""

P = ParamSpec("P")
T = TypeVar("T")
_File = tuple[int, int]
_held: dict[_File, dict[str, object]] = {}
"""Lock files of this process, by device and inode: the kernel grants a process its own lock again, and drops the lock
as soon as the process closes any descriptor of the file."""
_guard = threading.Lock()


class InUse(InputError):
    """A folder is locked by another process or thread."""


@contextmanager
def locked(folder: Path | str, *, wait: bool = False, shown: Path | str | None = None) -> Iterator[None]:
    """Hold the lock of `folder`; create the folder if absent and remove it again if it stays empty.

    Args:
        folder: the folder to write into.
        wait: wait until another process releases the lock, instead of raising.
        shown: name of the folder in messages; None: `folder`.

    Raises:
        InUse: the folder is locked; the message names the holder.
        InputError: `folder` is a file, or cannot be created or written.

    Example:
        >>> with locked("runs/first"):                                    # doctest: +SKIP
        ...     train_into("runs/first")
    """
    path = Path(os.path.abspath(folder))
    shown = folder if shown is None else shown
    if path.is_file():
        raise InputError(f"{shown}: is a file; name a folder.")
    absent = [one for one in (path, *path.parents) if not one.exists()]
    with writing(shown):
        while (taken := _take(path, shown, wait)) is None:
            continue  # its holder has just removed the file, or the folder
    place, file = taken
    try:
        yield
    finally:
        with suppress(OSError):  # by descriptor: the folder may have been renamed
            if _identity(os.stat(LOCK, dir_fd=place)) == _identity(os.fstat(file)):
                os.unlink(LOCK, dir_fd=place)
        _release(place, file)
        with suppress(OSError):
            for one in absent:  # innermost first
                one.rmdir()


def locking(argument: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorator: hold the lock of the folder that the function's `argument` names while it runs.

    Raises:
        InUse: as `locked`.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def holding(*args: P.args, **kwargs: P.kwargs) -> T:
            with locked(signature.bind(*args, **kwargs).arguments[argument]):
                return function(*args, **kwargs)

        return holding

    return decorate


def _take(path: Path, shown: Path | str, wait: bool) -> tuple[int, int] | None:
    """Open the folder and lock its lock file; return both descriptors, or None if either has been removed meanwhile."""
    path.mkdir(parents=True, exist_ok=True)
    place = file = -1
    try:
        place = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        with _guard:
            with suppress(FileNotFoundError):
                mine = _held.get(_identity(os.stat(LOCK, dir_fd=place, follow_symlinks=False)))
                if mine is not None:
                    raise InUse(_sentence(shown, mine))
            file = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666, dir_fd=place)
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise InputError(f"{path / LOCK}: is a pipe or a device; remove it.")
            _held[_identity(os.fstat(file))] = _holder()
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except (BlockingIOError, PermissionError):  # POSIX allows either
            raise InUse(_sentence(shown, _read(file))) from None
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
        there = _identity(os.stat(LOCK, dir_fd=place)), _identity(os.stat(path))
        if there == (_identity(os.fstat(file)), _identity(os.fstat(place))):
            killed = _read(file).get("pid")
            for partial in path.glob(f".*.{killed}.partial") if isinstance(killed, int) else ():
                partial.unlink(missing_ok=True)  # partial files of a killed process
            with suppress(OSError):  # a full disk: the lock holds without it
                text = json.dumps(_held[there[0]]).encode()
                os.pwrite(file, text, 0)
                os.ftruncate(file, len(text))
            return place, file
    except FileNotFoundError:
        pass
    except BaseException:
        _release(place, file)
        raise
    _release(place, file)
    return None


def _release(place: int, file: int) -> None:
    with _guard:
        if file >= 0:
            _held.pop(_identity(os.fstat(file)), None)
            os.close(file)
        if place >= 0:
            os.close(place)


def _identity(of: os.stat_result) -> _File:
    return of.st_dev, of.st_ino


def _holder() -> dict[str, object]:
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": shlex.join([name, *sys.argv[1:]])[:_SHOWN],
    }


def _read(file: int) -> dict[str, object]:
    """Read the holder recorded in a lock file."""
    try:
        found = json.loads(os.pread(file, 10_000, 0))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _sentence(folder: Path | str, holder: dict[str, object]) -> str:
    about = [str(holder.get(name, "unknown"))[:_SHOWN] for name in ("pid", "host", "since", "command")]
    who = "process {} on {} since {} (`{}`)".format(*about) if holder else "another process"
    return f"{folder}: is in use by {who}; wait until it ends, or name another folder."
