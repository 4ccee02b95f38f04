"""Estimates with bootstrap intervals over vehicles.

Shapes: N measurements (queries, pairs, images), K quantities.
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
        value: on all measurements.
        low, high: percentile bootstrap over vehicles.
        count: number of measurements.
    """

    value: float
    low: float
    high: float
    count: int = 0

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} ({100 * self.low:.1f} to {100 * self.high:.1f})"


def means(values: ArrayLike, vehicle: NDArray[Any], *, seed: int = 0) -> list[Estimate]:
    """Estimate the mean of each of K quantities, ignoring NaN, with the same draws of vehicles for all.

    Args:
        values: (N,) or (N, K).
        vehicle: (N,) code of the vehicle of each row.
        seed: random seed.

    Raises:
        InputError: no rows, or a column of NaN only.

    Example:
        >>> print(*means([[0.0, 1.0], [1.0, 1.0]], np.array([7, 8])))
        50.0 (0.0 to 100.0) 100.0 (100.0 to 100.0)
    """
    values_NK = np.asarray(values, dtype=np.float64)
    values_NK = values_NK[:, None] if values_NK.ndim == 1 else values_NK
    there_NK = ~np.isnan(values_NK)
    if not len(values_NK) or not there_NK.any(axis=0).all():
        raise InputError("means: no values to average; give at least one known value per column.")
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
