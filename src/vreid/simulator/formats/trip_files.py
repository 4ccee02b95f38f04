"""Write a day of traffic as images of tracklets with times, for linking tracklets into trips, and the truth.

images.csv             path, camera, tracklet, frame, time by the camera's clock; no identity
images/c001/00017_1.jpg
cameras.csv            camera, latitude, longitude, heading
truth.csv              the vehicle of each tracklet ("c001/17"), with true times; merged_with: a second vehicle in it
truth_trips.csv        every pass of every trip at a camera, recorded or not
truth_od.csv           trips by first and last camera
truth_travel_times.csv travel times between cameras passed one after the other, by hour
clocks.csv             seconds to add to the times of each camera's clock
simulator.json
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from vreid.data.seeds import generator
from vreid.files import write_text
from vreid.progress import Progress
from vreid.simulator.city.earth import latitude_longitude
from vreid.simulator.city.identities import draw_vehicles
from vreid.simulator.city.observation import SECONDS_A_DAY, ObservedTracklets, observe
from vreid.simulator.city.plan import DAY, FRAMES_PER_SECOND, CameraPass, PlacedCamera, Traveller, World
from vreid.simulator.city.presets import PRESETS, Preset
from vreid.simulator.city.roads import RoadMap
from vreid.simulator.city.streets import Float, Ints
from vreid.simulator.city.traffic import HOUR, Traffic, TrafficPreset, plan_traffic
from vreid.simulator.formats.label_files import Row, table
from vreid.simulator.formats.output_folder import Write
from vreid.simulator.formats.workers import RenderedImage, render_all
from vreid.simulator.render.camera import sample_camera
from vreid.simulator.vehicle.vehicles import COLORS, TYPES

TRIPS = "trips"
"""Name of the layout."""
LIGHTS = ((0.0, "day_c"), (10.0, "day_a"), (16.0, "day_d"))
"""Light of the day: the scenario of `camera.SCENARIOS` from each hour on."""
IMAGES = "images"
_RAW = "raw"

IMAGE_COLUMNS = ("path", "camera", "tracklet", "frame", "time")
CAMERA_COLUMNS = ("camera", "latitude", "longitude", "heading")
TRUTH_COLUMNS = ("camera", "tracklet", "vehicle", "trip", "start", "end", "merged_with")
TRIP_COLUMNS = ("trip", "vehicle", "order", "camera", "start", "end", "tracklets")
TRAVEL_COLUMNS = ("from", "to", "hour", "count", "mean", "p15", "median", "p85")


@dataclass(frozen=True)
class TripWriter:
    """Writes a day of traffic as images of tracklets."""

    preset: TrafficPreset
    seed: int

    def missing(self, out: Path, counts: dict[str, int]) -> str | None:
        """Return whether `out` lacks images or has too many; None: neither."""
        files = sum(name.endswith(".jpg") for _, _, names in os.walk(out / IMAGES) for name in names)
        return None if files == counts.get("images") else f"{out}: has {files} images instead of {counts.get('images')}"

    def planned(self) -> Write:
        """Plan the traffic; return the function that writes it."""
        return partial(_write_trips, planned_traffic(self.preset, self.seed))


def planned_traffic(preset: TrafficPreset, seed: int) -> Traffic:
    """Return the traffic of the world `seed` of the layout, without rendering it."""
    return plan_traffic(preset, int(generator(seed, "layout", TRIPS).integers(2**63)))


@dataclass(frozen=True)
class _Piece:
    """The images of one pass that belong to a tracklet: `number` of the tracklet, `count` images from `first` on."""

    tracklet: int
    first: int
    count: int


def _write_trips(
    traffic: Traffic, folder: Path, workers: int | None, progress: Progress | None
) -> tuple[dict[str, int], dict[str, str]]:
    """Render the tracklets of a day of traffic into `folder`; return counts, and digests of its files."""
    tracklets = observe(traffic)
    pieces = _pieces(traffic, tracklets)
    world, shown = _world(traffic, tracklets, pieces)
    raw = folder / _RAW
    raw.mkdir()
    images: dict[int, list[RenderedImage]] = defaultdict(list)
    for traveller_passes, made in zip(shown, render_all(world, raw, workers, progress), strict=True):
        for number, pass_index in enumerate(traveller_passes):
            takes = [image for image in made if image.pass_index == number]
            for piece in pieces[pass_index]:
                images[piece.tracklet] += takes[piece.first : piece.first + piece.count]
    rows, digests = _place(traffic, tracklets, images, raw, folder)
    shutil.rmtree(raw)
    texts = {
        "images.csv": table(IMAGE_COLUMNS, rows),
        "cameras.csv": table(CAMERA_COLUMNS, _camera_rows(traffic, world)),
        "clocks.csv": table(("camera", "offset", "drift_per_day"), _clock_rows(traffic, tracklets)),
        **truth_tables(traffic, tracklets, recorded=images),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
        digests[name] = hashlib.sha256(text.encode()).hexdigest()
    counts = {
        "cameras": traffic.preset.cameras,
        "images": len(rows),
        "tracklets": sum(map(bool, images.values())),
        "passes": len(traffic.passes),
        "trips": len(np.unique(traffic.passes.journey)),
        "vehicles": len(np.unique(traffic.vehicle)),
    }
    return counts, digests


def _pieces(traffic: Traffic, tracklets: ObservedTracklets) -> dict[int, list[_Piece]]:
    """Return what each rendered pass gives to which tracklets."""
    least, most = traffic.preset.images
    wanted = generator(traffic.seed, "images").integers(least, most + 1, (len(traffic.passes), 2))
    pieces: dict[int, list[_Piece]] = defaultdict(list)
    for number, (one, part, other) in enumerate(
        zip(tracklets.pass_index.tolist(), tracklets.part.tolist(), tracklets.other.tolist(), strict=True)
    ):
        before, after = wanted[one].tolist()
        pieces[one].append(_Piece(number, before, after) if part == 2 else _Piece(number, 0, before))
        if other >= 0:
            pieces[other].append(_Piece(number, 0, 1))
    return dict(pieces)


def _world(
    traffic: Traffic, tracklets: ObservedTracklets, pieces: Mapping[int, Sequence[_Piece]]
) -> tuple[World, list[list[int]]]:
    """Return the world to render, and the passes of each of its travellers.

    A camera of the world is a camera in the light of an hour; it keeps its view, lens and surroundings all day.
    """
    preset, seed = traffic.preset, traffic.seed
    kinds = _appearance(preset)
    fleet = {"types": ("van",), "colors": ("white",)} if preset.white_vans else {"types": TYPES, "colors": COLORS}
    vehicles = draw_vehicles(seed, kinds, "traffic", preset.vehicles, **fleet)
    hours = (traffic.passes.time - DAY) / HOUR
    light = np.searchsorted([hour for hour, _ in LIGHTS], hours, side="right") - 1
    places = {name: index for index, name in enumerate(traffic.streets.names)}
    cameras = []
    for name in traffic.streets.cameras:
        spec = sample_camera(generator(seed, "camera", name), LIGHTS[0][1])
        x, y = traffic.streets.xy[places[name]].tolist()
        for _, scenario in LIGHTS:
            cameras.append(
                PlacedCamera(f"{name} {scenario}", TRIPS, "seen", x, y, preset.day[0], replace(spec, scenario=scenario))
            )

    seen: dict[int, list[int]] = defaultdict(list)
    for index in sorted(pieces):
        seen[int(traffic.vehicle[index])].append(index)
    travellers = tuple(
        Traveller(
            identity=vehicle_name(vehicle),
            split="test",
            part="seen",
            key=("traffic", vehicle),
            vehicle=vehicles[vehicle],
            passes=tuple(
                CameraPass(
                    int(traffic.passes.camera[index]) * len(LIGHTS) + int(light[index]),
                    float(traffic.passes.time[index]),
                    max(piece.first + piece.count for piece in pieces[index]),
                )
                for index in shown
            ),
        )
        for vehicle, shown in sorted(seen.items())
    )
    bystanders = draw_vehicles(seed, kinds, "bystander", preset.bystanders)
    world = World(kinds, seed, tuple(cameras), RoadMap((), ()), travellers, (), bystanders)
    return world, [shown for _, shown in sorted(seen.items())]


def _appearance(preset: TrafficPreset) -> Preset:
    """Return the settings of rendering as a preset; its scenes are not used."""
    return replace(
        PRESETS["demo"],
        name=preset.name,
        longest_side=preset.longest_side,
        models=preset.models,
        bystanders=preset.bystanders,
        look_alike_share=preset.look_alike_share,
    )


def vehicle_name(vehicle: int) -> str:
    """Return the name of a vehicle, counted from 1."""
    return f"{vehicle + 1:04d}"


def tracklet_names(traffic: Traffic, tracklets: ObservedTracklets) -> list[str]:
    """Return the names of tracklets: camera and track id, "c001/17"."""
    cameras = traffic.streets.cameras
    return [
        f"{cameras[camera]}/{number}"
        for camera, number in zip(tracklets.camera.tolist(), tracklets.number.tolist(), strict=True)
    ]


def _place(
    traffic: Traffic, tracklets: ObservedTracklets, images: Mapping[int, list[RenderedImage]], raw: Path, folder: Path
) -> tuple[list[Row], dict[str, str]]:
    """Move the images to their folders; return the rows of images.csv and the digests."""
    rows, digests = [], {}
    for name in traffic.streets.cameras:
        (folder / IMAGES / name).mkdir(parents=True)
    names = tracklet_names(traffic, tracklets)
    shift = tracklets.observed_start - tracklets.clock(tracklets.camera, tracklets.start)  # not 0 if shuffled
    for number, name in enumerate(names):
        camera, _, track = name.partition("/")
        taken = sorted(images.get(number, []), key=lambda image: int(image.row["frame"]))
        for place, image in enumerate(taken, start=1):
            path = f"{IMAGES}/{camera}/{int(track):05d}_{place}.jpg"
            (raw / image.file).rename(folder / path)
            digests[path] = image.digest
            frame = int(image.row["frame"])
            true = traffic.preset.day[0] + frame / FRAMES_PER_SECOND
            time = float(tracklets.clock(tracklets.camera[number], np.array(true))) + shift[number]
            row = {"path": path, "camera": camera, "tracklet": name, "frame": str(frame), "time": f"{time:.2f}"}
            rows.append(row)
    return rows, digests


def truth_tables(
    traffic: Traffic, tracklets: ObservedTracklets, recorded: Mapping[int, object] | None = None
) -> dict[str, str]:
    """Return the tables of the truth by file name.

    Args:
        traffic: the day.
        tracklets: what cameras record of it.
        recorded: by number of the tracklet, something that is true where it has images; None: all tracklets count.
    """
    names = tracklet_names(traffic, tracklets)
    kept = [number for number in range(len(names)) if recorded is None or recorded.get(number)]
    trips = trip_names(traffic)
    vehicle = [vehicle_name(number) for number in traffic.vehicle.tolist()]
    passes, cameras = traffic.passes, traffic.streets.cameras
    of_pass: dict[int, list[str]] = defaultdict(list)
    truth = []
    for number in kept:
        one, other = int(tracklets.pass_index[number]), int(tracklets.other[number])
        for shown in (one, other):
            if shown >= 0:
                of_pass[shown].append(names[number])
        truth.append(
            {
                "camera": cameras[tracklets.camera[number]],
                "tracklet": names[number],
                "vehicle": vehicle[one],
                "trip": trips[one],
                "start": f"{tracklets.start[number]:.3f}",
                "end": f"{tracklets.end[number]:.3f}",
                "merged_with": vehicle[other] if other >= 0 else "",
            }
        )
    order = np.arange(len(passes)) - np.searchsorted(passes.journey, passes.journey, side="left") + 1
    every = [
        {
            "trip": trips[index],
            "vehicle": vehicle[index],
            "order": str(order[index]),
            "camera": cameras[passes.camera[index]],
            "start": f"{passes.start[index]:.3f}",
            "end": f"{passes.end[index]:.3f}",
            "tracklets": " ".join(of_pass[index]),
        }
        for index in range(len(passes))
    ]
    return {
        "truth.csv": table(TRUTH_COLUMNS, truth),
        "truth_trips.csv": table(TRIP_COLUMNS, every),
        "truth_od.csv": table(("from", "to", "count"), _od_rows(traffic, tracklets)),
        "truth_travel_times.csv": table(TRAVEL_COLUMNS, _travel_rows(traffic, tracklets)),
    }


def trip_names(traffic: Traffic) -> list[str]:
    """Return the name of each pass's trip: vehicle and number of its journey of the day, "0012-1"."""
    vehicle = traffic.journeys.vehicle
    number = np.arange(len(vehicle)) - np.searchsorted(vehicle, vehicle, side="left") + 1
    names = [f"{vehicle_name(one)}-{n}" for one, n in zip(vehicle.tolist(), number.tolist(), strict=True)]
    return [names[journey] for journey in traffic.passes.journey.tolist()]


