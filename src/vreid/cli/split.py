"""Command group `data`, and its command split: derive data sets from others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vreid import names
from vreid.cli.options import Json, LabelTable, Seed, Source, open_sources, print_json
from vreid.console import echo

group = typer.Typer(help="Derive a data set: split, crop, translate.", no_args_is_help=True)


@group.command("split")
def split_command(
    source: Source,
    out: Annotated[Path, typer.Option(help="Folder for split.csv and split.json; usable as a SOURCE.")],
    hold_out: Annotated[
        str,
        typer.Option(
            metavar="WHAT",
            help=f"What to hold out for the test: {', '.join(names.HOLD_OUTS)}; for example scene=NAME or "
            "cameras=c041,c042.",
        ),
    ] = "scene",
    count: Annotated[int | None, typer.Option(help="Number of identities to hold out; default: a fifth.")] = None,
    seed: Seed = 0,
    labels: LabelTable = "auto",
    as_json: Json = False,
) -> None:
    """Split labelled training images into training, query and gallery with disjoint vehicles."""
    from vreid.data import split

    by, _, listed = hold_out.partition("=")
    wanted = [name.strip() for name in listed.split(",") if name.strip()]
    made = split.hold_out(open_sources([source], labels), by, wanted, count=count, seed=seed)  # type: ignore[arg-type]
    split.write_split(made, out)
    sides = split.counts(made)
    if as_json:
        facts = {"path": str(out), "name": made.name, "protocol": made.protocol.name, **made.source}
        print_json({**facts, "counts": sides, "notes": made.notes})
        return
    echo(f"{out}: {made.name}, protocol {made.protocol.name}")
    for name, side in sides.items():
        echo(f"{name:8}{', '.join(f'{number:,} {what}' for what, number in side.items())}")
    echo(*(f"note: {note}" for note in made.notes), "Training and test share no vehicle.", sep="\n")
