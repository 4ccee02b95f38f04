"""Render all identities of a world in worker processes; bit-identical for any number of them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vreid.data.seeds import generator
from vreid.machine import processors
from vreid.progress import Progress, job
from vreid.simulator.city.plan import FRAMES_PER_SECOND, Posed, Traveller, World
from vreid.simulator.filming import Studio, Take
from vreid.simulator.formats.label_files import Row
from vreid.simulator.formats.processes import tasks_in_processes, tasks_in_turn
from vreid.simulator.render.synthetic import SyntheticShot
from vreid.simulator.vehicle.vehicles import COLORS, TYPES

SYNTHETIC_CAMERAS = 20
"""Number of random camera numbers of the synthetic images, as in VehicleX."""
SYNTHETIC_JPEG_QUALITY = 95
IMAGES_PER_WORKER = 200
"""Minimum number of images per worker process, below which starting it does not pay off."""


@dataclass(frozen=True)
class RenderedImage:
    """A rendered image: its temporary file name, the SHA-256 of its bytes, the index of its pass, and known columns."""

    file: str
    digest: str
    pass_index: int
    row: Row


def render_all(world: World, raw: Path, workers: int | None, progress: Progress | None) -> list[list[RenderedImage]]:
    """Render all identities, travellers first, then synthetic ones; return one list of images per identity."""
    planned = [t.images for t in world.travellers] + [p.images for p in world.posed]
    files: list[list[RenderedImage]] = [[] for _ in planned]
    count = workers or min(processors(), 1 + world.images // IMAGES_PER_WORKER)
    finished = (
        tasks_in_turn(_studio, (world, raw), _render, len(planned))
        if count == 1
        else tasks_in_processes(_studio, (world, raw), _render, len(planned), count)
    )
    with closing(finished), job(progress, "simulate", world.images) as listener:
        for index, made in finished:
            files[index] = made
            listener.advance(planned[index])
    return files


def _studio(world: World, raw: Path) -> tuple[Studio, Path]:
    return Studio(world), raw


def _render(studio_and_folder: tuple[Studio, Path], index: int) -> list[RenderedImage]:
    """Render identity `index` of the world, travellers first, into the folder."""
    studio, raw = studio_and_folder
    world = studio.world
    files: list[RenderedImage] = []

    def keep(image: NDArray[np.uint8], quality: int, pass_index: int, row: Row) -> None:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
        file = f"{index}_{len(files)}.jpg"
        (raw / file).write_bytes(buffer.getvalue())
        files.append(RenderedImage(file, hashlib.sha256(buffer.getvalue()).hexdigest(), pass_index, row))

    if index < len(world.travellers):
        traveller = world.travellers[index]
        for pass_index, takes in studio.film(traveller):
            quality = world.cameras[traveller.passes[pass_index].camera].spec.jpeg_quality
            for take in takes:
                keep(take.shot.image, quality, pass_index, _real_row(world, traveller, pass_index, take))
    else:
        posed = world.posed[index - len(world.travellers)]
        for number, shot in enumerate(studio.pose(posed), start=1):
            keep(shot.image, SYNTHETIC_JPEG_QUALITY, 0, _synthetic_row(world, posed, number, shot))
    return files


def _real_row(world: World, traveller: Traveller, pass_index: int, take: Take) -> Row:
    camera = world.cameras[traveller.passes[pass_index].camera]
    shot = take.shot
    return {
        "identity": traveller.identity,
        "camera": camera.name,
        "scene": camera.scene,
        "part": camera.part,
        "scenario": camera.spec.scenario,
        "domain": "real",
        "variant": "original",
        "frame": str(take.frame),
        "time": f"{camera.video_start + take.frame / FRAMES_PER_SECOND:.1f}",
        **_box("frame_", shot.box),
        **_box("true_", shot.true_box),
        **_box("crop_", shot.crop_box),
        "visibility": f"{shot.visibility:.3f}",
        "occluder": shot.occluder,
        "orientation": _degrees(shot.orientation),
        "vehicle_type": traveller.vehicle.vehicle_type,
        "color": traveller.vehicle.color,
        "model": str(traveller.vehicle.model),
    }


def _synthetic_row(world: World, posed: Posed, number: int, shot: SyntheticShot) -> Row:
    camera = f"c{generator(world.seed, 'synthetic camera', *posed.key, number).integers(1, SYNTHETIC_CAMERAS + 1):03d}"
    vehicle = posed.vehicle
    name = f"{int(posed.identity):05d}_{camera}_{number}"
    # Identities and cameras of the two sets are different things although both sets count from 1.
    return {
        "image_key": f"synthetic/{name}",
        "file": f"{name}.jpg",
        "identity": f"synthetic-{posed.identity}",
        "camera": f"synthetic-{camera}",
        "vehiclex_identity": posed.identity,
        "vehiclex_camera": camera,
        "domain": "synthetic",
        "variant": "original",
        "split": "train",
        "vehicle_type": vehicle.vehicle_type,
        "color": vehicle.color,
        # VehicleX has no motorcycles and therefore no number for them
        "type_id": str(TYPES.index(vehicle.vehicle_type)) if vehicle.vehicle_type in TYPES else "",
        "color_id": str(COLORS.index(vehicle.color)),
        "model": str(vehicle.model),
        "orientation": _degrees(shot.orientation),
        "light_intensity": f"{shot.light_intensity:.1f}",
        "light_direction": f"{shot.light_direction:.1f}",
        "camera_height": f"{shot.camera_height:.1f}",
        "camera_distance": f"{shot.camera_distance:.1f}",
        **_box("crop_", shot.crop_box),
    }


def _box(prefix: str, box: Sequence[float]) -> Row:
    return {f"{prefix}{name}": f"{value:.1f}" for name, value in zip(("x1", "y1", "x2", "y2"), box, strict=True)}


def _degrees(angle: float) -> str:
    return f"{round(angle, 1) % 360:.1f}"
