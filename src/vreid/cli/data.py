"""Commands about pictures: simulate, sheet, check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vreid.cli.options import Json, LabelTable, Seed, Source, open_sources, print_json


def simulate_command(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make; it appears whole or not at all.")],
    preset: Annotated[str, typer.Option(help="tiny, demo or city.")] = "demo",
    layout: Annotated[
        str, typer.Option(help="cityflow, cityflow2020 or veri; each shows a world of its own.")
    ] = "cityflow",
    seed: Seed = 0,
    workers: Annotated[int | None, typer.Option(help="Processes; default: as many as there are cores.")] = None,
    as_json: Json = False,
) -> None:
    """Make a simulated city: the folder of a published data set, a VehicleX folder, and the truth about both."""
    from vreid.console import Bars
    from vreid.simulator.write import simulate

    with Bars(quiet=as_json) as bars:
        made = simulate(
            out, preset=preset, layout=layout, seed=seed, workers=workers, progress=bars.counter("simulate")
        )
    facts = {"path": str(made.path), "preset": made.preset.name, "layout": made.layout, "seed": made.seed,
             "simulator_version": made.version, "content_hash": made.content_hash, "reused": made.reused,
             "counts": made.counts}  # fmt: skip
    if as_json:
        print_json(facts)
    else:
        counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in made.counts.items())
        print(f"{out}: {'was there already' if made.reused else 'made'}: {counts} (content {made.content_hash})")


def sheet(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A .jpg or .png picture to write.")],
    kind: Annotated[str, typer.Option(help="domains, lookalikes or closeup.")] = "domains",
    seed: Seed = 0,
) -> None:
    """Draw a contact sheet of what the simulator shows."""
    from vreid.simulator.sheet import contact_sheet

    contact_sheet(out, seed=seed, kind=kind)
    print(out)


def check(source: Source, labels: LabelTable = "auto", as_json: Json = False) -> None:
    """Tell what is wrong with a data set, with the file and the mend. Exit code 1 if anything is."""
    from vreid.console import Bars
    from vreid.data.doctor import examine

    dataset = open_sources([source], labels)
    with Bars(quiet=as_json) as bars:
        findings = examine(dataset, progress=bars.counter("read images"))
    if as_json:
        print_json({"dataset": repr(dataset), "notes": dataset.notes, "findings": [f.as_dict() for f in findings]})
    else:
        print(dataset, *(f"note: {note}" for note in dataset.notes), sep="\n")
        for finding in findings:
            print(f"{finding.split}: {finding.check}: {finding.message} {finding.mend}")
        print(f"{len(findings)} findings." if findings else "Nothing is wrong.")
    raise typer.Exit(1 if findings else 0)
