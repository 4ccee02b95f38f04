"""Sparse re-ranking against the published algorithms in plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from oracles.reranking import rerank as published
from oracles.reranking_dense import rerank as textbook
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.retrieval import FeatureSet, PostProcessing, ReRanking, rerank
from vreid.retrieval.distances import SquaredEuclidean
from vreid.retrieval.postprocessing.reranking import rerank_top

CONVENTIONS = ("zhong", "openunreid", "dmt-2020")


def clustered(identities=9, each=8, dimensions=16, noise=0.5, seed=0):
    """L2-normalised features of a few vehicles: the first picture of each is a query."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(identities, 1, dimensions))
    points = centres + noise * generator.normal(size=(identities, each, dimensions))
    points /= np.linalg.norm(points, axis=2, keepdims=True)
    points = points.astype(np.float32)
    return points[:, 0], points[:, 1:].reshape(-1, dimensions)


@pytest.mark.parametrize("neighbours", CONVENTIONS)
@pytest.mark.parametrize(
    ("k1", "k2", "lambda_"),
    [(20, 6, 0.3), (7, 2, 0.6), (6, 1, 0.0), (5, 3, 0.3), (9, 12, 0.0), (5, 3, 1.0), (1, 1, 0.3), (30, 6, 0.3)],
)
def test_equals_the_published_algorithm(k1, k2, lambda_, neighbours):
    query, gallery = clustered()
    ours = rerank(query, gallery, k1=k1, k2=k2, lambda_=lambda_, neighbours=neighbours)
    assert ours.dtype == np.float32
    assert np.abs(ours - published(query, gallery, k1, k2, lambda_, neighbours)).max() < 1e-6


def test_equals_the_textbook_for_more_points():
    query, gallery = clustered(identities=120, each=10, dimensions=64, noise=1)
    for k1, k2 in ((20, 6), (50, 15)):
        ours = rerank(query, gallery, k1=k1, k2=k2)
        assert np.abs(ours - textbook(query, gallery, k1, k2)).max() < 1e-6


def test_the_conventions_differ():
    query, gallery = clustered()
    zhong, *others = (rerank(query, gallery, k1=7, k2=2, lambda_=0, neighbours=name) for name in CONVENTIONS)
    for other in others:
        assert np.abs(zhong - other).max() > 0.05


@pytest.mark.parametrize("neighbours", CONVENTIONS)
@pytest.mark.parametrize("scale", [0.01, 1, 3])
def test_features_need_not_be_normalised(scale, neighbours):
    query, gallery = clustered(seed=3)
    query, gallery = query * np.float32(scale), gallery * np.float32(scale) * np.float32(0.7)
    ours = rerank(query, gallery, k1=7, k2=2, neighbours=neighbours)
    expected = np.array(published(query, gallery, 7, 2, neighbours=neighbours))
    assert (np.abs(ours - expected) < 1e-6 * np.maximum(expected, 1)).all()


@pytest.mark.parametrize("scale", [1e-35, 1e-20, 1e15, 1e37])
def test_any_scale_gives_the_same(scale):
    query, gallery = clustered()
    ours = rerank(query.astype(np.float64) * scale, gallery.astype(np.float64) * scale, k1=7, k2=2)
    assert np.abs(ours - rerank(query, gallery, k1=7, k2=2)).max() < 1e-5


whole_points = st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=14)


@settings(max_examples=80)
@given(
    points=whole_points,
    split=st.integers(1, 13),
    k1=st.integers(1, 13),
    k2=st.integers(1, 13),
    lambda_=st.sampled_from([0.0, 0.3, 1.0]),
    neighbours=st.sampled_from(CONVENTIONS),
)
def test_ties_and_duplicates(points, split, k1, k2, lambda_, neighbours):
    # few whole numbers: duplicates and equal distances everywhere
    assume((0, 0) not in points)
    split = min(split, len(points) - 1)
    k1, k2 = min(k1, len(points) - 1), min(k2, len(points))
    query, gallery = points[:split], points[split:]
    options = {"k1": k1, "k2": k2, "lambda_": lambda_, "neighbours": neighbours}
    ours = rerank(query, gallery, **options)
    assert np.allclose(ours, published(query, gallery, **options), rtol=1e-6, atol=1e-6)
    distances, indices = rerank_top(query, gallery, 4, **options)
    assert np.allclose(distances, np.sort(ours, axis=1)[:, :4], rtol=1e-6, atol=2e-6)
    assert np.allclose(distances, np.take_along_axis(ours, indices.astype(int), axis=1), rtol=1e-6, atol=2e-6)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), neighbours=st.sampled_from(CONVENTIONS))
