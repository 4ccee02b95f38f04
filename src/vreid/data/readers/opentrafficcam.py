"""OpenTrafficCam: tracks (.ottrk) and detections (.otdet) of OTVision beside their videos, JSON packed with bzip2.

    Bridge_FR20_2020-01-01_00-00-00.mp4       camera Bridge, 20 frames a second, start (local time)
    Bridge_FR20_2020-01-01_00-00-00.ottrk     {"metadata": {...}, "data": {"detections": [{"frame": 1, ...}, ...]}}
    Bridge_FR20_2020-01-01_00-00-00.otdet     {"metadata": {...}, "data": {"1": {"detections": [...]}, ...}}

x and y are the centre of a box in files of otdet_version 1.0, its left and top from 1.1 on. Times are text in old
files and seconds in newer ones; both are local times as if they were UTC. OTVision numbers the frames of tracks from
the first one with a box, so frames are found by their times. Ids go on over the videos of one run.
"""

from __future__ import annotations

import bz2
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from vreid.data.dataset import Dataset
from vreid.data.findings import Finding, OnFinding, raise_finding
from vreid.data.readers.box_table import BoxTable
from vreid.data.readers.common import Listing, files_in, quoted
from vreid.data.readers.frames import frame_size
from vreid.data.recordings import Recording, recording_of, utc_seconds
from vreid.data.video import VIDEOS
from vreid.errors import InputError
from vreid.files import parse_errors, reading

TRACKS, DETECTIONS = ".ottrk", ".otdet"
CENTRED = "1.0"
"""otdet_version in which x and y are the centre of a box."""
KNOWN = ("1.0", "1.1", "1.2", "1.3", "1.4")
"""Values of otdet_version whose meaning is known."""
MOST_BYTES = 4 << 30
"""Unpacked files are not larger."""
_CHUNK = 1 << 24


def find(source: Path) -> Path | None:
    """Return `source` if it is a file of tracks or detections, or a folder of them; else None."""
    if source.is_file():
        return source if source.suffix.lower() in (TRACKS, DETECTIONS) else None
    return source if _files(source) else None


def _files(folder: Path) -> list[Path]:
    """Files of tracks, and of detections where a video has no tracks."""
    names = files_in(folder)
    tracks = [folder / name for name in names if name.lower().endswith(TRACKS)]
    stems = {path.stem for path in tracks}
    found = [folder / name for name in names if name.lower().endswith(DETECTIONS)]
    return tracks + [path for path in found if path.stem not in stems]


def read_opentrafficcam(source: Path | str, *, on_finding: OnFinding = raise_finding) -> Dataset:
    """Read the boxes of one file or of all in a folder; files of detections give boxes without tracklets.

    Image keys are "Bridge/2020-01-01_00-00-00/000000/17", tracklets the same without the frame. Query and gallery are
    all boxes, each a query against all other cameras (cross-camera).

    Args:
        source: the file or the folder.
        on_finding: called with each wrong box, and each file without its video.

    Raises:
        InputError: a file is damaged or of an unknown version, or there are no boxes.
    """
    source = Path(source)
    table = BoxTable(on_finding, "detection")
    cameras: set[str] = set()
    for path in [source] if source.is_file() else _files(source):
        contents = _contents(path)
        with parse_errors(path):
            cameras |= _add(table, path, contents)
    folder = source if source.is_dir() else source.parent
    return table.dataset(source.stem, folder, holds=f"{TRACKS} or {DETECTIONS}", local_times=cameras)


def _contents(path: Path) -> dict[str, Any]:
    """The JSON object of a file, packed with bzip2 or not."""
    with reading(path), open(path, "rb") as file:
        packed = file.read(3) == b"BZh"
        file.seek(0)
        data = bytearray()
        try:
            with bz2.open(file) if packed else file as stream:
                while piece := stream.read(_CHUNK):
                    data += piece
                    if len(data) > MOST_BYTES:
                        raise InputError(f"{path}: unpacks to more than {MOST_BYTES:,} bytes; split the video.")
        except EOFError as error:
            raise InputError(f"{path}: ends in the middle; copy it again.") from error
        except OSError as error:
            if error.errno is not None:
                raise
            raise InputError(f"{path}: is damaged ({error}); copy it again.") from error
    try:
        contents = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not valid JSON ({error}); track the video again.") from error
    if not isinstance(contents, dict) or not isinstance(contents.get("metadata"), dict):
        raise InputError(f"{path}: has no metadata, so it is not of OTVision 1.0 or later; track the video again.")
    return contents


