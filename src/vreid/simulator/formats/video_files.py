"""Write a small city as videos: MP4 and tracker output of each camera, `cameras.csv`, and the truth.

c001.mp4  c001.txt       the video of a camera, and what a tracker wrote of it (MOTChallenge text)
cameras.csv              camera, file, start by its own clock, frame rate, place, heading
truth.csv                the vehicle of each tracklet ("c001/17"), with true times
clocks.csv               seconds to add to the times of each camera's clock
roads.csv, simulator.json
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vreid.data.seeds import generator
from vreid.errors import InputError
from vreid.files import write_text
from vreid.machine import processors
from vreid.progress import Progress, job
from vreid.simulator.city.earth import latitude_longitude
from vreid.simulator.city.video_plan import VideoCamera, VideoCity, VideoPreset, plan_videos
from vreid.simulator.driving import LaneDrive, drive_through, without_collisions
from vreid.simulator.formats.label_files import Row, roads_table, table
from vreid.simulator.formats.output_folder import Write
from vreid.simulator.formats.processes import tasks_in_processes, tasks_in_turn
from vreid.simulator.imperfect_tracker import TrackedBox, mot_text, track
from vreid.simulator.render.scene import CameraView
from vreid.simulator.render.video_frames import InView, VideoView
from vreid.simulator.vehicle.vehicles import build_vehicle

VIDEOS = "videos"
"""Name of the layout."""
CODEC: Final = "libx264"
"""Encoder of the videos, H.264."""
ENCODER = {"crf": "25", "preset": "fast", "threads": "1", "x264-params": "cpu-independent=1"}
"""Options of x264. Without cpu-independent, its rate control reads memory that it did not write, and bytes vary."""
CLASSES = {"bus": 5, "truck": 7, "motorcycle": 3}
"""Classes of tracker output, numbers of COCO; other vehicles are cars, 2."""
CAR = 2

CAMERA_COLUMNS = (
    "camera",
    "file",
    "start",
    "frame_rate",
    "offset",
    "time_zone",
    "latitude",
    "longitude",
    "heading",
)
TRUTH_COLUMNS = ("camera", "tracklet", "vehicle", "start", "end", "type", "color", "model")


@dataclass(frozen=True)
class VideoTracklet:
    """A track that the tracker wrote: its vehicle, and its boxes in order of frames."""

    vehicle: int
    boxes: tuple[TrackedBox, ...]


@dataclass(frozen=True)
class VideoWriter:
    """Writes a small city as videos."""

    preset: VideoPreset
    seed: int

    def missing(self, out: Path, counts: dict[str, int]) -> str | None:
        """Return which video is absent from `out`; None: none."""
        for number in range(1, self.preset.cameras + 1):
            if not (out / f"c{number:03d}.mp4").is_file():
                return f"{out / f'c{number:03d}.mp4'}: is absent"
        return None

    def planned(self) -> Write:
        """Plan the city; return the function that writes it.

        Raises:
            InputError: PyAV was built without the encoder.
        """
        import av

        if CODEC not in av.codecs_available:
            raise InputError(
                f"this build of PyAV lacks {CODEC}; run `pip install --force-reinstall --only-binary=av av`."
            )
        return partial(
            _write_videos, plan_videos(self.preset, int(generator(self.seed, "layout", VIDEOS).integers(2**63)))
        )


def _write_videos(
    city: VideoCity, folder: Path, workers: int | None, progress: Progress | None
) -> tuple[dict[str, int], dict[str, str]]:
    """Film all cameras into `folder`; return counts, and digests of the files."""
    cameras = len(city.cameras)
    count = min(workers or processors(), cameras)
    inputs = city, folder
    finished = (
        tasks_in_turn(_same, inputs, _film, cameras)
        if count == 1
        else tasks_in_processes(_same, inputs, _film, cameras, count)
    )
    tracklets: list[list[VideoTracklet]] = [[] for _ in city.cameras]
    digests: dict[str, str] = {}
    with closing(finished), job(progress, "simulate", cameras * city.frames) as listener:
        for index, (made, digest) in finished:
            tracklets[index] = made
            digests[f"{city.cameras[index].name}.mp4"] = digest
            listener.advance(city.frames)
    for name, text in _texts(city, tracklets).items():
        write_text(folder / name, text)
        digests[name] = hashlib.sha256(text.encode()).hexdigest()
    seen = [{one.vehicle for one in made} for made in tracklets]
    counts = {
        "cameras": cameras,
        "frames": cameras * city.frames,
        "tracklets": sum(map(len, tracklets)),
        "boxes": sum(len(one.boxes) for made in tracklets for one in made),
        "vehicles": len(set().union(*seen)),
        "vehicles_at_several_cameras": sum(
            sum(vehicle in some for some in seen) > 1 for vehicle in range(len(city.vehicles))
        ),
    }
    return counts, digests


def _same(city: VideoCity, folder: Path) -> tuple[VideoCity, Path]:
    return city, folder


def _film(city_and_folder: tuple[VideoCity, Path], number: int) -> tuple[list[VideoTracklet], str]:
    """Film a camera into the folder; return its tracklets, in order of their first frames, and the video's digest."""
    city, folder = city_and_folder
    camera, preset = city.cameras[number], city.preset
    view = VideoView(CameraView(camera.spec), preset.width, generator(city.seed, "noise", camera.name))
    drives = _drives(city, number, view)
    path = folder / f"{camera.name}.mp4"
    seen: dict[int, list[tuple[int, InView]]] = {drive.number: [] for drive in drives}
    _encode(path, _frames(city, camera, view, drives, seen), preset.frame_rate, view.size)
    tracklets = []
    for drive in drives:
        rng = generator(city.seed, "tracker", camera.name, drive.number)
        for boxes in track(seen[drive.number], view.size, preset.frame_rate, rng):
            tracklets.append(VideoTracklet(city.passes[number][drive.number].vehicle, tuple(boxes)))
    tracklets.sort(key=lambda one: (one.boxes[0].frame, one.vehicle))
    return tracklets, hashlib.sha256(path.read_bytes()).hexdigest()


