"""What trips amount to: origin-destination counts with intervals, travel times, route shares, coverage of cameras.

Only trips past two different cameras count as trips from an origin to a destination; a vehicle that one camera saw has
neither.

Shapes: N tracklets, E links, C cameras.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.trips.missed_passes import completed_trips, missed_share
from vreid.trips.solve import Trips

_Z = 1.96  # of the interval of 95 %
# Standard deviations of what the model gets wrong, chosen on simulated cities, where counts are rather too low:
_BELOW, _ABOVE = 0.1, 0.2  # of the truth below and above a corrected count, as shares of it
_SHARE_ERROR = 0.5  # of the correction for missed passes, as a share of it
_ROUNDS = 300
_CELLS = 1 << 22  # probabilities (N, cameras) of a block
_DATED = 1e8  # smaller times are seconds since an unknown start


@dataclass(frozen=True)
class ODCount:
    """Trips from one camera to another.

    Attributes:
        origin, destination: first and last camera of a trip.
        count: trips as linked.
        corrected: expected number of trips over all assignments of links, each with its probability, so that trips
            whose uncertain links were not made are not lost; then moved to the cameras that missed the first or the
            last pass of a trip (`completed_trips`).
        low, high: interval of 95 % of the true number of trips. Its variance is that of independent uncertain trips,
            which is at most the expectation (Poisson), that of the moved trips, and for what the model gets wrong
            (half of what was moved)^2 and (10 % of the count below it, 20 % above it)^2: wrong links and lost ones take
            more trips from a busy cell than they add.
    """

    origin: str
    destination: str
    count: int
    corrected: float
    low: float
    high: float


def origin_destination(trips: Trips) -> list[ODCount]:
    """Count trips by first and last camera; pairs with less than half an expected trip and none counted are left out.

    The expectation is exact for the links' probabilities: with b(i) the probability that a trip begins at tracklet i,
    p(i, j) that of the link and e(i) that the trip ends there, V(i, c) = e(i) [camera(i) = c] + sum over j of
    p(i, j) V(j, c) is the probability that a trip at i ends at camera c, and the sum of b(i) V(i, c) over the tracklets
    of a camera is the expected count.
    """
    names = trips.table.camera.names
    counts = _counted(trips)
    expected = np.maximum(_expected(trips), 0)
    completed, moves = completed_trips(_routes(trips), missed_share(trips), trips.table.cameras)
    moved = completed - counts
    mean = np.maximum(expected + moved, 0)
    variance = expected + moves + (_SHARE_ERROR * moved) ** 2
    below, above = (_Z * np.sqrt(variance + (error * mean) ** 2) for error in (_BELOW, _ABOVE))
    found = []
    for a, b in np.argwhere((counts > 0) | (mean >= 0.5)).tolist():
        middle = float(mean[a, b])
        low, high = max(0.0, middle - float(below[a, b])), middle + float(above[a, b])
        found.append(ODCount(str(names[a]), str(names[b]), int(counts[a, b]), middle, low, high))
    return found


def ends_of_trips(trips: Trips) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return the first and the last row (T,) of each trip, and whether it passes two different cameras."""
    order = np.lexsort((trips.order, trips.trip))
    starts = np.flatnonzero(trips.order[order] == 1)
    first, last = order[starts], order[np.append(starts[1:], len(order)) - 1]
    camera = trips.table.camera.codes[order]
    several = np.minimum.reduceat(camera, starts) != np.maximum.reduceat(camera, starts)
    return first, last, several


def _counted(trips: Trips) -> NDArray[np.int64]:
    first, last, several = ends_of_trips(trips)
    camera, cameras = trips.table.camera.codes.astype(np.int64), trips.table.cameras
    pair = camera[first[several]] * cameras + camera[last[several]]
    return np.bincount(pair, minlength=cameras**2).reshape(cameras, cameras)


