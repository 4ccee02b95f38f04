"""VERI-Wild, exactly as distributed.

    VERI-Wild/
        images/00001/000001.jpg                  a folder a vehicle
        train_test_split/
            train_list.txt                       00001/000001 (with or without .jpg), one a line
            test_3000_query.txt test_3000.txt    query and gallery; also of 5000 and 10000 vehicles
            vehicle_info.txt                     a header, then 00001/000001;camera;time;model;type;color

Cameras are "c001", ...; times without a zone are taken as UTC.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from vreid.data.dataset import Dataset
from vreid.data.findings import OnFinding, Origin, raise_finding
from vreid.data.protocols import VERI_WILD
from vreid.data.readers import list_files
from vreid.data.readers.common import (
    Listing,
    camera_name,
    find_below,
    quoted,
    read_lines,
    read_splits,
    shown,
    source_of,
)
from vreid.data.readers.image_table import seconds
from vreid.data.records import Records

PLACES = (".", "VERI-Wild", "VeRi-Wild")
"""Candidate locations of the data set, relative to the path that the user gives."""

_LISTS, _INFO = "train_test_split", "vehicle_info.txt"
_IMAGE = re.compile(r"([^/\\\0]+)/[^/\\\0]+")
_COLUMNS = ("image", "camera", "time", "model", "type", "color")  # where the header names none of these
_HEADERS = {"cameraid": "camera", "camid": "camera", "colour": "color", "vehicletype": "type"}


def find(folder: Path) -> Path | None:
    """Return the data set's folder (`folder` or one of `PLACES` below it), or None."""

    def holds(place: Path) -> bool:
        return (place / "images").is_dir() and ((place / _LISTS / _INFO).is_file() or bool(list_sizes(place)))

    return find_below(folder, PLACES, holds)


def list_sizes(folder: Path) -> dict[str, str]:
    """Sizes of the test lists that are there, by the words that name them."""
    return list_files.list_sizes(
        folder / _LISTS, r"test_([0-9]+)\.txt", {"small": "3000", "medium": "5000", "large": "10000"}
    )


class _Info(NamedTuple):
    """What vehicle_info.txt says of an image."""

    camera: str | None = None
    time: float = math.nan
    vehicle_type: str = ""
    color: str = ""


def read_veri_wild(
    folder: Path | str, *, test_list: str | None = None, on_finding: OnFinding = raise_finding
) -> Dataset:
    """Read the data set in `folder`; image keys are "00001/000001".

    Args:
        folder: the one with images in it.
        test_list: 3000, 5000 or 10000, also small, medium, large; None: the smallest that is there.
        on_finding: called with each wrong row.

    Raises:
        InputError: no such list, or neither the images to train on nor those of the test are there.
    """
    folder = Path(folder)
    notes: list[str] = []
    size = list_files.chosen_list(list_sizes(folder), test_list, folder, notes)
    names = {"train": "train_list.txt", "query": f"test_{size}_query.txt", "gallery": f"test_{size}.txt"}
    listings = {split: Listing(folder / _LISTS / name, on_finding) for split, name in names.items()}
    listed = {split: _listed(listing) for split, listing in listings.items()}
    info = _read_info(
        Listing(folder / _LISTS / _INFO, on_finding), {key for keys, _ in listed.values() for key in keys}, notes
    )

    def read(split: str) -> Records:
        keys = listed[split][0]
        paths = [f"{folder}/images/{key}.jpg" for key in keys]
        list_files.raise_if_absent(paths, listings[split].path)
        rows = [info.get(key, _Info()) for key in keys]
        return Records.of(
            path=paths,
            image_key=keys,
            identity=[key.partition("/")[0] for key in keys],
            camera=[row.camera for row in rows],
            time=[row.time for row in rows],
            vehicle_type=[row.vehicle_type for row in rows],
            color=[row.color for row in rows],
            split=[split] * len(keys),
        )

    train, query, gallery = read_splits(read, listed, Records.of(path=[]), len, notes).values()
    return Dataset(
        "VERI-Wild",
        train,
        query,
        gallery,
        VERI_WILD,
        source_of(folder),
        tuple(notes),
        {split: origin for split, (_, origin) in listed.items()},
    )


def _listed(listing: Listing) -> tuple[list[str], Origin]:
    """Keys of the images in a list."""
    if not listing.path.is_file():
        return [], listing.origin([])
    (names,), origin = list_files.read_list(listing, "vehicle/image")
    keys, rows = [], []
    for name, row in zip(names, origin.rows.tolist(), strict=True):
        if _IMAGE.fullmatch(name):
            keys.append(list_files.key_of(name))
            rows.append(row)
        else:
            listing.wrong(row, f"{quoted(name)} is not like 00001/000001.jpg", "correct it")
    return keys, listing.origin(rows)


def _read_info(listing: Listing, wanted: set[str], notes: list[str]) -> Mapping[str, _Info]:
    if not listing.path.is_file():
        notes.append(f"there is no {_INFO}, so cameras and times are unknown.")
        return {}
    lines = read_lines(listing.path)
    place_of = {name: place for place, name in enumerate(_COLUMNS)}
    if lines and not re.search("[0-9]", lines[0][1].partition(";")[0]):
        headers = [re.sub(r"[\s_-]", "", word).lower() for word in lines.pop(0)[1].split(";")]
        given = {_HEADERS.get(header, header): place for place, header in enumerate(headers)}
        place_of = {name: given[name] for name in _COLUMNS if name in given} if "camera" in given else place_of
    cameras: dict[str, str | None] = {}  # 174 names for 400,000 rows
    info: dict[str, _Info] = {}
    odd_times: list[str] = []
    for number, text in lines:
        words = [word.strip() for word in text.split(";")]
        key = list_files.key_of(words[0])
        if key not in wanted:
            continue
        cells = {name: words[place] if place < len(words) else "" for name, place in place_of.items()}
        camera = cells["camera"]
        if camera not in cameras or cameras[camera] is None:
            cameras[camera] = camera_name(camera, listing, number, "camera")
        try:
            time = seconds(cells.get("time", ""))
        except (ValueError, OverflowError):
            time = math.nan
            odd_times.append(cells["time"])
        info[key] = _Info(cameras[camera], time, cells.get("type", ""), cells.get("color", ""))
    if odd_times:
        notes.append(
            f"times in {_INFO} that are neither seconds nor ISO 8601: {len(odd_times):,}, first "
            f"{quoted(odd_times[0])}; they are unknown."
        )
    if len(info) < len(wanted):
        first = min(wanted - info.keys())
        notes.append(f"not in {_INFO}: {len(wanted) - len(info):,} of {len(wanted):,} images, first {shown(first)}.")
    return info
