"""Trips of one vehicle joined over long pauses: evidence by hand, and a small world of commuters."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from support.traffic_world import ToyTraffic, traffic_world
from vreid.trips.solve import TripConfig, Trips, link_trips
from vreid.trips.tables import TimedTracklets
from vreid.trips.trip_joins import Chains, TwoCovariances, join_candidates

COMMUTERS = ToyTraffic(vehicles=250, hours=2.0, groups=60, returns=0.6, stops=0.0)


@pytest.fixture(scope="module")
def solved() -> tuple[TimedTracklets, np.ndarray, Trips]:
    table, vehicle = traffic_world(0, COMMUTERS)
    return table, vehicle, link_trips(table)


def test_ratio_is_that_of_two_gaussians() -> None:
    """Looks vary by 3, tracklets by 1: means of 2 and of 1 tracklets have variances 3.5 and 4, and covariance 3."""
    model = TwoCovariances(np.zeros(1), np.eye(1), np.array([3.0]))
    one, other = np.array([[1.0], [-2.0]]), np.array([[0.5], [4.0]])
    together = multivariate_normal([0, 0], [[3.5, 3.0], [3.0, 4.0]])
    apart = multivariate_normal([0, 0], [[3.5, 0.0], [0.0, 4.0]])
    by_hand = [[together.logpdf([x, y]) - apart.logpdf([x, y]) for y in (0.5, 4.0)] for x in (1.0, -2.0)]
    np.testing.assert_allclose(model.ratios(one, 2, other, 1), by_hand, rtol=1e-5)
    np.testing.assert_allclose(model.ratio_of_pairs(one, 2, other, 1), np.diag(by_hand), rtol=1e-5)


def test_covariances_are_found() -> None:
    rng = np.random.default_rng(0)
    look = rng.normal(size=(4000, 3)) * np.array([3.0, 1.0, 0.1])
    group = np.repeat(np.arange(4000), 3)
    model = TwoCovariances.of(look[group] + rng.normal(size=(12000, 3)) * np.array([1.0, 2.0, 1.0]), group)
    assert model.between[-2:] == pytest.approx([0.25, 9.0], rel=0.1)


def test_chains_by_hand() -> None:
    """Tracklets 0 -> 2 -> 3 and 1 alone."""
    table = TimedTracklets.of(
        id=list("abcd"), camera=["x", "y", "y", "z"], start=[0.0, 5, 60, 120], end=[1.0, 6, 61, 121], vector=np.eye(4)
    )
    chains = Chains.of(table, np.array([2, -1, 3, -1]))
    assert chains.row.tolist() == [0, 1, 0, 0]
    assert (chains.first.tolist(), chains.last.tolist()) == ([0, 1], [3, 1])
    assert (chains.begin.tolist(), chains.end.tolist()) == ([0.0, 5.0], [121.0, 6.0])
    assert (chains.origin.tolist(), chains.destination.tolist()) == ([0, 1], [2, 1])


def test_few_chains_are_not_joined() -> None:
    table = TimedTracklets.of(id=list("ab"), camera=["x", "y"], start=[0.0, 5000.0], end=[1.0, 5001], vector=np.eye(2))
    links, odds = join_candidates(table, Chains.of(table, np.array([-1, -1])), np.full((2, 2), np.inf), 600.0, 86400.0)
    assert (len(links), len(odds)) == (0, 0)


def test_commuters_are_recognised(solved: tuple[TimedTracklets, np.ndarray, Trips]) -> None:
    """A pair of trips counts as right if both are mostly of one vehicle."""
    _, vehicle, trips = solved
    first = np.flatnonzero(trips.parked & (trips.order == 1))
    gap = trips.corrected[first, 0] - trips.corrected[trips.previous[first], 1]
    joined = first[gap > 3600]
    right = vehicle[joined] == vehicle[trips.previous[joined]]
    parked = int(COMMUTERS.vehicles * COMMUTERS.returns)
    assert right.mean() > 0.85
    assert right.sum() > 0.5 * parked
    assert trips.probability[joined].mean() == pytest.approx(right.mean(), abs=0.15)


def test_joins_change_no_trip(solved: tuple[TimedTracklets, np.ndarray, Trips]) -> None:
    table, _, trips = solved
    alone = link_trips(table, TripConfig(longest_pause=0))
    np.testing.assert_array_equal(trips.trip, alone.trip)
    np.testing.assert_array_equal(trips.linked, alone.linked)
    assert trips.vehicle.max() < alone.vehicle.max()
    assert (
        alone.corrected[alone.previous >= 0, 0] - alone.corrected[alone.previous[alone.previous >= 0], 1]
    ).max() <= 3600


def test_no_vehicle_is_in_two_trips_at_once(solved: tuple[TimedTracklets, np.ndarray, Trips]) -> None:
    trips = solved[2]
    for vehicle in np.unique(trips.vehicle):
        rows = np.flatnonzero(trips.vehicle == vehicle)
        rows = rows[np.argsort(trips.corrected[rows, 0])]
        assert (trips.corrected[rows[1:], 0] >= trips.corrected[rows[:-1], 1]).all()


def test_a_rejected_pair_is_not_joined(solved: tuple[TimedTracklets, np.ndarray, Trips]) -> None:
    table, _, trips = solved
    second = int(np.flatnonzero(trips.parked & (trips.probability > 0.8))[0])
    first = int(trips.previous[second])
    answered = link_trips(table, rejected=[(str(table.id[first]), str(table.id[second]))])
    assert answered.vehicle[first] != answered.vehicle[second]
