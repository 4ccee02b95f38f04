"""Light on vehicles: samples of a mesh become linear colours.

Shape suffixes: S samples.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vreid.simulator.light import Environment
from vreid.simulator.mesh import ATLAS_SIZE, Mesh
from vreid.simulator.raster import DepthMap, Fragments

Float = NDArray[np.float32]
_LINEAR = ((np.arange(256) / 255) ** 2.2).astype(np.float32)
_UNIT = (np.arange(256) / 255).astype(np.float32)


def perspective(fragments: Fragments, nearness_of_corners: Float) -> Float:
    """Return (S, 3) perspective-correct weights from screen-space ones; corners (F, 3) in nearness."""
    weights = fragments.weights * nearness_of_corners[fragments.face]
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def shade(
    mesh: Mesh,
    levels: tuple[NDArray[np.uint8], ...],
    fragments: Fragments,
    weights_S3: Float,
    rays_S3: Float,
    points_S3: Float,
    heading: float,
    environment: Environment,
    *,
    texel_size: float,
    lamps: float = 0.0,
    shadow: DepthMap | None = None,
    sunlight: Callable[[Float], Float] | None = None,
) -> Float:
    """Return (S, 3) linear colours.

    `levels` are the atlas mip levels (H, W, 6): sRGB colour, reflectance, gloss, glow; `rays_S3` unit directions from
    the eye; `points_S3` world positions; `texel_size` atlas texels per sample.
    """
    attributes = np.einsum("sk,skc->sc", weights_S3, mesh.corners[fragments.face])
    level = int(np.clip(np.floor(np.log2(max(texel_size, 1e-3)) + 0.5), 0, len(levels) - 1))
    table = levels[level]
    width = ATLAS_SIZE[0] >> level
    index = (attributes[:, 1] / (1 << level)).astype(np.int32) * width + (attributes[:, 0] / (1 << level)).astype(np.int32)
    material = table.reshape(-1, table.shape[2])[index]
    albedo, finish = _LINEAR[material[:, :3]], _UNIT[material[:, 3:]]
    reflectance, gloss, glow = finish[:, 0:1], finish[:, 1:2], finish[:, 2:3]

    normal, occlusion = attributes[:, 2:5], attributes[:, 5:6]
    cos, sin = np.float32(np.cos(heading)), np.float32(np.sin(heading))
    normal = np.stack([normal[:, 0] * cos - normal[:, 1] * sin, normal[:, 0] * sin + normal[:, 1] * cos, normal[:, 2]], axis=1)
    normal /= np.sqrt(np.einsum("sk,sk->s", normal, normal))[:, None] + np.float32(1e-9)
    facing = -np.einsum("sk,sk->s", normal, rays_S3)[:, None]
    mirror = rays_S3 + 2 * facing * normal
    facing = np.clip(facing, 0, 1)
    rim = (1 - facing) * (1 - facing)
    fresnel = (reflectance + (1 - reflectance) * rim * rim * np.float32(0.8)) * gloss

    sun = environment.sun_direction
    lit = np.maximum(np.einsum("sk,k->s", normal, sun), 0)
    if shadow is not None:
        lit = lit * shadow.lit(points_S3 + normal * np.float32(0.05), 0.05)
    if sunlight is not None:
        lit = lit * sunlight(points_S3)
    diffuse = environment.irradiance(normal) * occlusion + lit[:, None] * environment.sun_colour
    around = environment.seen(mirror, sharp=True)
    around += (environment.seen(mirror, sharp=False) - around) * (1 - gloss)
    near_ground = np.where(mirror[:, 2] < 0, np.clip(0.4 + points_S3[:, 2] * 0.4, 0.4, 1), 1)[:, None]
    toward = np.maximum(np.einsum("sk,k->s", mirror, sun), 0)
    tight = toward**8
    tight = tight * tight * tight * tight
    highlight = (tight * tight * tight * tight * 14 * gloss[:, 0] ** 2 + tight * 0.25 * gloss[:, 0]) * np.sqrt(lit)
    colour = albedo * diffuse * (1 - fresnel) + fresnel * around * np.minimum(occlusion * np.float32(1.25), 1) * near_ground
    colour += (reflectance * np.float32(0.7) + np.float32(0.03)) * highlight[:, None] * environment.sun_colour
    if lamps:
        colour += albedo * glow * np.float32(lamps * 6)
    return colour
