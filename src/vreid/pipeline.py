"""The way from a data set and a model to judged rankings, as the commands and the demo walk it.

Everything here joins parts that know nothing of each other; no method lives here.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from vreid.data.dataset import Dataset, fingerprint
from vreid.data.protocols import CROSS_CAMERA, MARKET, Protocol
from vreid.data.readers.image_table import read_divided
from vreid.data.records import BOX_COLUMNS, Labels, Records
from vreid.data.spellings import check_spellings
from vreid.diagnostics.slices import ALL, MATE_BINS, QUERY_BINS, camera_parts, mate_slices, slices
from vreid.errors import InputError
from vreid.files import atomic_write, parse_errors, read_json, read_lines_bounded, write_json
from vreid.formats.facts import fact, typed
from vreid.locks import locking
from vreid.report.contents import LadderRow, Report
from vreid.retrieval.distances import Distances, check_comparable
from vreid.retrieval.evaluation.calibration import DECISIONS, Decisions
from vreid.retrieval.evaluation.metrics import Metrics, interval
from vreid.retrieval.evaluation.open_set import OpenSet, leave_out, open_set
from vreid.retrieval.features import FACTS, GALLERY_OF_QUERY, FeatureSet, load_sides
from vreid.retrieval.io.external import SUFFIXES, load_features
from vreid.retrieval.postprocessing.ensemble import ALIKE, Fusion, check_same_images
from vreid.retrieval.postprocessing.pipeline import PostProcessing, Sides, judge, search_all
from vreid.retrieval.ranking import Ranking, rank
from vreid.threads import describe_threads

SIMULATED = "Measured on simulated data: it shows that the code works, not that it works on roads."
SIDES = ("query", "gallery")

Ladder = Sequence[tuple[str, str, PostProcessing]]
"""Rows of (name, what it adds in words, post-processing)."""


@dataclass(frozen=True, eq=False)
class Search:
    """Query and gallery features of one data set, with all that judging them needs.

    Attributes:
        query, gallery: features of one model.
        protocol: how rankings are judged.
        others: query and gallery features of further models of the same images; distances are joined over all.
        fusion: how they are joined.
        trained_cameras: cameras that took training images; the queries are also judged apart by it.
        facts: what made the features, for reports ("data set": ..., "model": ...).
    """

    query: FeatureSet
    gallery: FeatureSet
    protocol: Protocol
    trained_cameras: tuple[str, ...] = ()
    facts: Mapping[str, str | int] = field(default_factory=dict)
    others: tuple[Sides, ...] = ()
    fusion: Fusion = ALIKE

    def save_facts(self, folder: Path | str) -> None:
        """Write features.json beside the features (last: with it the folder is complete)."""
        write_json(
            Path(folder) / FACTS,
            {
                "protocol": asdict(self.protocol),
                "facts": dict(self.facts),
                "trained_cameras": list(self.trained_cameras),
                **({GALLERY_OF_QUERY: True} if self.query is self.gallery else {}),
            },
        )

    @classmethod
    def load_all(cls, features: Sequence[Path | str], records: Path | str | None = None) -> Search:
        """The features of several models as one search (an ensemble); protocol and facts are those of the first.

        Raises:
            InputError: as `load`, or they are not of the same images in the same order.
        """
        first, *further = (cls.load(source, records) for source in features)
        for source, other in zip(features[1:], further, strict=True):
            for side in SIDES:
                check_same_images(getattr(first, side).records, getattr(other, side).records, f"{source}, {side}")
        facts = {**first.facts, "ensemble": f"{len(features)} models"} if further else first.facts
        return replace(first, facts=facts, others=tuple((other.query, other.gallery) for other in further))

    @classmethod
    def load(cls, features: Path | str, records: Path | str | None = None) -> Search:
        """Read a folder that `extract_dataset` has written, or a file of another program (see `load_features`).

        Args:
            features: the folder or the file.
            records: a table that describes the rows of a file (`vreid.data.readers.image_table`); its images need not
                exist. With a split column it is judged as Market-1501, without one every image is a query against all
                other cameras.

        Raises:
            InputError: the folder is no folder of features, or is incomplete; the file or the table cannot be used.
        """
        folder = Path(features)
        if folder.is_file() or (folder.suffix.lower() in SUFFIXES and not folder.is_dir()):
            return cls._load_file(folder, None if records is None else Path(records))
        if records is not None:
            raise InputError(f"{folder}: features that `vreid extract` has written know their records; give no table.")
        if not (folder / FACTS).is_file():
            raise InputError(
                f"{folder}: holds no {FACTS}; give a folder that `vreid extract` has written, or a file of features "
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
    def _load_file(cls, features: Path, table: Path | None) -> Search:
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

    def judge(self, post: PostProcessing) -> dict[str, Metrics]:
        """Metrics of all queries and, where some cameras are new to the model, of both kinds apart."""
        return self.apart(judge(self.query, self.gallery, post, self.protocol, self.others, self.fusion))

    def apart(self, metrics: Metrics) -> dict[str, Metrics]:
        """Metrics of these queries, whole and, where some cameras are new to the model, of both kinds apart."""
        seen = Records.of(path=list(self.trained_cameras), camera=Labels.of(self.trained_cameras))
        parts = camera_parts(seen, self.query.records)
        return {name: metrics.of(mask) for name, mask in parts.items() if (metrics.relevant[mask] > 0).any()}

    def under(self, protocol: Protocol) -> Search:
        """The same search judged by `protocol`; where it removes what the data set's own does, with its junk lists."""
        return replace(self, protocol=protocol.with_junk_of(self.protocol))

    def ladder(self, rows: Ladder) -> list[LadderRow]:
        """One judged row for each post-processing."""
        made = []
        for name, description, post in rows:
            parts = self.judge(post)
            made.append(LadderRow(name, " ".join([description, *parts[ALL].notes]), parts))
        return made

    def rank(self, post: PostProcessing, top_k: int | None = None, *, per_tracklet: bool = False) -> Ranking:
        """The ordered gallery images of each query (or query tracklet) under the protocol's exclusions; none drawn."""
        return rank(self.distances(post), self.protocol, top_k=top_k, per_tracklet=per_tracklet)

    def distances(self, post: PostProcessing) -> Distances:
        """The distances after the steps of `post`, with what the protocol prescribes."""
        return search_all(
            [(self.query, self.gallery), *self.others], post.under(self.protocol, self.query), self.fusion
        )

    def sliced(self, post: PostProcessing, by: str) -> dict[str, Metrics]:
        """Metrics by a property of the query (color, size, ...) or of query and mate (camera-pair, gap)."""
        if by in MATE_BINS:
            return mate_slices(self.distances(post), self.protocol, by)
        if by not in QUERY_BINS:
            raise InputError(f"slices by {by!r} are unknown; use one of {', '.join([*MATE_BINS, *QUERY_BINS])}.")
        evaluated = judge(self.query, self.gallery, post, self.protocol, self.others, self.fusion)
        return slices(evaluated, self.query.records, by)

    def open_set(self, post: PostProcessing, *, share_left_out: float = 0, seed: int = 0) -> OpenSet:
        """What each query finds when the vehicles of some are not in the gallery, or a share of them is taken out."""
        search, left_out = self, 0
        if share_left_out:
            stays = leave_out(self.query.records, self.gallery.records, share_left_out, seed)
            left_out = self.gallery.records[~stays].identity.distinct
            others = tuple((query, gallery[stays]) for query, gallery in self.others)
            search = replace(self, gallery=self.gallery[stays], others=others)
        return open_set(search.distances(post), self.protocol, left_out=left_out)

    def with_features(self, make: Callable[[Records], FeatureSet]) -> Search:
        """The same search with features of another kind (a baseline, say)."""
        sides = make(self.query.records), make(self.gallery.records)
        return replace(self, query=sides[0], gallery=sides[1], others=(), fusion=ALIKE)

    @property
    def labelled(self) -> bool:
        """Whether every query has an identity, so that rankings can be judged."""
        return bool(np.all(self.query.records.identity.codes != -1))


