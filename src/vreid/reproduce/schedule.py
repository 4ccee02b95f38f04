"""Order in which one process, or several that share a cache, build the stages of rows and evaluate the rows.

A task is a stage, or the final stage of a row (its evaluation). Each process takes the first available task that no
other has taken, so that none is idle while any task is available (list scheduling).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import groupby

from vreid.reproduce.stages import Stage

RELATIVE_SECONDS = {
    "world": 3,
    "model": 60,
    "crops": 3,
    "translations": 60,
    "scenes": 1,
    "adapted": 20,
    "features": 3,
    "metrics": 1,
}
"""Relative times of stages by kind, for the order only, where none has been measured."""


def missing_stages(wanted: Iterable[Stage], complete: Callable[[Stage], bool]) -> list[Stage]:
    """List the stages needed for `wanted` that are not complete, in topological order.

    Inputs of complete stages are not needed.
    """
    found: dict[Stage, None] = {}

    def look(stage: Stage) -> None:
        if stage in found or (stage.complete and complete(stage)):
            return
        for needed in stage.inputs:
            look(needed)
        if stage.complete:
            found[stage] = None

    for stage in wanted:
        look(stage)
    return list(found)


def tasks_of(rows: Iterable[Stage], complete: Callable[[Stage], bool]) -> list[Stage]:
    """List the tasks of rows, given by their final stages: for each row its missing stages, then its evaluation."""
    return list(dict.fromkeys(task for row in rows for task in (*missing_stages([row], complete), row)))


def available(tasks: Sequence[Stage], missing: Collection[Stage]) -> list[Stage]:
    """Select the tasks whose inputs exist, in the same order."""
    return [task for task in tasks if not any(needed in missing for needed in task.inputs)]


def longest_first(tasks: Sequence[Stage], seconds: Callable[[Stage], float]) -> list[Stage]:
    """Sort tasks for several processes: those first from whose start to the end of all that depends on them is longest.

    Of tasks with equal times, those come first on which more tasks depend, then in the given order. Source: list
    scheduling by highest level first (Hu, "Parallel Sequencing and Assembly Line Problems", 1961).

    Args:
        tasks: in topological order.
        seconds: time of a task.
    """
    level = dict[Stage, float]()
    after: dict[Stage, set[Stage]] = {task: set() for task in tasks}
    below = dict.fromkeys(tasks, 0.0)
    for task in reversed(tasks):
        level[task] = seconds(task) + below[task]
        for needed in task.inputs:
            if needed in after:
                below[needed] = max(below[needed], level[task])
                after[needed] |= {task, *after[task]}
    return sorted(tasks, key=lambda task: (-level[task], -len(after[task])))


def mean_seconds(took: Mapping[str, float], usual: Mapping[str, float]) -> dict[str, float]:
    """Return the mean time of a stage by kind: of those measured, else the usual time.

    Args:
        took: seconds of measured stages by name ("model/0123456789abcdef").
        usual: seconds by kind.
    """
    by_kind = groupby(sorted(took), key=lambda name: name.partition("/")[0])
    measured = {kind: [took[name] for name in names] for kind, names in by_kind}
    return {**usual, **{kind: sum(values) / len(values) for kind, values in measured.items()}}
