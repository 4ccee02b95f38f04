"""Files of the field for trips: AI City results, MOTChallenge text with global ids, OpenTrafficCam events.

    track3.txt            camera id frame left top width height x y      AI City (track 1, earlier track 3), all cameras
    MOT/c041.txt          frame,id,left,top,width,height,1,-1,-1,-1      MOTChallenge, one file a camera
    site.otevents         JSON in bzip2: vehicles that enter and leave the scene of a camera (OTAnalytics)

Ids are those of vehicles over all cameras, from 1. Frames of text files count from 1. x and y, a place on the ground,
are -1 (unknown).
"""

from __future__ import annotations

import bz2
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.data.findings import Finding, OnFinding, raise_finding
from vreid.data.readers.box_lines import describe_text, read_boxes
from vreid.data.readers.common import Listing, files_in, natural
from vreid.data.records import Records
from vreid.data.video import VIDEOS
from vreid.errors import InputError
from vreid.files import atomic_write, write_text
from vreid.trips.labelled_tracklets import read_trip_names
from vreid.trips.tracking_metrics import TrackBoxes

EVENT_VERSION = "0.0"
"""Version of the event format that OTAnalytics writes."""


def is_ai_city(path: Path | str) -> bool:
    """Whether a file is an AI City multi-camera result or ground truth."""
    path = Path(path)
    try:
        return path.is_file() and path.suffix.lower() == ".txt" and describe_text(path) == "ai-city"
    except InputError:  # another format
        return False


def read_ai_city(path: Path | str, *, on_finding: OnFinding = raise_finding) -> TrackBoxes:
    """Read an AI City multi-camera result or ground truth; camera 41 is "c041".

    Raises:
        InputError: no boxes, or (through `on_finding`) a line that is wrong: no numbers, fewer than seven of them, a
            box without area, an id or frame below 1, or an id twice on a frame.
    """
    path = Path(path)
    listing = Listing(path, on_finding)
    rows = []
    for box in read_boxes(listing, [], "ai-city"):
        if box.track < 1 or box.frame < 1 or box.camera < 1:
            listing.wrong(
                box.line,
                f"camera, id and frame are {box.camera}, {box.track} and {box.frame}",
                "give numbers from 1",
            )
        else:
            rows.append((f"c{box.camera:03d}", box.frame, box.track, box.corners))
    return _boxes(path, rows)


def check_ai_city(path: Path | str) -> tuple[TrackBoxes, list[Finding], list[str]]:
    """List what is wrong with an AI City multi-camera result.

    Returns:
        its boxes, the wrong lines, and notes on what an evaluation leaves out.

    Raises:
        InputError: it cannot be read, or holds no box.
    """
    findings: list[Finding] = []
    boxes = read_ai_city(path, on_finding=findings.append)
    alone = set(boxes.identity) - set(boxes.at_several_cameras().identity)
    notes = [f"no frames of its cameras are beside it ({min(boxes.camera)}/img1), so only its lines are checked."]
    if alone:
        notes.append(
            f"ids at one camera only: {len(alone):,} of {len(set(boxes.identity)):,}; the evaluation ignores them."
        )
    return boxes, findings, notes


def write_ai_city(path: Path | str, boxes: TrackBoxes) -> None:
    """Write boxes as an AI City result, in the order of camera, id and frame, in whole pixels.

    Raises:
        InputError: the name of a camera has no number, or two have the same.
    """
    numbers = _camera_numbers(boxes)
    lines = [
        (numbers[str(camera)], identity, frame, *box)
        for camera, identity, frame, box in zip(
            boxes.camera, _identity_numbers(boxes), boxes.frame.tolist(), _pixels(boxes), strict=True
        )
    ]
    write_text(path, "".join(f"{' '.join(map(str, line))} -1 -1\n" for line in sorted(lines)))


def read_mot(folder: Path | str, *, on_finding: OnFinding = raise_finding) -> TrackBoxes:
    """Read MOTChallenge text with global ids, one file a camera, named as the camera.

    Raises:
        InputError: no boxes, or (through `on_finding`) a wrong line.
    """
    folder = Path(folder)
    rows = []
    for name in sorted((name for name in files_in(folder) if name.endswith(".txt")), key=natural):
        listing = Listing(folder / name, on_finding)
        for box in read_boxes(listing, [], "mot"):
            if box.track < 1:
                listing.wrong(box.line, "has no id", "give the number of the vehicle, from 1")
            else:
                rows.append((name.removesuffix(".txt"), box.frame, box.track, box.corners))
    return _boxes(folder, rows)