@locking("out")
def extract_dataset(
    model: Path | str,
    dataset: Dataset,
    out: Path | str,
    *,
    views: tuple[str, ...] = ("original", "flip"),
    crops: Mapping[str, Records] | None = None,
    unit_views: bool = False,
    normalise: bool = True,
    device: str = "cpu",
    batch_size: int = 64,
    workers: int | None = None,
    progress: Any = None,
) -> Search:
    """Extract query and gallery features of `dataset` into the folder `out`; what lies there already is kept.

    With `normalise` off they stay as the network gives them and are compared so (StRDAN). Views that show crops take
    them from `crops`, by side; see `vreid.training.extract.extract`. `device` may be "auto": a GPU where there is one.
    What can be checked without torch is checked before torch is imported.

    Raises:
        InputError: the model or an image cannot be read, or the data set has no query or gallery images.
    """
    from vreid.training.model_file import model_file
    from vreid.training.views import check_views

    out, _ = Path(out), model_file(model)
    check_views(views, crops=bool(crops))
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; name a folder for the features.")
    for side in SIDES:
        if not len(getattr(dataset, side)):
            raise InputError(f"{dataset.name}: has no {side} images; give a data set with query and gallery.")
    shown = {"crops": "+".join(fingerprint(crops[side]) for side in SIDES)} if crops else {}
    if (out / FACTS).is_file():
        with parse_errors(out / FACTS):
            if read_json(out / FACTS)["facts"].get("crops") != shown.get("crops"):
                raise InputError(f"{out}: holds features of other crops, or of none; name another folder.")
    from vreid.training.extract import extract, load_model

    device = resolve_device(device)
    loaded = load_model(model)
    same = dataset.query == dataset.gallery  # every image a query: one extraction, stored once, serves both sides
    sets = [
        extract(
            loaded.model,
            _anywhere(getattr(dataset, side)),
            transform=loaded.transform,
            views=views,
            batch_size=batch_size,
            workers=workers,
            crops=crops[side] if crops else None,
            unit_views=unit_views,
            normalise=normalise,
            device=device,
            progress=progress,
            out=out / f"{side}.safetensors",
        )
        for side in (SIDES[:1] if same else SIDES)
    ]
    if same:
        sets.append(sets[0])
    cameras = dataset.train.camera
    facts = {
        "data set": dataset.name,
        **dataset.source,
        "model": str(model),
        "model hash": sets[0].model[:16],
        "views": "+".join(sets[0].views),
        **shown,
    }
    trained = tuple(sorted(set(cameras.values[cameras.known])))
    search = Search(sets[0], sets[1], dataset.protocol, trained, facts)
    search.save_facts(out)
    return search


