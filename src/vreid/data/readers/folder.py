"""Custom data sets: images in folders, without a table.

    images/0002_c002_00030600_0.jpg        named as in VeRi and Market-1501: vehicle, camera, ...; "-1_c1..." is junk
    images/anything.jpg                    vehicle and camera unknown
    vehicles/red_taxi/1.jpg                  one sub-folder a vehicle; a camera in the name ("..._c002_...") is read
    crops/north-1700000000.123456-ab12.jpg   camera, time and track in the name (Frigate and others, see `crop_names`)
    crops/north/2026-05-01T12-00-00Z_7.jpg   the same, one sub-folder a camera

Each of these also works inside train, query and gallery folders (or their VeRi, Market-1501 and CityFlow names).
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from vreid.data.dataset import Dataset
from vreid.data.findings import OnFinding, raise_finding
from vreid.data.protocols import CROSS_CAMERA, MARKET
from vreid.data.readers.common import (
    files_in,
    first_image,
    folders_in,
    images_in,
    passed_over,
    shown,
    source_of,
)
from vreid.data.readers.crop_names import CropName, parse_crop_name
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.formatting import plural

SPLIT_FOLDERS = {
    "train": ("train", "image_train", "bounding_box_train"),
    "query": ("query", "image_query"),
    "gallery": ("gallery", "image_gallery", "test", "image_test", "bounding_box_test"),
}

_NAMED = re.compile(r"^(-1|\d+)_c(\d+)", re.IGNORECASE)
_CAMERA = re.compile(r"(?:^|_)c(\d+)(?=[_s.])", re.IGNORECASE)


def find(folder: Path) -> Path | None:
    """Return `folder` if it holds images, itself or one or two folders down, or None."""
    places = [folder] if folder.is_dir() else []
    for _ in range(3):
        if any(first_image(place) for place in places):
            return folder
        places = [place / inner for place in places for inner in folders_in(place)]
    return None


def has_splits(folder: Path) -> bool:
    """Whether `folder` has sub-folders named as splits."""
    names = {name for names in SPLIT_FOLDERS.values() for name in names}
    return folder.is_dir() and any(name.lower() in names for name in folders_in(folder))


def read_folder(folder: Path | str, *, on_finding: OnFinding = raise_finding) -> Dataset:
    """Read the images in `folder`; image keys are paths relative to it.

    With split folders the protocol is Market-1501. Without them, query and gallery are all images, each a query
    against all other cameras (cross-camera), and there is no training set.

    Args:
        folder: of images, or of folders of them.
        on_finding: as for all readers; unused, since there are no rows to check.

    Raises:
        InputError: no images, two folders for one split, or images beside split or vehicle folders.
    """
    folder = Path(folder)
    inner = {name.lower(): name for name in folders_in(folder)}
    found = {split: [inner[name] for name in names if name in inner] for split, names in SPLIT_FOLDERS.items()}
    for split, names in found.items():
        if len(names) > 1:
            raise InputError(f"{folder}: folders {' and '.join(names)} both mean {split}; rename one of them.")
    notes: list[str] = []
    local: set[str] = set()
    if any(found.values()):
        parts = {
            split: _read(folder, folder / names[0], split, notes, local) if names else Records.of(path=[])
            for split, names in found.items()
        }
        unused = sorted(set(inner.values()) - {names[0] for names in found.values() if names})
        if unused:
            notes.append(f"folders {', '.join(unused)} belong to no split and are not used.")
        if not any(len(records) for records in parts.values()):
            raise InputError(f"{folder}: holds no images in train, query or gallery; put them there.")
        return Dataset(
            folder.absolute().name,
            parts["train"],
            parts["query"],
            parts["gallery"],
            MARKET,
            source_of(folder),
            tuple(notes),
            local_times=tuple(sorted(local)),
        )
    records = _read(folder, folder, "gallery", notes, local)
    if not len(records):
        deeper = [
            name
            for name in folders_in(folder)
            if any(first_image(folder / name / n) for n in folders_in(folder / name))
        ]
        if deeper:
            raise InputError(
                f"{folder}: its images lie two folders down (in {deeper[0]}/...), where a folder may be a camera, a "
                "scene or a vehicle; name the folder above the images, or write a table of them."
            )
        raise InputError(f"{folder}: holds no images (.jpg, .png, ...); name the folder that does.")
    if not records.camera.known.any():
        notes.append("no image has a camera, so cross-camera search is not possible.")
    return Dataset(
        folder.absolute().name,
        records[:0],
        records,
        records,
        CROSS_CAMERA,
        source_of(folder),
        tuple(notes),
        local_times=tuple(sorted(local)),
    )


def _read(root: Path, folder: Path, split: str, notes: list[str], local: set[str]) -> Records:
    """Read a folder of images, or of one sub-folder a vehicle.

    Cameras whose times name no zone are added to `local`.
    """
    inner = folders_in(folder)
    names, vehicles = images_in(folder), [name for name in inner if images_in(folder / name)]
    if names and vehicles:
        raise InputError(
            f"{folder}: has images ({names[0]}, ...) beside folders ({vehicles[0]}, ...) of images; move one."
        )
    notes += passed_over(folder, *(folder / name for name in inner))
    for name in inner:
        held = [] if name in vehicles else files_in(folder / name)
        if held and not passed_over(folder / name):
            counted = f"{plural(len(held), 'file')}, first {shown(held[0])}"
            notes.append(f"folder {shown(name)} holds no images ({counted}) and is not read.")
    if len(vehicles) == 1 and not names:  # one folder is where the images lie, not one vehicle
        folder, names, vehicles = folder / vehicles[0], images_in(folder / vehicles[0]), []
    paths = [folder / name for name in names] + [
        folder / vehicle / name for vehicle in vehicles for name in images_in(folder / vehicle)
    ]
    crops = [parse_crop_name(path.stem) for path in paths]
    if any(crops) and not any(map(_NAMED.match, names)):
        return _read_crops(root, paths, crops, vehicles, split, notes, local)
    matches = [_NAMED.match(name) for name in names]
    if vehicles:
        identities = [path.parent.name for path in paths]
        cameras = [f"c{int(found[1]):03d}" if (found := _CAMERA.search(path.name)) else "" for path in paths]
    else:
        identities = [("junk" if match[1] == "-1" else match[1]) if match else "" for match in matches]
        cameras = [f"c{int(match[2]):03d}" if match else "" for match in matches]
    nameless = identities.count("")
    if nameless:
        notes.append(
            f"{nameless:,} of {len(paths):,} images in {folder.name} are not named like 0002_c002_..., their "
            "vehicle is unknown."
        )
    return Records.of(
        path=paths,
        image_key=[path.relative_to(root).as_posix() for path in paths],
        identity=identities,
        camera=cameras,
        split=[split] * len(paths),
    )


def _read_crops(
    root: Path,
    paths: list[Path],
    crops: list[CropName | None],
    folders: list[str],
    split: str,
    notes: list[str],
    local: set[str],
) -> Records:
    """Read images whose names say camera, time and track; without a camera in it, their sub-folder names the camera."""
    named = [
        crop and crop._replace(camera=crop.camera or (path.parent.name if folders else ""))
        for path, crop in zip(paths, crops, strict=True)
    ]
    local |= {crop.camera for crop in named if crop and crop.local}
    notes.append("cameras, times and tracks are taken from the names of the images.")
    if others := named.count(None):
        first = paths[named.index(None)].name
        notes.append(f"{others:,} of {len(paths):,} images name no camera and time, first {shown(first)}.")
    return Records.of(
        path=paths,
        image_key=[path.relative_to(root).as_posix() for path in paths],
        camera=[crop.camera if crop else "" for crop in named],
        tracklet=[f"{crop.camera}/{crop.track}" if crop and crop.track else "" for crop in named],
        time=[crop.time if crop else math.nan for crop in named],
        split=[split] * len(paths),
    )
