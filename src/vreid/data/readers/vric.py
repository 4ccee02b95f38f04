"""VRIC, exactly as distributed.

VRIC/
    train_images/ probe_images/ gallery_images/
    vric_train.txt vric_probe.txt vric_gallery.txt       image name, vehicle, camera
"""

from __future__ import annotations

from pathlib import Path

from vreid.data.dataset import Dataset
from vreid.data.findings import OnFinding, Origin, raise_finding
from vreid.data.protocols import VRIC
from vreid.data.readers.common import Listing, camera_name, compare_with_folder, find_below, read_splits, source_of
from vreid.data.readers.list_files import image_file_name, key_of, read_list
from vreid.data.records import Records

PLACES = (".", "VRIC")
"""Candidate locations of the data set, relative to the path that the user gives."""

_KEYS = {"train": "train", "query": "probe", "gallery": "gallery"}  # split -> name used in files and folders


def find(folder: Path) -> Path | None:
    """Return the data set's folder (`folder` or one of `PLACES` below it), or None."""
    return find_below(
        folder, PLACES, lambda place: any((place / f"vric_{name}.txt").is_file() for name in _KEYS.values())
    )


def read_vric(folder: Path | str, *, on_finding: OnFinding = raise_finding) -> Dataset:
    """Read the data set in `folder`; image keys are "train/...", "probe/..." and "gallery/..." without extension.

    Args:
        folder: the one with vric_train.txt in it.
        on_finding: called with each wrong row.

    Raises:
        InputError: none of the images of a list is there.
    """
    folder = Path(folder)
    notes: list[str] = []
    read = read_splits(
        lambda split: _read(folder, split, notes, on_finding),
        _KEYS,
        (Records.of(path=[]), Listing(folder).origin([])),
        lambda part: len(part[0]),
        notes,
    )
    train, query, gallery = (records for records, _ in read.values())
    return Dataset(
        "VRIC",
        train,
        query,
        gallery,
        VRIC,
        source_of(folder),
        tuple(notes),
        {split: origin for split, (_, origin) in read.items()},
    )


def _read(folder: Path, split: str, notes: list[str], on_finding: OnFinding) -> tuple[Records, Origin]:
    name = _KEYS[split]
    listing, image_folder = Listing(folder / f"vric_{name}.txt", on_finding), folder / f"{name}_images"
    if not listing.path.is_file():
        return Records.of(path=[]), listing.origin([])
    (names, identities, cameras), origin = read_list(listing, "image", "vehicle", "camera")
    files = [image_file_name(name) for name in names]
    notes += compare_with_folder(files, image_folder, listing.path)[1]
    records = Records.of(
        path=[f"{image_folder}/{file}" for file in files],
        image_key=[f"{name}/{key_of(file)}" for file in files],
        identity=identities,
        camera=[camera_name(text, listing, int(row), "camera") for text, row in zip(cameras, origin.rows, strict=True)],
        split=[split] * len(files),
    )
    return records, origin
