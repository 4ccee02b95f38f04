"""Feature extraction, resumable, and loading of trained models."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from vreid.data.augment import TestTransform
from vreid.data.crops import crops_of
from vreid.data.dataset import fingerprint
from vreid.data.loading import test_loader
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.files import parse_errors, read_json, write_json
from vreid.formats.facts import fact
from vreid.models.reid_model import ModelConfig, ReidModel, build_from
from vreid.models.transreid import TransReIDOptions
from vreid.models.weights import load_strict, load_weights, save_half, weights_hash
from vreid.progress import Progress
from vreid.retrieval.features import FeatureSet
from vreid.retrieval.storage import read_arrays, write_arrays
from vreid.training.model_file import model_file
from vreid.training.precision import Precision, autocast, choose_precision
from vreid.training.targets import batch_labels, side_information
from vreid.training.views import VIEWS, check_views

SHARD = 2048
"""Images per shard: the maximum loss of a killed extraction, for any batch size."""


@dataclass(frozen=True)
class TrainedModel:
    """A trained model in evaluation mode.

    Attributes:
        model: the network.
        transform: preprocessing of images, as in training.
        hash: see `model_hash`; it is stored with features, so that features of different models are never mixed.
        source: the file of the model.
    """

    model: ReidModel
    transform: TestTransform
    hash: str
    source: Path


def load_model(source: Path | str) -> TrainedModel:
    """Load a trained model from a run folder or its .safetensors file.

    Raises:
        InputError: nothing exists at the path, the run is not finished, or the file is not a model of vreid.

    Example:
        >>> trained = load_model("runs/first")                                              # doctest: +SKIP
        >>> extract(trained.model, dataset.query, transform=trained.transform)              # doctest: +SKIP
        FeatureSet: 1,103 x 256, normalised, views original+flip, ...
    """
    path, state, facts = _read_model(Path(source))
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
    return TrainedModel(model.eval(), transform, model_hash(model, transform), path)


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


def _read_model(path: Path) -> tuple[Path, dict[str, Tensor], dict[str, Any]]:
    """Return the model file of a run folder or file, its weights and its metadata."""
    path = model_file(path)
    state, facts = load_weights(path)
    if facts.get("kind") != "model":
        raise InputError(f"{path}: is not a trained model of vreid; give the model.safetensors of a run.")
    return path, state, facts


def export_half(source: Path | str, out: Path | str) -> None:
    """Export a trained model in half precision, with half the file size; it can be used like any other model.

    Its features are close to those of the original but have another `model_hash`, so the two are never mixed.

    Args:
        source: a run folder or the .safetensors file of a trained model.
        out: a .safetensors file.

    Raises:
        InputError: as `load_model`, or `out` has another suffix or cannot be written.
    """
    if Path(out).suffix != ".safetensors":
        raise InputError(f"{out}: the name of a file of weights must end in .safetensors; rename it.")
    _, state, facts = _read_model(Path(source))
    save_half(out, state, facts)


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
        batch_size: images per batch; affects only speed, memory and rounding.
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
    progress = progress or Progress()
    check_views(views, crops=crops is not None)
    kinds = sorted({VIEWS[view].cropped for view in views})
    sources = {cropped: crops_of(records, crops) if cropped and crops is not None else records for cropped in kinds}
    if out is not None and Path(out).suffix != ".safetensors":
        raise InputError(f"{out}: the name of a file of features must end in .safetensors; rename it.")
    hashed = model_hash(model, transform)
    named = tuple(f"unit {view}" if unit_views else view for view in views)
    if out is not None and Path(out).exists() and resume:
        found = _finished(Path(out), records, hashed, named, normalise)
        shutil.rmtree(_parts(Path(out)), ignore_errors=True)  # left by a process killed after writing `out`
        return found
    job = {"model": hashed, "views": list(named), "images": fingerprint(records)}
    if True in kinds:
        job["crops"] = fingerprint(sources[True])
    shards = None if out is None else _Shards(Path(out), job, resume)
    place = torch.device(device)
    stored = shards.precision if shards is not None and precision == "auto" else None
    choice = choose_precision(precision, place, model, training=False)
    dtype = stored or choice.dtype
    precision_note = f"Precision {dtype}: as at the start of the extraction." if stored else f"Precision {choice}."
    if shards is not None:
        shards.begin(dtype)
    features = np.empty((len(records), model.num_features), dtype=np.float32)
    missing = np.arange(len(records)) if shards is None else shards.read_into(features, progress)
    model = model.to(place).to(memory_format=torch.channels_last).eval()
    options = getattr(model.backbone, "options", TransReIDOptions())
    sides = side_information(options, model.cameras, records)
    loaders = [
        test_loader(sources[cropped][missing], transform, batch_size=batch_size, workers=workers, device=place)
        for cropped in kinds
    ]
    progress.start("extract", len(records), len(records) - len(missing))
    try:
        for batches in zip(*loaders, strict=True):
            images = {cropped: batch.images for cropped, batch in zip(kinds, batches, strict=True)}
            rows = batches[0].rows
            with torch.inference_mode(), autocast(dtype, place):
                parts = []
                for cropped, flipped in (VIEWS[view] for view in views):
                    image = images[cropped].flip(-1) if flipped else images[cropped]
                    side_labels = batch_labels(sides, missing[rows], np.full(len(rows), flipped), place)
                    parts.append(model(image.contiguous(memory_format=torch.channels_last), **side_labels).float())
            made = torch.stack([functional.normalize(part) for part in parts] if unit_views else parts).sum(dim=0)
            features[missing[rows]] = made.cpu().numpy()
            if shards is not None and shards.write_up_to(int(missing[rows[-1]]) + 1, features) and precision_note:
                progress.note(precision_note)  # only after a shard, so that wrong input gives the error message alone
                precision_note = ""
            progress.advance(len(rows))
    except InputError:
        if shards is not None:
            shards.abandon()
        raise
    finally:
        progress.finish()
    found = FeatureSet(features, records, views=named, model=hashed, raw=not normalise)
    found = found.normalise() if normalise else found
    if out is not None and shards is not None:
        found.save(out)
        shards.remove()
    return found


def model_hash(model: ReidModel, transform: TestTransform) -> str:
    """Compute the sha256 of a model's weights and preprocessing; features with equal hashes are comparable."""
    prepared = json.dumps(asdict(transform), sort_keys=True)
    if model.cameras:
        prepared += json.dumps(model.cameras)
    return hashlib.sha256(f"{weights_hash(model.state_dict())} {prepared}".encode()).hexdigest()


