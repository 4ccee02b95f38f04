"""CityFlow-ReID of the AI City Challenges, exactly as distributed: CityFlowV2-ReID (2021) and CityFlow-ReID (2020).

    AIC21_Track2_ReID/                           AIC20_track2/AIC20_ReID/
        image_train/ image_query/ image_test/        the same: 000001.jpg, ...; every folder starts at 1
        train_label.xml                              the same: imageName, vehicleID, cameraID
        query_label.xml test_label.xml               name_query.txt name_test.txt: names only, no cameras
        train_track.txt test_track.txt               one tracklet a line, image names, blanks between them
        train_track_id.txt test_track_id.txt         the same as image numbers

Image keys are "train/000001", "query/000001", "test/000001". Tracklets are named by split and line, "test_00000" for
the first line of the file. Cameras are "c001", ... Vehicle -1 is junk. The vehicles of the test are not distributed,
nor are, in 2020, its cameras. Cropped copies have the same names (see `copies`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vreid.data.dataset import Dataset, LabelSource
from vreid.data.findings import OnFinding, Origin, raise_finding
from vreid.data.protocols import AI_CITY, CAMERA_LESS
from vreid.data.readers.common import (
    Listing,
    attribute,
    camera_name,
    compare_with_folder,
    find_below,
    first_image,
    quoted,
    read_items,
    read_lines,
    read_splits,
    source_of,
)
from vreid.data.readers.label_table import with_labels
from vreid.data.readers.tracks import read_tracks, tracklets
from vreid.data.records import Records
from vreid.errors import InputError

PLACES = (".", "AIC21_Track2_ReID", "AIC21/AIC21_Track2_ReID", "AIC20_ReID", "AIC20_track2/AIC20_ReID")
"""Candidate locations of the data set, relative to the path that the user gives."""
NAMES = ("CityFlowV2-ReID", "CityFlow-ReID")
"""Names of the 2021 and the 2020 version."""
CROPS = {
    "train": "training_part_seg/cropped_patch/image_train",
    "query": "cropped_aic_test/image_query",
    "gallery": "cropped_aic_test/image_test",
}
"""Split -> folder of its cropped copies, in the data set's folder or beside it."""

_KEYS = {"train": "train", "query": "query", "gallery": "test"}  # split -> name used in files, folders and keys
_NAME = re.compile(r"([0-9]{1,9})(\.jpg)?", re.IGNORECASE)


def find(folder: Path) -> Path | None:
    """Return the data set's folder (`folder` or one of `PLACES` below it), or None."""
    return find_below(folder, PLACES, lambda place: any(_is_split(place, key) for key in _KEYS.values()))


def _is_split(folder: Path, name: str) -> bool:
    listed = (folder / f"{name}_label.xml").is_file() or (folder / f"name_{name}.txt").is_file()
    # VeRi and VehicleX have files of the same names, but their images are not called by bare numbers.
    image_folder = folder / f"image_{name}"
    return listed and image_folder.is_dir() and _NAME.fullmatch(first_image(image_folder) or "1.jpg") is not None


def read_cityflow(folder: Path | str, *, labels: LabelSource = None, on_finding: OnFinding = raise_finding) -> Dataset:
    """Read the data set in `folder`; a split that is not there is empty.

    Args:
        folder: the one with image_train in it.
        labels: labels of the test images: None (as distributed), a table with `image_key` as
            `Records.write_csv` writes it, or "auto": ground_truth.csv in `folder` or beside it, if there is one.
        on_finding: called with each wrong row.

    Raises:
        InputError: label files are missing, broken or contradictory; the message names file, row and fix.
    """
    folder = Path(folder)
    notes: list[str] = []
    nothing: tuple[Records, Origin | None] = (Records.of(path=[]), None)

    def read(split: str) -> tuple[Records, Origin | None]:
        listing = _listing(folder, _KEYS[split], on_finding)
        return nothing if listing is None else _read_split(listing, split, notes)

    found = read_splits(read, _KEYS, nothing, lambda part: len(part[0]), notes)
    splits = {split: records for split, (records, _) in found.items()}
    origins = {split: origin for split, (_, origin) in found.items() if origin is not None}
    if not origins:
        raise InputError(f"{folder}: is not CityFlow-ReID; expected image_train with train_label.xml, and the like.")
    splits = with_labels(splits, folder, labels, notes, on_finding)
    # 2020 has lists of names; where both versions share a folder, only 2021 has test labels.
    cameras = any((folder / f"{name}_label.xml").is_file() for name in ("query", "test"))
    of_2020 = not cameras and any((folder / f"name_{name}.txt").is_file() for name in _KEYS.values())
    return Dataset(
        NAMES[of_2020],
        splits["train"],
        splits["query"],
        splits["gallery"],
        CAMERA_LESS if of_2020 else AI_CITY,
        source_of(folder),
        tuple(notes),
        origins,
    )


