"""The ground of a camera: asphalt, markings that follow the roads, kerbs, pavements, verges."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vreid.simulator.render.camera import RoadStrip

Float = NDArray[np.float32]
TILE = 256


@lru_cache(maxsize=8)
def noise_tile(seed: int, octaves: int) -> Float:
    """Return (256, 256) tileable value noise in 0..1."""
    rng = np.random.default_rng(seed)
    total = np.zeros((TILE, TILE))
    at = np.arange(TILE) / TILE
    for octave in range(octaves):
        cells = 4 << octave
        grid = rng.random((cells, cells))
        position = at * cells
        low = np.floor(position).astype(int)
        t = position - low
        t = t * t * (3 - 2 * t)
        high = (low + 1) % cells
        rows = grid[low] * (1 - t)[:, None] + grid[high] * t[:, None]
        total += (rows[:, low] * (1 - t) + rows[:, high] * t) / 1.6**octave
    total -= total.min()
    tile: Float = (total / total.max()).astype(np.float32)
    return tile


def noise(x: Float, y: Float, scale: float, *, fine: bool = False) -> Float:
    """Return (N,) tileable noise at `scale` texels a metre, bilinear."""
    tile = noise_tile(6, 7) if fine else noise_tile(5, 5)
    u, v = x * np.float32(scale), y * np.float32(scale)
    iu, iv = np.floor(u).astype(np.int32), np.floor(v).astype(np.int32)
    tu, tv = u - iu, v - iv
    flat, u0, u1 = tile.ravel(), iu % TILE, (iu + 1) % TILE
    v0, v1 = (iv % TILE) * TILE, ((iv + 1) % TILE) * TILE
    top = flat[v0 + u0] * (1 - tu) + flat[v0 + u1] * tu
    bottom = flat[v1 + u0] * (1 - tu) + flat[v1 + u1] * tu
    value: Float = top * (1 - tv) + bottom * tv
    return value


def _stripe(distance: Float, half: float, footprint: Float) -> Float:
    """Return how much of a footprint (metres) a stripe of half width `half` covers, `distance` from its middle."""
    cover: Float = np.clip((half - np.abs(distance)) / footprint + 0.5, 0, 1)
    return cover


def _cover(base: Float, colour: Float | NDArray[np.floating], share: Float) -> Float:
    """Return `base` (3, N) painted over with a colour, (3, 1) or (3, N), by a share of each footprint."""
    covered: Float = base + (colour - base) * share
    return covered


class Ground:
    """Albedo and shadow mask of the ground plane."""

    def __init__(self, roads: Sequence[RoadStrip], rng: np.random.Generator) -> None:
        self.roads = tuple(roads)
        self.offset = rng.uniform(0, 100, 2).astype(np.float32)
        self.asphalt = rng.uniform(0.09, 0.21) * np.array(
            [1, 1 + rng.uniform(-0.02, 0.02), 1 + rng.uniform(-0.06, 0.05)]
        )
        self.asphalt = self.asphalt.astype(np.float32)
        self.marking = rng.uniform(0.42, 0.7)
        self.wear = rng.uniform(0.15, 0.5)
        self.dash = rng.uniform(3.0, 6.0)
        self.pavement = (np.array([0.30, 0.29, 0.27]) * rng.uniform(0.7, 1.25)).astype(np.float32)
        self.pavement_width = rng.uniform(1.4, 3.2)
        verges = ((0.10, 0.15, 0.05), (0.19, 0.17, 0.13), (0.24, 0.23, 0.22))
        self.verge = (np.array(verges[int(rng.integers(3))]) * rng.uniform(0.75, 1.2)).astype(np.float32)
        self.patches = rng.uniform(0, 0.45)
        self.yellow_edge = bool(rng.random() < 0.5)
        self.crossing = float(rng.uniform(-14, 14)) if rng.random() < 0.45 else None
        self.stop_line = float(rng.uniform(-10, 10)) if rng.random() < 0.3 else None
        self.shade = rng.uniform(0.35, 0.75)
        self.shade_side = 1.0 if rng.random() < 0.5 else -1.0

    def albedo(self, x: Float, y: Float, footprint: Float) -> Float:
        """Return (3, N) albedo at points (metres) seen with a footprint of metres per pixel."""
        coordinates = [road.coordinates(x, y) for road in self.roads]
        edges = [np.abs(left) - road.half_width for road, (_, left) in zip(self.roads, coordinates, strict=True)]
        beside = np.min(edges, axis=0)
        u, v = coordinates[0]
        u = u + self.offset[0]
        grain = 0.72 + 0.34 * noise(u, v, 7, fine=True) + 0.24 * noise(u + 90, v + 50, 0.9)
        patch = noise(u, v, 1.1) > 0.64
        crack = np.clip(1 - np.abs(noise(u, v, 2.6) - 0.5) / 0.006, 0, 1)
        colour = self.asphalt[:, None] * (grain * (1 - self.patches * 0.45 * patch) * (1 - 0.4 * crack))
        worn = np.clip((noise(u + 30, v, 9, fine=True) - self.wear) * 6, 0.15, 1)
        for index, road in enumerate(self.roads):
            others = [edge for k, edge in enumerate(edges) if k != index]
            clear = np.clip(np.min(others, axis=0) * 2, 0, 1) if others else np.float32(1)
            along, left = coordinates[index]
            colour = self._markings(colour, road, along, left, worn * clear, footprint, main=index == 0)
        flags = (0.86 + 0.2 * noise(u, v, 8, fine=True)) * np.where((u % 1.2 < 0.05) | (beside % 1.2 < 0.05), 0.75, 1)
        pavement = self.pavement[:, None]
        colour = _cover(colour, pavement * 1.25, _stripe(beside - 0.1, 0.1, footprint))
        colour = _cover(colour, pavement * flags, np.clip((beside - 0.2) / footprint + 0.5, 0, 1))
        green = self.verge[:, None] * (0.5 + 0.9 * noise(u, v, 5, fine=True))
        colour = _cover(colour, green, np.clip((beside - 0.2 - self.pavement_width) / footprint + 0.5, 0, 1))
        return colour.astype(np.float32)

    def _markings(
        self, colour: Float, road: RoadStrip, along: Float, left: Float, cover: Float, footprint: Float, *, main: bool
    ) -> Float:
        lane = (left + road.half_width) / road.lane_width
        on_road = np.abs(left) < road.half_width
        wheel_path = np.exp(-(((np.abs(lane - np.floor(lane) - 0.5) - 0.25) / 0.1) ** 2))
        colour = colour * (1 - 0.14 * wheel_path * on_road)
        nearest = np.round(lane)
        border = (nearest <= 0) | (nearest >= road.lanes)
        dashes = np.clip((0.2 * self.dash - np.abs(along % self.dash - self.dash / 2)) / footprint + 0.5, 0, 1)
        to_line = np.where(border, np.abs(left) - road.half_width + 0.25, (lane - nearest) * road.lane_width)
        line = _stripe(to_line, 0.07, footprint) * np.where(border, 1.0, dashes) * cover
        yellow = (border & self.yellow_edge)[None]
        colour = _cover(colour, np.where(yellow, np.array([[0.6], [0.42], [0.06]]), self.marking), line)
        white = np.full((3, 1), self.marking)
        if main and self.crossing is not None:
            bars = _stripe(left % 0.95 - 0.475, 0.24, footprint)
            colour = _cover(colour, white, _stripe(along - self.crossing, 1.6, footprint) * bars * on_road * cover)
        if main and self.stop_line is not None:
            colour = _cover(
                colour, white, _stripe(along - self.stop_line, 0.2, footprint) * (left < 0) * on_road * cover
            )
        return colour

    def sunlight(self, points_3N: Float, sun: Float) -> Float:
        """Return (N,) 0..1: the sun that trees and buildings beside the road let through to points."""
        slope = sun[:2] / max(float(sun[2]), 0.15)
        x = points_3N[0] - points_3N[2] * slope[0]
        y = points_3N[1] - points_3N[2] * slope[1]
        _, left = self.roads[0].coordinates(x, y)
        side = np.clip((left * self.shade_side - self.roads[0].half_width * 0.55) / 5, -1, 1)
        cloud = noise(x + self.offset[1], y, 3.2) + np.float32(0.35) * side
        light: Float = (1 - self.shade * np.clip((cloud - 0.62) * 7, 0, 1)).astype(np.float32)
        return light
