"""Command adapt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vreid import names
from vreid.cli.calibrate_store import store_address
from vreid.cli.extras import require_extras
from vreid.cli.options import (
    Device,
    Json,
    LabelTable,
    Workers,
    one_job,
    open_source,
    open_sources,
    parse_settings,
    print_json,
    resolve,
)
from vreid.console import echo
from vreid.errors import InputError

LATER = "later.csv"
"""Table of the images that were held out of the adaptation, in its run folder."""


def adapt_command(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|STORE",
            help="default (the bundled model), a run folder or a .safetensors file; or a store, whose model is adapted "
            "to its own crops.",
        ),
    ],
    target: Annotated[
        Path | None, typer.Argument(metavar="[SOURCE]", help="Unlabelled images of the new cameras; none for a store.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Run folder of the adaptation; usable as a MODEL. Of a store: optional, kept for --resume."),
    ] = None,
    preset: Annotated[
        str,
        typer.Option(
            help=f"Settings: {', '.join(names.ADAPTATIONS)}; auto derives them from the data, the others are published."
        ),
    ] = "auto",
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the preset.")] = None,
    recluster: Annotated[
        int | None, typer.Option(metavar="EPOCHS", help="Epochs between clusterings; 0: cluster once.")
    ] = None,
    source: Annotated[
        list[Path] | None,
        typer.Option(
            help="Labelled data that the model was trained on: gives the scene groups (v2; default: the training "
            "images of the target) and, with --set replay=true, half of each batch."
        ),
    ] = None,
    before: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help=f"Adapt only to this earliest share of the images; OUT/{LATER} lists the rest, for testing.",
        ),
    ] = None,
    gate: Annotated[
        bool, typer.Option(help="Keep the old model unless the evidence shows that the new one is better.")
    ] = True,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in OUT, to bit-identical weights.")
    ] = False,
    labels: LabelTable = "auto",
    workers: Workers = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Adapt a model to unlabelled images of other cameras with pseudo labels.

    The adapted model is kept only if evidence from the unlabelled images shows that it is better. A store then takes it
    over: all its features are computed again. On several GPUs (not for a store): torchrun --nproc-per-node 8 -m vreid
    adapt ...
    """
    require_extras("train", "adapt", "report")
    from vreid.adaptation.adapt_config import preset_named
    from vreid.training.model_file import model_file

    if target is None and (address := store_address(model)) is not None:
        if source or before is not None:
            raise InputError("adapt: --source and --before are for a data set, not for a store; leave them out.")
        asked = parse_settings(set_) | ({} if recluster is None else {"recluster": str(recluster)})
        _adapt_store(address, preset, asked if gate else {**asked, "gate": "false"}, out, resume, device, as_json)
        return
    if target is None or out is None:
        missing = "SOURCE, the unlabelled images" if target is None else "the run folder, --out FOLDER"
        raise InputError(f"adapt: name {missing} (or give a store in the place of MODEL).")
    model_file(model)
    dataset = open_source(target, labels)  # checked before torch is imported
    from vreid.adaptation.adapt import FACTS, target_images, with_scene_groups
    from vreid.adaptation.holdout import earlier
    from vreid.adaptation.repeated import adapt
    from vreid.configuration import with_overrides
    from vreid.files import parse_errors, read_json
    from vreid.training.distributed import ProcessGroup

    asked = parse_settings(set_) | ({} if recluster is None else {"recluster": str(recluster)})
    config = with_overrides(preset_named(preset), asked if gate else {**asked, "gate": "false"})
    records, trained = target_images(dataset), open_sources(source, "none").train if source else None
    known = None if before is None else earlier(records, before)
    with one_job(device, quiet=as_json) as (place, bars):
        made = adapt(
            model,
            records if known is None else records[known],
            with_scene_groups(config, records, dataset.train if trained is None else trained),
            out=out,
            device=resolve(place),
            workers=workers,
            resume=resume,
            progress=bars,
            source=trained,
        )
        if known is not None and ProcessGroup.current().first:
            records[~known].write_table(out / LATER)
        with parse_errors(out / FACTS):
            facts = {"model": str(made), **read_json(out / FACTS)}
            decision = facts.get("verdict", {}).get("decision", "not evaluated")
            noise = f"{facts['noise']:.0%} of {facts['images']:,} images in none"
            summary = f"{facts['clusters']:,} clusters, {noise}; {decision}"
        print_json(facts) if as_json else echo(f"Model: {made} ({summary})")


def _adapt_store(
    address: str, preset: str, asked: dict[str, str], out: Path | None, resume: bool, device: str, as_json: bool
) -> None:
    from vreid.adaptation.adapt_config import preset_named
    from vreid.configuration import with_overrides
    from vreid.progress_bars import ProgressBars
    from vreid.store.adapt_store import adapt_store
    from vreid.training.distributed import launched

    if launched() > 1:
        raise InputError("adapt: a store is adapted by one process; start it without torchrun.")
    if resume and out is None:
        raise InputError("--resume: continues the run in --out FOLDER; name it.")
    config = with_overrides(preset_named(preset), asked)
    with ProgressBars(quiet=as_json) as bars:
        found = adapt_store(address, config, out=out, device=resolve(device), resume=resume, progress=bars)
    if as_json:
        print_json(found.as_dict())
        return
    echo(f"{found.decision}. {found.reason}".strip())
    if found.model:
        echo(f"Model: {found.model}")
    echo(found.next_step)
