"""Triangle meshes of vehicle parts, with a place in the texture atlas for every face corner.

Vehicle frame: metres, x forwards, y to the left, z up, origin on the ground under the middle of the vehicle.
Faces are counter-clockwise seen from outside. Shape suffixes: V vertices, F faces.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float32]
Int = NDArray[np.int32]

ATLAS_SIZE = (1024, 832)  # texels, width and height of every vehicle's texture atlas


@dataclass(frozen=True)
class Patch:
    """A rectangle of the atlas that shows a rectangle of a plane: texels at `left, top` of `width, height`, which
    stand for horizontal x0..x1 (left to right) and vertical y0..y1 (bottom to top) metres."""

    left: int
    top: int
    width: int
    height: int
    x0: float = 0.0
    x1: float = 1.0
    y0: float = 0.0
    y1: float = 1.0

    def over(self, x0: float, x1: float, y0: float, y1: float) -> Patch:
        """Return the same texels standing for other metres."""
        return Patch(self.left, self.top, self.width, self.height, x0, x1, y0, y1)

    def texels(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> Float:
        """Return (..., 2) atlas texels of plane points, kept half a texel inside the patch."""
        u = np.clip((x - self.x0) / (self.x1 - self.x0) * self.width, 0.5, self.width - 0.5)
        v = np.clip((self.y1 - y) / (self.y1 - self.y0) * self.height, 0.5, self.height - 0.5)
        return np.stack([u + self.left, v + self.top], axis=-1).astype(np.float32)


@dataclass(frozen=True)
class Mesh:
    """Triangles with per-corner shading inputs."""

    vertices: Float  # (V, 3)
    faces: Int  # (F, 3)
    corners: Float  # (F, 3, 6): atlas texel u, v; normal x, y, z; ambient occlusion 0..1


def concatenate(meshes: Sequence[Mesh]) -> Mesh:
    """Return one mesh of several."""
    offsets = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    faces = [mesh.faces + np.int32(offset) for mesh, offset in zip(meshes, offsets, strict=True)]
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate(faces),
        np.concatenate([mesh.corners for mesh in meshes]),
    )


def vertex_normals(vertices: NDArray[np.floating], faces: Int) -> NDArray[np.float64]:
    """Return (V, 3) unit normals, the area-weighted mean of the faces at each vertex."""
    a, b, c = (vertices[faces[:, k]].astype(np.float64) for k in range(3))
    face_normals = np.cross(b - a, c - a)
    normals = np.zeros((len(vertices), 3))
    for k in range(3):
        for axis in range(3):
            normals[:, axis] += np.bincount(faces[:, k], face_normals[:, axis], len(vertices))
    unit: NDArray[np.float64] = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return unit


@dataclass
class MeshBuilder:
    """Collects parts; `build` gives the mesh."""

    parts: list[Mesh] = field(default_factory=list)

    def add(self, vertices: ArrayLike, faces: ArrayLike, texels: ArrayLike, *, flat: bool = False) -> None:
        """Add a part: vertices (V, 3), faces (F, 3), texels (F, 3, 2) or (2,); `flat` keeps its edges sharp."""
        points, triangles = np.asarray(vertices, np.float64), np.asarray(faces, np.int32)
        if flat:
            points = points[triangles.ravel()]
            triangles = np.arange(len(points), dtype=np.int32).reshape(-1, 3)
        corners = np.ones((len(triangles), 3, 6), np.float32)
        corners[..., :2] = np.asarray(texels, np.float32)
        corners[..., 2:5] = vertex_normals(points, triangles)[triangles]
        self.parts.append(Mesh(points.astype(np.float32), triangles, corners))

    def box(self, centre: Sequence[float], size: Sequence[float], texel: ArrayLike, *, bevel: float = 0.0) -> None:
        """Add a box of one colour; `bevel` (metres) shrinks its top face for a rounded look."""
        x, y, z = (value / 2 for value in size)
        bx, by = max(x - bevel, x * 0.2), max(y - bevel, y * 0.2)
        points = np.array(
            [(-x, -y, -z), (x, -y, -z), (x, y, -z), (-x, y, -z), (-bx, -by, z), (bx, -by, z), (bx, by, z), (-bx, by, z)]
        )
        quads = [(0, 3, 2, 1), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7)]
        faces = [face for a, b, c, d in quads for face in ((a, b, c), (a, c, d))]
        self.add(points + np.asarray(centre), faces, texel, flat=True)

    def ellipsoid(
        self, centre: Sequence[float], radii: Sequence[float], texel: ArrayLike, *, power: float = 1.0, rings: int = 5
    ) -> None:
        """Add an ellipsoid; `power` below 1 squares it off (a superellipsoid)."""
        count = 2 * rings
        theta = np.linspace(0, math.pi, rings + 1)
        phi = np.arange(count) * 2 * math.pi / count

        def bend(value: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.sign(value) * np.abs(value) ** power

        x = bend(np.sin(theta))[:, None] * bend(np.cos(phi))[None]
        y = bend(np.sin(theta))[:, None] * bend(np.sin(phi))[None]
        z = np.broadcast_to(bend(np.cos(theta))[:, None], x.shape)
        points = np.stack([x, y, z], -1).reshape(-1, 3) * np.asarray(radii) + np.asarray(centre)
        self.add(points, grid_faces(rings + 1, count, wrap=True), texel)

    def tube(
        self,
        path: ArrayLike,
        radius: float | Sequence[float],
        texel: ArrayLike,
        *,
        sides: int = 6,
        flatten: float = 1.0,
    ) -> None:
        """Add a closed tube along `path` (n, 3) with one radius or one per point; `flatten` scales it vertically."""
        points = np.asarray(path, np.float64)
        radii = np.broadcast_to(np.asarray(radius, np.float64), (len(points),))
        tangent = np.gradient(points, axis=0)
        tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)
        helper = np.where(np.abs(tangent[:, 2:3]) > 0.9, (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
        right = np.cross(tangent, helper)
        right /= np.linalg.norm(right, axis=1, keepdims=True)
        up = np.cross(right, tangent)
        angle = np.arange(sides) * 2 * math.pi / sides + math.pi / sides
        ring = right[:, None] * np.cos(angle)[None, :, None] + up[:, None] * np.sin(angle)[None, :, None] * flatten
        body = (points[:, None] + ring * radii[:, None, None]).reshape(-1, 3)
        vertices = np.concatenate([points[:1], body, points[-1:]])
        side = grid_faces(len(points), sides, wrap=True)[:, ::-1] + 1
        i = np.arange(sides)
        j, last = (i + 1) % sides, 1 + (len(points) - 1) * sides
        start = np.stack([np.zeros(sides, int), 1 + j, 1 + i], 1)
        end = np.stack([np.full(sides, len(vertices) - 1), last + i, last + j], 1)
        self.add(vertices, np.concatenate([side, start[:, ::-1], end[:, ::-1]])[:, ::-1], texel)

    def build(self) -> Mesh:
        """Return everything added so far as one mesh."""
        return concatenate(self.parts)


def grid_faces(rows: int, columns: int, *, wrap: bool = False) -> Int:
    """Return the two triangles of every cell of a rows x columns grid of vertices (`wrap` joins the last column)."""
    index = np.arange(rows * columns).reshape(rows, columns)
    if wrap:
        index = np.concatenate([index, index[:, :1]], axis=1)
    a, b = index[:-1, :-1].ravel(), index[1:, :-1].ravel()
    c, d = index[1:, 1:].ravel(), index[:-1, 1:].ravel()
    return np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]).astype(np.int32)
