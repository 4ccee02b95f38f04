"""Names of recordings (camera, frame rate and start in the name of a video), and times as text."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

_RECORDING = re.compile(
    r"(?P<camera>.+?)(?:_FR(?P<rate>\d+))?[_-](?P<start>\d{4}-\d{2}-\d{2}[_T ]\d{2}-\d{2}-\d{2})(?!\d).*"
)

_NUMBER = re.compile(
    r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?"
)  # 20260501 is a date of ISO 8601 and a number, and taken as a number
LATEST = 4102444800.0
"""The year 2100 in UTC seconds; larger numbers are milliseconds or no times of cameras."""


@dataclass(frozen=True)
class Recording:
    """Camera, frame rate and local start that the name of a video says, as OpenTrafficCam names them.

    Example:
        >>> recording_of("Bridge_FR20_2020-01-01_00-30-00.mp4")
        Recording(camera='Bridge', frame_rate=20.0, start='2020-01-01T00:30:00')
        >>> recording_of("north.mp4")
        Recording(camera='north', frame_rate=None, start='')
    """

    camera: str
    frame_rate: float | None = None
    start: str = ""

    @property
    def prefix(self) -> str:
        """Prefix of names of tracklets, since trackers count from 1 again in each video: camera, or camera/start."""
        start = self.start.replace("T", "_").replace(":", "-")
        return f"{self.camera}/{start}" if start else self.camera


def recording_of(video: Path | str) -> Recording:
    """Parse the name of a video: "NAME_FR20_2020-01-01_00-00-00.mp4", or the stem as name of the camera."""
    stem = Path(video).stem
    match = _RECORDING.fullmatch(stem)
    if match is None:
        return Recording(stem)
    date, time = re.split("[_T ]", match["start"])
    start = f"{date}T{time.replace('-', ':')}"
    try:
        datetime.fromisoformat(start)
    except ValueError:  # 2026-02-31, say
        return Recording(stem)
    return Recording(match["camera"], float(match["rate"]) if match["rate"] else None, start)


def utc_seconds(text: str, zone: str = "") -> float:
    """Return UTC seconds of a number of seconds since 1970, or of an ISO 8601 time, in `zone` where it names none.

    Raises:
        ValueError: it is neither, or far in the future as milliseconds are, or a local time that occurs twice or never
            where clocks change; the text is a clause.

    Example:
        >>> utc_seconds("2026-05-01T14:00:00", "Europe/Berlin") == utc_seconds("2026-05-01T12:00:00Z") == 1777636800.0
        True
    """
    try:
        value = float(text)
    except ValueError:
        pass
    else:
        if not math.isfinite(value):
            raise ValueError("is no time")
        if abs(value) > LATEST:
            raise ValueError("is too large for seconds since 1970; divide milliseconds by 1000")
        return value
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError("is neither seconds since 1970 nor ISO 8601 (2026-05-01T07:00:00)") from error
    if moment.tzinfo is not None:
        return moment.timestamp()
    if not zone:
        return moment.replace(tzinfo=UTC).timestamp()
    place = ZoneInfo(zone)
    first, second = (moment.replace(tzinfo=place, fold=fold).timestamp() for fold in (0, 1))
    if first != second:
        kind = "occurs twice" if first < second else "does not occur"
        raise ValueError(f"{kind} in {zone}, where clocks change then; write it with its distance to UTC (+02:00)")
    return first


def text_time(text: str) -> tuple[float, bool]:
    """Return seconds as `utc_seconds` without a zone, and whether `text` is a date that names none.

    Raises:
        ValueError: as `utc_seconds`.

    Example:
        >>> text_time("1970-01-01T00:00:09"), text_time("1970-01-01T00:00:09Z"), text_time("9")
        ((9.0, True), (9.0, False), (9.0, False))
    """
    seconds = utc_seconds(text)
    try:
        return seconds, datetime.fromisoformat(text).tzinfo is None and not _NUMBER.fullmatch(text)
    except ValueError:
        return seconds, False
