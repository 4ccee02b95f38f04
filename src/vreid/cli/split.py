"""Command group `data`: from one data set to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vreid import names
from vreid.cli.options import Json, LabelTable, Seed, Source, open_sources, print_json
from vreid.console import say

group = typer.Typer(help="Make one data set of another.", no_args_is_help=True)


@group.command("split")
def split_command(
    source: Source,
    out: Annotated[Path, typer.Option(help="Folder for split.csv and split.json; a data set like any other.")],
    hold_out: Annotated[
        str,
        typer.Option(
            metavar="WHAT",
            help=f"One of {', '.join(names.HOLD_OUTS)}; scene=NAME or cameras=c041,c042 name them.",
        ),
    ] = "scene",
    count: Annotated[int | None, typer.Option(help="How many identities; default: a fifth of all.")] = None,
    seed: Seed = 0,
    labels: LabelTable = "auto",
    as_json: Json = False,
) -> None:
    """Divide labelled training images into training, query and gallery; no test vehicle stays in training."""
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
    say(f"{out}: {made.name}, protocol {made.protocol.name}")
    for name, side in sides.items():
        say(f"{name:8}{', '.join(f'{number:,} {what}' for what, number in side.items())}")
    say(*(f"note: {note}" for note in made.notes), "No test vehicle is in training.", sep="\n")
