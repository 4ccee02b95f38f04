"""Cameras of a site: start, frame rate, clock, time zone and position, read from a table (cameras.csv).

    camera,start,frame_rate,offset,time_zone,latitude,longitude,heading
    north,2026-05-01T07:00:00,25,-1.5,Europe/Berlin,52.5170,13.3889,180

`with_times` gives records their times in UTC: what the source says, or the start of the video plus the time of its
frame. An offset is added to the times of a camera: -1.5 corrects a clock that runs 1.5 s ahead.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from vreid.data.readers.common import Listing, decode, quoted, shown
from vreid.data.readers.sequence import sequence_rate
from vreid.data.recordings import LATEST, recording_of, utc_seconds
from vreid.data.records import Records
from vreid.data.video import VIDEOS, frame_times, video_facts
from vreid.errors import InputError

EXAMPLE = (
    "camera,start,frame_rate,time_zone,latitude,longitude",
    "north,2026-05-01T07:00:00,25,Europe/Berlin,52.5170,13.3889",
)
"""Header and a line of cameras.csv, for messages."""

SPELLINGS: dict[str, tuple[str, ...]] = {
    "camera": ("camera_id", "camera_name", "name", "cam", "id", "sensor_id"),
    "start": ("start_time", "begin", "recorded_start", "recorded_start_date"),
    "frame_rate": ("fps", "framerate", "frames_per_second"),
    "offset": ("clock_offset", "offset_s", "offset_seconds"),
    "time_zone": ("timezone", "zone", "tz"),
    "latitude": ("lat",),
    "longitude": ("lon", "lng", "long"),
    "heading": ("heading_deg", "bearing", "azimuth", "direction"),
    "file": ("video", "path", "filename", "video_file"),
}

_SHOWN = 5  # cameras that a note names
_SAME_RATE = 0.02


@dataclass(frozen=True)
class Camera:
    """What is known of a camera besides its images.

    Attributes:
        name: as in `Records.camera`.
        start: UTC seconds of the first frame of its video; None: unknown.
        frame_rate: frames a second of numbered images; videos bring their time stamps with them. None: unknown.
        offset: seconds that are added to the times of this camera.
        zone: IANA name of the zone in which times without one are; "": UTC.
        latitude, longitude: degrees (WGS 84); None: unknown.
        heading: degrees clockwise from north in which the camera looks; None: unknown.
        file: name of the video to which `start` belongs, where the camera has several; None: its only one.
    """

    name: str
    start: float | None = None
    frame_rate: float | None = None
    offset: float = 0.0
    zone: str = ""
    latitude: float | None = None
    longitude: float | None = None
    heading: float | None = None
    file: str | None = None


def read_cameras(path: Path | str) -> dict[str, Camera]:
    """Read a table of cameras, CSV with commas, semicolons or tabs, by name of the camera.

    All columns but `camera` may be absent and all cells but those of `camera` empty; `SPELLINGS` are accepted.

    Raises:
        InputError: no column camera, no rows, a camera that is listed twice, or a cell that cannot be understood; file,
            line, column and fix are named.
    """
    path = Path(path)
    text = decode(path)
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    cameras: dict[str, Camera] = {}
    line_of: dict[str, int] = {}
    columns: list[str] | None = None
    listing = Listing(path)
    try:
        for row in rows:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if columns is None:
                columns = _columns(cells, listing, rows.line_num)
                continue
            if len(cells) != len(columns):
                message = f"the number of cells is {len(cells)} but there are {len(columns)} columns"
                listing.wrong(rows.line_num, message, f"quote cells that hold {delimiter!r}")
            camera = _camera(
                {name: cell for name, cell in zip(columns, cells, strict=True) if name}, listing, rows.line_num
            )
            if line_of.setdefault(camera.name, rows.line_num) != rows.line_num:
                listing.wrong(
                    rows.line_num,
                    f"camera {quoted(camera.name)} is already in line {line_of[camera.name]}",
                    "write one line for each camera; where it has several videos, put the start into their names "
                    f"({camera.name}_2026-05-01_07-00-00.mp4)",
                )
            cameras[camera.name] = camera
    except csv.Error as error:
        raise InputError(f"{path}, line {rows.line_num}: is not valid CSV ({error}); save the table again.") from error
    if not cameras:
        raise InputError(
            f"{path}: lists no cameras; write a header and a line for each, such as {' and '.join(EXAMPLE)}."
        )
    return cameras


def _columns(cells: list[str], listing: Listing, line: int) -> list[str]:
    """Name of each column, "" where it is not used."""
    known = {_plain(name): field for field, names in SPELLINGS.items() for name in (field, *names)}
    columns = [known.get(_plain(cell), "") for cell in cells]
    for place, name in enumerate(columns):
        if name and name in columns[:place]:
            first = cells[columns.index(name)]
            listing.wrong(line, f"columns {quoted(first)} and {quoted(cells[place])} both mean {name}", "remove one")
    if "camera" not in columns:
        listing.wrong(
            line,
            f"has no column camera (but {', '.join(map(shown, cells[:20]))})",
            f"write the header {EXAMPLE[0]}",
        )
    return columns


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


def _camera(cells: dict[str, str], listing: Listing, line: int) -> Camera:
    def number(column: str, low: float, high: float, meaning: str) -> float | None:
        text = cells.get(column, "")
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            listing.wrong(line, f"{column} is {quoted(text)}", f"write {meaning}, or leave it empty")
        return value

    if not cells["camera"]:
        listing.wrong(line, "names no camera", "write its name, as in the source of its boxes")
    zone = cells.get("time_zone", "")
    if zone and not is_zone(zone):
        listing.wrong(line, f"time_zone {quoted(zone)} is unknown", "write an IANA name such as Europe/Berlin")
    start = None
    if cells.get("start"):
        try:
            start = utc_seconds(cells["start"], zone)
        except (ValueError, OverflowError) as error:
            listing.wrong(line, f"start {quoted(cells['start'])} {error}", "correct it or leave it empty")
    rate = number("frame_rate", 0, 1e6, "frames a second")
    if rate == 0:
        listing.wrong(line, "frame_rate is 0", "write frames a second, or leave it empty")
    return Camera(
        cells["camera"],
        start,
        rate,
        number("offset", -1e9, 1e9, "seconds to add to the times of the camera") or 0.0,
        zone,
        number("latitude", -90, 90, "degrees from -90 to 90"),
        number("longitude", -180, 180, "degrees from -180 to 180"),
        number("heading", -360, 360, "degrees clockwise from north"),
        cells.get("file") or None,
    )


def is_zone(name: str) -> bool:
    """Whether `name` is a time zone of the IANA database."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not found, no name of a zone, a folder of zones
        return False
    return True


