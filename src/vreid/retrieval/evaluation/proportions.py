"""Confidence intervals of proportions of queries, with several correlated queries per vehicle."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def rate_interval(
    wrong: NDArray[np.bool_], identity: NDArray[np.integer], confidence: float = 0.95
) -> tuple[float, float]:
    """Compute the confidence interval of an error rate over queries clustered by vehicle (Korn & Graubard 1998).

    The Clopper-Pearson interval for the effective sample size: n divided by the design effect, which is the variance
    between vehicles over the variance of independent queries. If all queries are right or all are wrong, the variance
    is unknown and the effective sample size is the number of vehicles.

    Args:
        wrong: (n,) whether each query is an error.
        identity: (n,) its vehicle.
        confidence: confidence level.

    Example:
        >>> low, high = rate_interval(np.arange(100) < 5, np.arange(100))
        >>> f"{low:.4f} {high:.4f}"
        '0.0164 0.1128'
    """
    from scipy.special import betaincinv

    count, rate = len(wrong), float(wrong.mean())
    _, cluster = np.unique(identity, return_inverse=True)
    clusters = int(cluster.max()) + 1
    effective = float(clusters)
    if 0 < rate < 1 and clusters > 1:
        excess = np.bincount(cluster, weights=wrong - rate)
        variance = clusters / (clusters - 1) * float(excess @ excess) / count**2
        effective = min(max(rate * (1 - rate) / variance * count / (count - 1), 1.0), float(count))
    hits, tail = rate * effective, (1 - confidence) / 2
    low = float(betaincinv(hits, effective - hits + 1, tail)) if rate > 0 else 0.0
    high = float(betaincinv(hits + 1, effective - hits, 1 - tail)) if rate < 1 else 1.0
    return min(low, rate), max(high, rate)


def whole(number: float) -> int:
    """Round a count down, tolerating floating-point error: 0.29 * 100 = 28.999... gives 29."""
    return int(np.floor(number * (1 + 1e-12)))