def _anywhere(records: Records) -> Records:
    """The same images by absolute paths, as who reads the features may stand elsewhere."""
    return records.with_(path=[os.path.abspath(path) for path in records.path])


def write_ranking(ranking: Ranking, out: Path | str, decisions: Decisions | None = None) -> None:
    """Write ranked lists as a .csv table (one row a result; with `decisions` its verdict too) or as .safetensors.

    A row names the query and the result by image key, path, tracklet, camera, time (UTC seconds) and box (pixels, empty
    where the whole image is meant); the columns of the query begin with "query".

    Raises:
        InputError: another file ending, or decisions for a .safetensors file.
    """
    out = Path(out)
    if out.suffix == ".safetensors":
        if decisions:
            raise InputError(f"{out}: has no place for decisions; give a name that ends in .csv.")
        ranking.save(out)
        return
    if out.suffix != ".csv":
        raise InputError(f"{out}: give a name that ends in .csv or .safetensors.")
    query, gallery = ranking.query, ranking.gallery
    with (
        atomic_write(out) as temporary,
        open(temporary, "w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv.writer(file)
        asked = ["query", *(f"query_{name}" for name in _NAMED[1:])]
        writer.writerow([*asked, "rank", "distance", *_NAMED, *(["decision"] if decisions else [])])
        lengths = ranking.lengths
        for row in range(len(query)):
            name = _named(query, row)
            for place, index in enumerate(ranking.indices[row, : lengths[row]], start=1):
                distance = f"{ranking.distances[row, place - 1]:.6f}"
                decision = [DECISIONS[decisions.decision[row, place - 1]]] if decisions else []
                writer.writerow([*name, place, distance, *_named(gallery, index), *decision])


_NAMED = ("image_key", "path", "tracklet", "camera", "time", *BOX_COLUMNS)
"""Columns that name an image in ranked lists."""


def _named(records: Records, row: int) -> list[str]:
    """One image in the columns `_NAMED`; "" where a number or a label is unknown."""
    numbers = (records.time[row], *records.box[row])
    labels = records.tracklet.values[row], records.camera.values[row]
    return [records.image_key[row], records.path[row], *labels, *("" if np.isnan(n) else str(n) for n in numbers)]


def features_report(search: Search, post: PostProcessing, run: Path | None) -> Report:
    """The page about one folder of features: plain search, the chosen post-processing, its ranked lists."""
    post, plain = post.of(search.query), PostProcessing().of(search.query)
    without = replace(post, reranking=None)
    compared = "Squared Euclidean distance of the features, "
    rows = [("plain", compared + ("unnormalised (norm=raw)." if plain.raw else "L2-normalised."), plain)]
    if without != plain:
        rows.append(("+ chosen steps", f"{without.describe()}.", without))
    if post != without:
        rows.append(("+ re-ranking", f"{post.describe()}.", post))
    ranking = search.rank(post, top_k=len(search.gallery))
    simulated = ", simulated" if "simulator_version" in search.facts else ""
    return Report(
        title=f"Vehicle re-identification: {search.facts.get('data set', 'features')}{simulated}",
        notice=SIMULATED if "simulator_version" in search.facts else "",
        facts=[(name, str(value)) for name, value in search.facts.items()]
        + [("note", reported) for reported in ranking.notes],
        rows=search.ladder(rows) if search.labelled else [],
        ranking=ranking,
        ranking_name=rows[-1][0],
        training=None if run is None else read_metrics(run / "metrics.jsonl"),
    )


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl.

    Raises:
        InputError: absent or damaged.
    """
    lines = read_lines_bounded(path).splitlines()
    found = []
    for number, line in enumerate(lines, start=1):
        with parse_errors(f"{path}, line {number}"):
            found.append(dict(json.loads(line)))
    return found


def metrics_table(rows: Sequence[tuple[str, Mapping[str, Metrics]]]) -> Table:
    """A table for the terminal: one line a row and part of the queries, mAP with its 95 % interval.

    Intervals are bootstraps over vehicles; all rows are of one protocol. Where it draws galleries, the standard
    deviation over the draws stands behind a mean.
    """
    first = next(m for _, parts in rows for m in parts.values())
    full, cut = first.protocol.full_metric, first.protocol.metric if first.protocol.top_k else ""
    caption = f"\N{PLUS-MINUS SIGN}: standard deviation over {len(first.draws)} draws." if first.draws else None
    table = Table(box=box.SIMPLE_HEAD, caption=caption, caption_justify="left")
    at_k = [cut] if cut else []
    columns = ["", "queries of", full, "95 %", *at_k, "rank-1", "rank-5", "mINP", "queries", "skipped"]
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < 2 else "right", no_wrap=True)
    for name, parts in rows:
        for part, m in parts.items():
            low, high = interval(m, "mAP")
            numbers, spread = m.as_dict(), m.spread
            shown = [
                f"{100 * numbers[key]:.1f}" + (f" \N{PLUS-MINUS SIGN} {100 * spread[key]:.1f}" if spread else "")
                for key in (full, *at_k, "rank1", "rank5", "mINP")
            ]
            table.add_row(
                name,
                part,
                shown[0],
                f"{100 * low:.1f}-{100 * high:.1f}",
                *shown[1:],
                f"{m.num_queries:,}",
                f"{m.num_skipped:,}",
            )
            name = ""
    return table


def resolve_device(name: str) -> str:
    """The device called `name`; "auto" is a GPU where there is one.

    Raises:
        InputError: no such device here.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.ones(1, device=name).item()  # "meta" makes tensors too, but without numbers
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name}: is not there; use cpu, or auto.") from error
    return name


def environment_facts(*, full: bool = True) -> dict[str, Any]:
    """Return versions of what is installed and what this machine computes with.

    Args:
        full: import torch to find the device and its number types; False takes a tenth of the time.
    """
    import os
    import platform
    from importlib import metadata

    from vreid import __version__
    from vreid.retrieval.nearest.core import core_info
    from vreid.simulator.city.presets import SIMULATOR_VERSION

    facts: dict[str, Any] = {
        "vreid": __version__,
        "simulator version": SIMULATOR_VERSION,
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": describe_threads(),
    }
    for package in ("numpy", "scipy", "pillow", "torch", "torchvision", "timm"):
        try:
            facts[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            facts[package] = "not installed"
    core = core_info()
    units = "with" if core.get("matrix_units") else "without"
    facts["retrieval core"] = (
        f"compiled, {core['instructions']}, {units} bfloat16 matrix units"
        if core["compiled"]
        else "absent: numpy and scipy do its work, slower (make core)"
    )
    if not full:
        return facts
    try:
        import torch

        from vreid.training.precision import choose_precision

        facts["device"] = resolve_device("auto")
        place, dense = torch.device(facts["device"]), torch.nn.Conv2d(8, 8, 3)
        facts["precision"] = str(choose_precision("auto", place, dense, training=True))
        facts["torch threads"] = torch.get_num_threads()
    except ModuleNotFoundError:
        facts["device"] = "none: training and extraction need vehicle-reid[train]"
    return facts
