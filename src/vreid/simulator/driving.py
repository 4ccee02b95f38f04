"""LaneDrive planned passes through the view of a camera: positions of all vehicles at a time, without collisions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vreid.simulator.filming import overlap
from vreid.simulator.render.camera import Lane
from vreid.simulator.render.scene import CameraView, Placed
from vreid.simulator.vehicle.vehicles import Vehicle

FARTHEST = 60.0
"""Distance from the camera in metres beyond which vehicles are not drawn."""
STEP = 0.5
"""Metres between the positions at which a lane is tested for visibility."""
CHECK = 0.2
"""Seconds between the times at which vehicles are tested for collisions."""
DELAYS = tuple(0.6 * number for number in range(15))
"""Delays in seconds that are tried for a vehicle that would collide with an earlier one."""


@dataclass(frozen=True)
class LaneDrive:
    """A vehicle that drives along `lane` at constant speed, `middle` metres along it at `time` (UTC seconds).

    It can be in view between `first` and `last` (UTC seconds).
    """

    number: int
    vehicle: Vehicle
    lane: Lane
    middle: float
    time: float
    speed: float
    first: float
    last: float

    def at(self, time: float) -> Placed | None:
        """Return the position at a time, None while the vehicle is out of view."""
        if not self.first <= time <= self.last:
            return None
        return Placed(self.vehicle, *self.lane.pose(self.middle + self.speed * (time - self.time)))

    def later(self, seconds: float) -> LaneDrive:
        """Return the same drive `seconds` later."""
        return replace(self, time=self.time + seconds, first=self.first + seconds, last=self.last + seconds)


def drive_through(
    view: CameraView, number: int, vehicle: Vehicle, lane: int, time: float, speed: float
) -> LaneDrive | None:
    """Return the drive of a vehicle on a lane of a camera whose middle it passes at `time`; None: it is never seen."""
    way, part = view.camera.ways[lane], view.camera.lanes[lane]
    places = np.arange(0.0, way.length, STEP)
    middle = _place_on(way, part.pose(part.length / 2), places)
    seen = _visible(view, way, vehicle, places)
    start = round(middle / STEP)
    if not seen[start]:
        return None
    hidden = np.flatnonzero(~seen)
    low = int(hidden[hidden < start].max(initial=-1)) + 1
    high = int(hidden[hidden > start].min(initial=len(places))) - 1
    first, last = (time + (places[index] - middle) / speed for index in (low, high))
    return LaneDrive(number, vehicle, way, middle, time, speed, float(first), float(last))


def without_collisions(drives: Sequence[LaneDrive]) -> list[LaneDrive]:
    """Return the drives, later ones delayed where they would collide with earlier ones; left out if no delay helps."""
    kept: list[LaneDrive] = []
    for drive in sorted(drives, key=lambda drive: drive.first):
        for delay in DELAYS:
            delayed = drive.later(delay)
            if not any(_collide(delayed, other) for other in kept):
                kept.append(delayed)
                break
    return kept


def _place_on(way: Lane, pose: tuple[float, float, float], places: NDArray[np.float64]) -> float:
    gaps = [math.hypot(x - pose[0], y - pose[1]) for x, y, _ in (way.pose(float(place)) for place in places)]
    return float(places[int(np.argmin(gaps))])


def _visible(view: CameraView, way: Lane, vehicle: Vehicle, places: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return (len(places),): whether a vehicle at each place reaches into the frame and is not too far away."""
    length, width, height = vehicle.size
    corners = np.array([(i * length / 2, j * width / 2, k) for i in (-1, 1) for j in (-1, 1) for k in (0.0, height)])
    seen = np.zeros(len(places), bool)
    for index, place in enumerate(places.tolist()):
        x, y, heading = way.pose(place)
        cos, sin = math.cos(heading), math.sin(heading)
        turned = corners @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) + (x, y, 0)
        pixels = view.pinhole.project(turned)
        if float(pixels[:, 2].min()) <= 0 or float(pixels[:, 2].max()) < 1 / FARTHEST:
            continue
        low, high = pixels[:, :2].min(axis=0), pixels[:, :2].max(axis=0)
        seen[index] = bool((low < view.camera.frame_size).all() and (high > 0).all())
    return seen


def _collide(one: LaneDrive, two: LaneDrive) -> bool:
    start, end = max(one.first, two.first), min(one.last, two.last)
    for time in np.arange(start, end, CHECK).tolist():
        here, there = one.at(time), two.at(time)
        if here is not None and there is not None and overlap(here, there):
            return True
    return False
