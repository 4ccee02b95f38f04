"""Tracklets made up for tests of stores."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vreid.store.interface import NO_TIME, StoredCrop, TrackletBatch

COLORS = ("red", "white", "")
TYPES = ("car", "truck", "")


def jpeg(seed: int, size: int = 16) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def unit_vectors(rng: np.random.Generator, count: int, dimensions: int) -> NDArray[np.float32]:
    vectors = rng.standard_normal((count, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def objects(values: Sequence[str]) -> NDArray[np.object_]:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def tracklets(ids: Sequence[str], seed: int, dimensions: int = 8, crops: int = 2) -> TrackletBatch:
    """One tracklet an id; the camera is what stands before the slash, every seventh has no time."""
    rng = np.random.default_rng(seed)
    count = len(ids)
    start = rng.integers(0, 1000, count)
    end = start + rng.integers(0, 50, count)
    timeless = rng.integers(0, 7, count) == 0
    start[timeless] = end[timeless] = NO_TIME
    return TrackletBatch(
        objects(ids),
        unit_vectors(rng, count, dimensions),
        objects([one.partition("/")[0] for one in ids]),
        start,
        end,
        objects([COLORS[code] for code in rng.integers(0, 3, count)]),
        objects([TYPES[code] for code in rng.integers(0, 3, count)]),
        [{"boxes": int(code), "source": "a.mp4", "share": 0.25} for code in rng.integers(1, 99, count)],
        [
            [
                StoredCrop(jpeg(seed + row), vector, int(start[row]), row, (1.5, 2.0, 30.0, 40.25), 0.5)
                for vector in unit_vectors(rng, crops, dimensions)
            ]
            for row in range(count)
        ],
    )


def names(camera: str, count: int, first: int = 0) -> list[str]:
    return [f"{camera}/{number}" for number in range(first, first + count)]


def assert_same(found: TrackletBatch, wanted: TrackletBatch) -> None:
    """Every column and crop is equal."""
    for column in ("id", "camera", "color", "vehicle_type", "start", "end"):
        assert list(getattr(found, column)) == list(getattr(wanted, column)), column
    np.testing.assert_array_equal(found.vector, wanted.vector)
    assert list(found.facts) == list(wanted.facts)
    assert found.crops is not None and wanted.crops is not None
    for ours, theirs in zip(found.crops, wanted.crops, strict=True):
        assert [(c.jpeg, c.time, c.frame, c.box, c.quality) for c in ours] == [
            (c.jpeg, c.time, c.frame, c.box, c.quality) for c in theirs
        ]
        np.testing.assert_array_equal([c.vector for c in ours], [c.vector for c in theirs])
