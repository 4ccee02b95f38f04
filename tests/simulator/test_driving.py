"""Vehicles drive through a view from border to border and do not collide."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from vreid.data.seeds import generator
from vreid.simulator.driving import FARTHEST, LaneDrive, drive_through, without_collisions
from vreid.simulator.filming import overlap
from vreid.simulator.render.camera import sample_camera
from vreid.simulator.render.scene import CameraView

CAR = SimpleNamespace(size=(4.5, 1.8, 1.5))


@pytest.fixture(scope="module")
def view() -> CameraView:
    return CameraView(sample_camera(generator(2, "camera"), "day_b"))


def test_a_drive_crosses_the_view(view: CameraView) -> None:
    for lane in range(len(view.camera.lanes)):
        drive = drive_through(view, 0, CAR, lane, 1000.0, 8.0)
        assert drive is not None and drive.first < 1000.0 < drive.last
        assert drive.at(drive.first - 0.01) is None and drive.at(drive.last + 0.01) is None
        there = drive.at(1000.0)
        assert there is not None
        part = view.camera.lanes[lane]
        assert np.hypot(there.x - part.pose(part.length / 2)[0], there.y - part.pose(part.length / 2)[1]) < 0.5
        inside = []
        for time in (drive.first, 1000.0, drive.last):
            at = drive.at(time)
            assert at is not None
            (x, y, nearness) = view.pinhole.project(np.array([[at.x, at.y, 0.7]]))[0]
            assert 1 / nearness < FARTHEST + 5
            inside.append(0 < x < view.camera.frame_size[0] and 0 < y < view.camera.frame_size[1])
        assert inside[1]


def test_later_vehicles_wait_for_earlier_ones(view: CameraView) -> None:
    wanted = [drive_through(view, number, CAR, 0, 1000.0 + 0.4 * number, 8.0) for number in range(4)]
    drives = without_collisions([drive for drive in wanted if drive is not None])
    assert [drive.number for drive in drives] == [0, 1, 2, 3]
    assert drives[0].time == 1000.0 and drives[3].time > 1001.2
    for time in np.arange(drives[0].first, drives[-1].last, 0.1):
        there = [placed for drive in drives if (placed := drive.at(time)) is not None]
        assert not any(overlap(a, b) for i, a in enumerate(there) for b in there[:i])


def test_a_vehicle_that_finds_no_gap_is_left_out(view: CameraView) -> None:
    first = drive_through(view, 0, CAR, 0, 1000.0, 8.0)
    assert first is not None
    parked = LaneDrive(0, CAR, first.lane, first.middle, 1000.0, 1e-6, 0.0, 1e5)
    assert [drive.number for drive in without_collisions([parked, first.later(5.0)])] == [0]
