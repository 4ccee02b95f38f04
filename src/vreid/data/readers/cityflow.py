"""CityFlowV2-ReID (AI City Challenge 2021, track 2), exactly as distributed.

    AIC21_Track2_ReID/
        image_train/ image_query/ image_test/        000001.jpg, ...; every folder starts at 1
        train_label.xml                              imageName, vehicleID, cameraID
        query_label.xml test_label.xml               imageName, cameraID
        train_track.txt test_track.txt               one tracklet a line, image names, blanks between them
        train_track_id.txt test_track_id.txt         the same as image numbers

Image keys are "train/000001", "query/000001", "test/000001". Tracklets are named by split and line, "test_00000" for
the first line of the file. Cameras are "c001", ... Vehicle -1 is junk. The vehicles of the test are not distributed.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vreid.data.dataset import Dataset, LabelSource
from vreid.data.readers.common import attribute, camera_name, compare_with_folder, decode, read_items, source_of
from vreid.data.readers.table import read_records
from vreid.data.records import LABEL_COLUMNS, UNKNOWN, Records
from vreid.errors import InputError
from vreid.retrieval.protocols import AI_CITY

FOLDER = "AIC21_Track2_ReID"
GROUND_TRUTH = "ground_truth.csv"

_KEYS = {"train": "train", "query": "query", "gallery": "test"}  # split -> what files, folders and keys call it
_JOINED = ("identity", "tracklet", "frame", "time", "scene", "box", "color", "vehicle_type", "orientation")
_NAME = re.compile(r"(\d{1,9})(\.jpg)?", re.IGNORECASE)


def find(folder: Path) -> Path | None:
    """Return the data set's own folder (`folder`, or AIC21_Track2_ReID in it, or in AIC21 in it) or None."""
    for place in (folder, folder / FOLDER, folder / "AIC21" / FOLDER):
        if any(_is_split(place, split) for split in _KEYS):
            return place
    return None


def _is_split(folder: Path, split: str) -> bool:
    labels, pictures = folder / f"{_KEYS[split]}_label.xml", folder / f"image_{_KEYS[split]}"
    if not (labels.is_file() and pictures.is_dir()):
        return False
    # VeRi and VehicleX have files of the same names, but their images are not called by bare numbers.
    first = next((path.name for path in pictures.iterdir() if not path.name.startswith(".")), "1.jpg")
    return _NAME.fullmatch(first) is not None


def read_cityflow(folder: Path | str, *, labels: LabelSource = None) -> Dataset:
    """Read the data set in `folder`; a split that is not there is empty.

    Args:
        folder: the one with image_train in it.
        labels: what is known of the test images: None (nothing, as distributed), a table with `image_key` as
            `Records.write_csv` writes it, or "auto": ground_truth.csv in `folder` or beside it, if there is one.

    Raises:
        InputError: label files that are missing, broken or contradict each other; file, row and mend are named.
    """
    folder = Path(folder)
    notes: list[str] = []
    splits = {split: _read_split(folder, split, notes) for split in _KEYS}
    if not any(len(records) for records in splits.values()):
        raise InputError(f"{folder}: is no CityFlowV2-ReID; looked for image_train with train_label.xml, and the like.")
    table = _ground_truth(folder, labels)
    if table is not None:
        truth, _ = read_records(table)
        splits = {split: _joined(records, truth, table, notes) for split, records in splits.items()}
        notes.append(f"labels of the test images come from {table.name}; they are not part of the data set.")
    return Dataset("CityFlowV2-ReID", splits["train"], splits["query"], splits["gallery"], AI_CITY,
                   source_of(folder), tuple(notes))  # fmt: skip


def _read_split(folder: Path, split: str, notes: list[str]) -> Records:
    name = _KEYS[split]
    path, pictures = folder / f"{name}_label.xml", folder / f"image_{name}"
    if not path.is_file():
        if pictures.is_dir():
            raise InputError(f"{pictures}: has no {path.name} beside it, so its cameras are unknown; put it there.")
        return Records.of(path=[])
    rows: dict[int, tuple[str, str | None, str]] = {}
    for number, item in enumerate(read_items(path), start=1):
        image = attribute(item, ("imageName",), path, number)
        match = _NAME.fullmatch(image)
        if match is None:
            raise InputError(f"{path}, Item {number}: imageName {image!r} is not like 000001.jpg; correct it.")
        if int(match[1]) in rows:
            raise InputError(f"{path}, Item {number}: image {image} is listed twice; remove one of the two Items.")
        vehicle = attribute(item, ("vehicleID",), path, number) if split == "train" else item.get("vehicleID")
        camera = camera_name(attribute(item, ("cameraID",), path, number), path, number)
        image = image if match[2] else f"{image}.jpg"
        rows[int(match[1])] = (image, "junk" if vehicle == "-1" else vehicle, camera)
    numbers = sorted(rows)  # a submission counts images by number; the label file may have another order
    images = [rows[number][0] for number in numbers]
    notes += compare_with_folder(images, pictures, path)[1]
    return Records.of(
        path=[pictures / image for image in images],
        image_key=[f"{name}/{number:06d}" for number in numbers],
        identity=[rows[number][1] for number in numbers],
        camera=[rows[number][2] for number in numbers],
        tracklet=None if split == "query" else _tracklets(folder, name, numbers, notes),
        split=[split] * len(numbers),
    )


