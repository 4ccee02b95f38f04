"""VehicleID, exactly as distributed.

    VehicleID_V1.0/
        image/                               0000001.jpg, ... of all lists
        train_test_split/train_list.txt      image name (with or without .jpg) and vehicle
        train_test_split/test_list_800.txt   the same of 800 test vehicles; also 1600 and 2400

No camera is known. Query and gallery are the same images: the protocol draws from them.
"""

from __future__ import annotations

from pathlib import Path

from vreid.data.dataset import Dataset
from vreid.data.findings import OnFinding, Origin, raise_finding
from vreid.data.protocols import VEHICLE_ID
from vreid.data.readers import list_files
from vreid.data.readers.common import Listing, find_below, read_splits, source_of
from vreid.data.records import Records

PLACES = (".", "VehicleID_V1.0", "VehicleID")
"""Candidate locations of the data set, relative to the path that the user gives."""

_LISTS, _TRAIN = "train_test_split", "train_list.txt"


def find(folder: Path) -> Path | None:
    """Return the data set's folder (`folder` or one of `PLACES` below it), or None."""

    def holds(place: Path) -> bool:
        return (place / "image").is_dir() and ((place / _LISTS / _TRAIN).is_file() or bool(list_sizes(place)))

    return find_below(folder, PLACES, holds)


def list_sizes(folder: Path) -> dict[str, str]:
    """Sizes of the test lists that are there, by the words that name them."""
    return list_files.list_sizes(
        folder / _LISTS, r"test_list_([0-9]+)\.txt", {"small": "800", "medium": "1600", "large": "2400"}
    )


def read_vehicleid(
    folder: Path | str, *, test_list: str | None = None, on_finding: OnFinding = raise_finding
) -> Dataset:
    """Read the data set in `folder`; image keys are the names without extension.

    Args:
        folder: the one with image in it.
        test_list: 800, 1600 or 2400, also small, medium, large; None: the smallest that is there.
        on_finding: called with each wrong row.

    Raises:
        InputError: no such list, or neither the images to train on nor those of the test are there.
    """
    folder = Path(folder)
    notes: list[str] = []
    size = list_files.chosen_list(list_sizes(folder), test_list, folder, notes)
    names = {"train": _TRAIN, "gallery": f"test_list_{size}.txt"}
    read = read_splits(
        lambda split: _read(folder, names[split], split, on_finding),
        names,
        (Records.of(path=[]), Listing(folder).origin([])),
        lambda part: len(part[0]),
        notes,
    )
    (train, train_origin), (test, test_origin) = read.values()
    return Dataset(
        "VehicleID",
        train,
        test,
        test,
        VEHICLE_ID,
        source_of(folder),
        tuple(notes),
        {"train": train_origin, "query": test_origin, "gallery": test_origin},
    )


def _read(folder: Path, name: str, split: str, on_finding: OnFinding) -> tuple[Records, Origin]:
    listing = Listing(folder / _LISTS / name, on_finding)
    if not listing.path.is_file():
        return Records.of(path=[]), listing.origin([])
    (names, identities), origin = list_files.read_list(listing, "image", "vehicle")
    paths = [f"{folder}/image/{list_files.image_file_name(name)}" for name in names]
    list_files.raise_if_absent(paths, listing.path)
    records = Records.of(
        path=paths,
        image_key=[list_files.key_of(name) for name in names],
        identity=identities,
        split=[split] * len(names),
    )
    return records, origin