def test_the_order_of_the_gallery_does_not_matter(seed, neighbours):
    query, gallery = clustered(identities=5, each=6, seed=seed)
    order = np.random.default_rng(seed).permutation(len(gallery))
    options = {"k1": 6, "k2": 3, "neighbours": neighbours}
    whole = rerank(query, gallery, **options)
    assert np.abs(rerank(query, gallery[order], **options) - whole[:, order]).max() < 1e-6


def test_a_neighbourhood_worked_by_hand():
    # On a line: q at 1, g0 at 2, g1 at 11. With k1 = 1 each list is the point and its nearest: q:{q,g0}, g0:{g0,q},
    # g1:{g1,g0}. q and g0 are reciprocal, g1 only with itself; the half list has round(1/2) + 1 = 1 entry, the point
    # itself, so expansion adds nothing. Row maxima 100, 81, 100. Weights of q: exp(0), exp(-1/100); of g0: exp(-1/81).
    weight_q = np.array([1, np.exp(-1 / 100)]) / (1 + np.exp(-1 / 100))
    weight_g = np.array([np.exp(-1 / 81), 1]) / (1 + np.exp(-1 / 81))
    shared = np.minimum(weight_q, weight_g).sum()
    expected = [0.7 * (1 - shared / (2 - shared)) + 0.3 / 100, 0.7 + 0.3]
    line = [[1.0]], [[2.0], [11.0]]
    assert rerank(*line, k1=1, k2=1) == pytest.approx(np.array([expected]), abs=1e-6)
    # "openunreid" takes k1 = 1 as the point alone: nobody shares anything. Its distances are not divided. With k1 = 2
    # its lists are those above, its weights like exp(2xy): of q exp(2), exp(4); of g0 exp(4), exp(8).
    assert rerank(*line, k1=1, k2=1, neighbours="openunreid") == pytest.approx(np.array([[0.7 + 0.3, 0.7 + 30]]))
    weight_q, weight_g = 1 / (1 + np.exp([2, -2])), 1 / (1 + np.exp([4, -4]))
    shared = np.minimum(weight_q, weight_g).sum()
    expected = [0.7 * (1 - shared / (2 - shared)) + 0.3, 0.7 + 30]
    assert rerank(*line, k1=2, k2=1, neighbours="openunreid") == pytest.approx(np.array([expected]), rel=1e-6)


def test_dividing_twice_by_hand():
    # The same line. Squared distances q g0 g1: 0 1 100 | 1 0 81 | 100 81 0; column maxima 100, 81, 100; rows divided by
    # these column by column: 0 1/81 1 | .01 0 .81 | 1 1 0; row maxima 1, .81, 1. So from q 1/81 and 1, and the list of
    # g1 has q and g0 at the same distance, of which q, the first, is taken.
    weight_q = np.array([1, np.exp(-1 / 81)]) / (1 + np.exp(-1 / 81))
    weight_g = np.array([np.exp(-0.01 / 0.81), 1]) / (1 + np.exp(-0.01 / 0.81))
    shared = np.minimum(weight_q, weight_g).sum()
    expected = [[0.7 * (1 - shared / (2 - shared)) + 0.3 / 81, 0.7 + 0.3]]
    found = rerank([[1.0]], [[2.0], [11.0]], k1=1, k2=1, neighbours="dmt-2020")
    assert found == pytest.approx(np.array(expected), abs=1e-6)
    post = PostProcessing.parse("rerank=1:1:0.3:dmt-2020")
    sides = (FeatureSet(side, Records.of(path=list("ab")[: len(side)]), raw=True) for side in ([[1]], [[2], [11]]))
    assert post.apply(*sides).matrix() == pytest.approx(np.array(expected), abs=1e-6)


@pytest.mark.parametrize("neighbours", CONVENTIONS)
@pytest.mark.parametrize("offset", [0, 30, 1000, 30000])
def test_features_far_from_the_origin_keep_their_distances(neighbours, offset):
    generator = np.random.default_rng(5)
    points = np.float32(generator.normal(size=(80, 12)) + offset * generator.normal(size=12))
    query, gallery = points[:10], points[10:]
    options = {"k1": 6, "k2": 3, "neighbours": neighbours}
    whole = rerank(query, gallery, **options)
    distances, indices = rerank_top(query, gallery, 70, **options)
    at = np.take_along_axis(whole, indices.astype(int), axis=1)
    assert at == pytest.approx(distances, rel=2e-6, abs=2e-6)
    if neighbours != "openunreid":  # whose weights exp(2xy) leave float64, too
        assert whole == pytest.approx(np.array(published(query, gallery, 6, 3, neighbours=neighbours)), abs=2e-6)
    squared = ((query[:, None].astype(np.float64) - gallery) ** 2).sum(axis=2)
    plain = SquaredEuclidean(query, gallery)
    assert np.concatenate([tile for _, tile in plain.tiles()]) == pytest.approx(squared, rel=1e-5)
    (itself,) = SquaredEuclidean(points[:7], points[:7]).tiles()
    assert itself[1].diagonal() == pytest.approx(np.zeros(7), abs=1e-4)


