"""Output of detectors and trackers as of the MOTChallenge, beside the frames that it is about; a folder a camera.

    cameras/
        c001/img1/000001.jpg                     frames, by number
        c001/gt/gt.txt                           or c001.txt (there or beside the folder), or det/det.txt: a box a line,
                                                 frame,id,left,top,width,height,...

Vehicles are cut out of the frames while loading. A tracklet is named by camera and id, "c001/17"; id -1 is none.
Corners are taken as pixels from 0. Lines of gt.txt whose seventh number is 0 are marked there to be ignored. Vehicles
are unknown: an id names a track, not a vehicle.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vreid.data.dataset import Dataset
from vreid.data.findings import Origin, Tell, refuse
from vreid.data.readers.common import Listing, folders_in, pictures_in, quoted, read_lines, source_of
from vreid.data.readers.frames import boxes_outside
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.retrieval.protocols import CROSS_CAMERA

FRAMES = "img1"


def find(folder: Path) -> Path | None:
    """Return `folder` if it is that of one camera, or of some; or None."""
    return folder if _cameras(folder) else None


def _cameras(folder: Path) -> dict[Path, list[Path]]:
    """Files of boxes, the one to read first, of the folder of each camera; `folder` may be one itself."""
    if (folder / FRAMES).is_dir():
        places = [folder]
    else:
        places = [folder / name for name in folders_in(folder) if (folder / name / FRAMES).is_dir()]
    found = {}
    for place in places:
        own = f"{place.absolute().name}.txt"
        files = (place / "gt" / "gt.txt", place / own, place.parent / own, place / "det" / "det.txt")
        found[place] = [path for path in files if path.is_file()]
    return found if any(found.values()) else {}


def read_tracker(folder: Path | str, *, tell: Tell = refuse) -> Dataset:
    """Read the boxes of all cameras in `folder` in the order of camera, frame and line.

    Image keys are "c001/000001/17", where there is no id "c001/000001#left,top,right,bottom". Query and gallery are all
    boxes, each a query against all other cameras (cross-camera).

    Args:
        folder: of the cameras, or of one.
        tell: told here: lines that are wrong, and boxes outside of their frame.

    Raises:
        InputError: no boxes, or no frames.
    """
    folder = Path(folder)
    notes: list[str] = []
    parts, files, lines = [], [], []
    for place, found in _cameras(folder).items():
        if not found:
            notes.append(f"there are no boxes for camera {place.name}, its frames are not used.")
            continue
        boxes = sorted(_boxes(Listing(found[0], tell), notes), key=lambda box: box.frame)  # a frame is decoded once
        records = _records(place, boxes)
        rows = [box.line for box in boxes]
        outside = boxes_outside(records.path, records.box, Listing(found[0], tell), rows)
        kept = [row for row in range(len(records)) if row not in outside]
        parts.append(records[kept])
        lines += [rows[row] for row in kept]
        files += [str(found[0])] * len(kept)
        if len(found) > 1:
            notes.append(
                f"boxes of camera {place.name} are those of {found[0].name}, not of "
                f"{', '.join(path.name for path in found[1:])}."
            )
    if not files:
        raise InputError(f"{folder}: holds no boxes (gt/gt.txt, det/det.txt or <camera>.txt); run the tracker again.")
    if len(parts) == 1:
        notes.append("there is one camera only, so nothing can be searched across cameras.")
    records = Records.concat(parts)
    origin = Origin(np.array(files, dtype=object), np.array(lines, dtype=np.int64))
    return Dataset(
        folder.absolute().name,
        records[:0],
        records,
        records,
        CROSS_CAMERA,
        source_of(folder),
        tuple(notes),
        {"query": origin, "gallery": origin},
    )


class _Box(NamedTuple):
    line: int
    frame: int
    track: int  # -1: none
    corners: tuple[float, float, float, float]

    @property
    def key(self) -> str:
        if self.track >= 0:
            return f"{self.frame:06d}/{self.track}"
        return f"{self.frame:06d}#" + ",".join(f"{value:g}" for value in self.corners)


def _boxes(listing: Listing, notes: list[str]) -> Iterator[_Box]:
    ignored = 0
    line_of: dict[str, int] = {}
    for line, text in read_lines(listing.path):
        try:
            frame, track, left, top, width, height, *more = map(float, re.split(r"[,\s]+", text.strip(", ")))
            box = _Box(line, int(frame), int(track), (left, top, left + width, top + height))
        except (ValueError, OverflowError):
            listing.wrong(line, f"is {quoted(text)}", "write frame,id,left,top,width,height, all numbers")
            continue
        narrow = [float(value) for value in np.array(box.corners, dtype=np.float32)]
        if listing.path.name == "gt.txt" and more and more[0] == 0:
            ignored += 1
        elif not 0 <= frame < 2**53 or not math.isfinite(sum(narrow)):
            listing.wrong(line, f"is {quoted(text)}", "a frame is a number from 0, and corners are finite")
        elif not (narrow[2] > narrow[0] and narrow[3] > narrow[1]):
            listing.wrong(line, f"makes a box of {width:g} x {height:g} pixels", "correct it")
        elif line_of.setdefault(box.key, line) != line:
            listing.wrong(
                line,
                f"frame {box.frame} has this id or box already in line {line_of[box.key]}",
                "remove one",
                "listed twice",
            )
        else:
            yield box
    if ignored:
        notes.append(f"marked to be ignored in {listing.path}: {ignored:,} lines.")


def _records(place: Path, boxes: list[_Box]) -> Records:
    camera, frames = place.absolute().name, place / FRAMES
    pictures = pictures_in(frames)
    if not pictures:
        raise InputError(f"{frames}: holds no pictures; put the frames there, as 000001.jpg and so on.")
    name_of = {int(stem): name for name in pictures if re.fullmatch("[0-9]{1,15}", stem := name.rpartition(".")[0])}
    return Records.of(
        path=[f"{frames}/{name_of.get(box.frame, f'{box.frame:06d}.jpg')}" for box in boxes],
        image_key=[f"{camera}/{box.key}" for box in boxes],
        camera=[camera] * len(boxes),
        tracklet=[f"{camera}/{box.track}" if box.track >= 0 else None for box in boxes],
        frame=[box.frame for box in boxes],
        box=[box.corners for box in boxes] or None,
        split=["gallery"] * len(boxes),
    )
