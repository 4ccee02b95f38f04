"""Search per shard with an exact merge: the same lists, graphs, clusters and re-ranked hits as of all at once."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from support.without_core import without_core
from vreid.errors import InputError
from vreid.retrieval import (
    cluster,
    jaccard_graph,
    nearest,
    nearest_in_shards,
    neighbours_in_shards,
    rerank_top,
)
from vreid.retrieval.features import unit_rows
from vreid.retrieval.nearest import Points, neighbour_lists
from vreid.retrieval.sharded_neighbours import NearestOf

Features = NDArray[np.float32]


def grid(rng: np.random.Generator, count: int, dimensions: int = 3) -> Features:
    """Features on a coarse grid: many are equal, and many distances tie."""
    return rng.integers(-2, 3, (count, dimensions)).astype(np.float32)


def vehicles(count: int, dimensions: int = 16) -> Features:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(count // 6 + 1, dimensions))
    return unit_rows(
        (centres[rng.integers(0, len(centres), count)] + 0.2 * rng.normal(size=(count, dimensions))).astype(np.float32)
    )


def cut(features: Features, places: list[int]) -> list[Features]:
    return np.split(features, sorted(places))


@settings(max_examples=60)
@given(
    st.integers(0, 10_000),
    st.integers(1, 5),
    st.lists(st.integers(1, 29), max_size=4, unique=True),
    st.integers(1, 40),
    st.booleans(),
)
def test_hits_of_shards_are_those_of_all(seed: int, queries: int, places: list[int], k: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    query, gallery = (grid(rng, n) if ties else rng.normal(size=(n, 3)).astype(np.float32) for n in (queries, 30))
    difference = query[:, None].astype(np.float64) - gallery[None].astype(np.float64)
    exact = (difference**2).sum(axis=2).astype(np.float32)
    order = np.argsort(exact, axis=1, kind="stable")[:, :k]
    distances, positions = nearest_in_shards(query, cut(gallery, places), k)
    assert np.array_equal(positions, order)
    assert np.array_equal(distances, np.take_along_axis(exact, order, axis=1))
    assert np.array_equal(positions, nearest(query, gallery, k)[1])


def test_shards_may_be_merged_in_any_order_by_any_process() -> None:
    rng = np.random.default_rng(1)
    query, gallery = grid(rng, 7), grid(rng, 40)
    parts = [NearestOf.of(query, gallery[start : start + 10], 5, first=start) for start in (0, 10, 20, 30)]
    one, other = parts[0] + parts[1] + parts[2] + parts[3], parts[3] + (parts[1] + parts[0]) + parts[2]
    for name in ("distances", "indices", "farthest"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
    with pytest.raises(InputError, match="of other queries or of another length"):
        parts[0] + NearestOf.of(query, gallery, 4)


@pytest.mark.parametrize("places", [[], [50, 51, 120], [100]])
def test_lists_graph_and_clusters_of_shards_are_those_of_all(places: list[int]) -> None:
    features = vehicles(200)
    shards = [partial(np.asarray, part) for part in cut(features, places)]
    lists = neighbours_in_shards(shards, 11)
    whole = neighbour_lists(Points.of("all", features=features), 11, farthest=True)
    assert np.array_equal(lists.index, whole.index)
    np.testing.assert_allclose(lists.squared, whole.squared, atol=1e-6)
    np.testing.assert_allclose(lists.farthest, whole.farthest, rtol=1e-6)
    for convention in ("openunreid", "zhong"):
        asked = {"k1": 10, "k2": 3, "max_distance": 0.6, "neighbours": convention}
        ours, theirs = jaccard_graph(features, **asked, lists=lists), jaccard_graph(features, **asked)
        assert np.array_equal(ours.indices, theirs.indices) and np.array_equal(ours.indptr, theirs.indptr)
        np.testing.assert_allclose(ours.data, theirs.data, atol=1e-6)
        assert np.array_equal(cluster(ours, 0.5, 3), cluster(theirs, 0.5, 3))
    ours_top = rerank_top(features[:20], features[20:], 15, k1=10, k2=3, lists=lists)
    theirs_top = rerank_top(features[:20], features[20:], 15, k1=10, k2=3)
    assert np.array_equal(ours_top[1], theirs_top[1])
    np.testing.assert_allclose(ours_top[0], theirs_top[0], atol=1e-6)


def test_without_the_core_the_lists_are_the_same() -> None:
    features = vehicles(90)
    shards = [partial(np.asarray, part) for part in cut(features, [30, 61])]
    lists = neighbours_in_shards(shards, 6)
    with without_core():
        plain = neighbours_in_shards(shards, 6)
    assert np.array_equal(lists.index, plain.index) and np.array_equal(lists.squared, plain.squared)


def test_a_memory_mapped_array_is_searched_a_slice_at_a_time(tmp_path: Path) -> None:
    features = vehicles(64)
    np.save(tmp_path / "f.npy", features)
    mapped = np.load(tmp_path / "f.npy", mmap_mode="r")
    found = nearest_in_shards(features[:3], (mapped[start : start + 20] for start in range(0, 64, 20)), 4)
    assert np.array_equal(found[1], nearest(features[:3], features, 4)[1])
    lists = neighbours_in_shards([partial(np.asarray, mapped[:30]), partial(np.asarray, mapped[30:])], 8)
    assert jaccard_graph(mapped, k1=7, k2=2, max_distance=0.5, lists=lists).nnz >= 64


def test_wrong_shards_and_lists_are_one_sentence() -> None:
    features = vehicles(30)
    with pytest.raises(InputError, match="there are no shards"):
        nearest_in_shards(features[:2], [], 3)
    with pytest.raises(InputError, match="k"):
        nearest_in_shards(features[:2], [features], 0)
    with pytest.raises(InputError, match="dimensions"):
        nearest_in_shards(features[:2], [features, features[:, :3]], 2)
    with pytest.raises(InputError, match="there are 30 features; give at least 31"):
        neighbours_in_shards([partial(np.asarray, features)], 31)
    lists = neighbours_in_shards([partial(np.asarray, features)], 5)
    with pytest.raises(InputError, match=r"of 30 points and 5 neighbours; make them of 30 points and 10"):
        jaccard_graph(features, k1=10, k2=2, max_distance=0.5, lists=lists)
    with pytest.raises(InputError, match="without column maxima"):
        jaccard_graph(features, k1=4, k2=2, max_distance=0.5, neighbours="dmt-2020", lists=lists)
