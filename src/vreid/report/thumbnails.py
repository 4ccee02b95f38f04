"""JPEG thumbnails as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vreid.errors import InputError

THUMBNAIL = 112
"""Longer side in pixels."""
QUALITY = 76
COLD, TINT, GLOW = 0.45, 0.6, np.array([255, 120, 0], dtype=np.float32)
"""Brightness of the grey image where an activation map is 0, and opacity and colour of the overlay where it is 1."""


def thumbnail(path: str, box: Sequence[float] | None = None, heat: NDArray[np.float32] | None = None) -> str | None:
    """Encode the image at `path`, or its `box`, as a `data:image/jpeg;base64,` URI of at most 112 pixels.

    With a map `heat` (H, W) in 0 to 1, the image is grey, dark at 0 and orange at 1. None if the image cannot be read;
    a box outside of the image shows the whole image.
    """
    from PIL import Image

    from vreid.data.images import read_image

    try:
        small = read_image(path, box=box)
    except InputError:
        return None if box is None else thumbnail(path, heat=heat)
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    if heat is not None:
        levels = Image.fromarray((255 * heat).astype(np.uint8)).resize(small.size, Image.Resampling.BILINEAR)
        warm = np.asarray(levels, dtype=np.float32)[..., None] / 255
        grey = np.asarray(small.convert("L"), dtype=np.float32)[..., None] * (COLD + (1 - COLD) * warm)
        lit = grey * (1 - TINT * warm) + TINT * warm * GLOW
        small = Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
