"""A retrieval run: query and gallery features of one data set, with evaluation, ranking, calibration and reports.

Each method combines independent parts of the package; the algorithms are in `vreid.retrieval`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vreid.data.protocols import CROSS_CAMERA, MARKET, PROTOCOLS, Protocol
from vreid.data.readers.image_table import read_divided
from vreid.data.records import Labels, Records
from vreid.data.spellings import check_spellings
from vreid.diagnostics.slices import ALL, MATCH_BINS, QUERY_BINS, camera_parts, match_slices, slices
from vreid.errors import InputError, named
from vreid.files import parse_errors, read_json, write_json
from vreid.formats.facts import fact, typed
from vreid.locks import locking
from vreid.object_storage import below, is_address, normalised, written
from vreid.progress import Progress
from vreid.report.contents import ResultRow
from vreid.retrieval.distances import Distances, check_comparable
from vreid.retrieval.evaluation.ablation import AblationRow, ablation
from vreid.retrieval.evaluation.calibration import Threshold, calibrate
from vreid.retrieval.evaluation.evaluate import evaluate_retrieval
from vreid.retrieval.evaluation.metrics import Metrics, interval
from vreid.retrieval.evaluation.open_set import OpenSet, open_set
from vreid.retrieval.evaluation.open_set import leave_out as leave_out_vehicles
from vreid.retrieval.evaluation.tuning import Tuning, check_apart, tune
from vreid.retrieval.feature_shards import load_sides
from vreid.retrieval.features import FACTS, GALLERY_OF_QUERY, FeatureSet, Sides
from vreid.retrieval.io.external import SUFFIXES, load_features
from vreid.retrieval.postprocessing.ensemble import ALIKE, Fusion, check_same_images
from vreid.retrieval.postprocessing.pipeline import PostProcessing, search_all
from vreid.retrieval.ranking import Ranking, rank

if TYPE_CHECKING:
    from vreid.diagnostics.diagnosis import Diagnosis

SIDES = ("query", "gallery")


def write_facts(
    folder: Path | str,
    protocol: Protocol,
    facts: Mapping[str, str | int],
    trained_cameras: Sequence[str],
    *,
    once: bool,
) -> None:
    """Write features.json, which marks a folder of features as complete; `once`: every query is the gallery too."""
    content = {
        "protocol": asdict(protocol),
        "facts": dict(facts),
        "trained_cameras": list(trained_cameras),
        **({GALLERY_OF_QUERY: True} if once else {}),
    }
    with written(below(folder, FACTS)) as file:
        write_json(file, content)


Steps = Sequence[tuple[str, str, PostProcessing]]
"""Post-processings to compare: name, description, settings of each."""


@dataclass(frozen=True, eq=False)
class Evaluation(Mapping[str, Metrics]):
    """Metrics by part of the queries: all and, if some cameras are new to the model, seen and new cameras; or slices.

    Attributes:
        parts: metrics by name of the part.
        post: the post-processing.
    """

    parts: Mapping[str, Metrics]
    post: PostProcessing

    def __getitem__(self, part: str) -> Metrics:
        return self.parts[part]

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def overall(self) -> Metrics:
        """The metrics of all queries.

        Raises:
            InputError: these are metrics of slices.
        """
        if ALL not in self.parts:
            raise InputError(f"these are metrics of slices ({', '.join(self.parts)}); evaluate without `by` for all.")
        return self.parts[ALL]

    def __str__(self) -> str:
        metrics = next(iter(self.parts.values()))
        width = max(map(len, self.parts))
        lines = []
        for name, part in self.parts.items():
            low, high = (100 * value for value in interval(part, metrics.protocol.metric))
            lines.append(
                f"  {name:{width}}  {part.numbers}, {part.num_queries:,} queries "
                f"({metrics.protocol.metric} 95 %: {low:.1f} to {high:.1f})"
            )
        return "\n".join([f"{self.post.describe()}; {metrics.conditions}", *lines])

    __repr__ = __str__


@dataclass(frozen=True, eq=False)
class RetrievalRun:
    """Query and gallery features of one data set, and how they are evaluated.

    Post-processing is given as a `PostProcessing` or as its text ("camera-mean, rerank=7:2:0.6"); "" is plain search.

    Attributes:
        query, gallery: features of one model.
        protocol: how rankings are evaluated.
        trained_cameras: cameras with training images; queries of other cameras are also evaluated separately.
        facts: origin of the features, for reports ("data set": ..., "model": ...).
        others: query and gallery features of further models of the same images; distances are fused over all.
        fusion: how they are fused.

    Example:
        >>> run = RetrievalRun.load("features")                        # doctest: +SKIP
        >>> print(run.evaluate("rerank=7:2:0.6"))                      # doctest: +SKIP
        >>> run.rank("rerank=7:2:0.6", top_k=10).save("ranking.csv")   # doctest: +SKIP
    """

    query: FeatureSet
    gallery: FeatureSet
    protocol: Protocol
    trained_cameras: tuple[str, ...] = ()
    facts: Mapping[str, str | int] = field(default_factory=dict)
    others: tuple[Sides, ...] = ()
    fusion: Fusion = ALIKE

    def __repr__(self) -> str:
        models = f", {1 + len(self.others)} models" if self.others else ""
        return (
            f"RetrievalRun of {self.facts.get('data set', 'features')}{models}\n  query    {self.query}\n"
            f"  gallery  {self.gallery}\n  protocol {self.protocol.description}"
        )

    @classmethod
    def load(cls, *features: Path | str, records: Path | str | None = None) -> RetrievalRun:
        """Load features of one model, or of several as an ensemble; protocol and facts are those of the first.

        Args:
            features: folders that `vreid.extract` or `save` has written, or files of other programs (see
                `load_features`).
            records: a table that describes the rows of a file (`vreid.data.readers.image_table`); its images need not
                exist. With a split column it is evaluated as Market-1501, without one every image is a query against
                all other cameras.

        Raises:
            InputError: a folder holds no features or is incomplete; a file or the table cannot be used; or several
                models are not of the same images in the same order.
        """
        if not features:
            raise InputError("RetrievalRun.load: give a folder or a file of features.")
        first, *further = (cls._load_one(_local(source), records) for source in features)
        for source, other in zip(features[1:], further, strict=True):
            for side in SIDES:
                check_same_images(getattr(first, side).records, getattr(other, side).records, f"{source}, {side}")
        facts = {**first.facts, "ensemble": f"{len(features)} models"} if further else first.facts
        return replace(first, facts=facts, others=tuple((other.query, other.gallery) for other in further))

    @classmethod
    def _load_one(cls, folder: Path, records: Path | str | None) -> RetrievalRun:
        if folder.is_file() or (folder.suffix.lower() in SUFFIXES and not folder.is_dir()):
            return cls._load_file(folder, None if records is None else Path(records))
        if records is not None:
            raise InputError(f"{folder}: features written by `vreid extract` include their records; give no table.")
        if not (folder / FACTS).is_file():
            raise InputError(
                f"{folder}: holds no {FACTS}; give a folder written by `vreid extract`, or a file of features "
                f"({', '.join(SUFFIXES)})."
            )
        stored = read_json(folder / FACTS)
        with parse_errors(folder / FACTS):
            stored = typed(dict[str, Any], stored, "its content")
            protocol, facts = fact(stored, "protocol", Protocol), fact(stored, "facts", dict[str, Any])
            trained_cameras = fact(stored, "trained_cameras", tuple[str, ...])
        query, gallery = load_sides(folder)
        with parse_errors(folder):
            check_comparable(query, gallery)
        return cls(query, gallery, protocol, trained_cameras, facts)

    @classmethod
    def _load_file(cls, features: Path, table: Path | None) -> RetrievalRun:
        records = None if table is None else read_divided(table)[0]
        query, gallery = load_features(features, records)
        with parse_errors(table or features):  # to say which file it is
            check_spellings(query.records, gallery.records)
        trained: tuple[str, ...] = ()
        facts = {"data set": features.stem if table is None else table.stem, "features": str(features)}
        if records is not None:
            cameras = records.camera[records.split.values == "train"]
            trained = tuple(sorted(set(cameras.values[cameras.known])))
        return cls(query, gallery, CROSS_CAMERA if query is gallery else MARKET, trained, facts)

    @locking("folder")
    def save(self, folder: Path | str) -> None:
        """Write the features and what `load` needs into `folder`.

        Raises:
            InputError: these are features of several models, or the folder cannot be written.
        """
        if self.others:
            raise InputError(f"{folder}: a folder holds the features of one model; save each model separately.")
        Path(folder, FACTS).unlink(missing_ok=True)  # written last: without it the folder is incomplete
        self.query.save(Path(folder) / "query.safetensors")
        if self.query is not self.gallery:
            self.gallery.save(Path(folder) / "gallery.safetensors")
        self.save_facts(folder)

    def save_facts(self, folder: Path | str) -> None:
        """Write features.json next to the features; written last, it marks the folder as complete."""
        write_facts(folder, self.protocol, self.facts, self.trained_cameras, once=self.query is self.gallery)

    def under(self, protocol: Protocol | str) -> RetrievalRun:
        """Return the same run evaluated by `protocol` or the one of that name; junk lists of the data set stay.

        Raises:
            InputError: there is no protocol of that name.
        """
        if isinstance(protocol, str):
            protocol = named("protocol", PROTOCOLS, protocol)
        return replace(self, protocol=protocol.with_junk_of(self.protocol))

    def evaluate(self, post: PostProcessing | str = "", by: str = "") -> Evaluation:
        """Evaluate all queries and, if some cameras are new to the model, seen and new cameras separately; or slices.

        Args:
            post: the post-processing.
            by: slices by a property of the query (color, size, ...) or of query and match (camera-pair, gap).

        Raises:
            InputError: as `evaluate_retrieval`, or `by` is not a known property, or no query has a value for it.
        """
        post = _post(post)
        if by in MATCH_BINS:
            return Evaluation(match_slices(self.distances(post), self.protocol, by), post)
        if by and by not in QUERY_BINS:
            raise InputError(f"slices by {by!r} are unknown; use one of {', '.join([*MATCH_BINS, *QUERY_BINS])}.")
        metrics = evaluate_retrieval(self.query, self.gallery, post, self.protocol, self.others, self.fusion)
        return Evaluation(slices(metrics, self.query.records, by) if by else self.apart(metrics), post)

    def apart(self, metrics: Metrics) -> dict[str, Metrics]:
        """Split metrics of these queries: all and, if some cameras are new to the model, seen and new cameras."""
        seen = Records.of(path=list(self.trained_cameras), camera=Labels.of(self.trained_cameras))
        parts = camera_parts(seen, self.query.records)
        return {name: metrics.of(mask) for name, mask in parts.items() if (metrics.relevant[mask] > 0).any()}

    def result_rows(self, steps: Steps) -> list[ResultRow]:
        """Evaluate each post-processing; return one row of a report for each."""
        made = []
        for name, description, post in steps:
            parts = self.evaluate(post)
            made.append(ResultRow(name, " ".join([description, *parts[ALL].notes]), parts))
        return made

    def ablate(self, post: PostProcessing | str) -> list[AblationRow]:
        """Measure the effect of each step of `post`: cumulative and leave-one-out ablation.

        Raises:
            InputError: as `ablation`.
        """
        return ablation(_post(post), self.query, self.gallery, self.protocol, others=self.others, fusion=self.fusion)

    def tune(
        self,
        post: PostProcessing | str,
        validation: RetrievalRun | Sequence[RetrievalRun],
        *,
        progress: Progress | None = None,
    ) -> Tuning:
        """Choose the parameters of `post` on validation features, which must be disjoint from this run.

        Args:
            post: the steps and their initial parameters.
            validation: features of other images by the same model; with several, their mean decides.
            progress: listener, counts settings.

        Raises:
            InputError: this is an ensemble, validation shares vehicles or images with this run, or as
                `vreid.retrieval.evaluation.tuning.tune`.
        """
        if self.others:
            raise InputError("tune: takes the features of one model; tune each member separately.")
        runs = [validation] if isinstance(validation, RetrievalRun) else list(validation)
        for number, other in enumerate(runs, start=1):
            try:
                check_apart(
                    (other.query, other.gallery),
                    (self.query, self.gallery),
                    same_source=other._source == self._source,
                )
            except InputError as error:
                name = other.facts.get("data set", "features")
                raise InputError(f"validation {number} of {len(runs)} ({name}): {error}") from None
        return tune(_post(post), [((run.query, run.gallery), run.protocol) for run in runs], progress=progress)

    @property
    def _source(self) -> tuple[str | int | None, ...]:
        """Identify the data set of the features; simulated data sets with the same layout and seed are one."""
        return tuple(self.facts.get(fact) for fact in ("data set", "layout", "seed"))

    def open_set(self, post: PostProcessing | str = "", *, leave_out: float = 0, seed: int = 0) -> OpenSet:
        """Evaluate open-set identification: queries with and without a match in the gallery.

        Args:
            post: the post-processing.
            leave_out: share of the vehicles to remove from the gallery, so that their queries have no match.
            seed: seed of the choice of these vehicles.

        Raises:
            InputError: all queries have a match, or none has; or as `vreid.retrieval.leave_out`.
        """
        run, left_out = self, 0
        if leave_out:
            stays = leave_out_vehicles(self.query.records, self.gallery.records, leave_out, seed)
            left_out = self.gallery.records[~stays].identity.distinct
            others = tuple((query, gallery[stays]) for query, gallery in self.others)
            run = replace(self, gallery=self.gallery[stays], others=others)
        return open_set(run.distances(post), self.protocol, left_out=left_out)

    def calibrate(
        self,
        post: PostProcessing | str = "",
        *,
        fpir: float = 0.01,
        miss_rate: float = 0.05,
        leave_out: float = 0,
        seed: int = 0,
    ) -> Threshold:
        """Calibrate the distance thresholds of MATCH and NO MATCH on this run, which must be validation data.

        Args:
            post: the post-processing.
            fpir: acceptable share of queries without a match that get a MATCH.
            miss_rate: acceptable share of queries with a match whose matches all get a NO MATCH.
            leave_out, seed: as in `open_set`.

        Raises:
            InputError: too few queries for such rates, or as `open_set`.
        """
        return calibrate(self.open_set(post, leave_out=leave_out, seed=seed), fpir=fpir, miss_rate=miss_rate)

    def rank(self, post: PostProcessing | str = "", top_k: int | None = None, *, per_tracklet: bool = False) -> Ranking:
        """Rank the whole gallery for each query (or query tracklet) under the protocol's exclusions."""
        return rank(self.distances(post), self.protocol, top_k=top_k, per_tracklet=per_tracklet)

    def distances(self, post: PostProcessing | str = "") -> Distances:
        """Compute the distances after the steps of `post` and those that the protocol prescribes."""
        sides = [(self.query, self.gallery), *self.others]
        return search_all(sides, _post(post).under(self.protocol, self.query), self.fusion)

    def report(
        self,
        path: Path | str,
        post: PostProcessing | str = "",
        *,
        run: Path | str | None = None,
        diagnosis: Diagnosis | None = None,
    ) -> None:
        """Write a self-contained HTML report: plain search, the chosen post-processing, and its ranked lists.

        Args:
            path: path of the page.
            post: the post-processing.
            run: run folder of the model, for its loss curves.
            diagnosis: result of `vreid.diagnostics.diagnose.diagnose`.

        Raises:
            InputError: as `evaluate`, or the page cannot be written.
        """
        from vreid.report.features_report import features_report
        from vreid.report.page import write_report
        from vreid.training.metrics_log import read_metrics

        post, plain = _post(post).of(self.query), PostProcessing().of(self.query)
        without = replace(post, reranking=None)
        norm = "unnormalised (norm=raw)" if plain.raw else "L2-normalised"
        rows = [("plain", f"Squared Euclidean distance of the features, {norm}.", plain)]
        if without != plain:
            rows.append(("+ chosen steps", f"{without.describe()}.", without))
        if post != without:
            rows.append(("+ re-ranking", f"{post.describe()}.", post))
        page = features_report(
            self.facts,
            self.result_rows(rows) if self.labelled else [],
            self.rank(post, top_k=len(self.gallery)),
            ranking_name=rows[-1][0],
            training=None if run is None else read_metrics(Path(run) / "metrics.jsonl"),
            diagnosis=diagnosis,
        )
        write_report(page, path)

    def with_features(self, make: Callable[[Records], FeatureSet]) -> RetrievalRun:
        """Return the same run with other features, for example of a baseline."""
        sides = make(self.query.records), make(self.gallery.records)
        return replace(self, query=sides[0], gallery=sides[1], others=(), fusion=ALIKE)

    @property
    def labelled(self) -> bool:
        """Whether every query has an identity, so that rankings can be evaluated."""
        return bool(np.all(self.query.records.identity.codes != -1))


def _local(source: Path | str) -> Path:
    """Return the path of features on this machine; file:// addresses are such paths."""
    if is_address(source):
        raise InputError(
            f"{normalised(source)}: features are read from this machine; copy the folder here and name that."
        )
    return Path(normalised(source))


def _post(post: PostProcessing | str) -> PostProcessing:
    return PostProcessing.parse(post) if isinstance(post, str) else post