def _drives(city: VideoCity, number: int, view: VideoView) -> list[LaneDrive]:
    """Return the drives past a camera; the number of a drive is that of its pass."""
    drives = []
    for index, one in enumerate(city.passes[number]):
        vehicle = build_vehicle(city.vehicles[one.vehicle])
        drive = drive_through(view.view, index, vehicle, one.lane, one.time, one.speed)
        if drive is not None:
            drives.append(drive)
    return without_collisions(drives)


def _frames(
    city: VideoCity,
    camera: VideoCamera,
    view: VideoView,
    drives: Sequence[LaneDrive],
    seen: dict[int, list[tuple[int, InView]]],
) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of a camera; append to `seen` how each vehicle is seen on them, by number of the drive."""
    for frame in range(city.frames):
        time = camera.start + frame / city.preset.frame_rate
        placed = [(drive.number, there) for drive in drives if (there := drive.at(time)) is not None]
        image, views = view.render([there for _, there in placed], generator(city.seed, "frame", camera.name, frame))
        for (drive_number, _), one in zip(placed, views, strict=True):
            if one is not None:
                seen[drive_number].append((frame, one))
        yield image


def _encode(path: Path, frames: Iterator[NDArray[np.uint8]], frame_rate: int, size: tuple[int, int]) -> None:
    """Write an H.264 video; the same frames give the same bytes with one version of PyAV."""
    import av

    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(CODEC, rate=frame_rate, options=ENCODER)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _texts(city: VideoCity, tracklets: Sequence[Sequence[VideoTracklet]]) -> dict[str, str]:
    """Return the text files of the folder by name."""
    files = {}
    truth: list[Row] = []
    for camera, made in zip(city.cameras, tracklets, strict=True):
        types = [city.vehicles[one.vehicle].vehicle_type for one in made]
        numbered = [
            (n, CLASSES.get(kind, CAR), one.boxes) for n, (kind, one) in enumerate(zip(types, made, strict=True), 1)
        ]
        files[f"{camera.name}.txt"] = mot_text(numbered)
        truth += [_truth_row(city, camera, number, one) for number, one in enumerate(made, 1)]
    files["truth.csv"] = table(TRUTH_COLUMNS, truth)
    files["cameras.csv"] = table(CAMERA_COLUMNS, [_camera_row(city, camera) for camera in city.cameras])
    files["clocks.csv"] = table(
        ("camera", "offset"), [{"camera": one.name, "offset": f"{one.offset:.1f}"} for one in city.cameras]
    )
    files["roads.csv"] = roads_table(city.roads)
    return files


def _truth_row(city: VideoCity, camera: VideoCamera, number: int, tracklet: VideoTracklet) -> Row:
    vehicle = city.vehicles[tracklet.vehicle]
    start, end = (camera.start + tracklet.boxes[end].frame / city.preset.frame_rate for end in (0, -1))
    return {
        "camera": camera.name,
        "tracklet": f"{camera.name}/{number}",
        "vehicle": f"{tracklet.vehicle + 1:04d}",
        "start": f"{start:.3f}",
        "end": f"{end:.3f}",
        "type": vehicle.vehicle_type,
        "color": vehicle.color,
        "model": str(vehicle.model),
    }


def _camera_row(city: VideoCity, camera: VideoCamera) -> Row:
    latitude, longitude = latitude_longitude(camera.x, camera.y)
    start = datetime.fromtimestamp(camera.start - camera.offset, UTC)
    return {
        "camera": camera.name,
        "file": f"{camera.name}.mp4",
        "start": start.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "frame_rate": str(city.preset.frame_rate),
        "time_zone": "UTC",
        "latitude": f"{latitude:.6f}",
        "longitude": f"{longitude:.6f}",
        "heading": f"{camera.heading:.0f}",
    }
