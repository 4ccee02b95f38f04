"""Join the trips of a vehicle over long pauses: it parks, or leaves the city, and is seen again hours later.

What is compared are chains, the tracklets that links have joined. The evidence that two chains are one vehicle is
learned without labels:

* Appearance: the log-likelihood ratio of the chains' mean features under two covariances, within a vehicle (from the
  tracklets of one chain) and between vehicles, so a mean of many tracklets counts more (Brümmer and de Villiers, "The
  speaker partitioning problem", Odyssey 2010). It is calibrated on halves of chains (the same vehicle) and on chains
  that no vehicle can both have driven, because they overlap in time, or are too far apart for the time between them.
* Places: a vehicle leaves from near where it parked, and goes back to near where it came from. How much that says, and
  how long pauses last, is estimated in turns (EM) with the probabilities of the joins, against random pairs of chains.

Shapes: N tracklets, U chains, D feature dimensions, E joins, C cameras.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vreid.trips.appearance import AppearanceRatio
from vreid.trips.candidate_links import CandidateLinks
from vreid.trips.probability import marginals
from vreid.trips.tables import TimedTracklets

_SIZES = (1, 2, 3, 4, 6, 9)  # tracklets of a chain; larger chains count as the largest
_CANDIDATES = 40  # most joins that are considered from a chain
_MOST_FOLLOWERS = 10_000  # chains that are compared with one, of those that begin first after it
_SHRINK = 4.0  # values for each dimension that a covariance is drawn to one of equal variances with
_LEAST_BETWEEN = 1e-3  # variance of looks, over that within a vehicle, in directions that are kept
_LEARN_ON = 50_000  # tracklets from which covariances are estimated
_BLOCK = 1024
_ROUNDS = 4
_NEGATIVES = 500_000  # most pairs of chains that are different vehicles
_FEWEST = 50  # pairs of the same, and of different vehicles, without which nothing is joined
_TOO_FAST = 0.4  # share of the time along the network that no vehicle stays below
_RETURNS = 0.2  # share of chains that another follows, before anything is known
_LEAST_RETURNS = 1e-3
_SECONDS = (0.0, 60.0, 120.0, 240.0, 480.0)  # limits of the classes of distance, in seconds along the network
_PAUSES = (1200.0, 2400.0, 4800.0, 9600.0, 19200.0, 38400.0)  # limits of the classes of pauses in seconds
_PRIOR = 10.0  # joins that a class is drawn to random pairs with
_SAMPLE = 200_000  # random pairs


@dataclass(frozen=True, eq=False)
class Chains:
    """U chains of tracklets, in the order of their begins.

    Attributes:
        row: (N,) chain of each tracklet.
        first, last: (U,) row of the first and the last tracklet.
        begin, end: (U,) seconds.
        origin, destination: (U,) codes of the first and the last camera.
    """

    row: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    begin: NDArray[np.float64]
    end: NDArray[np.float64]
    origin: NDArray[np.int32]
    destination: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.first)

    @classmethod
    def of(cls, table: TimedTracklets, successor: NDArray[np.integer]) -> Chains:
        """Follow successors (N,), -1 for none, of tracklets in the order of time."""
        count = len(table)
        head = np.ones(count, dtype=bool)
        head[successor[successor >= 0]] = False
        row = np.cumsum(head) - 1
        for one in range(count):
            if successor[one] >= 0:
                row[successor[one]] = row[one]
        first, last = np.flatnonzero(head), np.flatnonzero(successor < 0)
        last = last[np.argsort(row[last])]
        camera = table.camera.codes
        return cls(row, first, last, table.start[first], table.end[last], camera[first], camera[last])


_Weights = tuple[float, NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


def _shrunk(covariance: NDArray[np.float64], freedom: int) -> NDArray[np.float64]:
    """Draw a covariance (D, D) of `freedom` values towards the same variance in all directions."""
    size = len(covariance)
    same = max(float(np.trace(covariance)), 0.0) / size * np.eye(size)
    return np.asarray((freedom * covariance + _SHRINK * size * same) / (freedom + _SHRINK * size))


@dataclass(frozen=True, eq=False)
class TwoCovariances:
    """Features of one vehicle vary with unit covariance about its look, looks with the diagonal `between`.

    Attributes:
        mean: (D,) of the features.
        basis: (D, K) projection under which that is so.
        between: (K,) positive.
    """

    mean: NDArray[np.float64]
    basis: NDArray[np.float64]
    between: NDArray[np.float64]

    @classmethod
    def of(cls, vector: NDArray[np.floating], group: NDArray[np.integer]) -> TwoCovariances:
        """Estimate from features (N, D) and the vehicle (N,) of each; groups of one say nothing about the first.

        Raises:
            ValueError: no vehicle has two features.
        """
        from scipy.linalg import eigh

        x = vector.astype(np.float64)
        mean = x.mean(axis=0)
        x = x - mean
        count = np.bincount(group)
        sums = np.zeros((len(count), x.shape[1]))
        np.add.at(sums, group, x)
        vehicles = int((count > 0).sum())
        freedom = len(x) - vehicles
        if freedom < 1:
            raise ValueError("no vehicle has two features")
        within = (x.T @ x - (sums / np.maximum(count, 1)[:, None]).T @ sums) / freedom
        within, rest = _shrunk(within, freedom), x.T @ x / len(x) - within
        value, basis = eigh(_shrunk(rest, vehicles), within)
        kept = value > _LEAST_BETWEEN
        return cls(mean, basis[:, kept], value[kept])

    def project(self, vector: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return features (N, K) under which the covariances are diagonal."""
        return np.asarray((vector - self.mean) @ self.basis, dtype=np.float32)

    def ratios(
        self, one: NDArray[np.floating], size: int, other: NDArray[np.floating], other_size: int
    ) -> NDArray[np.floating]:
        """Return the log-likelihood ratios (A, B) of one vehicle against two, of means (A, K) and (B, K) of `size` and
        `other_size` features.
        """
        constant, of_one, of_other, both = self._weights(size, other_size)
        squares = (one * one) @ of_one, (other * other) @ of_other
        return np.asarray(constant + (one * both) @ other.T - squares[0][:, None] - squares[1])

    def ratio_of_pairs(
        self, one: NDArray[np.floating], size: int, other: NDArray[np.floating], other_size: int
    ) -> NDArray[np.floating]:
        """Return the log-likelihood ratio (E,) of each mean (E, K) of `one` with that of `other`."""
        constant, of_one, of_other, both = self._weights(size, other_size)
        squares = (one * one) @ of_one + (other * other) @ of_other
        return np.asarray(constant + np.einsum("ek,ek->e", one * both, other) - squares)

    def _weights(self, size: int, other_size: int) -> _Weights:
        """Return the constant, and the weights (K,) of the squares of both means and of their products."""
        b = self.between
        own, others = b + 1 / size, b + 1 / other_size
        rest = own * others - b * b
        constant = float(-0.5 * np.log(rest / (own * others)).sum())
        of_one, of_other, both = b * b / (2 * own * rest), b * b / (2 * others * rest), b / rest
        return constant, of_one.astype(np.float32), of_other.astype(np.float32), both.astype(np.float32)


