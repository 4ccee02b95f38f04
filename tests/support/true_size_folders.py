"""Folders of the field's sizes, made up: true counts and file formats, images of a few hundred bytes.

Images of a vehicle are one file under many names, so that folders of true size take seconds. Source of the counts:
the data sets' papers and files (CityFlowV2-ReID: 85,058 images; VehicleX: 192,150; VeRi-776: 51,035).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image


class Scene(NamedTuple):
    """Vehicles that the same cameras see."""

    cameras: Sequence[str]
    vehicles: int
    images: int
    queries: int = 0
    tracks: int = 0


class Size(NamedTuple):
    """Counts of a CityFlowV2-ReID and of a VehicleX."""

    train: Sequence[Scene]
    test: Sequence[Scene]
    synthetic: Scene


def _cameras(first: int, last: int) -> list[str]:
    return [f"c{number:03d}" for number in range(first, last + 1)]


OLD = [*_cameras(22, 29), *_cameras(33, 36)]
TRUE = Size(
    train=(
        Scene(_cameras(1, 5), 88, 18_701),
        Scene(_cameras(6, 15), 112, 11_000),
        Scene(_cameras(16, 40), 240, 23_016),
    ),
    test=(Scene(OLD, 235, 16_697, 563, 530), Scene(_cameras(41, 46), 205, 14_541, 540, 461)),
    synthetic=Scene(_cameras(1, 20), 1_362, 192_150),
)
"""As distributed, but that the first scene is as large as the DMT paper's Split-Test (which vehicles these were is not
known), and that sizes of scenes, vehicles and tracks are as even as counts allow (tracks: 1 to 81 images)."""
SMALL = Size(
    train=(Scene(_cameras(1, 2), 20, 300), Scene(_cameras(21, 24), 30, 400)),
    test=(Scene(OLD[:3], 20, 230, 24, 40), Scene(_cameras(41, 42), 10, 90, 16, 20)),
    synthetic=Scene(_cameras(1, 2), 40, 500),
)
"""For every day."""


def encoded_image(seed: int) -> bytes:
    """A JPEG of 24 x 16 pixels, another one for each seed."""
    buffer = BytesIO()
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(blocks.repeat(4, axis=0).repeat(4, axis=1)).save(buffer, "JPEG")
    return buffer.getvalue()


class _ImageWriter:
    """One file a vehicle; its images are links to it, so that they take no room."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.first: dict[int, str] = {}

    def add(self, name: str, vehicle: int) -> None:
        path = f"{self.folder}/{name}"
        if vehicle in self.first:
            os.link(self.first[vehicle], path)
        else:
            Path(path).write_bytes(encoded_image(vehicle))
            self.first[vehicle] = path


def _shares(total: int, parts: int) -> list[int]:
    """`total` in `parts` that differ by one at most."""
    return [total // parts + (part < total % parts) for part in range(parts)]


def _lengths(total: int, parts: int) -> list[int]:
    """The same between 1 and 81 with both ends there, as tracks have them."""
    return [1, 81, *_shares(total - 82, parts - 2)]


def _xml(root: str, items: Iterable[str]) -> str:
    body = "".join(f"    <Item {item} />\n" for item in items)
    head = f'<?xml version="1.0" encoding="gb2312"?>\n<{root} Version="1.0">\n  <Items number="-">\n'
    return f"{head}{body}  </Items>\n</{root}>\n"


def cityflow(folder: Path, size: Size) -> Path:
    """CityFlowV2-ReID below `folder`: labels of training images, cameras and tracks of the test."""
    real = folder / "AIC21_Track2_ReID"
    shots: dict[str, list[tuple[int, str]]] = {"train": [], "query": [], "test": []}  # vehicle and camera
    tracks: dict[str, list[list[int]]] = {"train": [], "test": []}
    vehicle = 0
    for scene in size.train:
        for images in _shares(scene.images, scene.vehicles):
            vehicle += 1
            seen = min(len(scene.cameras), 2 + vehicle % 4)
            for place, count in enumerate(_shares(images, seen)):
                camera = scene.cameras[(vehicle + place) % len(scene.cameras)]
                start = len(shots["train"])
                tracks["train"].append(list(range(start + 1, start + count + 1)))
                shots["train"] += [(vehicle, camera)] * count
    for scene in size.test:
        for number, count in enumerate(_lengths(scene.images, scene.tracks)):
            one = vehicle + 1 + number % scene.vehicles
            camera = scene.cameras[(one + number // scene.vehicles) % len(scene.cameras)]
            start = len(shots["test"])
            tracks["test"].append(list(range(start + 1, start + count + 1)))
            shots["test"] += [(one, camera)] * count
        for number in range(scene.queries):
            one = vehicle + 1 + number % scene.vehicles
            place = one + number // scene.vehicles + 1  # at another camera than a first track
            shots["query"].append((one, scene.cameras[place % len(scene.cameras)]))
        vehicle += scene.vehicles
    for name, rows in shots.items():
        writer = _ImageWriter(real / f"image_{name}")
        items = []
        for number, (one, camera) in enumerate(rows, start=1):
            writer.add(f"{number:06d}.jpg", one)
            known = f'vehicleID="{one:04d}" ' if name == "train" else ""
            items.append(f'imageName="{number:06d}.jpg" {known}cameraID="{camera}"')
        (real / f"{name}_label.xml").write_text(_xml("TrainingImages", items), encoding="ascii")
    for name, lines in tracks.items():
        text = "".join("".join(f"{number:06d}.jpg " for number in line) + "\n" for line in lines)
        (real / f"{name}_track.txt").write_text(text)
    return real


def vehiclex(folder: Path, size: Size) -> Path:
    """VehicleX below `folder`."""
    simulation = folder / "AIC21_Track2_ReID_Simulation"
    writer = _ImageWriter(simulation / "sys_image_train")
    items = []
    scene = size.synthetic
    for vehicle, count in enumerate(_shares(scene.images, scene.vehicles), start=1):
        for number in range(count):
            camera = scene.cameras[(vehicle + number) % len(scene.cameras)]
            name = f"{vehicle:05d}_{camera}_{number}.jpg"
            writer.add(name, 100_000 + vehicle)
            items.append(
                f'typeID="{vehicle % 11}" imageName="{name}" cameraID="{camera}" vehicleID="{vehicle:04d}" '
                f'colorID="{vehicle % 12}" orientation="{(vehicle * 37 + number * 7.3) % 360:.1f}" '
                'lightInt="1.2" lightDir="60.0" camHei="6.0" camDis="12.0"'
            )
    (simulation / "train_label.xml").write_text(_xml("TrainingImages", items), encoding="ascii")
    return simulation


def weights(folder: Path) -> None:
    """Files by the names and with the keys of the published ones that the tables start from, but of random content."""
    import torch

    from oracles.published import BACKBONES, published_state
    from vreid.models.backbones import build_backbone
    from vreid.models.published import PUBLISHED

    folder.mkdir(parents=True)
    for listed, backbone in BACKBONES.items():
        if backbone.startswith(
            ("resnet50", "resnet101_ibn_a", "resnext", "se_", "densenet169", "resnest", "transreid")
        ):
            torch.save(published_state(listed), folder / PUBLISHED[backbone].file)
    torch.save(build_backbone("resnet50").state_dict(), folder / PUBLISHED["resnet50"].file)


if __name__ == "__main__":  # python tests/support/true_size_folders.py FOLDER: all of true size, for a dry run by hand
    place = Path(sys.argv[1])
    cityflow(place, TRUE)
    vehiclex(place, TRUE)
    weights(place / "weights")
