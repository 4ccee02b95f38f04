"""Run rows: build each stage once, in a folder named by its hash, and write one line of results per row.

CACHE/KIND/HASH        a stage: a world, a training run, crops, translations, an adaptation, query and gallery features
CACHE/submission/HASH  the track2.txt of a row
CACHE/weights/HASH     the model of a row in half precision, if it takes at most 16 MB
CACHE/seconds/         run time of each stage
CACHE/results.jsonl    the lines, replaced as a whole after each row
CACHE/locks/           locks of the stages that are being built

Interrupted stages are resumed. Several processes on one machine may share a cache; each builds stages and evaluates
rows that no other is working on (`vreid.reproduce.schedule`). The lock of a killed process is released, and another
resumes its stage. Several machines have a cache each, and their lines are merged with
`write_lines(CACHE/results.jsonl, merge(files))`, after which they count as done. A finished stage does not need its
inputs, so worlds and runs may be removed once the features exist.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.data.records import Records
from vreid.diagnostics.slices import ALL
from vreid.environment import environment_facts
from vreid.errors import InputError
from vreid.files import parse_errors, read_json, writing
from vreid.formats.facts import typed
from vreid.formatting import duration
from vreid.locks import InUse, locked
from vreid.progress import Progress, Stopwatch
from vreid.reproduce.builders import StageBuilder
from vreid.reproduce.result_lines import Line, merge, write_lines
from vreid.reproduce.rows import AnyRow
from vreid.reproduce.schedule import (
    RELATIVE_SECONDS,
    available,
    longest_first,
    mean_seconds,
    missing_stages,
    tasks_of,
)
from vreid.reproduce.stages import Adapted, Evaluated, Model, PostProcessed, Stage
from vreid.retrieval.distances import Distances
from vreid.retrieval.evaluation.evaluate import evaluate_distances
from vreid.retrieval.evaluation.metrics import Metrics, interval
from vreid.retrieval.io.submission import LENGTH, SUBMISSION, write_submission
from vreid.retrieval.postprocessing.bias import Bias
from vreid.retrieval.postprocessing.ensemble import ensemble
from vreid.retrieval.postprocessing.pipeline import PostProcessing
from vreid.retrieval.ranking import rank
from vreid.retrieval_run import RetrievalRun
from vreid.training.extract import export_half

RESULTS = "results.jsonl"
SECONDS = "seconds"
LOCKS = "locks"
PAUSE = 1.0
"""Seconds to wait while other processes build all stages that this one needs."""
SUBMISSIONS, WEIGHTS = "submission", "weights"
NO_LABELS = "the test has no labels, so nothing is evaluated"
_NONE = "none: "
MAX_WEIGHTS = 16_000_000
"""Maximum size of a row's exported weights in bytes."""


@dataclass(frozen=True)
class Plan:
    """Stages that running rows would build.

    Attributes:
        rows: number of rows.
        done: number of rows with a line.
        missing: stages to build by kind, as "model/0123456789abcdef".
        seconds: estimated time, from earlier stages of the same kind in this cache or else the usual time; None if
            neither is known.
    """

    rows: int
    done: int
    missing: Mapping[str, tuple[str, ...]]
    seconds: float | None

    def describe(self) -> str:
        """Describe the plan in one sentence."""
        counts = ", ".join(f"{len(names)} x {kind}" for kind, names in self.missing.items())
        reported = f"{self.rows} rows, {self.done} of them done"
        if self.done == self.rows:
            return f"{reported}."
        known = "unknown until one is built" if self.seconds is None else f"about {duration(self.seconds)}"
        return f"{reported}; to build: {counts}; time: {known}." if counts else f"{reported}; to build: rankings only."


def plan(rows: Iterable[AnyRow], cache: Path | str, usual: Mapping[str, float] | None = None) -> Plan:
    """Plan what `run_rows` would build.

    Args:
        rows: rows of one or several tables.
        cache: the folder of stages and results.
        usual: usual seconds of a stage by kind, used if the cache has none of this kind.

    Raises:
        InputError: the lines of the cache are damaged, or a file that a row depends on is missing.
    """
    rows, cache = list(rows), Path(cache)
    done = {line.hash for line in _stored(cache).values() if not line.error}
    complete = partial(_complete, cache)
    names: dict[str, dict[str, None]] = {}
    for stage in missing_stages((row.evaluated for row in rows if row.hash not in done), complete):
        names.setdefault(stage.kind, {})[stage.name] = None
    begun = {name for of_kind in names.values() for name in of_kind}
    each = mean_seconds({name: took for name, took in seconds_taken(cache).items() if name not in begun}, usual or {})
    known = names.keys() <= each.keys()
    seconds = sum(len(of_kind) * each[kind] for kind, of_kind in names.items()) if known else None
    count = sum(row.hash in done for row in rows)
    return Plan(len(rows), count, {kind: tuple(of_kind) for kind, of_kind in names.items()}, seconds)


