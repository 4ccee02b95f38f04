"""Crop a whole data set: write a table of boxes, or cropped images in the data set's own layout."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from vreid.configuration import plain_values
from vreid.data.crops import SPLITS, all_images, crops_of, write_crop_images
from vreid.data.dataset import Dataset
from vreid.data.open import open_dataset
from vreid.errors import InputError
from vreid.files import read_json, write_json
from vreid.locks import locked
from vreid.progress import Progress
from vreid.training.crop import CROP_CONFIGS, CropConfig, find_boxes
from vreid.training.extract import load_trained, model_hash

TABLE = "crops.csv"
"""Name of the table of boxes in a folder of cropped images."""


def crop_dataset(
    model: Path | str,
    dataset: Dataset,
    out: Path | str,
    config: CropConfig = CROP_CONFIGS["voc"],
    *,
    folders: Mapping[str, str] | None = None,
    device: str = "cpu",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Find the boxes of all images of `dataset`, write them to `out`, and return the data set as crops.

    A .json file next to the table records its inputs: the same job reuses the table, so that an interrupted job resumes
    after the boxes; another job raises.

    Args:
        model: see `vreid.training.crop.find_boxes`.
        dataset: a data set of original images.
        out: a table (.csv), which `open_dataset` reads and whose boxes are cropped while loading; or a folder for such
            a table and for the cropped images in `folders`.
        config: settings of cropping.
        folders: split -> folder under `out` where the data set's reader looks for crops; None: the format has none.
        device, workers, progress: as in `find_boxes`.

    Raises:
        InputError: `dataset` contains crops already, its format has no folder for crops, or `out` holds something else.
    """
    out = Path(out)
    table = out if out.suffix == ".csv" else out / TABLE
    if table == out:
        folders = {}
    if folders is None:
        raise InputError(
            f"{dataset.name}: its format has no folder for cropped images; write a table (--out {out.name}.csv)."
        )
    originals = all_images(dataset)
    if set(originals.variant.values) != {"original"}:
        raise InputError(f"{dataset.name}: holds other variants than originals; give FOLDER@original.")
    trained = load_trained(model)
    with nullcontext() if table == out else locked(out):
        made_from = {"model": model_hash(trained.model, trained.transform), "images": dataset.fingerprint()}
        job = made_from | plain_values(config)
        _reject_other(table, job)
        if not table.exists():
            for place in (out / folder for folder in folders.values()):
                if place.exists():
                    raise InputError(f"{place}: holds crops of another job; remove it or name another place.")
            found = find_boxes(model, originals, config, device=device, workers=workers, progress=progress)
            write_json(table.with_suffix(".json"), job)
            found.write_table(table)
        crops = all_images(open_dataset(table))
        train, query, gallery = (crops_of(getattr(dataset, split), crops) for split in SPLITS)
        made = replace(dataset, train=train, query=query, gallery=gallery)
        write_crop_images(made, out, folders)
    return made


def _reject_other(table: Path, job: Mapping[str, Any]) -> None:
    """Raise InputError if the table exists and the .json file next to it records another job than `job`."""
    record = table.with_suffix(".json")
    if table.exists() and not record.exists():
        raise InputError(f"{table}: exists without a {record.name} that records its inputs; name another file.")
    recorded = read_json(record) if record.exists() else job
    for key, value in job.items():
        there = recorded.get(key) if isinstance(recorded, dict) else None
        if there != value:
            raise InputError(
                f"{record}: holds crops of other {key} ({there}, now {value}); remove it and {table.name}, or name "
                "another place."
            )
