"""Checks of single images: unreadable, boxes outside the image, tiny crops, images of one colour."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vreid.data.doctor.case import Case
from vreid.data.doctor.image_scan import inside
from vreid.data.findings import Finding

MIN_SIDE = 16
"""A crop with a side shorter than this (pixels) holds too little to tell vehicles apart."""
MIN_INSIDE = 0.5
"""Trackers' boxes reach over the border of the frame; one with less than this share inside is wrong."""


def unreadable(case: Case) -> Iterator[Finding]:
    """Images that are missing, damaged or of a kind that cannot be used; one finding for each kind of damage."""
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for image in np.flatnonzero(~case.scan.readable).tolist():
        message, fix = case.scan.error[image]
        groups[str(case.split[image]), re.sub(r"\d+", "", message) + fix].append(image)
    for images in groups.values():
        message, fix = case.scan.error[images[0]]
        check = "unreadable image" if os.path.exists(case.records.path[images[0]]) else "missing image"
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
    part = inside(box, case.scan.size)
    area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
    share = (part[:, 2] - part[:, 0]) * (part[:, 3] - part[:, 1]) / np.where(usable, area, 1)
    images = np.flatnonzero(usable & (share < MIN_INSIDE))
    if len(images):
        x1, y1, x2, y2 = box[images[0]]
        width, height = case.scan.size[images[0]]
        yield case.finding(
            "box outside the image",
            images.tolist(),
            f"box ({x1:g}, {y1:g}, {x2:g}, {y2:g}) lies "
            f"outside its image of {width} x {height} pixels, or for the most part",
            "check which frame it is of, the order of its numbers and the size of the frames it was found in",
        )


def _boxed(case: Case) -> NDArray[np.bool_]:
    return case.scan.readable & ~np.isnan(case.records.box).any(axis=1)


def _relative(case: Case) -> bool:
    boxed = _boxed(case)
    return bool(boxed.any() and case.records.box[boxed].max() <= 1)


def tiny(case: Case) -> Iterator[Finding]:
    """Images with a side of less than `MIN_SIDE` pixels."""
    if _relative(case):
        return
    part = inside(case.records.box, case.scan.size)
    sides = part[:, 2:] - part[:, :2]
    for split in dict.fromkeys(case.split.tolist()):
        images = np.flatnonzero(case.scan.seen & (sides.min(axis=1) < MIN_SIDE) & (case.split == split))
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
    images = np.flatnonzero(case.scan.flat).tolist()
    if images:
        yield case.finding(
            "blank image",
            images,
            f"the image is of one colour all over{case.named(images[0])}",
            "extract it again or take its row out",
        )
