"""Command table: reproduce the tables of the papers."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vreid import names
from vreid.cli.extras import require_extras
from vreid.cli.options import Device, Json, Workers, print_json, resolve
from vreid.console import echo

if TYPE_CHECKING:
    from vreid.reproduce.table import Entry

Names = Annotated[list[str], typer.Argument(metavar="NAME...", help=f"Tables: {', '.join(names.TABLES)}.")]
ScaleName = Annotated[
    str,
    typer.Option(
        "--scale",
        help=f"One of {', '.join(names.SCALES)}: small variants on simulated worlds (CPU), the papers' networks on a "
        "larger simulated world (GPU), or the papers' networks on the real data sets.",
    ),
]
Data = Annotated[
    list[Path] | None,
    typer.Option(help="Scale paper: evaluation data set first, then additional training sets."),
]


def table_command(
    tables: Names,
    out: Annotated[Path, typer.Option(help="Output folder; finished stages in it are reused.")],
    scale: ScaleName = "smoke",
    data: Data = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Seeds (worlds and trainings) per row; default: 3 or 1.")
    ] = None,
    only: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            help="Run only rows whose name contains this, and those that they are compared with.",
        ),
    ] = "",
    merge: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Merge a results.jsonl of another machine; its rows count as done."),
    ] = None,
    make: Annotated[
        bool, typer.Option("--make/--no-make", help="Run missing rows, or only write the tables of finished ones.")
    ] = True,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print the plan, take a step of every stage, and estimate the time of the whole; make nothing else.",
        ),
    ] = False,
    workers: Workers = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Reproduce tables of the papers: mean and spread, the papers' figures, and whether each direction holds.

    The plan and its cost are printed first. Exits 1 if a row failed. On several GPUs, each building other
    stages: torchrun --nproc-per-node 8 -m vreid table ...
    """
    require_extras("train", "adapt", "report")
    from vreid.console import Console
    from vreid.progress_bars import ProgressBars
    from vreid.reproduce.dry_run import dry_run_stages
    from vreid.reproduce.runner import plan
    from vreid.reproduce.table import terminal_table
    from vreid.reproduce.tables.running import make_tables, merge_into, other_data, rows_of
    from vreid.reproduce.tables.scales import scale_named
    from vreid.training.distributed import first_launched, launched, own_device

    chosen = scale_named(scale, data or [])
    if merge:
        merge_into(out, merge)
    place, first = resolve(own_device(device)), first_launched()
    if dry_run and not first:
        return
    with ProgressBars(quiet=as_json or not first) as bars:
        if dry_run:
            rows = rows_of(tables, chosen, seeds=seeds, only=only)
            reported = [
                plan(rows, out, chosen.usual).describe(),
                *other_data(tables, chosen),
                *dry_run_stages(rows, place, bars),
            ]
            print_json(reported) if as_json else echo(*reported, sep="\n")
            return
        made = make_tables(
            tables,
            chosen,
            out,
            seeds=seeds,
            only=only,
            make=make,
            device=place,
            workers=workers,
            progress=bars,
            processes=launched(),
            write=first,
        )
    if not first:
        return
    if as_json:
        print_json(
            [
                {"table": one.name, "files": list(map(str, one.files)), "rows": list(map(_plain, one.entries))}
                for one in made
            ]
        )
    else:
        console = Console(highlight=False, width=None if sys.stdout.isatty() else 240)
        for one in made:
            console.print(f"\n{one.table.title}, scale {scale}: {', '.join(map(str, one.files))}")
            console.print(terminal_table(one.entries))
            for entry in one.entries:
                if entry.facts.get("notes"):
                    console.print(f"{entry.name}: {entry.facts['notes']}", soft_wrap=True, markup=False)
    raise typer.Exit(1 if any(entry.errors for one in made for entry in one.entries) else 0)


def _plain(entry: Entry) -> dict[str, Any]:
    kept = {name: value for name, value in asdict(entry).items() if name != "lines"}
    return {**kept, "direction": entry.effect and entry.effect.direction}
