"""Run numbered tasks in worker processes that share a state made once in each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any, TypeVar

from vreid.errors import InputError

State = TypeVar("State")
Result = TypeVar("Result")


def tasks_in_turn(
    prepare: Callable[..., State], inputs: tuple[Any, ...], task: Callable[[State, int], Result], count: int
) -> Generator[tuple[int, Result]]:
    """Yield number and result of `count` tasks, run in this process; see `tasks_in_processes`."""
    state = prepare(*inputs)
    for index in range(count):
        yield index, task(state, index)


def tasks_in_processes(
    prepare: Callable[..., State],
    inputs: tuple[Any, ...],
    task: Callable[[State, int], Result],
    count: int,
    workers: int,
) -> Generator[tuple[int, Result]]:
    """Yield number and result of `count` tasks, as they end.

    `task` gets the state that `prepare` makes of `inputs` once in each process, and the number of the task. Both are
    functions of a module.

    Raises:
        InputError: a process ended early.
    """
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(prepare, inputs)
    )
    with _environment(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1"):
        try:
            futures = {pool.submit(_run_here, task, index): index for index in range(count)}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise InputError(
                "a rendering process ended early: give fewer workers if memory ran out, and in a script of your own "
                'call simulate under `if __name__ == "__main__":`.'
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set environment variables for the processes started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_state: Any = None
"""The state of a worker process (never set in the process that starts them)."""


def _start_worker(prepare: Callable[..., Any], inputs: tuple[Any, ...]) -> None:
    global _state
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the terminal; the parent acts on it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _state = prepare(*inputs)


def _end_with_parent() -> None:
    """Exit if the parent was killed; the executor's queue does not signal this."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _run_here(task: Callable[[Any, int], Result], index: int) -> Result:
    return task(_state, index)
