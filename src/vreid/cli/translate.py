"""Command group `data translate`: image-to-image translation from synthetic to real (SPGAN)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vreid import names
from vreid.cli.extras import require_extras
from vreid.cli.options import Device, Json, Workers, one_job, open_sources, parse_settings, print_json, resolve
from vreid.console import echo

group = typer.Typer(help="Translate synthetic images to the style of real ones (SPGAN).", no_args_is_help=True)
Synthetic = Annotated[Path, typer.Argument(metavar="SYNTHETIC", help="Data set of the images to translate.")]


@group.command("train")
def train_command(
    synthetic: Synthetic,
    real: Annotated[Path, typer.Argument(metavar="REAL", help="Data set of real images, the target style.")],
    out: Annotated[Path, typer.Option(help="Run folder; samples/ in it holds translated images per epoch.")],
    recipe: Annotated[
        str, typer.Option(help=f"Recipe: {', '.join(names.TRANSLATIONS)}; the small one takes minutes on a CPU.")
    ] = "spgan_small",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the recipe; repeatable.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in OUT, to bit-identical weights.")
    ] = False,
    workers: Workers = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train an unpaired translation from the training images of both data sets; labels are not used.

    On several GPUs, as many as divide batch_size: torchrun --nproc-per-node 4 -m vreid data translate train ...
    """
    require_extras("train")
    from vreid.recipes.spgan import translation
    from vreid.training.translate import train_translation

    config = translation(recipe, parse_settings(set_))
    sides = [open_sources([source], "none").train for source in (synthetic, real)]
    with one_job(device, quiet=as_json) as (place, bars):
        model = train_translation(
            config, *sides, out=out, device=resolve(place), workers=workers, resume=resume, progress=bars
        )
        print_json({"model": str(model)}) if as_json else echo(f"Translation model: {model}")


@group.command("apply")
def apply_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of `train`, or its model.safetensors.")],
    synthetic: Synthetic,
    out: Annotated[
        Path, typer.Option(help="Folder for sys_image_train_tr; the data set's own folder allows FOLDER@translated.")
    ],
    workers: Workers = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Translate all training images, keeping names and sizes. An interrupted translation is continued.

    On several GPUs, to the same images: torchrun --nproc-per-node 8 -m vreid data translate apply ...
    """
    require_extras("train")
    from vreid.training.translate_images import translate

    records = open_sources([synthetic], "none").train
    with one_job(device, quiet=as_json) as (place, bars):
        made = translate(run, records, out, device=resolve(place), workers=workers, progress=bars)
        facts = {"path": str(out), "images": len(made)}
        text = f"{out}: {len(made):,} translated images; read them as {out}@translated"
        print_json(facts) if as_json else echo(text)
