"""Text, tables and progress on a terminal; control characters in names are shown as escapes."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, TextIO

import rich.console
import rich.progress
from rich.console import ConsoleOptions, RenderableType
from rich.progress import BarColumn, Task, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.table import Column
from rich.text import Text

from vreid.formatting import printable
from vreid.progress import Progress


class _State(TextColumn):
    """The column with a job's own status, or else its progress."""

    def render(self, task: Task) -> Text:
        total = f"/{task.total:,.0f}" if task.total is not None else ""
        return Text(task.fields["text"] or f"{task.completed:,.0f}{total}")


def say(*values: object, sep: str = " ", file: TextIO | None = None) -> None:
    """Print like `print`, with control characters as escapes (see `printable`)."""
    print(printable(sep.join(map(str, values))), file=file)


class Console(rich.console.Console):
    """Rich console for untrusted text: no markup, control characters are escaped."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Text of a cell, before its width is measured."""
        return super().render_str(printable(text), **{**options, "markup": False})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Segments of anything, those of ready-made `Text` included."""
        for segment in super().render(renderable, options):
            clean = segment.control or printable(segment.text) == segment.text
            yield segment if clean else segment._replace(text=printable(segment.text))


class ProgressBars(Progress):
    """Progress display for long jobs, as a context manager and listener.

    If standard error is not a terminal, each finished part of a job (an epoch) prints one line. With `quiet` nothing is
    printed.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=4)),
            TaskProgressColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            _State("", table_column=Column(no_wrap=True)),
        )
        self._draws = not quiet and self._console.is_terminal
        self._progress = rich.progress.Progress(*columns, console=self._console, disable=not self._draws, expand=True)
        self._tasks: list[TaskID] = []

    def __enter__(self) -> ProgressBars:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def start(self, title: str, total: int, done: int = 0) -> None:
        """A job begins; `done` of `total` steps were done earlier."""
        self._tasks.append(self._progress.add_task(title, total=total, completed=done, text=""))

    def advance(self, steps: int, text: str = "") -> None:
        """`steps` more of the newest job are done."""
        if self._tasks:
            self._progress.update(self._tasks[-1], advance=steps, text=text)

    def log(self, text: str) -> None:
        """Print a line for a finished part of a job, unless a bar already shows it."""
        if not self._draws:
            self.note(text)

    def note(self, text: str) -> None:
        """One sentence worth reading."""
        self._console.print(text, markup=False, soft_wrap=True)  # paths stay whole

    def finish(self) -> None:
        """The newest job is over."""
        if self._tasks:
            self._progress.stop_task(self._tasks.pop())
