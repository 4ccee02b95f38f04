"""Distributions of transit times, the ratio of similarities and the log-odds of a link."""

from __future__ import annotations

import numpy as np
import pytest

from support.traffic_world import ToyTraffic, traffic_world
from vreid.trips.appearance import AppearanceRatio
from vreid.trips.directions import Turns
from vreid.trips.link_learning import moves_of
from vreid.trips.link_model import IMPOSSIBLE, Arrivals, LinkModel
from vreid.trips.tables import TimedTracklets
from vreid.trips.transit import Routes, TimeBins, fit_routes, log_density, network_times, tail, uniform_background

BINS = TimeBins(3600.0)


def histogram(seconds: np.ndarray) -> np.ndarray:
    return BINS.histogram(np.zeros(len(seconds), dtype=np.int64), seconds, np.ones(len(seconds)), 1)


def test_one_route_beside_wrong_matches() -> None:
    rng = np.random.default_rng(0)
    seconds = np.concatenate([100 * np.exp(rng.normal(0, 0.2, 100)), rng.uniform(0, 3600, 200)])
    routes = fit_routes(histogram(seconds), uniform_background(BINS), BINS)
    assert routes.weight[0, 1] == 0
    assert np.exp(routes.mean[0, 0]) == pytest.approx(100, rel=0.08)
    assert routes.evidence[0] == pytest.approx(100, rel=0.2)


def test_two_routes_are_found_and_one_is_not_split() -> None:
    rng = np.random.default_rng(1)
    one = 60 * np.exp(rng.normal(0, 0.15, 300))
    two = np.concatenate([one, 180 * np.exp(rng.normal(0, 0.15, 100))])
    single, double = (fit_routes(histogram(x), tail(BINS), BINS) for x in (one, two))
    assert single.weight[0, 1] == 0
    assert sorted(np.exp(double.mean[0])) == pytest.approx([60, 180], rel=0.1)
    assert max(double.weight[0]) == pytest.approx(0.75, abs=0.05)


def test_times_that_do_not_cluster_give_no_route() -> None:
    seconds = np.random.default_rng(2).uniform(0, 3600, 300)
    assert fit_routes(histogram(seconds), uniform_background(BINS), BINS).evidence[0] < 60


def test_density_is_one_in_all_and_pairs_without_evidence_share_a_prior() -> None:
    counts = np.concatenate([np.zeros((1, BINS.count)), histogram(np.full(50, 100.0)), np.zeros((2, BINS.count))])
    density = np.exp(log_density(fit_routes(counts, tail(BINS), BINS), 0.05, BINS))
    np.testing.assert_allclose((density * BINS.widths).sum(axis=1), 1)
    at = BINS.of(np.array([100.0]))[0]
    assert density[1, at] > density[0, at] > np.exp(log_density(no_routes(1), 0.05, BINS))[0, at]


def test_a_link_that_skips_a_camera_takes_as_long_as_the_way_past_it() -> None:
    """Cameras 0, 1, 2 in a row; 0 -> 1 takes 100 s, 1 -> 2 takes 50 s, and nothing else is known."""
    counts = np.zeros((9, BINS.count))
    counts[0 * 3 + 1], counts[1 * 3 + 2] = histogram(np.full(50, 100.0))[0], histogram(np.full(50, 50.0))[0]
    routes = fit_routes(counts, tail(BINS), BINS)
    times = network_times(routes).reshape(3, 3)
    np.testing.assert_allclose(times[[0, 1, 0, 2], [1, 2, 2, 0]], [100, 50, 150, 150], rtol=0.03)
    assert np.isinf(np.diag(times)).all()
    density = log_density(routes, 0.0, BINS)
    skipping, soon = BINS.of(np.array([150.0, 20.0]))
    assert density[0 * 3 + 2, skipping] - density[0 * 3 + 2, soon] > 3
    assert density[2 * 3 + 0].argmax() == pytest.approx(density[0 * 3 + 2].argmax(), abs=2)


def test_moves_by_hand() -> None:
    """Three certain links 0 -> 1 and one of 0.8 from 0 to 2: each keeps what the others say, 2 and 0; the rest, 1.8,
    and one of the prior are spread over three cameras.
    """
    table = TimedTracklets.of(
        id=list("abc"), camera=["c0", "c1", "c2"], start=[0.0, 1, 2], end=[0.5, 1.5, 2.5], vector=np.eye(3)
    )
    moves = moves_of(np.array([1, 1, 1, 2]), np.array([1.0, 1.0, 1.0, 0.8]), table, np.array([0.4, 0.5, 0.5]))
    share = 2.8 / 3
    np.testing.assert_allclose(moves[0], 0.6 * np.array([share, 2 + share, share]) / 4.8)
    np.testing.assert_allclose(moves[1:], 0.5 / 3)


def no_routes(pairs: int) -> Routes:
    shape = (pairs, 2)
    return Routes(np.zeros(shape), np.zeros(shape), np.ones(shape), np.zeros(pairs))


def test_ratio_of_similarities_rises_and_claims_no_more_than_its_negatives_show() -> None:
    rng = np.random.default_rng(3)
    different, same = rng.normal(0, 0.1, 10_000), rng.normal(0.4, 0.1, 500)
    ratio = AppearanceRatio.fit(same, np.ones(500), different)
    assert (np.diff(ratio.log_ratio_B) >= 0).all()
    assert ratio.of(np.array([0.2]))[0] == pytest.approx(0.0, abs=0.5)  # both densities are equal there
    assert ratio.of(np.array([0.9]))[0] <= np.log(2 * 10_000)
    assert ratio.of(ratio.least_score(np.array([1.0])))[0] == pytest.approx(1.0)
    assert ratio.least_score(np.array([-99.0, 99.0])).tolist() == [-np.inf, np.inf]


def test_log_odds_by_hand() -> None:
    """Two cameras, one arrival in 300 s: the odds are move * density / (leave * births)."""
    table = TimedTracklets.of(
        id=["a", "b"], camera=["c1", "c2"], start=[0.0, 110.0], end=[10.0, 120.0], vector=np.eye(2)
    )
    move, leave = np.array([[0.1, 0.6], [0.3, 0.3]]), np.array([0.3, 0.4])
    arrivals = Arrivals(0.0, np.array([[0.01], [0.02]]))
    flat = AppearanceRatio(np.array([-1.0, 1.0]), np.zeros(2))
    model = LinkModel(flat, BINS, no_routes(4), 0.0, move, leave, np.array([0.5, 0.25]), arrivals, Turns.none(2), 0.0)
    births = model.log_births(table)
    np.testing.assert_allclose(np.exp(births), [0.005, 0.005])
    density = np.exp(log_density(no_routes(4), 0.0, BINS)[1, BINS.of(np.array([100.0]))[0]])
    odds = model.of_timing(table, births, np.array([0, 1]), np.array([1, 0]))
    assert odds[0] == pytest.approx(np.log(0.6 * density / (0.3 * 0.005)))
    assert odds[1] == IMPOSSIBLE


def test_arrivals_count_each_camera() -> None:
    table, _ = traffic_world(0, ToyTraffic(vehicles=50))
    arrivals = Arrivals.of(table)
    assert arrivals.rate.shape[0] == table.cameras
    assert arrivals.at(table.camera.codes, table.start).min() > 0
