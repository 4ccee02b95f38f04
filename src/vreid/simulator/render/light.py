"""Scene lighting: sky, sun, street lamps, and the reflected skyline.

Directions are unit vectors, z up; many of them come component first, (3, N), which numpy handles fastest.
Radiance is linear RGB where 1 is a white card lit as the exposure expects.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Double = NDArray[np.float64]
MAP = 128  # texels along a side of a camera's octahedral map
_RIM = np.array([[1, 0, 0.25], [-1, 0, 0.25], [0, 1, 0.25]], np.float32).T


@dataclass(frozen=True)
class LightSpec:
    """A sky: angles in radians, colours linear RGB.

    `sun_strength` is what the sun adds on a card facing it, `sky_strength` what an open sky adds on a flat card.
    """

    sun_elevation: float
    sun_azimuth: float
    sun_strength: float
    sky_strength: float
    overcast: float  # 0 blue sky .. 1 white sky
    warmth: float  # 0 noon .. 1 sun near the horizon
    night: bool = False


def octahedral(directions_3N: Float, size: int) -> NDArray[np.int32]:
    """Return (N,) texel indices of directions in a size x size octahedral map."""
    x, y, z = directions_3N
    scale = 1 / (np.abs(x) + np.abs(y) + np.abs(z))
    u, v = x * scale, y * scale
    below = z < 0
    folded_u = np.where(below, (1 - np.abs(v)) * np.copysign(np.float32(1), u), u)
    folded_v = np.where(below, (1 - np.abs(u)) * np.copysign(np.float32(1), v), v)
    half = np.float32(size / 2)
    column = np.minimum((folded_u * half + half).astype(np.int32), size - 1)
    row = np.minimum((folded_v * half + half).astype(np.int32), size - 1)
    texels: NDArray[np.int32] = row * np.int32(size) + column
    return texels


def _directions(size: int) -> NDArray[np.float64]:
    """Return (size * size, 3): the direction of each texel of an octahedral map."""
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    v, u = np.meshgrid(axis, axis, indexing="ij")
    z = 1 - np.abs(u) - np.abs(v)
    x = np.where(z < 0, (1 - np.abs(v)) * np.sign(u), u)
    y = np.where(z < 0, (1 - np.abs(u)) * np.sign(v), v)
    directions = np.stack([x, y, z], -1).reshape(-1, 3)
    unit: NDArray[np.float64] = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    return unit


def _skyline(rng: np.random.Generator, azimuth: Double, open_along: float) -> tuple[Double, Double, NDArray[np.bool_]]:
    """Return the elevation (radians) and colour of the surroundings at each azimuth, and whether they are trees."""
    edges = np.sort(rng.uniform(0, 2 * math.pi, 26))
    block = np.searchsorted(edges, azimuth) % len(edges)
    tall = rng.uniform(0.04, 0.5, len(edges)) * (rng.random(len(edges)) < 0.85)
    tree = rng.random(len(edges)) < 0.45
    wobble = 0.5 + 0.5 * np.sin(azimuth * rng.uniform(20, 40) + rng.uniform(0, 6)) * np.sin(
        azimuth * rng.uniform(50, 90)
    )
    along = np.abs(np.sin(azimuth - open_along))  # the road itself opens the view
    height = tall[block] * np.clip(along * 2.5, 0.15, 1) * np.where(tree[block], 0.45 + 0.5 * wobble, 1)
    walls = (
        np.array([0.34, 0.30, 0.26]) * rng.uniform(0.5, 1.5, (len(edges), 1)) * rng.uniform(0.9, 1.1, (len(edges), 3))
    )
    leaves = np.array([0.07, 0.12, 0.04]) * rng.uniform(0.6, 1.3, (len(edges), 1))
    colour = np.where(tree[:, None], leaves, walls)[block]
    return height, colour, tree[block]


def _smoothed(square: Double) -> Double:
    """Return a map in which every texel is averaged with its four neighbours."""
    return sum((np.roll(square, 1, k) + np.roll(square, -1, k) for k in (0, 1)), start=square) / 5


def _open_sky(spec: LightSpec, rng: np.random.Generator, directions: Double) -> Double:
    """Return (n, 3): sky and clouds before anything stands in front of them, up to a factor."""
    if spec.night:
        zenith, horizon = np.array([0.30, 0.34, 0.42]), np.array([0.62, 0.58, 0.55])
    else:
        blue, white = 1 - spec.overcast, spec.overcast
        zenith = np.array([0.30, 0.50, 0.95]) * blue + np.array([0.78, 0.82, 0.87]) * white
        horizon = np.array([0.85, 0.95, 1.05]) * blue + np.array([0.85, 0.87, 0.88]) * white
        horizon = horizon * (1, 1 - 0.12 * spec.warmth, 1 - 0.32 * spec.warmth)
    t = np.sqrt(np.clip(directions[:, 2], 0, 1))[:, None]
    clouds = np.zeros(len(directions))
    for k in (1.0, 2.3, 4.1):
        waves = [np.sin(directions[:, axis] * k * rng.uniform(2, 4) + rng.uniform(0, 6)) for axis in (0, 1)]
        clouds += waves[0] * waves[1] / k
    sky: Double = (horizon * (1 - t) + zenith * t) * (1 + 0.10 * (1 + spec.overcast) * clouds)[:, None]
    return sky


def _built_over(
    sky: Double, spec: LightSpec, rng: np.random.Generator, directions: Double, open_along: float
) -> tuple[Double, NDArray[np.bool_]]:
    """Return the sky with buildings and trees along the horizon, and where they hide it."""
    up = directions[:, 2]
    angle, slope = np.arctan2(directions[:, 1], directions[:, 0]), np.arcsin(np.clip(up, -1, 1))
    height, colour, tree = _skyline(rng, angle % (2 * math.pi), open_along)
    hidden = (slope < height) & (up >= 0)
    window = ~tree & (angle * 40 % 1 > 0.45) & (slope * 30 % 1 > 0.45)
    sunny_side = 0.55 + 0.45 * np.clip(-np.cos(angle - spec.sun_azimuth), 0, 1) * (1 - spec.overcast)
    wall = colour * (sunny_side * np.where(window, 0.5, 1.0))[:, None]
    if spec.night:
        lit = window & (rng.random(len(window)) < 0.25)
        wall = np.where(lit[:, None], np.array([2.2, 1.7, 1.0]), wall * 0.5)
    return np.where(hidden[:, None], wall, sky), hidden


def _irradiance_terms(radiance: Double, directions: Double) -> Float:
    """Return (5, 3): how the light on a card depends on 1, x, y, z and z^2 of its normal, fitted over all normals."""
    samples = _directions(12)
    weight = np.maximum(np.einsum("sk,dk->sd", samples, directions), 0)
    light = np.einsum("sd,dc->sc", weight, radiance) / weight.sum(axis=1, keepdims=True)
    basis = np.concatenate([np.ones((len(samples), 1)), samples, samples[:, 2:] ** 2], axis=1)
    terms: Float = np.linalg.lstsq(basis, light, rcond=None)[0].astype(np.float32)
    return terms


class Environment:
    """Precomputed lighting of one camera."""

    def __init__(self, spec: LightSpec, rng: np.random.Generator, *, open_along: float = 0.0, size: int = MAP) -> None:
        """Build the maps of `size` x `size` texels; the road in direction `open_along` (radians) opens the skyline."""
        self.spec, self._size = spec, size
        azimuth, height = spec.sun_azimuth, math.sin(spec.sun_elevation)
        flat = math.cos(spec.sun_elevation)
        self.sun_direction = np.array([flat * math.cos(azimuth), flat * math.sin(azimuth), height], np.float32)
        tint = (1.0, 0.97, 0.92) if spec.night else (1.0, 0.97 - 0.24 * spec.warmth, 0.92 - 0.46 * spec.warmth)
        self.sun_colour = np.array(tint, np.float32) * np.float32(spec.sun_strength)

        directions = _directions(size)
        up = directions[:, 2:]
        sky, hidden = _built_over(_open_sky(spec, rng, directions), spec, rng, directions, open_along)
        above = np.maximum(up, 0)
        sky = sky * (spec.sky_strength / float(np.mean(above * sky) / np.mean(above)))
        road = np.array([0.20, 0.195, 0.185]) * (spec.sky_strength + spec.sun_strength * max(height, 0.0))
        radiance = np.where(up < 0, road * (0.75 + 0.25 * np.exp(np.minimum(up, 0) * 5)), sky)
        self._irradiance_terms = _irradiance_terms(radiance, directions)

        if spec.night:  # a row of street lamps
            for _ in range(6):
                lamp = rng.normal(0, 1, 3) * (1, 1, 0.2) + (0, 0, 0.55)
                toward = np.einsum("dk,k->d", directions, lamp / np.linalg.norm(lamp))[:, None]
                radiance = radiance + 7 * np.exp((toward - 1) * 900)
        else:
            toward = np.clip(np.einsum("dk,k->d", directions, self.sun_direction), 0, 1)[:, None]
            glow = (np.exp((toward - 1) * 25) * 0.5 + np.exp((toward - 1) * 400) * 8) * ~hidden[:, None]
            radiance = radiance + glow * self.sun_colour * (0.4 - 0.28 * spec.overcast)
        sharp = _smoothed(radiance.reshape(size, size, 3))
        soft = _smoothed(_smoothed(_smoothed(sharp))).reshape(-1, 3).astype(np.float32)
        self.horizon_colour = soft[octahedral(_RIM, size)].mean(axis=0)
        self._sharp = np.ascontiguousarray(sharp.reshape(-1, 3).T.astype(np.float32))
        self._soft = np.ascontiguousarray(soft.T)

    def irradiance(self, normals_3N: Float) -> Float:
        """Return (3, N): the light, without the sun, on a white card facing each normal."""
        x, y, z = normals_3N
        square = z * z
        light = np.empty_like(normals_3N)
        for channel in range(3):
            one, tx, ty, tz, tzz = self._irradiance_terms[:, channel]
            light[channel] = one + x * tx + y * ty + z * tz + square * tzz
        return np.maximum(light, 0, out=light)

    def seen(self, directions_3N: Float, blur: Float | float) -> Float:
        """Return (3, N): the radiance that arrives from each direction, `blur` from 0 (sharp) to 1."""
        index = octahedral(directions_3N, self._size)
        light = np.empty_like(directions_3N)
        for channel in range(3):
            sharp, soft = self._sharp[channel][index], self._soft[channel][index]
            light[channel] = sharp + (soft - sharp) * blur
        return light
