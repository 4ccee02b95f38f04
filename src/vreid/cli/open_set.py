"""`vreid evaluate --open-set`: known vehicles told from unknown ones, thresholds calibrated and tried."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vreid.cli.options import both, print_json, print_notes
from vreid.console import say
from vreid.errors import InputError

if TYPE_CHECKING:
    from vreid.retrieval.evaluation.calibration import Threshold
    from vreid.retrieval.postprocessing.pipeline import PostProcessing
    from vreid.retrieval_run import RetrievalRun

OpenSetOption = Annotated[
    bool,
    typer.Option(
        "--open-set", help="Measure how well vehicles that the gallery holds are told from those that it does not hold."
    ),
]
LeaveOut = Annotated[
    float,
    typer.Option(
        metavar="SHARE", help="Take this share of the vehicles out of the gallery, so that their queries have no mate."
    ),
]
CalibrateFile = Annotated[
    Path | None,
    typer.Option(
        "--calibrate",
        metavar="OUT.json",
        help="Calibrate a threshold on these features (validation data) and write it.",
    ),
]
Fpir = Annotated[
    float, typer.Option(help="With --calibrate: share of the queries without a mate that may get a MATCH.")
]
MissRate = Annotated[
    float, typer.Option(help="With --calibrate: share of queries with a mate whose mates may all get a NO MATCH.")
]
ThresholdFile = Annotated[
    Path | None,
    typer.Option(
        "--threshold", metavar="FILE", help="A threshold that --calibrate has written: MATCH, UNCERTAIN or NO MATCH."
    ),
]

_WORDS = (
    "FPIR: share of the queries without a mate that find a candidate within the threshold. FNIR: share of those with "
    "one whose nearest mate is not the first candidate (any rank: not a candidate) within it."
)


@dataclass(frozen=True)
class Wanted:
    """The options of `vreid evaluate` that concern the open set."""

    leave_out: float
    seed: int
    calibrate: Path | None
    fpir: float
    miss_rate: float
    threshold: Path | None


def evaluate_open_set(search: RetrievalRun, post: PostProcessing, wanted: Wanted, as_json: bool) -> None:
    """Print the open-set numbers with and without re-ranking, calibrate on the last, or try a threshold on it."""
    from vreid.retrieval.evaluation.calibration import Threshold, calibrate

    if wanted.calibrate and wanted.threshold:
        raise InputError("--calibrate and --threshold: give one; a threshold is tried on other data than its own.")
    threshold = Threshold.load(wanted.threshold) if wanted.threshold else None
    rows = [(row.describe(), search.open_set(row, leave_out=wanted.leave_out, seed=wanted.seed)) for row in both(post)]
    found = rows[-1][1]
    reported: dict[str, Any] = {}
    if wanted.calibrate:
        threshold = calibrate(found, fpir=wanted.fpir, miss_rate=wanted.miss_rate)
        threshold.save(wanted.calibrate)
        reported["calibrated"] = threshold.as_dict()
    elif threshold:
        threshold.check(features=found.features, steps=found.steps)
        reported["threshold"] = {
            **threshold.as_dict(),
            "errors": found.at(threshold.match),
            "errors_of_no_match": found.at(threshold.no_match),
            "notes": threshold.notes(found.gallery_images, found.protocol),
        }
    reported["rows"] = [{"name": name, **of_row.as_dict()} for name, of_row in rows]
    if as_json:
        print_json({**reported, "protocol": search.protocol.description})
        return
    say(f"{search.protocol.description}\n{found}.")
    _print_table(reported["rows"])
    print_notes(of_row for _, of_row in rows)
    if wanted.calibrate:
        say(f"{wanted.calibrate}: {threshold}.")
    elif threshold:
        _print_trial(threshold, reported["threshold"])


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table

    from vreid.console import Console

    if not rows[0]["fnir_at_fpir"]:
        say("No FPIR of 10 % or less can be told from 0 with so few queries without a mate.")
        return
    table = Table("", "FPIR", "FNIR", "95 %", "FNIR, any rank", "95 %", box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        for at in row["fnir_at_fpir"]:
            first = row["name"] if at is row["fnir_at_fpir"][0] else ""
            table.add_row(first, f"{100 * at['fpir']:g} %", *_cells(at, "fnir"), *_cells(at, "fnir_any_rank"))
    Console(highlight=False, width=None if sys.stdout.isatty() else 120).print(table)
    say(f"{_WORDS} Intervals: bootstrap over vehicles.")


def _print_trial(threshold: Threshold, tried: dict[str, Any]) -> None:
    match, no_match = tried["errors"], tried["errors_of_no_match"]

    def reported(of: dict[str, Any], name: str) -> str:
        value, interval = _cells(of, name)
        return f"{value} % ({interval.replace('-', ' to ')} %)"

    say(f"{threshold}.")
    say(
        f"Here: false-match rate {reported(match, 'fpir')}, miss rate {reported(no_match, 'fnir_any_rank')}. Where "
        f"all but a MATCH is refused: FNIR {reported(match, 'fnir')}, TNR {reported(match, 'tnr')}, refusal F1 "
        f"{reported(match, 'refusal_f1')}."
    )
    for note in tried["notes"]:
        say(note)


def _cells(numbers: dict[str, Any], name: str) -> tuple[str, str]:
    low, high = numbers[f"{name}_interval"]
    return f"{100 * numbers[name]:.1f}", f"{100 * low:.1f}-{100 * high:.1f}"
