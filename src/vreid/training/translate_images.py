"""Translation of synthetic images to the real domain by trained generators."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from vreid.data.dataset import fingerprint
from vreid.data.images import read_image
from vreid.data.loading import test_loader
from vreid.data.readers.vehiclex import LABELS, TRANSLATED
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.files import atomic_write, parse_errors, read_json, write_json, writing
from vreid.formats.facts import fact
from vreid.locks import locked
from vreid.models.spgan import Generator
from vreid.models.weights import load_strict, load_weights, weights_hash
from vreid.progress import Progress, job
from vreid.training.distributed import ProcessGroup
from vreid.training.precision import autocast, choose_precision
from vreid.training.translate import TranslateConfig, to_pil

FACTS = "translation.json"
"""File in a folder of translations that records model and images."""
TABLE = "translated.csv"
QUALITY = 95
"""JPEG quality, high enough that recompression is not visible."""


def load_translator(source: Path | str) -> tuple[Generator, TranslateConfig]:
    """Load the synthetic-to-real generator of a run folder or its model.safetensors, with its configuration.

    Raises:
        InputError: nothing exists at the path, the run is not finished, or the file holds no translation.
    """
    path = Path(source)
    if path.is_dir():
        if not (path / "model.safetensors").exists():
            what = "is not finished; resume it" if (path / "config.json").exists() else "holds no trained translation"
            raise InputError(f"{path}: {what}, or name the run of `vreid data translate train`.")
        path = path / "model.safetensors"
    state, facts = load_weights(path)
    if facts.get("kind") != "translation":
        raise InputError(f"{path}: holds no translation; give the run of `vreid data translate train`.")
    with parse_errors(path):
        config = fact(facts, "config", TranslateConfig)
    model = config.generator()
    load_strict(model, state, path)
    return model.eval(), config


def translate(
    model: Path | str,
    records: Records,
    out: Path | str,
    *,
    batch_size: int = 16,
    device: str = "cpu",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Records:
    """Translate all images into OUT/sys_image_train_tr; return their records as variant "translated".

    Images keep their names, their size (the aspect ratio helps to distinguish vehicle types, and boxes in pixels stay
    valid) and their fine detail: the change that the network makes at S x S pixels is resized and added to the image.
    If an image has a box, only the box is translated. The folder is created atomically; a stopped translation resumes,
    a finished one is not repeated. If `out` is the data set's own folder, `FOLDER@translated` reads the translations;
    otherwise the labels are copied next to them (train_label.xml of VehicleX; for other sources, translated.csv is
    written). Several processes (see `vreid.training.distributed`) take the batches in turn.

    Args:
        model: run folder of `train_translation`, or its model.safetensors.
        records: images.
        out: the parent folder of sys_image_train_tr.
        batch_size: images per batch.
        device: "cpu", "cuda", ...
        workers: processes that load images (None: chosen for the device).
        progress: listener, counts images.

    Raises:
        InputError: `model` is not a translation, there are no images, two have the same file, one cannot be read, or
            `out` holds translations of another model or of other images.

    Example:
        >>> made = translate("runs/spgan", open_dataset("vehiclex").train, "vehiclex")      # doctest: +SKIP
        >>> open_dataset("vehiclex@translated").train == made                               # doctest: +SKIP
        True
    """
    world = ProcessGroup.current()
    progress = progress if progress and world.first else Progress()
    network, config = load_translator(model)
    shared, names = _names(records)
    folder, partial = Path(out) / TRANSLATED, Path(out) / f".{TRANSLATED}.partial"
    made = records.with_(
        path=[f"{folder}/{name}" for name in names],
        variant=["translated"] * len(records),
        box=np.full((len(records), 4), np.nan),
    )
    facts = {"model": weights_hash(network.state_dict()), "originals": fingerprint(records), "images": len(records)}
    with locked(out) if world.first else nullcontext():
        missing = world.agree(lambda: _missing(folder, partial, names, facts))
        if missing is None:
            progress.note(f"{folder} is complete; nothing is left to translate.")
            return made
        _paint(
            network,
            config,
            records[missing],
            [partial / names[row] for row in missing],
            batch_size,
            device,
            workers,
            progress,
            done=len(records) - len(missing),
        )
        if world.first:
            _finish(folder, partial, shared, made.with_(path=[f"{TRANSLATED}/{name}" for name in names]))
        world.wait()  # until the folder is there
    return made


def _missing(folder: Path, partial: Path, names: list[str], facts: dict[str, Any]) -> NDArray[np.intp] | None:
    """Return the rows of images to translate, None if the folder is complete; record what is translated."""
    if folder.exists():
        _require(folder, facts)
        return None
    if partial.exists():
        _require(partial, facts)
    else:
        write_json(partial / FACTS, facts)
    return np.flatnonzero([not (partial / name).exists() for name in names])


def _finish(folder: Path, partial: Path, shared: Path, made: Records) -> None:
    """Move the translations to their place, with the labels of the images beside them."""
    labels = next((place / LABELS for place in (shared, shared.parent) if (place / LABELS).is_file()), None)
    with writing(folder):
        if labels is not None and not (folder.parent / LABELS).exists():
            with atomic_write(folder.parent / LABELS) as temporary:
                shutil.copyfile(labels, temporary)
        os.rename(partial, folder)
        if labels is None:
            made.write_csv(folder.parent / TABLE)


def _names(records: Records) -> tuple[Path, list[str]]:
    """Return the common folder of all images and their names in it.

    Raises:
        InputError: there are no images, or two images have the same file.
    """
    if not len(records):
        raise InputError("There are no images to translate; name a data set with training images.")
    paths = [os.path.abspath(path) for path in records.path]
    shared = os.path.commonpath([os.path.dirname(path) for path in paths])
    names = [os.path.relpath(path, shared) for path in paths]
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(f"{name}: two images are boxes in this file; crop them first, one file per image.")
        seen.add(name)
    return Path(shared), names


def _require(folder: Path, facts: dict[str, Any]) -> None:
    """Raise InputError if the folder holds translations of another model or of other images."""
    there = read_json(folder / FACTS) if (folder / FACTS).exists() else None
    if there != facts:
        raise InputError(
            f"{folder}: holds translations of another model or of other images; remove it or name another folder."
        )


def _paint(
    network: Generator,
    config: TranslateConfig,
    records: Records,
    places: list[Path],
    batch_size: int,
    device: str,
    workers: int | None,
    progress: Progress,
    *,
    done: int,
) -> None:
    """Write the translation of each record to its place; several processes take the batches in turn."""
    place, world = torch.device(device), ProcessGroup.current()
    network, precision = network.to(place), choose_precision("auto", place, network, training=False).dtype
    rows = np.arange(len(records))
    batches = world.turn.of([rows[start : start + batch_size] for start in range(0, len(rows), batch_size)])
    loader = test_loader(records, config.transform(), batches=batches, workers=workers, device=place)

    def written() -> Iterator[int]:
        for images, rows, _ in loader:
            with torch.inference_mode(), autocast(precision, place):
                changes = (network(images) - images).cpu()
            for change, row in zip(changes, rows.tolist(), strict=True):
                form = Image.registered_extensions().get(places[row].suffix.lower(), "JPEG")
                with atomic_write(places[row]) as temporary:
                    to_pil(_changed(records, row, change)).save(temporary, form, quality=QUALITY)
            yield len(rows)

    with job(progress, "translate", done + len(records), done):
        for count in world.in_turn(written()):
            progress.advance(count)


def _changed(records: Records, row: int, change: Tensor) -> Tensor:
    """Add the change (3, S, S), resized, to the image of a record: (3, H, W) in about [-1, 1]."""
    box = records.box[row]
    shown = read_image(records.path[row], box=None if np.isnan(box[0]) else box.tolist())
    pixels = torch.from_numpy(np.array(shown)).permute(2, 0, 1) / 127.5 - 1
    return pixels + functional.interpolate(change[None], pixels.shape[1:], mode="bicubic", antialias=True)[0]
