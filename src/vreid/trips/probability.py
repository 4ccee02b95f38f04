"""Link probabilities: marginals of all assignments by belief propagation, and how well they are calibrated.

An assignment gives each tracklet at most one successor and one predecessor; its probability is proportional to the
product of the odds of its links. Its marginals are computed by belief propagation on the bipartite graph, which
converges (Williams and Lau, "Approximate evaluation of marginal association probabilities with belief propagation",
IEEE TAES 2014) and is exact where competition has no cycles.

Shapes: N tracklets, E links, B bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_ROUNDS = 200
_CLOSE = 1e-4  # largest change of a message at convergence
_MOST = 60.0  # largest log-odds


@dataclass(frozen=True, eq=False)
class Marginals:
    """Probabilities under all assignments.

    Attributes:
        link: (E,) probability of each link.
        end: (N,) probability that a tracklet has no successor.
        begin: (N,) probability that it has no predecessor.
    """

    link: NDArray[np.float64]
    end: NDArray[np.float64]
    begin: NDArray[np.float64]


def marginals(
    first: NDArray[np.integer], second: NDArray[np.integer], log_odds: NDArray[np.floating], count: int
) -> Marginals:
    """Compute the marginal probability of each link.

    Args:
        first, second: (E,) rows of the earlier and the later tracklet.
        log_odds: (E,) log-odds of a link against the end of the first and the beginning of the second.
        count: N.

    Example:
        >>> one = marginals(np.array([0]), np.array([1]), np.array([np.log(3)]), 2)
        >>> one.link.round(3).tolist(), one.end.round(3).tolist()
        ([0.75], [0.25, 1.0])
    """
    odds = np.exp(np.minimum(log_odds.astype(np.float64), _MOST))
    back = np.ones(len(odds))  # message from the second tracklet to the first
    for _ in range(_ROUNDS):
        asked = odds * back
        total = 1.0 + np.bincount(first, asked, minlength=count)
        forward = odds / np.maximum(total[first] - asked, 1.0)
        taken = np.asarray(1.0 + np.bincount(second, forward, minlength=count), dtype=np.float64)
        new = 1.0 / np.maximum(taken[second] - forward, 1.0)
        change = float(np.abs(new - back).max(initial=0.0))
        back = new
        if change < _CLOSE:
            break
    asked = odds * back
    total = 1.0 + np.bincount(first, asked, minlength=count)
    link = asked / total[first]
    begin = np.clip(1.0 - np.bincount(second, link, minlength=count), 0.0, 1.0)
    return Marginals(link, np.asarray(1.0 / total, dtype=np.float64), begin)


@dataclass(frozen=True)
class ReliabilityBin:
    """Links whose probability lies in one bin.

    Attributes:
        low, high: limits of the bin.
        count: number of links.
        probability: their mean probability.
        correct: share of them that is right.
    """

    low: float
    high: float
    count: int
    probability: float
    correct: float


def reliability_table(probability: ArrayLike, correct: ArrayLike, bins: int = 10) -> list[ReliabilityBin]:
    """Compare stated probabilities with the share of correct links, in bins of equal width; empty bins are left out.

    Example:
        >>> table = reliability_table([0.9, 0.95, 0.2], [True, True, False], bins=2)
        >>> [(row.count, row.correct) for row in table]
        [(1, 0.0), (2, 1.0)]
    """
    stated, right = np.asarray(probability, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    place = np.minimum((stated * bins).astype(np.int64), bins - 1)
    rows = []
    for number in np.unique(place):
        inside = place == number
        rows.append(
            ReliabilityBin(
                number / bins,
                (number + 1) / bins,
                int(inside.sum()),
                float(stated[inside].mean()),
                float(right[inside].mean()),
            )
        )
    return rows


def expected_calibration_error(probability: ArrayLike, correct: ArrayLike, bins: int = 10) -> float:
    """Compute the mean difference of probability and share of correct links over bins, weighted by their counts.

    Source: Naeini et al., "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015.

    Example:
        >>> expected_calibration_error([0.5, 0.5], [True, False])
        0.0
    """
    table = reliability_table(probability, correct, bins)
    total = sum(row.count for row in table)
    return sum(row.count * abs(row.probability - row.correct) for row in table) / max(total, 1)
