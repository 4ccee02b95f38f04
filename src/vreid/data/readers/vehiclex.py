"""VehicleX, the synthetic set that comes with CityFlow, exactly as distributed.

    AIC21_Track2_ReID_Simulation/            or AIC20_ReID_Simulation/, with image_train/ or the images beside the XML
        sys_image_train/                     00001_c001_33.jpg: vehicle, camera, counter
        sys_image_train_tr/                  the same names, translated to the real style by SPGAN
        train_label.xml                      imageName, typeID, colorID, orientation, ... (camHei or cameraHei, ...)

A vehicle is named "synthetic-0001", a camera "synthetic-c001", an image "synthetic/00001_c001_33", so that none is
taken for a real one. Light and camera geometry (lightInt, lightDir, camHei, camDis) have no column in Records.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from vreid.data.dataset import Dataset
from vreid.data.findings import Finding, Tell, refuse
from vreid.data.readers.common import (
    Listing,
    attribute,
    compare_with_folder,
    degrees,
    named,
    natural,
    number_in,
    pictures_in,
    read_items,
    source_of,
)
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.retrieval.protocols import MARKET

COLORS = ("yellow", "orange", "green", "gray", "red", "blue", "white", "golden", "brown", "black", "purple", "pink")
"""VeRi's ten colours in VeRi's order, then the two that only VehicleX has; VeRi counts them from 1."""
VEHICLE_TYPES = ("sedan", "suv", "van", "hatchback", "mpv", "pickup", "bus", "truck", "estate", "sportscar", "rv")
"""VeRi's nine types in VeRi's order, then the two that only VehicleX has; VeRi counts them from 1."""

FOLDER = "AIC21_Track2_ReID_Simulation"
ORIGINAL, TRANSLATED = "sys_image_train", "sys_image_train_tr"

_NAME = re.compile(r"^(\d{1,9})_c(\d{1,9})_(\d+)\.\w+$")
_LABELS = "train_label.xml"


def find(folder: Path) -> Path | None:
    """Return the data set's own folder (`folder`, the one above it, or FOLDER in it) or None."""
    places = [folder, folder / FOLDER, folder / "AIC21" / FOLDER]
    if folder.name in (ORIGINAL, TRANSLATED):
        places = [folder.absolute().parent]
    for place in places:
        if (place / ORIGINAL).is_dir() or (place / TRANSLATED).is_dir():
            return place
        # The 2020 layouts: known by what only VehicleX's labels have.
        if (place / _LABELS).is_file() and b"lightInt" in (place / _LABELS).open("rb").read(4096):
            return place
    return None


