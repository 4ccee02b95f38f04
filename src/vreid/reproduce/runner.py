"""Run rows: build each stage once, in a folder named by its hash, and write one line of results per row.

CACHE/KIND/HASH        a stage: a world, a training run, crops, translations, an adaptation, query and gallery features
CACHE/submission/HASH  the track2.txt of a row
CACHE/weights/HASH     the model of a row in half precision, if it takes at most 16 MB
CACHE/seconds/         run time of each stage
CACHE/results.jsonl    the lines, replaced as a whole after each row
CACHE/locks/           locks of the stages that are being built

Interrupted stages are resumed. Several processes on one machine may share a cache; each builds stages that no other is
building. Several machines have a cache each, and their lines are merged with
`write_lines(CACHE/results.jsonl, merge(files))`, after which they count as done. A finished stage does not need its
inputs, so worlds and runs may be removed once the features exist.
"""

from __future__ import annotations

import json
import time
import traceback
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
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
    missing = [stage for stage in _missing([row.evaluated for row in rows if row.hash not in done], cache)]
    took = seconds_taken(cache)
    names: dict[str, dict[str, None]] = {}
    for stage in missing:
        names.setdefault(stage.kind, {})[stage.name] = None
    seconds: float | None = 0.0
    for kind, of_kind in names.items():
        before = [took[name] for name in took if name.startswith(f"{kind}/") and name not in of_kind]
        each = sum(before) / len(before) if before else (usual or {}).get(kind)
        seconds = None if seconds is None or each is None else seconds + len(of_kind) * each
    count = sum(row.hash in done for row in rows)
    return Plan(len(rows), count, {kind: tuple(of_kind) for kind, of_kind in names.items()}, seconds)


def seconds_taken(cache: Path) -> dict[str, float]:
    """Read the run time of each stage of a cache, by name ("model/0123456789abcdef")."""
    seconds: dict[str, float] = {}
    for file in sorted((cache / SECONDS).glob("*.json")):
        with parse_errors(file):
            seconds |= typed(dict[str, float], read_json(file), "seconds")
    return seconds


def _missing(wanted: Iterable[Stage], cache: Path) -> list[Stage]:
    """List the missing stages needed for `wanted`, in topological order."""
    found: dict[Stage, None] = {}

    def look(stage: Stage) -> None:
        if stage in found or (stage.complete and (cache / stage.name / stage.complete).is_file()):
            return
        for needed in stage.inputs:
            look(needed)
        if stage.complete:
            found[stage] = None

    for stage in wanted:
        look(stage)
    return list(found)


def run_rows(
    rows: Iterable[AnyRow],
    cache: Path | str,
    *,
    device: str = "cpu",
    workers: int | None = None,
    progress: Progress | None = None,
    usual: Mapping[str, float] | None = None,
) -> list[Line]:
    """Build the missing stages of rows, evaluate the rows and return their lines in order.

    The plan is reported first. A failed row does not stop the others: its line holds the error, and the next call tries
    it again. A failed stage is not tried again for other rows of the same call.

    Args:
        rows: rows of one or several tables.
        cache: the folder of stages and results.
        device: device of training and extraction.
        workers: processes for simulation and image loading.
        progress: listener for the plan, the result of each row and the progress of stages.
        usual: as in `plan`.

    Raises:
        InputError: as `plan`, or the cache cannot be written.

    Example:
        >>> lines = run_rows(rows, "runs/table", device="cuda")      # doctest: +SKIP
        >>> sys.exit(any(line.error for line in lines))              # doctest: +SKIP
    """
    rows, cache, progress = list(rows), Path(cache), progress or Progress()
    progress.note(plan(rows, cache, usual).describe())
    runner = _Runner(StageBuilder(cache, device, workers, progress))
    lines: dict[str, Line] = {}
    waiting, passed_over = deque(enumerate(rows, start=1)), 0
    while waiting:
        number, row = waiting.popleft()
        if row.hash in lines:
            continue
        stored = _stored(cache).get(row.hash)
        if stored and not stored.error:  # done earlier, or by another process
            lines[row.hash] = stored
            continue
        try:
            line = lines[row.hash] = runner.line(row)
        except InUse:
            waiting.append((number, row))
            passed_over += 1
            if passed_over >= len(waiting):
                time.sleep(PAUSE)
                passed_over = 0
            continue
        passed_over = 0
        with locked(lock_place(cache, "results"), wait=True):
            write_lines(cache / RESULTS, (_stored(cache) | {line.hash: line}).values())
        numbers = ", ".join(f"{name} {100 * value:.1f}" for name, value in line.numbers.items())
        became = line.error or numbers or f"{line.facts['labels']}; {line.facts['submission']}."
        progress.note(f"Row {number} of {len(rows)}, {row.name}: {' '.join([became, *line.notes])}")
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
        self._failed: dict[str, str] = {}

    def line(self, row: AnyRow) -> Line:
        """Run `row` and return its line."""
        evaluated = row.evaluated
        facts: dict[str, Any] = {
            "initialisation": _initialisation(evaluated),
            "seeds": row.seeds,
            "judged on": {**environment_facts(), "device": self._builder.device},
        }
        about: dict[str, Any] = {"hash": row.hash, "name": row.name, "links": evaluated.links, "facts": facts}
        try:
            for stage in _missing([evaluated], self._builder.cache):
                self._make(stage)
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

    def _make(self, stage: Stage) -> None:
        if stage.name in self._failed:
            raise InputError(self._failed[stage.name])
        try:
            with locked(lock_place(self._builder.cache, stage.name)), self._timed(stage):
                if not (self._builder.folder(stage) / stage.complete).is_file():  # not built by another process
                    self._builder.build(stage)
        except InUse:
            raise
        except Exception as error:
            self._failed[stage.name] = _describe_error(error)  # a stored traceback would keep the model in memory
            raise

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
