"""Kill a process that writes to a store, again and again: nothing acknowledged is lost, no batch is half there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random

from soak.jobs import Counts, Place
from support.tracklets import names, tracklets
from vreid.store.interface import VectorStore
from vreid.store.maintenance import verify
from vreid.store.sqlite_engine import SqliteEngine

D = 8
BATCH = 50


def round_of(number: int, rng: Random, place: Place, counts: Counts, *, timed: bool) -> None:
    """Kill a writer of one store three times, then let it finish."""
    folder = place.empty("store")
    for problem in kill_writers(folder, rng, kills=3, batches=30):
        counts.problem(number, problem)
    counts.add("kills of a store's writer", 3)
    counts.add("stores completed")


def kill_writers(folder: Path, rng: Random, *, kills: int, batches: int) -> list[str]:
    """Kill `kills` writers of `folder` at drawn moments; return what is wrong after any of them or at the end."""
    problems = []
    acknowledged = 0
    for _ in range(kills):
        child = subprocess.Popen(
            [sys.executable, "-m", "soak.stores", str(folder), "1000000"], stdout=subprocess.PIPE, env=_environment()
        )
        assert child.stdout is not None
        ready = child.stdout.readline()  # imports are over
        assert ready == b"ready\n", ready
        time.sleep(rng.random() * 0.25)
        child.send_signal(signal.SIGKILL)
        lines = child.stdout.read().splitlines()
        child.wait()
        acknowledged = max([acknowledged, *(int(line) for line in lines if line.isdigit())])
        with closing(SqliteEngine(folder, dimensions=D, model="m", create=True)) as engine:
            problems += wrong(engine, acknowledged)
    write(folder, batches, lambda done: None)
    with closing(SqliteEngine(folder)) as engine:
        count = engine.count()
        write(folder, batches, lambda done: None)
        if engine.count() != count:
            problems.append(f"{count} tracklets become {engine.count()} by running again")
        problems += wrong(engine, batches) + verify(engine)
    return problems


def wrong(engine: VectorStore, acknowledged: int) -> list[str]:
    """Return what is wrong in a store whose writer has acknowledged so many batches."""
    count = engine.count()
    if count % BATCH or count < acknowledged * BATCH:
        return [f"{count} tracklets, {acknowledged} batches of {BATCH} acknowledged"]
    if engine.info().crops != 2 * count:
        return [f"{engine.info().crops} crops of {count} tracklets"]
    return []


def write(folder: Path, batches: int, acknowledge: Callable[[int], None]) -> None:
    """Write batches that are not there yet; each holds the same at every attempt."""
    with closing(SqliteEngine(folder, dimensions=D, model="m", create=True)) as engine:
        for number in range(batches):
            ids = names("a", BATCH, number * BATCH)
            if len(engine.fetch(ids)) == BATCH and number % 3:
                continue  # of those that are there a third is written again
            engine.upsert(tracklets(ids, number))
            acknowledge(number + 1)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}


def _acknowledge(done: int) -> None:
    sys.stdout.write(f"{done}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    write(Path(sys.argv[1]), int(sys.argv[2]), _acknowledge)
