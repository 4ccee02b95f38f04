"""Text files of boxes, one box per line, in the common formats.

    MOTChallenge   frame,id,left,top,width,height,...                    commas or blanks
    KITTI          frame id type truncated occluded alpha left top right bottom ...
    AI City        camera id frame left top width height x y             all cameras in one file

Frames and ids are integers, read exactly; id -1 (also 2^64 - 1) means no track. Corners are 0-based pixels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from vreid.data.readers.common import Listing, quoted, read_lines, shown
from vreid.data.spellings import whole_number
from vreid.data.vehicle_types import is_vehicle
from vreid.errors import InputError
from vreid.files import reading

Format = Literal["mot", "kitti", "ai-city"]

MEANINGS = {
    "mot": "frame,id,left,top,width,height, all numbers",
    "kitti": "frame id type truncated occluded alpha left top right bottom, as KITTI does",
    "ai-city": "camera id frame left top width height, all numbers",
}
"""Line format, as shown in messages."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_ROTATED = 13  # BoxMOT: frame, id, four corners, confidence, class, detection
_KITTI_COLUMNS = (10, 15, 16, 17, 18)  # without the 3-D box, without the score, ...


class Box(NamedTuple):
    """A box on a frame.

    Attributes:
        line: of the file, from 1.
        frame: number.
        track: id, -1: none.
        corners: x1, y1, x2, y2 in pixels.
        vehicle_type: where the file says it.
        camera: number of the camera, where the file holds several.
    """

    line: int
    frame: int
    track: int
    corners: tuple[float, float, float, float]
    vehicle_type: str = ""
    camera: int = -1

    @property
    def key(self) -> str:
        """Key of the box within its camera: "000001/17", or frame and corners if it has no track id."""
        if self.track >= 0:
            return f"{self.frame:06d}/{self.track}"
        return f"{self.frame:06d}#" + ",".join(f"{value:g}" for value in self.corners)


def format_of(words: Sequence[str]) -> Format:
    """Distinguish KITTI from MOTChallenge lines."""
    kitti = len(words) in _KITTI_COLUMNS and not _NUMBER.fullmatch(words[2])
    return "kitti" if kitti else "mot"


def read_boxes(listing: Listing, notes: list[str], of: Format | None = None) -> Iterator[Box]:
    """Read a file of boxes; wrong lines are reported and skipped.

    Args:
        listing: the file.
        notes: counts of skipped lines are appended.
        of: format; None detects MOTChallenge or KITTI per line.
    """
    ignored = people = 0
    header = False
    line_of: dict[tuple[int, str], int] = {}
    for line, text in read_lines(listing.path):
        words = re.split(r"[,;\s]+", text.strip(",; \t"))
        form = of or format_of(words)
        if not line_of and not header and re.match("frame", words[0], re.IGNORECASE):
            header = True
            if of is None and len(words) > 5 and "w" in words[4].lower() and "h" in words[5].lower():
                continue
            form = of or "mot"
        try:
            box, flag = _box(line, words, form)
        except _Fault as fault:
            listing.wrong(line, *fault.args)
            continue
        except ValueError:
            listing.wrong(line, f"is {quoted(text)}", f"write {MEANINGS[form]}")
            continue
        narrow = [float(value) for value in np.array(box.corners, dtype=np.float32)]
        if form == "mot" and listing.path.name == "gt.txt" and flag == 0:
            ignored += 1
        elif not is_vehicle(box.vehicle_type):
            people += 1
        elif not 0 <= box.frame < 2**63 or not math.isfinite(sum(narrow)):
            listing.wrong(line, f"is {quoted(text)}", "a frame is a number from 0, and corners are finite")
        elif not (narrow[2] > narrow[0] and narrow[3] > narrow[1]):
            width, height = box.corners[2] - box.corners[0], box.corners[3] - box.corners[1]
            listing.wrong(line, f"gives a box of {width:g} x {height:g} pixels", "correct it")
        elif line_of.setdefault((box.camera, box.key), line) != line:
            listing.wrong(
                line,
                f"frame {box.frame} has this id or box already in line {line_of[box.camera, box.key]}",
                "remove one",
                "duplicate entry",
            )
        else:
            yield box
    if ignored:
        notes.append(f"ignored lines (flag 0) in {listing.path}: {ignored:,}.")
    if people:
        notes.append(
            f"lines that are not vehicles (DontCare, Pedestrian, Cyclist, ...) in {listing.path}: {people:,}, not used."
        )


class _Fault(Exception):
    """An invalid integer: what is wrong and how to fix it."""


def _whole(text: str, what: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ValueError
    try:
        return whole_number(text)
    except ValueError as error:
        raise _Fault(f"{what} {shown(text)} {error}", f"write the {what} with all its digits") from error


def _box(line: int, words: Sequence[str], form: Format) -> tuple[Box, float]:
    """Parse a line: the box and, for MOTChallenge, the seventh number."""
    kind, camera = "", -1
    if form == "kitti":
        frame, track, kind = words[:3]
        x1, y1, x2, y2 = map(float, words[6:10])
        flag = 1.0
    else:
        numbers = list(map(float, words))  # all of them are numbers
        if len(words) < (7 if form == "ai-city" else 6):
            raise ValueError
        if form == "mot" and len(words) == _ROTATED:
            raise _Fault(f"has {_ROTATED} numbers: the corners of a rotated box", "write boxes along the axes")
        if form == "ai-city":
            camera, words, numbers = _whole(words[0], "camera"), [words[2], words[1], *words[3:]], numbers[1:]
        frame, track = words[:2]
        left, top, width, height = numbers[2:6]
        x1, y1, x2, y2 = left, top, left + width, top + height
        flag = numbers[6] if len(numbers) > 6 else 1.0
    return Box(line, _whole(frame, "frame"), max(_whole(track, "id"), -1), (x1, y1, x2, y2), kind, camera), flag


def describe_text(path: Path) -> str | None:
    """Detect known text formats without a header line.

    Returns:
        "ai-city" for a file of boxes of several cameras, None for anything that may be a table.

    Raises:
        InputError: the file is tracker output of a single camera, or a submission.
    """
    with reading(path), open(path, "rb") as file:
        start = file.read(1 << 12).decode("utf-8-sig", "replace")
    line = next((line for line in start.splitlines() if line.strip()), "")
    words, commas = re.split(r"[,;\s]+", line.strip(",; \t")), "," in line
    if len(words) >= 6 and format_of(words) == "kitti" and all(map(_NUMBER.fullmatch, words[:2] + words[6:10])):
        raise InputError(
            f"{path}: is KITTI tracking of one camera; name the folder of the camera, with its "
            "frames in img1, or put the video of the same name beside it."
        )
    if len(words) < 6 or not all(map(_NUMBER.fullmatch, words)):
        return None
    if not commas and len(words) in (7, 8, 9):
        return "ai-city"
    if len(words) <= 10:
        raise InputError(
            f"{path}: is tracker output (frame,id,left,top,width,height, ...); name the folder of the camera, with its "
            "frames in img1, or put the video of the same name beside it."
        )
    if not commas and all(word.isdigit() for word in words):
        raise InputError(
            f"{path}: is an AI City submission (numbers of images); check it with vreid submission check {path.name}."
        )
    return None
