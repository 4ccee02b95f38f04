"""Small pictures inside the page: JPEG thumbnails as data URIs, or None where a picture cannot be read."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from vreid.errors import InputError

THUMBNAIL = 112
"""Longest side in pixels."""
QUALITY = 76


def thumbnail(path: str, box: Sequence[float] | None = None) -> str | None:
    """The picture at `path`, or its `box`, as a `data:image/jpeg;base64,` URI of at most 112 pixels.

    None if it cannot be read; a box that does not lie on the picture shows the whole.
    """
    from PIL import Image

    from vreid.data.images import read_image

    try:
        small = read_image(path, box=box)
    except InputError:
        return None if box is None else thumbnail(path)
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
