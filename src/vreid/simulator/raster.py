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


def _edge(p: NDArray[np.float64], q: NDArray[np.float64]) -> Float:
    """Return (3, F) float32: the edge function c0 + cx x + cy y of p -> q, positive on the inner side.

    Coefficients come from a fixed order of the two points, so that two faces sharing the edge evaluate
    exactly opposite numbers and leave no crack between them.
    """
    swap = (p[0] > q[0]) | ((p[0] == q[0]) & (p[1] > q[1]))
    ax, ay = np.where(swap, q[0], p[0]), np.where(swap, q[1], p[1])
    bx, by = np.where(swap, p[0], q[0]), np.where(swap, p[1], q[1])
    sign = np.where(swap, 1.0, -1.0)
    return np.stack([(ax * by - bx * ay) * sign, (ay - by) * sign, (bx - ax) * sign]).astype(np.float32)


def rasterise(points_V3: Float, faces_F3: Int, width: int, height: int, *, cull: bool = True) -> Fragments:
    """Return the fragments of a mesh on a width x height grid whose samples sit at (i + 0.5, j + 0.5).

    `points_V3` holds x, y in samples (y down) and nearness (affine on the screen: inverse depth for a pinhole,
    height along the ray for an orthographic view); a face with a corner of nearness <= 0 is left out.
    With `cull`, faces that turn their back (clockwise seen from outside) are left out. Of equally near faces the
    first one wins.
    """
    corners = points_V3[faces_F3].astype(np.float64).transpose(1, 2, 0)  # (corner, xyz, F)
    corners[:, :2] -= 0.5
    a, b, c = corners
    area = (b[1] - a[1]) * (c[0] - a[0]) - (b[0] - a[0]) * (c[1] - a[1])
    low = np.ceil(corners[:, :2].min(axis=0))
    high = np.floor(corners[:, :2].max(axis=0))
    x0, y0 = np.maximum(low, 0.0)
    x1, y1 = np.minimum(high[0], width - 1.0), np.minimum(high[1], height - 1.0)
    keep = (x1 >= x0) & (y1 >= y0) & (corners[:, 2].min(axis=0) > 0)
    keep &= (area > 1e-9) if cull else (np.abs(area) > 1e-9)
    kept = np.flatnonzero(keep).astype(np.int32)
    if len(kept) == 0:
        none = np.zeros(0, np.int32)
        return Fragments(none, none, np.zeros((0, 3), np.float32), np.zeros(0, np.float32))
    a, b, c = corners[:, :, kept]
    area = area[kept]
    flip = np.where(area < 0, -1.0, 1.0).astype(np.float32)
    x0i, y0i = x0[kept].astype(np.int32), y0[kept].astype(np.int32)
    span = (x1[kept] - x0[kept]).astype(np.int32) + 1
    counts = span * ((y1[kept] - y0[kept]).astype(np.int32) + 1)

    starts = np.cumsum(counts) - counts
    face = np.repeat(np.arange(len(kept), dtype=np.int32), counts)
    offset = np.arange(int(counts.sum()), dtype=np.int32) - np.repeat(starts.astype(np.int32), counts)
    row = offset // span[face]
    x = offset - row * span[face] + x0i[face]
    y = row + y0i[face]
    fx, fy = x.astype(np.float32), y.astype(np.float32)
    e0, e1, e2 = (_edge(b, c) * flip, _edge(c, a) * flip, _edge(a, b) * flip)
    w0 = e0[0, face] + e0[1, face] * fx + e0[2, face] * fy
    w1 = e1[0, face] + e1[1, face] * fx + e1[2, face] * fy
    w2 = e2[0, face] + e2[1, face] * fx + e2[2, face] * fy
    inside = np.flatnonzero((w0 >= 0) & (w1 >= 0) & (w2 >= 0))
    face, sample = face[inside], (y[inside] * np.int32(width) + x[inside]).astype(np.int32)
    weights = np.stack([w0[inside], w1[inside], w2[inside]], axis=1)
    weights *= (1.0 / np.abs(area)).astype(np.float32)[face, None]
    corner_nearness = corners[:, 2, kept].astype(np.float32)
    nearness = np.einsum("sk,ks->s", weights, corner_nearness[:, face])

    buffer = np.zeros(width * height, np.float32)
    np.maximum.at(buffer, sample, nearness)
    nearest = np.flatnonzero(nearness == buffer[sample])[::-1]  # reversed: the first face is written last and stays
    winner = np.full(width * height, -1, np.int32)
    winner[sample[nearest]] = nearest
    chosen = winner[winner >= 0]
    return Fragments(sample[chosen], kept[face[chosen]], weights[chosen], nearness[chosen])


@dataclass(frozen=True)
class DepthMap:
    """Heights of the nearest surface along a light direction, on a square grid around a centre."""

    axes: Float  # (3, 3) rows: right, up, towards the light
    centre: Float  # (3,)
    half: float  # metres from the centre to the border
    heights: Float  # (n, n) metres along the light above the centre; -inf where nothing is

    def lit(self, points_N3: Float, bias: float) -> Float:
        """Return (N,) in 0..1: how much of each point's neighbourhood in the map lies no higher than the point."""
        size = self.heights.shape[0]
        local = np.einsum("nk,ck->cn", points_N3 - self.centre, self.axes)
        scale = np.float32(size / 2 / self.half)
        fx, fy = local[0] * scale + np.float32(size / 2 - 0.5), local[1] * scale + np.float32(size / 2 - 0.5)
        ix, iy = np.floor(fx).astype(np.int32), np.floor(fy).astype(np.int32)
        tx, ty = fx - ix, fy - iy
        outside = (ix < 0) | (iy < 0) | (ix >= size - 1) | (iy >= size - 1)
        index = np.clip(iy, 0, size - 2) * size + np.clip(ix, 0, size - 2)
        flat, own = self.heights.ravel(), local[2] + np.float32(bias)
        top = (flat[index] <= own) * (1 - tx) + (flat[index + 1] <= own) * tx
        bottom = (flat[index + size] <= own) * (1 - tx) + (flat[index + size + 1] <= own) * tx
        lit: Float = np.where(outside, np.float32(1), (top * (1 - ty) + bottom * ty).astype(np.float32))
        return lit


def axes_along(direction: NDArray[np.floating]) -> Float:
    """Return (3, 3) orthonormal rows right, up, direction (z up wherever it can be)."""
    d = np.asarray(direction, np.float64)
    d = d / np.linalg.norm(d)
    right = np.cross((0.0, 0.0, 1.0) if abs(d[2]) < 0.95 else (1.0, 0.0, 0.0), d)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(d, right), d]).astype(np.float32)


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
    seen = rasterise(points, faces_F3, size, size, cull=False)
    heights = np.full(size * size, -np.inf, np.float32)
    heights[seen.sample] = seen.nearness - lift
    return DepthMap(axes, np.asarray(centre, np.float32), float(half), heights.reshape(size, size))
