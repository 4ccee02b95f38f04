"""Whole frames: windows over the empty road give the picture that one window of the whole frame would give."""

from __future__ import annotations

import numpy as np
import pytest

from vreid.data.seeds import generator
from vreid.simulator.render.camera import sample_camera
from vreid.simulator.render.scene import CameraView, Placed
from vreid.simulator.render.video_frames import VideoView
from vreid.simulator.vehicle.vehicles import VehicleSpec, build_vehicle

SEDAN = VehicleSpec("sedan", "red", 1, 1)


@pytest.fixture(scope="module", params=["day_a", "day_b"])
def view(request: pytest.FixtureRequest) -> VideoView:
    return VideoView(CameraView(sample_camera(generator(5, "camera"), request.param)), 320, generator(5, "noise"))


@pytest.fixture(scope="module")
def placed(view: VideoView) -> Placed:
    lane = view.view.camera.lanes[0]
    return Placed(build_vehicle(SEDAN), *lane.pose(lane.length / 2))


def test_an_empty_frame_shows_the_same_road_each_time(view: VideoView) -> None:
    one, none = view.render([], generator(5, "a"))
    other, _ = view.render([], generator(5, "b"))
    width, height = view.size
    assert one.shape == (height, width, 3) and none == []
    assert 0 < np.abs(one.astype(int) - other).mean() < 12  # noise alone
    again, _ = view.render([], generator(5, "a"))
    np.testing.assert_array_equal(one, again)


def test_a_vehicle_changes_its_surroundings_only(view: VideoView, placed: Placed) -> None:
    empty, _ = view.render([], generator(5, "a"))
    frame, (seen,) = view.render([placed], generator(5, "a"))
    assert seen is not None and seen.visibility > 0.6
    x1, y1, x2, y2 = (round(side) for side in seen.box)
    change = np.abs(frame.astype(int) - empty).max(axis=2)
    inside = change[max(y1, 0) : y2, max(x1, 0) : x2]
    assert (inside > 10).mean() > 0.4
    far = change.copy()
    wide, high = x2 - x1, y2 - y1
    far[max(y1 - high, 0) : y2 + high, max(x1 - wide, 0) : x2 + wide] = 0
    assert far.max() == 0


def test_a_window_has_no_edges(view: VideoView, placed: Placed) -> None:
    """A far smaller vehicle elsewhere does not change how the first one is drawn."""
    alone, _ = view.render([placed], generator(5, "a"))
    lane = view.view.camera.lanes[0]
    beside = Placed(placed.vehicle, *lane.pose(lane.length / 2 + 9.0))
    both, (seen, other) = view.render([placed, beside], generator(5, "a"))
    assert seen is not None
    if other is not None:
        x1, y1, x2, y2 = (round(side) for side in seen.box)
        x3, _, x4, _ = other.box
        clear = (np.arange(x1, x2) < x3 - 8) | (np.arange(x1, x2) > x4 + 8)
        difference = np.abs(both.astype(int) - alone)[max(y1, 0) : y2, x1:x2][:, clear]
        assert not difference.size or np.median(difference) <= 1


def test_the_nearer_vehicle_hides_the_farther_one(view: VideoView, placed: Placed) -> None:
    eye = np.array(view.view.camera.position[:2])
    towards = (np.array([placed.x, placed.y]) - eye) / np.linalg.norm(np.array([placed.x, placed.y]) - eye)
    behind = Placed(placed.vehicle, placed.x + 2.6 * towards[0], placed.y + 2.6 * towards[1], placed.heading)
    _, (front, back) = view.render([placed, behind], generator(5, "a"))
    assert front is not None and back is not None
    assert back.visibility < front.visibility
    _, (none,) = view.render([Placed(placed.vehicle, *eye, placed.heading)], generator(5, "a"))
    assert none is None
