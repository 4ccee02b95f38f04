"""Steps that DMT does not have: neighbours in other cameras, a query's own tracklet, transit times."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vreid.data.protocols import AI_CITY
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.retrieval import (
    FeatureSet,
    OwnTracklet,
    PostProcessing,
    TransitPrior,
    augment_gallery,
    evaluate_distances,
    expand_queries,
    join_own_tracklet,
    learn_transit_times,
    nearest_elsewhere,
)
from vreid.retrieval.postprocessing.transit_times import TransitRatios, smoothed_shares, unit_times


def codes(*values):
    return np.array(values, np.int32)


def directions(*degrees):
    angle = np.deg2rad(degrees)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


# --- neighbours in other cameras --------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 15), st.integers(0, 2**32 - 1))
def test_neighbours_elsewhere_equal_a_plain_loop(count, gallery, k, seed):
    generator = np.random.default_rng(seed)
    features, others = (generator.normal(size=(n, 3)).astype(np.float32) for n in (count, gallery))
    camera, cameras = (generator.integers(-1, 3, n).astype(np.int32) for n in (count, gallery))
    distances, indices = nearest_elsewhere(features, others, camera, cameras, k)
    assert distances.shape == indices.shape == (count, min(k, gallery))
    for row in range(count):
        allowed = [j for j in range(gallery) if camera[row] < 0 or cameras[j] != camera[row]]
        square = {j: float(((features[row].astype(float) - others[j]) ** 2).sum()) for j in allowed}
        expected = sorted(allowed, key=lambda j, square=square: (square[j], j))[: min(k, gallery)]
        found = [j for j in indices[row] if j >= 0]
        assert found == expected
        assert distances[row, : len(found)] == pytest.approx([square[j] for j in found], abs=1e-4)
        assert np.isinf(distances[row, len(found) :]).all()


def test_expansion_over_other_cameras_by_hand():
    query, gallery = directions(0), directions(0, 60, 90)
    mixed = expand_queries(query, gallery, neighbours=1, alpha=0, cameras=(codes(0), codes(0, 1, 1)))
    assert mixed == pytest.approx(directions(30), abs=1e-6)  # the unit at 0 degrees is of its own camera
    augmented = augment_gallery(gallery, neighbours=1, alpha=0, camera=codes(0, 1, 1))
    assert augmented == pytest.approx(directions(30, 30, 45), abs=1e-6)  # 60 and 90 are of one camera: both take 0
    alone = expand_queries(query, gallery, neighbours=2, alpha=0, cameras=(codes(0), codes(0, 0, 0)))
    assert alone == pytest.approx(query)


# --- the query's own tracklet -----------------------------------------------------------------------------------------


def test_own_tracklet_by_hand():
    query = directions(0, 0, 0, 0)
    units = directions(20, 120, 40, 50, 10)
    unit_camera = codes(0, 0, 1, 1, 2)
    joined = join_own_tracklet(query, 3 * units, codes(0, 1, 2, -1), unit_camera, OwnTracklet(0.5, 0.5))
    # camera 0: clear; camera 1: 40 and 50 degrees are about as far; camera 2: nothing to compare with; unknown camera
    assert joined == pytest.approx(directions(10, 0, 0, 0), abs=1e-6)
    whole = join_own_tracklet(query[:1], units, codes(0), unit_camera, OwnTracklet(1, 0.5))
    assert whole == pytest.approx(directions(20), abs=1e-6)


def test_the_ratio_decides_what_is_clear():
    query, units = directions(0), directions(30, 45)
    far = [2 - 2 * np.cos(np.deg2rad(angle)) for angle in (30, 45)]
    for ratio, expected in ((far[0] / far[1] - 0.01, 0), (far[0] / far[1] + 0.01, 15)):
        joined = join_own_tracklet(query, units, codes(0), codes(0, 0), OwnTracklet(0.5, ratio))
        assert joined == pytest.approx(directions(expected), abs=1e-6)


# --- transit times ----------------------------------------------------------------------------------------------------


def test_the_prior_is_a_step_function():
    prior = TransitPrior(np.array([10.0, 20.0, np.inf]), np.array([1.0, -2.0, 0.5], np.float32), 3)
    gaps = np.array([[0.0, 10.0, 10.5], [20.0, 1e9, np.nan]])
    assert prior.of(gaps).tolist() == [[1.0, 1.0, -2.0], [-2.0, 0.5, 0.0]]


def test_ratios_of_a_tile_by_hand():
    prior = TransitPrior(np.array([10.0, np.inf]), np.array([2.0, -1.0], np.float32), 3)
    time_u = np.array([5.0, 100.0, 5.0, np.nan])
    ratios = TransitRatios(prior, np.array([0.0]), time_u, codes(0), codes(1, 1, 0, 1))
    [(start, tile)] = list(ratios.tiles())
    assert (start, tile.tolist(), ratios.shape) == (0, [[2.0, -1.0, 0.0, 0.0]], (1, 4))


def traffic(seed=0, vehicles=120, minutes=3.0, blur=0.9):
    """Vehicles that pass two cameras `minutes` apart, one every ten minutes; features that tell them apart poorly."""
    generator = np.random.default_rng(seed)
    look = generator.normal(size=(vehicles, 8))
    features = np.concatenate([look + blur * generator.normal(size=look.shape) for _ in range(2)])
    start = 600.0 * np.arange(vehicles)
    time = np.concatenate([start, start + 60 * minutes + generator.uniform(-30, 30, vehicles)])
    records = Records.of(
        path=[f"{index}.jpg" for index in range(2 * vehicles)],
        identity=[f"v{index % vehicles}" for index in range(2 * vehicles)],
        camera=["a"] * vehicles + ["b"] * vehicles,
        time=time,
    )
    return FeatureSet(features, records).normalise()


def test_transit_times_are_learned_from_matches_without_labels():
    units = traffic()
    camera = units.records.camera.codes.astype(np.int32)
    prior = learn_transit_times(units.features, units.records.time, camera)
    travel, strangers = prior.of(np.array([180.0])), prior.of(np.array([20 * 3600.0]))
    assert prior.matches > 60
    assert travel[0] > 2 and strangers[0] < -0.5
    first = learn_transit_times(
        units.features, units.records.time, units.records.camera.codes.astype(np.int32), rounds=1
    )
    assert prior.of(np.array([180.0])) > first.of(np.array([180.0]))  # better matches, a better ratio


def test_transit_times_find_what_looks_alone_do_not():
    units = traffic()
    first = units.records.camera.values == "a"
    sides = units[first], units
    plain, timed = (
        evaluate_distances(PostProcessing.parse(steps).apply(*sides), AI_CITY).mAP
        for steps in ("other-cameras", "transit-times=0.2, other-cameras")
    )
    assert plain < 0.8 and timed > plain + 0.15


def test_uninformative_times_change_nothing():
    units = traffic()
    flat = 0
    for seed in range(10):
        shuffled = np.random.default_rng(seed).permutation(units.records.time)
        timeless = replace(units, records=units.records.with_(time=shuffled))
        prior = learn_transit_times(timeless.features, shuffled, units.records.camera.codes.astype(np.int32))
        if prior.log_ratio_B.tolist() == [0.0]:
            flat += 1
            steps = [PostProcessing.parse(text).apply(timeless, timeless).matrix() for text in ("", "transit-times")]
            assert np.array_equal(*steps)
    assert flat >= 9


def test_smoothing_by_hand():
    assert smoothed_shares(np.array([4.0, 0.0, 0.0])) == pytest.approx(np.array([8 / 3, 1.0, 0.0]) / (11 / 3))


def test_times_of_units_are_means_of_what_is_known():
    records = Records.of(path=list("abcd"), camera=["x"] * 4, time=[1.0, 3.0, np.nan, np.nan])
    assert unit_times(records, codes(0, 0, 0, 1), 2).tolist() == pytest.approx([2.0, np.nan], nan_ok=True)


def test_too_little_is_known_of_times_and_cameras():
    features = directions(0, 10, 20)
    for time, camera in (([1.0, 2.0, np.nan], (0, 0, 1)), ([1.0, 2.0, 3.0], (0, -1, -1)), ([np.nan] * 3, (0, 1, 2))):
        with pytest.raises(InputError, match="give the columns `time` and `camera`"):
            learn_transit_times(features, np.array(time), codes(*camera))
