"""Everything behind and before the vehicles of a fixed camera: ground, buildings, trees, poles, sky."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vreid.simulator.camera import CameraSpec, Pinhole
from vreid.simulator.drawing import FINE, Placed, Window
from vreid.simulator.ground import Ground
from vreid.simulator.light import Environment
from vreid.simulator.raster import DepthMap

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Still:
    """A window of the backdrop: light that no vehicle changes, light from the sky and the sun on the ground."""

    fixed: Float
    sky: Float
    sun: Float
    points: Float


class Backdrop:
    """The static picture of a camera."""

    def __init__(self, camera: CameraSpec, pinhole: Pinhole, environment: Environment, ground: Ground,
                 rng: np.random.Generator) -> None:  # fmt: skip
        self.pinhole, self.environment, self.ground = pinhole, environment, ground

    def nearness(self, window: Window) -> Float:
        """Return the nearness of static things in front of the road at every sample, 0 where there is none."""
        return np.zeros(window.width * window.height * FINE * FINE, np.float32)

    def still(self, window: Window) -> Still:
        """Return the backdrop of a window without any vehicle."""
        row, column = np.divmod(np.arange(window.width * window.height, dtype=np.int32), np.int32(window.width))
        rays = window.rays(self.pinhole, column + np.float32(0.5), row + np.float32(0.5))
        down = rays[:, 2] < -1e-3
        t = np.where(down, -self.pinhole.position[2] / np.minimum(rays[:, 2], np.float32(-1e-3)), 1e4).astype(np.float32)
        points = self.pinhole.position + rays * t[:, None]
        footprint = t / np.float32(self.pinhole.focal * window.scale) * 1.5
        albedo = self.ground.albedo(points[:, 0], points[:, 1], footprint)
        environment = self.environment
        sun = environment.sun_direction
        sky = albedo * environment.irradiance(np.array([[0, 0, 1]], np.float32))
        sunny = albedo * environment.sun_colour * sun[2] * self.ground.sunlight(points, sun)[:, None]
        clear = (np.exp(-t / 250) * down)[:, None]
        unit = rays / np.linalg.norm(rays, axis=1, keepdims=True)
        far = environment.seen(unit.astype(np.float32), sharp=False)
        fixed = np.where(down[:, None], environment.horizon_colour, far) * (1 - clear)
        return Still(fixed, sky * clear, sunny * clear, points)

    def light(self, window: Window, placed: Sequence[Placed], shadow: DepthMap | None) -> Float:
        """Return the (H, W, 3) linear light of the backdrop with the shadows of vehicles on it."""
        still = self.still(window)
        lit = shadow.lit(still.points, 0.03) if shadow is not None else np.ones(len(still.points), np.float32)
        light = still.fixed + still.sky + still.sun * lit[:, None]
        return light.reshape(window.height, window.width, 3).astype(np.float32)
