"""Shade vehicles: linear colours of mesh samples.

Shape suffixes: S samples.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vreid.simulator.raster import DepthMap, DepthMaps, Fragments
from vreid.simulator.render.light import Environment
from vreid.simulator.vehicle.canvas import FINISHES, Level
from vreid.simulator.vehicle.mesh import ATLAS_SIZE, Mesh

Float = NDArray[np.float32]
_LINEAR = ((np.arange(256) / 255) ** 2.2).astype(np.float32)
_FINISH = np.array(FINISHES, np.float32).T.copy()


def perspective(fragments: Fragments, nearness_of_corners: Float) -> Float:
    """Return (S, 3) perspective-correct weights from screen-space ones; corners (F, 3) in nearness."""
    weights = fragments.weights * nearness_of_corners[fragments.face]
    weights /= (weights[:, 0] + weights[:, 1] + weights[:, 2])[:, None]
    return weights


def shade(
    mesh: Mesh,
    levels: tuple[Level, ...],
    fragments: Fragments,
    weights_S3: Float,
    rays_3S: Float,
    points_3S: Float,
    heading: float,
    environment: Environment,
    *,
    texel_size: float,
    lamps: float = 0.0,
    shadow: DepthMap | DepthMaps | None = None,
    sunlight: Callable[[Float], Float] | None = None,
) -> Float:
    """Return (3, S) linear colours.

    `rays_3S` are unit directions from the eye, `points_3S` world positions, `texel_size` atlas texels per sample.
    """
    attributes: Float = np.einsum("sk,skc->sc", weights_S3, mesh.corners[fragments.face]).T.copy()
    level = int(np.clip(np.floor(np.log2(max(texel_size, 1e-3)) + 0.5), 0, len(levels) - 1))
    shrink = np.float32(1 / (1 << level))
    row, column = (attributes[1] * shrink).astype(np.int32), (attributes[0] * shrink).astype(np.int32)
    texel = row * np.int32(ATLAS_SIZE[0] >> level) + column
    albedo = _LINEAR[levels[level].colour.reshape(-1, 3)[texel].T]
    reflectance, gloss, glow = _FINISH[:, levels[level].finish.ravel()[texel]]

    cos, sin = np.float32(np.cos(heading)), np.float32(np.sin(heading))
    occlusion = attributes[5]
    normal: Float = np.stack(
        [attributes[2] * cos - attributes[3] * sin, attributes[2] * sin + attributes[3] * cos, attributes[4]]
    )
    normal /= np.sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2) + np.float32(1e-9)
    facing = -(normal[0] * rays_3S[0] + normal[1] * rays_3S[1] + normal[2] * rays_3S[2])
    mirror = rays_3S + 2 * facing * normal
    rim = (1 - np.clip(facing, 0, 1)) ** 2
    fresnel = (reflectance + (1 - reflectance) * rim * rim * np.float32(0.8)) * gloss

    sun = environment.sun_direction
    lit = np.maximum(normal[0] * sun[0] + normal[1] * sun[1] + normal[2] * sun[2], 0)
    if shadow is not None:
        lit *= shadow.lit(points_3S + normal * np.float32(0.05), 0.05)
    if sunlight is not None:
        lit *= sunlight(points_3S)
    toward = np.maximum(mirror[0] * sun[0] + mirror[1] * sun[1] + mirror[2] * sun[2], 0)
    broad = _power_of_two(toward, 5)
    highlight = (_power_of_two(broad, 4) * 14 * gloss * gloss + broad * gloss * np.float32(0.25)) * np.sqrt(lit)
    highlight *= reflectance * np.float32(0.7) + np.float32(0.03)
    # Below the horizon the paint mirrors the road near the vehicle, which lies in its own shade.
    near_road = np.where(mirror[2] < 0, np.clip(0.4 + points_3S[2] * np.float32(0.4), 0.4, 1), 1)
    mirrored = fresnel * np.minimum(occlusion * np.float32(1.25), 1) * near_road

    colour = environment.irradiance(normal)
    colour *= occlusion
    around = environment.seen(mirror, 1 - gloss)
    kept = 1 - fresnel
    for channel in range(3):
        colour[channel] += lit * environment.sun_colour[channel]
        colour[channel] *= albedo[channel] * kept
        colour[channel] += mirrored * around[channel] + highlight * environment.sun_colour[channel]
        if lamps:
            colour[channel] += albedo[channel] * glow * np.float32(lamps * 6)
    return colour


def _power_of_two(base: Float, doublings: int) -> Float:
    """Return base to the power 2 ** doublings."""
    for _ in range(doublings):
        base = base * base
    return base
