"""Learn the link model from unlabelled tracklets.

Start: mutual nearest neighbours of each pair of cameras. Where their times cluster, beside the uniform times of wrong
ones, they are probably right; this gives first distributions of times, of similarities and of moves. Then, in turns:
candidates by the current model, their probabilities under all assignments, and the model of these probabilities.

Shapes: N tracklets, E links, C cameras, P = C * C ordered pairs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vreid.progress import Progress
from vreid.trips.appearance import AppearanceRatio
from vreid.trips.candidate_links import Appearances, CandidateLinks, candidate_links, nearest_by_camera
from vreid.trips.directions import Turns, cameras_next
from vreid.trips.link_model import Arrivals, LinkModel
from vreid.trips.probability import Marginals, marginals
from vreid.trips.tables import TimedTracklets
from vreid.trips.transit import Routes, TimeBins, fit_routes, tail, uniform_background

_NEGATIVES = 1_000_000  # most pairs of different vehicles
_ENOUGH = 20_000
_APART_AT_FIRST, _APART = 10.0, 30.0  # seconds
_SOON = 0.005  # share of transit times below _APART of cameras that are near each other
_START_TAIL, _LEAST_TAIL = 0.05, 0.005
_START_END = 0.3  # share of tracklets that end a trip, before anything is known
_LEAST_END = 0.01
_STRETCHES = 4
_LEAST_INSIDE = 0.3  # share of tracklets, else all count as inside
_MOVE_PRIOR = 1.0  # pseudo-count of moves from a camera, spread over all cameras


@dataclass(frozen=True, eq=False)
class Sample:
    """Stretches of consecutive tracklets from which the model is learned, spread over the data.

    Attributes:
        table: the tracklets of the stretches.
        rows: (n,) their rows in the whole table.
        arrivals: of the whole table.
    """

    table: TimedTracklets
    rows: NDArray[np.int64]
    arrivals: Arrivals

    @classmethod
    def of(cls, table: TimedTracklets, most: int) -> Sample:
        """Take all tracklets, or four stretches with `most` in all."""
        rows = np.arange(len(table))
        if len(table) > most:
            length = most // _STRETCHES
            starts = np.linspace(0, len(table) - length, _STRETCHES).astype(np.int64)
            rows = np.unique(starts[:, None] + np.arange(length))
        return cls(table if len(rows) == len(table) else table[rows], rows, Arrivals.of(table))

    def inside(self, margin: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Whether tracklets (n,) lie a margin before the end, and a margin after the start, of their stretch."""
        stretch = np.cumsum(np.diff(self.rows, prepend=self.rows[0]) > 1)
        last = np.maximum.reduceat(self.table.end, np.flatnonzero(np.diff(stretch, prepend=-1)))
        first = np.minimum.reduceat(self.table.start, np.flatnonzero(np.diff(stretch, prepend=-1)))
        with_next = self.table.end < last[stretch] - margin
        with_last = self.table.start > first[stretch] + margin
        everything = np.ones(len(self.rows), dtype=bool)
        return (
            with_next if with_next.mean() > _LEAST_INSIDE else everything,
            with_last if with_last.mean() > _LEAST_INSIDE else everything,
        )


