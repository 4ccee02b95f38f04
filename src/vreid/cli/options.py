"""Options shared by several commands, opening of their inputs, and printing of results."""

from __future__ import annotations

import io
import json
import re
import sys
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vreid import names
from vreid.console import echo
from vreid.errors import InputError
from vreid.formatting import printable_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.table import Table

    from vreid.data.dataset import Dataset
    from vreid.data.findings import OnFinding
    from vreid.data.protocols import Protocol
    from vreid.progress import Progress
    from vreid.retrieval.evaluation.metrics import Metrics
    from vreid.retrieval.evaluation.open_set import OpenSet
    from vreid.retrieval.postprocessing.ensemble import Fusion
    from vreid.retrieval.postprocessing.pipeline import PostProcessing
    from vreid.retrieval.ranking import Ranking
    from vreid.retrieval_run import RetrievalRun

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Seed = Annotated[int, typer.Option(help="Random seed.")]
Device = Annotated[str, typer.Option(help="Device: cpu, cuda, cuda:1, ...; auto uses a GPU if there is one.")]
Workers = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Image loading processes of each process; default: 0 on a CPU; with a GPU the cores of the machine shared "
        "among its processes, at most 16. Results do not depend on it.",
    ),
]
Source = Annotated[
    Path,
    typer.Argument(
        metavar="SOURCE",
        help="A data set folder, a CSV table or a folder of images. A selector after @ chooses a part or variant: "
        "FOLDER@original,crop, FOLDER@translated, FOLDER@800.",
    ),
]
LabelTable = Annotated[
    str,
    typer.Option(
        "--labels",
        help="Labels of the test images: auto (ground_truth.csv beside the data, if present), none, or a table.",
    ),
]
Identities = Annotated[
    str,
    typer.Option(
        "--identities",
        help="Meaning of the IDs in tracker output: global (vehicles), local (tracks of one camera) or auto "
        "(global in CityFlow's layout and AI City's files).",
    ),
]
Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="default (the bundled model), a run folder, or a .safetensors file.")
]
_FEATURES = "A folder written by `vreid extract`, or a .npy, .npz, .safetensors, .pt, .mat, .csv or .parquet file."
Features = Annotated[Path, typer.Argument(metavar="FEATURES", help=_FEATURES)]
AllFeatures = Annotated[
    list[Path],
    typer.Argument(
        metavar="FEATURES", help=f"{_FEATURES} Several for the same images form an ensemble (--weights, --fusion)."
    ),
]
Weights = Annotated[
    str,
    typer.Option(
        metavar="W,W,...",
        help="Ensemble weights, one per FEATURES, for example 0.5,0.3,0.2; default: equal.",
    ),
]
FusionName = Annotated[
    str,
    typer.Option(
        "--fusion",
        metavar="HOW",
        help=f"Ensemble fusion: {' or '.join(names.FUSIONS)} of the distances; rank suits models of different scales.",
    ),
]
RecordTable = Annotated[
    Path | None,
    typer.Option("--records", help="Table of the images of a features file, in the same order."),
]
Post = Annotated[
    str,
    typer.Option(
        "--post",
        metavar="STEPS",
        help="Post-processing steps in any order, for example 'camera-mean, tracklets=weighted, rerank=7:2:0.6'; see "
        f"the list below. Presets of published settings: {', '.join(names.STEP_PRESETS)}. In scene-groups=GROUP/GROUP "
        "a group is CAMERA+CAMERA, #41 is the camera with that number and * all others; scene-groups=labels:SOURCE "
        "takes the groups from the training labels of that data set.",
    ),
]
By = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help=f"Evaluate per slice, by one of {', '.join(names.SLICES)}; gap is the time from query to match.",
    ),
]
ProtocolName = Annotated[
    str,
    typer.Option(
        "--protocol",
        metavar="NAME",
        help=f"Evaluation protocol; default: that of the data set. One of {', '.join(names.PROTOCOLS)}.",
    ),
]


def parse_settings(pairs: list[str] | None) -> dict[str, str]:
    """Parse the KEY=VALUE pairs of `--set`."""
    settings = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"--set {pair}: write KEY=VALUE, for example --set epochs=3.")
        settings[key.strip()] = value.strip()
    return settings


def resolve(name: str) -> str:
    """Return the device called `name`; raise `InputError` if it is not available."""
    from vreid.environment import resolve_device

    return resolve_device(name)


