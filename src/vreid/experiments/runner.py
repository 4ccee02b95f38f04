"""The row runner: each stage of each row in a folder named by its hash, nothing made twice, one line a row.

CACHE/world/HASH       a simulated world
CACHE/model/HASH       a training run
CACHE/features/HASH    query and gallery features
CACHE/seconds.json     what each of them took
CACHE/results.jsonl    the lines, replaced as a whole after each row

A stage resumes what a killed process has left of it. One process at a time works in a cache; several machines have one
each, and their lines are merged: `write_lines(CACHE/results.jsonl, merge(files))` makes them count as done. A stage
that is there needs none of those before it, so worlds and runs may be removed once the features are made.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vreid.data.dataset import Dataset
from vreid.diagnostics.slices import ALL
from vreid.errors import InputError
from vreid.experiments.lines import Line, merge, write_lines
from vreid.experiments.rows import Row, World
from vreid.files import read_json
from vreid.pipeline import FACTS, Search, environment_facts, extract_dataset
from vreid.retrieval.metrics import Metrics, interval
from vreid.simulator.write import SUMMARY, simulate
from vreid.training.progress import Progress, Silence, Stopwatch, duration
from vreid.training.supervised import train

RESULTS = "results.jsonl"
SECONDS = "seconds.json"
COMPLETE: Mapping[str, str] = {"world": SUMMARY, "model": "model.safetensors", "features": FACTS}
"""The stages that make a folder, and the file that each writes last."""


@dataclass(frozen=True)
class Plan:
    """What running rows would take.

    Attributes:
        rows: how many there are; done: how many of them have their line.
        missing: the folders that each stage has yet to make, as "model/0123456789abcdef".
        seconds: what that takes if each takes as long as those of its stage made in this cache before; None where one
            of these stages was never made.
    """

    rows: int
    done: int
    missing: Mapping[str, tuple[str, ...]]
    seconds: float | None

    def describe(self) -> str:
        """One sentence."""
        counts = ", ".join(f"{len(names)} x {stage}" for stage, names in self.missing.items() if names)
        told = f"{self.rows} rows, {self.done} of them done"
        if self.done == self.rows:
            return f"{told}."
        known = "not known before one is made" if self.seconds is None else f"about {duration(self.seconds)}"
        return f"{told}; to make: {counts}; time: {known}." if counts else f"{told}; to make: nothing but rankings."


def plan(rows: Iterable[Row], cache: Path | str) -> Plan:
    """What `run_rows` would make, without making it.

    Raises:
        InputError: the cache's lines are damaged, or a file that decides a row is absent.
    """
    rows, cache = list(rows), Path(cache)
    done = {line.hash for line in _stored(cache).values() if not line.error}
    missing: dict[str, dict[str, None]] = {stage: {} for stage in COMPLETE}
    for row in rows:
        needed = _folders(row) if row.hash not in done else {}
        for stage, name in reversed(list(needed.items())):
            if (cache / name / COMPLETE[stage]).is_file():
                break
            missing[stage][name] = None
    took = Stopwatch(cache / SECONDS).seconds
    seconds: float | None = 0.0
    for stage, names in missing.items():
        before = [took[name] for name in took if name.startswith(f"{stage}/") and name not in names]
        if names and not before:
            seconds = None
        elif names and seconds is not None:
            seconds += len(names) * sum(before) / len(before)
    to_make = {stage: tuple(names) for stage, names in missing.items()}
    return Plan(len(rows), sum(row.hash in done for row in rows), to_make, seconds)


def run_rows(
    rows: Iterable[Row],
    cache: Path | str,
    *,
    device: str = "cpu",
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[Line]:
    """Make what the rows need and is not there, judge them, and return their lines, in order.

    The plan is told first. A row that fails does not stop the others: its line says why, and the next call tries it
    again. What several rows need is tried once.

    Args:
        rows: a table, or several.
        cache: the folder of everything made and of the lines.
        device: of training and extraction.
        workers: processes that simulate and that load images.
        progress: listener; the plan, each row's result and the stages' own progress.

    Raises:
        InputError: as `plan`, or the cache cannot be written.

    Example:
        >>> lines = run_rows(rows, "runs/table", device="cuda")      # doctest: +SKIP
        >>> sys.exit(any(line.error for line in lines))              # doctest: +SKIP
    """
    rows, cache, progress = list(rows), Path(cache), progress or Silence()
    progress.note(plan(rows, cache).describe())
    lines = _stored(cache)
    settled = {line.hash for line in lines.values() if not line.error}
    maker = _Maker(cache, device, workers, progress)
    for number, row in enumerate(rows, start=1):
        if row.hash in settled:
            continue
        settled.add(row.hash)
        line = lines[row.hash] = maker.line(row)
        write_lines(cache / RESULTS, lines.values())
        numbers = ", ".join(f"{name} {100 * value:.1f}" for name, value in line.numbers.items())
        progress.note(f"Row {number} of {len(rows)}, {row.name}: {line.error or numbers}")
    return [lines[row.hash] for row in rows]


def _stored(cache: Path) -> dict[str, Line]:
    """The lines of a cache by hash."""
    file = cache / RESULTS
    return {line.hash: line for line in merge([file])} if file.exists() else {}


def _folders(row: Row) -> dict[str, str]:
    """The folder of each stage of `row` that makes one, first to last, below the cache."""
    return {stage: f"{stage}/{hashed}" for stage, hashed in row.hashes.items() if stage in COMPLETE}


class _Maker:
    """Makes stages; remembers which failed."""

    def __init__(self, cache: Path, device: str, workers: int | None, progress: Progress) -> None:
        self._cache, self._device, self._workers, self._progress = cache, device, workers, progress
        self._watch = Stopwatch(cache / SECONDS)
        self._failed: dict[str, str] = {}

    def line(self, row: Row) -> Line:
        """The line of `row`, which is tried whatever was before."""
        facts: dict[str, Any] = {
            "initialisation": _initialisation(row),
            "seeds": row.seeds,
            "judged on": {**environment_facts(), "device": self._device},
        }
        about: dict[str, Any] = {"hash": row.hash, "name": row.name, "links": row.links, "facts": facts}
        try:
            search = Search.load(self._features(row))
            search = search.under(row.protocol) if row.protocol else search
            with self._watch.stage(f"metrics/{row.hash}"):
                parts = search.judge(row.post)
                metrics, queries = _judged(search, parts)
        except Exception as error:  # one row's mistake, or ours, must not lose the others
            if not isinstance(error, InputError):
                facts["traceback"] = traceback.format_exc()
            return Line(**about, error=_told(error))
        facts |= {name: value for name, value in search.facts.items() if name != "model"}  # where it lies, here
        facts["protocol"] = search.protocol.description
        environment = self._cache / _folders(row)["model"] / "environment.json"
        facts["trained on"] = read_json(environment) if environment.is_file() else {}
        took = {stage: self._watch.seconds.get(f"{stage}/{hashed}") for stage, hashed in row.hashes.items()}
        seconds = {stage: value for stage, value in took.items() if value is not None}
        return Line(**about, metrics=metrics, queries=queries, seconds=seconds)

    def _world(self, row: Row, world: World) -> Path:
        def prepare(folder: Path) -> Callable[[], Any]:
            return lambda: simulate(folder, preset=world.preset, seed=world.seed, layout=world.layout,
                                    workers=self._workers, progress=_Counter(self._progress))  # fmt: skip

        return self._once(row, "world", prepare)

    def _dataset(self, row: Row) -> Dataset:
        return row.data.open(self._world(row, row.data)) if isinstance(row.data, World) else row.data.open()

    def _model(self, row: Row) -> Path:
        def prepare(folder: Path) -> Callable[[], Any]:
            records = self._dataset(row).train
            return lambda: train(row.training, records, out=folder, device=self._device, workers=self._workers,
                                 resume=True, progress=self._progress)  # fmt: skip

        return self._once(row, "model", prepare)

    def _features(self, row: Row) -> Path:
        def prepare(folder: Path) -> Callable[[], Any]:
            model, dataset = self._model(row), self._dataset(row)
            return lambda: extract_dataset(model, dataset, folder, views=row.views, normalise=row.normalise,
                                           device=self._device, progress=self._progress)  # fmt: skip

        return self._once(row, "features", prepare)

    def _once(self, row: Row, stage: str, prepare: Callable[[Path], Callable[[], Any]]) -> Path:
        """The folder of a stage of `row`; if it is not there `prepare` makes what it needs and returns its work."""
        name = _folders(row)[stage]
        folder = self._cache / name
        if (folder / COMPLETE[stage]).is_file():
            return folder
        if name in self._failed:
            raise InputError(self._failed[name])
        work = prepare(folder)
        try:
            with self._watch.stage(name):
                work()
        except Exception as error:
            self._failed[name] = _told(error)  # not itself: its traceback would keep the model in memory
            raise
        return folder


class _Counter:
    """A progress(done, total) for a listener."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._done = progress, 0

    def __call__(self, done: int, total: int) -> None:
        if not self._done:
            self._progress.start("simulate", total)
        self._progress.advance(done - self._done)
        self._done = done
        if done == total:
            self._progress.finish()


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"


def _initialisation(row: Row) -> str:
    weights, digest = row.training.model.weights, dict(row.links)["model"]["training"]["model"]["weights"]
    return f"{Path(weights).name} ({digest})" if weights else "random"


def _judged(search: Search, parts: Mapping[str, Metrics]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metrics of a line, and its queries."""
    whole, identity = parts[ALL], search.query.records.identity
    protocol = whole.protocol
    names = dict.fromkeys((protocol.full_metric, protocol.metric, "rank1", "mINP"))
    metrics = {
        **whole.as_dict(),
        "intervals": {name: list(interval(whole, name, identity=identity.codes)) for name in names},
        "parts": {part: of_part.as_dict() for part, of_part in parts.items()},
    }
    precision = whole.average_precision if whole.mAP_at_k is None else whole.average_precision_at_k
    values = [None if np.isnan(value) else round(float(value), 6) for value in precision]
    return metrics, {"identity": identity.values.tolist(), "average_precision": values}
