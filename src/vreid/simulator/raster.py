"""A small triangle rasteriser in numpy: covered samples of a mesh, nearest first, and orthographic depth maps.

Shape suffixes: V vertices, F faces, S covered samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Int = NDArray[np.int32]


@dataclass(frozen=True)
class Fragments:
    """The samples that a mesh covers: one nearest face per sample, sorted by sample."""

    sample: Int  # (S,) index into the flattened height x width grid
    face: Int  # (S,) row of `faces`
    weights: Float  # (S, 3) screen-space barycentric weights of the face's corners
    nearness: Float  # (S,) the third coordinate of the points, interpolated; larger is nearer

    def __len__(self) -> int:
        return len(self.sample)

    def take(self, chosen: NDArray[np.bool_]) -> Fragments:
        """Return the fragments where `chosen` (S,) is true."""
        return Fragments(self.sample[chosen], self.face[chosen], self.weights[chosen], self.nearness[chosen])


Corner = tuple[NDArray[np.float64], NDArray[np.float64]]


def _edge(p: Corner, q: Corner) -> NDArray[np.float64]:
    """Return (3, F): the edge function c0 + cx x + cy y of p -> q, positive on the inner side.

    Coefficients come from a fixed order of the two points, so that two faces sharing the edge evaluate
    exactly opposite numbers and leave no crack between them.
    """
    swap = (p[0] > q[0]) | ((p[0] == q[0]) & (p[1] > q[1]))
    ax, ay = np.where(swap, q[0], p[0]), np.where(swap, q[1], p[1])
    bx, by = np.where(swap, p[0], q[0]), np.where(swap, p[1], q[1])
    sign = np.where(swap, 1.0, -1.0)
    return np.stack([(ax * by - bx * ay) * sign, (ay - by) * sign, (bx - ax) * sign])


def _spread(counts: Int) -> tuple[Int, Int]:
    """Return for each of sum(counts) items the group it belongs to and its place in the group."""
    group = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    starts = (np.cumsum(counts) - counts).astype(np.int32)
    return group, np.arange(len(group), dtype=np.int32) - starts[group]


def rasterise(points_V3: Float, faces_F3: Int, width: int, height: int, *, cull: bool = True) -> Fragments:
    """Return the fragments of a mesh on a width x height grid whose samples sit at (i + 0.5, j + 0.5).

    `points_V3` holds x, y in samples (y down) and nearness (affine on the screen: inverse depth for a pinhole,
    height along the ray for an orthographic view); a face with a corner of nearness <= 0 is left out.
    `cull` omits back faces (clockwise seen from outside). Of equally near faces the first one wins.
    """
    x, y = (points_V3[:, axis].astype(np.float64) - 0.5 for axis in (0, 1))
    near = points_V3[:, 2]
    f0, f1, f2 = (np.ascontiguousarray(faces_F3[:, k]) for k in range(3))
    a, b, c = (x[f0], y[f0]), (x[f1], y[f1]), (x[f2], y[f2])
    area = (b[1] - a[1]) * (c[0] - a[0]) - (b[0] - a[0]) * (c[1] - a[1])
    x0 = np.maximum(np.ceil(np.minimum(np.minimum(a[0], b[0]), c[0])), 0.0)
    y0 = np.maximum(np.ceil(np.minimum(np.minimum(a[1], b[1]), c[1])), 0.0)
    x1 = np.minimum(np.floor(np.maximum(np.maximum(a[0], b[0]), c[0])), width - 1.0)
    y1 = np.minimum(np.floor(np.maximum(np.maximum(a[1], b[1]), c[1])), height - 1.0)
    keep = (x1 >= x0) & (y1 >= y0) & (np.minimum(np.minimum(near[f0], near[f1]), near[f2]) > 0)
    keep &= (area > 1e-9) if cull else (np.abs(area) > 1e-9)
    kept = np.flatnonzero(keep).astype(np.int32)
    if len(kept) == 0:
        none = np.zeros(0, np.int32)
        return Fragments(none, none, np.zeros((0, 3), np.float32), np.zeros(0, np.float32))
    a, b, c = ((p[0][kept], p[1][kept]) for p in (a, b, c))
    area = area[kept]
    flip = np.sign(area)
    edges = np.stack([_edge(b, c), _edge(c, a), _edge(a, b)]) * flip  # (3 edges, 3 coefficients, F)

    # One entry per face and row of samples: the stretch of the row that the three edges leave, a little too wide.
    first, last = y0[kept].astype(np.int32), y1[kept].astype(np.int32)
    face, place = _spread(last - first + 1)
    row = place + first[face]
    left, right = x0[kept][face], x1[kept][face]
    for edge in edges:
        slope = edge[1][face]
        with np.errstate(divide="ignore", invalid="ignore"):
            crossing = -(edge[0][face] + edge[2][face] * row) / slope
        left = np.where(slope > 0, np.maximum(left, crossing - 0.01), left)
        right = np.where(slope < 0, np.minimum(right, crossing + 0.01), right)
    start = np.ceil(left).astype(np.int32)
    length = np.maximum(np.floor(right).astype(np.int32) - start + 1, 0)

    # Each edge function, and the nearness, is an offset per stretch plus a slope along it.
    single = edges.astype(np.float32)
    row_f = row.astype(np.float32)
    at_row = [edge[0][face] + edge[2][face] * row_f for edge in single]
    slopes = [edge[1][face] for edge in single]
    scale = (1.0 / np.abs(area)).astype(np.float32)[face]
    corner = [near[f][kept][face].astype(np.float32) * scale for f in (f0, f1, f2)]
    near_at_row = sum(value * k for value, k in zip(at_row, corner, strict=True))
    near_slope = sum(value * k for value, k in zip(slopes, corner, strict=True))

    stretch, place = _spread(length)
    column = place + start[stretch]
    x_f = column.astype(np.float32)
    weights = [value[stretch] + slope[stretch] * x_f for value, slope in zip(at_row, slopes, strict=True)]
    inside = np.flatnonzero((weights[0] >= 0) & (weights[1] >= 0) & (weights[2] >= 0))
    stretch, column = stretch[inside], column[inside]
    sample = row[stretch] * np.int32(width) + column
    nearness = near_at_row[stretch] + near_slope[stretch] * x_f[inside]

    buffer = np.zeros(width * height, np.float32)
    np.maximum.at(buffer, sample, nearness)
    nearest = np.flatnonzero(nearness == buffer[sample])[::-1]  # reversed: the first face is written last and stays
    winner = np.full(width * height, -1, np.int32)
    winner[sample[nearest]] = nearest
    chosen = winner[winner >= 0]
    stretch, inside = stretch[chosen], inside[chosen]
    shares = np.stack([weight[inside] for weight in weights], axis=1) * scale[stretch, None]
    return Fragments(sample[chosen], kept[face[stretch]], shares, nearness[chosen])


@dataclass(frozen=True)
class DepthMap:
    """Heights of the nearest surface along a light direction, on a square grid around a centre."""

    axes: Float  # (3, 3) rows: right, down, towards the light
    centre: Float  # (3,)
    half: float  # metres from the centre to the border
    heights: Float  # (n, n) metres along the light above the centre; -inf where nothing is

    def lit(self, points_3N: Float, bias: float) -> Float:
        """Return (N,) in 0..1: the share of each point's neighbourhood in the map that is no higher than the point."""
        size = self.heights.shape[0]
        scale = np.float32(size / 2 / self.half)
        x, y, z = (points_3N[k] - self.centre[k] for k in range(3))
        right, down, toward = self.axes
        fx = (x * right[0] + y * right[1] + z * right[2]) * scale + np.float32(size / 2 - 0.5)
        fy = (x * down[0] + y * down[1] + z * down[2]) * scale + np.float32(size / 2 - 0.5)
        own = x * toward[0] + y * toward[1] + z * toward[2] + np.float32(bias)
        ix, iy = np.floor(fx).astype(np.int32), np.floor(fy).astype(np.int32)
        inside = np.flatnonzero((ix >= 0) & (iy >= 0) & (ix < size - 1) & (iy < size - 1))
        ix, iy, own = ix[inside], iy[inside], own[inside]
        tx, ty = fx[inside] - ix, fy[inside] - iy
        index, flat = iy * np.int32(size) + ix, self.heights.ravel()
        top = (flat[index] <= own) * (1 - tx) + (flat[index + 1] <= own) * tx
        bottom = (flat[index + size] <= own) * (1 - tx) + (flat[index + size + 1] <= own) * tx
        lit = np.ones(points_3N.shape[1], np.float32)
        lit[inside] = top * (1 - ty) + bottom * ty
        return lit


