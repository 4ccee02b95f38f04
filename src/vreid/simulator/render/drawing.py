"""Placed vehicles on a window of a camera's image: fragments, their shadows, their colours."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vreid.simulator.raster import DepthMap, DepthMaps, Fragments, depth_map, rasterise
from vreid.simulator.render.camera import Pinhole
from vreid.simulator.render.light import Environment
from vreid.simulator.render.shading import perspective, shade
from vreid.simulator.vehicle.vehicles import Vehicle

Float = NDArray[np.float32]
FINE = 2  # samples per pixel along each axis
SHADOW_SIZES = (96, 512)  # fewest and most texels along a side of the shadow map


@dataclass(frozen=True)
class Placed:
    """A vehicle on the ground of a camera's world: metres, heading in radians."""

    vehicle: Vehicle
    x: float
    y: float
    heading: float

    def world(self) -> Float:
        """Return the (V, 3) vertices in the camera's world."""
        cos, sin = np.float32(math.cos(self.heading)), np.float32(math.sin(self.heading))
        v = self.vehicle.mesh.vertices
        x, y = np.float32(self.x), np.float32(self.y)
        return np.stack([v[:, 0] * cos - v[:, 1] * sin + x, v[:, 0] * sin + v[:, 1] * cos + y, v[:, 2]], axis=1)

    def orientation(self, position: Sequence[float] | Float) -> float:
        """Return degrees in [0, 360) towards a camera at `position`: 0 = facing it, counter-clockwise from above."""
        bearing = math.atan2(float(position[1]) - self.y, float(position[0]) - self.x)
        return math.degrees(self.heading - bearing) % 360.0


@dataclass(frozen=True)
class ImageWindow:
    """A rectangle of a scaled frame: its pixels, and how many of them go into one pixel of the frame."""

    x: int
    y: int
    width: int
    height: int
    scale: float

    def rays(self, pinhole: Pinhole, column: NDArray[np.floating], row: NDArray[np.floating]) -> Float:
        """Return (3, N) directions of unit depth through window positions (pixels, 0.5 = middle of the first)."""
        x, y = (column + self.x) / self.scale, (row + self.y) / self.scale
        return pinhole.rays(x.astype(np.float32), y.astype(np.float32))


@dataclass(frozen=True)
class Drawn:
    """A vehicle's fragments on the sample grid (FINE samples a pixel along each axis) of a window."""

    placed: Placed
    vertices: Float  # (V, 3) world
    projected: Float  # (V, 3) frame pixels and nearness
    fragments: Fragments
    mirrored: bool = False


def draw(placed: Placed, pinhole: Pinhole, window: ImageWindow, *, mirrored: bool = False) -> Drawn:
    """Return the samples of a window that a vehicle, or its mirror image in a wet road, covers."""
    vertices = placed.world()
    faces = placed.vehicle.mesh.faces
    if mirrored:
        vertices, faces = vertices * np.array([1, 1, -1], np.float32), faces[:, ::-1]
    projected = pinhole.project(vertices)
    samples = projected.copy()
    samples[:, 0] = (samples[:, 0] * np.float32(window.scale) - window.x) * FINE
    samples[:, 1] = (samples[:, 1] * np.float32(window.scale) - window.y) * FINE
    fragments = rasterise(samples, faces, window.width * FINE, window.height * FINE)
    if mirrored:
        fragments = replace(fragments, weights=fragments.weights[:, ::-1])
    return Drawn(placed, vertices, projected, fragments, mirrored)


def cast_shadow(drawn: Sequence[Drawn], sun: Float, pixels: int) -> DepthMap:
    """Return the shadow map around the first vehicle, with its neighbours, for an image of so many pixels across."""
    main = drawn[0].placed
    length, width, height = main.vehicle.size
    half = min(12.0, math.hypot(length, width) / 2 + 0.5 + 0.7 * height / max(float(sun[2]), 0.3))
    parts, faces, offset = [], [], 0
    for item in drawn:
        if math.hypot(item.placed.x - main.x, item.placed.y - main.y) < 1.6 * half:
            parts.append(item.vertices)
            faces.append(item.placed.vehicle.mesh.faces + np.int32(offset))
            offset += len(item.vertices)
    centre = np.array([main.x, main.y, height / 2], np.float32)
    size = int(np.clip(pixels, *SHADOW_SIZES))
    return depth_map(np.concatenate(parts), np.concatenate(faces), sun, centre, half, size)


def colours_of(
    drawn: Drawn,
    fragments: Fragments,
    pinhole: Pinhole,
    window: ImageWindow,
    environment: Environment,
    *,
    lamps: float = 0.0,
    shadow: DepthMap | DepthMaps | None = None,
    sunlight: Callable[[Float], Float] | None = None,
) -> Float:
    """Return (3, S) linear colours of some of a drawn vehicle's fragments."""
    row, column = np.divmod(fragments.sample, np.int32(window.width * FINE))
    half = np.float32(0.5)
    rays = window.rays(pinhole, (column + half) / np.float32(FINE), (row + half) / np.float32(FINE))
    points = pinhole.position[:, None] + rays / fragments.nearness
    if drawn.mirrored:  # the ray bounces off the road and goes on upwards
        points[2], rays[2] = -points[2], -rays[2]
    rays /= np.sqrt(rays[0] ** 2 + rays[1] ** 2 + rays[2] ** 2)
    vehicle = drawn.placed.vehicle
    weights = perspective(fragments, drawn.projected[:, 2][vehicle.mesh.faces])
    samples_per_metre = pinhole.focal * float(np.median(fragments.nearness)) * window.scale * FINE
    texels_per_metre = 640 / vehicle.size[0]
    return shade(
        vehicle.mesh,
        vehicle.levels,
        fragments,
        weights,
        rays,
        points,
        drawn.placed.heading,
        environment,
        texel_size=texels_per_metre / samples_per_metre,
        lamps=lamps,
        shadow=shadow,
        sunlight=sunlight,
    )


def spread(pixels_3HW: Float) -> Float:
    """Return a (3, H, W) image as (3, H * W * FINE^2) samples."""
    return np.repeat(np.repeat(pixels_3HW, FINE, axis=1), FINE, axis=2).reshape(len(pixels_3HW), -1)


def resolve(samples: Float, width: int, height: int) -> Float:
    """Return the (3, H, W) image whose pixels are the means of their samples (3, H * W * FINE^2)."""
    square = samples.reshape(-1, height, FINE, width, FINE)
    total = square[:, :, 0, :, 0].copy()
    for i, j in ((0, 1), (1, 0), (1, 1)):
        total += square[:, :, i, :, j]
    return total * np.float32(1 / FINE**2)
