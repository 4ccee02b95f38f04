"""The share of missed passes, and what it adds to counts of trips."""

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.traffic_world import ToyTraffic, traffic_world
from vreid.trips.missed_passes import completed_trips, missed_share
from vreid.trips.solve import link_trips


def test_passes_that_a_camera_missed_are_estimated() -> None:
    for missed in (0.05, 0.3):
        table, _ = traffic_world(
            1, ToyTraffic(vehicles=500, hours=3.0, groups=200, noise=0.3, missed=missed, stops=0.0)
        )
        assert missed_share(link_trips(table)) == pytest.approx(missed, rel=0.35)


def recorded(route: tuple[int, ...], missed: float, trips: int) -> dict[tuple[int, ...], float]:
    """Return how many of the trips of a route leave each sequence of two cameras or more, on average."""
    found: dict[tuple[int, ...], float] = defaultdict(float)
    for seen in itertools.product((False, True), repeat=len(route)):
        path = tuple(camera for camera, here in zip(route, seen, strict=True) if here)
        if len(path) > 1:
            found[path] += trips * (1 - missed) ** len(path) * missed ** (len(route) - len(path))
    return found


def test_half_of_the_passes_of_one_route() -> None:
    """Of 16 trips past four cameras each pattern of misses once: 16 trips from the first to the last, no others."""
    routes = {path: round(count) for path, count in recorded((0, 1, 2, 3), 0.5, 16).items()}
    assert sum(routes.values()) == 11  # 5 trips left fewer than two tracklets
    found, _ = completed_trips(routes, 0.5, 4)
    expected = np.zeros((4, 4))
    expected[0, 3] = 16
    np.testing.assert_allclose(found, expected, atol=1e-9)


@given(
    route=st.permutations(range(6)).flatmap(lambda order: st.integers(2, 6).map(lambda size: tuple(order[:size]))),
    missed=st.sampled_from([0.0, 0.1, 0.2, 0.4, 0.5]),
)
def test_expected_recordings_give_the_trips_of_the_route(route: tuple[int, ...], missed: float) -> None:
    scale = 10 ** len(route)  # shares of tenths: all counts are whole
    routes = {path: round(count) for path, count in recorded(route, missed, scale).items()}
    found, variance = completed_trips(routes, missed, 6)
    expected = np.zeros((6, 6))
    expected[route[0], route[-1]] = scale
    np.testing.assert_allclose(found, expected, atol=1e-6 * scale)
    assert (variance >= 0).all()


@given(
    st.dictionaries(
        st.lists(st.integers(0, 3), min_size=2, max_size=5)
        .filter(lambda path: all(a != b for a, b in itertools.pairwise(path)))
        .map(tuple),
        st.integers(1, 20),
        max_size=6,
    )
)
def test_without_misses_trips_are_what_was_recorded(routes: dict[tuple[int, ...], int]) -> None:
    found, variance = completed_trips(routes, 0.0, 4)
    expected = np.zeros((4, 4))
    for path, count in routes.items():
        expected[path[0], path[-1]] += count
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(variance, 0)


def test_variance_by_hand() -> None:
    """A trip a, b, c with a third missed (r = 1/2) weighs 9/4 for a -> c, -9/8 for a -> b and for b -> c."""
    found, variance = completed_trips({(0, 1, 2): 8}, 1 / 3, 3)
    assert (found[0, 2], found[0, 1], found[1, 2]) == pytest.approx((18, -9, -9))
    assert (variance[0, 2], variance[0, 1]) == pytest.approx((8 * (9 / 4) ** 2 - 8, 8 * (9 / 8) ** 2))
