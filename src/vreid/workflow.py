"""Train, adapt and extract with one call each, from a data set or from records."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, overload

from vreid.data.dataset import Dataset, fingerprint
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.files import parse_errors, read_json
from vreid.locks import locked
from vreid.object_storage import below, is_address, normalised
from vreid.retrieval.feature_shards import FeatureShards
from vreid.retrieval.features import FACTS, FeatureSet
from vreid.retrieval_run import SIDES, RetrievalRun, write_facts
from vreid.training.distributed import ProcessGroup

if TYPE_CHECKING:
    from vreid.adaptation.adapt_config import AdaptConfig
    from vreid.inference.embedder import Embedder
    from vreid.progress import Progress
    from vreid.training.extract import TrainedModel
    from vreid.training.feature_job import WorkerPool
    from vreid.training.train_config import TrainConfig
    from vreid.training.validation import Validation

VIEWS = ("original", "flip")
"""Default views of an image whose features are summed."""


def train(
    recipe: TrainConfig | str,
    data: Dataset | Records,
    out: Path | str,
    *,
    settings: Mapping[str, str] | None = None,
    validation: Validation | Dataset | None = None,
    resume: bool = False,
    device: str = "auto",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train a model by a recipe and return its path.

    Args:
        recipe: a configuration, or the name of a recipe (`vreid.recipes.RECIPES`).
        data: training images: those of a data set, or records.
        out: the run folder.
        settings: fields of the recipe to change, as text: {"epochs": "3", "transform.height": "128"}.
        validation: a data set whose labelled query and gallery are evaluated every epoch, or the validation settings.
        resume: continue the run in `out`, or start it if there is none.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", ...
        workers: processes that load images (None: chosen for the device).
        progress: listener for cost estimate, steps and time.

    Raises:
        InputError: as `vreid.training.supervised.train`; or there is no such recipe, setting or device.

    Example:
        >>> train("small", open_dataset("vehicles.csv"), "run", settings={"epochs": "3"})   # doctest: +SKIP
        PosixPath('run/model.safetensors')
    """
    from vreid.configuration import with_overrides
    from vreid.environment import resolve_device
    from vreid.recipes import recipe as recipe_named
    from vreid.training.supervised import train as train_records
    from vreid.training.validation import Validation

    config = recipe_named(recipe, settings) if isinstance(recipe, str) else with_overrides(recipe, settings or {})
    return train_records(
        config,
        data.train if isinstance(data, Dataset) else data,
        out=out,
        device=resolve_device(device),
        workers=workers,
        resume=resume,
        progress=progress,
        validation=Validation.of(validation) if isinstance(validation, Dataset) else validation,
    )


