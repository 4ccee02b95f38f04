"""Vehicle crops: match crops to images and write them as a table of boxes or as image files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from vreid.data.dataset import Dataset
from vreid.data.images import read_image
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.files import writing

SPLITS = ("train", "query", "gallery")
QUALITY = 95
"""JPEG quality of crops, high enough to hide the second compression."""


def crops_of(records: Records, crops: Records) -> Records:
    """Return the crops of `records` in their order, matched by `image_key` to the variant "crop" of `crops`.

    Raises:
        InputError: an image has no crop.
    """
    place = {str(key): row for row, key in enumerate(crops.image_key) if crops.variant.values[row] == "crop"}
    missing = [str(key) for key in records.image_key if key not in place]
    if missing:
        raise InputError(
            f"{missing[0]}: has no crop ({len(missing):,} of {len(records):,} images have none); "
            "make crops of this data set (vreid data crop)."
        )
    return crops[[place[str(key)] for key in records.image_key]]


def all_images(dataset: Dataset) -> Records:
    """Return the images of all splits as one `Records`; images that are both query and gallery appear once.

    The result has no split, as a table of crops would have none.
    """
    if dataset.query == dataset.gallery and not len(dataset.train):
        return dataset.gallery.with_(split=[""] * len(dataset.gallery))
    return Records.concat(
        [getattr(dataset, split).with_(split=[split] * len(getattr(dataset, split))) for split in SPLITS]
    )


def write_crop_images(dataset: Dataset, out: Path | str, folders: Mapping[str, str]) -> None:
    """Write the crop of each image under the same file name to the folder `folders[split]` below `out`.

    Each folder is created atomically; existing folders are kept, and splits without a folder are skipped.

    Raises:
        InputError: an image cannot be read or written, or two images of a split have the same file name.
    """
    for split, folder in folders.items():
        records: Records = getattr(dataset, split)
        target = Path(out) / folder
        if not len(records) or target.is_dir():
            continue
        making = target.with_name(f".{target.name}.partial")
        with writing(target):
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir(parents=True)
            try:
                _cut_out(records, making)
                os.replace(making, target)
            except BaseException:
                with suppress(OSError):
                    shutil.rmtree(making)
                raise


def _cut_out(records: Records, folder: Path) -> None:
    for path, box in zip(records.path, records.box, strict=True):
        place = folder / Path(path).name
        if place.exists():
            raise InputError(f"{path}: another image of its split has this name; write a table (.csv) instead.")
        part = None if np.isnan(box[0]) else box.tolist()
        read_image(path, box=part).save(place, quality=QUALITY)