def seconds_taken(cache: Path) -> dict[str, float]:
    """Read the run time of each stage of a cache, by name ("model/0123456789abcdef")."""
    seconds: dict[str, float] = {}
    for file in sorted((cache / SECONDS).glob("*.json")):
        with parse_errors(file):
            seconds |= typed(dict[str, float], read_json(file), "seconds")
    return seconds


def _complete(cache: Path, stage: Stage) -> bool:
    return (cache / stage.name / stage.complete).is_file()


def run_rows(
    rows: Iterable[AnyRow],
    cache: Path | str,
    *,
    device: str = "cpu",
    workers: int | None = None,
    progress: Progress | None = None,
    usual: Mapping[str, float] | None = None,
    processes: int = 1,
) -> list[Line]:
    """Build the missing stages of rows, evaluate the rows and return their lines in order.

    The plan is reported first. A failed row does not stop the others: its line holds the error, and the next call tries
    it again. A failed stage is not tried again for other rows of the same call. What other processes do at the same
    time is awaited when nothing else is left to do.

    Args:
        rows: rows of one or several tables.
        cache: the folder of stages and results.
        device: device of training and extraction.
        workers: processes for simulation and image loading.
        progress: listener for the plan, the result of each row and the progress of stages.
        usual: as in `plan`.
        processes: number of processes that share the cache. One works row by row, so that results come early; several
            start with what most time depends on (`vreid.reproduce.schedule.longest_first`).

    Raises:
        InputError: as `plan`, or the cache cannot be written.

    Example:
        >>> lines = run_rows(rows, "runs/table", device="cuda")      # doctest: +SKIP
        >>> sys.exit(any(line.error for line in lines))              # doctest: +SKIP
    """
    rows, cache, progress = list(rows), Path(cache), progress or Progress()
    progress.note(plan(rows, cache, usual).describe())
    runner = _Runner(StageBuilder(cache, device, workers, progress))
    each = {**RELATIVE_SECONDS, **mean_seconds(seconds_taken(cache), usual or {})}
    waiting: dict[str, tuple[int, AnyRow]] = {}
    for number, row in enumerate(rows, start=1):
        waiting.setdefault(row.hash, (number, row))
    lines: dict[str, Line] = {}

    def done(line: Line, *, shown: bool) -> None:
        number, row = waiting.pop(line.hash)
        lines[line.hash] = line
        if shown:
            numbers = ", ".join(f"{name} {100 * value:.1f}" for name, value in line.numbers.items())
            became = line.error or numbers or f"{line.facts['labels']}; {line.facts['submission']}."
            progress.note(f"Row {number} of {len(rows)}, {row.name}: {' '.join([became, *line.notes])}")

    stored = _stored(cache)
    failed = {hash_ for hash_, line in stored.items() if line.error}  # earlier: these rows are tried again
    for hash_ in waiting.keys() & stored.keys() - failed:
        done(stored[hash_], shown=False)
    while waiting:
        stored = _stored(cache)
        for hash_ in [one for one in waiting if one in stored and one not in failed]:
            done(stored[hash_], shown=True)  # by another process
        finals = {row.evaluated: row for _, row in waiting.values()}
        tasks = runner.tasks(finals)
        if processes > 1:
            tasks = longest_first(tasks, lambda stage: each[stage.kind])
        for task in runner.possible(tasks):
            try:
                if task in finals:
                    done(runner.line(finals[task]), shown=True)
                else:
                    runner.make(task)
            except InUse:
                continue
            break
        else:
            if waiting:
                time.sleep(PAUSE)
    return [lines[row.hash] for row in rows]


def lock_place(cache: Path, name: str) -> Path:
    """Return the folder whose lock a process holds while it builds the stage `name` or writes the lines."""
    return cache / LOCKS / name.replace("/", "-")


def _stored(cache: Path) -> dict[str, Line]:
    """Read the lines of a cache by hash."""
    file = cache / RESULTS
    return {line.hash: line for line in merge([file])} if file.exists() else {}


