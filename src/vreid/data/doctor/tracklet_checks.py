"""Checks of tracklets: each shows one vehicle at one camera, in increasing time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vreid.data.doctor.case import Case
from vreid.data.doctor.clocks import credible, in_words
from vreid.data.doctor.label_checks import odd_ones_out
from vreid.data.findings import Finding

LONGEST_HOLE = 3600.0
"""Maximum seconds between two images of one tracklet."""


def over_two(case: Case) -> Iterator[Finding]:
    """Report tracklets with two cameras or two identities."""
    for column, word in (("camera", "cameras"), ("identity", "identities")):
        labels, tracklet = getattr(case.records, column), case.records.tracklet
        images, usual = odd_ones_out(tracklet, labels)
        if images:
            yield case.finding(
                f"tracklet with two {word}",
                images,
                f"tracklet {tracklet.values[images[0]]!r} has "
                f"{column} {labels.values[images[0]]!r} here and {labels.values[usual[0]]!r} in "
                f"{case.where(usual[0])}",
                "a tracklet shows one vehicle at one camera: correct the "
                f"{column}, or use a different tracklet name for each camera",
                beside=usual,
            )


def frames_against_times(case: Case) -> Iterator[Finding]:
    """Report tracklets whose times decrease with the frame number."""
    usable = credible(case) & (case.records.frame >= 0)
    before, after = _steps(case, usable, case.records.frame)
    wrong = case.records.time[after] < case.records.time[before]
    if wrong.any():
        images, earlier = after[wrong], before[wrong]
        yield case.finding(
            "frame order contradicts time",
            images.tolist(),
            f"frame {case.records.frame[images[0]]} of "
            f"tracklet {case.records.tracklet.values[images[0]]!r} comes after frame "
            f"{case.records.frame[earlier[0]]} ({case.where(earlier[0])}), but its time is "
            f"{_gap(case, images[0], earlier[0])} before",
            "correct the frame or the time",
            beside=earlier.tolist(),
        )


def twice_in_a_frame(case: Case) -> Iterator[Finding]:
    """Report tracklets with two boxes in one frame."""
    usable = case.records.frame >= 0
    before, after = _steps(case, usable, case.records.frame)
    same = (case.records.frame[after] == case.records.frame[before]) & (case.split[after] == case.split[before])
    if same.any():
        images, first = after[same], before[same]
        yield case.finding(
            "tracklet repeated in frame",
            images.tolist(),
            f"tracklet "
            f"{case.records.tracklet.values[images[0]]!r} is in frame {case.records.frame[images[0]]} "
            f"already with {case.where(first[0])}",
            "keep the box that fits, or correct the tracklet or the frame",
            beside=first.tolist(),
        )


def holes(case: Case) -> Iterator[Finding]:
    """Report gaps longer than `LONGEST_HOLE` in tracklets."""
    before, after = _steps(case, credible(case), case.records.time)
    wide = case.records.time[after] - case.records.time[before] > LONGEST_HOLE
    if wide.any():
        images, earlier = after[wide], before[wide]
        yield case.finding(
            "gap in tracklet",
            images.tolist(),
            f"tracklet "
            f"{case.records.tracklet.values[images[0]]!r} goes on here "
            f"{_gap(case, images[0], earlier[0])} after {case.where(earlier[0])}",
            "correct the time, or start a new tracklet after the gap",
            beside=earlier.tolist(),
        )


def _steps(case: Case, usable: NDArray[np.bool_], order: NDArray[np.generic]) -> tuple[NDArray[np.intp], ...]:
    """Return consecutive images, by `order`, of each tracklet, camera and variant.

    Returns:
        before, after: images, sorted by `after`.
    """
    records = case.records
    images = np.flatnonzero(usable & records.tracklet.known)
    keys = (records.variant.codes[images], records.camera.codes[images], records.tracklet.codes[images])
    place = np.lexsort((order[images], *keys))
    same = np.ones(max(len(place) - 1, 0), dtype=np.bool_)
    for key in keys:
        same &= key[place[1:]] == key[place[:-1]]
    before, after = images[place[:-1]][same], images[place[1:]][same]
    listed = np.argsort(after, kind="stable")
    return before[listed], after[listed]


def _gap(case: Case, one: int, other: int) -> str:
    return in_words(abs(float(case.records.time[one] - case.records.time[other])))
