"""Command group `data translate`: synthetic images in the look of real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vreid import names
from vreid.cli.extras import needs
from vreid.cli.options import Device, Json, open_sources, print_json, resolve, settings
from vreid.console import say

group = typer.Typer(help="Repaint synthetic images in the look of real ones (SPGAN).", no_args_is_help=True)
Synthetic = Annotated[Path, typer.Argument(metavar="SYNTHETIC", help="Data set with the images to be translated.")]


@group.command("train")
def train_command(
    synthetic: Synthetic,
    real: Annotated[Path, typer.Argument(metavar="REAL", help="Data set with the images that show the look.")],
    out: Annotated[Path, typer.Option(help="Run folder; samples/ in it shows how it goes.")],
    recipe: Annotated[
        str, typer.Option(help=f"One of {', '.join(names.TRANSLATIONS)}; the small one takes minutes on a CPU.")
    ] = "spgan_small",
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in OUT, to the same weights.")] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Learn, from training images without pairs or labels, to repaint one domain as the other."""
    needs("train")
    from vreid.console import ProgressBars
    from vreid.recipes.spgan import translation
    from vreid.training.translate import train_translation

    config = translation(recipe, settings(set_))
    sides = [open_sources([source], "none").train for source in (synthetic, real)]
    with ProgressBars(quiet=as_json) as bars:
        model = train_translation(config, *sides, out=out, device=resolve(device), resume=resume, progress=bars)
    print_json({"model": str(model)}) if as_json else say(f"The translation: {model}")


@group.command("apply")
def apply_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of `train`, or its model.safetensors.")],
    synthetic: Synthetic,
    out: Annotated[
        Path, typer.Option(help="Folder for sys_image_train_tr; the data set's own makes FOLDER@translated readable.")
    ],
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Translate all training images, with their names and sizes; a stopped translation goes on."""
    needs("train")
    from vreid.console import ProgressBars
    from vreid.training.translate_images import translate

    records = open_sources([synthetic], "none").train
    with ProgressBars(quiet=as_json) as bars:
        made = translate(run, records, out, device=resolve(device), progress=bars)
    facts = {"path": str(out), "images": len(made)}
    print_json(facts) if as_json else say(f"{out}: {len(made):,} translated images; read them as {out}@translated")
