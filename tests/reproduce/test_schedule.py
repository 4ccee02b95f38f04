"""Order of stages for several processes: by hand, simulated with given durations, on the papers' tables, at random."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vreid.reproduce.rows import stages
from vreid.reproduce.schedule import (
    RELATIVE_SECONDS,
    available,
    longest_first,
    mean_seconds,
    missing_stages,
    tasks_of,
)
from vreid.reproduce.stages import Stage
from vreid.reproduce.tables.running import rows_of
from vreid.reproduce.tables.scales import scale_named


@dataclass(frozen=True)
class Step(Stage):
    """A stage of given duration."""

    kind: ClassVar[str] = "step"
    complete: ClassVar[str] = "done"

    label: str
    seconds: float
    after: tuple[Step, ...] = ()

    @property
    def inputs(self) -> tuple[Stage, ...]:
        return self.after


@dataclass(frozen=True)
class Final(Step):
    """The final stage of a row, which has no folder."""

    complete: ClassVar[str] = ""


def simulated(
    tasks: list[Stage], processes: int, seconds: Callable[[Stage], float], *, sort: bool = True
) -> list[tuple[float, float, int, Stage]]:
    """Start, end, process and task of each, with the choices of `run_rows`: the first available task that is free."""
    order = longest_first(tasks, seconds) if sort else tasks
    done: list[tuple[float, float, int, Stage]] = []
    running: list[tuple[float, int, float, Stage]] = []
    idle, left, now = list(range(processes)), list(order), 0.0
    while left or running:
        taken = {task for *_, task in running}
        unfinished = [task for task in left if task.complete] + [task for task in taken if task.complete]
        free = available(left, set(unfinished))
        while idle and free:
            task = free.pop(0)
            left.remove(task)
            heapq.heappush(running, (now + seconds(task), idle.pop(0), now, task))
        now, process, begun, task = heapq.heappop(running)
        done.append((begun, now, process, task))
        idle.append(process)
    return done


def duration(task: Stage) -> float:
    assert isinstance(task, Step)
    return task.seconds


def names(tasks: Iterable[Stage]) -> str:
    return " ".join(task.label if isinstance(task, Step) else task.kind for task in tasks)


WORLD = Step("w", 2)
SHORT, LONG = Step("s", 3, (WORLD,)), Step("l", 9, (WORLD,))
FEATURES = Step("f", 1, (LONG,))
FIRST, SECOND = Final("1", 1, (SHORT,)), Final("2", 1, (FEATURES,))


def test_tasks_by_hand() -> None:
    tasks = tasks_of([FIRST, SECOND], lambda stage: False)
    assert names(tasks) == "w s 1 l f 2"
    assert names(available(tasks, {WORLD, SHORT, LONG, FEATURES})) == "w"
    assert names(available(tasks, {LONG, FEATURES})) == "w s 1 l"
    assert names(longest_first(tasks, duration)) == "w l s f 1 2"  # 13, 11, 4, 2, 1, 1 seconds to the end
    built = {LONG}
    assert names(missing_stages([SECOND], built.__contains__)) == "f"  # the world is not needed for it
    assert names(tasks_of([FIRST, SECOND], built.__contains__)) == "w s 1 f 2"
    many = [Step("one", 1), several := Step("several", 1)]
    rows = [Final(str(number), 1, (several,)) for number in range(3)]
    assert names(longest_first([*many, *rows, Final("x", 1, (many[0],))], duration)[:2]) == "several one"


def test_two_processes_by_hand() -> None:
    ended = simulated(tasks_of([FIRST, SECOND], lambda stage: False), 2, duration)
    assert [(begun, end, names([task])) for begun, end, _, task in ended] == [
        (0, 2, "w"),
        (2, 5, "s"),
        (5, 6, "1"),
        (2, 11, "l"),
        (11, 12, "f"),
        (12, 13, "2"),
    ]
    alone = simulated(tasks_of([FIRST, SECOND], lambda stage: False), 1, duration, sort=False)
    assert names(task for *_, task in alone) == "w s 1 l f 2"


@pytest.mark.parametrize("table", ["dmt.1", "dmt.5", "strdan.1"])
def test_eight_processes_have_work_from_the_first_minute(table: str) -> None:
    """On the rows of tables with three seeds: a process is idle only while no task is available."""
    rows = rows_of([table], scale_named("smoke", []), seeds=3)
    tasks = tasks_of([row.evaluated for row in rows], lambda stage: False)

    # models differ, up to twofold
    seconds = {
        task: RELATIVE_SECONDS[task.kind] * (1 + number % 8 / 8) for number, task in enumerate(tasks)
    }.__getitem__
    ended = simulated(tasks, 8, seconds)
    assert {task for *_, task in ended} == {*stages(rows)} - {task for task in stages(rows) if task.kind == "folders"}
    work, whole = sum(map(seconds, tasks)), max(end for _, end, _, _ in ended)
    chain = max(sum(seconds(task) for task in row.evaluated.all) for row in rows)
    assert whole <= work / 8 + chain  # Graham's bound
    assert whole <= 1.15 * max(work / 8, chain)
    worlds = max(end for _, end, _, task in ended if task.kind == "world")
    busy = sum(max(min(end, worlds + 60) - max(begun, worlds), 0) for begun, end, _, _ in ended)
    models = sum(task.kind == "model" and not any(one.kind == "model" for one in task.all[:-1]) for task in tasks)
    assert busy >= 0.95 * 60 * min(8, models)  # once there are worlds, each process trains


@st.composite
def graphs(draw: st.DrawFn) -> list[Stage]:
    steps: list[Step] = []
    for number in range(draw(st.integers(1, 14))):
        after = draw(st.lists(st.sampled_from(steps), max_size=3, unique=True)) if steps else []
        steps.append(Step(str(number), draw(st.integers(1, 9)), tuple(after)))
    return list(steps)


@given(graphs(), st.integers(1, 5))
@settings(max_examples=60)
def test_no_process_is_idle_while_a_task_is_available(tasks: list[Stage], processes: int) -> None:
    ended = simulated(tasks, processes, duration)
    assert sorted(names([task]) for *_, task in ended) == sorted(names([task]) for task in tasks)
    end_of = {task: end for _, end, _, task in ended}
    for begun, _, _, task in ended:
        ready = max((end_of[needed] for needed in task.inputs), default=0.0)
        assert begun >= ready
        for time in {ready, *(one[1] for one in ended if ready <= one[1] < begun)} - {begun}:
            assert sum(b <= time < e for b, e, *_ in ended) == processes  # it waited only while all were busy


def test_mean_seconds() -> None:
    took = {"model/a": 10.0, "model/b": 20.0, "features/c": 3.0}
    assert mean_seconds(took, {"model": 1, "world": 5}) == {"model": 15, "features": 3, "world": 5}
