"""Distributions of transit times per ordered pair of cameras, learned from weighted links.

The time from the end of a tracklet at camera a to the start of the next at camera b follows a mixture of one or two
log-normals (two routes; chosen by BIC) and a tail that all pairs share (stops, parking, what is wrong). A pair with
little evidence is drawn to the time of the fastest way past other cameras.

Shapes: C cameras, P = C * C ordered pairs (first * C + second), B bins of time, E links.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LEAST = 0.5  # seconds; shorter times count as this
_BINS = 240
_SPREAD = 0.25  # prior of the standard deviation of the logarithm of a time, with the weight of _PRIOR links
_LEAST_SPREAD = 0.03
_PRIOR = 2.0
_SHARED = 4.0  # weight of the shared distribution, in links
_TAIL_SCALE = 60.0  # seconds
_ROUNDS = 40
_ROUTE = 3.0  # fewest links of a route
_KNOWN = 8.0  # links of a pair from which its time counts as known for ways past other cameras
_LEAST_ROUTE_SHARE = 0.2  # share of a route among the links of its pair, likewise
_WAY_SPREAD = 0.3  # standard deviation of the logarithm of a time along the network
_OFF_WAY = 0.25  # share of times that differ from it


@dataclass(frozen=True)
class TimeBins:
    """Bins of equal width in the logarithm of the time, from half a second to `longest`."""

    longest: float

    @property
    def count(self) -> int:
        """B."""
        return _BINS

    @property
    def step(self) -> float:
        """Width of a bin in the logarithm."""
        return float(np.log(self.longest / _LEAST)) / _BINS

    @property
    def centres(self) -> NDArray[np.float64]:
        """(B,) logarithm of the seconds in the middle of the bins."""
        return np.asarray(np.log(_LEAST) + (np.arange(_BINS) + 0.5) * self.step)

    @property
    def widths(self) -> NDArray[np.float64]:
        """(B,) seconds."""
        edges = np.log(_LEAST) + np.arange(_BINS + 1) * self.step
        widths: NDArray[np.float64] = np.diff(np.exp(edges))
        widths[0] += _LEAST
        return widths

    def of(self, gap: NDArray[np.floating]) -> NDArray[np.int64]:
        """Return the bin of times in seconds."""
        place = np.log(np.maximum(gap, _LEAST) / _LEAST) / self.step
        return np.asarray(np.minimum(place.astype(np.int64), _BINS - 1))

    def histogram(
        self, pair: NDArray[np.integer], gap: NDArray[np.floating], weight: NDArray[np.floating], pairs: int
    ) -> NDArray[np.float64]:
        """Sum weights (P, B) by pair and bin."""
        flat = pair.astype(np.int64) * _BINS + self.of(gap)
        sums = np.bincount(flat, weight.astype(np.float64), minlength=pairs * _BINS)
        return np.asarray(sums.reshape(pairs, _BINS), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Routes:
    """Mixture of two log-normals per pair, and the share of the background.

    Attributes:
        weight, mean, spread: (P, 2) share of a route, mean and standard deviation of the logarithm of seconds; the
            second share is 0 where one route suffices, both are 0 where nothing differs from the background.
        evidence: (P,) weight of the links that are not background.
        log_likelihood: (P,) of the mixture.
    """

    weight: NDArray[np.float64]
    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    evidence: NDArray[np.float64]

    def density(self, bins: TimeBins) -> NDArray[np.float64]:
        """Return the probability (P, B) of each bin, of the routes without background; rows without routes are 0."""
        parts = _log_normal(bins.centres, self.mean, self.spread) * self.weight[..., None]
        mass = parts.sum(axis=1)
        total = mass.sum(axis=1, keepdims=True)
        return np.asarray(np.divide(mass, total, out=np.zeros_like(mass), where=total > 0))


def _log_normal(
    centres: NDArray[np.float64], mean: NDArray[np.float64], spread: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mass (P, K, B) of bins of unit total."""
    z = (centres - mean[..., None]) / spread[..., None]
    mass = np.exp(-0.5 * z * z)
    return np.asarray(mass / np.maximum(mass.sum(axis=-1, keepdims=True), 1e-300))


def fit_routes(counts: NDArray[np.float64], background: NDArray[np.float64], bins: TimeBins) -> Routes:
    """Fit zero, one or two routes beside a background to weighted histograms by EM; BIC chooses.

    Args:
        counts: (P, B) weights of links.
        background: (B,) probability of a bin for what belongs to no route.
    """
    pairs = len(counts)
    total = counts.sum(axis=1)
    busy = np.flatnonzero(total >= _ROUTE)
    shape = (pairs, 2)
    routes = Routes(np.zeros(shape), np.zeros(shape), np.full(shape, _SPREAD), np.zeros(pairs))
    if not len(busy):
        return routes
    histogram = counts[busy]
    null = histogram @ np.log(background)
    best = -2 * null
    logs = np.log(np.maximum(total[busy], 2.0))
    for number, starts in ((1, (None,)), (2, ((0.2, 0.8), (0.5, 0.95), (0.05, 0.5)))):
        for start in starts:
            weight, mean, spread, likelihood = _em(histogram, background, bins, number, start)
            cost = -2 * likelihood + (3 * number) * logs
            least = (weight * total[busy, None]).min(axis=1)
            better = (cost < best) & (least >= (_ROUTE if number == 2 else 1.0))
            best = np.where(better, cost, best)
            rows = busy[better]
            for target, source in ((routes.weight, weight), (routes.mean, mean), (routes.spread, spread)):
                target[rows, :number] = source[better]
    routes.evidence[:] = routes.weight.sum(axis=1) * total
    return routes