def _visible(traffic: Traffic, tracklets: ObservedTracklets) -> tuple[Ints, Ints, Float]:
    """Return journey, camera and time of the passes at cameras that record."""
    passes = traffic.passes
    live = ~tracklets.dead[passes.camera]
    return passes.journey[live], passes.camera[live], passes.time[live]


def _od_rows(traffic: Traffic, tracklets: ObservedTracklets) -> list[Row]:
    """Count the trips past two cameras or more by their first and last camera."""
    journey, camera, _ = _visible(traffic, tracklets)
    first = np.flatnonzero(np.diff(journey, prepend=-1))
    last = np.append(first[1:], len(journey)) - 1
    several = last > first
    pairs, counts = np.unique(
        np.stack([camera[first[several]], camera[last[several]]], axis=1), axis=0, return_counts=True
    )
    cameras = traffic.streets.cameras
    return [
        {"from": cameras[a], "to": cameras[b], "count": str(count)}
        for (a, b), count in zip(pairs.tolist(), counts.tolist(), strict=True)
    ]


def _travel_rows(traffic: Traffic, tracklets: ObservedTracklets) -> list[Row]:
    """Summarise the travel times in seconds, middle of view to middle of view, by camera pair and hour of departure."""
    journey, camera, time = _visible(traffic, tracklets)
    step = np.flatnonzero(np.diff(journey) == 0)
    hour = ((time[step] - DAY) // HOUR).astype(np.int64)
    key = np.stack([camera[step], camera[step + 1], hour], axis=1)
    seconds = time[step + 1] - time[step]
    groups, place = np.unique(key, axis=0, return_inverse=True)
    order = np.argsort(place.ravel(), kind="stable")
    parts = np.split(seconds[order], np.cumsum(np.bincount(place.ravel()))[:-1]) if len(groups) else []
    cameras = traffic.streets.cameras
    rows = []
    for (a, b, at), part in zip(groups.tolist(), parts, strict=True):
        p15, median, p85 = np.percentile(part, [15, 50, 85])
        row = {"from": cameras[a], "to": cameras[b], "hour": str(at), "count": str(len(part))}
        row |= {"mean": f"{part.mean():.1f}", "p15": f"{p15:.1f}", "median": f"{median:.1f}", "p85": f"{p85:.1f}"}
        rows.append(row)
    return rows


def _camera_rows(traffic: Traffic, world: World) -> list[Row]:
    rows = []
    for name, camera in zip(traffic.streets.cameras, world.cameras[:: len(LIGHTS)], strict=True):
        latitude, longitude = latitude_longitude(camera.x, camera.y)
        (x, y, _), (to_x, to_y, _) = camera.spec.position, camera.spec.look_at
        heading = math.degrees(math.atan2(to_x - x, to_y - y)) % 360.0
        place = {"latitude": f"{latitude:.6f}", "longitude": f"{longitude:.6f}", "heading": f"{heading:.0f}"}
        rows.append({"camera": name, **place})
    return rows


def _clock_rows(traffic: Traffic, tracklets: ObservedTracklets) -> list[Row]:
    """Return the seconds to add to each clock at the start of the recording, and how these change in a day."""
    elapsed = (traffic.preset.day[0] - DAY) / SECONDS_A_DAY
    offset = -(tracklets.clock_offset + tracklets.clock_drift * elapsed)
    return [
        {"camera": name, "offset": f"{seconds:.3f}", "drift_per_day": f"{-drift:.3f}"}
        for name, seconds, drift in zip(
            traffic.streets.cameras, offset.tolist(), tracklets.clock_drift.tolist(), strict=True
        )
    ]
