"""Views of an image whose features are added up, by name; nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vreid.errors import InputError


class View(NamedTuple):
    """Whether the network sees the image itself or its crop, and whether mirrored."""

    cropped: bool
    flipped: bool


VIEWS: Mapping[str, View] = {
    "original": View(False, False),
    "flip": View(False, True),
    "crop": View(True, False),
    "crop-flip": View(True, True),
}
"""What can be added up; all four are DMT's augmentation test."""


def check_views(views: Sequence[str], *, crops: bool) -> None:
    """Check names of views; `crops` says whether crops are at hand.

    Raises:
        InputError: an unknown view, none, one named twice, or a view of crops without crops.
    """
    unknown = [view for view in views if view not in VIEWS]
    if unknown or not views:
        raise InputError(f"View {''.join(unknown[:1])!r} is unknown; choose among {', '.join(VIEWS)}.")
    if len(set(views)) < len(views):
        raise InputError(f"views {', '.join(views)}: one is named twice; name each once.")
    if not crops and any(VIEWS[view].cropped for view in views):
        raise InputError(f"views {', '.join(views)} show crops; say where these are (--crops CROPS).")
