"""Feature extraction, resumable, and loading of trained models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from vreid.data.augment import TestTransform
from vreid.data.devices import Backoff, fetch_behind
from vreid.data.loading import test_loader
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.files import parse_errors
from vreid.formats.facts import fact
from vreid.models.reid_model import ModelConfig, ReidModel, build_from
from vreid.models.transreid import TransReIDOptions
from vreid.models.weights import load_strict, load_weights, save_half, weights_hash
from vreid.progress import Progress
from vreid.retrieval.features import FeatureSet
from vreid.training.feature_job import ExtractionSettings, FeatureJob, Rows
from vreid.training.model_file import model_file
from vreid.training.precision import Precision, autocast, choose_precision
from vreid.training.targets import batch_labels, side_information
from vreid.training.views import VIEWS, check_views


@dataclass(frozen=True)
class TrainedModel:
    """A trained model in evaluation mode.

    Attributes:
        model: the network.
        transform: preprocessing of images, as in training.
        hash: see `model_hash`; it is stored with features, so that features of different models are never mixed.
        source: the file of the model.
        facts: the metadata of the file.
    """

    model: ReidModel
    transform: TestTransform
    hash: str
    source: Path
    facts: Mapping[str, Any] = field(default_factory=dict)


def load_trained(source: Path | str) -> TrainedModel:
    """Load a trained model in torch; see `model_file` for what `source` may be.

    Raises:
        InputError: nothing exists at the path, the run is not finished, or the file is not a model of vreid.

    Example:
        >>> trained = load_trained("runs/first")                                              # doctest: +SKIP
        >>> extract(trained.model, dataset.query, transform=trained.transform)              # doctest: +SKIP
        FeatureSet: 1,103 x 256, normalised, views original+flip, ...
    """
    path, state, facts = _read_model(source)
    with parse_errors(path):
        config = replace(ModelConfig.of(fact(facts, "model", dict[str, Any])), weights="")
        identities = fact(facts, "num_identities", int | None)  # type: ignore[arg-type]
        heads = fact(facts, "heads", dict[str, int], {})
        transform = fact(facts, "transform", TestTransform)
        cameras = fact(facts, "cameras", tuple[str, ...], ())
        _check_sizes(config, identities, heads, state, path)
        model = build_from(config, identities, heads)
    load_strict(model, state, path)
    model.cameras = cameras
    return TrainedModel(model.eval(), transform, model_hash(model, transform), path, facts)


def _check_sizes(
    config: ModelConfig, identities: int | None, heads: Mapping[str, int], state: Mapping[str, Tensor], path: Path
) -> None:
    """Check that weights and metadata match before memory is allocated for the model.

    Raises:
        InputError: they do not match, or the described model cannot be built.
    """
    wrong = InputError(f"{path}: is damaged (its metadata describe a model that cannot be built); make it again.")
    if any(count < 1 for count in (1 if identities is None else identities, *heads.values())):
        raise wrong
    try:
        with torch.device("meta"):
            described = build_from(config, identities, heads)
    except (RuntimeError, OverflowError) as error:
        raise wrong from error
    load_strict(described, {name: value.to("meta") for name, value in state.items()}, path)


def _read_model(source: Path | str) -> tuple[Path, dict[str, Tensor], dict[str, Any]]:
    """Return the model file of a run folder or file, its weights and its metadata."""
    path = model_file(source)
    state, facts = load_weights(path)
    if facts.get("kind") != "model":
        raise InputError(f"{path}: is not a trained model of vreid; give the model.safetensors of a run.")
    return path, state, facts


def export_half(source: Path | str, out: Path | str, facts: Mapping[str, Any] | None = None) -> None:
    """Export a trained model in half precision, with half the file size; it can be used like any other model.

    Its features are close to those of the original but have another `model_hash`, so the two are never mixed.

    Args:
        source: a run folder or the .safetensors file of a trained model.
        out: a .safetensors file.
        facts: metadata to add, such as "threshold", "temperatures", "licence" and "card".

    Raises:
        InputError: as `load_trained`, or `out` has another suffix or cannot be written.
    """
    if Path(out).suffix != ".safetensors":
        raise InputError(f"{out}: the name of a file of weights must end in .safetensors; rename it.")
    _, state, stored = _read_model(source)
    stored |= facts or {}
    threshold = stored.pop("threshold", None)
    model = "" if threshold is None else load_trained(source).hash
    if threshold is not None:
        threshold_of(threshold, model, model)  # before anything is written
    save_half(out, state, stored)
    if threshold is not None:
        save_half(out, state, {**stored, "threshold": threshold_of(threshold, model, load_trained(out).hash)})


def threshold_of(threshold: Mapping[str, Any], model: str, exported: str) -> dict[str, Any]:
    """Return the plain threshold of the model with the hash `model` as that of its export with the hash `exported`.

    Raises:
        InputError: it was calibrated for another model.
    """
    made_by, begin = str(threshold.get("features", "")), f"model {model[:16]},"
    if not made_by.startswith(begin):
        raise InputError(
            f"the threshold was calibrated for other features ({made_by or 'of an unknown model'}) than this model's "
            f"({begin.rstrip(',')}); calibrate one for it."
        )
    return {**threshold, "features": f"model {exported[:16]},{made_by.removeprefix(begin)}"}


def extract(
    model: ReidModel,
    records: Records,
    *,
    transform: TestTransform,
    batch_size: int = 64,
    device: str = "cpu",
    workers: int | None = None,
    views: Sequence[str] = ("original", "flip"),
    crops: Records | None = None,
    unit_views: bool = False,
    normalise: bool = True,
    precision: Precision = "auto",
    out: Path | str | None = None,
    resume: bool = True,
    progress: Progress | None = None,
) -> FeatureSet:
    """Extract the features of all records, in their order: neck features summed over the views, then L2-normalised.

    Args:
        model: the network; it is moved to `device` and set to evaluation mode.
        records: N images; labels are not used, except cameras and orientations if a TransReID has embeddings for them
            (unknown values and cameras without an embedding use the mean embedding).
        transform: preprocessing of the model (`TrainedModel.transform`).
        batch_size: images per batch; affects only speed, memory and rounding. Features of equal batch sizes are equal
            to the bit, resumed or not. Where a batch does not fit the device's memory, half of it goes through the
            network at once from then on, and a note says so.
        device: "cpu", "cuda", ...
        workers: processes that load images (None: chosen for the device).
        views: names in `vreid.training.views.VIEWS`.
        crops: crops of all records (matched by `image_key`), for views of crops; see `vreid.training.crop`.
        unit_views: L2-normalise the feature of each view before summation, so that all have the same weight.
        normalise: L2-normalise the sums; otherwise the features are compared unnormalised (`FeatureSet.raw`).
        precision: number type of convolutions; see `vreid.training.precision.choose_precision` for "auto".
        out: a .safetensors file to write. Finished shards are kept in a folder next to it, from which a stopped
            extraction resumes.
        resume: use finished shards, or a finished file, of the same model, images and settings; False starts again.
        progress: listener, counts images.

    Raises:
        InputError: an image cannot be read, a view is unknown, an image has no crop but a view needs it, or `out` holds
            other features.
    """
    check_views(views, crops=crops is not None)
    return FeatureJob(
        records,
        TorchExtractor(model, transform, device=device, workers=workers, precision=precision, progress=progress),
        ExtractionSettings(tuple(views), unit_views, normalise, batch_size),
        out=out,
        resume=resume,
        progress=progress,
        crops=crops,
    ).run()


class TorchExtractor:
    """Features by a network in torch; see `vreid.training.feature_job.Extractor`.

    Args:
        model, transform, device, workers, precision: see `extract`.
        progress: listener, is told when the device's memory is full.
    """

    def __init__(
        self,
        model: ReidModel,
        transform: TestTransform,
        *,
        device: str = "cpu",
        workers: int | None = None,
        precision: Precision = "auto",
        progress: Progress | None = None,
    ) -> None:
        self.model, self.transform, self.workers = model, transform, workers
        self.hash, self.num_features = model_hash(model, transform), model.num_features
        self._place, self._precision, self._progress = torch.device(device), precision, progress or Progress()

    def precision(self, stored: str | None) -> tuple[str, str]:
        """Return the number type that is asked for, else the one of `stored` shards, else the fastest; and why."""
        if stored is not None and self._precision == "auto":
            return stored, f"Precision {stored}: as at the start of the extraction."
        choice = choose_precision(self._precision, self._place, self.model, training=False)
        return choice.dtype, f"Precision {choice}."

    def features(
        self, shown: Mapping[bool, Records], batches: Sequence[Rows], settings: ExtractionSettings, precision: str
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the features (B, D) of each batch, summed over the views."""
        return fetch_behind(self._queued(shown, batches, settings, precision))

    def _queued(
        self, shown: Mapping[bool, Records], batches: Sequence[Rows], settings: ExtractionSettings, precision: str
    ) -> Iterator[Tensor]:
        """Yield the features (B, D) of each batch on the device."""
        model = self.model.to(self._place).to(memory_format=torch.channels_last).eval()
        sides = side_information(getattr(model.backbone, "options", TransReIDOptions()), model.cameras, shown[False])
        backoff = Backoff(settings.batch_size, "images", self._place, self._progress.note)

        def features_of(images: Mapping[bool, Tensor], rows: Rows, part: slice) -> Tensor:
            parts, chosen = [], rows[part]
            with torch.inference_mode(), autocast(precision, self._place):
                for cropped, flipped in (VIEWS[view] for view in settings.views):
                    image = images[cropped][part].flip(-1) if flipped else images[cropped][part]
                    side_labels = batch_labels(sides, chosen, np.full(len(chosen), flipped), self._place)
                    parts.append(model(image.contiguous(memory_format=torch.channels_last), **side_labels).float())
            return torch.stack([functional.normalize(one) for one in parts] if settings.unit_views else parts).sum(
                dim=0
            )

        loaders = [
            test_loader(shown[cropped], self.transform, batches=batches, workers=self.workers, device=self._place)
            for cropped in settings.kinds
        ]
        for loaded in zip(*loaders, strict=True):
            images = {cropped: batch.images for cropped, batch in zip(settings.kinds, loaded, strict=True)}
            rows = loaded[0].rows
            yield torch.cat(backoff.run(len(rows), partial(features_of, images, rows)))


def model_hash(model: ReidModel, transform: TestTransform) -> str:
    """Compute the sha256 of a model's weights and preprocessing; features with equal hashes are comparable."""
    prepared = json.dumps(asdict(transform), sort_keys=True)
    if model.cameras:
        prepared += json.dumps(model.cameras)
    return hashlib.sha256(f"{weights_hash(model.state_dict())} {prepared}".encode()).hexdigest()