def negatives(looks: Appearances, routes: Routes | None, bins: TimeBins) -> NDArray[np.float32]:
    """Return the normalised similarities of pairs of tracklets that are different vehicles.

    Tracklets in view of two cameras within seconds, less than any vehicle needs from one to the other. If they are few,
    pairs within the longest gap are added, nearly all of which are different vehicles too.

    Args:
        looks: tracklets.
        routes: known transit times; None: not known yet.
        bins: of times.
    """
    table, rng = looks.table, np.random.default_rng(0)
    camera = table.camera.codes.astype(np.int64)
    near = np.zeros(
        (table.cameras, table.cameras), dtype=bool
    )  # pairs of cameras that a vehicle may see within seconds
    apart = _APART_AT_FIRST
    if routes is not None:
        apart = _APART
        soon = routes.density(bins)[:, : int(bins.of(np.array([apart]))[0]) + 1].sum(axis=1)
        near = (soon > _SOON).reshape(near.shape)
    parts = []
    for seconds in (apart, bins.longest):
        stop = np.searchsorted(table.start, table.start + seconds, side="right")
        own = np.arange(len(table))
        pairs = int((stop - own - 1).sum())
        ends = np.cumsum(stop - own - 1)
        flat = np.arange(pairs) if pairs <= _NEGATIVES else rng.integers(pairs, size=_NEGATIVES)
        first = np.searchsorted(ends, flat, side="right")
        second = first + 1 + flat - (ends[first] - (stop - own - 1)[first])
        kept = camera[first] != camera[second]
        if seconds == apart:
            kept &= ~(near[camera[first], camera[second]] | near[camera[second], camera[first]])
        parts.append(looks.score(first[kept], second[kept]))
        if sum(map(len, parts)) >= _ENOUGH:
            break
    return np.concatenate(parts) if sum(map(len, parts)) else np.zeros(1, dtype=np.float32)


def first_model(
    looks: Appearances, arrivals: Arrivals, different: NDArray[np.float32], longest: float, overlap: float
) -> LinkModel:
    """Build the model from mutual nearest neighbours whose times cluster."""
    table, bins = looks.table, TimeBins(longest)
    links = nearest_by_camera(looks, longest, overlap, Progress())
    pair, gap = pairs_and_gaps(table, links)
    background = uniform_background(bins)
    counts = bins.histogram(pair, gap, np.ones(len(links)), table.cameras**2)
    routes = fit_routes(counts, background, bins)
    share = routes.weight.sum(axis=1, keepdims=True)
    signal = routes.density(bins) * share
    posterior = signal / np.maximum(signal + (1 - share) * background, 1e-300)
    weight = posterior[pair, bins.of(gap)]
    if weight.sum() < 1:  # no clusters of times: the most similar are the links
        weight = (links.score > np.quantile(links.score, 0.9)).astype(np.float64) if len(links) else weight
    appearance = AppearanceRatio.fit(links.score, weight, different) if len(links) else _flat()
    start = np.full(table.cameras, _START_END)
    moves = moves_of(pair, weight, table, start)
    return LinkModel(
        appearance, bins, routes, _START_TAIL, moves, start, start, arrivals, Turns.none(table.cameras), overlap
    )


def _flat() -> AppearanceRatio:
    return AppearanceRatio(np.array([-1.0, 1.0]), np.array([-1.0, 1.0]))


def pairs_and_gaps(table: TimedTracklets, links: CandidateLinks) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the ordered pair of cameras (E,) and the seconds between end and start (E,) of links."""
    camera = table.camera.codes.astype(np.int64)
    return (
        camera[links.first] * table.cameras + camera[links.second],
        table.start[links.second] - table.end[links.first],
    )


def moves_of(
    pair: NDArray[np.int64], weight: NDArray[np.float64], table: TimedTracklets, leave: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the probability (C, C) of the next camera, from the pairs (E,) of links and their weights.

    A link is no evidence for itself: a pair keeps what its links weigh beside an average one of them, and the rest is
    spread over all cameras (absolute discounting; Ney, Essen and Kneser, 1994). Else two look-alikes that drive past
    cameras between which nobody drives would make that move probable.
    """
    cameras = table.cameras
    total, squares = (
        np.bincount(pair, value, minlength=cameras**2).reshape(cameras, cameras).astype(np.float64)
        for value in (weight, weight**2)
    )
    own = np.divide(squares, total, out=np.zeros_like(total), where=total > 0)
    smooth = total - own + (own.sum(axis=1, keepdims=True) + _MOVE_PRIOR) / cameras
    return np.asarray(smooth / smooth.sum(axis=1, keepdims=True) * (1 - leave)[:, None])