def _em(
    histogram: NDArray[np.float64],
    background: NDArray[np.float64],
    bins: TimeBins,
    number: int,
    start: tuple[float, float] | None,
) -> tuple[NDArray[np.float64], ...]:
    """Return weight, mean, spread (P, number) and log-likelihood (P,) of `number` routes and the background."""
    x = bins.centres
    above = np.maximum(histogram - background * histogram.sum(axis=1, keepdims=True), 0)
    running = np.cumsum(above, axis=1) / np.maximum(above.sum(axis=1, keepdims=True), 1e-12)
    if start is None:
        smooth = np.apply_along_axis(np.convolve, 1, above, np.ones(9), mode="same")
        mean = x[np.argmax(smooth, axis=1)][:, None]
    else:
        mean = np.stack([x[np.argmax(running >= share, axis=1)] for share in start], axis=1)
    spread = np.full(mean.shape, _SPREAD)
    weight = np.full(mean.shape, 0.7 / number)
    total = np.maximum(histogram.sum(axis=1), 1e-12)
    for _ in range(_ROUNDS):
        parts = _log_normal(x, mean, spread) * weight[..., None]
        outside = (1 - weight.sum(axis=1))[:, None] * background
        share = parts / (parts.sum(axis=1) + outside + 1e-300)[:, None]
        mass = share * histogram[:, None]
        number_of = mass.sum(axis=-1)
        weight = np.clip(number_of / total[:, None], 1e-6, None)
        weight /= np.maximum(weight.sum(axis=1, keepdims=True) / 0.999, 1.0)
        mean = (mass @ x + 1e-9 * mean) / (number_of + 1e-9)
        squares = (mass * (x - mean[..., None]) ** 2).sum(axis=-1)
        spread = np.sqrt((squares + _PRIOR * _SPREAD**2) / (number_of + _PRIOR))
        spread = np.maximum(spread, _LEAST_SPREAD)
    parts = _log_normal(x, mean, spread) * weight[..., None]
    outside = (1 - weight.sum(axis=1))[:, None] * background
    likelihood = (histogram * np.log(parts.sum(axis=1) + outside + 1e-300)).sum(axis=1)
    return weight, mean, spread, likelihood


def uniform_background(bins: TimeBins) -> NDArray[np.float64]:
    """Return the probability (B,) of each bin for times that are uniform up to the longest."""
    widths = bins.widths
    return np.asarray(widths / widths.sum())


def tail(bins: TimeBins) -> NDArray[np.float64]:
    """Return the probability (B,) of each bin for stops and parking: a density that falls as 1 / (gap + 1 minute)."""
    mass = bins.widths / (np.exp(bins.centres) + _TAIL_SCALE)
    return np.asarray(mass / mass.sum())


def network_times(routes: Routes) -> NDArray[np.float64]:
    """Return the seconds (P,) of the fastest way from camera to camera along pairs with known routes; inf: no way.

    A link that skips cameras takes about as long as the way past them, so this is what is known of the times of a pair
    that has few links of its own. Ways back are taken to be as long. From a camera to itself nothing is known.
    """
    from scipy.sparse.csgraph import shortest_path

    cameras = math.isqrt(len(routes.evidence))
    counts = routes.weight > _LEAST_ROUTE_SHARE * routes.weight.sum(axis=1, keepdims=True)
    seconds = np.where(counts & (routes.weight > 0), np.exp(routes.mean), np.inf).min(axis=1)
    seconds, evidence = seconds.reshape(cameras, cameras), routes.evidence.reshape(cameras, cameras)
    known = evidence + evidence.T >= _KNOWN
    seconds = np.where(known, np.maximum(np.minimum(seconds, seconds.T), _LEAST), 0.0)  # 0: no edge
    times = np.asarray(shortest_path(seconds), dtype=np.float64)
    np.fill_diagonal(times, np.inf)
    return times.ravel()


def log_density(routes: Routes, tail_share: float, bins: TimeBins) -> NDArray[np.float64]:
    """Return the logarithm of the density (P, B) in 1/s, with the tail and what is known of pairs with few links.

    A pair with few links is drawn to the time along the network, or, where there is no way, to the times of all pairs.
    A link counts as no evidence for itself, so one link less is believed.
    """
    own = routes.density(bins)
    spread = np.ones(9) / 9
    pooled = np.convolve((own * routes.evidence[:, None]).sum(axis=0), spread, mode="same") + tail(bins)
    pooled /= pooled.sum()
    times = network_times(routes)
    shared = np.tile(pooled, (len(own), 1))
    way = np.isfinite(times)
    near = _log_normal(bins.centres, np.log(times[way])[:, None], np.full((int(way.sum()), 1), _WAY_SPREAD))[:, 0]
    shared[way] = (1 - _OFF_WAY) * near + _OFF_WAY * pooled
    evidence = np.maximum(routes.evidence - 1, 0)[:, None]
    mass = (evidence * own + _SHARED * shared) / (evidence + _SHARED)
    mass = (1 - tail_share) * mass + tail_share * tail(bins)
    return np.asarray(np.log(mass / bins.widths))
