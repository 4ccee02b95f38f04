"""Read every image file once: size, hash, thumbnail, and the error where one cannot be read."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vreid.data.images import read_image
from vreid.data.records import Records
from vreid.data.video import VIDEOS, video_facts
from vreid.errors import InputError
from vreid.progress import Progress, job

SIDE = 16
"""Side of the thumbnails that are compared, in pixels."""
FLAT = 3
"""An image whose averaged levels (0..255) differ by no more than this is of one colour."""
BATCH = 1024
"""Files given to the threads at a time."""


@dataclass(frozen=True, eq=False)
class ImageScan:
    """Result of reading N images.

    Attributes:
        error: (N,) why the image or video cannot be read and what to do, as one clause each; ("", "") where it can.
        size: (N, 2) width and height of the whole upright image in pixels; 0 where it cannot be read.
        digest: (N,) hash of the file's bytes; empty for a video.
        thumbnail: (N, 16, 16, 3) uint8, the image (its box, where it has one) averaged over a grid.
        seen: (N,) whether there is a thumbnail: the image can be read and the box lies on it.
        video: (N,) whether the file is a video, which is not decoded.
    """

    error: list[tuple[str, str]]
    size: NDArray[np.int64]
    digest: list[bytes]
    thumbnail: NDArray[np.uint8]
    seen: NDArray[np.bool_]
    video: NDArray[np.bool_]

    @property
    def readable(self) -> NDArray[np.bool_]:
        """(N,) whether the image could be read."""
        return self.size[:, 0] > 0

    @property
    def flat(self) -> NDArray[np.bool_]:
        """(N,) whether the image is of one colour all over."""
        levels = self.thumbnail.reshape(len(self.seen), SIDE * SIDE * 3)
        spread: NDArray[np.uint8] = levels.max(axis=1) - levels.min(axis=1)
        return self.seen & (spread <= FLAT)


@dataclass(frozen=True, eq=False)
class _ScannedFile:
    size: tuple[int, int] = (0, 0)
    digest: bytes = b""
    thumbnails: Sequence[NDArray[np.uint8] | None] = ()
    error: tuple[str, str] = ("", "")


def scan_images(records: Records, workers: int, progress: Progress | None) -> ImageScan:
    """Read the images of `records` in `workers` threads; each file once, however many boxes lie on it."""
    images_of: dict[str, list[int]] = defaultdict(list)
    for image, path in enumerate(records.path.tolist()):
        images_of[path].append(image)
    paths, count = list(images_of), len(records)
    out = ImageScan(
        error=[("", "")] * count,
        size=np.zeros((count, 2), dtype=np.int64),
        digest=[b""] * count,
        thumbnail=np.zeros((count, SIDE, SIDE, 3), dtype=np.uint8),
        seen=np.zeros(count, dtype=np.bool_),
        video=np.array([_is_video(path) for path in records.path.tolist()], dtype=np.bool_),
    )
    with ThreadPoolExecutor(workers) as pool, job(progress, "read images", len(paths)) as listener:
        for start in range(0, len(paths), BATCH):  # so that results do not pile up
            batch = paths[start : start + BATCH]
            reads = pool.map(_read, batch, [records.box[images_of[path]] for path in batch])
            for path, read in zip(batch, reads, strict=True):
                for place, image in enumerate(images_of[path]):
                    out.error[image], out.size[image], out.digest[image] = read.error, read.size, read.digest
                    small = read.thumbnails[place] if read.thumbnails else None
                    if small is not None:
                        out.thumbnail[image], out.seen[image] = small, True
                listener.advance(1)
    return out


def _is_video(path: str) -> bool:
    return path.lower().endswith(VIDEOS)


def _read(path: str, boxes: NDArray[np.float32]) -> _ScannedFile:
    try:
        if _is_video(path):  # its header only
            facts = video_facts(path)
            return _ScannedFile((facts.width, facts.height))
        image = read_image(path)
        digest = hashlib.sha256(Path(path).read_bytes()).digest()
    except InputError as error:  # "PATH: what is wrong; what to do."
        message, _, fix = str(error).removeprefix(f"{path}: ").removesuffix(".").rpartition("; ")
        return _ScannedFile(error=(message, fix))
    return _ScannedFile(image.size, digest, [_thumbnail(image, box) for box in boxes])


def _thumbnail(image: Image.Image, box: NDArray[np.float32]) -> NDArray[np.uint8] | None:
    x1, y1, x2, y2 = inside(box[None], np.array([image.size]))[0].tolist()
    if x2 <= x1 or y2 <= y1:
        return None
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX, (x1, y1, x2, y2)))


def inside(boxes: NDArray[np.floating], sizes: NDArray[np.integer]) -> NDArray[np.float64]:
    """Clip each box (N, 4) to its image of `sizes` (N, 2); the whole image if there is no box."""
    limits = np.concatenate([sizes, sizes], axis=1).astype(np.float64)
    whole = np.concatenate([np.zeros_like(sizes), sizes], axis=1)
    return np.where(np.isnan(boxes), whole, np.clip(boxes, 0, limits))