def updated(
    model: LinkModel,
    looks: Appearances,
    links: CandidateLinks,
    found: Marginals,
    different: NDArray[np.float32],
    inside: tuple[NDArray[np.bool_], NDArray[np.bool_]],
) -> LinkModel:
    """Estimate the model from the probabilities of links.

    Args:
        model: the current one.
        looks: tracklets.
        links, found: candidates and their probabilities.
        different: similarities of different vehicles.
        inside: (N,) whether a tracklet's successors and its predecessors lie inside the data.
    """
    table, bins = looks.table, model.bins
    pair, gap = pairs_and_gaps(table, links)
    camera = table.camera.codes
    with_next, with_last = inside
    weight = found.link
    counts = bins.histogram(pair, gap, weight, table.cameras**2)
    routes = fit_routes(counts, tail(bins), bins)
    evidence = routes.evidence.sum()
    busy = counts.sum(axis=1) >= 3
    tail_share = 1 - evidence / max(float(counts[busy].sum()), 1e-9) if busy.any() else _START_TAIL
    leave = shares(camera, found.end, with_next, table.cameras)
    enter = shares(camera, found.begin, with_last, table.cameras)
    kept = with_next[links.first]
    moves = moves_of(pair[kept], weight[kept], table, leave)
    before, after = (
        cameras_next(*ends, weight, table) for ends in ((links.second, links.first), (links.first, links.second))
    )
    both = with_next & with_last
    return replace(
        model,
        turns=Turns.of(before[both], after[both], camera[both]),
        appearance=AppearanceRatio.fit(links.score, weight, different) if len(links) else model.appearance,
        routes=routes,
        tail_share=float(np.clip(tail_share, _LEAST_TAIL, 0.3)),
        move=moves,
        leave=leave,
        enter=enter,
    )


def shares(
    camera: NDArray[np.integer], probability: NDArray[np.float64], inside: NDArray[np.bool_], cameras: int
) -> NDArray[np.float64]:
    """Return the mean probability of each camera (C,), drawn a little towards that of all."""
    total = np.bincount(camera[inside], probability[inside], minlength=cameras)
    count = np.bincount(camera[inside], minlength=cameras)
    pooled = total.sum() / max(count.sum(), 1) if inside.any() else _START_END
    return np.asarray(np.clip((total + 2 * pooled) / (count + 2), _LEAST_END, 1 - _LEAST_END))


def typical_longest(model: LinkModel) -> float:
    """Return the seconds within which 95 % of links are made."""
    mass = model.routes.density(model.bins)
    pooled = (mass * model.routes.evidence[:, None]).sum(axis=0)
    if pooled.sum() <= 0:
        return 0.0
    place = int(np.searchsorted(np.cumsum(pooled) / pooled.sum(), 0.95))
    return float(np.exp(model.bins.centres[min(place, model.bins.count - 1)]))


@dataclass(frozen=True, eq=False)
class Learned:
    """A model with the candidates in the sample and their probabilities by which it was estimated."""

    model: LinkModel
    links: CandidateLinks
    found: Marginals


def learn(
    sample: Sample, looks: Appearances, longest: float, overlap: float, rounds: int, most: int, least: float
) -> Learned:
    """Learn the model of the tracklets of `sample` in `rounds` turns; see the module."""
    different = negatives(looks, None, TimeBins(longest))
    return _turns(sample, looks, first_model(looks, sample.arrivals, different, longest, overlap), rounds, most, least)


def relearned(sample: Sample, looks: Appearances, before: Learned, rounds: int, most: int, least: float) -> Learned:
    """Learn the model of other looks of the same tracklets, starting from the links that are known."""
    links = replace(before.links, score=looks.score(before.links.first, before.links.second))
    return _turns(sample, looks, _estimated(sample, looks, before.model, links, before.found), rounds, most, least)


def _estimated(
    sample: Sample, looks: Appearances, model: LinkModel, links: CandidateLinks, found: Marginals
) -> LinkModel:
    different = negatives(looks, model.routes, model.bins)
    return updated(model, looks, links, found, different, sample.inside(typical_longest(model)))


def _turns(sample: Sample, looks: Appearances, model: LinkModel, rounds: int, most: int, least: float) -> Learned:
    for _ in range(rounds):
        links, odds = candidate_links(looks, model, most, least, Progress())
        found = marginals(links.first, links.second, odds, len(looks.table))
        model = _estimated(sample, looks, model, links, found)
    return Learned(model, links, found)