def copies(folder: Path) -> dict[str, dict[str, Path]]:
    """Return the image folders by variant and split; crops lie in the data set's folder or beside it."""
    found = {"original": {split: folder / f"image_{name}" for split, name in _KEYS.items()}}
    places = {
        split: [place / crop for place in (folder, folder.absolute().parent) if (place / crop).is_dir()]
        for split, crop in CROPS.items()
    }
    cropped = {split: place[0] for split, place in places.items() if place}
    return {**found, "crop": cropped} if cropped else found


def _listing(folder: Path, name: str, on_finding: OnFinding) -> Listing | None:
    """Return the file that lists a split: its labels, or in 2020 its names."""
    for path, unit in ((folder / f"{name}_label.xml", "Item"), (folder / f"name_{name}.txt", "line")):
        if path.is_file() and (unit == "Item" or name != "train"):
            return Listing(path, on_finding, unit)
    if (folder / f"image_{name}").is_dir():
        names = f"{name}_label.xml" if name == "train" else f"{name}_label.xml (2021) or name_{name}.txt (2020)"
        raise InputError(f"{folder / f'image_{name}'}: has no {names} beside it; put it there.")
    return None


class _ListedImage(NamedTuple):
    number: int  # of the row
    image: str
    vehicle: str | None
    camera: str | None


def _rows(listing: Listing, split: str) -> Iterator[_ListedImage]:
    if listing.unit == "line":
        yield from (_ListedImage(number, text, None, None) for number, text in read_lines(listing.path))
        return
    for number, item in enumerate(read_items(listing.path), start=1):
        image = attribute(item, "imageName", listing, number)
        if image is not None:
            vehicle = attribute(item, "vehicleID", listing, number) if split == "train" else item.get("vehicleID")
            camera = camera_name(attribute(item, "cameraID", listing, number), listing, number)
            yield _ListedImage(number, image, vehicle, camera)


def _read_split(listing: Listing, split: str, notes: list[str]) -> tuple[Records, Origin]:
    name, folder = _KEYS[split], listing.path.parent
    image_folder = folder / f"image_{name}"
    row_of: dict[int, _ListedImage] = {}
    for row in _rows(listing, split):
        match = _NAME.fullmatch(row.image)
        if match is None:
            listing.wrong(row.number, f"imageName {quoted(row.image)} is not like 000001.jpg", "correct it")
        elif int(match[1]) in row_of:
            listing.wrong(
                row.number,
                f"image {row.image} is listed twice",
                f"remove one of the two {listing.unit}s",
                "duplicate entry",
            )
        else:
            row_of[int(match[1])] = row if match[2] else row._replace(image=f"{row.image}.jpg")
    numbers = sorted(row_of)  # a submission counts images by number; the label file may have another order
    rows = [row_of[number] for number in numbers]
    images = [row.image for row in rows]
    notes += compare_with_folder(images, image_folder, listing.path)[1]
    keys = [f"{name}/{number:06d}" for number in numbers]
    records = Records.of(
        path=[f"{image_folder}/{image}" for image in images],
        image_key=keys,
        identity=["junk" if row.vehicle == "-1" else row.vehicle for row in rows],
        camera=[row.camera for row in rows],
        tracklet=None if split == "query" else _tracklets(listing, name, keys, notes),
        split=[split] * len(numbers),
    )
    return records, listing.origin([row.number for row in rows])


def _tracklets(listing: Listing, name: str, keys: list[str], notes: list[str]) -> list[str | None]:
    def key_of(token: str) -> str | None:
        match = _NAME.fullmatch(token)
        return f"{name}/{int(match[1]):06d}" if match else None

    paths = [listing.path.with_name(file) for file in (f"{name}_track_id.txt", f"{name}_track.txt")]
    found = [read_tracks(path, key_of, listing.on_finding) for path in paths if path.is_file()]
    return tracklets(found, keys, name, listing.path.name, notes)
