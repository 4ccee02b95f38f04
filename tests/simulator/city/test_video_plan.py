"""The plan of the videos: who passes which camera when."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from vreid.errors import InputError
from vreid.simulator.city.video_plan import START, VIDEO_PRESETS, VideoCity, plan_videos
from vreid.simulator.render.camera import SCENARIOS


@pytest.fixture(scope="module")
def city() -> VideoCity:
    return plan_videos(VIDEO_PRESETS["demo"], 7)


def test_trips_lead_past_several_cameras_within_the_videos(city: VideoCity) -> None:
    times = defaultdict(list)
    for some in city.passes:
        assert [one.time for one in some] == sorted(one.time for one in some)
        for one in some:
            times[one.vehicle].append(one.time)
    assert set(times) == set(range(len(city.vehicles)))
    assert np.mean([len(some) > 1 for some in times.values()]) >= 0.6
    assert any(len(some) == 1 for some in times.values())
    everything = np.concatenate(list(times.values())) - START
    assert everything.min() > 0 and np.mean(everything < city.preset.seconds) > 0.85
    hops = np.concatenate([np.diff(sorted(some)) for some in times.values()])
    assert 8 < np.median(hops) < 60


def test_lanes_exist_and_clocks_differ(city: VideoCity) -> None:
    for camera, some in zip(city.cameras, city.passes, strict=True):
        assert len(camera.spec.ways) == len(camera.spec.lanes)
        assert all(0 <= one.lane < len(camera.spec.ways) and one.speed > 0 for one in some)
        assert 0 <= camera.heading < 360
    offsets = [camera.offset for camera in city.cameras if camera.offset]
    assert len(offsets) == city.preset.wrong_clocks
    assert all(0.3 <= abs(offset) <= city.preset.clock_error for offset in offsets)


def test_more_vehicles_change_no_other(city: VideoCity) -> None:
    more = plan_videos(replace(city.preset, vehicles=city.preset.vehicles + 5), 7)
    assert more.vehicles[: len(city.vehicles)] == city.vehicles and more.cameras == city.cameras
    for before, after in zip(city.passes, more.passes, strict=True):
        assert set(before) <= set(after)


def test_wrong_settings_are_errors() -> None:
    with pytest.raises(InputError, match="preset 'demo'"):
        replace(VIDEO_PRESETS["demo"], cameras=1)
    for preset in VIDEO_PRESETS.values():
        assert all(not SCENARIOS[name].rain for name in preset.scenarios)  # rain would fall in windows only
