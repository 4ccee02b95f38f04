"""Extraction on a Ray cluster (extra `ray`).

Actors, not Ray Data: a shard is a range of records that any process can compute and that is written where it is
computed. So all that is needed of Ray are processes that are placed, watched and started again. Ray Data would divide
the records into blocks and batches of its own, which changes the rounding of features, and carry the features through
its object store.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

from vreid.errors import InputError
from vreid.inference.shard_workers import ShardWorker
from vreid.training.feature_job import ShardTask

RETRIES = 3
"""How often a task is given to another process after the one that computed it has died."""
LOCAL = "local"
"""Address that starts a cluster of this machine's cores for the extraction."""


class RayPool:
    """A `WorkerPool` of actors of a Ray cluster; a context manager.

    Args:
        worker: the model and device of each actor.
        address: "local", "auto" (the cluster that this machine belongs to), HOST:PORT or ray://HOST:PORT.
        count: actors; None: one for each GPU, or for each CPU if there is none or the device is "cpu".

    Raises:
        InputError: there is no such cluster, or it has no free CPU or GPU.
    """

    def __init__(self, worker: ShardWorker, address: str = LOCAL, count: int | None = None) -> None:
        import ray

        self._ray, self._worker = ray, worker
        self._address, self._count = address, count
        self._actors: list[Any] = []
        self._held: list[Any] = []
        self._started = False

    def __enter__(self) -> RayPool:
        ray = self._ray
        if not ray.is_initialized():
            try:
                _reach(self._address)
                ray.init(
                    address=None if self._address == LOCAL else self._address,
                    log_to_driver=False,
                    logging_level="error",
                    **({"include_dashboard": False} if self._address == LOCAL else {}),
                )
            except (OSError, ValueError, RuntimeError) as error:
                raise InputError(
                    f"--ray {self._address}: there is no such Ray cluster ({error}); start one with `ray start --head`."
                ) from error
            self._started = True
        total = ray.cluster_resources()
        gpu = self._worker.device != "cpu" and total.get("GPU", 0) >= 1
        count = self._count or int(total.get("GPU" if gpu else "CPU", 0))
        if count < 1:
            self.__exit__(None, None, None)
            raise InputError(f"--ray {self._address}: the cluster has no CPU; start workers with `ray start`.")
        actor = ray.remote(
            num_cpus=1, num_gpus=int(gpu), max_restarts=-1, max_task_retries=RETRIES, scheduling_strategy="SPREAD"
        )(_Actor)
        self._held = [ray.put(self._worker)]  # one copy of the model a machine; in a list, a reference is not resolved
        self._actors = [actor.remote() for _ in range(count)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors, self._held = [], []
        if self._started:
            self._ray.shutdown()
            self._started = False

    def begin(self, folder: str, job: Mapping[str, object]) -> str:
        """See `WorkerPool.begin`."""
        note: str = self._result(self._actors[0].begin.remote(self._held, folder, job))
        return note

    def run(self, tasks: Iterable[ShardTask]) -> Iterator[Mapping[int, str]]:
        """See `WorkerPool.run`; each actor holds one task and the next one's data."""
        waiting, busy = iter(tasks), {}
        for actor in [*self._actors, *self._actors]:
            for task in self._next(waiting):
                busy[actor.run.remote(self._held, task)] = actor
        while busy:
            (done,), _ = self._ray.wait(list(busy), num_returns=1)
            actor = busy.pop(done)
            for task in self._next(waiting):
                busy[actor.run.remote(self._held, task)] = actor
            yield self._result(done)

    @staticmethod
    def _next(waiting: Iterator[ShardTask]) -> list[ShardTask]:
        task = next(waiting, None)
        return [] if task is None else [task]

    def _result(self, reference: Any) -> Any:
        from ray.exceptions import RayActorError, RayTaskError

        try:
            return self._ray.get(reference)
        except RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise InputError(str(error.cause)) from None
            raise
        except RayActorError as error:
            reason = " ".join(re.sub("\x1b\\[[0-9;]*m", "", str(error)).split())
            raise InputError(
                f"a worker died or could not start {RETRIES + 1} times ({reason[:300]}); what is written is kept: "
                "install vehicle-reid on all machines, give workers more memory, or fewer of them, and run it again."
            ) from error


def _reach(address: str) -> None:
    """Raise `OSError` if nothing listens at HOST:PORT or ray://HOST:PORT, for which Ray itself would wait minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


class _Actor:
    """What runs in a process of the cluster; one that is started again gets the worker with its next call."""

    def __init__(self) -> None:
        self._worker: ShardWorker | None = None

    def begin(self, held: list[Any], folder: str, job: Mapping[str, object]) -> str:
        return self._of(held).begin(folder, job)

    def run(self, held: list[Any], task: ShardTask) -> dict[int, str]:
        return self._of(held).run(task)

    def _of(self, held: list[Any]) -> ShardWorker:
        import ray

        if self._worker is None:
            self._worker = ray.get(held[0])
        return self._worker
