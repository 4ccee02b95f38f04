"""Choose the few best crops of a tracklet: first boxes by their geometry, then crops by their pixels.

The quality of a crop is the product of five factors, each in [0, 1]:

    size         square root of the box's area, 1 from `FULL_SIZE` pixels on
    visible      share of the box that no other box hides; of two boxes the one with the lower bottom edge is in front
    border       `CUT_OFF` if the box touches the border of the frame, so that a part of the vehicle may be missing
    sharpness    fine detail relative to contrast, in the direction that has less of it (motion blurs one), compared
                 with the sharpest crop of the tracklet; 1 from `SHARP` of its value on
    exposure     share of pixels that are neither black nor white

The first crop is the best one. Each further crop is the one of the highest product of quality and distance in view from
those before; the view is place in the frame, aspect, size and moment of the pass.

Measured on two simulated sites of 160 vehicles at six cameras with the bundled model (mAP of one tracklet against those
of other cameras, its camera's mean feature removed; tracklets of four or five images): one crop 61.0 (random), 61.7
(middle), 64.2 (best, nothing known of what hides the vehicle) to 65.5 (with its true visibility); two crops 65.7
(random), 67.0 to 68.1 (best); all 68.2. The constants below were chosen on these sites, so the gains are optimistic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FULL_SIZE = 240
"""Pixels (square root of the area) from which a larger box is not better."""
CUT_OFF = 0.5
"""Factor of boxes that touch the border of the frame."""
SHARP = 0.65
"""Share of the sharpest crop's sharpness from which a crop is not blurred: content alone makes this difference, blur by
3 % of the vehicle's width halves it."""
SMALLEST = 16
"""Pixels of the shorter side below which a box shows no vehicle that can be recognised."""

_BORDER = 2.0  # pixels from the border of the frame within which a box counts as cut off
_SAME_VEHICLE = 0.8  # intersection over union from which two boxes are of one vehicle, found twice
_SHARPNESS_SIDE = 96  # longest side at which sharpness is measured
_DARK, _BRIGHT = 16, 245
_SPREAD = 0.2  # distance in view at which the gain of a new view is 63 %


@dataclass(frozen=True, eq=False)
class CropCandidate:
    """A crop that may be kept.

    Attributes:
        jpeg: the image.
        row: of the Records.
        quality: in [0, 1], see above; without the sharpness until the best crops have been chosen.
        sharpness: of `exposure_and_sharpness`.
        view: (V,) place, aspect, size and moment, scaled so that a distance of 1 is a very different view.
    """

    jpeg: bytes
    row: int
    quality: float
    sharpness: float
    view: NDArray[np.float64]


def visible_shares(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of each of the boxes (N, 4) of a frame that the boxes in front of it leave visible."""
    x1, y1, x2, y2 = boxes.T
    area = (x2 - x1) * (y2 - y1)
    width = np.minimum(x2[:, None], x2) - np.maximum(x1[:, None], x1)
    height = np.minimum(y2[:, None], y2) - np.maximum(y1[:, None], y1)
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    same = shared > _SAME_VEHICLE * (area[:, None] + area - shared)
    hidden = np.where((y2 > y2[:, None]) & ~same, shared, 0).sum(axis=1)
    share: NDArray[np.float64] = np.maximum(0, 1 - hidden / area)
    return share


def geometry_quality(
    boxes: NDArray[np.float64], visible: NDArray[np.float64], frame: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the product of size, visible share and border of boxes (N, 4); 0 for those too small to be used.

    Args:
        boxes: x1, y1, x2, y2 in pixels.
        visible: (N,) of `visible_shares`.
        frame: (N, 2) width and height of each box's frame; infinite: none, no box is cut off.
    """
    with np.errstate(invalid="ignore"):
        inside = np.minimum(boxes[:, 2:], frame) - np.maximum(boxes[:, :2], 0)
        touches = (boxes[:, :2] < _BORDER).any(axis=1) | (boxes[:, 2:] > frame - _BORDER).any(axis=1)
        size = np.minimum(1, np.sqrt(np.maximum(inside, 0).prod(axis=1)) / FULL_SIZE)
    quality = size * visible * np.where(touches & np.isfinite(frame[:, 0]), CUT_OFF, 1)
    return np.where(inside.min(axis=1) >= SMALLEST, quality, 0)


def choose_frames(boxes: NDArray[np.float64], quality: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Choose up to `count` of the boxes (N, 4) of a tracklet, in their order in time, by quality (N,) of geometry.

    The pass is divided into `count` parts of equal movement (in widths of the vehicle, so that one that waits is not
    chosen again and again), and the best box of each part is taken. Boxes of quality 0 are never chosen.
    """
    centre, side = (boxes[:, :2] + boxes[:, 2:]) / 2, np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    steps = np.linalg.norm(np.diff(centre, axis=0), axis=1) / side[1:]
    moved = np.concatenate([[0.0], np.cumsum(np.nan_to_num(steps) + 1e-3)])
    part = np.minimum(count - 1, (moved * (count / max(float(moved[-1]), 1e-9))).astype(int))
    best = np.lexsort((np.arange(len(boxes)), -quality, part))
    first = best[np.unique(part[best], return_index=True)[1]]
    return np.sort(first[quality[first] > 0])


def exposure_and_sharpness(image: Image.Image) -> tuple[float, float]:
    """Return the exposure of a crop, in [0, 1], and its sharpness, which compares with that of similar crops only."""
    grey = image.convert("L")
    exposed = np.asarray(grey)
    exposure = float(((exposed >= _DARK) & (exposed <= _BRIGHT)).mean())
    scale = _SHARPNESS_SIDE / max(grey.size)
    width, height = (max(3, round(side * scale)) for side in grey.size)
    pixels = np.asarray(grey.resize((width, height), Image.Resampling.BOX), dtype=np.float64)
    detail = min(float(np.abs(np.diff(pixels, n=2, axis=axis)).mean()) for axis in (0, 1))
    return exposure, detail / (float(pixels.std()) + 1)


def view_of(box: NDArray[np.float64], frame: NDArray[np.float64], moment: float) -> NDArray[np.float64]:
    """Return the view (V,) of a box in a frame of width and height `frame`, at the share `moment` of its pass."""
    width, height = box[2:] - box[:2]
    place = (box[:2] + box[2:]) / 2 / frame
    return np.array([*place, np.log(width / height), np.log(width * height) / 4, moment / 2])


def best_crops(candidates: Sequence[CropCandidate], count: int) -> list[CropCandidate]:
    """Choose up to `count` crops of high quality and different views, the best first."""
    if not candidates:
        return []
    sharpness = np.array([candidate.sharpness for candidate in candidates])
    sharp = np.minimum(1, sharpness / max(SHARP * float(sharpness.max()), 1e-9))
    quality = sharp * [candidate.quality for candidate in candidates]
    views = np.stack([candidate.view for candidate in candidates])
    gain = quality.copy()
    chosen: list[int] = []
    nearest = np.full(len(candidates), np.inf)
    while len(chosen) < min(count, len(candidates)):
        chosen.append(int(np.argmax(gain)))
        nearest = np.minimum(nearest, np.linalg.norm(views - views[chosen[-1]], axis=1))
        gain = quality * (1 - np.exp(-nearest / _SPREAD)) + 1e-9 * quality
        gain[chosen] = -1
    best = sorted(chosen, key=lambda place: (-quality[place], place))
    return [replace(candidates[place], quality=float(quality[place])) for place in best]
