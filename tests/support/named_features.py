"""An extractor without a network, and processes that compute with it and may be killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.data.records import Records
from vreid.errors import InputError
from vreid.retrieval import feature_shards
from vreid.retrieval.feature_shards import FeatureShards
from vreid.training.feature_job import ExtractionSettings, Rows, ShardTask, begin


class NamedFeatures:
    """An extractor whose features say which image they are of, and in which batch it was, as rounding would.

    Paths are numbers; -1 cannot be read.
    """

    hash, num_features = "m", 3

    def __init__(self) -> None:
        self.rows: list[int] = []

    def precision(self, stored: str | None) -> tuple[str, str]:
        return "float32", "A note."

    def features(
        self, shown: Mapping[bool, Records], batches: Sequence[Rows], settings: ExtractionSettings, precision: str
    ) -> Iterator[NDArray[np.float32]]:
        for rows in batches:
            names = [int(path) for path in shown[settings.kinds[0]].path[rows]]
            if -1 in names:
                raise InputError("-1: cannot be read.")
            self.rows += names
            self.computed(names)
            yield np.array([[name + 1, names[0], len(names)] for name in names], dtype=np.float32)

    def computed(self, names: list[int]) -> None:
        """Is called after each batch."""


def named_records(count: int) -> Records:
    return Records.of(path=[str(row) for row in range(count)], camera=[f"c{row % 3}" for row in range(count)])


@dataclass(frozen=True)
class MortalWorker:
    """A worker that notes what it computes in `folder` and kills its process in the middle of image `kill`.

    Attributes:
        folder: holds a file for each image computed, with a line for each time.
        shard: images per shard.
        kill: the image.
        times: how often.
        device: as of `ShardWorker`.
    """

    folder: str
    shard: int
    kill: int = -1
    times: int = 1
    device: str = "cpu"

    def begin(self, folder: str, job: Mapping[str, object]) -> str:
        feature_shards.SHARD = self.shard
        return begin(FeatureShards(folder, job), _Noted(self))

    def run(self, task: ShardTask) -> dict[int, str]:
        feature_shards.SHARD = self.shard
        return task.run(_Noted(self))

    def count(self) -> dict[int, int]:
        """How often each image was computed."""
        return {int(file.name): len(file.read_text().splitlines()) for file in Path(self.folder).glob("[0-9]*")}


class _Noted(NamedFeatures):
    def __init__(self, worker: MortalWorker) -> None:
        super().__init__()
        self._worker = worker

    def computed(self, names: list[int]) -> None:
        worker = self._worker
        for name in names:
            with open(Path(worker.folder, str(name)), "a") as file:
                file.write("x\n")
        deaths = Path(worker.folder, "deaths")
        if worker.kill in names and (not deaths.exists() or len(deaths.read_text()) < worker.times):
            with open(deaths, "a") as file:
                file.write("x")
            os.kill(os.getpid(), signal.SIGKILL)


class ProcessPool:
    """A `WorkerPool` of `count` processes on this machine; a task of a process that dies is given to a new one."""

    def __init__(self, worker: Any, count: int = 2) -> None:
        self._worker, self._count = worker, count
        self._context = multiprocessing.get_context("spawn")

    def _start(self) -> Connection:
        ours, theirs = self._context.Pipe()
        self._context.Process(target=_serve, args=(self._worker, theirs), daemon=True).start()
        theirs.close()
        return ours

    def begin(self, folder: str, job: Mapping[str, object]) -> str:
        (note,) = self._answers([("begin", (folder, job))])
        return str(note)

    def run(self, tasks: Iterable[ShardTask]) -> Iterator[Mapping[int, str]]:
        yield from self._answers(("run", (task,)) for task in tasks)

    def _answers(self, calls: Iterable[tuple[str, tuple[Any, ...]]]) -> Iterator[Any]:
        waiting = iter(calls)
        busy: dict[Any, Any] = {}
        for call in (call for _, call in zip(range(self._count), waiting, strict=False)):
            self._give(self._start(), call, busy)
        while busy:
            for pipe in wait(list(busy)):
                call = busy.pop(pipe)
                try:
                    answer = pipe.recv()  # type: ignore[union-attr]
                except (EOFError, ConnectionResetError):
                    self._give(self._start(), call, busy)
                    continue
                if isinstance(answer, InputError):
                    raise answer
                following = next(waiting, None)
                if following is not None:
                    self._give(pipe, following, busy)
                else:
                    pipe.close()  # type: ignore[union-attr]
                yield answer

    @staticmethod
    def _give(pipe: Any, call: Any, busy: dict[Any, Any]) -> None:
        pipe.send(call)
        busy[pipe] = call


def _serve(worker: Any, pipe: Connection) -> None:
    while True:
        try:
            name, arguments = pipe.recv()
        except (EOFError, ConnectionResetError):
            return
        try:
            pipe.send(getattr(worker, name)(*arguments))
        except InputError as error:
            pipe.send(error)
