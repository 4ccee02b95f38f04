"""What several commands share: options, opening their sources, printing their answers."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vreid import names
from vreid.console import say
from vreid.errors import InputError
from vreid.formatting import printable_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.table import Table

    from vreid.data.dataset import Dataset
    from vreid.data.findings import OnFinding
    from vreid.data.protocols import Protocol
    from vreid.retrieval.evaluation.metrics import Metrics
    from vreid.retrieval.evaluation.open_set import OpenSet
    from vreid.retrieval.postprocessing.ensemble import Fusion
    from vreid.retrieval.postprocessing.pipeline import PostProcessing
    from vreid.retrieval.ranking import Ranking
    from vreid.retrieval_run import RetrievalRun

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")]
Seed = Annotated[int, typer.Option(help="Equal seeds give equal results.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ..., or auto: a GPU where there is one.")]
Workers = Annotated[
    int | None, typer.Option(min=0, help="Processes that load images; default: 0 on a CPU, one a core beside a GPU.")
]
Source = Annotated[
    Path,
    typer.Argument(
        metavar="SOURCE",
        help="A data set folder, a CSV table, or a folder of images; @ and words "
        "behind it choose: FOLDER@original,crop, FOLDER@translated, FOLDER@800.",
    ),
]
LabelTable = Annotated[
    str,
    typer.Option(
        "--labels",
        help="Labels of test images: auto (a ground_truth.csv beside the data, if there is one), none, or a table.",
    ),
]
Identities = Annotated[
    str,
    typer.Option(
        "--identities",
        help="What ids of tracker output name: global (vehicles), local (tracks of one camera), or auto "
        "(global in CityFlow's layout and AI City's files).",
    ),
]
_FEATURES = (
    "A folder that `vreid extract` has written, or a .npy, .npz, .safetensors, .pt, .mat, .csv or .parquet file of any "
    "program."
)
Features = Annotated[Path, typer.Argument(metavar="FEATURES", help=_FEATURES)]
AllFeatures = Annotated[
    list[Path],
    typer.Argument(
        metavar="FEATURES", help=f"{_FEATURES} Several of the same images are an ensemble (--weights, --fusion)."
    ),
]
Weights = Annotated[
    str,
    typer.Option(
        metavar="W,W,...",
        help="With several FEATURES: how much each counts, for example 0.5,0.3,0.2; default: all alike.",
    ),
]
FusionName = Annotated[
    str,
    typer.Option(
        "--fusion",
        metavar="HOW",
        help=f"With several FEATURES: {' or '.join(names.FUSIONS)} of their distances; ranks where scales differ.",
    ),
]
RecordTable = Annotated[
    Path | None,
    typer.Option("--records", help="Table of the images whose features are in a file, in the order of its rows."),
]
Post = Annotated[
    str,
    typer.Option(
        "--post",
        metavar="STEPS",
        help="Post-processing steps in any order, for example 'camera-mean, tracklets=weighted, rerank=7:2:0.6'; they "
        f"are listed below. Published settings: {', '.join(names.STEP_PRESETS)}. scene-groups=GROUP/GROUP: a group is "
        "CAMERA+CAMERA, #41 the camera of that number, * all others; or scene-groups=labels:SOURCE, groups by the "
        "training labels of that data set.",
    ),
]
By = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help=f"Evaluate slices apart, by one of {', '.join(names.SLICES)}; gap is the time from query to match.",
    ),
]
ProtocolName = Annotated[
    str,
    typer.Option(
        "--protocol",
        metavar="NAME",
        help=f"How rankings are evaluated; default: as the data set prescribes. One of {', '.join(names.PROTOCOLS)}.",
    ),
]


def settings(pairs: list[str] | None) -> dict[str, str]:
    """The KEY=VALUE pairs of `--set`."""
    settings = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"--set {pair}: write KEY=VALUE, for example --set epochs=3.")
        settings[key.strip()] = value.strip()
    return settings


def resolve(name: str) -> str:
    """The device called `name`, refused here if it is not there."""
    from vreid.environment import resolve_device

    return resolve_device(name)


def open_source(source: Path, labels: str, on_finding: OnFinding | None = None, identities: str = "auto") -> Dataset:
    """One data set; what is wrong with its labels is told, or refused."""
    from vreid.data.findings import raise_finding
    from vreid.data.open import open_dataset

    table = {"auto": "auto", "none": None}.get(labels, Path(labels))
    return open_dataset(source, labels=table, identities=identities, on_finding=on_finding or raise_finding)  # type: ignore[arg-type]


def open_sources(sources: list[Path], labels: str) -> Dataset:
    """One data set, or several joined."""
    from vreid.data.dataset import join

    return join(*(open_source(source, labels) for source in sources))


def load_search(
    features: Path | list[Path], records: Path | None, protocol: str, weights: str = "", fusion: str = "mean"
) -> RetrievalRun:
    """Features from a folder or a file, or those of several models, judged by the named protocol if one is named."""
    from dataclasses import replace

    from vreid.retrieval_run import RetrievalRun

    features = [features] if isinstance(features, Path) else features
    joined = _fusion(weights, fusion, len(features))
    search = replace(RetrievalRun.load(*features, records=records), fusion=joined)
    return search.under(protocol) if protocol else search


def _fusion(weights: str, how: str, count: int) -> Fusion:
    """How `count` models are joined, from `--weights` and `--fusion`."""
    from vreid.retrieval.postprocessing.ensemble import Fusion

    if how not in names.FUSIONS:
        raise InputError(f"--fusion {how}: is unknown; use {' or '.join(names.FUSIONS)}.")
    if count == 1 and (weights or how != "mean"):
        raise InputError("--weights and --fusion: are for the features of several models; name those, or leave it out.")
    try:
        values = tuple(float(weight) for weight in weights.split(",")) if weights else ()
    except ValueError:
        values = (0.0,)
    if values and (len(values) != count or not all(0 < value < float("inf") for value in values)):
        raise InputError(f"--weights {weights}: give {count} numbers above 0 between commas, one for each FEATURES.")
    return Fusion(values, how)  # type: ignore[arg-type]


_LABELS = r"scene-groups *= *labels:([^,]*)"


def post_processing(steps: str) -> PostProcessing:
    """The steps of `--post`; the groups of `scene-groups=labels:SOURCE` are looked up in that data set."""
    from dataclasses import replace

    from vreid.retrieval.postprocessing.pipeline import PostProcessing
    from vreid.retrieval.postprocessing.scene_groups import SceneGroups

    looked_up = re.findall(_LABELS, steps)
    try:
        post = PostProcessing.parse(re.sub(_LABELS, "scene-groups", steps))
        if looked_up:
            groups = SceneGroups.from_labels(open_source(Path(looked_up[0].strip()), "auto").train)
            post = replace(post, scene_groups=groups)
        return post
    except InputError as error:
        raise InputError(f"--post: {error}") from None


def with_and_without(
    search: RetrievalRun, post: PostProcessing, by: str = ""
) -> Sequence[tuple[str, Mapping[str, Metrics]]]:
    """Metrics with the steps and, where re-ranking is one, also without it; `by` a property in slices."""
    return [(row.describe(), search.evaluate(row, by)) for row in both(post)]


def both(post: PostProcessing) -> list[PostProcessing]:
    """The steps without re-ranking and, where that is one of them, with it."""
    from dataclasses import replace

    return [replace(post, reranking=None), post] if post.reranking else [post]


def print_table(table: Table, *, width: int) -> None:
    """Print a table; where output goes to a file or a pipe, which has no width to fit into, `width` columns wide."""
    from vreid.console import Console

    Console(highlight=False, width=None if sys.stdout.isatty() else width).print(table)


def print_rows(rows: Any) -> None:
    """Print a table of metrics."""
    from vreid.cli.tables import metrics_table

    print_table(metrics_table(rows), width=200)
    print_notes(m for _, parts in rows for m in parts.values())


def json_row(name: str, parts: Mapping[str, Metrics], protocol: Protocol) -> dict[str, Any]:
    """One evaluated row as JSON: its name, the metrics of each part of the queries, what the protocol does.

    A metric that is not known (the full-list mAP of a submission, which is cut at 100) is null.
    """

    def known(numbers: dict[str, Any]) -> dict[str, Any]:
        return {key: None if value != value else value for key, value in numbers.items()}

    evaluated = {part: {**known(m.as_dict()), "cmc": m.cmc.tolist()} for part, m in parts.items()}
    return {"name": name, "parts": evaluated, "protocol": protocol.description}


def print_slices(rows: Sequence[tuple[str, Mapping[str, Metrics]]]) -> None:
    """Print a table of metrics in slices; those of few queries are marked."""
    from vreid.diagnostics.slices import FEW

    print_rows(
        [(name, {f"{part} *" if m.num_queries < FEW else part: m for part, m in parts.items()}) for name, parts in rows]
    )
    if any(m.num_queries < FEW for _, parts in rows for m in parts.values()):
        say(f"* fewer than {FEW} queries")


def print_validation(rows: list[dict[str, Any]], kept: int | None) -> None:
    """Print the evaluations of a training run, one line an epoch; `kept` marks the epoch of the model."""
    from rich import box
    from rich.table import Table

    metric = next(name for name in rows[0] if name.startswith("mAP"))
    columns = ["epoch", "loss", metric, "rank-1", "rank-5", "mINP"]
    table = Table(*columns, "", box=box.SIMPLE_HEAD, title=f"{rows[0]['data']}, protocol {rows[0]['protocol']}")
    for column in table.columns[:-1]:
        column.justify, column.no_wrap = "right", True
    for row in rows:
        numbers = (f"{100 * row[name]:.1f}" for name in (metric, "rank1", "rank5", "mINP"))
        loss = "" if row["loss"] is None else f"{row['loss']:.3f}"
        table.add_row(str(row["epoch"]), loss, *numbers, "kept" if row["epoch"] == kept else "")
    print_table(table, width=80)


def print_notes(made: Iterable[Metrics | Ranking | OpenSet]) -> None:
    """Print what steps did on these images that their names do not say, each sentence once."""
    for note in dict.fromkeys(note for one in made for note in one.notes):
        say(note)


def print_json(value: Any) -> None:
    """Print one JSON object."""
    say(printable_json(json.dumps(value, indent=2, ensure_ascii=False)))
