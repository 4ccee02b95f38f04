"""Shares of queries: how sure they are when queries come several to a vehicle, and how many queries a share is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def rate_interval(
    wrong: NDArray[np.bool_], identity: NDArray[np.integer], confidence: float = 0.95
) -> tuple[float, float]:
    """Confidence interval of a share of queries, which may come several to a vehicle (Korn & Graubard 1998).

    Clopper and Pearson's exact interval of as many independent queries as tell as much: n over the design effect, the
    variance between vehicles by that of independent queries. Where nothing or everything is wrong the queries show no
    variance; then only vehicles are counted.

    Args:
        wrong: (n,) whether each query went wrong.
        identity: (n,) its vehicle.
        confidence: share of such intervals that hold the true rate.

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
    """Whole part of a count; a product such as 0.29 * 100 = 28.999... is the whole number it means."""
    return int(np.floor(number * (1 + 1e-12)))
