"""File names of crops that say camera, time and track, as Frigate and other recorders write them.

north-1700000000.123456-abcdef.jpg          Frigate: camera, start of the event, its id (also "-clean.png")
north_2026-05-01T12-00-00Z_17.jpg           camera, ISO time, track; a time without a zone is local
north/1700000000.123456-abcdef.webp         camera as the folder
"""

from __future__ import annotations

import re
from typing import NamedTuple

from vreid.data.recordings import text_time

_FRIGATE = re.compile(r"(?:(?P<camera>.+)-)?(?P<time>\d{9,10}\.\d{1,6})-(?P<track>[a-z0-9]{4,12})(?:-clean)?")
_DATED = re.compile(
    r"(?:(?P<camera>.+?)[_-])?(?P<date>\d{4}-?\d\d-?\d\d)[T_](?P<time>\d\d[-:]?\d\d[-:]?\d\d(?:\.\d{1,6})?)"
    r"(?P<zone>Z|[+-]\d\d:?\d\d)?(?:_(?P<track>[^_]+))?"
)


class CropName(NamedTuple):
    """What the name of a crop says.

    Attributes:
        camera: "" where the name holds none.
        time: seconds.
        local: whether the time names no zone.
        track: id of the track or event, "" where the name holds none.
    """

    camera: str
    time: float
    local: bool
    track: str


def parse_crop_name(stem: str) -> CropName | None:
    """Return what a file name without its suffix says, or None.

    Example:
        >>> parse_crop_name("north-1700000000.123456-abcdef")
        CropName(camera='north', time=1700000000.123456, local=False, track='abcdef')
        >>> parse_crop_name("gate_1_20260501_120000_17").camera, parse_crop_name("0002_c002_00030600_0")
        ('gate_1', None)
    """
    match = _FRIGATE.fullmatch(stem)
    if match:
        return CropName(match["camera"] or "", float(match["time"]), False, match["track"])
    match = _DATED.fullmatch(stem)
    if match is None:
        return None
    date, clock = match["date"].replace("-", ""), re.sub("[-:]", "", match["time"])
    text = f"{date[:4]}-{date[4:6]}-{date[6:]}T{clock[:2]}:{clock[2:4]}:{clock[4:]}{match['zone'] or ''}"
    try:
        seconds, local = text_time(text)
    except ValueError:  # month 13, say
        return None
    return CropName(match["camera"] or "", seconds, local, match["track"] or "")