@contextmanager
def one_job(device: str, *, quiet: bool) -> Iterator[tuple[str, Progress]]:
    """Join the processes that torchrun started for this command, if any; only the first one prints.

    Args:
        device: the value of `--device`.
        quiet: show no progress.

    Yields:
        The device of this process, and the listener of its jobs.
    """
    from vreid.progress import Progress
    from vreid.progress_bars import ProgressBars
    from vreid.training.distributed import ProcessGroup, processes

    with processes(device) as place:
        if ProcessGroup.current().first:
            with ProgressBars(quiet=quiet) as bars:
                yield place, bars
        else:
            with redirect_stdout(io.StringIO()):
                yield place, Progress()


def open_source(source: Path, labels: str, on_finding: OnFinding | None = None, identities: str = "auto") -> Dataset:
    """Open one data set; a problem with its labels goes to `on_finding`, or raises `InputError`."""
    from vreid.data.findings import raise_finding
    from vreid.data.open import open_dataset

    table = {"auto": "auto", "none": None}.get(labels, Path(labels))
    return open_dataset(source, labels=table, identities=identities, on_finding=on_finding or raise_finding)  # type: ignore[arg-type]


def open_sources(sources: list[Path], labels: str) -> Dataset:
    """Open one data set, or several joined."""
    from vreid.data.dataset import join

    return join(*(open_source(source, labels) for source in sources))


def load_retrieval_run(
    features: Path | list[Path], records: Path | None, protocol: str, weights: str = "", fusion: str = "mean"
) -> RetrievalRun:
    """Load features from folders or files, several as an ensemble; `protocol` replaces the data set's if given."""
    from dataclasses import replace

    from vreid.retrieval_run import RetrievalRun

    features = [features] if isinstance(features, Path) else features
    joined = _fusion(weights, fusion, len(features))
    search = replace(RetrievalRun.load(*features, records=records), fusion=joined)
    return search.under(protocol) if protocol else search


def _fusion(weights: str, how: str, count: int) -> Fusion:
    """Parse `--weights` and `--fusion` for an ensemble of `count` models."""
    from vreid.retrieval.postprocessing.ensemble import Fusion

    if how not in names.FUSIONS:
        raise InputError(f"--fusion {how}: unknown fusion; use {' or '.join(names.FUSIONS)}.")
    if count == 1 and (weights or how != "mean"):
        raise InputError("--weights and --fusion: need the features of several models; name those, or omit the option.")
    try:
        values = tuple(float(weight) for weight in weights.split(",")) if weights else ()
    except ValueError:
        values = (0.0,)
    if values and (len(values) != count or not all(0 < value < float("inf") for value in values)):
        raise InputError(f"--weights {weights}: give {count} comma-separated numbers above 0, one per FEATURES.")
    return Fusion(values, how)  # type: ignore[arg-type]


_LABELS = r"scene-groups *= *labels:([^,]*)"


def post_processing(steps: str) -> PostProcessing:
    """Parse the steps of `--post`; the groups of `scene-groups=labels:SOURCE` come from that data set."""
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


def evaluate_variants(
    search: RetrievalRun, post: PostProcessing, by: str = ""
) -> Sequence[tuple[str, Mapping[str, Metrics]]]:
    """Evaluate the steps and, if they include re-ranking, also without it; `by` names the slices."""
    return [(row.describe(), search.evaluate(row, by)) for row in reranking_variants(post)]


def reranking_variants(post: PostProcessing) -> list[PostProcessing]:
    """Return the steps without re-ranking and, if they include it, with it."""
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
    """Return one evaluated row for JSON: its name, the metrics of each part of the queries, and the protocol.

    An unknown metric (the full-list mAP of a submission, which holds 100 images per query) is null.
    """

    def known(numbers: dict[str, Any]) -> dict[str, Any]:
        return {key: None if value != value else value for key, value in numbers.items()}

    evaluated = {part: {**known(m.as_dict()), "cmc": m.cmc.tolist()} for part, m in parts.items()}
    return {"name": name, "parts": evaluated, "protocol": protocol.description}


def print_slices(rows: Sequence[tuple[str, Mapping[str, Metrics]]]) -> None:
    """Print a table of metrics per slice; slices with few queries are marked."""
    from vreid.diagnostics.slices import FEW

    print_rows(
        [(name, {f"{part} *" if m.num_queries < FEW else part: m for part, m in parts.items()}) for name, parts in rows]
    )
    if any(m.num_queries < FEW for _, parts in rows for m in parts.values()):
        echo(f"* fewer than {FEW} queries")


def print_validation(rows: list[dict[str, Any]], kept: int | None) -> None:
    """Print the validation results of a training run, one line per epoch; `kept` is the epoch of the saved model."""
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
    """Print the notes of post-processing steps, each sentence once."""
    for note in dict.fromkeys(note for one in made for note in one.notes):
        echo(note)


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    echo(printable_json(json.dumps(value, indent=2, ensure_ascii=False)))
