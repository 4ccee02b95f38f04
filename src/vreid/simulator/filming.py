"""Render the planned passes of vehicles at cameras, with other traffic, frame by frame."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from vreid.data.seeds import generator
from vreid.simulator.city.plan import FRAMES_PER_SECOND, CameraPass, PlacedCamera, Posed, Traveller, World
from vreid.simulator.render.camera import Lane
from vreid.simulator.render.scene import CameraView, Cut, Placed, Shot
from vreid.simulator.render.synthetic import SyntheticShot, shoot_synthetic
from vreid.simulator.vehicle.vehicles import Vehicle, VehicleSpec, build_vehicle

WINDOW = (7.0, 18.0)
"""Minimum and maximum length in metres, around the middle of the view, over which the images of a pass are taken."""
SPEED = (3.0, 13.0)
"""Minimum and maximum speed through a view in m/s."""
NEIGHBOUR_SHARE = 0.45
"""Probability of a vehicle on another lane."""
QUEUE_SHARE = 0.30
"""Probability of a vehicle ahead or behind on the same lane."""
CUT_SHARE = 0.06
"""Probability that a box contains only part of the vehicle."""
CUT_EDGES = {"bottom": 0.45, "left": 0.2, "right": 0.2, "top": 0.15}
"""Probability of each cut edge: mostly the bottom, because of the next vehicle or the border of the frame."""
CUT_DEPTH = (0.15, 0.45)
"""Minimum and maximum share of the box that is cut off."""
ATTEMPTS = 6
"""Maximum attempts per pass (with another lane, speed and neighbours) when too few frames are usable; the last one is
without other vehicles."""
TRIES = 3
"""Number of frames tried near each planned image before falling back to any frame of the pass."""


@dataclass(frozen=True)
class Take:
    """One usable frame: its number in the camera's video, and the rendered shot."""

    frame: int
    shot: Shot


@dataclass(frozen=True)
class _Drive:
    """A vehicle on a lane, at `place` metres along it when the target is in the middle of the view."""

    vehicle: Vehicle
    lane: Lane
    place: float
    speed: float

    def at(self, seconds: float) -> Placed:
        """Return the position `seconds` after the target's pass; lanes continue straight beyond their ends."""
        return Placed(self.vehicle, *self.lane.pose(self.place + self.speed * seconds))


