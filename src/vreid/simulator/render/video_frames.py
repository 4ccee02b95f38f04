"""Whole frames of a fixed camera: the empty view rendered once, and vehicles in windows over it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vreid.simulator.render.drawing import FINE, ImageWindow, Placed, draw
from vreid.simulator.render.scene import Box, CameraView
from vreid.simulator.render.sensor import grain, levels, sharpened, toned

Float = NDArray[np.float32]
PIXELS = 1.0
"""Lengths of the sensor in pixels of the frame (see `Sensor`)."""
BORDER = 6
"""Pixels around a window that lens blur and sharpening read."""
GROUND_MARGIN = 1.2
"""Metres around a vehicle in which it changes the light on the ground, apart from its shadow."""
GRAINS = 5
"""Number of noise images of a camera; each frame shifts one of them by random amounts."""


@dataclass(frozen=True)
class InView:
    """A vehicle on a frame: the tight box in pixels of its silhouette inside the frame, and the visible share of it."""

    box: Box
    visibility: float


class VideoView:
    """The frames of `width` pixels of a camera; `rng` draws its noise."""

    def __init__(self, view: CameraView, width: int, rng: np.random.Generator) -> None:
        full_width, full_height = view.camera.frame_size
        self.view = view
        self.scale = width / full_width
        self.size = width, round(full_height * self.scale) // 2 * 2
        whole = ImageWindow(0, 0, *self.size, self.scale)
        self._empty = self._finished(view.light((), view.owners((), whole), whole), rng)
        self._grains = [self._sharp(grain(view.camera.sensor, rng, *reversed(self.size))) for _ in range(GRAINS)]

    def render(
        self, placed: Sequence[Placed], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], list[InView | None]]:
        """Return the (H, W, 3) frame with all vehicles, and how each is seen; None: outside the frame."""
        windows = [self._window(one) for one in placed]
        seen: list[InView | None] = [None] * len(placed)
        frame = self._empty.copy()
        for window, members in _merged(windows):
            drawn = [draw(placed[index], self.view.pinhole, window) for index in members]
            owner = self.view.owners(drawn, window)
            for place, index in enumerate(members):
                own = drawn[place].fragments.sample
                if len(own):
                    seen[index] = InView(_extent(own, window), float((owner[own] == place).mean()))
            light = self._finished(self.view.light(drawn, owner, window, casters=len(drawn)), rng)
            inner, outer = self._without_border(window)
            frame[:, *outer] = light[:, *inner]
        noise = self._grains[int(rng.integers(GRAINS))]
        shift = int(rng.integers(noise.shape[1])), int(rng.integers(noise.shape[2]))
        return levels(frame + np.roll(noise, shift, axis=(1, 2))), seen

    def _window(self, placed: Placed) -> ImageWindow | None:
        """Return the part of the frame that a vehicle, its shadow and the pixels around them change.

        None: the vehicle is outside the frame, or a part of it is behind the camera.
        """
        projected = self.view.pinhole.project(placed.world())
        if float(projected[:, 2].min()) <= 0:
            return None
        own = projected[:, :2] * self.scale
        if (own.min(axis=0) >= self.size).any() or (own.max(axis=0) <= 0).any():
            return None
        changed = np.concatenate([own, self._ground_around(placed)])
        low = np.maximum(np.floor(changed.min(axis=0)).astype(int) - BORDER, 0)
        high = np.minimum(np.ceil(changed.max(axis=0)).astype(int) + BORDER, self.size)
        if (high - low <= 2 * BORDER).any():
            return None
        return ImageWindow(int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]), self.scale)

    def _ground_around(self, placed: Placed) -> Float:
        """Return corners (N, 2), in pixels, of the ground that a vehicle and its shadow darken."""
        length, width, height = placed.vehicle.size
        environment = self.view.environment
        cos, sin = math.cos(placed.heading), math.sin(placed.heading)
        reach = np.array([length / 2 + GROUND_MARGIN, width / 2 + GROUND_MARGIN])
        corners = np.array([(i, j) for i in (-1, 1) for j in (-1, 1)]) * reach
        corners = corners @ np.array([[cos, sin], [-sin, cos]]) + (placed.x, placed.y)
        if environment.spec.sun_strength >= 0.2:
            sun = environment.sun_direction
            corners = np.concatenate([corners, corners - sun[:2] * (height / max(float(sun[2]), 0.3))])
        pixels = self.view.pinhole.project(np.column_stack([corners, np.zeros(len(corners))]))
        return pixels[pixels[:, 2] > 0, :2] * np.float32(self.scale)

    def _without_border(self, window: ImageWindow) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Return the part of a window that its surroundings do not change, in the window and in the frame."""
        x0, y0 = (BORDER if low > 0 else 0 for low in (window.x, window.y))
        x1 = window.width - (BORDER if window.x + window.width < self.size[0] else 0)
        y1 = window.height - (BORDER if window.y + window.height < self.size[1] else 0)
        inner = slice(y0, y1), slice(x0, x1)
        return inner, (slice(window.y + y0, window.y + y1), slice(window.x + x0, window.x + x1))

    def _finished(self, light: Float, rng: np.random.Generator) -> Float:
        scenario = self.view.scenario
        sensor = self.view.camera.sensor
        return self._sharp(toned(light, sensor, rng, pixels=PIXELS, glare=scenario.glare, rain=scenario.rain))

    def _sharp(self, image: Float) -> Float:
        return sharpened(image, self.view.camera.sensor, PIXELS)


def _extent(samples: NDArray[np.int32], window: ImageWindow) -> Box:
    """Return the tight box of some samples of a window, in pixels of the frame."""
    row, column = np.divmod(samples, np.int32(window.width * FINE))
    x1, x2, y1, y2 = column.min(), column.max() + 1, row.min(), row.max() + 1
    return (
        window.x + float(x1) / FINE,
        window.y + float(y1) / FINE,
        window.x + float(x2) / FINE,
        window.y + float(y2) / FINE,
    )


def _merged(windows: Sequence[ImageWindow | None]) -> list[tuple[ImageWindow, list[int]]]:
    """Return the fewest windows that hold all `windows` and do not overlap, each with the indices of its members."""
    groups: list[tuple[ImageWindow, list[int]]] = []
    for index, window in enumerate(windows):
        if window is None:
            continue
        members = [index]
        while touching := [group for group in groups if _overlap(group[0], window)]:
            groups = [group for group in groups if not _overlap(group[0], window)]
            for other, others in touching:
                window, members = _union(window, other), members + others
        groups.append((window, sorted(members)))
    return groups


def _overlap(one: ImageWindow, two: ImageWindow) -> bool:
    across = one.x < two.x + two.width and two.x < one.x + one.width
    return across and one.y < two.y + two.height and two.y < one.y + one.height


def _union(one: ImageWindow, two: ImageWindow) -> ImageWindow:
    x, y = min(one.x, two.x), min(one.y, two.y)
    right, bottom = max(one.x + one.width, two.x + two.width), max(one.y + one.height, two.y + two.height)
    return ImageWindow(x, y, right - x, bottom - y, one.scale)
