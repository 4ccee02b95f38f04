"""How much more probable a similarity is for one vehicle than for two: log p(similarity | same) / p(... | different).

Similarities are normalised first by how many look-alikes a tracklet has: a white van is similar to many, and a
similarity that identifies a rare vehicle says little about it (adaptive score normalisation, Matejka et al.,
Interspeech 2017).

Shapes: N tracklets, D feature dimensions, H tracklets of the cohort, B bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_COHORT = 1500  # tracklets
_NEAREST = 0.02  # share of the cohort of other cameras that counts as look-alikes
_BINS = 256
_BLOCK = 512  # tracklets at a time, whose similarities to the cohort stay in the cache
_LEAST_COUNT = 0.5  # pseudo-count of negatives in a bin: no more evidence is claimed than they can give
_FLOOR = -10.0


@dataclass(frozen=True, eq=False)
class Cohort:
    """Tracklets that others are compared with, to find how many look-alikes they have.

    Attributes:
        vector: (H, D) features of unit length.
        camera: (H,) codes.
    """

    vector: NDArray[np.float32]
    camera: NDArray[np.int32]

    @classmethod
    def of(cls, vector: NDArray[np.float32], camera: NDArray[np.int32]) -> Cohort:
        """Take tracklets that are spread evenly over all, which are in the order of time."""
        chosen = np.unique(np.linspace(0, len(vector) - 1, min(_COHORT, len(vector))).astype(np.int64))
        return cls(vector[chosen], camera[chosen])


def look_alikes(vector: NDArray[np.float32], camera: NDArray[np.int32], cohort: Cohort) -> NDArray[np.float32]:
    """Compute the mean similarity (N,) of tracklets to their nearest in a cohort, at other cameras.

    Args:
        vector: (N, D) features of unit length.
        camera: (N,) codes.
        cohort: what they are compared with.
    """
    size = len(cohort.camera)
    count = max(5, round(_NEAREST * size))
    out = np.zeros(len(vector), dtype=np.float32)
    if size <= count:
        return out
    for start in range(0, len(vector), _BLOCK):
        rows = slice(start, start + _BLOCK)
        similarity = vector[rows] @ cohort.vector.T
        similarity[camera[rows, None] == cohort.camera] = -1
        nearest = np.partition(similarity, size - count, axis=1)[:, -count:]
        out[rows] = nearest.mean(axis=1)
    return out


@dataclass(frozen=True, eq=False)
class AppearanceRatio:
    """A non-decreasing, piecewise linear function of the normalised similarity.

    Attributes:
        score_B: similarities, ascending.
        log_ratio_B: natural logarithm of the ratio there.
    """

    score_B: NDArray[np.float64]
    log_ratio_B: NDArray[np.float64]

    def of(self, score: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the log-ratio of similarities of any shape."""
        return np.asarray(np.interp(score, self.score_B, self.log_ratio_B))

    def least_score(self, log_ratio: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the smallest similarities whose log-ratios reach those given, of any shape; +inf where none does."""
        place = np.searchsorted(self.log_ratio_B, log_ratio, side="left")
        last = len(self.log_ratio_B) - 1
        after = place.clip(1, last)  # the first that reaches it
        low, high = self.log_ratio_B[after - 1], self.log_ratio_B[after]
        share = np.divide(log_ratio - low, high - low, out=np.zeros(place.shape), where=high > low)
        between = self.score_B[after - 1] + share * (self.score_B[after] - self.score_B[after - 1])
        return np.asarray(np.where(place == 0, -np.inf, np.where(place > last, np.inf, between)))

    @classmethod
    def fit(
        cls,
        same: NDArray[np.floating],
        weight: NDArray[np.floating],
        different: NDArray[np.floating],
        different_weight: NDArray[np.floating] | None = None,
    ) -> AppearanceRatio:
        """Fit the monotone ratio of two densities by isotonic regression of histograms.

        Args:
            same: similarities of links.
            weight: probability of each link.
            different: similarities of pairs of different vehicles.
            different_weight: number of pairs that each of these stands for; None: one.

        Example:
            >>> negatives, ones = np.linspace(-1, 0.5, 1000), np.ones(100)
            >>> ratio = AppearanceRatio.fit(np.linspace(0.3, 1, 100), ones, negatives)
            >>> bool(ratio.of(np.array([0.9]))[0] > 3), bool(ratio.of(np.array([-0.5]))[0] < -3)
            (True, True)
        """
        edges = np.linspace(min(same.min(), different.min()), max(same.max(), different.max()) + 1e-6, _BINS + 1)
        positive = np.histogram(same, edges, weights=weight)[0] / max(float(weight.sum()), 1e-9)
        total = len(different) if different_weight is None else float(different_weight.sum())
        negative = np.histogram(different, edges, weights=different_weight)[0] / total
        blocks: list[list[float]] = []  # share of positives, share of negatives, first bin, last bin
        least = _LEAST_COUNT / total
        for number, (p, n) in enumerate(zip(positive, negative, strict=True)):
            blocks.append([p, n, number, number])
            while len(blocks) > 1 and blocks[-2][0] * (blocks[-1][1] + least) >= blocks[-1][0] * (
                blocks[-2][1] + least
            ):
                last = blocks.pop()
                blocks[-1] = [blocks[-1][0] + last[0], blocks[-1][1] + last[1], blocks[-1][2], last[3]]
        middle = [(edges[int(first)] + edges[int(last) + 1]) / 2 for _, _, first, last in blocks]
        ratio = [np.log(max(p, 1e-12) / (n + least)) for p, n, _, _ in blocks]
        return cls(np.array(middle), np.maximum(np.array(ratio), _FLOOR))
