"""Link the boxes of each camera into tracklets with ByteTrack of the package `trackers` (extra `tracking`).

The package is Apache-2.0; ByteTrack: Zhang et al., ECCV 2022. Boxes are linked by overlap and motion, not by looks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.data.records import Records
from vreid.data.video import VIDEOS, video_facts
from vreid.errors import InputError
from vreid.progress import Progress, job

_FRAME_RATE = 10.0  # of images without times
_LOST = 1.0  # seconds for which a vehicle may go undetected


def link_boxes(
    records: Records, *, frame_rate: float | None = None, progress: Progress | None = None
) -> tuple[Records, int]:
    """Give tracklets to the boxes that have none; all boxes of other rows are kept as they are.

    Tracklets are named "camera/number", those of a video whose name is not that of its camera "camera/video-number".

    Args:
        records: boxes with frame numbers.
        frame_rate: of the frames; None: as the video or the times say, else ten a second.
        progress: told of every frame.

    Returns:
        The records without the boxes that were linked to no other, and the number of these.

    Raises:
        InputError: the package is missing, or a box has no frame number.
    """
    try:
        from supervision import Detections
        from trackers import ByteTrackTracker
    except ImportError as error:
        raise InputError(
            f"linking boxes into tracklets needs the package trackers ({error}); pip install 'vehicle-reid[tracking]', "
            "or run a tracker and give its output."
        ) from error
    loose = ~records.tracklet.known & ~np.isnan(records.box[:, 0])
    unnumbered = np.flatnonzero(loose & (records.frame < 0))
    if len(unnumbered):
        raise InputError(f"{records.image_key[unnumbered[0]]}: has no frame number, so it cannot be linked; give one.")
    names = records.tracklet.values.copy()
    taken = set(names.tolist())
    with job(progress, "link boxes into tracklets", int(loose.sum())) as listener:
        for prefix, rows in _sequences(records, np.flatnonzero(loose)):
            step, rate = _rate(records, rows, frame_rate)
            tracker = ByteTrackTracker(
                lost_track_buffer=round(30 * _LOST), frame_rate=rate, minimum_consecutive_frames=1
            )
            longest = round(_LOST * rate) + 2  # frames without boxes after which no track is left
            name_of: dict[int, str] = {}
            last = int(records.frame[rows[0]]) - step
            for frame, of_frame in _frames(records, rows):
                for _ in range(min((frame - last) // step - 1, longest)):
                    tracker.update(Detections.empty())
                last = frame
                boxes = records.box[of_frame].astype(np.float64)
                found = tracker.update(Detections(xyxy=boxes, data={"row": of_frame}))
                for row, track in zip(found.data.get("row", ()), found.tracker_id, strict=True):
                    if track >= 0:
                        if track not in name_of:
                            name_of[track] = _free(prefix, len(name_of) + 1, taken)
                        names[row] = name_of[track]
                listener.advance(len(of_frame))
    linked = names != ""
    return records.with_(tracklet=names)[linked | ~loose], int((loose & ~linked).sum())


def _sequences(records: Records, rows: NDArray[np.intp]) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Rows of each camera, of its videos one by one, in the order of frames; with the prefix of their tracklets."""
    camera = records.camera.values
    video = [str(path) if str(path).lower().endswith(VIDEOS) else "" for path in records.path]
    groups: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        groups.setdefault((camera[row], video[row]), []).append(int(row))
    for (name, file), members in groups.items():
        ordered = np.array(members, dtype=np.intp)[np.argsort(records.frame[members], kind="stable")]
        stem = Path(file).stem
        yield f"{name}/" if stem in ("", name) else f"{name}/{stem}-", ordered


def _frames(records: Records, rows: NDArray[np.intp]) -> Iterator[tuple[int, NDArray[np.intp]]]:
    frame = records.frame[rows]
    for of_frame in np.split(rows, np.flatnonzero(np.diff(frame)) + 1):
        yield int(records.frame[of_frame[0]]), of_frame


def _rate(records: Records, rows: NDArray[np.intp], given: float | None) -> tuple[int, float]:
    """Distance of the frames with boxes, where only every n-th was looked at, and their number a second."""
    frame, time = records.frame[rows], records.time[rows]
    steps = np.diff(np.unique(frame))
    step = int(np.gcd.reduce(steps)) if len(steps) else 1
    path = str(records.path[rows[0]])
    if given is not None:
        rate = given
    elif path.lower().endswith(VIDEOS):
        rate = video_facts(path).frame_rate
    elif np.isfinite(time).all() and time.max() > time.min():
        rate = float((frame.max() - frame.min()) / (time.max() - time.min()))
    else:
        rate = _FRAME_RATE
    return step, max(rate / step, 0.1)


def _free(prefix: str, number: int, taken: set[Any]) -> str:
    """A name for a tracklet that no other has."""
    name = f"{prefix}{number}"
    while name in taken:
        number += 1
        name = f"{prefix}{number}"
    taken.add(name)
    return name
