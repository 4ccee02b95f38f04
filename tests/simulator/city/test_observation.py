"""Tracklets that cameras make of traffic: clocks, misses, breaks, merges, and the stresses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vreid.simulator.city.observation import MERGE_GAP, ObservedTracklets, observe
from vreid.simulator.city.plan import DAY
from vreid.simulator.city.traffic import TRAFFIC_PRESETS, Traffic, plan_traffic, stressed

PRESET = replace(TRAFFIC_PRESETS["medium"], vehicles=6_000, merged=0.5)
TRAFFIC = plan_traffic(PRESET, 1)
TRACKLETS = observe(TRAFFIC)
PLAIN = replace(PRESET, missed=0, broken=0, merged=0, clock_error=0, clock_drift=0)


def seen(tracklets: ObservedTracklets) -> set[int]:
    return {*tracklets.pass_index.tolist(), *tracklets.other[tracklets.other >= 0].tolist()}


def with_settings(preset: object) -> tuple[Traffic, ObservedTracklets]:
    traffic = replace(TRAFFIC, preset=preset)
    return traffic, observe(traffic)


def test_without_faults_every_pass_is_one_tracklet_at_its_time() -> None:
    traffic, tracklets = with_settings(PLAIN)
    assert sorted(tracklets.pass_index.tolist()) == list(range(len(traffic.passes)))
    assert np.array_equal(tracklets.observed_start, traffic.passes.start[tracklets.pass_index])
    assert np.array_equal(tracklets.observed_end, traffic.passes.end[tracklets.pass_index])
    assert (tracklets.part == 0).all() and (tracklets.other == -1).all()


def test_numbers_are_the_order_of_observed_starts_at_each_camera() -> None:
    for camera in range(PRESET.cameras):
        here = TRACKLETS.camera == camera
        assert TRACKLETS.number[here].tolist() == list(range(1, int(here.sum()) + 1))
        assert (np.diff(TRACKLETS.observed_start[here]) >= 0).all()


def test_shares_of_missed_broken_and_merged_passes() -> None:
    count = len(TRAFFIC.passes)
    assert len(seen(TRACKLETS)) / count == pytest.approx(1 - PRESET.missed, abs=0.01)
    assert (TRACKLETS.part == 1).sum() == (TRACKLETS.part == 2).sum()
    assert (TRACKLETS.part == 1).sum() / count == pytest.approx(PRESET.broken, abs=0.01)
    assert len(np.unique(TRACKLETS.pass_index[TRACKLETS.part < 2])) == (TRACKLETS.part < 2).sum()
    merged = np.flatnonzero(TRACKLETS.other >= 0)
    assert len(merged) > 50
    one, two = TRACKLETS.pass_index[merged], TRACKLETS.other[merged]
    passes, vehicle = TRAFFIC.passes, TRAFFIC.vehicle
    assert not {*two.tolist()} & {*TRACKLETS.pass_index.tolist()} and len(np.unique(two)) == len(two)
    assert (vehicle[one] != vehicle[two]).all() and (passes.camera[one] == passes.camera[two]).all()
    assert (np.abs(passes.time[one] - passes.time[two]) < MERGE_GAP).all()
    length = passes.end - passes.start
    assert (length[one] >= length[two]).all()  # the truth names the vehicle that is seen longer
    assert np.array_equal(TRACKLETS.start[merged], np.minimum(passes.start[one], passes.start[two]))
    assert np.array_equal(TRACKLETS.end[merged], np.maximum(passes.end[one], passes.end[two]))


def test_parts_of_a_broken_pass_follow_each_other() -> None:
    first, second = (np.flatnonzero(TRACKLETS.part == part) for part in (1, 2))
    first, second = (rows[np.argsort(TRACKLETS.pass_index[rows])] for rows in (first, second))
    assert np.array_equal(TRACKLETS.pass_index[first], TRACKLETS.pass_index[second])
    assert (TRACKLETS.end[first] < TRACKLETS.start[second]).all()


def test_clocks_have_an_offset_and_drift() -> None:
    error = TRACKLETS.observed_start - TRACKLETS.start
    days = (TRACKLETS.start - DAY) / 86_400
    expected = TRACKLETS.clock_offset[TRACKLETS.camera] + TRACKLETS.clock_drift[TRACKLETS.camera] * days
    assert error == pytest.approx(expected, abs=1e-6)
    assert 0.3 < TRACKLETS.clock_offset.std() < 2 and 0.3 < TRACKLETS.clock_drift.std() < 2


def test_stresses() -> None:
    _, dead = with_settings(stressed(PRESET, "one dead camera"))
    assert dead.dead.sum() == 1 and not (dead.camera == np.flatnonzero(dead.dead)[0]).any()
    _, wrong = with_settings(stressed(PRESET, "a clock two minutes off"))
    shift = wrong.clock_offset - TRACKLETS.clock_offset
    assert sorted(shift.round(6).tolist()) == [0.0] * (PRESET.cameras - 1) + [120.0]
    _, missed = with_settings(stressed(PRESET, "30 % missed"))
    assert len(seen(missed)) / len(TRAFFIC.passes) == pytest.approx(0.7, abs=0.01)
    _, shuffled = with_settings(stressed(PRESET, "shuffled times"))
    for camera in range(PRESET.cameras):
        times = np.sort(shuffled.observed_start[shuffled.camera == camera])
        assert times == pytest.approx(TRACKLETS.observed_start[TRACKLETS.camera == camera])
    assert np.corrcoef(shuffled.observed_start, shuffled.start)[0, 1] < 0.1
