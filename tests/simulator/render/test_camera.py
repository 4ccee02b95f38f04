from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vreid.simulator.render.camera import SCENARIOS, Lane, Pinhole, RoadStrip, sample_camera


def test_the_pinhole_projects_points_worked_out_by_hand():
    """From (10, 0, 0) towards the origin: y points to the right, z up; depth 10, focal 100, centre (100, 50)."""
    pinhole = Pinhole((10.0, 0.0, 0.0), (0.0, 0.0, 0.0), 100.0, (200, 100))
    got = pinhole.project(np.array([[0, 0, 0], [0, 1, 0], [0, 0, 1], [5, 1, 0], [20, 0, 0]], np.float32))
    want = [[100, 50, 0.1], [110, 50, 0.1], [100, 40, 0.1], [120, 50, 0.2]]
    np.testing.assert_allclose(got[:4], want, atol=1e-4)
    assert got[4, 2] == 0, "a point behind the eye has no nearness"


def test_rays_lead_back_to_the_projected_points():
    pinhole = Pinhole((12.0, -5.0, 7.0), (1.0, 0.5, 0.4), 1300.0, (1920, 1080), roll=0.03)
    points = np.random.default_rng(0).uniform(-4, 4, (50, 3)).astype(np.float32)
    pixels = pinhole.project(points)
    back = pinhole.position[:, None] + pinhole.rays(pixels[:, 0], pixels[:, 1]) / pixels[:, 2]
    np.testing.assert_allclose(back.T, points, atol=2e-3)


def test_a_lane_turns_left_through_a_quarter_circle():
    lane = Lane(0.0, 0.0, 0.0, ((10.0, 0.0), (math.pi / 2 * 5, 1 / 5), (3.0, 0.0)))
    assert lane.length == pytest.approx(13 + math.pi / 2 * 5)
    assert lane.pose(4.0) == pytest.approx((4, 0, 0))
    assert lane.pose(10 + math.pi / 2 * 5) == pytest.approx((15, 5, math.pi / 2))
    assert lane.pose(lane.length) == pytest.approx((15, 8, math.pi / 2))
    assert lane.pose(-2.0) == pytest.approx((-2, 0, 0))
    part = lane.between(8.0, 14.0)
    assert part.length == pytest.approx(6)
    for s in (0.0, 1.0, 2.5, 6.0):
        assert part.pose(s) == pytest.approx(lane.pose(8 + s))


@settings(max_examples=60)
@given(st.floats(-3, 3), st.sampled_from([0.0, 1 / 30, -1 / 40]), st.floats(-6, 6), st.floats(0, 40), st.booleans())
def test_lanes_keep_their_distance_from_the_middle_of_curved_roads(heading, curvature, left, s, forwards):
    road = RoadStrip(3.0, -2.0, heading, curvature, 3, 3.4)
    lane = road.lane(left, forwards=forwards, reach=20)
    x, y, direction = lane.pose(min(s, lane.length))
    along, beside = road.coordinates(np.array([x]), np.array([y]))
    assert float(beside[0]) == pytest.approx(left, abs=1e-3)
    turned = curvature * float(along[0]) + heading + (0 if forwards else math.pi)
    assert math.remainder(direction - turned, 2 * math.pi) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_cameras_are_drawn_the_same_from_the_same_seed_and_see_their_lanes(scenario):
    for seed in range(6):
        camera = sample_camera(np.random.default_rng(seed), scenario)
        assert camera == sample_camera(np.random.default_rng(seed), scenario)
        assert pickle.loads(pickle.dumps(camera)) == camera
        assert len(pickle.dumps(camera)) < 5000
        pinhole = Pinhole(camera.position, camera.look_at, camera.focal, camera.frame_size, camera.roll)
        assert camera.lanes
        for lane in camera.lanes:
            assert lane.length >= 9
            ends = np.array([(*lane.pose(s)[:2], 0.7) for s in (0, lane.length / 2, lane.length)])
            x, y, nearness = pinhole.project(ends).T
            assert (nearness > 0).all()
            assert ((x > 0) & (x < camera.frame_size[0]) & (y > 0) & (y < camera.frame_size[1])).all()


def test_some_lanes_turn_into_the_side_road_and_then_follow_it():
    turns = 0
    for seed in range(40):
        camera = sample_camera(np.random.default_rng(seed), "day_a")
        for lane in camera.lanes:
            if len(lane.pieces) == 3 or (len(camera.roads) == 2 and len({bend for _, bend in lane.pieces}) > 1):
                turns += 1
                side = camera.roads[1]
                x, y, heading = lane.pose(lane.length)
                if lane.pieces[-1][1] == 0.0:
                    assert math.remainder(heading - side.heading, 2 * math.pi) == pytest.approx(0, abs=1e-6)
                    offset = float(side.coordinates(np.array([x]), np.array([y]))[1][0])
                    assert offset == pytest.approx(-side.lane_width / 2, abs=1e-3)
    assert turns >= 3


def test_there_are_several_seen_days_and_one_unseen_night():
    assert [name for name, scenario in SCENARIOS.items() if scenario.unseen] == ["night"]
    assert len(SCENARIOS) >= 4
    with pytest.raises(KeyError):
        sample_camera(np.random.default_rng(0), "monsoon")


def test_night_casts_differ_from_camera_to_camera_more_than_day_ones():
    def spread(scenario: str) -> float:
        gains = [sample_camera(np.random.default_rng(seed), scenario, lamp=seed).sensor.balance for seed in range(20)]
        return float(np.std(np.log(gains), axis=0).mean())

    assert spread("night") > 1.5 * spread("day_a")