@dataclass(frozen=True)
class DepthMaps:
    """Depth maps of several meshes under one light, used as one."""

    maps: tuple[DepthMap, ...]

    def lit(self, points_3N: Float, bias: float) -> Float:
        """Return (N,) in 0..1: the least of the maps' shares at each point (see `DepthMap.lit`)."""
        least = self.maps[0].lit(points_3N, bias)
        for one in self.maps[1:]:
            least = np.minimum(least, one.lit(points_3N, bias))
        return least


def axes_along(direction: NDArray[np.floating]) -> Float:
    """Return (3, 3) orthonormal rows right, down, direction: the screen axes of a view against `direction`."""
    d = np.asarray(direction, np.float64)
    d = d / np.linalg.norm(d)
    right = np.cross((0.0, 0.0, 1.0) if abs(d[2]) < 0.95 else (1.0, 0.0, 0.0), d)
    right /= np.linalg.norm(right)
    axes: Float = np.stack([right, np.cross(right, d), d]).astype(np.float32)
    return axes


def depth_map(
    vertices_V3: Float, faces_F3: Int, direction: NDArray[np.floating], centre: Float, half: float, size: int
) -> DepthMap:
    """Return the depth map of a mesh seen from a far light in `direction` (pointing to the light)."""
    axes = axes_along(direction)
    local = np.einsum("vk,ck->vc", vertices_V3 - centre, axes)
    lift = np.float32(1000.0)
    points = np.empty_like(local)
    points[:, :2] = (local[:, :2] / np.float32(half) + 1) * np.float32(size / 2)
    points[:, 2] = local[:, 2] + lift
    seen = rasterise(points, faces_F3, size, size)
    heights = np.full(size * size, -np.inf, np.float32)
    heights[seen.sample] = seen.nearness - lift
    return DepthMap(axes, np.asarray(centre, np.float32), float(half), heights.reshape(size, size))
