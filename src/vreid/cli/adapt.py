"""Command adapt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vreid import names
from vreid.cli.extras import needs
from vreid.cli.options import Device, Json, LabelTable, Source, open_source, open_sources, print_json, resolve, settings
from vreid.console import say

LATER = "later.csv"
"""The table of the images that adaptation has not seen, in the run folder."""


def adapt_command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A run folder, or its model.safetensors.")],
    target: Source,
    out: Annotated[Path, typer.Option(help="Folder of the adaptation; a model like any other.")],
    preset: Annotated[
        str,
        typer.Option(help=f"{', '.join(names.ADAPTATIONS)}: auto follows from the data, the others are as published."),
    ] = "auto",
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the preset.")] = None,
    recluster: Annotated[int | None, typer.Option(help="Label anew after so many epochs; 0: once.")] = None,
    source: Annotated[
        list[Path] | None,
        typer.Option(
            help="Labelled data that the model was trained on: their labels tell scene groups apart (v2; default: the "
            "training images of the target), and they are half of each batch with --set replay=true."
        ),
    ] = None,
    before: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help=f"Adapt to this earlier share of the images only; OUT/{LATER} lists the rest, to be tested on.",
        ),
    ] = None,
    gate: Annotated[bool, typer.Option(help="Keep the old model unless evidence speaks for the new one.")] = True,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in OUT, to the same weights.")] = False,
    labels: LabelTable = "auto",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Adapt a model to unlabelled images of other cameras by pseudo labels; keep it only on evidence that it helps."""
    needs("train", "adapt", "report")
    from vreid.adaptation.adapt_config import preset_named
    from vreid.training.model_file import model_file

    model_file(model)
    dataset = open_source(target, labels)  # what can be wrong without torch, before torch is imported
    from vreid.adaptation.adapt import FACTS, target_images, with_scene_groups
    from vreid.adaptation.holdout import earlier
    from vreid.adaptation.repeated import adapt
    from vreid.configuration import with_overrides
    from vreid.console import ProgressBars
    from vreid.files import parse_errors, read_json

    asked = settings(set_) | ({} if recluster is None else {"recluster": str(recluster)})
    config = with_overrides(preset_named(preset), asked if gate else {**asked, "gate": "false"})
    records, trained = target_images(dataset), open_sources(source, "none").train if source else None
    known = None if before is None else earlier(records, before)
    with ProgressBars(quiet=as_json) as bars:
        made = adapt(
            model,
            records if known is None else records[known],
            with_scene_groups(config, records, dataset.train if trained is None else trained),
            out=out,
            device=resolve(device),
            resume=resume,
            progress=bars,
            source=trained,
        )
    if known is not None:
        records[~known].write_table(out / LATER)
    with parse_errors(out / FACTS):
        facts = {"model": str(made), **read_json(out / FACTS)}
        decision = facts.get("verdict", {}).get("decision", "not evaluated")
        words = (
            f"{facts['clusters']:,} clusters, {facts['noise']:.0%} of {facts['images']:,} images in none; {decision}"
        )
    print_json(facts) if as_json else say(f"The model: {made} ({words})")
