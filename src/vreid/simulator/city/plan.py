"""Plan a simulated world: cameras, roads, vehicles, and the passes of vehicles at cameras.

Nothing is rendered here. Times are UTC seconds of a fictitious day (`DAY`); all camera clocks are exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vreid.data.seeds import generator
from vreid.simulator.city.identities import draw_vehicles
from vreid.simulator.city.presets import Preset
from vreid.simulator.city.roads import RoadMap, build_roads
from vreid.simulator.render.camera import CameraSpec, sample_camera
from vreid.simulator.vehicle.vehicles import COLORS, TYPES, VehicleSpec

DAY = 1_767_571_200.0
"""Midnight (UTC) of the fictitious day, 5 January 2026."""
FIRST_HOUR = 9
"""Hour at which the first scene's recording starts; the next scene's starts an hour later."""
NEW_SCENE_HOUR = 21
"""Hour at which the new scene's recording starts."""
DEPARTURES = (10.0, 3600.0)
"""First and last departure of a trip in seconds after the start of its scene's recording."""
FRAMES_PER_SECOND = 10
"""Frame rate of every camera, as in CityFlow."""
NEW_SCENE = "new"
"""Name of the new scenario's scene; the others are scene1, scene2, ..."""


@dataclass(frozen=True)
class PlacedCamera:
    """A fixed camera: position on the city map in metres, scene, and rendering parameters.

    `part` is "seen" for cameras with training images, otherwise "new"; `video_start` is the time of frame 0.
    """

    name: str
    scene: str
    part: str
    x: float
    y: float
    video_start: float
    spec: CameraSpec


@dataclass(frozen=True)
class CameraPass:
    """One pass of a vehicle at a camera (`camera` indexes `World.cameras`), which gives one tracklet.

    `time` is the time at the middle of the view, `images` the planned number of images of the tracklet.
    """

    camera: int
    time: float
    images: int


@dataclass(frozen=True)
class Traveller:
    """An identity of the real-like set and its trip; `key` names its random streams, `split` is "train" or "test"."""

    identity: str
    split: str
    part: str
    key: tuple[str | int, ...]
    vehicle: VehicleSpec
    passes: tuple[CameraPass, ...]

    @property
    def images(self) -> int:
        """Number of planned images."""
        return sum(one.images for one in self.passes)


@dataclass(frozen=True)
class Posed:
    """An identity of the synthetic set; `key` names its random streams."""

    identity: str
    key: tuple[str | int, ...]
    vehicle: VehicleSpec
    images: int


@dataclass(frozen=True)
class World:
    """The complete plan of a world, before rendering; small and picklable."""

    preset: Preset
    seed: int
    cameras: tuple[PlacedCamera, ...]
    roads: RoadMap
    travellers: tuple[Traveller, ...]
    posed: tuple[Posed, ...]
    bystanders: tuple[VehicleSpec, ...]

    @property
    def images(self) -> int:
        """Number of planned images."""
        return sum(t.images for t in self.travellers) + sum(p.images for p in self.posed)


