"""Nearest neighbours: every way of making candidates against float64 distances."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.without_core import without_core
from vreid.errors import InputError
from vreid.retrieval import nearest, rerank, rerank_top
from vreid.retrieval.nearest import Points, compiled_core, neighbour_lists, neighbours
from vreid.retrieval.nearest.candidates import Candidates
from vreid.retrieval.nearest.core import has_matrix_units

WAYS = ("numpy", "core", "matrix units", "device")


def use(way, patch):
    """Make `neighbours` take one way to its candidates."""
    if way == "device":
        pytest.importorskip("torch")
        of = Points.of.__func__
        patch.setattr(Points, "of", classmethod(lambda *a, **k: replace(of(*a, **k), device="cpu")))
        return
    if way != "numpy" and compiled_core() is None:
        pytest.skip("the compiled core is not built")
    if way == "matrix units" and not has_matrix_units():
        pytest.skip("this processor has no bfloat16 matrix units")
    patch.setattr(neighbours, "FEW_QUERIES", 0 if way == "matrix units" else 10**9)


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    use(request.param, monkeypatch)
    with without_core() if request.param == "numpy" else nullcontext():
        yield request.param


def float64_distances(points, others):
    points, others = np.asarray(points, np.float32), np.asarray(others, np.float32)
    return np.stack([((point.astype(np.float64) - others) ** 2).sum(axis=1) for point in points])


def nearest_by_sorting(points, others, k):
    """Of float64 distances, rounded once to float32: that rounding is the stated gap inside which indices decide."""
    distances = float64_distances(points, others).astype(np.float32)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, axis=1), order


def check_lists(points, length):
    """All rows of `neighbour_lists` against float64; returns how many places differ inside the rounding gap."""
    lists = neighbour_lists(Points.of("test", points=points), length, farthest=True)
    exact = float64_distances(points, points)
    far = exact.max(axis=1)
    np.fill_diagonal(exact, -1)
    order = np.argsort(exact.astype(np.float32), axis=1, kind="stable")[:, :length]
    np.fill_diagonal(exact, 0)
    assert (lists.index[:, 0] == np.arange(len(points))).all()
    assert (np.diff(np.sort(lists.index, axis=1), axis=1) > 0).all()
    ours, right = (np.take_along_axis(exact, x.astype(int), axis=1) for x in (lists.index, order))
    differ = lists.index != order
    assert (np.abs(ours - right) <= 1.2e-7 * right).all()  # float64's order, but for what one float32 cannot tell
    norms = np.sqrt((np.asarray(points, np.float64) ** 2).sum(axis=1))
    scale = 2e-6 * (norms + norms.max()) ** 2
    assert (np.abs(lists.squared - ours) <= scale[:, None]).all()
    assert (np.abs(lists.farthest - far) <= scale).all()
    return int(differ.sum())


def clouds(seed, count, dimensions, identities=10, noise=0.3):
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(identities, dimensions))
    points = centres[generator.integers(identities, size=count)] + noise * generator.normal(size=(count, dimensions))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(
    ("count", "dimensions", "length"),
    [(700, 96, 21), (1100, 33, 5), (300, 512, 31), (65, 7, 65), (40, 3, 1), (2, 1, 2)],
)
def test_lists_are_those_of_float64(way, count, dimensions, length):
    assert check_lists(clouds(1, count, dimensions), length) == 0


@pytest.mark.parametrize("sizes", [(200, 700), (130, 40), (1, 300), (64, 1)])
@pytest.mark.parametrize("k", [1, 10])
def test_nearest_of_the_gallery(way, sizes, k):
    query, gallery = clouds(2, sizes[0], 48), clouds(3, sizes[1], 48)
    distances, indices = nearest(query, gallery, k)
    expected, order = nearest_by_sorting(query, gallery, k)
    assert distances.dtype == np.float32 and indices.dtype == np.int32
    assert np.array_equal(indices, order)
    assert np.abs(distances - expected).max() < 1e-6


def attack(draw_seed, kind, count, dimensions):
    """Features that rounding could lead astray."""
    generator = np.random.default_rng(draw_seed)
    points = generator.normal(size=(count, dimensions)).astype(np.float32)
    if kind == "duplicates":
        points = points[generator.integers(max(count // 10, 1), size=count)]
    elif kind == "near ties":
        points = (points[:1] + 1e-4 * points).astype(np.float32)
    elif kind == "one bit":
        points = np.repeat(points[:1], count, axis=0)
        points[np.arange(count), generator.integers(dimensions, size=count)] *= np.float32(1 + 2**-20)
    elif kind == "constant":
        points = np.full_like(points, 0.37)
    elif kind == "constant rows":
        points[:] = generator.normal(size=(count, 1))
    elif kind == "tiny and huge":
        points *= 10.0 ** generator.integers(-15, 15, size=(count, 1))
    elif kind == "tiny":
        points *= np.float32(1e-30)
    elif kind == "huge":
        points *= np.float32(1e17)
    elif kind == "far from the origin":
        points = (points + np.float32(40)).astype(np.float32)
    elif kind == "one far away":
        points[0] *= np.float32(1e6)
    elif kind == "whole numbers":
        points = generator.integers(-2, 3, size=points.shape).astype(np.float32)
    return points.astype(np.float32)


KINDS = (
    "plain",
    "duplicates",
    "near ties",
    "one bit",
    "constant",
    "constant rows",
    "tiny and huge",
    "tiny",
    "huge",
    "far from the origin",
    "one far away",
    "whole numbers",
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), count=st.integers(2, 260), dimensions=st.integers(1, 70), length=st.integers(1, 40))
def test_no_rounding_leads_it_astray(way, kind, seed, count, dimensions, length):
    points = Points.of("test", points=attack(seed, kind, count, dimensions)).parts[
        0
    ]  # scaled, where float32 asks for it
    assert check_lists(points, min(length, count)) <= 2  # a tie in float32 that sums in other orders round apart


def test_rows_given_up_by_rounding_are_done_again(monkeypatch):
    use("matrix units", monkeypatch)
    calls, by_core = [], neighbours.propose_by_core

    def counted(*arguments, rounded):
        failed = by_core(*arguments, rounded=rounded)
        calls.append((rounded, len(failed)))
        return failed

    monkeypatch.setattr(neighbours, "propose_by_core", counted)
    points = attack(0, "near ties", 400, 32)
    assert check_lists(points, 5) == 0
    assert calls[0] == (True, 0)  # their centre is taken off: what is left is rounded relative to itself
    calls.clear()
    points[:20] *= 30  # now there is no common centre, and 380 points are within the error of one another
    assert check_lists(points, 5) == 0
    assert calls[0][0] and calls[0][1] > 300 and not calls[1][0]
    calls.clear()
    few = clouds(0, 2000, 8, identities=2000)
    few[:80] = few[0]
    assert check_lists(few, 3) == 0
    assert (
        len(calls) == 1 and 80 <= calls[0][1] <= 2000 // neighbours.MANY_FAILED
    )  # the equal ones, and who is near them


def test_the_bound_is_not_loose(monkeypatch):
    """Shrunk to a hundredth, the window loses neighbours: the tests above would see a bound that is too small."""
    points = clouds(5, 800, 64, identities=3, noise=1.0)
    use("matrix units", monkeypatch)
    full = neighbours.window
    monkeypatch.setattr(neighbours, "window", lambda *a, **k: 0.002 * full(*a, **k))
    lists = neighbour_lists(Points.of("test", points=points), 21)
    exact = float64_distances(points, points)
    np.fill_diagonal(exact, -1)
    assert (lists.index != np.argsort(exact, axis=1, kind="stable")[:, :21]).any()


def test_tile_sizes_and_threads_change_nothing(way, monkeypatch):
    points = attack(3, "duplicates", 300, 40)
    whole = neighbour_lists(Points.of("test", points=points), 11, farthest=True)
    monkeypatch.setattr(neighbours, "TILE", 37)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    tiled = neighbour_lists(Points.of("test", points=points), 11, farthest=True)
    assert np.array_equal(whole.index, tiled.index)
    assert np.abs(whole.squared - tiled.squared).max() < 2e-4 and np.abs(whole.farthest - tiled.farthest).max() < 2e-4


def test_two_arrays_are_as_good_as_one(way):
    points = clouds(4, 300, 24)
    one = neighbour_lists(Points.of("test", points=points), 9)
    two = neighbour_lists(Points.of("test", query=points[:77], gallery=points[77:]), 9)
    assert np.array_equal(one.index, two.index)


def test_the_order_of_points_only_renames_them(way):
    points = clouds(6, 200, 16)
    order = np.random.default_rng(0).permutation(200)
    whole = neighbour_lists(Points.of("test", points=points), 6)
    shuffled = neighbour_lists(Points.of("test", points=points[order]), 6)
    assert np.array_equal(order[shuffled.index], whole.index[order])


def test_candidates_give_up_a_crowded_row():
    candidates = Candidates(2, np.array([0.5, 0.5]), capacity=8)
    crowd = np.linspace(0, 0.1, 40, dtype=np.float32)
    candidates.offer(0, 0, np.stack([crowd, crowd]))
    candidates.offer(0, 40, np.stack([crowd, crowd - 9]))  # the second row's crowd is outdone by another one's
    candidates.offer(0, 80, np.stack([crowd, np.arange(40, dtype=np.float32) - 90]))
    points = Points.of("test", points=np.zeros((120, 1)))
    ((rows, columns, _),) = candidates.decided(points, points)
    assert candidates.failed.tolist() == [True, False] and rows.tolist() == [0, 1]
    assert columns[1].tolist() == [80, 81]


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_distances_come_back_in_the_units_of_the_features(way, scale):
    query, gallery = clouds(7, 5, 8) * scale, clouds(8, 30, 8) * scale
    with np.errstate(over="ignore"):
        distances, indices = nearest(query, gallery, 3)
    assert np.array_equal(indices, nearest_by_sorting(query / scale, gallery / scale, 3)[1])
    assert (distances == 0).all() if scale < 1 else np.isposinf(distances).all()  # float32 holds neither


@pytest.mark.parametrize(
    ("query", "gallery", "k", "message"),
    [
        ([[1, 2]], [[1, 2]], 0, "k is 0"),
        ([[1, 2]], [[1, 2, 3]], 1, "2 dimensions, gallery features 3"),
        (np.zeros((0, 2)), [[1, 2]], 1, "0 query features x 1 gallery features; give at least one of each"),
        ([[1, 2]], np.zeros((0, 2)), 1, "give at least one of each"),
        ([[1, 2], [np.nan, 2]], [[1, 2]], 1, "query features: row 2 contains NaN"),
        ([1, 2], [[1, 2]], 1, "not \\(images, dimensions\\)"),
    ],
)
def test_wrong_input(query, gallery, k, message):
    with pytest.raises(InputError, match=message):
        nearest(query, gallery, k)


@pytest.mark.parametrize("kind", ["float32", "float64", "float16"])
def test_tensors_in_tensors_out(kind):
    torch = pytest.importorskip("torch")
    query, gallery = clouds(9, 7, 16), clouds(10, 60, 16)
    tensors = [torch.from_numpy(x).to(getattr(torch, kind)).requires_grad_() for x in (query, gallery)]
    distances, indices = nearest(*tensors, 3)
    assert isinstance(distances, torch.Tensor) and isinstance(indices, torch.Tensor)
    expected = nearest(*(x.detach().float().numpy() for x in tensors), 3)
    assert np.array_equal(indices.numpy(), expected[1]) and np.array_equal(distances.numpy(), expected[0])
    top = rerank_top(*tensors, 4, k1=5, k2=2)
    assert top[0].shape == (7, 4) and rerank(*tensors, k1=5, k2=2).shape == (7, 60)
    assert np.array_equal(np.sort(rerank(*tensors, k1=5, k2=2).numpy())[:, :4].round(5), top[0].numpy().round(5))


def test_tensors_and_arrays_do_not_mix():
    torch = pytest.importorskip("torch")
    with pytest.raises(InputError, match="must be on the same device"):
        nearest(torch.ones(2, 2), np.ones((2, 2)), 1)


@pytest.mark.parametrize(("kind", "expected"), [("cuda", "tf32"), ("cpu", "bf16")])
def test_precision_may_be_asked_for_in_either_way(kind, expected):
    """Torch refuses to be asked in the older way once somebody has set the newer one, so in a process of its own."""
    torch = pytest.importorskip("torch")
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        pytest.skip("this torch knows the older way alone")
    code = (
        "import torch\nfrom vreid.retrieval.nearest.device import INPUT_ROUNDING, product_precision\n"
        "assert INPUT_ROUNDING[product_precision('cuda')] == INPUT_ROUNDING[product_precision('cpu')] == 0\n"
        "torch.backends.cuda.matmul.fp32_precision = 'tf32'\ntorch.backends.mkldnn.matmul.fp32_precision = 'bf16'\n"
        f"print(product_precision('{kind}'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == expected, done.stderr


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_less_precise_products_on_a_device_widen_the_window(precision, monkeypatch):
    torch = pytest.importorskip("torch")
    use("device", monkeypatch)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        assert check_lists(clouds(11, 400, 128), 11) == 0
    finally:
        torch.set_float32_matmul_precision(before)