def _add(table: BoxTable, path: Path, contents: Mapping[str, Any]) -> set[str]:
    """Add the boxes of one file; return its camera if it has times."""
    metadata, listing = contents["metadata"], table.listing(path)
    about = metadata["video"]
    named = str(about.get("filename") or path.stem)
    video = _video(path, named + str(about.get("filetype") or ""))
    if video is None:
        missing = f"its video {named}{about.get('filetype') or '.mp4'} is not beside it"
        table.report(Finding("video missing", str(path), missing, "put the video there"))
        return set()
    version = str(metadata.get("otdet_version"))
    if version not in KNOWN:
        raise InputError(
            f"{path}: otdet_version is {quoted(version)}, which tells where the corner of a box is; known are "
            f"{', '.join(KNOWN)}, so detect the video again."
        )
    scale = (1.0, 1.0)
    if metadata.get("detection", {}).get("normalized_bbox"):
        scale = frame_size(video) or (float(about["width"]), float(about["height"]))
    rows = list(_rows(contents["data"]))
    recording = recording_of(named)
    times = [_time(row.get("occurrence"), listing, number) for number, row in enumerate(rows, start=1)]
    shift = _shift(table, path, rows, times, about, recording.start)
    timed = not all(math.isnan(time) for time in times)
    prefix = _prefix(metadata, recording)
    for number, (row, time) in enumerate(zip(rows, times, strict=True), start=1):
        try:
            x, y, width, height = (float(row[name]) for name in "xywh")
            frame = int(row["frame"])
        except (KeyError, TypeError, ValueError, OverflowError):
            listing.wrong(number, f"is {quoted(json.dumps(row))}", "a detection has frame, x, y, w and h as numbers")
            continue
        if version == CENTRED:
            x, y = x - width / 2, y - height / 2
        corners = (x * scale[0], y * scale[1], (x + width) * scale[0], (y + height) * scale[1])
        track = row.get("track-id")
        table.add(
            listing,
            number,
            path=video,
            frame=frame - 1 + shift,
            corners=corners,
            camera=recording.camera,
            track="" if track is None or str(track) == "-1" else str(track),
            prefix=prefix,
            time=time,
            vehicle_type=str(row.get("class") or ""),
        )
    return {recording.camera} if timed else set()


def _video(path: Path, named: str) -> Path | None:
    """The video beside a file: the one that its metadata name, or that of its own name."""
    there = {name.lower(): name for name in files_in(path.parent)}
    for name in (named, *(path.stem + suffix for suffix in VIDEOS)):
        if Path(name).name.lower() in there and name.lower().endswith(VIDEOS):
            return path.parent / there[Path(name).name.lower()]
    return None


def _rows(data: Any) -> list[dict[str, Any]]:
    """The detections in their order, each with its frame."""
    if not isinstance(data, dict):
        raise TypeError("data is no object")
    if isinstance(data.get("detections"), list):
        rows: list[Any] = data["detections"]
    else:
        rows = [
            {**row, "frame": frame, "occurrence": of_frame.get("occurrence")}
            for frame, of_frame in data.items()
            for row in of_frame["detections"]
        ]
    if not all(isinstance(row, dict) for row in rows):
        raise TypeError("a detection is no object")
    return rows


def _time(value: Any, listing: Listing, row: int) -> float:
    """Seconds of a date or a number; NaN where there is none, or the date 1900 of videos without a start."""
    if value is None:
        return math.nan
    try:
        seconds = utc_seconds(str(value))
    except (ValueError, OverflowError) as error:
        listing.wrong(row, f"occurrence {quoted(str(value))} {error}", "correct it or remove it")
        return math.nan
    return seconds if seconds > 0 else math.nan


def _shift(
    table: BoxTable, path: Path, rows: list[dict[str, Any]], times: list[float], about: Mapping[str, Any], named: str
) -> int:
    """What to add to the frame numbers of a file, by the time of its first box; 0 if the times do not fit its video.

    OTVision stamps frame n with start + (n - 1) / rate, and then numbers the first frame with a box 1.
    """
    rate = float(about.get("actual_fps") or about.get("recorded_fps") or math.nan)
    count = float(about.get("number_of_frames") or math.inf)
    first = next((place for place, time in enumerate(times) if not math.isnan(time)), None)
    if first is None or math.isnan(rate):
        return 0
    last = max((int(row["frame"]) for row in rows if str(row.get("frame")).isdigit()), default=0)
    for start in (named, about.get("recorded_start_date")):
        try:
            at = (times[first] - utc_seconds(str(start))) * rate
            shift = round(at) + 1 - int(rows[first]["frame"])
        except (ValueError, TypeError, KeyError, OverflowError):
            continue
        if abs(at - round(at)) < 0.25 and shift >= 0 and last + shift <= max(count, last):
            if shift:
                table.notes.append(
                    f"{path.name} numbers its frames from the first one with a box; they are moved by {shift:,}, as "
                    "their times say."
                )
            return shift
    return 0


def _prefix(metadata: Mapping[str, Any], recording: Recording) -> str:
    """Prefix of tracklets: ids go on over the videos of a group, so all of its videos have the start of the first."""
    tracking = metadata.get("tracking") or {}
    if "frame_group" not in tracking or not recording.start:
        return recording.prefix
    try:
        before = utc_seconds(str(metadata["video"]["recorded_start_date"])) - utc_seconds(
            str(tracking["first_tracked_video_start"])
        )
        start = datetime.fromisoformat(recording.start) - timedelta(seconds=round(before))
    except (ValueError, KeyError, OverflowError):
        return recording.prefix
    return replace(recording, start=start.isoformat()).prefix
