"""Progress reporting: listeners for long jobs. The library never prints; the command line draws progress bars."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vreid.files import parse_errors, read_json, write_json
from vreid.formats.facts import typed
from vreid.locks import LOCK


class Progress:
    """A listener, silent unless a subclass says more.

    A job is one `start`, any number of `advance`, `log` and `note`, and one `finish`.
    """

    def start(self, title: str, total: int, done: int = 0) -> None:
        """The job `title` begins: `total` steps, of which `done` were done earlier (a resumed job)."""

    def advance(self, steps: int, text: str = "") -> None:
        """`steps` more are done; `text` is a short status."""

    def log(self, text: str) -> None:
        """Report a part of the job that is done (an epoch) in one line; listeners that draw bars may leave it out."""

    def note(self, text: str) -> None:
        """One sentence worth reading (a cost estimate, a warning)."""

    def finish(self) -> None:
        """The job is over."""


@contextmanager
def job(progress: Progress | None, title: str, total: int, done: int = 0) -> Iterator[Progress]:
    """Start the job `title` and finish it, whatever happens inside; gives the listener, which may be None."""
    listener = progress or Progress()
    listener.start(title, total, done)
    try:
        yield listener
    finally:
        listener.finish()


class Stopwatch:
    """Seconds by stage, kept in the JSON file `path`; those of earlier attempts are added, so that what was stopped and
    resumed tells the truth (but for what a killed process took from it).
    """

    def __init__(self, path: Path, *, in_empty_folder: bool = False) -> None:
        self._path, self._in_empty_folder = path, in_empty_folder
        self.seconds: dict[str, float] = {}
        if path.exists():
            with parse_errors(path):
                self.seconds = typed(dict[str, float], read_json(path), "seconds")

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what happens inside as the stage `name`."""
        started, before = time.perf_counter(), self.seconds.get(name, 0.0)
        try:
            yield
        finally:
            self.seconds[name] = round(before + time.perf_counter() - started, 1)
            if self._in_empty_folder or _holds_anything(self._path.parent):  # not if the first stage was refused
                write_json(self._path, self.seconds)


def _holds_anything(folder: Path) -> bool:
    return folder.is_dir() and any(entry.name != LOCK for entry in folder.iterdir())
