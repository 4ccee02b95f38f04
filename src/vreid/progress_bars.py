"""Progress bars of long jobs on standard error."""

from __future__ import annotations

from types import TracebackType

import rich.progress
from rich.progress import BarColumn, Task, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from vreid.console import Console
from vreid.progress import Progress


class _State(TextColumn):
    """Column that shows the status text of a job, or its count if there is none."""

    def render(self, task: Task) -> Text:
        total = f"/{task.total:,.0f}" if task.total is not None else ""
        return Text(task.fields["text"] or f"{task.completed:,.0f}{total}")


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
        """Start a job of `total` steps, `done` of which are finished already."""
        self._tasks.append(self._progress.add_task(title, total=total, completed=done, text=""))

    def advance(self, steps: int, text: str = "") -> None:
        """Advance the newest job by `steps`."""
        if self._tasks:
            self._progress.update(self._tasks[-1], advance=steps, text=text)

    def log(self, text: str) -> None:
        """Print a line for a finished part of a job, unless a bar already shows it."""
        if not self._draws:
            self.note(text)

    def note(self, text: str) -> None:
        """Print one sentence."""
        self._console.print(text, markup=False, soft_wrap=True)  # paths stay whole

    def finish(self) -> None:
        """End the newest job."""
        if self._tasks:
            self._progress.stop_task(self._tasks.pop())