@dataclass(frozen=True, eq=False)
class _ChainMeans:
    """Mean projected features (U, K) of chains, and their sizes."""

    model: TwoCovariances
    mean: NDArray[np.float32]
    size: NDArray[np.int64]

    @classmethod
    def of(
        cls, model: TwoCovariances, vector: NDArray[np.float32], chain: NDArray[np.int64], chains: int
    ) -> _ChainMeans:
        """Take the mean of the features (N, D) of each chain (N,)."""
        total = np.zeros((chains, vector.shape[1]), dtype=np.float32)
        for start in range(0, len(chain), _BLOCK):
            part = slice(start, start + _BLOCK)
            np.add.at(total, chain[part], vector[part])
        size = np.bincount(chain, minlength=chains)
        return cls(model, model.project(total / np.maximum(size, 1)[:, None]), size)

    def ratios(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the log-likelihood ratios (A, B) of chains."""
        out = np.zeros((len(rows), len(columns)), dtype=np.float32)
        by_size = [self._by_size(chosen) for chosen in (rows, columns)]
        for size, i in by_size[0]:
            for other, j in by_size[1]:
                out[np.ix_(i, j)] = self.model.ratios(self.mean[rows[i]], size, self.mean[columns[j]], other)
        return out

    def of_pairs(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the log-likelihood ratios (E,) of pairs of chains."""
        out = np.zeros(len(first), dtype=np.float32)
        sizes, other_sizes = self._counted(first), self._counted(second)
        for size in np.unique(sizes):
            for other in np.unique(other_sizes):
                rows = np.flatnonzero((sizes == size) & (other_sizes == other))
                for start in range(0, len(rows), 16 * _BLOCK):
                    part = rows[start : start + 16 * _BLOCK]
                    one, two = self.mean[first[part]], self.mean[second[part]]
                    out[part] = self.model.ratio_of_pairs(one, int(size), two, int(other))
        return out

    def _counted(self, chains: NDArray[np.int64]) -> NDArray[np.int64]:
        place = np.searchsorted(_SIZES, np.maximum(self.size[chains], 1), side="right") - 1
        return np.array(_SIZES)[place]

    def _by_size(self, chains: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
        counted = self._counted(chains)
        return [(int(size), np.flatnonzero(counted == size)) for size in np.unique(counted)]


def join_candidates(
    table: TimedTracklets, chains: Chains, way: NDArray[np.float64], least: float, longest: float
) -> tuple[CandidateLinks, NDArray[np.float64]]:
    """Find chains that may go on in another one after a pause; return the joins (rows of chains) and their log-odds.

    Args:
        table: tracklets in the order of time.
        chains: of them.
        way: (C, C) seconds along the network (`network_times`), inf where there is no way or none is known.
        least, longest: seconds of a pause.
    """
    nothing = CandidateLinks.join([]), np.empty(0)
    if (np.bincount(chains.row) > 1).sum() < _FEWEST or longest <= least:
        return nothing
    same, different = _halves(table, chains, *_different(chains, way))
    if len(same) < _FEWEST or len(different) < _FEWEST:
        return nothing
    looks = _ChainMeans.of(_covariances(table, chains, 0, 1), table.vector, chains.row, len(chains))
    low, high = _followers(chains, least, longest)
    links = _nearest(looks, low, high)
    if not len(links):
        return nothing
    classes = _PairClasses.of(chains, way, low, high)
    first, second = links.first.astype(np.int64), links.second.astype(np.int64)
    pairs = float((high - low).sum())
    everything = np.append(different, links.score)
    alike = different >= 0  # of the others, `links` hold none
    seen = np.where(alike, 1.0, (len(different) + pairs) / len(different))
    ratio = AppearanceRatio.fit(same, np.ones(len(same)), different)
    evidence, odds = np.zeros(len(links)), np.empty(0)
    returns = _RETURNS
    for _ in range(_ROUNDS):
        prior = np.log(returns) - 2 * np.log1p(-returns) - np.log(max(pairs / len(chains), 1.0))
        odds = ratio.of(links.score) + evidence + prior
        probability = marginals(first, second, odds, len(chains)).link
        returns = float(np.clip(probability.sum() / len(chains), _LEAST_RETURNS, 0.5))
        evidence = classes.evidence(first, second, probability)
        ratio = AppearanceRatio.fit(same, np.ones(len(same)), everything, np.append(seen, 1 - probability))
    return links, odds


def _covariances(table: TimedTracklets, chains: Chains, first: int, step: int) -> TwoCovariances:
    """Estimate the covariances from every `step`-th chain, and fewer where they are many."""
    step *= max(1, len(table) // (step * _LEARN_ON))
    rows = np.flatnonzero(chains.row % step == first)
    return TwoCovariances.of(np.asarray(table.vector[rows]), chains.row[rows])


def _halves(
    table: TimedTracklets, chains: Chains, first: NDArray[np.int64], second: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the log-likelihood ratios of the two halves of a chain, and those of halves of different vehicles.

    A half is every second tracklet. The covariances are those of the other half of all chains: a chain looks more like
    itself under covariances that were estimated of it.

    Args:
        table, chains: see `join_candidates`.
        first, second: (E,) chains of different vehicles.
    """
    row = chains.row
    order = np.argsort(row, kind="stable")
    half = np.empty(len(row), dtype=np.int64)
    half[order] = 2 * row[order] + (np.arange(len(row)) - np.searchsorted(row[order], row[order])) % 2
    several = np.flatnonzero(np.bincount(row) > 1)
    same, different = [], []
    for part in (0, 1):
        looks = _ChainMeans.of(_covariances(table, chains, 1 - part, 2), table.vector, half, 2 * len(chains))
        chosen, apart = several[several % 2 == part], first % 2 == part
        same.append(looks.of_pairs(2 * chosen, 2 * chosen + 1))
        for one, other in ((0, 0), (0, 1), (1, 0), (1, 1)):
            rows = 2 * first[apart] + one, 2 * second[apart] + other
            full = (looks.size[rows[0]] > 0) & (looks.size[rows[1]] > 0)
            different.append(looks.of_pairs(rows[0][full], rows[1][full]))
    return np.concatenate(same), np.concatenate(different)


def _some(count: int, most: int) -> NDArray[np.int64]:
    """Return the numbers below `count`, or `most` drawn ones."""
    return np.arange(count) if count <= most else np.random.default_rng(0).integers(count, size=most)


def _different(chains: Chains, way: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs of chains that no vehicle can both have driven, at most `_NEGATIVES`."""
    longest = float(way[np.isfinite(way)].max(initial=0.0)) * _TOO_FAST
    stop = np.searchsorted(chains.begin, chains.end + longest, side="right")
    own = np.arange(len(chains))
    ends = np.cumsum(stop - own - 1)
    flat = _some(int(ends[-1]), _NEGATIVES)
    first = np.searchsorted(ends, flat, side="right")
    second = stop[first] - (ends[first] - flat)
    gap = chains.begin[second] - chains.end[first]
    far = way[chains.destination[first], chains.origin[second]]
    apart = (gap <= 0) | (np.isfinite(far) & (gap < _TOO_FAST * far))
    return first[apart], second[apart]


def _followers(chains: Chains, least: float, longest: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first chain (U,) that begins after a pause, and the one (U,) after the last that is considered."""
    low = np.searchsorted(chains.begin, chains.end + least)
    high = np.searchsorted(chains.begin, chains.end + longest, side="right")
    return low, np.minimum(np.maximum(high, low), low + _MOST_FOLLOWERS)


def _nearest(looks: _ChainMeans, low: NDArray[np.int64], high: NDArray[np.int64]) -> CandidateLinks:
    """Return for each chain the later ones that look most alike, of those that look more alike than different."""
    parts = []
    everything = np.arange(len(low))
    for start in range(0, len(low), _BLOCK):
        rows = everything[start : start + _BLOCK]
        columns = everything[low[rows].min() : high[rows].max()]
        if not len(columns):
            continue
        score = looks.ratios(rows, columns)
        score[(columns < low[rows, None]) | (columns >= high[rows, None])] = -np.inf
        if len(columns) > _CANDIDATES:
            bound = np.partition(score, len(columns) - _CANDIDATES, axis=1)[:, -_CANDIDATES]
            score[score < bound[:, None]] = -np.inf
        i, j = np.nonzero(score >= 0)
        parts.append(CandidateLinks(rows[i].astype(np.int32), columns[j].astype(np.int32), score[i, j]))
    return CandidateLinks.join(parts)


@dataclass(frozen=True, eq=False)
class _PairClasses:
    """Classes of pairs of chains by place and pause, and their shares among random pairs.

    Attributes:
        chains: U chains.
        near: (C, C) class of the way from camera to camera.
        random: for each kind of class, its shares among random pairs.
    """

    chains: Chains
    near: NDArray[np.int64]
    random: tuple[NDArray[np.float64], ...]

    @classmethod
    def of(
        cls, chains: Chains, way: NDArray[np.float64], low: NDArray[np.int64], high: NDArray[np.int64]
    ) -> _PairClasses:
        near = np.searchsorted(_SECONDS, np.minimum(way, way.T)).astype(np.int64)
        np.fill_diagonal(near, 0)
        ends = np.cumsum(high - low)
        flat = _some(int(ends[-1]), _SAMPLE)
        first = np.searchsorted(ends, flat, side="right")
        second = (high[first] - (ends[first] - flat)).astype(np.int64)
        made = cls(chains, near, ())
        numbers = [
            np.bincount(kind, minlength=count) + 1.0
            for kind, count in zip(made.kinds(first, second), made.counts, strict=True)
        ]
        return cls(chains, near, tuple(number / number.sum() for number in numbers))

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of classes of each kind."""
        places = len(_SECONDS) + 1
        return places, places, len(_PAUSES) + 1

    def kinds(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Yield the classes (E,) of pairs: from where to where it parked, back to where it came from, how long."""
        chains = self.chains
        yield self.near[chains.destination[first], chains.origin[second]]
        yield self.near[chains.destination[second], chains.origin[first]]
        yield np.searchsorted(_PAUSES, chains.begin[second] - chains.end[first])

    def evidence(
        self, first: NDArray[np.int64], second: NDArray[np.int64], probability: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return how much more probable the classes of pairs (E,) are among joins than among random pairs, as a sum of
        logarithms.
        """
        total = np.zeros(len(first))
        for kind, random in zip(self.kinds(first, second), self.random, strict=True):
            share = np.bincount(kind, probability, minlength=len(random)) + _PRIOR * random
            total += np.log(share / share.sum() / random)[kind]
        return total
