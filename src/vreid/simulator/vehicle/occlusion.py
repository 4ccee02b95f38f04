"""Ambient occlusion: how much of the sky each part of a vehicle, and the ground around it, can see."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vreid.simulator.raster import depth_map
from vreid.simulator.vehicle.mesh import Mesh

Float = NDArray[np.float32]
DIRECTIONS, MAP_SIZE = 20, 56
GROUND_CELLS = (28, 52)  # across and along the vehicle
MARGIN = 1.2  # metres of ground around the vehicle that its shade reaches


def sky_visibility(mesh: Mesh, size: tuple[float, float, float]) -> tuple[Float, Float]:
    """Return the share of its sky that each vertex sees (V,), and the ground around the vehicle sees (28, 52).

    Ground cells cover +-(width / 2 + MARGIN) across (rows) and +-(length / 2 + MARGIN) along (columns).
    """
    length, width, height = size
    step = np.arange(DIRECTIONS) + 0.5
    z = 1 - step / DIRECTIONS * 0.95
    flat, turn = np.sqrt(1 - z * z), step * 2.399963  # golden-angle spiral over the upper half sphere
    directions = np.stack([flat * np.cos(turn), flat * np.sin(turn), z], 1).astype(np.float32)

    rows, columns = GROUND_CELLS
    across = np.linspace(-width / 2 - MARGIN, width / 2 + MARGIN, rows, dtype=np.float32)
    along = np.linspace(-length / 2 - MARGIN, length / 2 + MARGIN, columns, dtype=np.float32)
    ground = np.stack([np.tile(along, rows), np.repeat(across, columns), np.full(rows * columns, 0.01, np.float32)], 1)

    normals = np.zeros_like(mesh.vertices)
    normals[mesh.faces.ravel()] = mesh.corners[..., 2:5].reshape(-1, 3)
    points = np.concatenate([mesh.vertices + normals * np.float32(0.06), ground]).T.copy()
    weights = np.concatenate([normals, np.broadcast_to(np.array([0, 0, 1], np.float32), ground.shape)])
    centre = np.array([0, 0, height / 2], np.float32)
    half = float(np.linalg.norm(size)) / 2 * 1.02
    seen, total = np.zeros(len(weights), np.float32), np.full(len(weights), 1e-6, np.float32)
    for direction in directions:
        cosine = np.maximum(np.einsum("vk,k->v", weights, direction), 0)
        lit = depth_map(mesh.vertices, mesh.faces, direction, centre, half, MAP_SIZE).lit(points, half / MAP_SIZE * 1.6)
        seen += cosine * lit
        total += cosine
    share = np.where(total > 0.4, seen / total, 0.35).astype(np.float32)
    count = len(mesh.vertices)
    return np.clip(share[:count], 0.06, 1), share[count:].reshape(rows, columns)
