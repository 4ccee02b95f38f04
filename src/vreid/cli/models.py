"""Commands train and extract."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vreid import names
from vreid.cli.extras import extra_of, require_extras
from vreid.cli.options import (
    Device,
    Identities,
    Json,
    LabelTable,
    Source,
    Workers,
    one_job,
    open_source,
    open_sources,
    parse_settings,
    print_json,
    print_validation,
    resolve,
)
from vreid.console import echo
from vreid.errors import InputError

if TYPE_CHECKING:
    from vreid.training.feature_job import WorkerPool


def train_command(
    recipe_name: Annotated[str, typer.Argument(metavar="RECIPE", help="Name of a recipe; see vreid show recipes.")],
    data: Annotated[list[Path], typer.Option(help="Data set to train on; repeat to train on several together.")],
    out: Annotated[Path, typer.Option(help="Run folder.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the recipe; repeatable.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in OUT, to bit-identical weights.")
    ] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write metrics for TensorBoard.")] = False,
    validate: Annotated[
        Path | None,
        typer.Option(
            metavar="SOURCE", help="Evaluate on the labelled query and gallery of this data set during training."
        ),
    ] = None,
    validate_every: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="EPOCHS",
            help="Epochs between evaluations; default: 1. Evaluates on the test set of the first --data if there is no "
            "--validate.",
        ),
    ] = None,
    keep_best: Annotated[
        bool, typer.Option("--keep-best", help="Keep the epoch with the highest validation mAP instead of the last.")
    ] = False,
    workers: Workers = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train a model by a recipe. Resumable: --resume continues an interrupted run to bit-identical weights.

    On several GPUs: torchrun --nproc-per-node 8 -m vreid train ...
    """
    require_extras("train")
    overrides = parse_settings(set_)
    dataset = open_sources(data, "none")  # checked before torch is imported
    validation_set = None
    if validate or validate_every or keep_best:
        validation_set = open_source(validate or data[0], "auto")
    from vreid.recipes import recipe
    from vreid.training.supervised import train
    from vreid.training.validation import Validation

    config = recipe(recipe_name, overrides)
    validation = (
        None
        if validation_set is None
        else Validation.of(validation_set, every=validate_every or 1, keep_best=keep_best)
    )
    with one_job(device, quiet=as_json) as (place, bars):
        model = train(
            config,
            dataset.train,
            out=out,
            device=resolve(place),
            workers=workers,
            resume=resume,
            tensorboard=tensorboard,
            progress=bars,
            validation=validation,
        )
        _print_run(model, as_json)


def _print_run(model: Path, as_json: bool) -> None:
    """Print the path of the model and one line per evaluated epoch."""
    from vreid.models.weights import load_weights
    from vreid.training.metrics_log import read_metrics

    lines = read_metrics(model.parent / "metrics.jsonl") if (model.parent / "metrics.jsonl").exists() else []
    losses = {line["epoch"]: line.get("loss") for line in lines if line.get("event") == "epoch"}
    rows = [{**line, "loss": losses.get(line["epoch"])} for line in lines if line.get("event") == "validation"]
    kept = load_weights(model)[1].get("validation", {}).get("epoch") if rows else None
    if as_json:
        print_json({"model": str(model), **({"validation": rows, "kept_epoch": kept} if rows else {})})
        return
    if rows:
        print_validation(rows, kept)
    echo(f"Model: {model}" + (f" (epoch {kept}, the best on {rows[0]['data']})" if kept else ""))


def extract_command(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="default (the bundled model), a run folder, a .safetensors or .onnx file."
        ),
    ],
    source: Source,
    out: Annotated[Path, typer.Option(help="Folder for the features; an interrupted extraction is continued.")],
    views: Annotated[
        str, typer.Option(help=f"Views of an image whose features are summed, among {', '.join(names.VIEWS)}.")
    ] = "original,flip",
    crops: Annotated[
        Path | None,
        typer.Option(help="Crops for the crop views: a table written by `vreid data crop`, or FOLDER@crop."),
    ] = None,
    unit_views: Annotated[
        bool, typer.Option("--unit-views", help="L2-normalise the features of each view before summing.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch.")] = 64,
    workers: Workers = None,
    sharded: Annotated[
        bool,
        typer.Option(
            "--sharded",
            help="Write the features in shards of 2,048 images and never hold them all in memory; OUT may then be an "
            "address of object storage (s3://, gs://).",
        ),
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Compute on a Ray cluster, to the same bits: local (the cores of this machine), auto, HOST:PORT or "
            "ray://HOST:PORT. OUT must be a folder that all machines share, or object storage.",
        ),
    ] = None,
    ray_workers: Annotated[
        int | None, typer.Option(min=1, help="Processes on the Ray cluster; default: one for each GPU, else CPU.")
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Do not L2-normalise features; they are compared as they are (step norm=raw).")
    ] = False,
    labels: LabelTable = "auto",
    identities: Identities = "auto",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Extract features of the query and gallery images of a data set; with an .onnx file without torch.

    On several GPUs, to the same features: torchrun --nproc-per-node 8 -m vreid extract ...
    """
    if ray is not None and not ray.strip():
        raise InputError("--ray: the address is empty; give local, auto, HOST:PORT or ray://HOST:PORT.")
    if ray is None and ray_workers is not None:
        raise InputError("--ray-workers: is for a Ray cluster; add --ray ADDRESS, or use --workers.")
    require_extras(extra_of(model), *(["ray"] if ray else []))
    from vreid.data.crops import all_images, crops_of
    from vreid.object_storage import is_address, normalised
    from vreid.retrieval_run import SIDES
    from vreid.training.distributed import launched
    from vreid.workflow import extract, extract_shards

    if ray and launched() > 1:
        raise InputError("--ray: the cluster shares the work; start it without torchrun.")
    if is_address(out) and not sharded:
        raise InputError(f"--out {normalised(out)}: features on object storage are written in shards; add --sharded.")
    dataset = open_source(source, labels, identities=identities)
    cut = None if crops is None else all_images(open_sources([crops], "none"))
    shown = None if cut is None else {side: crops_of(getattr(dataset, side), cut) for side in SIDES}
    with (
        one_job(device, quiet=as_json) as (place, bars),
        _ray_pool(model, ray, ray_workers, place, workers) as pool,
    ):
        search = (extract_shards if sharded else extract)(
            model,
            dataset,
            out,
            views=tuple(view for view in views.split(",") if view),
            crops=shown,
            unit_views=unit_views,
            normalise=not raw,
            batch_size=batch_size,
            workers=workers,
            device="cpu" if pool else place,
            progress=bars,
            pool=pool,
        )
        found = search if isinstance(search, dict) else {side: getattr(search, side) for side in SIDES}
        facts = {**{side: repr(found[side]) for side in SIDES}, "out": normalised(out)}
        print_json(facts) if as_json else echo(*facts.values(), sep="\n")


def _ray_pool(
    model: str, address: str | None, count: int | None, device: str, loaders: int | None
) -> AbstractContextManager[WorkerPool | None]:
    """Return the processes of a Ray cluster; None without an address."""
    if not address:
        return nullcontext()
    from vreid.inference.ray_pool import RayPool
    from vreid.inference.shard_workers import ModelCopy, ShardWorker

    return RayPool(ShardWorker(ModelCopy.of(model), device, loaders), address, count)
