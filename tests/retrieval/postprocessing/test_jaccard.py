"""The sparse Jaccard graph and its clusters against dense matrices in plain loops and scikit-learn on them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.cluster import DBSCAN

from oracles.reranking import jaccard, mixed
from oracles.reranking_dense import jaccard_matrix
from vreid.errors import InputError
from vreid.retrieval.clustering import cluster
from vreid.retrieval.postprocessing import jaccard as module
from vreid.retrieval.postprocessing.jaccard import CONVENTIONS, jaccard_graph


def vehicles(identities=8, each=8, dimensions=12, noise=0.7, seed=0, scale=(1, 1)):
    """Features of a few vehicles, with norms between the two of `scale`."""
    generator = np.random.default_rng(seed)
    points = generator.normal(size=(identities, 1, dimensions))
    points = (points + noise * generator.normal(size=(identities, each, dimensions))).reshape(-1, dimensions)
    points *= generator.uniform(*scale, size=(len(points), 1)) / np.linalg.norm(points, axis=1, keepdims=True)
    return points.astype(np.float32)


def expected_graph(points, k1, k2, neighbours, weight):
    dense = mixed(points, k1, k2, weight, neighbours) if weight else jaccard(points, k1, k2, neighbours)
    return np.array(dense)


def filled(graph, value):
    """Dense, with `value` where nothing is stored (0 may be)."""
    dense = np.full(graph.shape, value, dtype=np.float32)
    dense[graph.tocoo().coords] = graph.data
    return dense


@pytest.mark.parametrize("scale", [(1, 1), (0.6, 1.1)], ids=["unit", "any norm"])
@pytest.mark.parametrize("weight", [0, 0.1])
@pytest.mark.parametrize("neighbours", CONVENTIONS)
@pytest.mark.parametrize(("k1", "k2"), [(10, 3), (30, 6), (5, 1)])
def test_holds_exactly_the_pairs_of_the_dense_matrix(k1, k2, neighbours, weight, scale):
    points = vehicles(scale=scale)
    dense = expected_graph(points, k1, k2, neighbours, weight)
    graph = jaccard_graph(points, k1=k1, k2=k2, max_distance=0.7, neighbours=neighbours, cosine_weight=weight)
    assert isinstance(graph, sparse.csr_array) and graph.dtype == np.float32
    stored = filled(graph, np.inf) < np.inf
    assert np.diagonal(stored).all() and not graph.diagonal().any()
    sure = np.abs(dense - 0.7) > 1e-6
    assert np.array_equal(stored[sure], dense[sure] <= 0.7)
    assert np.abs(graph.toarray() - dense)[stored].max() < 1e-6
    assert stored.sum() > len(points)  # there is something to hold
    if not weight:
        assert (graph != graph.T).nnz == 0
    assert graph.has_sorted_indices


@pytest.mark.parametrize("weight", [0, 0.1])
@pytest.mark.parametrize("eps", [0.3, 0.55])
def test_clusters_are_those_of_the_dense_matrix(eps, weight):
    points = vehicles(identities=12, noise=0.5, seed=1)
    dense = expected_graph(points, 10, 3, "openunreid", weight)
    np.fill_diagonal(dense, 0)
    expected = DBSCAN(eps=eps, min_samples=4, metric="precomputed").fit_predict(np.clip(dense, 0, 1))
    graph = jaccard_graph(points, k1=10, k2=3, max_distance=0.7, cosine_weight=weight)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(cluster(graph, eps, 4), expected)
    assert len(set(expected)) > 3


def test_clusters_of_more_points_are_the_textbooks():
    points = vehicles(identities=100, each=12, dimensions=64, noise=1.2, seed=2)
    dense = jaccard_matrix(points)
    expected = DBSCAN(eps=0.6, min_samples=4, metric="precomputed").fit_predict(dense)
    graph = jaccard_graph(points, max_distance=0.6)
    assert np.array_equal(cluster(graph, 0.6, 4), expected) and len(set(expected)) > 50
    assert graph.nnz == (dense <= 0.6).sum() and np.abs(graph.toarray() - dense)[dense <= 0.6].max() < 2e-6


def test_clustering_leaves_the_graph_as_it_is():
    graph = sparse.csr_array(np.array([[0, 0.4, 0.1], [0.4, 0, 0], [0.1, 0, 0]], dtype=np.float32))
    before = graph.copy()
    assert cluster(graph, 0.2, 2).tolist() == [0, -1, 0]
    assert np.array_equal(graph.indices, before.indices) and np.array_equal(graph.data, before.data)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), neighbours=st.sampled_from(sorted(CONVENTIONS)))
def test_the_order_of_the_points_does_not_matter(seed, neighbours):
    points = vehicles(identities=5, seed=seed)
    order = np.random.default_rng(seed).permutation(len(points))
    options = {"k1": 6, "k2": 3, "max_distance": 0.8, "neighbours": neighbours}
    whole = filled(jaccard_graph(points, **options), 0.8)[order][:, order]
    shuffled = filled(jaccard_graph(points[order], **options), 0.8)
    assert np.abs(whole - shuffled).max() < 1e-6


def test_small_pieces_give_the_same(monkeypatch):
    points = vehicles()
    whole = jaccard_graph(points, k1=10, k2=3, max_distance=0.7)
    for name, value in (("ROWS", 7), ("CELLS", 200)):
        monkeypatch.setattr(module, name, value)
    pieces = jaccard_graph(points, k1=10, k2=3, max_distance=0.7)
    assert np.array_equal(whole.indices, pieces.indices) and np.abs(whole.data - pieces.data).max() < 1e-7


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        (np.zeros((0, 2)), {}, "0 features; give at least one of each"),
        ([[1, np.nan]], {}, "features: row 1 contains NaN"),
        ([[1, 2], [0, 0]], {}, "the feature in row 2 has norm zero"),
        ([[1, 2], [2, 1]], {"k1": 3, "k2": 1}, "k1 is 3 and k2 is 1, but there are only 2 points"),
        ([[1, 2], [2, 1]], {"k1": 2, "k2": 1, "neighbours": "zhong"}, "only 2 points"),
        ([[1, 2], [2, 1]], {"k1": 0, "k2": 1}, "k1 is 0"),
        ([[1, 2], [2, 1]], {"k1": 1, "k2": 1, "neighbours": "?"}, "choose one of zhong, openunreid"),
        ([[1, 2], [2, 1]], {"k1": 1, "k2": 1, "max_distance": 1}, "max_distance is 1; give a number from 0 to below 1"),
        ([[1, 2], [2, 1]], {"k1": 1, "k2": 1, "max_distance": 0.95, "cosine_weight": 0.1}, "from 0 to below 0.9"),
        ([[1, 2], [2, 1]], {"k1": 1, "k2": 1, "cosine_weight": 1}, "cosine_weight is 1"),
    ],
)
def test_wrong_input(features, options, message):
    with pytest.raises(InputError, match=message):
        jaccard_graph(features, **{"max_distance": 0.5, **options})


@pytest.mark.parametrize(
    ("graph", "eps", "min_samples", "message"),
    [
        (np.zeros((3, 3)), 0.5, 4, "square scipy.sparse"),
        (sparse.csr_array((2, 3)), 0.5, 4, "square scipy.sparse"),
        (sparse.csr_array((3, 3)), 0, 4, "eps is 0"),
        (sparse.csr_array((3, 3)), 0.5, 0, "min_samples is 0"),
    ],
)
def test_what_cannot_be_clustered(graph, eps, min_samples, message):
    with pytest.raises(InputError, match=message):
        cluster(graph, eps, min_samples)
