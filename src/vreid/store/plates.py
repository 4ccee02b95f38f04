"""Blur licence plates in crops, before they are embedded and stored.

"likely" blurs up to six small regions of the lower half that are brighter and richer in edges than what surrounds them.
It is a heuristic and no guarantee: it covers 73 % of the plates of simulated vehicles and about two thirds of those in
real crops, and blurs 14 % of the image, lamps and lettering among it. "band" blurs the whole band in which plates are
mounted: 99 % of the plates of simulated vehicles, at the price of 56 % of the image. Plates that stand elsewhere, and
faces, stay as they are in both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Box = tuple[int, int, int, int]
"""x1, y1, x2, y2 in pixels, half-open; may stick out of the image."""

_SHAPES = ((0.08, 3.0), (0.12, 3.0), (0.18, 3.0), (0.25, 3.0), (0.12, 1.5), (0.2, 1.3))
"""Width as a share of the crop's, and aspect: plates from those seen at an angle to those seen from the front; in two
rows, as in Asia and on motorcycles."""
_LOWER = (0.42, 0.98)  # shares of the crop's height between which plates are mounted
_REGIONS = 6
_MARGIN = (0.2, 0.3)  # of a region's width and height, blurred on each side
_LETTER = 3  # pixels of a blurred plate's height that remain
_PLATE = 0.12  # largest height of a plate as a share of the crop's height


def plate_regions(image: Image.Image) -> list[Box]:
    """Return up to six regions of a crop that may be plates, the likeliest first."""
    pixels = np.asarray(image, dtype=np.float32)
    bright, grey = pixels.max(axis=2), pixels.mean(axis=2)  # a yellow plate is as bright as a white one
    edges = np.abs(np.diff(grey, axis=1, append=grey[:, -1:])) + np.abs(np.diff(grey, axis=0, append=grey[-1:])) / 2
    first, last = (int(share * image.height) for share in _LOWER)
    found: list[tuple[float, Box]] = []
    for share, aspect in _SHAPES:
        width = max(6, round(share * image.width))
        height = max(3, round(width / aspect))
        score = np.maximum(0, _contrast(edges, width, height)) + np.maximum(0, _contrast(bright, width, height))
        score[:first] = score[last:] = 0
        for _ in range(_REGIONS):
            y, x = (int(place) for place in np.unravel_index(np.argmax(score), score.shape))
            if score[y, x] <= 0:
                break
            box = (x - width // 2, y - height // 2, x + width // 2 + 1, y + height // 2 + 1)
            found.append((float(score[y, x]), box))
            score[max(0, box[1]) : box[3], max(0, box[0]) : box[2]] = 0
    chosen: list[Box] = []
    for _, box in sorted(found, reverse=True):
        x, y = (box[0] + box[2]) // 2, (box[1] + box[3]) // 2
        if not any(x1 <= x < x2 and y1 <= y < y2 for x1, y1, x2, y2 in chosen):
            chosen.append(box)
    return chosen[:_REGIONS]


def _contrast(values: NDArray[np.float32], width: int, height: int) -> NDArray[Any]:
    """Mean of `values` in a window about each pixel, less the mean of the margin of half its size around it."""
    from scipy.ndimage import uniform_filter

    outer = 2 * height + 1, round(1.5 * width)
    inside = uniform_filter(values, (height, width), mode="nearest")
    whole = uniform_filter(values, outer, mode="nearest")
    part = width * height / (outer[0] * outer[1])
    return (inside - whole) / (1 - part)


def blur_likely_plates(image: Image.Image) -> Image.Image:
    """Blur the regions of an RGB crop that may be plates; no guarantee, see above."""
    blurred = image
    for x1, y1, x2, y2 in plate_regions(image):
        across, up = round(_MARGIN[0] * (x2 - x1)) + 1, round(_MARGIN[1] * (y2 - y1)) + 1
        blurred = _blurred(blurred, (x1 - across, y1 - up, x2 + across, y2 + up))
    return blurred


def blur_plate_band(image: Image.Image) -> Image.Image:
    """Blur the band of an RGB crop in which plates are mounted, over its whole width."""
    first, last = (round(share * image.height) for share in _LOWER)
    return _blurred(image, (0, first, image.width, last))


BLURS: dict[str, Callable[[Image.Image], Image.Image]] = {"likely": blur_likely_plates, "band": blur_plate_band}
"""Ways to blur plates by the name that the command line offers."""


def _blurred(image: Image.Image, box: Box) -> Image.Image:
    """Reduce the part of an image in the box to so few pixels that no character of a plate in it is legible."""
    x1, y1, x2, y2 = max(0, box[0]), max(0, box[1]), min(image.width, box[2]), min(image.height, box[3])
    if x2 <= x1 or y2 <= y1:
        return image
    size = x2 - x1, y2 - y1
    scale = min(1, _LETTER / max(1.0, min(size[1], image.height * _PLATE)))
    few = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    part = image.crop((x1, y1, x2, y2)).resize(few, Image.Resampling.BOX).resize(size, Image.Resampling.BICUBIC)
    out = image.copy()
    out.paste(part, (x1, y1))
    return out
