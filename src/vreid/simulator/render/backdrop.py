"""Static background of a fixed camera, shaded once per tile and cached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vreid.simulator.raster import DepthMap, DepthMaps, rasterise
from vreid.simulator.render.camera import CameraSpec, Pinhole
from vreid.simulator.render.drawing import FINE, ImageWindow, Placed
from vreid.simulator.render.ground import Ground
from vreid.simulator.render.light import Environment
from vreid.simulator.render.surroundings import surroundings_of

Float = NDArray[np.float32]
TILE = 64  # pixels along a side
UP = np.array([[0], [0], [1]], np.float32)


@dataclass(frozen=True)
class _Tile:
    """TILE x TILE pixels of the backdrop."""

    layers: NDArray[np.float16]  # (7, TILE, TILE): ground albedo (haze and cover applied), fixed light, open sun
    nearness: Float | None  # (TILE * FINE, TILE * FINE) of static things, None where there are none


class Backdrop:
    """Static image of a camera, in lazily rendered tiles."""

    def __init__(
        self, camera: CameraSpec, pinhole: Pinhole, environment: Environment, ground: Ground, rng: np.random.Generator
    ) -> None:
        self._pinhole, self._environment, self._ground = pinhole, environment, ground
        self._static = surroundings_of(camera, rng)
        self._projected = pinhole.project(self._static.mesh.vertices)
        self._tiles: dict[tuple[float, int, int], _Tile] = {}

    def nearness(self, window: ImageWindow) -> Float:
        """Return (samples,) nearness of static things at every sample of a window, 0 where there are none."""
        out = np.zeros((window.height * FINE, window.width * FINE), np.float32)
        for tile, inner, outer in self._cover(window):
            if tile.nearness is not None:
                rows, columns = (slice(s.start * FINE, s.stop * FINE) for s in inner)
                out_rows, out_columns = (slice(s.start * FINE, s.stop * FINE) for s in outer)
                out[out_rows, out_columns] = tile.nearness[rows, columns]
        return out.ravel()

    def light(
        self, window: ImageWindow, placed: Sequence[Placed], shadow: DepthMap | DepthMaps | None, *, lamps: float = 0.0
    ) -> Float:
        """Return the (3, H, W) linear light of the backdrop under the shadows and lamps of vehicles."""
        cover = np.empty((7, window.height, window.width), np.float32)
        for tile, inner, outer in self._cover(window):
            cover[:, *outer] = tile.layers[:, *inner]
        layers = cover.reshape(7, -1)
        points = self.ground_points(window)
        open_sky, lamp_light = np.ones(points.shape[1], np.float32), np.zeros(points.shape[1], np.float32)
        for item in placed:
            along, across = _local(item, points)
            open_sky *= _contact(item, along, across)
            if lamps:
                front = along - np.float32(item.vehicle.size[0] / 2)
                pool = np.exp(-(((front - 3.5) / 3.0) ** 2) - (across / 1.3) ** 2)
                lamp_light += np.where(front > 0, pool, 0)
        sunny = layers[6] if shadow is None else layers[6] * shadow.lit(points, 0.03)
        environment = self._environment
        direct = environment.sun_colour * max(float(environment.sun_direction[2]), 0)
        received = open_sky * environment.irradiance(UP) + sunny * direct[:, None]
        if lamps:
            received += lamp_light * np.array([[0.9], [0.86], [0.76]], np.float32) * np.float32(lamps)
        light: Float = layers[3:6] + layers[:3] * received
        return light.reshape(3, window.height, window.width)

    def ground_points(self, window: ImageWindow) -> Float:
        """Return (3, H * W): where the pixels' rays meet the ground (far away for pixels above the horizon)."""
        rays = _pixel_rays(self._pinhole, window)
        eye = self._pinhole.position
        points: Float = eye[:, None] - rays * (eye[2] / np.minimum(rays[2], np.float32(-1e-3)))
        return points

    def _cover(self, window: ImageWindow) -> list[tuple[_Tile, tuple[slice, slice], tuple[slice, slice]]]:
        """Return the tiles of a window, each with the part used and the part of the window it fills."""
        parts = []
        for ty in range(window.y // TILE, (window.y + window.height - 1) // TILE + 1):
            for tx in range(window.x // TILE, (window.x + window.width - 1) // TILE + 1):
                x0, x1 = max(window.x, tx * TILE), min(window.x + window.width, (tx + 1) * TILE)
                y0, y1 = max(window.y, ty * TILE), min(window.y + window.height, (ty + 1) * TILE)
                inner = (slice(y0 - ty * TILE, y1 - ty * TILE), slice(x0 - tx * TILE, x1 - tx * TILE))
                outer = (slice(y0 - window.y, y1 - window.y), slice(x0 - window.x, x1 - window.x))
                key = (window.scale, tx, ty)
                if key not in self._tiles:
                    self._tiles[key] = self._make(ImageWindow(tx * TILE, ty * TILE, TILE, TILE, window.scale))
                parts.append((self._tiles[key], inner, outer))
        return parts

    def _make(self, window: ImageWindow) -> _Tile:
        environment, pinhole = self._environment, self._pinhole
        rays = _pixel_rays(pinhole, window)
        down = rays[2] < -1e-3
        points = self.ground_points(window)
        away = points - pinhole.position[:, None]
        distance = np.sqrt(away[0] ** 2 + away[1] ** 2 + away[2] ** 2)
        footprint = distance * np.float32(1.4 / (pinhole.focal * window.scale))
        clear = np.where(down, np.exp(distance * np.float32(-1 / 260)), 0)
        ground = self._ground.albedo(points[0], points[1], footprint) * clear
        fixed: Float = environment.horizon_colour[:, None] * (1 - clear)  # haze, and the sky where there is no ground
        sunny = self._ground.sunlight(points, environment.sun_direction)

        samples = self._projected.copy()
        samples[:, 0] = (samples[:, 0] * np.float32(window.scale) - window.x) * FINE
        samples[:, 1] = (samples[:, 1] * np.float32(window.scale) - window.y) * FINE
        found = rasterise(samples, self._static.mesh.faces, TILE * FINE, TILE * FINE)
        nearness = None
        if len(found):
            row, column = np.divmod(found.sample, np.int32(TILE * FINE))
            half = np.float32(0.5)
            rays = window.rays(pinhole, (column + half) / np.float32(FINE), (row + half) / np.float32(FINE))
            at = pinhole.position[:, None] + rays / found.nearness
            rays /= np.sqrt(rays[0] ** 2 + rays[1] ** 2 + rays[2] ** 2)
            colour = self._static.shade(found.face, at, rays, environment)
            pixel = row // FINE * TILE + column // FINE
            open_share = (1 - np.bincount(pixel, minlength=TILE * TILE) / FINE**2).astype(np.float32)
            painted = np.stack([np.bincount(pixel, colour[k], TILE * TILE) for k in range(3)])
            ground, fixed = ground * open_share, fixed * open_share + (painted / FINE**2).astype(np.float32)
            flat = np.zeros(TILE * FINE * TILE * FINE, np.float32)
            flat[found.sample] = found.nearness
            nearness = flat.reshape(TILE * FINE, TILE * FINE)
        layers = np.concatenate([ground, fixed, sunny[None]]).astype(np.float16)
        return _Tile(layers.reshape(7, TILE, TILE), nearness)


def _pixel_rays(pinhole: Pinhole, window: ImageWindow) -> Float:
    row, column = np.divmod(np.arange(window.width * window.height, dtype=np.int32), np.int32(window.width))
    return window.rays(pinhole, column + np.float32(0.5), row + np.float32(0.5))


def _local(placed: Placed, points_3N: Float) -> tuple[Float, Float]:
    """Return metres ahead of and to the left of a vehicle's middle."""
    cos, sin = np.float32(np.cos(placed.heading)), np.float32(np.sin(placed.heading))
    dx, dy = points_3N[0] - np.float32(placed.x), points_3N[1] - np.float32(placed.y)
    return dx * cos + dy * sin, dy * cos - dx * sin


def _contact(placed: Placed, along: Float, across: Float) -> Float:
    """Return the share of the sky that ground points near a vehicle see."""
    table = placed.vehicle.ground_light
    rows, columns = table.shape
    reach_along, reach_across = placed.vehicle.ground_reach
    u = (along / np.float32(reach_along) + 1) * np.float32((columns - 1) / 2)
    v = (across / np.float32(reach_across) + 1) * np.float32((rows - 1) / 2)
    near = np.flatnonzero((u > 0) & (v > 0) & (u < columns - 1.001) & (v < rows - 1.001))
    out = np.ones(len(along), np.float32)
    u, v = u[near], v[near]
    iu, iv = u.astype(np.int32), v.astype(np.int32)
    tu, tv = u - iu, v - iv
    flat, index = table.ravel(), iv * columns + iu
    low = flat[index] * (1 - tu) + flat[index + 1] * tu
    high = flat[index + columns] * (1 - tu) + flat[index + columns + 1] * tu
    out[near] = low * (1 - tv) + high * tv
    return out