class _Runner:
    """Builds stages and lines; remembers failed stages."""

    def __init__(self, builder: StageBuilder) -> None:
        self._builder = builder
        self._complete = partial(_complete, builder.cache)
        self._failed: dict[str, tuple[str, str]] = {}  # sentence and traceback by name of the stage

    def tasks(self, finals: Iterable[Stage]) -> list[Stage]:
        """List the tasks of rows, given by their final stages, row by row."""
        return tasks_of(finals, self._complete)

    def possible(self, tasks: list[Stage]) -> list[Stage]:
        """Select the tasks that can be done: their inputs exist, or it is clear that they never will."""
        missing = {task for task in tasks if task.complete}
        failed = {stage for stage in missing if stage.name in self._failed}
        lost = [task for task in tasks if not task.complete and not failed.isdisjoint(task.all)]
        return [*lost, *(task for task in available(tasks, missing) if task not in failed)]

    def line(self, row: AnyRow) -> Line:
        """Evaluate `row`, whose stages are complete or have failed, and write and return its line.

        Raises:
            InUse: another process is evaluating it.
        """
        cache = self._builder.cache
        with locked(lock_place(cache, row.evaluated.name)):
            stored = _stored(cache).get(row.hash)
            if stored and not stored.error:  # by another process
                return stored
            line = self._line(row)
            with locked(lock_place(cache, "results"), wait=True):
                write_lines(cache / RESULTS, (_stored(cache) | {line.hash: line}).values())
        return line

    def _line(self, row: AnyRow) -> Line:
        evaluated = row.evaluated
        facts: dict[str, Any] = {
            "initialisation": _initialisation(evaluated),
            "seeds": row.seeds,
            "judged on": {**environment_facts(), "device": self._builder.device},
        }
        about: dict[str, Any] = {"hash": row.hash, "name": row.name, "links": evaluated.links, "facts": facts}
        try:
            if missing := missing_stages([evaluated], self._complete):
                lost = [self._failed[stage.name] for stage in missing if stage.name in self._failed]
                error, trace = lost[0] if lost else (f"{missing[0].name}: is gone; run the same command again.", "")
                return Line(**{**about, "facts": facts | ({"traceback": trace} if trace else {})}, error=error)
            with self._timed(evaluated):
                facts["weights"] = self._export_weights(evaluated)
                search = self._search(evaluated, evaluated.members[0])
                distances = self._distances(evaluated)
                facts["submission"] = self._submission(row, distances)
                if search.query.records.identity.known.any():
                    metrics, queries = line_numbers(search, self._parts(evaluated, search, distances))
                elif facts["submission"].startswith(_NONE):
                    raise InputError(f"the test has no labels to evaluate by, and no track2.txt: {facts['submission']}")
                else:
                    facts["labels"] = NO_LABELS
                    metrics, queries = _unlabelled(distances, search), {}
        except InUse:
            raise
        except Exception as error:  # an error in one row must not stop the others
            if not isinstance(error, InputError):
                facts["traceback"] = traceback.format_exc()
            return Line(**about, error=_describe_error(error))
        adapted = any(isinstance(stage, Adapted) for stage in evaluated.all)
        metrics = _without_cache_path(metrics, self._builder.cache)
        metrics["transductive"] = metrics["transductive"] or adapted  # adapted to the test images
        metrics["notes"] = [*self._adaptation_notes(evaluated, search), *metrics["notes"]]
        facts |= {name: value for name, value in search.facts.items() if name != "model"}  # a path on this machine
        facts |= {"protocol": search.protocol.description, "adapted": adapted}
        environment = self._builder.folder(evaluated.members[0].features.first_model) / "environment.json"
        facts["trained on"] = read_json(environment) if environment.is_file() else {}
        seconds, took = dict[str, float](), seconds_taken(self._builder.cache)
        for stage in evaluated.all:
            if stage.name in took:
                seconds[stage.kind] = round(seconds.get(stage.kind, 0.0) + took[stage.name], 1)
        return Line(**about, metrics=metrics, queries=queries, seconds=seconds)

    def make(self, stage: Stage) -> None:
        """Build a stage, or remember why that failed.

        Raises:
            InUse: another process is building it.
        """
        try:
            with locked(lock_place(self._builder.cache, stage.name)), self._timed(stage):
                if not self._complete(stage):  # not built by another process
                    self._builder.build(stage)
        except InUse:
            raise
        except Exception as error:
            # as text: the traceback itself would keep the model in memory
            trace = "" if isinstance(error, InputError) else traceback.format_exc()
            self._failed[stage.name] = _describe_error(error), trace

    def _timed(self, stage: Stage) -> AbstractContextManager[None]:
        folder = self._builder.cache / SECONDS
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return Stopwatch(folder / f"{stage.name.replace('/', '-')}.json", in_empty_folder=True).stage(stage.name)

    def _distances(self, evaluated: Evaluated) -> Distances:
        """Compute the distances of the member, or of the ensemble."""
        members = [self._search(evaluated, member).distances(self._post(member)) for member in evaluated.members]
        return ensemble(members, evaluated.weights, evaluated.how)

    def _parts(self, evaluated: Evaluated, search: RetrievalRun, distances: Distances) -> Mapping[str, Metrics]:
        if search.protocol.repeats and len(evaluated.members) == 1:  # each drawn gallery is post-processed separately
            return search.evaluate(self._post(evaluated.members[0]))
        return search.apart(evaluate_distances(distances, search.protocol))

    def _export_weights(self, evaluated: Evaluated) -> dict[str, str]:
        """Export each member's model in half precision; return its path below the cache, or why there is none."""
        reported = {}
        for stage in dict.fromkeys(member.features.model for member in evaluated.members):
            name = f"{WEIGHTS}/{stage.hash}.safetensors"
            source, out = self._builder.folder(stage) / stage.complete, self._builder.cache / name
            if not out.exists():
                if not source.exists():
                    name = "none: the model was removed once its features were made"
                elif source.stat().st_size > 2 * MAX_WEIGHTS:
                    size = source.stat().st_size / 2e6
                    most = MAX_WEIGHTS / 1e6
                    name = f"none: {size:.0f} MB in half precision, more than {most:.0f} (vreid export)"
                else:
                    export_half(source, out)
            reported[stage.name] = name
        return reported

    def _adaptation_notes(self, evaluated: Evaluated, search: RetrievalRun) -> list[str]:
        """Notes on the scene groups of the adaptation."""
        stages = dict.fromkeys(stage.scenes for stage in evaluated.all if isinstance(stage, Adapted) and stage.scenes)
        images = Records.concat([search.query.records, search.gallery.records])
        return [f"stage 2, {self._builder.scene_groups(stage).describe(images, images)}" for stage in stages]

    def _search(self, evaluated: Evaluated, member: PostProcessed) -> RetrievalRun:
        search = RetrievalRun.load(self._builder.folder(member.features))
        return search.under(evaluated.protocol) if evaluated.protocol else search

    def _post(self, member: PostProcessed) -> PostProcessing:
        changes: dict[str, Any] = {
            name: Bias(weight, features=self._builder.folder(of)) for name, weight, of in member.biases
        }
        if member.scenes:
            changes["scene_groups"] = self._builder.scene_groups(member.scenes)
        return replace(member.post, **changes)

    def _submission(self, row: AnyRow, distances: Distances) -> str:
        """Write the row's track2.txt; return its path below the cache, or why there is none."""
        name = f"{SUBMISSIONS}/{row.hash}.txt"
        try:
            write_submission(rank(distances, SUBMISSION, top_k=LENGTH), self._builder.cache / name)
        except InputError as error:
            return f"{_NONE}{error}"
        return name


