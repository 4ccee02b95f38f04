"""The row runner: each stage of each row in a folder named by its hash, nothing made twice, one line a row.

CACHE/KIND/HASH        a stage: a world, a training run, crops, translations, an adaptation, query and gallery features
CACHE/submission/HASH  the track2.txt of a row
CACHE/weights/HASH     the model of a row in half precision, to be carried elsewhere, where that takes at most 16 MB
CACHE/seconds/         what each of them took
CACHE/results.jsonl    the lines, replaced as a whole after each row
CACHE/locks/           which process makes what, while it does

A stage resumes what a killed process has left of it. Several processes of one machine may work in a cache: each makes
what no other is making. Several machines have a cache each, and their lines are merged:
`write_lines(CACHE/results.jsonl, merge(files))` makes them count as done. A stage that is there needs none of those
before it, so worlds and runs may be removed once the features are made.
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
"""Seconds until a process looks again, where others make all that it could make."""
SUBMISSIONS, WEIGHTS = "submission", "weights"
NO_LABELS = "the test has no labels, so nothing is evaluated"
_NONE = "none: "
CARRIED = 16_000_000
"""Bytes of a row's weights at most."""


@dataclass(frozen=True)
class Plan:
    """What running rows would take.

    Attributes:
        rows: how many there are; done: how many of them have their line.
        missing: by kind, the stages that are yet to be made, as "model/0123456789abcdef".
        seconds: what that takes if each takes as long as those of its kind made in this cache before, or else as is
            usual; None where neither is known.
    """

    rows: int
    done: int
    missing: Mapping[str, tuple[str, ...]]
    seconds: float | None

    def describe(self) -> str:
        """One sentence."""
        counts = ", ".join(f"{len(names)} x {kind}" for kind, names in self.missing.items())
        reported = f"{self.rows} rows, {self.done} of them done"
        if self.done == self.rows:
            return f"{reported}."
        known = "not known before one is made" if self.seconds is None else f"about {duration(self.seconds)}"
        return (
            f"{reported}; to make: {counts}; time: {known}."
            if counts
            else f"{reported}; to make: nothing but rankings."
        )


def plan(rows: Iterable[AnyRow], cache: Path | str, usual: Mapping[str, float] | None = None) -> Plan:
    """What `run_rows` would make, without making it.

    Args:
        rows: a table, or several.
        cache: the folder of everything made.
        usual: seconds of a stage by its kind, where this cache has none yet.

    Raises:
        InputError: the cache's lines are damaged, or a file that decides a row is absent.
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
    """What each stage of a cache took, as "model/0123456789abcdef"."""
    seconds: dict[str, float] = {}
    for file in sorted((cache / SECONDS).glob("*.json")):
        with parse_errors(file):
            seconds |= typed(dict[str, float], read_json(file), "seconds")
    return seconds


def _missing(wanted: Iterable[Stage], cache: Path) -> list[Stage]:
    """The stages that are not there and needed for `wanted`, each before what needs it."""
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
    """Make what the rows need and is not there, judge them, and return their lines, in order.

    The plan is told first. A row that fails does not stop the others: its line says why, and the next call tries it
    again. What several rows need is tried once.

    Args:
        rows: a table, or several.
        cache: the folder of everything made and of the lines.
        device: of training and extraction.
        workers: processes that simulate and that load images.
        progress: listener; the plan, each row's result and the stages' own progress.
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
        if stored and not stored.error:  # before, or by another process
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
    """The folder whose lock a process holds while it makes the stage `name`, or writes the lines."""
    return cache / LOCKS / name.replace("/", "-")


def _stored(cache: Path) -> dict[str, Line]:
    """The lines of a cache by hash."""
    file = cache / RESULTS
    return {line.hash: line for line in merge([file])} if file.exists() else {}


