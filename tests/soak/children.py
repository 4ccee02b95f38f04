"""A `vreid` line in a child process, and what is done to it there."""

from __future__ import annotations

import errno
import os
import resource
import shlex
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

Act = Callable[[], None]
SETTING = Callable[[], None]

WATCHED = ("replace", "rename", "fsync", "truncate", "mkdir", "rmdir", "unlink")
"""Calls of `os` that change files: the events at which a child is killed or refused."""
LIMIT = 120.0
"""Seconds after which a child counts as hanging."""


class Ended(NamedTuple):
    """How a child ended: its exit code (-9 if killed, None if it hung), what it said, and how many events it saw."""

    code: int | None
    out: str
    err: str
    events: int
    seconds: float

    def refusal(self) -> str:
        """What is wrong with how it said no; "" if exit code and sentence are as they should be."""
        lines = [line for line in self.err.splitlines() if line.startswith("vreid: ")]
        if self.code is None:
            return f"hangs ({LIMIT:g} s)"
        if self.code != 2:
            return f"exit code {self.code}: {self.err[-500:]}"
        if "Traceback" in self.err or len(lines) != 1 or not self.err.endswith(lines[0] + "\n"):
            return f"not one sentence: {self.err[-500:]!r}"
        return "" if lines[0].isprintable() else f"raw characters: {lines[0]!r}"


def run(line: str, *, setting: SETTING | None = None, killed_after: float | None = None) -> Ended:
    """Run a `vreid` line in a fork of this process, which has imported what takes seconds to import.

    Args:
        line: what is typed after `vreid`.
        setting: called in the child first (see `at_event`, `small_disk`).
        killed_after: seconds until the child gets SIGKILL.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        receive, send = os.pipe()
        started = time.monotonic()
        pid = os.fork()
        if not pid:
            os.close(receive)
            _child(line, out.fileno(), err.fileno(), send, setting)
        os.close(send)
        code = _wait(pid, started + (LIMIT if killed_after is None else killed_after), killed_after is not None)
        events = os.read(receive, 32)
        os.close(receive)
        for file in (out, err):
            file.seek(0)
        seconds = time.monotonic() - started
        return Ended(code, out.read(), err.read(), int(events or 0), seconds)


def _wait(pid: int, end: float, expected: bool) -> int | None:
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return -signal.SIGKILL if expected else None
        time.sleep(0.005)


def _child(line: str, out: int, err: int, send: int, setting: SETTING | None) -> None:
    code = 70
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115 (until the end)
        sys.argv = ["vreid", *shlex.split(line)]
        if setting:
            setting()
        from vreid.cli import main

        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(send, str(Watch.events).encode())
        os._exit(code)


class Watch:
    """Counts the events of this process."""

    events = 0


def at_event(number: int, act: Act) -> SETTING:
    """A setting: `act` is called before the event of that number, from 1 (0: never; the events are only counted)."""

    def watched(function: Callable[..., Any], owner: int) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if os.getpid() == owner:  # not a loader's
                Watch.events += 1
                if Watch.events == number:
                    act()
            return function(*args, **kwargs)

        return call

    def setting() -> None:
        for name in WATCHED:
            setattr(os, name, watched(getattr(os, name), os.getpid()))

    return setting


def die() -> None:
    """SIGKILL to this process."""
    os.kill(os.getpid(), signal.SIGKILL)


def full() -> None:
    """What a full disk says."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def small_disk(size: int) -> SETTING:
    """A setting: no file grows beyond `size` bytes; writing fails half-way, wherever it is done."""

    def setting() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is printed goes to a file here

    return setting
