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
"""Minimum side of a crop in pixels; smaller ones show too little to distinguish vehicles."""
MIN_INSIDE = 0.5
"""Minimum share of a box inside its frame; tracker boxes may cross the border a little."""


def unreadable(case: Case) -> Iterator[Finding]:
    """Report missing, damaged and unsupported images; one finding per kind of damage."""
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for image in np.flatnonzero(~case.scan.readable).tolist():
        message, fix = case.scan.error[image]
        groups[str(case.split[image]), re.sub(r"\d+", "", message) + fix].append(image)
    for images in groups.values():
        message, fix = case.scan.error[images[0]]
        check = "unreadable image" if os.path.exists(case.records.path[images[0]]) else "missing image"
        yield case.finding(check, images, message + case.named(images[0]), fix)


def boxes(case: Case) -> Iterator[Finding]:
    """Report boxes in relative coordinates, and boxes mostly outside their frame."""
    box, usable = case.records.box.astype(np.float64), _boxed(case)
    if _relative(case):
        yield case.finding(
            "box in relative coordinates",
            [int(np.argmax(usable))],
            "all boxes lie between 0 and 1, so they seem to be relative to the frame size",
            "multiply x by the frame width and y by the frame height, in pixels",
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
            "box outside image",
            images.tolist(),
            f"box ({x1:g}, {y1:g}, {x2:g}, {y2:g}) lies "
            f"entirely or mostly outside its image of {width} x {height} pixels",
            "check the frame number, the order of the box coordinates, and the frame size they refer to",
        )


def _boxed(case: Case) -> NDArray[np.bool_]:
    return case.scan.readable & ~np.isnan(case.records.box).any(axis=1)


def _relative(case: Case) -> bool:
    boxed = _boxed(case)
    return bool(boxed.any() and case.records.box[boxed].max() <= 1)


def tiny(case: Case) -> Iterator[Finding]:
    """Report crops with a side under `MIN_SIDE` pixels."""
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
                f"the crop is {width:g} x {height:g} pixels; the shorter side is under {MIN_SIDE}",
                "remove such crops or cut them from a higher resolution",
            )


def blank(case: Case) -> Iterator[Finding]:
    """Report single-colour images, such as frames of an interrupted stream."""
    images = np.flatnonzero(case.scan.flat).tolist()
    if images:
        yield case.finding(
            "blank image",
            images,
            f"the image is a single colour{case.named(images[0])}",
            "extract it again or remove its row",
        )