def _unlabelled(distances: Distances, search: RetrievalRun) -> dict[str, Any]:
    """Metrics of a row whose test has no labels: the protocol and the post-processing."""
    about = {name: getattr(distances, name) for name in ("steps", "reranked", "transductive", "notes")}
    return {"protocol": search.protocol.name, **{k: list(v) if isinstance(v, tuple) else v for k, v in about.items()}}


def _describe_error(error: Exception) -> str:
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"


def _initialisation(evaluated: Evaluated) -> str:
    """Describe the initial weights of the models of a row, except for those of crops and biases."""
    models: list[Model] = [member.features.first_model for member in evaluated.members]
    return " | ".join(dict.fromkeys(model.training.model.initialisation for model in models))


def line_numbers(search: RetrievalRun, parts: Mapping[str, Metrics]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compute the `metrics` and `queries` of a line."""
    whole, identity = parts[ALL], search.query.records.identity
    protocol = whole.protocol
    values = {
        protocol.full_metric: whole.average_precision,
        protocol.metric: whole.average_precision if whole.mAP_at_k is None else whole.average_precision_at_k,
        "rank1": np.where(whole.relevant > 0, whole.first_hit == 1, np.nan),
        "mINP": whole.inverse_negative_penalty,
    }
    metrics = {
        **whole.as_dict(),
        "intervals": {name: list(interval(whole, name)) for name in values},
        "parts": {part: of_part.as_dict() for part, of_part in parts.items()},
    }
    return metrics, {"identity": identity.values.tolist(), **{name: _plain(each) for name, each in values.items()}}


def _without_cache_path(metrics: Mapping[str, Any], cache: Path) -> dict[str, Any]:
    """Remove the path of the cache, which occurs in the steps that name features of a bias."""
    plain: dict[str, Any] = json.loads(json.dumps(metrics).replace(json.dumps(f"{cache}/")[1:-1], ""))
    return plain


def _plain(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 6) for value in values]