def with_times(
    records: Records,
    cameras: Mapping[str, Camera],
    on_note: Callable[[str], None] = lambda note: None,
    *,
    local: Collection[str] = (),
) -> Records:
    """Fill and correct the column `time` of `records`.

    A time of the source is kept; else it is the start plus the time of the frame: its time stamp in a video, or its
    number divided by the frame rate (of the camera, or of seqinfo.ini beside the images). The start is that of the
    camera, or in the name of the video, or in its container. The camera's offset is added last. Rows without a start
    stay unknown, with a note a camera.

    Args:
        cameras: by name, from `read_cameras`.
        on_note: called with each observation.
        local: cameras whose times in `records` are local ones without a zone (`Dataset.local_times`): they are taken
            to be in the zone of the camera, or in UTC.

    Raises:
        InputError: a video cannot be opened.
    """
    time = records.time.copy()
    names = records.camera.values
    present = sorted(set(names.tolist()))
    absent = sorted(set(cameras) - set(present))
    if absent:
        on_note(f"cameras that are listed but not in the source ({shown(', '.join(present))}): {', '.join(absent)}.")
    zoneless: list[str] = []
    timeless: dict[str, tuple[int, int]] = {}
    for name in present:
        camera = cameras.get(name, Camera(name))
        rows = np.flatnonzero(names == name)
        far = rows[np.abs(time[rows]) > LATEST]
        if len(far):
            on_note(
                f"camera {name}: times after 2100 are not used, first {time[far[0]]:.0f}; give seconds since 1970, not "
                "milliseconds."
            )
            time[far] = np.nan
        own = ~np.isnan(time[rows])
        if name in local and own.any():
            if camera.zone:
                time[rows[own]] = _from_local(time[rows[own]], camera.zone)
            else:
                zoneless.append(name)
        lacking = rows[~own & (records.frame[rows] >= 0)]
        if len(lacking):
            time[lacking] = _times_of_frames(records[lacking], camera, on_note)
        time[rows] += camera.offset
        if unknown := int(np.isnan(time[rows]).sum()):
            timeless[name] = unknown, len(rows)
    if zoneless:
        on_note(f"times of {_listed(zoneless)} name no time zone and are taken as UTC; give the time_zone.")
    if timeless:
        unknown, count = np.sum(list(timeless.values()), axis=0)
        fix = (
            "give the start, for example in cameras.csv: "
            f"{EXAMPLE[0]} and {EXAMPLE[1].replace('north', next(iter(timeless)))}"
        )
        if (records.frame[np.isnan(time)] < 0).all():  # crops: a start says nothing about them
            fix = "give a table of the images with a column time, or names like north_2026-05-01T07-00-00Z_17.jpg"
        on_note(f"{_listed(list(timeless))}: {unknown:,} of {count:,} boxes have no time; {fix}.")
    return records.with_(time=time)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"camera{'s' if len(names) > 1 else ''} {', '.join(names[:_SHOWN])}{more}"