def write_mot(folder: Path | str, boxes: TrackBoxes) -> None:
    """Write boxes as MOTChallenge text with global ids, one file a camera, in the order of frame and id."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lines: dict[str, list[tuple[float, ...]]] = {}
    corners = np.column_stack([boxes.corners[:, :2], boxes.corners[:, 2:] - boxes.corners[:, :2]])
    for camera, identity, frame, box in zip(
        boxes.camera, _identity_numbers(boxes), boxes.frame.tolist(), corners.tolist(), strict=True
    ):
        lines.setdefault(str(camera), []).append((frame, identity, *box))
    for camera, some in lines.items():
        text = "".join(f"{','.join(f'{value:.10g}' for value in line)},1,-1,-1,-1\n" for line in sorted(some))
        write_text(folder / f"{camera}.txt", text)


def boxes_of_trips(records: Records, trips_csv: Path | str) -> TrackBoxes:
    """Return the boxes of tracklets that are in a trip; trips are numbered from 1 in the order of the file.

    Args:
        records: boxes with cameras, tracklets and frames (of videos from 0, of images their numbers).
        trips_csv: trip and tracklet of each line.

    Raises:
        InputError: records without boxes or frames, or none of whose tracklets is in a trip.
    """
    rows, trip = _in_trips(records, trips_csv)
    boxes = records.box
    if not np.isfinite(boxes[rows]).all() or (records.frame[rows] < 0).any():
        raise InputError(
            f"{trips_csv}: the images of its tracklets have no boxes with frame numbers; give tracker output."
        )
    video = np.array([str(path).lower().endswith(VIDEOS) for path in np.asarray(records.path, dtype=object)[rows]])
    return TrackBoxes.of(
        camera=records.camera.values[rows], frame=records.frame[rows] + video, identity=trip, corners=boxes[rows]
    )


def write_otevents(path: Path | str, records: Records, trips_csv: Path | str) -> None:
    """Write trips as OTAnalytics events: each tracklet enters the scene at its first box and leaves it at its last.

    `road_user_id` is the number of the trip, so it joins the cameras; there are no sections, since those are lines that
    a user draws on a camera's view. OTAnalytics writes such files for other programs and does not read them.

    Raises:
        InputError: as `boxes_of_trips`, or a box without time.
    """
    boxes, (rows, trip) = boxes_of_trips(records, trips_csv), _in_trips(records, trips_csv)
    times = records.time[rows]
    if not np.isfinite(times).all():
        raise InputError(f"{trips_csv}: its tracklets have no times; give the start of each camera in cameras.csv.")
    tracklets, kinds = records.tracklet.values[rows], records.vehicle_type.values[rows]
    order = np.lexsort((times, tracklets.astype(str)))
    borders = np.flatnonzero(tracklets[order][1:] != tracklets[order][:-1]) + 1
    middles = (boxes.corners[:, :2] + boxes.corners[:, 2:]) / 2
    events = []
    for part in np.split(order, borders):
        way = middles[part[-1]] - middles[part[0]]
        for row, kind in ((int(part[0]), "enter-scene"), (int(part[-1]), "leave-scene")):
            moment = datetime.fromtimestamp(float(times[row]), UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
            place = middles[row].tolist()
            events.append(
                {
                    "road_user_id": str(trip[row]),
                    "road_user_type": str(kinds[row]) or "unknown",
                    "hostname": str(boxes.camera[row]),
                    "occurrence": moment,
                    "frame_number": int(boxes.frame[row]),
                    "section_id": None,
                    "event_coordinate": place,
                    "event_type": kind,
                    "direction_vector": way.tolist(),
                    "video_name": Path(str(records.path[rows[row]])).name,
                    "interpolated_occurrence": moment,
                    "interpolated_event_coordinate": place,
                }
            )
    events.sort(key=lambda event: (str(event["occurrence"]), str(event["hostname"]), str(event["road_user_id"])))
    content: dict[str, Any] = {
        "metadata": {"section_file_version": EVENT_VERSION, "event_file_version": EVENT_VERSION},
        "sections": [],
        "event_list": events,
    }
    with atomic_write(path) as temporary, bz2.open(temporary, "wt", encoding="utf-8") as file:
        json.dump(content, file)


def _boxes(path: Path, rows: Sequence[tuple[str, int, int, tuple[float, float, float, float]]]) -> TrackBoxes:
    if not rows:
        raise InputError(
            f"{path}: holds no box of a vehicle; write one line a box: camera id frame left top width height."
        )
    camera, frame, identity, corners = zip(*rows, strict=True)
    return TrackBoxes.of(camera=camera, frame=frame, identity=identity, corners=corners)


def _camera_numbers(boxes: TrackBoxes) -> dict[str, int]:
    """Return the number of each camera: the last one in its name."""
    numbers: dict[str, int] = {}
    of_number: dict[int, str] = {}
    for name in sorted(set(map(str, boxes.camera))):
        digits = re.findall(r"\d+", name)
        if not digits:
            raise InputError(f"camera {name!r} has no number, which AI City files need; name it c001 or similar.")
        numbers[name] = int(digits[-1])
        if of_number.setdefault(numbers[name], name) != name:
            raise InputError(f"cameras {of_number[numbers[name]]!r} and {name!r} have one number; rename one.")
    return numbers


def _identity_numbers(boxes: TrackBoxes) -> list[int]:
    """Return the ids as they are if they are numbers from 1, else numbers in the order of their first box."""
    names = [str(name) for name in boxes.identity]
    if all(name.isdecimal() and int(name) > 0 for name in names):
        return [int(name) for name in names]
    number = {name: place for place, name in enumerate(dict.fromkeys(names), start=1)}
    return [number[name] for name in names]


def _pixels(boxes: TrackBoxes) -> list[list[int]]:
    """Return left, top, width and height in whole pixels; no side is 0."""
    low = np.floor(boxes.corners[:, :2] + 0.5)
    size = np.maximum(np.floor(boxes.corners[:, 2:] + 0.5) - low, 1)
    table: list[list[int]] = np.column_stack([low, size]).astype(np.int64).tolist()
    return table


def _in_trips(records: Records, trips_csv: Path | str) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Return the rows of the records whose tracklet is in a trip, and the numbers of their trips."""
    trip_of = read_trip_names(trips_csv)
    number = {name: place for place, name in enumerate(dict.fromkeys(trip_of.values()), start=1)}
    trips = np.array([number.get(trip_of.get(str(name), ""), 0) for name in records.tracklet.values], dtype=np.int64)
    rows = np.flatnonzero(trips > 0)
    if not len(rows):
        raise InputError(f"{trips_csv}: none of its tracklets is in the records; give the source that was linked.")
    return rows, trips[rows]