def _tracklets(folder: Path, name: str, numbers: list[int], notes: list[str]) -> list[str | None]:
    """Name the tracklet of each image; where both track files exist, the one of numbers is the better one."""
    found = {
        path.name: _read_tracks(path)
        for path in (folder / f"{name}_track_id.txt", folder / f"{name}_track.txt")
        if path.is_file()
    }
    if not found:
        notes.append(f"there is no {name}_track.txt, so the tracklets of image_{name} are unknown.")
        return [None] * len(numbers)
    chosen, *others = found
    for other in others:
        if _partition(found[chosen]) != _partition(found[other]):
            notes.append(
                f"{other} and {chosen} differ ({_told(found[other])}; {_told(found[chosen])}); {chosen} is used."
            )
    line_of = found[chosen]
    foreign = set(line_of) - set(numbers)
    untracked = set(numbers) - set(line_of)
    if foreign:
        counted = f"{len(foreign):,} of {len(line_of):,} images in {chosen}, first {min(foreign):06d}"
        notes.append(f"not listed in {name}_label.xml: {counted}.")
    if untracked:
        counted = f"{len(untracked):,} of {len(numbers):,} images in image_{name}, first {min(untracked):06d}"
        notes.append(f"in no line of {chosen}: {counted}.")
    return [f"{name}_{line_of[number]:05d}" if number in line_of else None for number in numbers]


def _read_tracks(path: Path) -> dict[int, int]:
    """Line (from 0, empty lines counted) of each image number."""
    line_of: dict[int, int] = {}
    for line, text in enumerate(decode(path).splitlines()):
        for token in text.split():
            match = _NAME.fullmatch(token)
            if match is None:
                raise InputError(f"{path}, line {line + 1}: {token!r} is no image name or number; correct it.")
            if line_of.setdefault(int(match[1]), line) != line:
                raise InputError(
                    f"{path}, line {line + 1}: image {token} is already in line {line_of[int(match[1])] + 1}; "
                    "an image belongs to one tracklet, remove it from the other."
                )
    return line_of


def _partition(line_of: dict[int, int]) -> set[frozenset[int]]:
    tracks: dict[int, set[int]] = {}
    for image, line in line_of.items():
        tracks.setdefault(line, set()).add(image)
    return {frozenset(images) for images in tracks.values()}


def _told(line_of: dict[int, int]) -> str:
    return f"{len(line_of):,} images in {len(set(line_of.values())):,} tracklets"


def _ground_truth(folder: Path, labels: LabelSource) -> Path | None:
    if labels is None:
        return None
    if isinstance(labels, Path):
        return labels
    places = (folder / GROUND_TRUTH, folder.absolute().parent / GROUND_TRUTH)
    return next((place for place in places if place.is_file()), None)


def _joined(records: Records, truth: Records, table: Path, notes: list[str]) -> Records:
    """Fill in by image_key what `truth` knows; what it says of a known vehicle or camera must agree."""
    row_of = {key: row for row, key in enumerate(truth.image_key)}
    rows = np.array([row_of.get(key, -1) for key in records.image_key], dtype=np.intp)
    known = rows >= 0
    if not known.all():
        first = records.image_key[int(np.argmin(known))]
        notes.append(f"{table.name} has no row for {int((~known).sum()):,} of {len(rows):,} images, first {first}.")
    for column in ("identity", "camera"):
        ours, theirs = getattr(records, column), getattr(truth, column)
        both = known & ours.known & theirs.known[rows]
        wrong = both & (ours.values != theirs.values[rows])
        if wrong.any():
            row = int(np.argmax(wrong))
            raise InputError(
                f"{table}, image {records.image_key[row]}: {column} {theirs.values[rows[row]]} but the label file says "
                f"{ours.values[row]}; the table belongs to another data set."
            )
    columns: dict[str, Any] = {}
    for column in _JOINED:
        ours, theirs = getattr(records, column), getattr(truth, column)
        if column in LABEL_COLUMNS:
            told = known & (theirs.codes[rows] != UNKNOWN)
            columns[column] = np.where(told, theirs.values[rows], ours.values)
        else:
            values = theirs[rows]
            told = known & (values >= 0 if column == "frame" else ~np.isnan(values.reshape(len(rows), -1)).any(1))
            columns[column] = np.where(told[:, None] if ours.ndim == 2 else told, values, ours)
    filled = Records.of(path=records.path.tolist(), **columns)
    return replace(records, **{column: getattr(filled, column) for column in columns})
