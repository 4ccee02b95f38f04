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
from pathlib import Path

from vreid.data.dataset import Dataset
from vreid.data.findings import Finding, OnFinding, raise_finding
from vreid.data.protocols import MARKET
from vreid.data.readers.attributes import COLORS, VEHICLE_TYPES, color_and_type, contradictions, number_in
from vreid.data.readers.common import (
    Listing,
    attribute,
    compare_with_folder,
    degrees,
    images_in,
    natural,
    quoted,
    read_items,
    source_of,
)
from vreid.data.records import Records
from vreid.errors import InputError

FOLDER = "AIC21_Track2_ReID_Simulation"
ORIGINAL, TRANSLATED = "sys_image_train", "sys_image_train_tr"

_NAME = re.compile(r"([0-9]{1,9})_c([0-9]{1,9})_([0-9]{1,15})\.\w{1,5}")
LABELS = "train_label.xml"


def find(folder: Path) -> Path | None:
    """Return the data set's own folder (`folder`, the one above it, or FOLDER in it) or None."""
    places = [folder, folder / FOLDER, folder / "AIC21" / FOLDER]
    if folder.name in (ORIGINAL, TRANSLATED):
        places = [folder.absolute().parent]
    for place in places:
        if (place / ORIGINAL).is_dir() or (place / TRANSLATED).is_dir():
            return place
        # The 2020 layouts: known by what only VehicleX's labels have.
        if (place / LABELS).is_file() and b"lightInt" in (place / LABELS).open("rb").read(4096):
            return place
    return None


def read_vehiclex(folder: Path | str, *, on_finding: OnFinding = raise_finding) -> Dataset:
    """Read the data set in `folder`: training images only, all of domain "synthetic".

    Whether colours and types count from 0 or from 1 is seen from the labels of all images together (both count alike);
    where these leave it open, from 0, and a note says so. Read are the original images; where only translated ones are
    there, those, as variant "translated" of the same images.

    Args:
        folder: the one with sys_image_train in it.
        on_finding: called with each wrong label.

    Raises:
        InputError: no images, or broken labels.
    """
    folder = Path(folder)
    variant, places = next(iter(copies(folder).items()))
    image_folder = places["train"]
    labels = Listing(folder / LABELS, on_finding, "Item")
    items = read_items(labels.path) if labels.path.is_file() else []
    item_of: dict[str, int] = {}
    for number, item in enumerate(items, start=1):
        name = attribute(item, "imageName", labels, number)
        if name is None:
            continue
        if _NAME.fullmatch(name) is None:
            labels.wrong(number, f"imageName {quoted(name)} is not like 00001_c001_33.jpg", "correct it")
        elif item_of.setdefault(name, number) != number:
            labels.wrong(number, f"image {name} is listed twice", "remove one of the two Items", "duplicate entry")
    notes: list[str] = []
    if items:
        unlisted, notes = compare_with_folder(list(item_of), image_folder, labels.path)
    else:
        unlisted = images_in(image_folder)
        notes = [f"there is no {LABELS}, so colour, type and orientation are unknown."]
        if not unlisted:
            raise InputError(f"{image_folder}: holds no images; unpack VehicleX again.")
    for name in unlisted:
        if _NAME.fullmatch(name) is None:
            on_finding(
                Finding("label", str(image_folder / name), "is not named like 00001_c001_33.jpg", "rename or remove it")
            )
    names = sorted([*item_of, *(name for name in unlisted if _NAME.fullmatch(name))], key=natural)
    matches = [match for name in names if (match := _NAME.fullmatch(name))]
    numbers = [item_of.get(name, 0) for name in names]
    described = [(number, items[number - 1] if number else {}) for number in numbers]
    notes += contradictions(matches, described, labels)
    colors, types = color_and_type(
        described, labels, notes, colors=dict(enumerate(COLORS)), types=dict(enumerate(VEHICLE_TYPES))
    )
    records = Records.of(
        path=[f"{image_folder}/{name}" for name in names],
        image_key=[f"synthetic/{name.rpartition('.')[0]}" for name in names],
        identity=[f"synthetic-{int(match[1]):04d}" for match in matches],
        camera=[f"synthetic-c{int(match[2]):03d}" for match in matches],
        domain=["synthetic"] * len(names),
        variant=[variant] * len(names),
        color=colors,
        vehicle_type=types,
        orientation=degrees([number_in(item, "orientation", labels, number) for number, item in described]),
        split=["train"] * len(names),
    )
    nothing = Records.of(path=[])
    return Dataset(
        "VehicleX",
        records,
        nothing,
        nothing,
        MARKET,
        source_of(folder),
        tuple(notes),
        {"train": labels.origin(numbers)} if items else {},
    )


def copies(folder: Path) -> dict[str, dict[str, Path]]:
    """Where the images of each variant lie, the originals first."""
    original = next((folder / name for name in (ORIGINAL, "image_train") if (folder / name).is_dir()), None)
    translated = folder / TRANSLATED if (folder / TRANSLATED).is_dir() else None
    if original is None and translated is None:
        original = folder  # the images beside the labels
    places = {"original": original, "translated": translated}
    return {variant: {"train": place} for variant, place in places.items() if place is not None}
