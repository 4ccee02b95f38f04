"""Numbers with their bootstrap intervals: vehicles are drawn anew, each with everything measured on it.

N measured things (queries, pairs, pictures), K numbers of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vreid.errors import InputError
from vreid.retrieval.evaluation.bootstrap import mean_interval


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval.

    Attributes:
        value: as measured on everything.
        low, high: percentile bootstrap over vehicles.
        count: what it rests on.
    """

    value: float
    low: float
    high: float
    count: int = 0

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} ({100 * self.low:.1f} to {100 * self.high:.1f})"


def means(values: ArrayLike, vehicle: NDArray[Any], *, seed: int = 0) -> list[Estimate]:
    """The mean of each of K numbers, NaN left out, by the same draws of vehicles: their differences may be compared.

    Args:
        values: (N,) or (N, K).
        vehicle: (N,) what vehicle each row is of, any kind of code.
        seed: equal seeds give equal intervals.

    Raises:
        InputError: no rows, or a column of nothing but NaN.

    Example:
        >>> print(*means([[0.0, 1.0], [1.0, 1.0]], np.array([7, 8])))
        50.0 (0.0 to 100.0) 100.0 (100.0 to 100.0)
    """
    values_NK = np.asarray(values, dtype=np.float64)
    values_NK = values_NK[:, None] if values_NK.ndim == 1 else values_NK
    there_NK = ~np.isnan(values_NK)
    if not len(values_NK) or not there_NK.any(axis=0).all():
        raise InputError("means: there is nothing to average; give at least one number that is known.")
    names, code = np.unique(vehicle, return_inverse=True)
    total_VK, count_VK = np.zeros((2, len(names), values_NK.shape[1]))
    np.add.at(total_VK, code, np.where(there_NK, values_NK, 0))
    np.add.at(count_VK, code, there_NK)
    low_K, high_K = mean_interval(total_VK, count_VK, seed=seed)
    value_K, known_K = total_VK.sum(axis=0) / count_VK.sum(axis=0), there_NK.sum(axis=0)
    return [
        Estimate(float(v), float(a), float(b), int(n))
        for v, a, b, n in zip(value_K, low_K, high_K, known_K, strict=True)
    ]
