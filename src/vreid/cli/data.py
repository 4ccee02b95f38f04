"""Commands simulate, sheet and check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vreid import names
from vreid.cli.extras import require_extras
from vreid.cli.options import Identities, Json, LabelTable, Seed, Source, open_source, print_json, print_table
from vreid.console import echo
from vreid.errors import InputError
from vreid.formatting import plural

if TYPE_CHECKING:
    from vreid.data.findings import Finding

MOST_ROWS = 20
"""Findings per check that the table lists; the rest are counted."""


def simulate_command(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to create; it is complete or absent.")],
    preset: Annotated[
        str,
        typer.Option(
            help=f"Size of the world: {', '.join(names.WORLDS)}; of layout trips: {', '.join(names.TRAFFIC)}."
        ),
    ] = "demo",
    layout: Annotated[
        str, typer.Option(help=f"What to write: {', '.join(names.LAYOUTS)}; each is another world.")
    ] = "cityflow",
    seed: Seed = 0,
    workers: Annotated[int | None, typer.Option(help="Number of processes; default: one per core.")] = None,
    as_json: Json = False,
) -> None:
    """Simulate a city: a data set in a published layout with a VehicleX folder, or videos; and the ground truth."""
    from vreid.progress_bars import ProgressBars
    from vreid.simulator.formats.write import simulate

    with ProgressBars(quiet=as_json) as bars:
        made = simulate(out, preset=preset, layout=layout, seed=seed, workers=workers, progress=bars)
    facts = {
        "path": str(made.path),
        "preset": made.preset.name,
        "layout": made.layout,
        "seed": made.seed,
        "simulator_version": made.version,
        "content_hash": made.content_hash,
        "reused": made.reused,
        "counts": made.counts,
    }
    if as_json:
        print_json(facts)
    else:
        counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in made.counts.items())
        echo(f"{out}: {'already exists' if made.reused else 'written'}: {counts} (content {made.content_hash})")


def sheet(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Image file to write (.jpg or .png).")],
    kind: Annotated[str, typer.Option(help=f"Contents: {', '.join(names.SHEETS)}.")] = "domains",
    seed: Seed = 0,
) -> None:
    """Write a contact sheet of simulated images."""
    from vreid.simulator.render.sheet import contact_sheet

    contact_sheet(out, seed=seed, kind=kind)
    echo(out)


def check(
    source: Source,
    labels: LabelTable = "auto",
    identities: Identities = "auto",
    page: Annotated[Path | None, typer.Option(help="Also write an HTML page with the images concerned.")] = None,
    as_json: Json = False,
) -> None:
    """List problems of a data set with file, row and suggested fix. Exits 1 if any are found."""
    if page is not None:
        require_extras("report")
    from vreid.data.doctor import examine
    from vreid.progress_bars import ProgressBars

    findings: list[Finding] = []
    try:
        dataset = open_source(source, labels, findings.append, identities)
    except InputError:
        from vreid.trips.result_files import check_ai_city, is_ai_city

        if is_ai_city(source):  # a result of multi-camera tracking, without frames beside it
            boxes, findings, notes = check_ai_city(source)
            _print_check(f"AI City multi-camera result: {boxes!r}", notes, findings, as_json=as_json)
            raise typer.Exit(1 if findings else 0) from None
        if findings and not as_json:  # those before the error
            _print_findings(findings)
        raise
    notes = list(dataset.notes)
    with ProgressBars(quiet=as_json) as bars:
        findings += examine(dataset, progress=bars, on_note=notes.append)
    if page is not None:
        from vreid.report.doctor_page import write_findings

        write_findings(dataset, findings, page)
    _print_check(repr(dataset), notes, findings, as_json=as_json)
    raise typer.Exit(1 if findings else 0)


def _print_check(what: str, notes: Sequence[str], findings: Sequence[Finding], *, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        print_json({"dataset": what, "notes": notes, "findings": [asdict(f) for f in findings]})
    else:
        echo(what, *(f"note: {note}" for note in notes), sep="\n")
        _print_findings(findings)


def _print_findings(findings: Sequence[Finding]) -> None:
    """Print the findings as a table grouped by check, and their number."""
    from itertools import groupby

    from rich.table import Table
    from rich.text import Text

    if not findings:
        echo("No problems found.")
        return
    table = Table("check", "where", "problem", "fix", expand=True)
    for column, ratio in zip(table.columns, (2, 4, 6, 5), strict=True):
        column.overflow, column.ratio = "fold", ratio
    for check_name, group in groupby(findings, key=lambda finding: finding.check):
        table.add_section()
        listed = list(group)
        for place, finding in enumerate(listed[:MOST_ROWS]):
            row = (check_name if place == 0 else "", finding.where, finding.message, finding.fix)
            table.add_row(*(Text(cell) for cell in row))  # not markup: names may hold brackets
        if len(listed) > MOST_ROWS:
            table.add_row("", "", f"{len(listed) - MOST_ROWS:,} more of this kind; --json lists all", "")
    print_table(table, width=160)
    echo(f"{plural(len(findings), 'problem')} found.")