def adapt(
    model: Path | str,
    data: Dataset | Records,
    out: Path | str,
    config: AdaptConfig | str = "auto",
    *,
    source: Dataset | Records | None = None,
    resume: bool = False,
    device: str = "auto",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Adapt a model to unlabelled images of new cameras and return the path of the model to use.

    Args:
        model: a run folder or the .safetensors file of a trained model; it is not changed.
        data: unlabelled target images: the query and gallery of a data set, or records; labels are not used.
        out: the folder of the adaptation, which can be used as a model.
        config: a configuration, or the name of a preset (`vreid.adaptation.adapt_config.PRESETS`).
        source: labelled images that the model was trained on, for replay and scene groups.
        resume: continue the adaptation in `out`, or start it if there is none.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", ...
        workers: processes that load images.
        progress: listener for settings, cost and steps.

    Raises:
        InputError: as `vreid.adaptation.repeated.adapt`; or there is no such preset or device.

    Example:
        >>> adapt("run", open_dataset("new-cameras"), "adapted")   # doctest: +SKIP
        PosixPath('adapted/model.safetensors')
    """
    from vreid.adaptation.adapt import target_images
    from vreid.adaptation.adapt_config import preset_named
    from vreid.adaptation.repeated import adapt as adapt_to_records
    from vreid.environment import resolve_device

    return adapt_to_records(
        model,
        target_images(data) if isinstance(data, Dataset) else data,
        preset_named(config) if isinstance(config, str) else config,
        out=out,
        device=resolve_device(device),
        workers=workers,
        resume=resume,
        progress=progress,
        source=source.train if isinstance(source, Dataset) else source,
    )


@overload
def extract(
    model: Path | str | TrainedModel | Embedder,
    data: Dataset,
    out: Path | str | None = ...,
    *,
    views: tuple[str, ...] = ...,
    crops: Mapping[str, Records] | None = ...,
    unit_views: bool = ...,
    normalise: bool = ...,
    device: str = ...,
    batch_size: int = ...,
    workers: int | None = ...,
    progress: Progress | None = ...,
    pool: WorkerPool | None = ...,
) -> RetrievalRun: ...
@overload
def extract(
    model: Path | str | TrainedModel | Embedder,
    data: Records,
    out: Path | str | None = ...,
    *,
    views: tuple[str, ...] = ...,
    crops: Records | None = ...,
    unit_views: bool = ...,
    normalise: bool = ...,
    device: str = ...,
    batch_size: int = ...,
    workers: int | None = ...,
    progress: Progress | None = ...,
    pool: WorkerPool | None = ...,
) -> FeatureSet: ...
def extract(
    model: Path | str | TrainedModel | Embedder,
    data: Dataset | Records,
    out: Path | str | None = None,
    *,
    views: tuple[str, ...] = VIEWS,
    crops: Mapping[str, Records] | Records | None = None,
    unit_views: bool = False,
    normalise: bool = True,
    device: str = "auto",
    batch_size: int = 64,
    workers: int | None = None,
    progress: Progress | None = None,
    pool: WorkerPool | None = None,
) -> RetrievalRun | FeatureSet:
    """Extract the features of a data set's query and gallery, or of records.

    Arguments are checked before torch is imported where possible.

    Args:
        model: "default", a run folder, the .safetensors file of a trained model, an .onnx file that `vreid export` has
            written, or an `Embedder`; an .onnx file, and "default" without torch, run in onnxruntime.
        data: a data set (a `RetrievalRun` is returned), or N images (a `FeatureSet` is returned).
        out: a folder for a data set, a .safetensors file for records; finished parts there are reused. None: features
            are not stored.
        views: names in `vreid.training.views.VIEWS`, whose features are summed.
        crops: crops for views of crops; for a data set by side ("query", "gallery").
        unit_views: L2-normalise the feature of each view before summation.
        normalise: L2-normalise the features; otherwise they are compared unnormalised.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", ...
        batch_size: images per batch.
        workers: processes that load images (None: chosen for the device).
        progress: listener that counts images.
        pool: processes that compute the features (`vreid.inference.ray_pool`), to the same bits; needs `out`. None:
            this process.

    Raises:
        InputError: the model or an image cannot be read, the data set has no query or gallery images, or `out` holds
            features of something else.

    Example:
        >>> run = extract("run", open_dataset("vehicles.csv"), "features")   # doctest: +SKIP
        >>> print(run.evaluate())                                            # doctest: +SKIP
    """
    from vreid.training.model_file import model_file
    from vreid.training.views import check_views

    if isinstance(model, (str, Path)):
        model_file(model, onnx=True)
    check_views(views, crops=bool(crops))
    if isinstance(data, Dataset):
        if isinstance(crops, Records):
            raise InputError('extract: give the crops of a data set by side: {"query": ..., "gallery": ...}.')
        by_side = crops or {}
        _check_folder(data, out)
    from vreid.inference.extraction import extractor_of
    from vreid.training.feature_job import ExtractionSettings, FeatureJob

    extractor = extractor_of(model, device, workers, progress)
    settings = ExtractionSettings(views, unit_views, normalise, batch_size)

    def features(records: Records, crops: Records | None, file: Path | str | None) -> FeatureSet:
        return FeatureJob(records, extractor, settings, out=file, progress=progress, crops=crops).run(pool)

    if isinstance(data, Records):
        if isinstance(crops, Mapping):
            raise InputError("extract: give the crops of records as records.")
        return features(data, crops, out)

    def run() -> RetrievalRun:
        same = data.query == data.gallery  # every image a query: one extraction, stored once, serves both sides
        sets = [
            features(
                _absolute(getattr(data, side)),
                by_side.get(side),
                None if out is None else Path(out) / f"{side}.safetensors",
            )
            for side in (SIDES[:1] if same else SIDES)
        ]
        facts = _facts(data, model, sets[0].model, sets[0].views, by_side)
        return RetrievalRun(sets[0], sets[-1], data.protocol, _cameras(data), facts)

    if out is None or not ProcessGroup.current().first:
        return run()
    with locked(out):
        _check_crops(Path(out), by_side)
        made = run()
        made.save_facts(out)
    return made


def extract_shards(
    model: Path | str | TrainedModel | Embedder,
    data: Dataset,
    out: Path | str,
    *,
    views: tuple[str, ...] = VIEWS,
    crops: Mapping[str, Records] | None = None,
    unit_views: bool = False,
    normalise: bool = True,
    device: str = "auto",
    batch_size: int = 64,
    workers: int | None = None,
    progress: Progress | None = None,
    pool: WorkerPool | None = None,
) -> dict[str, FeatureShards]:
    """Extract a data set's query and gallery as `extract` does, in shards that are never held in memory together.

    Args:
        out: a folder, or an address of object storage ("s3://BUCKET/FOLDER"); `RetrievalRun.load` reads a folder of
            this machine, to which one on object storage is copied first.
        model, data, views, crops, unit_views, normalise, device, batch_size, workers, progress, pool: see `extract`.

    Returns:
        The shards of "query" and "gallery"; the same ones if every image is both.

    Raises:
        InputError: as `extract`.

    Example:
        >>> shards = extract_shards("default", open_dataset("s3://bucket/images"), "s3://bucket/features")
        ... # doctest: +SKIP
        >>> for part in shards["gallery"]:            # doctest: +SKIP
        ...     part.features, part.records
    """
    from vreid.inference.extraction import extractor_of
    from vreid.training.feature_job import ExtractionSettings, FeatureJob
    from vreid.training.views import check_views

    check_views(views, crops=bool(crops))
    _check_folder(data, out)
    by_side = crops or {}
    extractor = extractor_of(model, device, workers, progress)
    settings = ExtractionSettings(views, unit_views, normalise, batch_size)
    same = data.query == data.gallery
    first = ProcessGroup.current().first
    with nullcontext() if is_address(out) or not first else locked(normalised(out)):
        if not is_address(out) and first:
            _check_crops(Path(normalised(out)), by_side)
        found = {
            side: FeatureJob(
                _absolute(getattr(data, side)),
                extractor,
                settings,
                out=below(out, f"{side}.safetensors"),
                progress=progress,
                crops=by_side.get(side),
            ).run_sharded(pool)
            for side in (SIDES[:1] if same else SIDES)
        }
        facts = _facts(data, model, extractor.hash, settings.names, by_side)
        if first:
            write_facts(out, data.protocol, facts, _cameras(data), once=same)
    return {side: found.get(side, found["query"]) for side in SIDES}


def _check_folder(data: Dataset, out: Path | str | None) -> None:
    """Raise `InputError` if `out` is no folder, or a side of the data set has no images."""
    if out is not None and os.path.exists(out) and not os.path.isdir(out):
        raise InputError(f"{out}: is a file; name a folder for the features.")
    for side in SIDES:
        if not len(getattr(data, side)):
            raise InputError(f"{data.name}: has no {side} images; give a data set with query and gallery.")


def _facts(
    data: Dataset,
    model: Path | str | TrainedModel | Embedder,
    hash_: str,
    views: tuple[str, ...],
    crops: Mapping[str, Records],
) -> dict[str, str | int]:
    """Return the origin of features, for reports."""
    return {
        "data set": data.name,
        **data.source,
        "model": str(model if isinstance(model, (str, Path)) else model.source),
        "model hash": hash_[:16],
        "views": "+".join(views),
        **_crops_fact(crops),
    }


def _cameras(data: Dataset) -> tuple[str, ...]:
    """Return the names of the cameras with training images."""
    cameras = data.train.camera
    return tuple(sorted(set(cameras.values[cameras.known])))


def _crops_fact(crops: Mapping[str, Records]) -> dict[str, str]:
    """Return the entry of a features folder that identifies the crops."""
    return {"crops": "+".join(fingerprint(crops[side]) for side in SIDES)} if crops else {}


def _check_crops(out: Path, crops: Mapping[str, Records]) -> None:
    """Raise `InputError` if the folder `out` holds features of other crops."""
    if (out / FACTS).is_file():
        with parse_errors(out / FACTS):
            if read_json(out / FACTS)["facts"].get("crops") != _crops_fact(crops).get("crops"):
                raise InputError(f"{out}: holds features of other crops, or of none; name another folder.")


def _absolute(records: Records) -> Records:
    """Return the records with absolute paths, because features may be read from another working directory."""
    return records.with_(path=[path if is_address(path) else os.path.abspath(path) for path in records.path])
