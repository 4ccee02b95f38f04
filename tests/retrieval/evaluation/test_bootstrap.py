"""Bootstrap intervals: one sampler for all numbers, checked against loops."""

from __future__ import annotations

import numpy as np
import pytest

from vreid.adaptation.evidence import Change
from vreid.data.seeds import generator
from vreid.errors import InputError
from vreid.retrieval.evaluation.bootstrap import (
    mean_interval,
    percentile_interval,
    resample,
    resampled_counts,
    resampled_means,
)


def test_strata_are_drawn_apart() -> None:
    for drawn in resample(3, 1, 5, seed=4, resamples=20):
        assert np.bincount(np.digitize(drawn, [3, 4])).tolist() == [3, 1, 5]


def test_equal_seeds_draw_equally() -> None:
    first = resampled_counts(7, seed=1)
    assert np.array_equal(first, resampled_counts(7, seed=1)) and not np.array_equal(first, resampled_counts(7, seed=2))
    assert first.shape == (1000, 7) and (first.sum(axis=1) == 7).all()
    assert np.array_equal(first[:30], resampled_counts(7, seed=1, resamples=30))


def test_means_of_groups_equal_the_mean_of_their_values() -> None:
    """A loop over resamples that joins the values of the drawn groups."""
    rng = np.random.default_rng(0)
    groups = [rng.random(size) for size in (1, 4, 2, 3)]
    found = resampled_means([g.sum() for g in groups], [len(g) for g in groups], seed=5, resamples=50)
    slow_random = np.random.default_rng(5)
    slow = [np.concatenate([groups[i] for i in slow_random.integers(4, size=4)]).mean() for _ in range(50)]
    np.testing.assert_allclose(found, slow, rtol=1e-12)
    interval = mean_interval([g.sum() for g in groups], [len(g) for g in groups], seed=5, resamples=50, confidence=0.9)
    np.testing.assert_allclose(interval, np.quantile(slow, [0.05, 0.95]), rtol=1e-12)


def test_columns_share_their_draws() -> None:
    values = np.random.default_rng(2).random((20, 1))
    both = resampled_means(np.hstack([values, values + 1]), 1, resamples=30)
    np.testing.assert_allclose(both[:, 1] - both[:, 0], 1)


def test_intervals_stay_those_that_were_published() -> None:
    """The streams of random numbers of model comparisons and of changes between models."""
    draws = np.random.default_rng(3).integers(40, size=(2000, 40))
    total = np.arange(40.0)
    low, high = mean_interval(total, 1, seed=3, resamples=2000)
    np.testing.assert_allclose((low, high), np.quantile(total[draws].mean(axis=1), [0.025, 0.975]))
    change = Change.of(np.zeros(40), total, seed=3)
    draws = generator(3, "evidence").integers(40, size=(1000, 40))
    assert change is not None
    np.testing.assert_allclose((change.low, change.high), np.quantile(total[draws].mean(axis=1), [0.025, 0.975]))


def test_a_resample_without_values_is_left_out() -> None:
    found = resampled_means([2.0, 0.0], [1, 0], resamples=100)
    assert np.isnan(found).any()
    assert percentile_interval(found).tolist() == [2, 2]
    assert np.isnan(percentile_interval(np.full(5, np.nan))).all()


def test_numbers_out_of_range() -> None:
    with pytest.raises(InputError, match="resamples is 0"):
        mean_interval([1.0, 2.0], 1, resamples=0)
    for confidence in (0.0, 1.0, 1.5, float("nan")):
        with pytest.raises(InputError, match="above 0 and below 1"):
            mean_interval([1.0, 2.0], 1, confidence=confidence)
