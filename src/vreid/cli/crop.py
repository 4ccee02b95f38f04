"""Command `data crop`: boxes around vehicles that nobody labelled."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vreid import names
from vreid.cli.extras import needs
from vreid.cli.options import Device, Json, LabelTable, Source, open_sources, print_json, resolve, settings
from vreid.console import say


def crop_command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A run of recipe crop_model or crop_model_small.")],
    source: Source,
    out: Annotated[
        Path,
        typer.Option(
            help="A table (.csv) of boxes, cut out while loading; or a folder for cut-out "
            "images: a CityFlow data set's own, or the one above it."
        ),
    ],
    how: Annotated[
        str,
        typer.Option("--config", metavar="NAME", help=f"{' or '.join(names.CROP_CONFIGS)}; see docs/guides/crops.md."),
    ] = "voc",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change it: border, ratio, margin, enlargement, ..."),
    ] = None,
    labels: LabelTable = "auto",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Find the vehicle in each image by activation maps of a trained model, without box labels, and write crops."""
    needs("train")
    from vreid.configuration import with_overrides
    from vreid.console import ProgressBars
    from vreid.data.readers import cityflow
    from vreid.training.crop import crop_config
    from vreid.training.cropping import crop_dataset

    config = with_overrides(crop_config(how), settings(set_))
    dataset = open_sources([source], labels)
    folders = cityflow.CROPS if dataset.name in cityflow.NAMES else None
    with ProgressBars(quiet=as_json) as bars:
        made = crop_dataset(model, dataset, out, config, folders=folders, device=resolve(device), progress=bars)
    counts = {split: len(getattr(made, split)) for split in ("train", "query", "gallery")}
    if as_json:
        print_json({"path": str(out), "counts": counts})
    else:
        say(f"{out}: crops of", ", ".join(f"{count:,} {split}" for split, count in counts.items()), "images")
