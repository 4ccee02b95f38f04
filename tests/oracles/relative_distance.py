"""The relative distance of one hit, from its definition: every tracklet is looked at."""

from __future__ import annotations

import numpy as np

from oracles.plain_store import PlainStore
from vreid.store.interface import NO_TIME, TrackletBatch

FEWEST, NEAREST, HALF_WINDOW, FRAGMENT = 4, 6, 1_800_000, 10_000


def relative_distance(store: PlainStore, query: TrackletBatch, hit: TrackletBatch, *, two_sided: bool) -> float:
    """Of two tracklets, each a batch of one; inf if there is no competitor. Times in milliseconds."""
    distance = max(2 - 2 * float(hit.vector[0] @ query.vector[0]), 1e-6)
    rivals = [competitor(store, query, hit, of=hit)]
    if two_sided:
        rivals.append(competitor(store, hit, query, of=query))
    if None in rivals:
        return float("inf")
    return distance / float(np.prod([rival for rival in rivals if rival is not None]) ** (1 / len(rivals)))


def competitor(store: PlainStore, seen_from: TrackletBatch, other: TrackletBatch, *, of: TrackletBatch) -> float | None:
    """Distance from one tracklet to the nearest of the camera of `of` around its time, besides the two themselves."""
    camera, start, end = of.camera[0], int(of.start[0]), int(of.end[0])
    rows = [row for row in store.rows.values() if row.camera[0] == camera]
    if start != NO_TIME:
        first, last = start - HALF_WINDOW, end + HALF_WINDOW
        near = [row for row in rows if row.start[0] != NO_TIME and row.end[0] >= first and row.start[0] < last]
        rows = near if len(near) >= FEWEST else rows
    found = []
    for row in rows:
        product = float(np.float32((row.vector[0].astype(float) * seen_from.vector[0].astype(float)).sum()))
        found.append((-product, str(row.id[0]), row))
    for negative, name, row in sorted(found, key=lambda one: one[:2])[:NEAREST]:
        gap = max(start, int(row.start[0])) - min(end, int(row.end[0]))
        same_pass = NO_TIME not in (start, row.start[0]) and 0 < gap <= FRAGMENT
        if name not in (seen_from.id[0], other.id[0]) and not same_pass:
            return max(2 + 2 * negative, 1e-6)
    return None