@dataclass
class Studio:
    """Renderer of a world's images, with cached views and bystanders; one per process."""

    world: World
    _views: dict[str, CameraView] = field(default_factory=dict)
    _bystanders: dict[VehicleSpec, Vehicle] = field(default_factory=dict)

    def film(self, traveller: Traveller) -> Iterator[tuple[int, list[Take]]]:
        """Yield the number and the takes, in order of time, of each pass of a traveller's trip.

        A pass with unusable frames (occluded, out of view) has fewer takes than planned, or none.
        """
        vehicle = build_vehicle(traveller.vehicle, plate=self.world.preset.plate)
        for number, camera_pass in enumerate(traveller.passes):
            takes: list[Take] = []
            for attempt in range(ATTEMPTS):
                key = ("passage", *traveller.key, number, attempt)
                retake = self._film_pass(vehicle, camera_pass, key, alone=attempt == ATTEMPTS - 1)
                takes = max(takes, retake, key=len)
                if len(takes) == camera_pass.images:
                    break
            yield number, takes

    def pose(self, posed: Posed) -> Iterator[SyntheticShot]:
        """Yield the synthetic images of one identity."""
        preset = self.world.preset
        vehicle = build_vehicle(posed.vehicle, plate=preset.plate)
        for number in range(posed.images):
            rng = generator(self.world.seed, "pose", *posed.key, number)
            yield shoot_synthetic(vehicle, rng, longest_side=preset.longest_side, background=preset.background)

    def _film_pass(
        self, vehicle: Vehicle, camera_pass: CameraPass, key: tuple[str | int, ...], *, alone: bool
    ) -> list[Take]:
        camera = self.world.cameras[camera_pass.camera]
        preset = self.world.preset
        rng = generator(self.world.seed, *key)
        lane = camera.spec.lanes[int(rng.integers(len(camera.spec.lanes)))]
        window = min(rng.uniform(*WINDOW), lane.length)
        # Slow enough for the planned number of distinct frames.
        speed = min(rng.uniform(*SPEED), window * FRAMES_PER_SECOND / (camera_pass.images + 1))
        middle = lane.length / 2 + rng.uniform(-0.1, 0.1) * window
        target = _Drive(vehicle, lane, middle, speed)
        others = [] if alone else self._others(rng, camera, target)

        # Frames with the vehicle inside the window, split into one interval per image.
        passed = (camera_pass.time - camera.video_start) * FRAMES_PER_SECOND
        reach = window / 2 / speed * FRAMES_PER_SECOND
        frames = np.arange(math.ceil(passed - reach), math.floor(passed + reach) + 1)
        runs = [rng.permutation(run).tolist() for run in np.array_split(frames, camera_pass.images)]
        spare = rng.permutation([frame for run in runs for frame in run[TRIES:]]).tolist()
        view = self._view(camera)

        def shoot(frame: int) -> Shot | None:
            seconds = (frame - passed) / FRAMES_PER_SECOND
            placed = target.at(seconds)
            around: list[Placed] = []
            for other in (drive.at(seconds) for drive in others):
                if not any(overlap(other, there) for there in (placed, *around)):
                    around.append(other)
            return view.shoot(
                placed,
                around,
                generator(self.world.seed, *key, "frame", frame),
                longest_side=preset.longest_side,
                cut=_cut(generator(self.world.seed, *key, "cut", frame)),
                background=preset.background,
            )

        takes: dict[int, Shot] = {}
        for run in runs:
            takes |= _first_usable(run[:TRIES], shoot, 1)
        missing = camera_pass.images - len(takes)
        takes |= _first_usable(spare, shoot, missing)
        return [Take(frame, takes[frame]) for frame in sorted(takes)]

    def _others(self, rng: np.random.Generator, camera: PlacedCamera, target: _Drive) -> list[_Drive]:
        """Draw the vehicles around the target: one on another lane, one ahead or behind, both, or none."""
        drives = []
        neighbour, queue = rng.random(2) < (NEIGHBOUR_SHARE, QUEUE_SHARE)
        pool = self.world.bystanders
        others = [lane for lane in camera.spec.lanes if lane is not target.lane]
        if neighbour and others and pool:
            lane = others[int(rng.integers(len(others)))]
            beside = _nearest(lane, target.at(0.0)) + rng.uniform(-7.0, 7.0)
            vehicle = self._bystander(pool[int(rng.integers(len(pool)))])
            drives.append(_Drive(vehicle, lane, beside, target.speed * rng.uniform(0.6, 1.3)))
        if queue and pool:
            vehicle = self._bystander(pool[int(rng.integers(len(pool)))])
            gap = (vehicle.size[0] + target.vehicle.size[0]) / 2 + rng.uniform(1.2, 5.0)
            drives.append(_Drive(vehicle, target.lane, target.place + rng.choice((-1, 1)) * gap, target.speed))
        return drives

    def _view(self, camera: PlacedCamera) -> CameraView:
        if camera.name not in self._views:
            self._views[camera.name] = CameraView(camera.spec)
        return self._views[camera.name]

    def _bystander(self, spec: VehicleSpec) -> Vehicle:
        if spec not in self._bystanders:
            self._bystanders[spec] = build_vehicle(spec, plate=self.world.preset.plate)
        return self._bystanders[spec]


def _cut(rng: np.random.Generator) -> Cut | None:
    """Draw a partial box as of a tracker; usually None."""
    if rng.random() >= CUT_SHARE:
        return None
    return Cut(str(rng.choice(list(CUT_EDGES), p=list(CUT_EDGES.values()))), float(rng.uniform(*CUT_DEPTH)))


def _first_usable(frames: Sequence[int], shoot: Callable[[int], Shot | None], count: int) -> dict[int, Shot]:
    """Return the first `count` usable `frames`, or fewer."""
    found: dict[int, Shot] = {}
    for frame in frames:
        if len(found) == count:
            break
        shot = shoot(frame)
        if shot is not None:
            found[frame] = shot
    return found


def _nearest(lane: Lane, placed: Placed) -> float:
    """Return the position on `lane` nearest to a vehicle, to half a metre."""
    places = np.arange(0.0, lane.length, 0.5)
    gaps = [math.hypot(x - placed.x, y - placed.y) for x, y, _ in (lane.pose(float(s)) for s in places)]
    return float(places[int(np.argmin(gaps))])


def overlap(one: Placed, two: Placed) -> bool:
    """Whether two vehicles, approximated by discs along their axes, are less than half a metre apart."""
    gaps = np.linalg.norm(_discs(one)[:, None] - _discs(two)[None], axis=2)
    return bool(gaps.min() < (one.vehicle.size[1] + two.vehicle.size[1]) / 2 + 0.5)


def _discs(placed: Placed) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    length, width, _ = placed.vehicle.size
    reach = max(length - width, 0.0) / 2
    along = np.linspace(-reach, reach, max(2, math.ceil(length / width)))
    return np.stack([placed.x + along * math.cos(placed.heading), placed.y + along * math.sin(placed.heading)], axis=1)
