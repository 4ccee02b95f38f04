"""`vreid weights`: ImageNet's weights as published, and the shipped trunks, to start from; one's own to carry away."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vreid.cli.options import Json, print_json

group = typer.Typer(
    help="Published weights to start training from, and trained ones to carry elsewhere.", no_args_is_help=True
)


@group.command("list")
def list_weights(as_json: Json = False) -> None:
    """List the published files that fit a backbone, where they lie once fetched, and the shipped trunks."""
    from vreid.models.published import PUBLISHED, SIMULATED, file_hash, simulated_starts, weights_folder

    folder = weights_folder()
    rows = [
        {
            "name": name,
            "file": one.file,
            "address": one.address,
            "sha256": one.digits,
            "mean": one.mean,
            "std": one.std,
            "stored": str(folder / one.file),
            "here": (folder / one.file).exists(),
        }
        for name, one in PUBLISHED.items()
    ]
    starts = simulated_starts()
    rows += [
        {
            "name": name,
            "file": path.name,
            "address": SIMULATED,
            "sha256": file_hash(path),
            "stored": str(path),
            "here": True,
        }
        for name, path in starts.items()
    ]
    if as_json:
        print_json(rows)
        return
    width = max(len(str(row["name"])) for row in rows)
    for row in rows:
        print(f"{row['name']:{width}}  {'here  ' if row['here'] else 'absent'}  {row['address']}")
    print(f"Published files are stored in {folder}; their sha256 begins with the digits that the name ends in.")
    print(f"Simulated starts are part of vreid: --set model.weights={SIMULATED}; pretrained on a simulated world.")


@group.command("get")
def get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A backbone, or the name of its published file.")],
    source: Annotated[Path | None, typer.Option("--from", metavar="FILE", help="Take this copy; no download.")] = None,
    folder: Annotated[Path | None, typer.Option("--to", metavar="FOLDER", help="Store it here.")] = None,
    as_json: Json = False,
) -> None:
    """Fetch a published file, going on where a broken download stopped, and check it against its name."""
    from vreid.console import Bars
    from vreid.models.published import get_weights, published_as

    published = published_as(name)
    with Bars(quiet=as_json) as bars:
        path = get_weights(published, folder=folder, source=source, progress=bars.counter(published.file))
    print_json({"name": published.backbone, "file": str(path)}) if as_json else print(path)


@group.command("export")
def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A run folder, or its model.safetensors.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write; a MODEL like any other.")],
    as_json: Json = False,
) -> None:
    """Write a trained model in half precision, for another machine: half the bytes, almost the same features."""
    from vreid.training.extract import export_half

    export_half(model, out)
    size = out.stat().st_size
    print_json({"file": str(out), "bytes": size}) if as_json else print(f"{out}: {size / 1e6:.1f} MB")
