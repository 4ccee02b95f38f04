"""Plan the videos of a small city: cameras with clocks, vehicles, and the times at which they pass the cameras."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from vreid.data.seeds import generator
from vreid.errors import named
from vreid.ranges import bounds, check_settings, in_range
from vreid.simulator.city.identities import draw_vehicles
from vreid.simulator.city.plan import DAY, FIRST_HOUR
from vreid.simulator.city.presets import PRESETS
from vreid.simulator.city.roads import RoadMap, build_roads
from vreid.simulator.render.camera import CameraSpec, Lane, sample_camera
from vreid.simulator.vehicle.vehicles import VehicleSpec

Double = NDArray[np.float64]

START = DAY + 3600.0 * FIRST_HOUR
"""Time at which the videos start, UTC seconds."""
DISTRICT = "scene1"
"""Name of the only district."""
ONE_CAMERA = 0.25
"""Share of vehicles that pass one camera only."""
SPEED = (5.0, 10.0)
"""Minimum and maximum speed past a camera in m/s."""
TURNING_SPEED = 6.0
"""Maximum speed of a turning vehicle in m/s."""
LANE_CHOICE = 3.0
"""How strictly vehicles use the lane that leads where they go: exponent of the fit of directions, -2 to 2."""
START_SPREAD = 0.9
"""Cameras start up to so many seconds after `START`."""


@dataclass(frozen=True)
class VideoPreset:
    """Size of a set of videos, without the seed.

    Attributes:
        name: name of the preset.
        scenarios: weather and light of the cameras in turn, daylight scenarios of `camera.SCENARIOS`.
        cameras: number of cameras.
        seconds: length of each video.
        frame_rate: frames per second.
        width: of the frames in pixels.
        vehicles: number of vehicles that pass one camera or more.
        cameras_per_trip: most cameras that a vehicle passes.
        block: mean distance of neighbouring junctions in metres.
        wrong_clocks: number of cameras whose clock is wrong.
        clock_error: largest error of a clock in seconds.
        look_alike_share: probability that a vehicle copies type, colour and model of an earlier one.
        models: number of car models of each vehicle type.
    """

    name: str
    scenarios: tuple[str, ...]
    cameras: int = field(metadata=bounds(least=2, most=99))
    seconds: float = field(metadata=bounds(least=5, most=3600))
    frame_rate: int = field(metadata=bounds(least=1, most=30))
    width: int = field(metadata=bounds(least=320, most=1280))
    vehicles: int = field(metadata=bounds(least=1))
    cameras_per_trip: int = field(metadata=bounds(least=2))
    block: float = in_range(160.0, least=20, most=1000)
    wrong_clocks: int = in_range(2, least=0)
    clock_error: float = in_range(5.0, least=0, most=600)
    look_alike_share: float = in_range(0.2, least=0, most=1)
    models: int = in_range(12, least=1)

    def __post_init__(self) -> None:
        check_settings(self, f"preset {self.name!r}: ")


VIDEO_PRESETS = {
    preset.name: preset
    for preset in (
        VideoPreset(
            name="tiny",
            scenarios=("day_a",),
            cameras=3,
            seconds=20.0,
            frame_rate=4,
            width=480,
            vehicles=8,
            cameras_per_trip=2,
            block=60.0,
            wrong_clocks=1,
            clock_error=3.0,
        ),
        VideoPreset(
            name="demo",
            scenarios=("day_a", "day_b"),
            cameras=5,
            seconds=90.0,
            frame_rate=5,
            width=640,
            vehicles=45,
            cameras_per_trip=4,
        ),
        VideoPreset(
            name="city",
            scenarios=("day_a", "day_b", "day_d"),
            cameras=12,
            seconds=300.0,
            frame_rate=8,
            width=640,
            vehicles=300,
            cameras_per_trip=6,
            wrong_clocks=4,
        ),
    )
}
"""Presets of the layout "videos" by name."""


@dataclass(frozen=True)
class VideoCamera:
    """A camera that films: place on the map in metres, `start` of its video in UTC seconds, clock error.

    `offset` are the seconds to add to a time of the camera's clock to get the true time.
    """

    name: str
    x: float
    y: float
    start: float
    offset: float
    spec: CameraSpec

    @property
    def heading(self) -> float:
        """Viewing direction in degrees, clockwise from north."""
        (x, y, _), (to_x, to_y) = self.spec.position, self.spec.look_at[:2]
        return math.degrees(math.atan2(to_x - x, to_y - y)) % 360.0


@dataclass(frozen=True)
class VideoPass:
    """A vehicle's pass at a camera: the lane it wants, the time at its middle in UTC seconds, its speed in m/s."""

    vehicle: int
    lane: int
    time: float
    speed: float


