"""Check that boxes lie on their frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vreid.data.readers.common import Listing
from vreid.data.video import VIDEOS, video_facts
from vreid.errors import InputError


def frame_size(path: Path | str) -> tuple[int, int] | None:
    """Return width and height in pixels of an upright image or of the frames of a video; None if it cannot be read."""
    from vreid.data.images import image_size

    if not str(path).lower().endswith(VIDEOS):
        return image_size(path)
    try:
        facts = video_facts(path)
    except InputError:
        return None
    return facts.width, facts.height


def boxes_outside(
    paths: Sequence[str] | NDArray[np.object_], boxes: ArrayLike, listing: Listing, rows: Sequence[int]
) -> set[int]:
    """Report boxes that share no pixel with their image; return their indices.

    A box that crosses the border is fine: it is clipped later. Only the header of each image or video is read, once;
    unreadable ones are left to the decoder to report.

    Args:
        paths: (N,) images or videos.
        boxes: (N, 4) x1, y1, x2, y2 in pixels, NaN: the whole image.
        listing: the file that lists them, with the callback for findings.
        rows: (N,) their rows in it.
    """
    corners = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    framed = [paths[int(row)] for row in np.flatnonzero(~np.isnan(corners[:, 0]))]
    sizes = {path: frame_size(path) for path in dict.fromkeys(framed)}
    size = np.array([sizes.get(path) or (np.inf, np.inf) for path in paths], dtype=np.float64).reshape(-1, 2)
    outside = (corners[:, 2:] <= 0).any(axis=1) | (corners[:, :2] >= size).any(axis=1)
    for row in np.flatnonzero(outside):
        width, height = size[row]
        shown = ", ".join(f"{value:g}" for value in corners[row])
        image = "its image" if np.isinf(width) else f"its image of {width:g} x {height:g} pixels"
        listing.wrong(
            rows[int(row)],
            f"box ({shown}) lies outside {image}",
            "correct it or remove the row",
            "box outside image",
        )
    return set(np.flatnonzero(outside).tolist())
