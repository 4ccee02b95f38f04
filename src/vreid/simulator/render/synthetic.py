"""Synthetic crops like those of VehicleX: clean, saturated, with any orientation and an unrealistic backdrop."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vreid.simulator.render.camera import Pinhole, Sensor
from vreid.simulator.render.drawing import ImageWindow, Placed, colours_of, draw, resolve, spread
from vreid.simulator.render.light import Environment, LightSpec
from vreid.simulator.render.sensor import blurred, develop
from vreid.simulator.vehicle.vehicles import Vehicle

Float = NDArray[np.float32]
FOCAL, FRAME, BORDER = 1400.0, (1920, 1080), 8  # pixels
CLEAN = Sensor(1.0, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), 2.2, 1.1, 1.35, 0.3, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class SyntheticShot:
    """One synthetic crop and its VehicleX attributes."""

    image: NDArray[np.uint8]  # (H, W, 3)
    orientation: float  # degrees
    light_intensity: float
    light_direction: float  # degrees
    camera_height: float  # metres
    camera_distance: float  # metres
    crop_box: tuple[float, float, float, float]  # tight box in pixels of `image`


def shoot_synthetic(
    vehicle: Vehicle, rng: np.random.Generator, *, longest_side: int, background: bool = True
) -> SyntheticShot:
    """Render one vehicle in a random pose the way VehicleX does; the image's longest side is `longest_side`."""
    orientation = float(rng.uniform(0, 360))
    intensity = float(np.clip(rng.normal(1.5, 0.6), 0.3, 3.0))
    direction = float(rng.uniform(45, 135))
    height = float(np.clip(rng.normal(5.5, 2.2), 1.2, 12.0))
    distance = float(rng.uniform(10, 24)) + vehicle.size[0] / 2
    elevation = math.radians(rng.uniform(35, 75))
    light = LightSpec(elevation, math.radians(direction), 0.5 * intensity, 0.35 + 0.2 * intensity, 0.5, 0.0)
    environment = Environment(light, rng, size=64)
    pinhole = Pinhole((distance, 0.0, height), (0.0, 0.0, 0.7), FOCAL, FRAME)
    placed = Placed(vehicle, 0.0, 0.0, math.radians(orientation))
    projected = pinhole.project(placed.world())
    low, high = projected[:, :2].min(axis=0), projected[:, :2].max(axis=0)
    border = BORDER * longest_side / 256
    scale = (longest_side - 2 * border - 1) / float((high - low).max())
    x0, y0 = (math.floor(float(value) * scale - border) for value in low)
    x1, y1 = (math.ceil(float(value) * scale + border) for value in high)
    window = ImageWindow(x0, y0, x1 - x0, y1 - y0, scale)
    plain = _odd_backdrop(rng, window.width, window.height)
    if not background:
        plain = np.full_like(plain, 0.22)
    drawn = draw(placed, pinhole, window)
    colours = spread(plain)
    colours[:, drawn.fragments.sample] = colours_of(drawn, drawn.fragments, pinhole, window, environment)
    image = develop(resolve(colours, window.width, window.height), CLEAN, rng, pixels=longest_side / 128)
    box = (low[0] * scale - x0, low[1] * scale - y0, high[0] * scale - x0, high[1] * scale - y0)
    return SyntheticShot(
        image,
        orientation,
        intensity,
        direction,
        height,
        distance,
        (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
    )


def _odd_backdrop(rng: np.random.Generator, width: int, height: int) -> Float:
    """Return (3, H, W): smooth blotches of unnatural colours."""
    cells = rng.uniform(0.05, 0.9, (3, 5, 6)).astype(np.float32) ** 1.5
    rows = np.minimum(np.arange(height) * 5 // height, 4)
    columns = np.minimum(np.arange(width) * 6 // width, 5)
    return blurred(np.ascontiguousarray(cells[:, rows][:, :, columns]), max(width, height) / 9)