def _expected(trips: Trips) -> NDArray[np.float64]:
    """Return the expected number (C, C) of trips by origin and destination."""
    from scipy.sparse import csr_array

    count, cameras = len(trips.table), trips.table.cameras
    camera = trips.table.camera.codes
    drive = ~trips.link_parked
    first, second = trips.links.first[drive], trips.links.second[drive]
    probability = trips.link_probability[drive]
    begin = np.clip(1 - np.bincount(second, probability, minlength=count), 0, 1)
    end = np.clip(1 - np.bincount(first, probability, minlength=count), 0, 1)
    onward = csr_array((probability, (first, second)), shape=(count, count))
    here = camera[first] == camera[second]
    staying = csr_array((probability[here], (first[here], second[here])), shape=(count, count))
    of_camera = csr_array((np.ones(count), (camera, np.arange(count))), shape=(cameras, count))
    mean = np.zeros((cameras, cameras))
    width = max(1, _CELLS // count)
    for start in range(0, cameras, width):
        columns = np.arange(start, min(start + width, cameras))
        ends = np.where(camera[:, None] == columns, end[:, None], 0.0)
        arriving = begin[:, None] * (_absorbed(onward, ends) - _absorbed(staying, ends))
        mean[:, columns] = np.asarray(of_camera @ arriving)
    return mean


def _absorbed(onward: Any, ends: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solve V = ends + onward V; links lead forward in time, so the iteration ends."""
    total = ends
    for _ in range(_ROUNDS):
        new = ends + onward @ total
        if np.abs(new - total).max(initial=0) < 1e-7:
            break
        total = new
    return total


@dataclass(frozen=True)
class TravelTimes:
    """Seconds from the middle of a tracklet to the middle of the next of the trip, at another camera.

    Attributes:
        origin, destination: cameras.
        hour: of the departure: hour of the day in UTC, or hours since the start of undated times; None: all day.
        count: number of links.
        mean, p15, median, p85: weighted with the probabilities of the links.
    """

    origin: str
    destination: str
    hour: int | None
    count: int
    mean: float
    p15: float
    median: float
    p85: float


def travel_times(trips: Trips) -> list[TravelTimes]:
    """Summarise the travel times of the links that were made, for each pair of cameras: all day, then by hour."""
    table = trips.table
    second = np.flatnonzero(trips.linked)
    first = trips.previous[second]
    camera = table.camera.codes.astype(np.int64)
    moved = camera[first] != camera[second]
    first, second = first[moved], second[moved]
    middle = trips.corrected.mean(axis=1)
    seconds, weight = middle[second] - middle[first], trips.probability[second]
    hour = (middle[first] // 3600).astype(np.int64)
    if len(middle) and middle.min() > _DATED:
        hour %= 24
    pair = camera[first] * table.cameras + camera[second]
    found = []
    by_pair = np.argsort(pair, kind="stable")
    for rows in np.split(by_pair, np.flatnonzero(np.diff(pair[by_pair])) + 1) if len(pair) else ():
        names = [str(table.camera.names[place]) for place in divmod(int(pair[rows[0]]), table.cameras)]
        for at in (None, *np.unique(hour[rows]).tolist()):
            part = rows if at is None else rows[hour[rows] == at]
            p15, median, p85 = weighted_quantiles(seconds[part], weight[part], (0.15, 0.5, 0.85))
            mean = float(np.average(seconds[part], weights=weight[part]))
            found.append(TravelTimes(names[0], names[1], at, len(part), mean, p15, median, p85))
    return found


def weighted_quantiles(
    values: NDArray[np.float64], weights: NDArray[np.float64], shares: tuple[float, ...]
) -> list[float]:
    """Compute quantiles of weighted values; with equal weights those of `numpy.quantile(..., method="hazen")`.

    Example:
        >>> weighted_quantiles(np.array([1.0, 2.0, 3.0]), np.ones(3), (0.5,))
        [2.0]
    """
    order = np.argsort(values, kind="stable")
    running = np.cumsum(weights[order])
    middle = (running - weights[order] / 2) / running[-1]
    return [float(value) for value in np.interp(shares, middle, values[order])]


@dataclass(frozen=True)
class RouteShare:
    """Share of a sequence of cameras among the trips of its origin and destination.

    Attributes:
        origin, destination: first and last camera.
        route: all cameras in order.
        count: number of trips.
        share: of the trips from origin to destination.
    """

    origin: str
    destination: str
    route: tuple[str, ...]
    count: int
    share: float


def route_shares(trips: Trips) -> list[RouteShare]:
    """Count the sequences of cameras of trips, repeated ones once, the most frequent first for each pair."""
    names, routes = trips.table.camera.names, _routes(trips)
    totals: Counter[tuple[int, int]] = Counter()
    for route, count in routes.items():
        totals[route[0], route[-1]] += count
    found = []
    for route, count in sorted(routes.items(), key=lambda item: (item[0][0], item[0][-1], -item[1], item[0])):
        places = tuple(str(names[code]) for code in route)
        found.append(RouteShare(places[0], places[-1], places, count, count / totals[route[0], route[-1]]))
    return found


def _routes(trips: Trips) -> Counter[tuple[int, ...]]:
    """Count the sequences of two cameras or more of trips, repeated ones once."""
    order = np.lexsort((trips.order, trips.trip))
    starts = np.flatnonzero(trips.order[order] == 1)
    routes: Counter[tuple[int, ...]] = Counter()
    for part in np.split(trips.table.camera.codes[order], starts[1:]):
        kept = part[np.diff(part, prepend=-1) != 0]
        if len(kept) > 1:
            routes[tuple(kept.tolist())] += 1
    return routes


@dataclass(frozen=True)
class Coverage:
    """How well the tracklets of a camera are linked.

    Attributes:
        camera: its name.
        tracklets: number of its tracklets.
        linked: share of them with a link to an earlier or a later tracklet of their trip.
        begin, end: share that begins, and that ends, a trip.
        probability: mean probability of its links; NaN without links.
        offset: seconds that its clock was found to be ahead.
    """

    camera: str
    tracklets: int
    linked: float
    begin: float
    end: float
    probability: float
    offset: float


def coverage(trips: Trips) -> list[Coverage]:
    """Summarise the links of each camera."""
    table = trips.table
    second = np.flatnonzero(trips.linked)
    linked = np.zeros(len(table), dtype=bool)
    linked[second] = linked[trips.previous[second]] = True
    first, last, _ = ends_of_trips(trips)
    ends, sum_of, links = (np.zeros(len(table)) for _ in range(3))
    ends[last] = 1
    for side in (second, trips.previous[second]):
        sum_of[side] += trips.probability[second]
        links[side] += 1
    found = []
    for code, name in enumerate(table.camera.names):
        rows = np.flatnonzero(table.camera.codes == code)
        of_links = links[rows].sum()
        found.append(
            Coverage(
                str(name),
                len(rows),
                float(linked[rows].mean()),
                float(np.isin(rows, first).mean()),
                float(ends[rows].mean()),
                float(sum_of[rows].sum() / of_links) if of_links else float("nan"),
                float(trips.offsets[code]),
            )
        )
    return found
