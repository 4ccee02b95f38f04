"""Test-time augmentation: views of an image whose features are summed; does not import torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vreid.errors import InputError


class View(NamedTuple):
    """A view: the image or its crop, flipped or not."""

    cropped: bool
    flipped: bool


VIEWS: Mapping[str, View] = {
    "original": View(False, False),
    "flip": View(False, True),
    "crop": View(True, False),
    "crop-flip": View(True, True),
}
"""Views by name; all four together are DMT's test-time augmentation."""


def check_views(views: Sequence[str], *, crops: bool) -> None:
    """Check the names of views; `crops`: crops are available.

    Raises:
        InputError: a view is unknown or named twice, no view is given, or a view needs crops and there are none.
    """
    unknown = [view for view in views if view not in VIEWS]
    if unknown or not views:
        raise InputError(f"View {''.join(unknown[:1])!r} is unknown; choose among {', '.join(VIEWS)}.")
    if len(set(views)) < len(views):
        raise InputError(f"views {', '.join(views)}: one is named twice; name each once.")
    if not crops and any(VIEWS[view].cropped for view in views):
        raise InputError(f"views {', '.join(views)} show crops; say where these are (--crops CROPS).")