def read_vehiclex(folder: Path | str, *, translated: bool = False, tell: Tell = refuse) -> Dataset:
    """Read the data set in `folder`: training images only, all of domain "synthetic".

    Whether colours and types count from 0 or from 1 is seen from the labels of all images together (both count alike);
    where these leave it open, from 0, and a note says so.

    Args:
        folder: the one with sys_image_train in it.
        translated: read sys_image_train_tr instead, as variant "translated" of the same images.
        tell: told here: labels that are wrong.

    Raises:
        InputError: no images, or broken labels.
    """
    folder = Path(folder)
    pictures = _pictures(folder, translated)
    labels = Listing(folder / _LABELS, tell, "Item")
    items = read_items(labels.path) if labels.path.is_file() else []
    item_of: dict[str, int] = {}
    for number, item in enumerate(items, start=1):
        name = attribute(item, "imageName", labels, number)
        if name is None:
            continue
        if _NAME.match(name) is None:
            labels.wrong(number, f"imageName {name!r} is not like 00001_c001_33.jpg", "correct it")
        elif item_of.setdefault(name, number) != number:
            labels.wrong(number, f"image {name} is listed twice", "remove one of the two Items", "listed twice")
    notes: list[str] = []
    if items:
        unlisted, notes = compare_with_folder(list(item_of), pictures, labels.path)
    else:
        unlisted = pictures_in(pictures)
        notes = [f"there is no {_LABELS}, so colour, type and orientation are unknown."]
        if not unlisted:
            raise InputError(f"{pictures}: holds no pictures; unpack VehicleX again.")
    for name in unlisted:
        if _NAME.match(name) is None:
            tell(Finding("label", str(pictures / name), "is not named like 00001_c001_33.jpg", "rename or remove it"))
    names = sorted([*item_of, *(name for name in unlisted if _NAME.match(name))], key=natural)
    matches = [match for name in names if (match := _NAME.match(name))]
    numbers = [item_of.get(name, 0) for name in names]
    described = [(number, items[number - 1] if number else {}) for number in numbers]
    notes += _contradictions(matches, described)
    colors, types = _attributes(described, labels, notes)
    records = Records.of(
        path=[f"{pictures}/{name}" for name in names],
        image_key=[f"synthetic/{name.rpartition('.')[0]}" for name in names],
        identity=[f"synthetic-{int(match[1]):04d}" for match in matches],
        camera=[f"synthetic-c{int(match[2]):03d}" for match in matches],
        domain=["synthetic"] * len(names),
        variant=["translated" if translated else "original"] * len(names),
        color=colors,
        vehicle_type=types,
        orientation=degrees([number_in(item, "orientation", labels, number) for number, item in described]),
        split=["train"] * len(names),
    )
    nothing = Records.of(path=[])
    return Dataset("VehicleX", records, nothing, nothing, MARKET, source_of(folder), tuple(notes),
                   {"train": labels.origin(numbers)} if items else {})  # fmt: skip


def _pictures(folder: Path, translated: bool) -> Path:
    if translated:
        if not (folder / TRANSLATED).is_dir():
            raise InputError(f"{folder}: has no {TRANSLATED}; translate the images first, or read the originals.")
        return folder / TRANSLATED
    return next((folder / name for name in (ORIGINAL, "image_train") if (folder / name).is_dir()), folder)


def _contradictions(matches: Sequence[re.Match[str]], labels: Sequence[tuple[int, dict[str, str]]]) -> list[str]:
    """Note where a label file says another vehicle or camera than the file name; the name counts."""
    wrong = [
        match[0]
        for match, (_, item) in zip(matches, labels, strict=True)
        if any(
            (digits := re.sub(r"\D", "", item.get(name, ""))) and digits.lstrip("0") != match[group].lstrip("0")
            for name, group in (("vehicleID", 1), ("cameraID", 2))
        )
    ]
    if not wrong:
        return []
    counted = f"{len(wrong):,} of {len(matches):,} images, first {wrong[0]}"
    return [f"{_LABELS} contradicts the vehicle or camera in the file name, which counts: {counted}."]


def _attributes(
    described: Sequence[tuple[int, dict[str, str]]], labels: Listing, notes: list[str]
) -> tuple[list[str], list[str]]:
    """Names of colour and type of each image, "" where it has none."""
    columns = {
        name: [number_in(item, name, labels, number) for number, item in described] for name in ("colorID", "typeID")
    }
    names = {"colorID": COLORS, "typeID": VEHICLE_TYPES}
    known = {column: [value for value in values if value == value] for column, values in columns.items()}
    from_zero = any(0 in values for values in known.values())
    from_one = any(len(names[column]) in values for column, values in known.items())
    if from_zero and from_one:
        labels.tell(Finding("colour/type base", str(labels.path),
                            "colour and type numbers run from 0 and beyond their last name",
                            "correct the labels"))  # fmt: skip
        return [""] * len(described), [""] * len(described)
    if not from_zero and not from_one and any(known.values()):
        notes.append("colour and type numbers may count from 0 or from 1; 0 was taken.")
    numbers = [number for number, _ in described]
    out = [named(columns[column], numbers, column, dict(enumerate(names[column], start=int(from_one))), labels)
           for column in columns]  # fmt: skip
    return out[0], out[1]
