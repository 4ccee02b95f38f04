"""Offsets between the clocks of cameras, estimated from confident matches; shown, never applied.

The gap between the times of a match in cameras a and b is travel time plus offset for vehicles from a to b, and minus
travel time plus offset for those from b to a. With one direction of traffic the two cannot be separated. With both,
and equal travel times, the offset is the mean of the two medians, and half of their difference is the travel time.

Shapes: N tracklets, P matches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vreid.store.relative_distance import Contests, TrackletTable

FEWEST_PASSES = 8
"""Matches in each direction that an estimate needs."""

_APART = 3.0  # the two directions must be this many spreads apart
_ROUNDS = 20  # of the division into two directions


@dataclass(frozen=True)
class ClockOffset:
    """How much the clock of one camera is ahead of that of another.

    Attributes:
        first, second: names of the cameras.
        seconds: what the clock of `second` shows more than that of `first`.
        error: standard error of it in seconds, for equal travel times in both directions.
        travel: median travel time between them in seconds.
        matches: number of confident matches, in both directions together.
    """

    first: str
    second: str
    seconds: float
    error: float
    travel: float
    matches: int

    def __str__(self) -> str:
        way = "ahead of" if self.seconds >= 0 else "behind"
        return (
            f"{self.second} is {abs(self.seconds):.1f} s {way} {self.first} (standard error {self.error:.1f} s, "
            f"{self.matches} matches in both directions, travel time {self.travel:.0f} s)"
        )


def clock_offsets(table: TrackletTable, contests: Contests, match: float) -> list[ClockOffset]:
    """Estimate the offset of each pair of cameras with traffic in both directions.

    Args:
        table: tracklets with times.
        contests: see `hold_contests`.
        match: largest relative distance of a confident match.
    """
    known = (contests.relative[:, 0] <= match) & (table.camera[contests.query] < table.camera[contests.hit])
    query, hit = contests.query[known], contests.hit[known]
    gap = (table.start[hit] + table.end[hit] - table.start[query] - table.end[query]) / 2
    timed = np.isfinite(gap)
    pair = np.stack([table.camera[query], table.camera[hit]], axis=1)[timed]
    found = []
    for first, second in np.unique(pair, axis=0):
        here = gap[timed][(pair == (first, second)).all(axis=1)]
        if (one := _offset(here)) is not None:
            found.append(ClockOffset(table.cameras[first], table.cameras[second], *one, len(here)))
    return found


def _offset(gap_P: NDArray[np.float64]) -> tuple[float, float, float] | None:
    """Return offset, its standard error and travel time; None unless the gaps show two directions."""
    if len(gap_P) < 2 * FEWEST_PASSES:
        return None
    low, high = np.quantile(gap_P, [0.2, 0.8])
    for _ in range(_ROUNDS):
        up = gap_P > (low + high) / 2
        if min(up.sum(), (~up).sum()) < FEWEST_PASSES:
            return None
        low, high = float(np.median(gap_P[~up])), float(np.median(gap_P[up]))
    spread = [1.4826 * float(np.median(np.abs(part - np.median(part)))) for part in (gap_P[~up], gap_P[up])]
    if high - low < _APART * sum(spread):
        return None
    error = np.sqrt(spread[0] ** 2 / (~up).sum() + spread[1] ** 2 / up.sum()) * np.sqrt(np.pi / 2) / 2
    return (low + high) / 2, float(error), (high - low) / 2
