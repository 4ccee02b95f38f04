"""LinkModel: log-odds that one tracklet is the next of a vehicle after another.

With vehicles that enter camera b at rate births_b(t), and after camera a go on to b with probability move_ab and a time
of density f_ab(gap), or leave with probability leave_a, the odds of the link i -> j against "i is the last of its
vehicle and j the first of another" are

    move_ab f_ab(gap) p(similarity | same) / (leave_a births_b(start_j) p(similarity | different))

(Huang and Russell, "Object identification in a Bayesian context", IJCAI 1997; the network-flow form of Zhang, Li and
Nevatia, CVPR 2008). All parts are estimated from the links' own probabilities, in turns (EM).

Shapes: N tracklets, E links, C cameras, P = C * C ordered pairs, B bins of time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vreid.trips.appearance import AppearanceRatio
from vreid.trips.directions import Turns
from vreid.trips.tables import TimedTracklets
from vreid.trips.transit import Routes, TimeBins, log_density

IMPOSSIBLE = -1e9
"""Log-odds of a link that goes back in time or takes longer than the longest gap."""
_RATE_WIDTH = 300.0  # seconds; arrivals of a camera are counted in such intervals and smoothed over three
_LEAST_RATE = 0.2  # arrivals in such an interval
_MOST_DRIVES = 0.95


@dataclass(frozen=True, eq=False)
class Arrivals:
    """Arrivals at each camera over the day.

    Attributes:
        first: seconds of the first interval's start.
        rate: (C, intervals) tracklets per second.
    """

    first: float
    rate: NDArray[np.float64]

    @classmethod
    def of(cls, table: TimedTracklets) -> Arrivals:
        """Count the starts of tracklets."""
        first = float(table.start[0])
        place = ((table.start - first) / _RATE_WIDTH).astype(np.int64)
        kernel = np.array([0.25, 0.5, 0.25])
        intervals = max(int(place.max()) + 1, len(kernel))
        flat = table.camera.codes.astype(np.int64) * intervals + place
        counts = np.bincount(flat, minlength=table.cameras * intervals).reshape(table.cameras, intervals)
        smooth = np.apply_along_axis(np.convolve, 1, counts, kernel, mode="same")
        smooth /= np.convolve(np.ones(intervals), kernel, mode="same")
        return cls(first, np.maximum(smooth, _LEAST_RATE) / _RATE_WIDTH)

    def at(self, camera: NDArray[np.integer], time: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return arrivals per second at cameras and times."""
        place = ((time - self.first) / _RATE_WIDTH).astype(np.int64)
        return np.asarray(self.rate[camera, place.clip(0, self.rate.shape[1] - 1)])


@dataclass(frozen=True, eq=False)
class LinkModel:
    """Everything that the log-odds of a link depend on.

    Attributes:
        appearance: log-ratio of a normalised similarity.
        bins: of times.
        routes: mixtures of times, (P, 2).
        tail_share: share of links with a stop.
        move: (C, C) probability of the next camera.
        leave: (C,) probability that a tracklet is the last of its trip.
        enter: (C,) probability that it is the first.
        arrivals: tracklets per second.
        turns: how the next camera depends on the one before.
        overlap: seconds by which the start of a link may precede the end of the tracklet before.
    """

    appearance: AppearanceRatio
    bins: TimeBins
    routes: Routes
    tail_share: float
    move: NDArray[np.float64]
    leave: NDArray[np.float64]
    enter: NDArray[np.float64]
    arrivals: Arrivals
    turns: Turns
    overlap: float

    def __post_init__(self) -> None:
        prior = np.log(self.move) - np.log(self.leave)[:, None]
        density = log_density(self.routes, self.tail_share, self.bins)
        object.__setattr__(self, "_timing_PB", density + prior.reshape(-1, 1))

    @property
    def timing(self) -> NDArray[np.float64]:
        """(P, B) logarithm of move * density / leave, in 1/s."""
        timing: NDArray[np.float64] = self.__dict__["_timing_PB"]
        return timing

    def log_births(self, table: TimedTracklets) -> NDArray[np.float64]:
        """Return the logarithm (N,) of new vehicles per second at the camera and start of each tracklet."""
        camera = table.camera.codes
        return np.asarray(np.log(self.arrivals.at(camera, table.start) * self.enter[camera]))

    def of_timing(
        self,
        table: TimedTracklets,
        births: NDArray[np.float64],
        first: NDArray[np.integer],
        second: NDArray[np.integer],
    ) -> NDArray[np.float64]:
        """Return the part (E,) of the log-odds that does not depend on appearance; IMPOSSIBLE where none can be."""
        gap = table.start[second] - table.end[first]
        camera = table.camera.codes.astype(np.int64)
        pair = camera[first] * table.cameras + camera[second]
        odds = self.timing[pair, self.bins.of(gap)] - births[second]
        return np.where(possible(table, first, second, self.overlap, self.bins.longest), odds, IMPOSSIBLE)

    def parked(
        self, table: TimedTracklets, first: NDArray[np.integer], second: NDArray[np.integer], longest_stop: float
    ) -> NDArray[np.bool_]:
        """Whether links (E,) take `longest_stop` seconds longer than 95 % of the drives between their cameras.

        From a camera to itself the drive counts as none: the usual time between two passes of one camera, with no other
        camera between, is that of parking near it.
        """
        mass = self.routes.density(self.bins)
        pooled = (mass * self.routes.evidence[:, None]).sum(axis=0)
        mass = np.where(mass.sum(axis=1, keepdims=True) > 0, mass, pooled / max(float(pooled.sum()), 1e-300))
        place = np.argmax(np.cumsum(mass, axis=1) >= _MOST_DRIVES * mass.sum(axis=1, keepdims=True), axis=1)
        drive = np.exp(self.bins.centres[place])
        drive[:: table.cameras + 1] = 0.0
        limit = drive + longest_stop
        camera = table.camera.codes.astype(np.int64)
        pair = camera[first] * table.cameras + camera[second]
        return np.asarray(table.start[second] - table.end[first] > limit[pair])


def possible(
    table: TimedTracklets, first: NDArray[np.integer], second: NDArray[np.integer], overlap: float, longest: float
) -> NDArray[np.bool_]:
    """Whether a vehicle could be in both tracklets in this order: in time, and not twice in one view."""
    gap = table.start[second] - table.end[first]
    same = table.camera.codes[first] == table.camera.codes[second]
    in_time = (gap >= np.where(same, 0.0, -overlap)) & (gap <= longest)
    return np.asarray(in_time & (table.start[second] > table.start[first]))