def plan_world(preset: Preset, seed: int, *, types: tuple[str, ...] = TYPES, colors: tuple[str, ...] = COLORS) -> World:
    """Plan the world `seed` of `preset`; vehicles of the real-like set are of `types` and `colors`.

    Every vehicle, camera, district and trip has its own random stream, so that additional identities (and
    `label_new_scene`) do not change existing ones. Vehicle i has the same type, colour, number of cameras and number of
    images in both parts of the test, so that the parts differ only in their cameras.
    """
    cameras, roads = _network(preset, seed)
    homes = [camera.scene for camera in cameras if camera.part == "seen"]
    extra = round(preset.train_identities * len(preset.new_cameras) / len(homes)) if preset.label_new_scene else 0
    train = draw_vehicles(seed, preset, "train", preset.train_identities + extra, types=types, colors=colors)
    parts = {"seen": homes[-1]} | ({"new": NEW_SCENE} if preset.new_scene else {})
    travellers: list[Traveller] = []

    def add(split: str, part: str, index: int, scene: str, vehicle: VehicleSpec) -> None:
        key = (split, part if split == "test" else "", index)
        identity = f"{len(travellers) + 1:04d}"
        passes = _trip(preset, seed, cameras, roads, key, scene)
        travellers.append(Traveller(identity, split, part, key, vehicle, passes))

    for index, vehicle in enumerate(train[: preset.train_identities]):
        add("train", "seen", index, homes[index % len(homes)], vehicle)
    for number, (part, scene) in enumerate(parts.items()):
        shift = number * (preset.models // 2)
        test = draw_vehicles(
            seed, preset, "test", preset.test_identities, part=part, model_shift=shift, types=types, colors=colors
        )
        for index, vehicle in enumerate(test):
            add("test", part, index, scene, vehicle)
    for index, vehicle in enumerate(train[preset.train_identities :], start=preset.train_identities):
        add("train", "new", index, NEW_SCENE, vehicle)

    posed = tuple(
        Posed(f"{index + 1:04d}", ("synthetic", index), vehicle, preset.synthetic_images)
        for index, vehicle in enumerate(draw_vehicles(seed, preset, "synthetic", preset.synthetic_identities))
    )
    bystanders = draw_vehicles(seed, preset, "bystander", preset.bystanders)
    return World(preset, seed, cameras, roads, tuple(travellers), posed, bystanders)


def _network(preset: Preset, seed: int) -> tuple[tuple[PlacedCamera, ...], RoadMap]:
    names = iter((*preset.seen_cameras, *preset.new_cameras))
    scenes = {f"scene{number}": scene for number, scene in enumerate(preset.scenes, start=1)}
    if preset.new_scene:
        scenes[NEW_SCENE] = preset.new_scene
    districts = {name: [next(names) for _ in range(scene.cameras)] for name, scene in scenes.items()}
    roads = build_roads(seed, districts)
    places = {junction.name: (junction.x, junction.y) for junction in roads.junctions}
    cameras = []
    for number, (scene, inside) in enumerate(districts.items()):
        new = scene == NEW_SCENE
        start = DAY + 3600.0 * (NEW_SCENE_HOUR if new else FIRST_HOUR + number)
        for lamp, name in enumerate(inside):
            # Neighbouring cameras get different kinds of street lamps, so that no night scene has a single colour.
            spec = sample_camera(generator(seed, "camera", name), scenes[scene].scenario, lamp)
            spec = replace(spec, looseness=spec.looseness * preset.looseness)
            cameras.append(PlacedCamera(name, scene, "new" if new else "seen", *places[name], start, spec))
    return tuple(cameras), roads


def _trip(
    preset: Preset, seed: int, cameras: tuple[PlacedCamera, ...], roads: RoadMap, key: tuple[str | int, ...], scene: str
) -> tuple[CameraPass, ...]:
    split, _, index = key
    shape = generator(seed, "trip shape", split, index)
    least, most = preset.train_frames if split == "train" else preset.test_frames
    stops = int(shape.integers(preset.cameras_per_trip[0], preset.cameras_per_trip[1] + 1))
    images = shape.integers(least, most + 1, stops)

    rng = generator(seed, "trip", *key)
    path = roads.draw_trip(rng, scene, stops)
    number = {camera.name: i for i, camera in enumerate(cameras)}
    here = cameras[number[roads.junctions[path[0]].name]]
    times = here.video_start + rng.uniform(*DEPARTURES) + roads.draw_times(rng, path)
    seen = [
        (number[roads.junctions[node].name], time)
        for node, time in zip(path, times, strict=True)
        if roads.junctions[node].has_camera
    ]
    return tuple(
        CameraPass(camera, float(np.round(time, 3)), int(count))
        for (camera, time), count in zip(seen, images, strict=True)
    )