def _from_local(seconds: NDArray[np.float64], zone: str) -> NDArray[np.float64]:
    """UTC seconds of local times that are given as if they were UTC; of an hour that occurs twice, the first."""
    place, epoch = ZoneInfo(zone), datetime(1970, 1, 1)
    hours, inverse = np.unique(seconds // 900, return_inverse=True)  # zones change at quarters of an hour
    starts = [epoch + timedelta(seconds=float(hour) * 900) for hour in hours]
    distance = [moment.replace(tzinfo=place).utcoffset() or timedelta(0) for moment in starts]
    return np.asarray(seconds - np.array([by.total_seconds() for by in distance])[inverse])


def _times_of_frames(records: Records, camera: Camera, on_note: Callable[[str], None]) -> NDArray[np.float64]:
    """Times of rows of one camera by start and number of the frame; NaN where the start is unknown."""
    out = np.full(len(records), np.nan)
    is_video = np.array([path.lower().endswith(VIDEOS) for path in records.path.tolist()], dtype=np.bool_)
    videos = list(dict.fromkeys(records.path[is_video].tolist()))
    for video in videos:
        rows = np.flatnonzero(records.path == video)
        start = _start_of(video, camera, len(videos), on_note)
        stamped = video_facts(video).frame_rate
        if camera.frame_rate and abs(camera.frame_rate - stamped) > _SAME_RATE * stamped:
            on_note(
                f"frame rate {camera.frame_rate:g} of camera {camera.name} is not used: {Path(video).name} has time "
                f"stamps, of {stamped:g} frames a second."
            )
        if start is not None:
            times = frame_times(video)
            frames = records.frame[rows]
            there = frames < len(times)
            out[rows[there]] = start + times[frames[there]]
    images = np.flatnonzero(~is_video)
    if len(images) and camera.start is not None:
        rate = camera.frame_rate or sequence_rate(Path(records.path[images[0]]).parent)
        if rate is None:
            on_note(
                f"camera {camera.name} has a start but no frame rate, so its images have no times; give frame_rate."
            )
        else:
            out[images] = camera.start + records.frame[images] / rate
    return out


def _start_of(video: str, camera: Camera, count: int, on_note: Callable[[str], None]) -> float | None:
    """UTC seconds of the first frame of one of `count` videos of `camera`, or None."""
    if camera.start is not None and (count == 1 or camera.file == Path(video).name):
        return camera.start
    recording = recording_of(video)
    if recording.start:
        try:
            return utc_seconds(recording.start, camera.zone)
        except ValueError as error:
            on_note(f"the start in the name of {video} {error}; it is not used.")
            return None
    if camera.start is not None:
        on_note(
            f"camera {camera.name} has {count} videos but one start, so {Path(video).name} has no times; put the start "
            f"of each into its name ({camera.name}_2026-05-01_07-00-00.mp4)."
        )
        return None
    start = video_facts(video).start
    if start is not None:
        on_note(f"start of {Path(video).name} is the creation time in its container, which some recorders set late.")
    return start