@dataclass(frozen=True)
class VideoCity:
    """The complete plan of a set of videos, before rendering; `passes` are by camera, in order of time."""

    preset: VideoPreset
    seed: int
    cameras: tuple[VideoCamera, ...]
    roads: RoadMap
    vehicles: tuple[VehicleSpec, ...]
    passes: tuple[tuple[VideoPass, ...], ...]

    @property
    def frames(self) -> int:
        """Number of frames of each video."""
        return round(self.preset.seconds * self.preset.frame_rate)


def video_preset_named(name: str) -> VideoPreset:
    """Return the preset of videos called `name`.

    Raises:
        InputError: unknown name; the message suggests the nearest.
    """
    return named("preset", VIDEO_PRESETS, name)


def plan_videos(preset: VideoPreset, seed: int) -> VideoCity:
    """Plan the videos `seed` of `preset`. Every camera, vehicle and trip has its own random stream."""
    names = [f"c{number:03d}" for number in range(1, preset.cameras + 1)]
    roads = build_roads(seed, {DISTRICT: names})
    roads = roads.scaled(preset.block / float(np.mean([road.length for road in roads.roads])))
    places = {junction.name: (junction.x, junction.y) for junction in roads.junctions}
    wrong = set(generator(seed, "wrong clocks").permutation(preset.cameras)[: preset.wrong_clocks].tolist())
    cameras = []
    for number, name in enumerate(names):
        rng = generator(seed, "video camera", name)
        spec = sample_camera(rng, preset.scenarios[number % len(preset.scenarios)])
        start = START + round(rng.uniform(0, START_SPREAD), 3)
        error = float(rng.choice([-1, 1]) * rng.uniform(0.3, 1.0) * preset.clock_error)
        offset = round(error, 1) if number in wrong else 0.0
        cameras.append(VideoCamera(name, *places[name], start, offset, spec))

    kinds = replace(PRESETS["demo"], look_alike_share=preset.look_alike_share, models=preset.models)
    vehicles = draw_vehicles(seed, kinds, "video", preset.vehicles)
    passes: list[list[VideoPass]] = [[] for _ in cameras]
    for vehicle in range(len(vehicles)):
        for camera, one in _trip(preset, seed, cameras, roads, vehicle):
            passes[camera].append(one)
    ordered = tuple(tuple(sorted(some, key=lambda one: one.time)) for some in passes)
    return VideoCity(preset, seed, tuple(cameras), roads, vehicles, ordered)


def _trip(
    preset: VideoPreset, seed: int, cameras: list[VideoCamera], roads: RoadMap, vehicle: int
) -> list[tuple[int, VideoPass]]:
    """Draw the trip of a vehicle inside the length of the videos: its passes with the indices of their cameras."""
    rng = generator(seed, "video trip", vehicle)
    single = rng.random() < ONE_CAMERA
    stops = 1 if single else int(rng.integers(2, min(preset.cameras_per_trip, len(cameras)) + 1))
    path = roads.draw_trip(rng, DISTRICT, stops)
    times = roads.draw_times(rng, path)
    latest = max(preset.seconds - 3.0 - float(times[-1]), 6.0)
    times = START + rng.uniform(3.0, latest) + times
    number = {camera.name: index for index, camera in enumerate(cameras)}
    joints = [roads.junctions[node] for node in path]
    arriving, leaving = _directions(rng, np.array([(joint.x, joint.y) for joint in joints]))
    passes = []
    for place, (joint, time) in enumerate(zip(joints, times.tolist(), strict=True)):
        speed = float(rng.uniform(*SPEED))
        if not joint.has_camera:
            continue
        camera = number[joint.name]
        ways = cameras[camera].spec.ways
        fits = np.array([_fit(way, arriving[place], leaving[place]) for way in ways])
        weights = np.exp(LANE_CHOICE * (fits - fits.max()))
        lane = int(rng.choice(len(ways), p=weights / weights.sum()))
        turning = any(abs(curvature) > 1 / 20 for _, curvature in ways[lane].pieces)
        speed = min(speed, TURNING_SPEED) if turning else speed
        passes.append((camera, VideoPass(vehicle, lane, round(time, 3), round(speed, 2))))
    return passes


def _directions(rng: np.random.Generator, points: Double) -> tuple[Double, Double]:
    """Return the directions in radians in which a vehicle reaches and leaves each of `points` (N, 2) of its path."""
    if len(points) == 1:
        anywhere = rng.uniform(-math.pi, math.pi, 1)
        return anywhere, anywhere
    steps = np.diff(points, axis=0)
    headings = np.arctan2(steps[:, 1], steps[:, 0])
    return np.append(headings[:1], headings), np.append(headings, headings[-1:])


def _fit(way: Lane, arriving: float, leaving: float) -> float:
    """Return how well a lane leads from one direction into another, -2 to 2."""
    return math.cos(way.heading - arriving) + math.cos(way.pose(way.length)[2] - leaving)
