"""Whether the times of tracklets say anything: travel times of look-alikes cluster, those of permuted times do not.

Shapes: N tracklets.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vreid.progress import Progress
from vreid.trips.candidate_links import Appearances, nearest_by_camera
from vreid.trips.link_learning import pairs_and_gaps
from vreid.trips.tables import TimedTracklets
from vreid.trips.transit import TimeBins, fit_routes, uniform_background

_MOST = 5_000  # tracklets that are looked at, from the middle of the data
_FEWEST = 300  # pairs of look-alikes below which nothing can be said
_PERMUTATIONS = 3
_FACTOR, _MARGIN = 1.4, 0.01  # by which the share must exceed that of permuted times

WARNING = (
    "the times of tracklets say no more than permuted ones: travel times of look-alikes do not cluster, so links and "
    "their probabilities are not to be trusted. Check clocks, dates, time zones and frame rates in cameras.csv; where "
    "the times are right, the features do not tell vehicles apart."
)
"""What is said of such data."""


def times_are_informative(table: TimedTracklets, longest: float, overlap: float) -> bool:
    """Return whether the times of look-alikes at two cameras cluster more than if the times of each camera's tracklets
    are permuted among them; True where there are too few to tell.

    Args:
        table: N tracklets in the order of time.
        longest: longest time between two tracklets of a link in seconds.
        overlap: seconds for which two cameras may see a vehicle at once.
    """
    start = max(0, (len(table) - _MOST) // 2)
    part = table[start : start + _MOST]
    pairs, share = clustered_share(part, longest, overlap)
    if pairs < _FEWEST:
        return True
    by_chance = [clustered_share(_permuted(part, seed), longest, overlap)[1] for seed in range(_PERMUTATIONS)]
    return share > _FACTOR * float(np.mean(by_chance)) + _MARGIN


def clustered_share(table: TimedTracklets, longest: float, overlap: float) -> tuple[int, float]:
    """Count the mutual nearest neighbours of pairs of cameras; return it with the share whose times cluster."""
    links = nearest_by_camera(Appearances.of(table), longest, overlap, Progress())
    if not len(links):
        return 0, 0.0
    bins = TimeBins(longest)
    pair, gap = pairs_and_gaps(table, links)
    counts = bins.histogram(pair, gap, np.ones(len(links)), table.cameras**2)
    return len(links), float(fit_routes(counts, uniform_background(bins), bins).evidence.sum() / len(links))


def _permuted(table: TimedTracklets, seed: int) -> TimedTracklets:
    """Permute the times of each camera's tracklets, and return to the order of time."""
    rng, start = np.random.default_rng(seed), table.start.copy()
    for code in range(table.cameras):
        rows = np.flatnonzero(table.camera.codes == code)
        start[rows] = start[rng.permutation(rows)]
    order = np.argsort(start, kind="stable")
    moved = replace(table, start=start, end=start + (table.end - table.start))
    return moved[order]