class _Shards:
    """Finished shards of an unfinished extraction: OUT.parts/job.json and one file per `SHARD` images.

    Raises:
        InputError: the folder holds shards of another extraction.
    """

    def __init__(self, out: Path, job: dict[str, Any], resume: bool) -> None:
        self.folder = _parts(out)
        self._alone = not out.parent.exists()  # the parent folder is created for these shards
        self._job = job
        self._pending: list[int] = []  # first rows of the shards to be written
        self.precision: str | None = None
        if not resume:
            self.remove()
        file = self.folder / "job.json"
        if file.exists():
            stored = read_json(file)
            with parse_errors(file):
                self.precision = stored.pop("precision", None)
            for key, value in job.items():
                if stored.get(key) != value:
                    raise self._other(key, stored.get(key), value)

    def begin(self, precision: str) -> None:
        """Record the inputs of the extraction, before the first shard is written."""
        if self.precision not in (None, precision):
            raise self._other("precision", self.precision, precision)
        write_json(self.folder / "job.json", {**self._job, "precision": precision})

    def read_into(self, features: NDArray[np.float32], progress: Progress) -> NDArray[np.intp]:
        """Copy finished shards into `features` (N, D); return the rows that are missing or damaged."""
        missing = np.ones(len(features), dtype=bool)
        for start in range(0, len(features), SHARD):
            rows = slice(start, start + SHARD)
            if self._path(start).exists():
                try:
                    features[rows] = self._read(start, features[rows].shape)
                    missing[rows] = False
                    continue
                except InputError as error:
                    progress.note(f"{error} Its images are extracted again.")
            self._pending.append(start)
        return np.flatnonzero(missing)

    def _read(self, start: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        with parse_errors(self._path(start)):
            found: NDArray[np.float32] = read_arrays(self._path(start), "shard")[0]["features"]
            if found.shape != shape:
                raise ValueError(f"{found.shape} instead of {shape}")
        return found

    def write_up_to(self, row: int, features: NDArray[np.float32]) -> int:
        """Write the shards that are complete up to `row`; return their number."""
        before = len(self._pending)
        while self._pending and min(self._pending[0] + SHARD, len(features)) <= row:
            start = self._pending.pop(0)
            write_arrays(self._path(start), "shard", {"features": features[start : start + SHARD]})
        return before - len(self._pending)

    def abandon(self) -> None:
        """Remove the folder if no shard is finished."""
        if not list(self.folder.glob("rows-*.safetensors")):
            self.remove()
            if self._alone:
                with suppress(OSError):
                    self.folder.parent.rmdir()

    def remove(self) -> None:
        """Remove all shards."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _other(self, what: str, there: object, asked: object) -> InputError:
        fix = "remove it or name another output file"
        return InputError(f"{self.folder}: was started with other {what} ({there}, now {asked}); {fix}.")

    def _path(self, start: int) -> Path:
        return self.folder / f"rows-{start:08d}.safetensors"


def _parts(out: Path) -> Path:
    return out.with_name(out.name + ".parts")


def _finished(out: Path, records: Records, model: str, views: tuple[str, ...], normalised: bool) -> FeatureSet:
    found = FeatureSet.load(out)
    for what, there, asked in (
        ("a model", found.model[:12], model[:12]),
        ("views", "+".join(found.views), "+".join(views)),
        ("norm", "unit" if found.normalised else "raw", "unit" if normalised else "raw"),
    ):
        if there != asked:
            raise InputError(f"{out}: holds features of {what} {there}, not {asked}; remove the file or name another.")
    if found.records != records:
        raise InputError(f"{out}: holds features of other images; remove the file or name another.")
    return found
