"""Passes that gave no tracklet: their share, and trips whose first or last pass is missing.

Shapes: C cameras.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vreid.trips.solve import Trips

_FEWEST = 10  # trips by way of a camera
_SHARES = 0.1, 0.9  # quantiles of their times


def missed_share(trips: Trips) -> float:
    """Estimate the share of passes that gave no tracklet, from trips that skip a camera.

    Where most vehicles that take the usual time from a to c are seen at b between, a direct link from a to c that takes
    as long as they do is a pass that b missed. Misses of other cameras change neither count more than the other.
    """
    middle = trips.corrected.mean(axis=1)
    via: dict[tuple[int, int], dict[int, list[float]]] = {}
    direct: dict[tuple[int, int], list[float]] = {}
    camera = trips.table.camera.codes.tolist()
    for third in np.flatnonzero(trips.order > 1).tolist():
        second = int(trips.previous[third])
        direct.setdefault((camera[second], camera[third]), []).append(middle[third] - middle[second])
        if trips.order[third] > 2:
            first = int(trips.previous[second])
            seen = via.setdefault((camera[first], camera[third]), {})
            seen.setdefault(camera[second], []).append(middle[third] - middle[first])
    skipped = passed = 0.0
    for pair, between in via.items():
        for at, times in between.items():
            if len({*pair, at}) == 3 and len(times) >= _FEWEST:
                low, high = np.quantile(times, _SHARES)
                alike = sum(low <= time <= high for time in direct.get(pair, ())) / (_SHARES[1] - _SHARES[0])
                if alike <= len(times):
                    skipped += alike
                    passed += len(times)
    return skipped / (skipped + passed) if passed >= 3 * _FEWEST else 0.0


def completed_trips(
    routes: Mapping[tuple[int, ...], int], missed: float, cameras: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Estimate trips (C, C) by true first and last camera from recorded ones, and the variance that misses add.

    Of N trips, N (1 - m)^2 are recorded at both ends. Those that missed the first pass seem to begin at the next camera
    that recorded them. With r = m / (1 - m), a trip recorded at a, b, c, ... stands for 1 + r trips from a, takes
    r (1 + r) from those that seem to begin at b, gives r^2 (1 + r) to those at c, and so on; likewise at the end. These
    weights invert what misses do (the generating function of recorded beginnings is 1 - m + m G, with G that of the
    next recorded camera), so the estimate is unbiased on every route if passes are missed independently.

    Args:
        routes: number of recorded trips of each sequence of two cameras or more, none twice in a row.
        missed: m, share of passes without a tracklet, at most 1/2.
        cameras: C.

    Example:
        >>> completed_trips({(0, 1): 64}, 0.2, 2)[0].round(6).tolist()  # 0.8 * 0.8 of 100 trips
        [[0.0, 100.0], [0.0, 0.0]]
    """
    found = np.zeros((cameras, cameras))
    variance = np.zeros((cameras, cameras))
    more = missed / (1 - missed)
    for route, count in routes.items():
        weight: dict[tuple[int, int], float] = defaultdict(float)
        for begin in range(len(route) - 1):
            for end in range(begin + 1, len(route)):
                left_out = begin + len(route) - 1 - end
                weight[route[begin], route[end]] += (1 + more) ** 2 * (-more) ** left_out
        for cell, value in weight.items():
            found[cell] += count * value
            variance[cell] += count * value**2
        variance[route[0], route[-1]] -= count  # as without misses
    return found, np.maximum(variance, 0)
