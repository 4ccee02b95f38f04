"""The compiled core against the same in numpy and scipy: equal results, whether it is there or not."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.without_core import without_core
from vreid.retrieval import core_info, jaccard_graph, rerank, rerank_top
from vreid.retrieval.evaluation.evaluate import ranks_of
from vreid.retrieval.nearest import Points, compiled_core, exact_distances, neighbours
from vreid.retrieval.nearest.core import has_matrix_units, num_threads
from vreid.retrieval.postprocessing.jaccard import CONVENTIONS

needs_core = pytest.mark.skipif(compiled_core() is None, reason="the compiled core is not built")


def features(count=500, dimensions=64, seed=0, noise=0.6):
    generator = np.random.default_rng(seed)
    points = generator.normal(size=(count // 10, 1, dimensions)) + noise * generator.normal(
        size=(count // 10, 10, dimensions)
    )
    points = points.reshape(-1, dimensions)
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def ways(monkeypatch):
    """Run something with numpy alone, the core, and the core's matrix units where there are any."""

    def run(work):
        results = []
        for compiled, few in ((False, 0), (True, 10**9), (True, 0)):
            with monkeypatch.context() as patch, nullcontext() if compiled else without_core():
                patch.setattr(neighbours, "FEW_QUERIES", few)
                results.append(work())
        return results

    return run


@needs_core
@pytest.mark.parametrize("neighbours_", CONVENTIONS)
@pytest.mark.parametrize(("k1", "k2"), [(20, 6), (7, 1), (5, 9), (1, 1)])
def test_re_ranking_is_the_same(ways, k1, k2, neighbours_):
    points = features()
    options = {"k1": k1, "k2": k2, "neighbours": neighbours_}
    plain, *others = ways(lambda: rerank(points[::9], points[1::9], **options))
    for other in others:
        assert np.abs(other - plain).max() < 1e-6
    plain, *others = ways(lambda: rerank_top(points[::9], points[1::9], 12, **options))
    for other in others:
        assert np.abs(other[0] - plain[0]).max() < 1e-6


@needs_core
@pytest.mark.parametrize("neighbours_", CONVENTIONS)
@pytest.mark.parametrize("weight", [0, 0.1])
def test_graphs_are_the_same(ways, neighbours_, weight):
    points = features(seed=1) * np.random.default_rng(0).uniform(0.8, 1.2, size=(500, 1))
    plain, *others = ways(lambda: jaccard_graph(points, max_distance=0.6, neighbours=neighbours_, cosine_weight=weight))
    assert plain.nnz > 1000
    for other in others:
        difference = abs(other - plain)  # a pair at the very edge may be on one side of it only
        assert (
            difference.data.max(initial=0) < 1e-6 or (abs(difference.data[difference.data > 1e-6] - 0.6) < 1e-6).all()
        )
        assert abs(other.nnz - plain.nnz) <= 2


@needs_core
@given(st.integers(0, 2**32 - 1), st.integers(1, 3000), st.integers(1, 40), st.integers(1, 60))
@settings(max_examples=60)
def test_ranks_count_what_a_sort_finds(seed, size, mates, different):
    generator = np.random.default_rng(seed)
    row = generator.integers(different, size=size).astype(np.float32)  # with ties
    row[generator.random(size) < 0.1] = np.inf
    chosen = np.sort(generator.choice(size, min(mates, size), replace=False))
    place = np.empty(size, dtype=np.int64)
    place[np.argsort(row, kind="stable")] = np.arange(1, size + 1)
    expected = np.sort(place[chosen[row[chosen] < np.inf]])
    assert compiled_core().ranks(row, chosen).tolist() == expected.tolist()
    with without_core():
        assert ranks_of(row, chosen).tolist() == expected.tolist()


def test_a_core_of_other_sources_is_not_used():
    with without_core():
        assert compiled_core() is None


@needs_core
def test_exact_distances_are_the_same(ways):
    one, two = (
        Points.of("test", query=features()[:90], gallery=features()[90:]),
        Points.of("test", all=features(seed=2)),
    )
    generator = np.random.default_rng(0)
    row, column = generator.integers(500, size=(2, 999))
    plain, compiled, _ = ways(lambda: exact_distances(one, row, two, column))
    expected = ((features()[row].astype(np.float64) - two.parts[0][column]) ** 2).sum(axis=1)
    assert np.allclose(plain, expected, rtol=1e-7, atol=0) and np.allclose(compiled, expected, rtol=1e-7, atol=0)
    assert exact_distances(one, row[:1], two, column[:0]).shape == (0,)


def test_says_what_is_active():
    info = core_info()
    assert info["compiled"] == (compiled_core() is not None)
    if info["compiled"]:
        assert info["instructions"] and info["matrix_units"] == has_matrix_units()
    with without_core():
        assert core_info() == {"compiled": False}


def test_works_without_the_core():
    """A fresh process where the core cannot be imported."""
    code = (
        "import sys; sys.modules['vreid.retrieval.nearest._core'] = None\n"
        "from vreid.retrieval import core_info, rerank\n"
        "print(core_info(), rerank([[1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]], k1=1, k2=1).round(3).tolist())"
    )
    environment = os.environ | {"PYTHONPATH": "src"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.stdout.split() == ["{'compiled':", "False}", "[[1.0,", "0.0]]"], result.stderr


def test_threads_are_those_asked_for(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert num_threads() == 3
    for nothing in ("", "0", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", nothing)
        assert num_threads() >= 1
