"""Cannot-link constraints: two tracklets of one camera at the same time are two vehicles.

Shapes: N images, U points that are clustered (images or tracklets).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.data.records import Records


def spans(records: Records) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the first and last time of each image's tracklet (N,), NaN without tracklet or time.

    Times are the column `time` or, if it is unknown for all images, the `frame` numbers of the camera.
    """
    time = records.time
    if np.isnan(time).all():
        time = np.where(records.frame >= 0, records.frame, np.nan).astype(np.float64)
    known = records.tracklet.known & ~np.isnan(time)
    first = np.full(len(records), np.nan)
    last = np.full(len(records), np.nan)
    codes = records.tracklet.codes
    if known.any():
        low = np.full(codes.max() + 1, np.inf)
        high = -low
        np.minimum.at(low, codes[known], time[known])
        np.maximum.at(high, codes[known], time[known])
        seen = records.tracklet.known & np.isfinite(low[codes])
        first[seen], last[seen] = low[codes[seen]], high[codes[seen]]
    return first, last


def divide(
    labels: NDArray[np.integer], graph: Any, points: Records, cannot_link: str, min_samples: int, records: Records
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Split clusters that violate a cannot-link constraint.

    Within such a cluster, pairs are merged in order of distance, except where a part would violate the constraint;
    parts with fewer than `min_samples` points become noise.

    Args:
        labels: (U,) clusters, -1 for noise.
        graph: (U, U) sparse distances of neighbours.
        points: (U,) the records of one image of each point.
        cannot_link: "time" or "camera"; see `PseudoConfig`.
        min_samples: points that make a cluster.
        records: all images, for the start and end of tracklets.

    Returns:
        New labels (U,), and a sentence that reports the splits, or why there can be none.
    """
    tracklet, camera = points.tracklet.codes, points.camera.codes
    begin, end = np.full(len(points), -np.inf), np.full(len(points), np.inf)
    if cannot_link == "time":
        first, last = spans(records)
        of_tracklet = np.full((2, tracklet.max(initial=-1) + 1), np.nan)
        of_tracklet[:, records.tracklet.codes[records.tracklet.known]] = np.stack([first, last])[
            :, records.tracklet.known
        ]
        begin, end = (
            np.where(tracklet >= 0, side[tracklet], np.nan) if side.size else np.full(len(points), np.nan)
            for side in of_tracklet
        )
    known = (tracklet >= 0) & (camera >= 0) & ~np.isnan(begin)
    if not known.any():
        return labels.astype(np.int64), ("cannot_link has no effect: no tracklet has a camera and a time.",)
    spans_of = [((camera[i], tracklet[i], begin[i], end[i]),) if known[i] else () for i in range(len(points))]
    new = labels.astype(np.int64)
    divided, number = 0, int(labels.max(initial=-1)) + 1
    rows = np.repeat(np.arange(graph.shape[0]), np.diff(graph.indptr))
    for cluster in range(number):
        members = np.flatnonzero(labels == cluster)
        if not _conflict({span for i in members for span in spans_of[i]}):
            continue
        divided += 1
        inside = (labels[rows] == cluster) & (labels[graph.indices] == cluster)
        parts = _joined(members, rows[inside], graph.indices[inside], graph.data[inside], spans_of)
        new[members] = -1
        for part in parts:
            if len(part) >= min_samples:
                new[part] = number
                number += 1
    what = "overlap in time" if cannot_link == "time" else "cannot be one vehicle"
    return new, (f"{divided} clusters were split: they hold tracklets of one camera that {what}.",) if divided else ()


TrackletSpan = tuple[int, int, float, float]
"""Camera, tracklet, its first and its last time."""


def _conflict(tracklet_spans: set[TrackletSpan]) -> bool:
    """Whether tracklets of one camera overlap in time."""
    ordered = sorted(tracklet_spans, key=lambda span: (span[0], span[2], span[3]))
    latest: dict[int, float] = {}
    for camera, _, begin, end in ordered:
        if begin <= latest.get(camera, -np.inf) and camera in latest:
            return True
        latest[camera] = max(end, latest.get(camera, -np.inf))
    return False


def _joined(
    members: NDArray[np.intp],
    rows: NDArray[np.intp],
    columns: NDArray[np.integer],
    distances: NDArray[np.float32],
    spans_of: Sequence[tuple[TrackletSpan, ...]],
) -> list[list[int]]:
    """Split a cluster into parts by Kruskal's algorithm, skipping merges that conflict."""
    part = {int(i): [int(i)] for i in members}
    held = {int(i): set(spans_of[i]) for i in members}
    place = {int(i): int(i) for i in members}
    for edge in np.lexsort((columns, rows, distances)):
        one, other = place[int(rows[edge])], place[int(columns[edge])]
        if one == other or _conflict(held[one] | held[other]):
            continue
        if len(part[one]) < len(part[other]):
            one, other = other, one
        for i in part[other]:
            place[i] = one
        part[one] += part.pop(other)
        held[one] |= held.pop(other)
    return sorted(sorted(group) for group in part.values())