@pytest.mark.parametrize("apart", [100, 3000])
def test_two_groups_far_apart_are_ranked_by_true_distances(apart):
    generator = np.random.default_rng(5)
    side = np.where(np.arange(300)[:, None] % 2, apart, -apart)
    points = np.float32(generator.normal(size=(300, 12)) + side)
    query, gallery = points[:40], points[40:]
    squared = ((query[:, None].astype(np.float64) - gallery) ** 2).sum(axis=2)
    found = np.concatenate([tile for _, tile in SquaredEuclidean(query, gallery).tiles()])
    assert found == pytest.approx(squared, rel=1e-4)
    assert np.argsort(found, axis=1)[:, :100].tolist() == np.argsort(squared, axis=1)[:, :100].tolist()


@pytest.mark.parametrize("neighbours", CONVENTIONS)
def test_all_points_equal_is_no_division_by_zero(neighbours):
    assert rerank(np.ones((2, 3)), np.ones((24, 3)), neighbours=neighbours).max() <= 1
    assert rerank(np.ones((2, 3)), np.ones((4, 3)), k1=5, neighbours=neighbours).tolist() == [[0.0] * 4] * 2


@pytest.mark.parametrize("neighbours", CONVENTIONS)
@pytest.mark.parametrize("top_k", [1, 5, 1000])
def test_the_top_of_the_matrix_without_the_matrix(top_k, neighbours):
    query, gallery = clustered(identities=20)
    whole = rerank(query, gallery, k1=7, k2=3, neighbours=neighbours)
    distances, indices = rerank_top(query, gallery, top_k, k1=7, k2=3, neighbours=neighbours)
    count = min(top_k, len(gallery))
    assert distances.shape == indices.shape == (len(query), count)
    assert np.abs(distances - np.sort(whole, axis=1)[:, :count]).max() < 1e-6
    assert np.abs(distances - np.take_along_axis(whole, indices.astype(int), axis=1)).max() < 1e-6
    assert all(len(set(row)) == count for row in indices.tolist())


@pytest.mark.parametrize(
    ("query", "gallery", "options", "message"),
    [
        (np.zeros((0, 2)), [[1, 2]], {}, "0 query features x 1 gallery features"),
        ([[1, 2]], np.zeros((0, 2)), {}, "1 query features x 0 gallery features"),
        ([[1, 2]], [[1, 2, 3]], {}, "query features have 2 dimensions, gallery features 3"),
        ([[1, np.nan]], [[1, 2]], {}, "query features: row 1 contains NaN"),
        ([[1, 2]], [[1, 2], [1, np.inf]], {}, "gallery features: row 2 contains NaN or infinity"),
        ([[1, 2]], [[1, 2], [0, 0]], {}, "gallery row 2 has norm zero"),
        ([[1, 2], [0, 0]], [[1, 2]], {}, "query row 2 has norm zero"),
        ([[1, 2]], [1, 2], {}, "not \\(images, dimensions\\)"),
        ([[1, 2]], [["a", "b"]], {}, "must be numbers"),
        ([[1, 2]], [[1, 2]], {"k1": 0}, "k1 is 0"),
        ([[1, 2]], [[1, 2]], {"k2": 0}, "k2 is 0"),
        ([[1, 2]], [[1, 2]], {"k1": 2, "k2": 1}, "k1 is 2 .* only 2 points"),
        ([[1, 2]], [[1, 2]], {"k1": 3, "k2": 1, "neighbours": "openunreid"}, "k1 is 3 .* only 2 points"),
        ([[1, 2]], [[1, 2]], {"k1": 1, "k2": 3}, "k2 is 3, but there are only 2 points"),
        ([[1, 2]], [[1, 2]], {"lambda_": 1.5}, "lambda_ is 1.5"),
        ([[1, 2]], [[1, 2]], {"neighbours": "faiss"}, "choose one of zhong, openunreid, dmt-2020"),
    ],
)
def test_wrong_input(query, gallery, options, message):
    with pytest.raises(InputError, match=message):
        rerank(query, gallery, **options)
    with pytest.raises(InputError, match=message):
        rerank_top(query, gallery, 1, **options)


def test_top_of_nothing():
    with pytest.raises(InputError, match="top_k is 0"):
        rerank_top([[1, 2]], [[1, 2]], 0)


def test_constants_are_checked_where_they_are_written():
    with pytest.raises(InputError, match="k1 is -1"):
        ReRanking(k1=-1)
