"""Assignment against brute force, link probabilities against enumeration, and costs worked by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vreid.trips.assignment import NONE, assign, assign_greedily
from vreid.trips.probability import expected_calibration_error, marginals, reliability_table

TRACKLETS = 5
PAIRS = [(i, j) for i in range(TRACKLETS) for j in range(i + 1, TRACKLETS)]


def assignments(links: list[tuple[int, int]]) -> list[tuple[int, ...]]:
    """All sets of links in which no tracklet has two successors or two predecessors."""
    found = []
    for size in range(len(links) + 1):
        for chosen in itertools.combinations(range(len(links)), size):
            firsts, seconds = [links[k][0] for k in chosen], [links[k][1] for k in chosen]
            if len(set(firsts)) == len(firsts) and len(set(seconds)) == len(seconds):
                found.append(chosen)
    return found


graphs = st.lists(st.sampled_from(PAIRS), min_size=1, max_size=7, unique=True).flatmap(
    lambda links: st.tuples(
        st.just(links),
        st.lists(st.floats(-5, 5), min_size=len(links), max_size=len(links)),
    )
)


@given(graphs)
@settings(max_examples=150)
def test_assignment_is_the_best_of_all(graph: tuple[list[tuple[int, int]], list[float]]) -> None:
    links, value = graph
    first, second = np.array(links).T
    successor = assign(first, second, np.array(value), TRACKLETS)
    chosen = [k for k, (i, j) in enumerate(links) if successor[i] == j]
    assert (successor != NONE).sum() == len(chosen)
    assert len({links[k][1] for k in chosen}) == len(chosen)
    best = max(sum(value[k] for k in one) for one in assignments(links))
    assert sum(value[k] for k in chosen) == pytest.approx(best, abs=1e-9)


@given(graphs, st.randoms())
@settings(max_examples=50)
def test_assignment_does_not_depend_on_the_order_of_links(
    graph: tuple[list[tuple[int, int]], list[float]], shuffle: object
) -> None:
    links, value = graph
    order = list(range(len(links)))
    shuffle.shuffle(order)  # type: ignore[attr-defined]
    first, second = np.array(links).T
    numbers = np.array(value)
    once = assign(first, second, numbers, TRACKLETS)
    again = assign(first[order], second[order], numbers[order], TRACKLETS)
    values = dict(zip(links, value, strict=True))
    totals = [sum(values[i, int(j)] for i, j in enumerate(one) if j != NONE) for one in (once, again)]
    assert totals[0] == pytest.approx(totals[1], abs=1e-9)


@given(graphs, st.integers(1, 8))
@settings(max_examples=150)
def test_the_size_of_components_changes_nothing_below_it_and_never_gives_two_successors(
    graph: tuple[list[tuple[int, int]], list[float]], largest: int
) -> None:
    links, value = graph
    first, second = np.array(links).T
    numbers = np.array(value)
    best, capped = (assign(first, second, numbers, TRACKLETS, size) for size in (2 * TRACKLETS, largest))
    values = dict(zip(links, value, strict=True))
    total = [sum(values[i, int(j)] for i, j in enumerate(one) if j != NONE) for one in (best, capped)]
    chosen = capped[capped != NONE]
    assert len(set(chosen.tolist())) == len(chosen)
    assert total[1] <= total[0] + 1e-9
    if largest_component([pair for pair in links if values[pair] > 0]) <= largest:
        np.testing.assert_array_equal(capped, best)
    free = {(i, j) for i, j in links if capped[i] == NONE and j not in chosen}
    assert all(values[pair] <= 0 for pair in free)  # nothing more can be added


def largest_component(links: list[tuple[int, int]]) -> int:
    """Number of ends of the largest connected component."""
    groups: list[set[str]] = []
    for i, j in links:
        ends = {f"a{i}", f"b{j}"}
        touching = [group for group in groups if group & ends]
        groups = [group for group in groups if not group & ends] + [ends.union(*touching)]
    return max(map(len, groups), default=0)


def test_a_component_that_is_too_large_is_split_at_its_weakest_link() -> None:
    """0 -> 4 <- 1 -> 5 has four ends. In parts of three, 1 -> 5 is left out: 3.0 is found, and 3.5 is the best."""
    first, second, value = np.array([0, 1, 1]), np.array([4, 4, 5]), np.array([2.0, 3.0, 1.5])
    assert assign(first, second, value, 6).tolist() == [4, 5, NONE, NONE, NONE, NONE]
    assert assign(first, second, value, 6, largest=3).tolist() == [NONE, 4, NONE, NONE, NONE, NONE]
    value[0] = 3.5  # 0 -> 4 wins in its part, and 1 -> 5 is added
    assert assign(first, second, value, 6, largest=3).tolist() == [4, 5, NONE, NONE, NONE, NONE]


def test_assignment_beats_greed() -> None:
    first, second = np.array([0, 0, 1]), np.array([2, 3, 2])
    value = np.array([3.0, 2.0, 2.5])
    assert assign(first, second, value, 4).tolist() == [3, 2, NONE, NONE]
    assert assign_greedily(first, second, value, 4).tolist() == [2, NONE, NONE, NONE]


def test_components_are_solved_apart() -> None:
    rng = np.random.default_rng(0)
    first = np.repeat(np.arange(0, 6000, 3), 2)
    second = first + np.tile([1, 2], 2000)
    value = rng.normal(size=len(first))
    successor = assign(first, second, value, 6000)
    for start in range(0, 6000, 3):
        pair = value[2 * (start // 3) : 2 * (start // 3) + 2]
        expected = NONE if pair.max() <= 0 else start + 1 + int(pair.argmax())
        assert successor[start] == expected


@given(graphs)
@settings(max_examples=100)
def test_marginals_are_those_of_all_assignments_where_there_is_no_cycle(
    graph: tuple[list[tuple[int, int]], list[float]],
) -> None:
    links, value = graph
    first, second = np.array(links).T
    found = marginals(first, second, np.array(value), TRACKLETS)
    every = assignments(links)
    weight = np.array([np.exp(sum(value[k] for k in one)) for one in every])
    weight /= weight.sum()
    exact = np.array([sum(w for w, one in zip(weight, every, strict=True) if k in one) for k in range(len(links))])
    nodes = len(set(first.tolist())) + len(set(second.tolist()))
    parts = components(links)
    if len(links) == nodes - parts:  # a forest
        np.testing.assert_allclose(found.link, exact, atol=2e-3)
    else:
        np.testing.assert_allclose(found.link, exact, atol=0.2)
    np.testing.assert_allclose(np.bincount(first, found.link, minlength=TRACKLETS) + found.end, 1)


def components(links: list[tuple[int, int]]) -> int:
    """Number of connected components of the bipartite graph, without lone tracklets."""
    group = {name: name for i, j in links for name in (f"a{i}", f"b{j}")}
    for i, j in links:
        old, new = group[f"b{j}"], group[f"a{i}"]
        group = {name: new if of == old else of for name, of in group.items()}
    return len(set(group.values()))


def test_competition_for_one_successor_by_hand() -> None:
    found = marginals(np.array([0, 1]), np.array([2, 2]), np.log([4.0, 2.0]), 3)
    np.testing.assert_allclose(found.link, [4 / 7, 2 / 7], atol=1e-4)  # the third part: neither, 1 / 7
    np.testing.assert_allclose(found.begin, [1, 1, 1 / 7], atol=1e-4)
    np.testing.assert_allclose(found.end, [3 / 7, 5 / 7, 1], atol=1e-4)


def test_calibration_error_by_hand() -> None:
    stated, right = [0.95, 0.95, 0.95, 0.95, 0.15], [True, True, True, False, False]
    table = reliability_table(stated, right)
    assert [(row.count, row.correct) for row in table] == [(1, 0.0), (4, 0.75)]
    assert expected_calibration_error(stated, right) == pytest.approx((4 * 0.2 + 0.15) / 5)
