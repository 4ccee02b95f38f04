"""`TaskThread`: a long task beside the requests, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable


class TaskThread:
    """Runs a task in a thread of its own, one run at a time.

    Args:
        name: of the thread.
        task: does one run and deals with its own errors.
    """

    def __init__(self, name: str, task: Callable[[], None]) -> None:
        self._name, self._task = name, task
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._again = False

    @property
    def running(self) -> bool:
        """Whether a run is going on."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    def start(self, *, again: bool = False) -> bool:
        """Start a run and return True; if one is going on, return False, and with `again` let another follow it."""
        with self._guard:
            if self.running:
                self._again |= again
                return False
            self._again = False
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        return True

    def wait(self, seconds: float) -> None:
        """Wait until no run is going on, `seconds` at most."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def _run(self) -> None:
        while True:
            self._task()
            with self._guard:
                if not self._again:
                    self._thread = None
                    return
                self._again = False
