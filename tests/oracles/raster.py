"""A rasteriser that asks every sample about every face, in plain Python fractions of nothing but floats."""

from __future__ import annotations

import numpy as np


def rasterise_slowly(points, faces, width, height, *, cull=True):
    """Return {sample: (face, weights, nearness)} by testing every sample centre against every face."""
    found = {}
    for index, face in enumerate(faces):
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = (np.asarray(points[k], float) for k in face)
        area = (by - ay) * (cx - ax) - (bx - ax) * (cy - ay)
        if min(az, bz, cz) <= 0 or (area <= 1e-9 if cull else abs(area) <= 1e-9):
            continue
        for y in range(height):
            for x in range(width):
                px, py = x + 0.5, y + 0.5
                w0 = ((cy - by) * (px - bx) - (cx - bx) * (py - by)) / area
                w1 = ((ay - cy) * (px - cx) - (ax - cx) * (py - cy)) / area
                w2 = 1 - w0 - w1
                if min(w0, w1, w2) < 0:
                    continue
                near = w0 * az + w1 * bz + w2 * cz
                if y * width + x not in found or near > found[y * width + x][2]:
                    found[y * width + x] = (index, (w0, w1, w2), near)
    return found
