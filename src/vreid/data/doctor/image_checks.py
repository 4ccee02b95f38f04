"""Reading every picture once, and what is wrong with one by itself: unreadable, outside its frame, tiny, blank."""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vreid.data.findings import Finding
from vreid.data.images import read_image
from vreid.errors import InputError

if TYPE_CHECKING:
    from vreid.data.doctor.case import Case
    from vreid.data.records import Records

SIDE = 16
"""Side of the thumbnails by which pictures are compared."""
MIN_SIDE = 16
"""A crop with a side shorter than this (pixels) holds too little to tell vehicles apart."""
MIN_INSIDE = 0.5
"""Trackers' boxes reach over the border of the frame; one with less than this share inside is wrong."""
FLAT = 3
"""A picture whose levels (0..255) differ by no more than this, after averaging, shows nothing."""

BATCH = 1024
"""Pictures handed to the threads at a time."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Pictures:
    """What reading the pictures of N images gave.

    Attributes:
        error: (N,) why the picture cannot be read and what to do, as one clause each; ("", "") where it can.
        size: (N, 2) width and height of the whole upright picture in pixels; 0 where it cannot be read.
        digest: (N,) hash of the file's bytes.
        thumbnail: (N, 16, 16, 3) uint8, the image (its box, where it has one) averaged over a grid.
        seen: (N,) whether there is a thumbnail: the picture can be read and the box lies on it.
    """

    error: list[tuple[str, str]]
    size: NDArray[np.int64]
    digest: list[bytes]
    thumbnail: NDArray[np.uint8]
    seen: NDArray[np.bool_]

    @property
    def readable(self) -> NDArray[np.bool_]:
        """(N,) whether the picture could be read."""
        return self.size[:, 0] > 0

    @property
    def flat(self) -> NDArray[np.bool_]:
        """(N,) whether the image is of one colour all over."""
        levels = self.thumbnail.reshape(len(self.seen), SIDE * SIDE * 3)
        spread: NDArray[np.uint8] = levels.max(axis=1) - levels.min(axis=1)
        return self.seen & (spread <= FLAT)


@dataclass(frozen=True, eq=False)
class _Read:
    size: tuple[int, int] = (0, 0)
    digest: bytes = b""
    thumbnails: Sequence[NDArray[np.uint8] | None] = ()
    error: tuple[str, str] = ("", "")


def look(records: Records, workers: int, progress: Progress) -> Pictures:
    """Read the pictures of `records` in `workers` threads; each file once, however many boxes lie on it."""
    images_of: dict[str, list[int]] = defaultdict(list)
    for image, path in enumerate(records.path.tolist()):
        images_of[path].append(image)
    paths, count = list(images_of), len(records)
    out = Pictures(
        error=[("", "")] * count,
        size=np.zeros((count, 2), dtype=np.int64),
        digest=[b""] * count,
        thumbnail=np.zeros((count, SIDE, SIDE, 3), dtype=np.uint8),
        seen=np.zeros(count, dtype=np.bool_),
    )
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(paths), BATCH):  # so that results do not pile up
            batch = paths[start : start + BATCH]
            reads = pool.map(_read, batch, [records.box[images_of[path]] for path in batch])
            for done, (path, read) in enumerate(zip(batch, reads, strict=True), start=start + 1):
                for place, image in enumerate(images_of[path]):
                    out.error[image], out.size[image], out.digest[image] = read.error, read.size, read.digest
                    small = read.thumbnails[place] if read.thumbnails else None
                    if small is not None:
                        out.thumbnail[image], out.seen[image] = small, True
                progress(done, len(paths))
    return out


def _read(path: str, boxes: NDArray[np.float32]) -> _Read:
    try:
        picture = read_image(path)
        digest = hashlib.sha256(Path(path).read_bytes()).digest()
    except InputError as error:  # "PATH: what is wrong; what to do."
        message, _, fix = str(error).removeprefix(f"{path}: ").removesuffix(".").rpartition("; ")
        return _Read(error=(message, fix))
    return _Read(picture.size, digest, [_thumbnail(picture, box) for box in boxes])


def _thumbnail(picture: Image.Image, box: NDArray[np.float32]) -> NDArray[np.uint8] | None:
    x1, y1, x2, y2 = inside(box[None], np.array([picture.size]))[0].tolist()
    if x2 <= x1 or y2 <= y1:
        return None
    return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX, (x1, y1, x2, y2)))


def inside(boxes: NDArray[np.floating], sizes: NDArray[np.integer]) -> NDArray[np.float64]:
    """The part of each box (N, 4) that lies in its picture of `sizes` (N, 2); the whole picture where there is none."""
    limits = np.concatenate([sizes, sizes], axis=1).astype(np.float64)
    whole = np.concatenate([np.zeros_like(sizes), sizes], axis=1)
    return np.where(np.isnan(boxes), whole, np.clip(boxes, 0, limits))


def unreadable(case: Case) -> Iterator[Finding]:
    """Pictures that are missing, damaged or of a kind that cannot be used; one finding for each kind of damage."""
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for image in np.flatnonzero(~case.pictures.readable).tolist():
        message, fix = case.pictures.error[image]
        groups[str(case.split[image]), re.sub(r"\d+", "", message) + fix].append(image)
    for images in groups.values():
        message, fix = case.pictures.error[images[0]]
        check = "unreadable picture" if os.path.exists(case.records.path[images[0]]) else "missing picture"
        yield case.finding(check, images, message + case.named(images[0]), fix)


def boxes(case: Case) -> Iterator[Finding]:
    """Boxes given as shares of the frame, and boxes that lie for the most part outside of it."""
    box, usable = case.records.box.astype(np.float64), _boxed(case)
    if _relative(case):
        yield case.finding(
            "box in shares",
            [int(np.argmax(usable))],
            "this box, like all others, lies within 0 and 1",
            "multiply x by the width and y by the height of the frame, in pixels",
        )
        return
    part = inside(box, case.pictures.size)
    area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
    share = (part[:, 2] - part[:, 0]) * (part[:, 3] - part[:, 1]) / np.where(usable, area, 1)
    images = np.flatnonzero(usable & (share < MIN_INSIDE))
    if len(images):
        x1, y1, x2, y2 = box[images[0]]
        width, height = case.pictures.size[images[0]]
        yield case.finding(
            "box outside the picture",
            images.tolist(),
            f"box ({x1:g}, {y1:g}, {x2:g}, {y2:g}) lies "
            f"outside its picture of {width} x {height} pixels, or for the most part",
            "check which frame it is of, the order of its numbers and the size of the frames it was found in",
        )


def _boxed(case: Case) -> NDArray[np.bool_]:
    return case.pictures.readable & ~np.isnan(case.records.box).any(axis=1)


def _relative(case: Case) -> bool:
    boxed = _boxed(case)
    return bool(boxed.any() and case.records.box[boxed].max() <= 1)


def tiny(case: Case) -> Iterator[Finding]:
    """Images with a side of less than `MIN_SIDE` pixels."""
    if _relative(case):
        return
    part = inside(case.records.box, case.pictures.size)
    sides = part[:, 2:] - part[:, :2]
    for split in dict.fromkeys(case.split.tolist()):
        images = np.flatnonzero(case.pictures.seen & (sides.min(axis=1) < MIN_SIDE) & (case.split == split))
        if len(images):
            width, height = sides[images[0]]
            yield case.finding(
                "tiny crop",
                images.tolist(),
                f"the crop is {width:g} x {height:g} pixels, a side under {MIN_SIDE}",
                "leave such crops out, or take them from a sharper source",
            )


def blank(case: Case) -> Iterator[Finding]:
    """Images of one colour all over: frames of a stream that broke off."""
    images = np.flatnonzero(case.pictures.flat).tolist()
    if images:
        yield case.finding(
            "blank picture",
            images,
            f"the picture is of one colour all over{case.named(images[0])}",
            "extract it again or take its row out",
        )
