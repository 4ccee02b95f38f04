"""Command `data crop`: crops from activation maps, without box labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vreid import names
from vreid.cli.extras import require_extras
from vreid.cli.options import Device, Json, LabelTable, Source, open_sources, parse_settings, print_json, resolve
from vreid.console import echo


def crop_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Run folder of recipe crop_model or crop_model_small.")],
    source: Source,
    out: Annotated[
        Path,
        typer.Option(
            help="A table of boxes to write (.csv), cropped when loading; or a folder for cropped images: a CityFlow "
            "data set's own, or its parent."
        ),
    ],
    how: Annotated[
        str,
        typer.Option(
            "--config", metavar="NAME", help=f"Settings: {' or '.join(names.CROP_CONFIGS)}; see docs/guides/crops.md."
        ),
    ] = "voc",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting: border, ratio, margin, enlargement, ..."),
    ] = None,
    labels: LabelTable = "auto",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Crop the vehicle in each image by activation maps of a trained model, without box labels."""
    require_extras("train")
    from vreid.configuration import with_overrides
    from vreid.data.readers import cityflow
    from vreid.progress_bars import ProgressBars
    from vreid.training.crop import crop_config
    from vreid.training.cropping import crop_dataset

    config = with_overrides(crop_config(how), parse_settings(set_))
    dataset = open_sources([source], labels)
    folders = cityflow.CROPS if dataset.name in cityflow.NAMES else None
    with ProgressBars(quiet=as_json) as bars:
        made = crop_dataset(model, dataset, out, config, folders=folders, device=resolve(device), progress=bars)
    counts = {split: len(getattr(made, split)) for split in ("train", "query", "gallery")}
    if as_json:
        print_json({"path": str(out), "counts": counts})
    else:
        echo(f"{out}: crops of", ", ".join(f"{count:,} {split}" for split, count in counts.items()), "images")
