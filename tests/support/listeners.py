"""Listeners that remember what they are told."""

from __future__ import annotations

from vreid.progress import Progress


class Notes(Progress):
    """Attribute `notes`: all sentences."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


class Steps(Progress):
    """Attributes: `seen` (done, total) at the start of each job and after each of its steps; `finished` jobs."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []
        self.finished = 0

    def start(self, title: str, total: int, done: int = 0) -> None:
        self.seen.append((done, total))

    def advance(self, steps: int, text: str = "") -> None:
        done, total = self.seen[-1]
        self.seen.append((done + steps, total))

    def finish(self) -> None:
        self.finished += 1
