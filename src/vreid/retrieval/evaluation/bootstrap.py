"""Bootstrap intervals by the percentile method (Efron and Tibshirani 1993, chapter 13).

Groups are drawn with replacement, usually vehicles with all their values, because values of one vehicle are correlated.
Shapes: V groups, R resamples.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vreid.ranges import check_number

RESAMPLES = 1000
CONFIDENCE = 0.95

Seed = int | np.random.Generator


def resample(*strata: int, seed: Seed = 0, resamples: int = RESAMPLES) -> Iterator[NDArray[np.intp]]:
    """Draw groups with replacement, `resamples` times; equal seeds give equal draws.

    Args:
        strata: number of groups of each stratum; as many are drawn from each, so that every resample has all strata.
        seed: seed of the draws.
        resamples: number of resamples.

    Yields:
        (V,) indices of the drawn groups; those of the second stratum continue after those of the first.

    Raises:
        InputError: `resamples` is below 1.

    Example:
        >>> [drawn.tolist() for drawn in resample(2, 3, resamples=2)]
        [[1, 1, 3, 2, 2], [0, 0, 2, 2, 4]]
    """
    check_number("resamples", resamples, least=1, whole=True)
    generator = np.random.default_rng(seed)
    offsets = np.cumsum([0, *strata])
    for _ in range(resamples):
        yield np.concatenate(
            [offset + generator.integers(size, size=size) for offset, size in zip(offsets, strata, strict=False)]
        )


def resampled_counts(groups: int, *, seed: Seed = 0, resamples: int = RESAMPLES) -> NDArray[np.int64]:
    """Count how often each group occurs in each resample: (R, V)."""
    drawn = resample(groups, seed=seed, resamples=resamples)
    return np.stack([np.bincount(picks, minlength=groups) for picks in drawn])


def resampled_means(
    total: ArrayLike, count: ArrayLike, *, seed: Seed = 0, resamples: int = RESAMPLES
) -> NDArray[np.float64]:
    """Compute the means (R, ...) over all values of the drawn groups; NaN for a resample without values.

    Args:
        total: (V, ...) sum of the values of each group.
        count: (V, ...) number of values of each group.
        seed, resamples: as in `resample`.
    """
    sums, counts = np.broadcast_arrays(np.asarray(total, dtype=np.float64), np.asarray(count, dtype=np.float64))
    drawn = resample(len(sums), seed=seed, resamples=resamples)
    with np.errstate(invalid="ignore"):
        return np.array([sums[picks].sum(axis=0) / counts[picks].sum(axis=0) for picks in drawn])


def percentile_interval(drawn: NDArray[np.float64], confidence: float = CONFIDENCE) -> NDArray[np.float64]:
    """Compute the lower and upper end (2, ...) of the interval of resampled values (R, ...); NaN values are ignored.

    Raises:
        InputError: `confidence` is not between 0 and 1.
    """
    check_number("confidence", confidence, above=0, below=1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)
        return np.asarray(np.nanquantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0))


def mean_interval(
    total: ArrayLike,
    count: ArrayLike,
    *,
    seed: Seed = 0,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> NDArray[np.float64]:
    """Compute the bootstrap interval (2, ...) of a mean over grouped values.

    Args:
        total, count: (V, ...) as in `resampled_means`.
        seed, resamples, confidence: as in `resample` and `percentile_interval`.

    Raises:
        InputError: a number is out of range.

    Example:
        >>> mean_interval(np.array([0.0, 2.0, 4.0]), np.array([1, 2, 4])).tolist()
        [0.0, 1.0]
    """
    return percentile_interval(resampled_means(total, count, seed=seed, resamples=resamples), confidence)
