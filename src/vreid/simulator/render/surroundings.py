"""Static surroundings of a camera: buildings, trees, hedges, fences, lamp posts, a pole in front."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vreid.simulator.render.camera import CameraSpec
from vreid.simulator.render.ground import noise
from vreid.simulator.render.light import Environment
from vreid.simulator.vehicle.mesh import Mesh, MeshBuilder

Float = NDArray[np.float32]
PLAIN, WALL, LEAVES = 0, 1, 2


@dataclass(frozen=True)
class Surroundings:
    """Static triangles; every face has one linear colour and one kind of surface."""

    mesh: Mesh
    colours: Float  # (F, 3)
    kinds: NDArray[np.int8]  # (F,)

    def shade(self, faces: NDArray[np.int32], points_3S: Float, rays_3S: Float, environment: Environment) -> Float:
        """Return (3, S) linear colours of samples on these faces at world points seen along unit rays."""
        normal = self.mesh.corners[faces, 0, 2:5].T.copy()
        albedo, kind = self.colours[faces].T, self.kinds[faces]
        x, y, z = points_3S
        across = np.where(np.abs(normal[0]) > np.abs(normal[1]), y, x)
        grain = 0.82 + 0.36 * noise(across, z, 3.0, fine=True)
        leaf = 0.35 + 1.3 * noise(x * 3 + z * 5, y * 3 + z * 2, 4.0, fine=True)
        pane = (kind == WALL) & (across / 2.3 % 1 > 0.4) & (z / 3.1 % 1 > 0.42) & (np.abs(normal[2]) < 0.5)
        albedo = np.where(pane, np.float32(0.03), albedo * np.where(kind == LEAVES, leaf, grain))
        sun = np.maximum(np.einsum("ks,k->s", normal, environment.sun_direction), 0)
        light = albedo * (environment.irradiance(normal) + sun * environment.sun_colour[:, None] * np.float32(0.85))
        mirror = rays_3S - 2 * np.einsum("ks,ks->s", rays_3S, normal) * normal
        colours: Float = (light + pane * 0.28 * environment.seen(mirror, 1.0)).astype(np.float32)
        return colours


class _Collector:
    def __init__(self) -> None:
        self.builder = MeshBuilder()
        self.colours: list[Float] = []
        self.kinds: list[NDArray[np.int8]] = []

    def keep(self, colour: NDArray[np.floating] | tuple[float, float, float], kind: int) -> None:
        """Set colour and kind of the parts added since the last call."""
        for part in self.builder.parts[len(self.colours) :]:
            self.colours.append(np.tile(np.asarray(colour, np.float32), (len(part.faces), 1)))
            self.kinds.append(np.full(len(part.faces), kind, np.int8))

    def wall(self, x: float, y: float, size: tuple[float, float, float], turn: float, bottom: float = 0.0) -> None:
        """Add a box turned about the vertical, standing at height `bottom`."""
        half = np.array(size) / 2
        corners = np.array([(i, j, k) for k in (-1, 1) for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))]) * half
        cos, sin = math.cos(turn), math.sin(turn)
        points = np.stack(
            [
                corners[:, 0] * cos - corners[:, 1] * sin + x,
                corners[:, 0] * sin + corners[:, 1] * cos + y,
                corners[:, 2] + half[2] + bottom,
            ],
            1,
        )
        quads = [(4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7)]
        self.builder.add(points, [f for a, b, c, d in quads for f in ((a, b, c), (a, c, d))], (0, 0), flat=True)


def surroundings_of(camera: CameraSpec, rng: np.random.Generator) -> Surroundings:
    """Return the surroundings of a camera: dense, off the roads, never between the camera and its lanes."""
    collector = _Collector()
    road = camera.roads[0]
    eye = np.array(camera.position[:2])
    reach = float(np.hypot(*eye))

    def free(x: float, y: float, room: float) -> bool:
        return all(
            abs(float(r.coordinates(np.array([x]), np.array([y]))[1][0])) > r.half_width + room for r in camera.roads
        )

    def behind(x: float, y: float) -> bool:
        """Whether a tall object here does not occlude the lanes."""
        return x * eye[0] + y * eye[1] < -0.15 * reach * math.hypot(x, y) or math.hypot(x, y) > reach + 14

    for side in (-1, 1):
        u = -55.0
        while u < 70:
            step = float(rng.uniform(5, 13))
            v = side * (road.half_width + float(rng.uniform(4.5, 9)))
            pose = road.lane(v, forwards=True, reach=90).pose((u + 90) * (1 - road.curvature * v))
            x, y, heading = pose
            kind = rng.random()
            tall = behind(x, y)
            if tall and kind < 0.55 and free(x, y, 6.0):
                depth, height = float(rng.uniform(5, 8)), float(rng.uniform(4, 15))
                x, y = x - math.sin(heading) * side * depth / 2, y + math.cos(heading) * side * depth / 2
                collector.wall(x, y, (step * 0.94, depth, height), heading)
                collector.keep(
                    np.array([0.36, 0.31, 0.26]) * rng.uniform(0.5, 1.5, 3).mean() * rng.uniform(0.85, 1.15, 3), WALL
                )
            elif tall and kind < 0.85 and free(x, y, 3.0):
                _tree(collector, rng, x, y)
            elif free(x, y, 2.5):
                height = float(rng.uniform(0.5, 1.3))
                collector.wall(x, y, (step * 0.9, float(rng.uniform(0.5, 1.1)), height), heading)
                collector.keep(np.array([0.07, 0.13, 0.04]) * rng.uniform(0.7, 1.3), LEAVES)
            if tall and rng.random() < 0.3:
                v = side * (road.half_width + 0.7)
                x, y, heading = road.lane(v, forwards=True, reach=90).pose((u + 90) * (1 - road.curvature * v))
                if free(x, y, 0.5):
                    collector.wall(x, y, (0.13, 0.13, float(rng.uniform(2.4, 6))), heading)
                    if rng.random() < 0.5:
                        collector.wall(x, y, (0.05, 0.6, 0.6), heading, bottom=2.1)
                    collector.keep(np.array([0.24, 0.24, 0.25]) * rng.uniform(0.5, 1.4), PLAIN)
            u += step
    if camera.pole is not None:
        x, y, wide = camera.pole
        collector.wall(x, y, (wide, wide, 8.0), road.heading)
        collector.keep((0.25, 0.25, 0.26), PLAIN)
    if not collector.builder.parts:
        collector.wall(0, 0, (0.01, 0.01, 0.01), 0.0)
        collector.keep((0.2, 0.2, 0.2), PLAIN)
    return Surroundings(collector.builder.build(), np.concatenate(collector.colours), np.concatenate(collector.kinds))


def _tree(collector: _Collector, rng: np.random.Generator, x: float, y: float) -> None:
    height, spread = float(rng.uniform(4, 8)), float(rng.uniform(1.3, 2.6))
    collector.wall(x, y, (0.25, 0.25, height * 0.6), 0.0)
    collector.keep((0.10, 0.08, 0.06), PLAIN)
    for _ in range(5):
        centre = np.array([x, y, height * 0.75]) + rng.normal(0, spread * 0.4, 3)
        radii = spread * rng.uniform(0.5, 0.8) * rng.uniform(0.8, 1.2, 3)
        collector.builder.ellipsoid(tuple(centre), tuple(radii), (0, 0), rings=4)
        collector.keep(np.array([0.06, 0.115, 0.035]) * rng.uniform(0.6, 1.35), LEAVES)
