"""Checks of times: absent, wrong unit, implausible dates, and camera clocks with an offset."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vreid.data.cameras import EXAMPLE, read_cameras
from vreid.data.doctor.case import Case
from vreid.data.findings import Finding
from vreid.data.recordings import recording_of
from vreid.errors import InputError

DATED = 1e8
"""Times from here on (1973) are dates; smaller ones are seconds since an unknown start."""
OLDEST = datetime(1990, 1, 1, tzinfo=UTC).timestamp()
UNITS = ((1e11, 10**3, "milliseconds"), (1e14, 10**6, "microseconds"), (1e17, 10**9, "nanoseconds"))
"""(first value, units per second, unit): larger times, beyond the year 5000 in seconds, are in this unit."""
DAY = 86400.0
EARLIEST = 5e10
"""Earliest time before 1970, in seconds, that can be formatted as a date."""

ABOVE = 4
"""How many folders above an image or video may hold the table of cameras."""
SHOWN = 5
"""Maximum number of cameras that a note names."""
MINUTE = 60.0
ENOUGH = 5
"""Minimum number of images of a camera for identical times to be suspicious."""
OFF_IN_SCENE, OFF = 3000.0, 7200.0
"""Minimum clock offset in seconds, relative to the scene or, without scenes, to all other cameras."""
AGREEING = 3
"""Minimum number of vehicles that show the offset."""
SPREAD, RELATIVE_SPREAD = 600.0, 0.05
"""Maximum spread of the offsets, in seconds and relative to the offset: travel times vary, clock offsets do not."""


def _in_seconds(case: Case) -> NDArray[np.bool_]:
    """(N,) images whose time is known and plausibly in seconds."""
    with np.errstate(invalid="ignore"):
        return (case.records.time >= 0) & (case.records.time < UNITS[0][0])


def _old(case: Case) -> NDArray[np.bool_]:
    """(N,) images with a time before 1990.

    A camera that lost its clock starts at 1970, or at 0 while other cameras have dates.
    """
    time, seconds = case.records.time, _in_seconds(case)
    dated = bool(seconds.any()) and float(np.median(time[seconds])) >= DATED
    with np.errstate(invalid="ignore"):
        return (time < 0) | (seconds & (time < OLDEST) & (dated | (time >= DATED)))


def _future(case: Case) -> NDArray[np.bool_]:
    """(N,) images with a time in the future."""
    with np.errstate(invalid="ignore"):
        return _in_seconds(case) & (case.records.time > case.now + DAY)


def credible(case: Case) -> NDArray[np.bool_]:
    """(N,) images whose time is known and plausible."""
    return _in_seconds(case) & ~_old(case) & ~_future(case)


def in_words(seconds: float) -> str:
    """Format a duration: 5400 -> "1 h 30 min"."""
    if seconds < 2 * MINUTE:
        return f"{seconds:.3g} s"
    hours, minutes = divmod(round(seconds / MINUTE), 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min"


def _date(seconds: float) -> str:
    return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=round(seconds)):%Y-%m-%d %H:%M:%S}"


def absent(case: Case) -> Iterator[Finding]:
    """Note cameras of tracker output and videos without times, which a store cannot search by time.

    A table of cameras beside them is read for their starts; what is wrong with it is reported.
    """
    records = case.records
    framed = case.scan.video | (records.tracklet.known & ~np.isnan(records.box).any(axis=1))
    known = set(records.camera.values[framed & ~np.isnan(records.time)])
    known |= {camera for camera, path in _videos(case) if recording_of(path).start}
    for table in _tables(set(records.path[framed].tolist())):
        try:
            known |= {name for name, camera in read_cameras(table).items() if camera.start is not None}
        except InputError as error:  # "PATH, line 2: what is wrong; what to do."
            message, _, fix = str(error).removeprefix(str(table)).removesuffix(".").rpartition("; ")
            where, _, message = message.rpartition(": ") if message.startswith(", line") else ("", "", message[2:])
            yield Finding("table of cameras", f"{table}{where}", message, fix)
    lacking = [name for name in dict.fromkeys(records.camera.values[framed].tolist()) if name and name not in known]
    if lacking:
        named = ", ".join(lacking[:SHOWN]) + (f" and {len(lacking) - SHOWN:,} more" if len(lacking) > SHOWN else "")
        header, example = EXAMPLE
        case.notes.append(
            f"cameras without times: {named}. A store of them (vreid ingest) has no filter by time, no travel times "
            "and no simultaneous tracklets as negatives for calibration. Give the start of each in cameras.csv: "
            f"{header} and a line such as {example.replace('north', lacking[0])}."
        )


def _tables(paths: set[str]) -> list[Path]:
    """Tables of cameras in the folders of images and videos, or above them."""
    folders = {folder for path in paths for folder in list(Path(path).absolute().parents)[:ABOVE]}
    return sorted(table for folder in folders if (table := folder / "cameras.csv").is_file())


def _videos(case: Case) -> set[tuple[str, str]]:
    """Camera and path of each video."""
    video = case.scan.video
    return set(zip(case.records.camera.values[video].tolist(), case.records.path[video].tolist(), strict=True))


def impossible(case: Case) -> Iterator[Finding]:
    """Report impossible times: milliseconds instead of seconds, before 1990, or in the future."""
    time = case.records.time
    for low, divisor, unit in UNITS:
        with np.errstate(invalid="ignore"):
            images = np.flatnonzero((time >= low) & (time < 1000 * low))
        if len(images):
            first = float(time[images[0]])
            yield case.finding(
                "time in another unit",
                images.tolist(),
                f"time {first:.0f} lies beyond the year 5000 in seconds; in {unit} it is {_date(first / divisor)}",
                f"divide the times by {divisor:,}",
            )
    for check, wrong, said in (
        ("time before 1990", _old(case), "before digital cameras existed"),
        ("time in the future", _future(case), "in the future"),
    ):
        images = np.flatnonzero(wrong)
        if len(images):
            first = float(time[images[0]])
            yield case.finding(
                check,
                images.tolist(),
                f"time {first:.15g} is {_date(max(first, -EARLIEST))}, {said}",
                "correct the time or leave it empty",
            )


def equal_times(case: Case) -> Iterator[Finding]:
    """Report cameras whose images all have one time although they show several tracklets."""
    records, known = case.records, credible(case)
    images = []
    for camera in np.unique(records.camera.codes[known]):
        own = np.flatnonzero(known & (records.camera.codes == camera))
        several = max(
            records.identity[own].distinct, records.tracklet[own].distinct, len(np.unique(records.frame[own]))
        )
        if len(own) >= ENOUGH and several > 1 and len(np.unique(records.time[own])) == 1:
            images.append(int(own[0]))
    if images:
        first = sorted(images)[0]
        yield case.finding(
            "constant time",
            sorted(images),
            f"all images of camera {records.camera.values[first]!r} have the time {records.time[first]:.15g}",
            "give each image its capture time, or leave the column empty",
        )


def clock_off(case: Case) -> Iterator[Finding]:
    """Report cameras whose times differ by hours from those of the other cameras of the scene."""
    records = case.records
    usable = credible(case) & records.identity.known & records.camera.known
    for scene in np.unique(records.scene.codes[usable]):
        limit = OFF_IN_SCENE if scene >= 0 else OFF
        left = usable & (records.scene.codes == scene)
        while (found := _camera_off(case, left, limit)) is not None:
            camera, vehicles, gap = found
            image = int(np.argmax(left & (records.camera.codes == camera)))
            yield case.finding(
                "clock offset",
                [image],
                f"camera {records.camera.values[image]!r} sees {vehicles} "
                f"vehicles about {in_words(abs(gap))} {'after' if gap > 0 else 'before'} all other "
                f"cameras{' of its scene' if scene >= 0 else ''} do",
                "correct its clock; check time zone and daylight saving time",
            )
            left &= records.camera.codes != camera


def _camera_off(case: Case, left: NDArray[np.bool_], limit: float) -> tuple[int, int, float] | None:
    """Return the camera whose clock is off by more than `limit`, the number of vehicles that show it, and the offset.

    Each vehicle gives the signed time to its nearest appearance at another camera; a camera is off if these agree. If
    only two cameras contradict each other, the one with fewer images is returned.
    """
    gaps: dict[int, list[float]] = defaultdict(list)
    codes = case.records.identity.codes
    order = np.flatnonzero(left)
    order = order[np.argsort(codes[order], kind="stable")]
    for own in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        # Merge times within a minute to keep the pairwise table small.
        minutes = np.round(case.records.time[own] / MINUTE)
        camera, minute = np.unique(np.stack([case.records.camera.codes[own], minutes]), axis=1)
        between = minute[:, None] - minute[None, :]
        between[camera[:, None] == camera[None, :]] = np.inf
        nearest = between[np.arange(len(camera)), np.abs(between).argmin(axis=1)]
        for one in np.unique(camera[np.isfinite(nearest)]):
            gaps[int(one)].append(float(np.median(nearest[(camera == one) & np.isfinite(nearest)])) * MINUTE)
    off = []
    for one, seconds in gaps.items():
        middle = float(np.median(seconds))
        spread = float(np.median(np.abs(np.array(seconds) - middle)))
        agree = spread <= min(SPREAD, RELATIVE_SPREAD * abs(middle))
        if len(seconds) >= AGREEING and abs(middle) > limit and agree:
            images = int((left & (case.records.camera.codes == one)).sum())
            off.append((images, one, len(seconds), middle))
    return min(off)[1:] if off else None
