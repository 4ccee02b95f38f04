"""Command calibrate, and open-set identification in evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vreid.cli.calibrate_store import calibrate_store, store_address
from vreid.cli.options import (
    FusionName,
    Json,
    Post,
    ProtocolName,
    RecordTable,
    Seed,
    Weights,
    load_retrieval_run,
    post_processing,
    print_json,
    print_notes,
    print_table,
    reranking_variants,
)
from vreid.console import echo
from vreid.errors import InputError

if TYPE_CHECKING:
    from vreid.retrieval.evaluation.calibration import Threshold
    from vreid.retrieval.evaluation.open_set import OpenSet
    from vreid.retrieval.postprocessing.pipeline import PostProcessing
    from vreid.retrieval_run import RetrievalRun

FeaturesOrStore = Annotated[
    list[Path],
    typer.Argument(metavar="FEATURES|STORE", help="Features as of `vreid extract` (several: an ensemble), or a store."),
]
OpenSetOption = Annotated[
    bool,
    typer.Option(
        "--open-set",
        help="Evaluate open-set identification, with queries whose vehicle is in the gallery and queries whose is not.",
    ),
]
LeaveOut = Annotated[
    float,
    typer.Option(
        metavar="SHARE", help="Open set: remove this share of the vehicles from the gallery; their queries stay."
    ),
]
ThresholdFile = Annotated[
    Path | None,
    typer.Option(
        "--threshold",
        metavar="FILE",
        help="Threshold file written by `vreid calibrate`: decides MATCH, UNCERTAIN or NO MATCH.",
    ),
]

_DEFINITIONS = (
    "FPIR: share of the queries without a match that have a candidate within the threshold. FNIR: share of the queries "
    "with a match whose nearest match is not the first candidate (any rank: not a candidate) within it."
)


def calibrate_command(
    features: FeaturesOrStore,
    out: Annotated[
        Path | None, typer.Option(help="Threshold file to write (.json), for --threshold of rank and evaluate.")
    ] = None,
    steps: Post = "",
    leave_out: LeaveOut = 0,
    seed: Seed = 0,
    fpir: Annotated[
        float, typer.Option(help="False-match rate: share of the queries without a match that may get a MATCH.")
    ] = 0.01,
    miss_rate: Annotated[
        float, typer.Option(help="Miss rate: share of the queries with a match whose matches may all get a NO MATCH.")
    ] = 0.05,
    protocol: ProtocolName = "",
    records: RecordTable = None,
    weights: Weights = "",
    fusion: FusionName = "mean",
    as_json: Json = False,
) -> None:
    """Calibrate the distance thresholds of MATCH and NO MATCH on validation features, or on a store without labels.

    Of features, also prints FPIR and FNIR (open-set identification), with and without re-ranking. A store keeps its
    threshold, estimated from its own tracklets and the answers of `vreid label`; offsets between the clocks of its
    cameras are shown.
    """
    from vreid.retrieval.evaluation.calibration import calibrate

    if len(features) == 1 and (address := store_address(features[0])) is not None:
        calibrate_store(address, as_json=as_json)
        return
    if out is None:
        raise InputError(
            f"calibrate: {features[0]} holds no store; for features, name the threshold file to write: --out FILE.json."
        )
    search = load_retrieval_run(features, records, protocol, weights, fusion)
    rows = _open_sets(search, post_processing(steps), leave_out, seed)
    threshold = calibrate(rows[-1][1], fpir=fpir, miss_rate=miss_rate)
    threshold.save(out)
    if _report(search, rows, {"calibrated": threshold.as_dict()}, as_json):
        echo(f"{out}: {threshold}.")


def evaluate_open_set(
    search: RetrievalRun, post: PostProcessing, leave_out: float, seed: int, threshold: Path | None, as_json: bool
) -> None:
    """Print open-set metrics with and without re-ranking, and the errors of a threshold on the last row."""
    from vreid.retrieval.evaluation.calibration import Threshold

    given = Threshold.load(threshold) if threshold else None
    rows = _open_sets(search, post, leave_out, seed)
    found = rows[-1][1]
    reported: dict[str, Any] = {}
    if given:
        given.check(features=found.features, steps=found.steps)
        reported["threshold"] = {
            **given.as_dict(),
            "errors": found.at(given.match),
            "errors_of_no_match": found.at(given.no_match),
            "notes": given.notes(found.gallery_images, found.protocol),
        }
    if _report(search, rows, reported, as_json) and given:
        _print_threshold_errors(given, reported["threshold"])


def _open_sets(search: RetrievalRun, post: PostProcessing, leave_out: float, seed: int) -> list[tuple[str, OpenSet]]:
    post = post.of(search.query)
    return [(row.describe(), search.open_set(row, leave_out=leave_out, seed=seed)) for row in reranking_variants(post)]


def _report(search: RetrievalRun, rows: list[tuple[str, OpenSet]], reported: dict[str, Any], as_json: bool) -> bool:
    """Print the open-set metrics; return whether text may follow (not with --json)."""
    numbers = [{"name": name, **of_row.as_dict()} for name, of_row in rows]
    if as_json:
        print_json({**reported, "rows": numbers, "protocol": search.protocol.description})
        return False
    echo(f"{search.protocol.description}\n{rows[-1][1]}.")
    _print_table(numbers)
    print_notes(of_row for _, of_row in rows)
    return True


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table

    if not rows[0]["fnir_at_fpir"]:
        echo("Too few queries without a match to resolve an FPIR of 10 % or less.")
        return
    table = Table("", "FPIR", "FNIR", "95 %", "FNIR, any rank", "95 %", box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        for at in row["fnir_at_fpir"]:
            first = row["name"] if at is row["fnir_at_fpir"][0] else ""
            table.add_row(first, f"{100 * at['fpir']:g} %", *_cells(at, "fnir"), *_cells(at, "fnir_any_rank"))
    print_table(table, width=120)
    echo(f"{_DEFINITIONS} Intervals: bootstrap over vehicles.")


def _print_threshold_errors(threshold: Threshold, tried: dict[str, Any]) -> None:
    match, no_match = tried["errors"], tried["errors_of_no_match"]

    def reported(of: dict[str, Any], name: str) -> str:
        value, interval = _cells(of, name)
        return f"{value} % ({interval.replace('-', ' to ')} %)"

    echo(f"{threshold}.")
    echo(
        f"On this data: false-match rate {reported(match, 'fpir')}, miss rate {reported(no_match, 'fnir_any_rank')}. "
        f"If everything but a MATCH is rejected: FNIR {reported(match, 'fnir')}, TNR {reported(match, 'tnr')}, "
        f"rejection F1 {reported(match, 'refusal_f1')}."
    )
    for note in tried["notes"]:
        echo(note)


def _cells(numbers: dict[str, Any], name: str) -> tuple[str, str]:
    low, high = numbers[f"{name}_interval"]
    return f"{100 * numbers[name]:.1f}", f"{100 * low:.1f}-{100 * high:.1f}"