class _Runner:
    """Makes stages and lines; remembers which stages failed."""

    def __init__(self, builder: StageBuilder) -> None:
        self._shop = builder
        self._failed: dict[str, str] = {}

    def line(self, row: AnyRow) -> Line:
        """The line of `row`, which is tried whatever was before."""
        evaluated = row.evaluated
        facts: dict[str, Any] = {
            "initialisation": _initialisation(evaluated),
            "seeds": row.seeds,
            "judged on": {**environment_facts(), "device": self._shop.device},
        }
        about: dict[str, Any] = {"hash": row.hash, "name": row.name, "links": evaluated.links, "facts": facts}
        try:
            for stage in _missing([evaluated], self._shop.cache):
                self._make(stage)
            with self._timed(evaluated):
                facts["weights"] = self._carried(evaluated)
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
        except Exception as error:  # one row's mistake, or ours, must not lose the others
            if not isinstance(error, InputError):
                facts["traceback"] = traceback.format_exc()
            return Line(**about, error=_report_error(error))
        adapted = any(isinstance(stage, Adapted) for stage in evaluated.all)
        metrics = _unplaced(metrics, self._shop.cache)
        metrics["transductive"] = metrics["transductive"] or adapted  # on the very images that are searched
        metrics["notes"] = [*self._of_adaptation(evaluated, search), *metrics["notes"]]
        facts |= {name: value for name, value in search.facts.items() if name != "model"}  # where it lies, here
        facts |= {"protocol": search.protocol.description, "adapted": adapted}
        environment = self._shop.folder(evaluated.members[0].features.first_model) / "environment.json"
        facts["trained on"] = read_json(environment) if environment.is_file() else {}
        seconds, took = dict[str, float](), seconds_taken(self._shop.cache)
        for stage in evaluated.all:
            if stage.name in took:
                seconds[stage.kind] = round(seconds.get(stage.kind, 0.0) + took[stage.name], 1)
        return Line(**about, metrics=metrics, queries=queries, seconds=seconds)

    def _make(self, stage: Stage) -> None:
        if stage.name in self._failed:
            raise InputError(self._failed[stage.name])
        try:
            with locked(lock_place(self._shop.cache, stage.name)), self._timed(stage):
                if not (self._shop.folder(stage) / stage.complete).is_file():  # somebody else was quicker
                    self._shop.make(stage)
        except InUse:
            raise
        except Exception as error:
            self._failed[stage.name] = _report_error(error)  # not itself: its traceback would keep the model in memory
            raise

    def _timed(self, stage: Stage) -> AbstractContextManager[None]:
        folder = self._shop.cache / SECONDS
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return Stopwatch(folder / f"{stage.name.replace('/', '-')}.json", in_empty_folder=True).stage(stage.name)

    def _distances(self, evaluated: Evaluated) -> Distances:
        """The distances of the member, or of all members joined."""
        members = [self._search(evaluated, member).distances(self._post(member)) for member in evaluated.members]
        return ensemble(members, evaluated.weights, evaluated.how)

    def _parts(self, evaluated: Evaluated, search: RetrievalRun, distances: Distances) -> Mapping[str, Metrics]:
        if search.protocol.repeats and len(evaluated.members) == 1:  # each drawn gallery is post-processed by itself
            return search.evaluate(self._post(evaluated.members[0]))
        return search.apart(evaluate_distances(distances, search.protocol))

    def _carried(self, evaluated: Evaluated) -> dict[str, str]:
        """Where each member's model lies below the cache in half precision, or why it does not; by its stage."""
        reported = {}
        for stage in dict.fromkeys(member.features.model for member in evaluated.members):
            name = f"{WEIGHTS}/{stage.hash}.safetensors"
            source, out = self._shop.folder(stage) / stage.complete, self._shop.cache / name
            if not out.exists():
                if not source.exists():
                    name = "none: the model was removed once its features were made"
                elif source.stat().st_size > 2 * CARRIED:
                    size = source.stat().st_size / 2e6
                    name = (
                        f"none: {size:.0f} MB in half precision, more than {CARRIED / 1e6:.0f} (vreid weights export)"
                    )
                else:
                    export_half(source, out)
            reported[stage.name] = name
        return reported

    def _of_adaptation(self, evaluated: Evaluated, search: RetrievalRun) -> list[str]:
        """What telling scene groups apart meant in stage 2."""
        stages = dict.fromkeys(stage.scenes for stage in evaluated.all if isinstance(stage, Adapted) and stage.scenes)
        images = Records.concat([search.query.records, search.gallery.records])
        return [f"stage 2, {self._shop.scene_groups(stage).describe(images, images)}" for stage in stages]

    def _search(self, evaluated: Evaluated, member: PostProcessed) -> RetrievalRun:
        search = RetrievalRun.load(self._shop.folder(member.features))
        return search.under(evaluated.protocol) if evaluated.protocol else search

    def _post(self, member: PostProcessed) -> PostProcessing:
        made: dict[str, Any] = {
            name: Bias(weight, features=self._shop.folder(of)) for name, weight, of in member.biases
        }
        if member.scenes:
            made["scene_groups"] = self._shop.scene_groups(member.scenes)
        return replace(member.post, **made)

    def _submission(self, row: AnyRow, distances: Distances) -> str:
        """The name of the track2.txt below the cache, or why there is none."""
        name = f"{SUBMISSIONS}/{row.hash}.txt"
        try:
            write_submission(rank(distances, SUBMISSION, top_k=LENGTH), self._shop.cache / name)
        except InputError as error:
            return f"{_NONE}{error}"
        return name


def _unlabelled(distances: Distances, search: RetrievalRun) -> dict[str, Any]:
    """What is known of a row whose test has no labels."""
    about = {name: getattr(distances, name) for name in ("steps", "reranked", "transductive", "notes")}
    return {"protocol": search.protocol.name, **{k: list(v) if isinstance(v, tuple) else v for k, v in about.items()}}


def _report_error(error: Exception) -> str:
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"


def _initialisation(evaluated: Evaluated) -> str:
    """Where the models of a row started, but for those of its crops and biases."""
    models: list[Model] = [member.features.first_model for member in evaluated.members]
    return " | ".join(dict.fromkeys(model.training.model.initialisation for model in models))


def line_numbers(search: RetrievalRun, parts: Mapping[str, Metrics]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metrics of a line, and its queries."""
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


def _unplaced(metrics: Mapping[str, Any], cache: Path) -> dict[str, Any]:
    """The same without the place of the cache, which is in the steps that name features of a bias."""
    plain: dict[str, Any] = json.loads(json.dumps(metrics).replace(json.dumps(f"{cache}/")[1:-1], ""))
    return plain


def _plain(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 6) for value in values]
