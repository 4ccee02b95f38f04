"""Sparse re-ranking against the published algorithm in plain loops."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles.reranking import rerank as published
from vreid.errors import InputError
from vreid.retrieval import ReRanking, rerank


def clustered(identities=9, each=8, dimensions=16, noise=0.5, seed=0):
    """L2-normalised features of a few vehicles: the first picture of each is a query."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(identities, 1, dimensions))
    points = centres + noise * generator.normal(size=(identities, each, dimensions))
    points /= np.linalg.norm(points, axis=2, keepdims=True)
    points = points.astype(np.float32)
    return points[:, 0], points[:, 1:].reshape(-1, dimensions)


@pytest.mark.parametrize(
    ("k1", "k2", "lambda_"),
    [(20, 6, 0.3), (7, 2, 0.6), (6, 1, 0.0), (5, 3, 0.3), (9, 1, 0.0), (5, 3, 1.0), (1, 1, 0.3), (30, 6, 0.3)],
)
def test_equals_the_published_algorithm(k1, k2, lambda_):
    query, gallery = clustered()
    ours = rerank(query, gallery, k1=k1, k2=k2, lambda_=lambda_)
    assert ours.dtype == np.float32
    assert np.abs(ours - published(query, gallery, k1, k2, lambda_)).max() < 1e-6


@pytest.mark.parametrize("scale", [0.01, 1, 50])
def test_features_need_not_be_normalised(scale):
    query, gallery = clustered(seed=3)
    query, gallery = query * np.float32(scale), gallery * np.float32(scale) * np.float32(0.7)
    assert np.abs(rerank(query, gallery, k1=7, k2=2) - published(query, gallery, 7, 2)).max() < 1e-6


whole_points = st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=14)


@settings(max_examples=80, deadline=None)
@given(points=whole_points, split=st.integers(1, 13), k1=st.integers(1, 25), k2=st.integers(1, 20),
       lambda_=st.sampled_from([0.0, 0.3, 1.0]))  # fmt: skip
def test_ties_duplicates_and_lists_longer_than_the_set(points, split, k1, k2, lambda_):
    # few whole numbers: duplicates and equal distances everywhere, k1 > N and k2 > N among the examples
    split = min(split, len(points) - 1)
    query, gallery = points[:split], points[split:]
    ours = rerank(query, gallery, k1=k1, k2=k2, lambda_=lambda_)
    assert np.abs(ours - published(query, gallery, k1, k2, lambda_)).max() < 1e-6


def test_a_neighbourhood_worked_by_hand():
    # On a line: q at 0, g0 at 1, g1 at 10. With k1 = 1 each list is the point and its nearest: q:{q,g0}, g0:{g0,q},
    # g1:{g1,g0}. q and g0 are reciprocal, g1 only with itself; the half list has round(1/2) + 1 = 1 entry, the point
    # itself, so expansion adds nothing. Row maxima 100, 81, 100. Weights of q: exp(0), exp(-1/100); of g0: exp(-1/81).
    weight_q = np.array([1, np.exp(-1 / 100)]) / (1 + np.exp(-1 / 100))
    weight_g = np.array([np.exp(-1 / 81), 1]) / (1 + np.exp(-1 / 81))
    shared = np.minimum(weight_q, weight_g).sum()
    expected = [0.7 * (1 - shared / (2 - shared)) + 0.3 / 100, 0.7 + 0.3]
    assert rerank([[0.0]], [[1.0], [10.0]], k1=1, k2=1) == pytest.approx(np.array([expected]), abs=1e-6)


def test_all_points_equal_is_no_division_by_zero():
    assert rerank(np.ones((2, 3)), np.ones((4, 3))).tolist() == [[0.0] * 4] * 2


def test_many_row_chunks_give_the_same_as_one(monkeypatch):
    module = import_module("vreid.retrieval.rerank")  # the package holds the function of the same name
    query, gallery = clustered(identities=12, each=9)
    whole = rerank(query, gallery)
    for name, value in (("_ROWS", 7), ("_PAIRS", 5), ("_QUERIES", 5)):
        monkeypatch.setattr(module, name, value)
    assert np.abs(rerank(query, gallery) - whole).max() < 1e-7


@pytest.mark.parametrize(
    ("query", "gallery", "options", "message"),
    [
        (np.zeros((0, 2)), [[1, 2]], {}, "0 queries x 1 gallery features"),
        ([[1, 2]], np.zeros((0, 2)), {}, "1 queries x 0 gallery features"),
        ([[1, 2]], [[1, 2, 3]], {}, "2 dimensions, gallery features 3"),
        ([[1, np.nan]], [[1, 2]], {}, "NaN"),
        ([[1, 2]], [1, 2], {}, "must be \\(images, dimensions\\)"),
        ([[1, 2]], [[1, 2]], {"k1": 0}, "k1 is 0"),
        ([[1, 2]], [[1, 2]], {"k2": 0}, "k2 is 0"),
        ([[1, 2]], [[1, 2]], {"lambda_": 1.5}, "lambda_ is 1.5"),
    ],
)
def test_wrong_input(query, gallery, options, message):
    with pytest.raises(InputError, match=message):
        rerank(query, gallery, **options)


def test_constants_are_checked_where_they_are_written():
    with pytest.raises(InputError, match="k1 is -1"):
        ReRanking(k1=-1)
