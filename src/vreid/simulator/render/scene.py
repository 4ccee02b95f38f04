"""Render one vehicle at a fixed camera: crop, boxes and visibility."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from vreid.simulator.raster import DepthMaps
from vreid.simulator.render.backdrop import Backdrop
from vreid.simulator.render.camera import SCENARIOS, CameraSpec, Pinhole
from vreid.simulator.render.drawing import (
    FINE,
    Drawn,
    ImageWindow,
    Placed,
    cast_shadow,
    colours_of,
    draw,
    resolve,
    spread,
)
from vreid.simulator.render.ground import Ground
from vreid.simulator.render.light import Environment
from vreid.simulator.render.sensor import develop

__all__ = ["CameraView", "Cut", "Placed", "Shot"]

Float = NDArray[np.float32]
Box = tuple[float, float, float, float]
GREY = 0.22  # linear light of the flat backdrop
SMALLEST = 16  # minimum visible pixels of a vehicle


@dataclass(frozen=True)
class Cut:
    """A cut box: the missing share, and the edge where it is missing."""

    edge: str  # left, top, right or bottom
    share: float


@dataclass(frozen=True)
class Shot:
    """One crop of the target vehicle with its ground truth."""

    image: NDArray[np.uint8]  # (H, W, 3)
    box: Box  # the given (loose) box, half-open, pixels of the full frame
    true_box: Box  # the tight box of the whole silhouette, pixels of the full frame
    crop_box: Box  # the tight box in pixels of `image`, clipped to it
    visibility: float  # visible share of the target's own silhouette
    occluder: str  # none, vehicle, pole or frame: whatever hides most
    orientation: float  # degrees, 0 = facing the camera, counter-clockwise seen from above


class CameraView:
    """A camera with its cached static state; build it once per camera and process."""

    def __init__(self, camera: CameraSpec) -> None:
        self.camera = camera
        self.scenario = SCENARIOS[camera.scenario]
        rng = np.random.default_rng(camera.seed)
        light = self.scenario.light
        if light.night:  # the key light is the street lamp nearest to this camera
            light = replace(light, sun_azimuth=rng.uniform(0, 2 * math.pi))
        self.environment = Environment(light, rng, open_along=camera.roads[0].heading)
        self.ground = Ground(camera.roads, rng)
        self.pinhole = Pinhole(camera.position, camera.look_at, camera.focal, camera.frame_size, camera.roll)
        self.backdrop = Backdrop(camera, self.pinhole, self.environment, self.ground, rng)

    def shoot(
        self,
        target: Placed,
        others: Sequence[Placed],
        rng: np.random.Generator,
        *,
        longest_side: int,
        cut: Cut | None = None,
        background: bool = True,
        exposure_jitter: float = 0.06,
    ) -> Shot | None:
        """Return a crop of `target`, or None if it is out of sight, too small or less than half visible.

        `longest_side` is the preset's image size in pixels; crops vary around it as a tracker's do. With a `cut` the
        box holds a part of the vehicle only, and the rest counts as hidden by the frame.
        """
        projected = self.pinhole.project(target.world())
        if float(projected[:, 2].min()) <= 0:
            return None
        low, high = projected[:, :2].min(axis=0), projected[:, :2].max(axis=0)
        true_box = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
        window = self._window(true_box, rng, longest_side)
        jitter = math.exp(float(rng.normal(0, exposure_jitter)))
        if window is None:
            return None
        if cut is not None:
            window = _without(window, cut)
        own = draw(target, self.pinhole, window)
        whole = self._silhouette(own, true_box, window)
        if len(own.fragments) < 0.5 * whole:
            return None

        drawn = [own, *(draw(other, self.pinhole, window) for other in others if self._may_show(other, window))]
        owner = self.owners(drawn, window)
        owners_of_own = owner[own.fragments.sample]
        visibility = float((owners_of_own == 0).sum() / whole)
        if visibility < 0.5:
            return None
        hidden = {
            "vehicle": int((owners_of_own > 0).sum()),
            "pole": int((owners_of_own == -1).sum()),
            "frame": whole - len(own.fragments),
        }
        worst = max(hidden, key=lambda name: hidden[name])

        if not background:
            drawn = [own]
        light = self.light(drawn, owner, window, background=background)
        image = develop(
            light,
            self.camera.sensor,
            rng,
            pixels=longest_side / 128,
            exposure=jitter,
            glare=self.scenario.glare,
            rain=self.scenario.rain,
        )
        x0, y0, x1, y1 = window.x, window.y, window.x + window.width, window.y + window.height
        s = window.scale
        inner = np.clip(np.array(true_box) * s - (x0, y0, x0, y0), 0, (x1 - x0, y1 - y0, x1 - x0, y1 - y0))
        return Shot(
            image=image,
            box=(x0 / s, y0 / s, x1 / s, y1 / s),
            true_box=true_box,
            crop_box=(float(inner[0]), float(inner[1]), float(inner[2]), float(inner[3])),
            visibility=visibility,
            occluder=worst if hidden[worst] > 0.002 * whole else "none",
            orientation=target.orientation(self.camera.position),
        )

    def _window(self, true_box: Box, rng: np.random.Generator, longest_side: int) -> ImageWindow | None:
        """Return the loose crop around a tight box, on the pixel grid of the scaled frame."""
        width, height = true_box[2] - true_box[0], true_box[3] - true_box[1]
        slack = rng.uniform(0.2, 1.0, 4) * self.camera.looseness * 0.5
        scale, longest = self.camera.crop_scale * longest_side / 128, max(width, height)
        while longest * scale > 1.4 * longest_side:
            scale /= 2
        while longest * scale < 0.42 * longest_side and scale * 2 <= 1:  # small vehicles, never enlarged
            scale *= 2
        if longest * scale < 0.25 * longest_side:
            return None
        right, bottom = (math.floor(side * scale) for side in self.camera.frame_size)
        x0 = max(0, math.floor((true_box[0] - slack[0] * width) * scale))
        y0 = max(0, math.floor((true_box[1] - slack[1] * height) * scale))
        x1 = min(right, math.ceil((true_box[2] + slack[2] * width) * scale))
        y1 = min(bottom, math.ceil((true_box[3] + slack[3] * height) * scale))
        if x1 - x0 < 8 or y1 - y0 < 8:
            return None
        return ImageWindow(x0, y0, x1 - x0, y1 - y0, scale)

    def _silhouette(self, own: Drawn, true_box: Box, window: ImageWindow) -> int:
        """Return how many samples the whole silhouette covers, in the window and beyond it."""
        s = window.scale
        x0, y0, x1, y1 = (
            math.floor(true_box[0] * s),
            math.floor(true_box[1] * s),
            math.ceil(true_box[2] * s),
            math.ceil(true_box[3] * s),
        )
        if x0 >= window.x and y0 >= window.y and x1 <= window.x + window.width and y1 <= window.y + window.height:
            return len(own.fragments)
        return len(draw(own.placed, self.pinhole, ImageWindow(x0, y0, x1 - x0, y1 - y0, s)).fragments)

    def _may_show(self, other: Placed, window: ImageWindow) -> bool:
        length, width, height = other.vehicle.size
        reach = math.hypot(length, width, height) / 2
        x, y, nearness = (float(value) for value in self.pinhole.project(np.array([[other.x, other.y, height / 2]]))[0])
        if nearness <= 0 or 1 / nearness < reach + 1:
            return False
        margin = reach * self.camera.focal * nearness * 1.3
        s = window.scale
        across = (x + margin) * s > window.x and (x - margin) * s < window.x + window.width
        return across and (y + margin) * s > window.y and (y - margin) * s < window.y + window.height

    def owners(self, drawn: Sequence[Drawn], window: ImageWindow) -> NDArray[np.int16]:
        """Return for every sample the index of the nearest vehicle, -1 for the backdrop."""
        nearness = self.backdrop.nearness(window).copy()
        owner = np.full(nearness.size, -1, np.int16)
        for index, item in enumerate(drawn):
            closer = item.fragments.nearness > nearness[item.fragments.sample]
            where = item.fragments.sample[closer]
            nearness[where] = item.fragments.nearness[closer]
            owner[where] = index
        return owner

    def light(
        self,
        drawn: Sequence[Drawn],
        owner: NDArray[np.int16],
        window: ImageWindow,
        *,
        background: bool = True,
        casters: int = 1,
    ) -> Float:
        """Return the (3, H, W) linear light of a window; the first `casters` vehicles and those near them cast shadows.

        `owner` is that of `owners`. Without `background` vehicles stand before flat grey.
        """
        environment = self.environment
        sun = environment.sun_direction
        shadow = None
        if drawn and environment.spec.sun_strength >= 0.2:
            size, count = max(window.width, window.height), len(drawn)
            turned = ([drawn[first], *drawn[:first], *drawn[first + 1 :]] for first in range(min(casters, count)))
            shadow = DepthMaps(tuple(cast_shadow(order, sun, size) for order in turned))
        if background:
            placed = [item.placed for item in drawn]
            plain = self.backdrop.light(window, placed, shadow, lamps=self.scenario.lamps)
            if self.scenario.wet:
                plain = self._wet(plain, placed, window)
        else:
            plain = np.full((3, window.height, window.width), GREY, np.float32)
        colours = spread(plain)
        for index, item in enumerate(drawn):
            fragments = item.fragments.take(owner[item.fragments.sample] == index)
            if len(fragments):
                colours[:, fragments.sample] = colours_of(
                    item,
                    fragments,
                    self.pinhole,
                    window,
                    environment,
                    lamps=self.scenario.lamps,
                    shadow=shadow,
                    sunlight=(lambda points: self.ground.sunlight(points, sun)) if shadow is not None else None,
                )
        return resolve(colours, window.width, window.height)

    def _wet(self, plain: Float, placed: Sequence[Placed], window: ImageWindow) -> Float:
        """Return the backdrop with vehicles mirrored in the wet road (coarse, and smeared downwards)."""
        small = ImageWindow(
            window.x // FINE, window.y // FINE, window.width // FINE + 1, window.height // FINE + 1, window.scale / FINE
        )
        shine = spread(np.zeros((4, small.height, small.width), np.float32))
        nearest = np.zeros(shine.shape[1], np.float32)
        for vehicle in placed:
            item = draw(vehicle, self.pinhole, small, mirrored=True)
            fragments = item.fragments.take(item.fragments.nearness > nearest[item.fragments.sample])
            if len(fragments):
                nearest[fragments.sample] = fragments.nearness
                shine[:3, fragments.sample] = colours_of(
                    item, fragments, self.pinhole, small, self.environment, lamps=self.scenario.lamps
                )
                shine[3, fragments.sample] = 1
        image = shine.reshape(4, small.height * FINE, small.width * FINE)
        image = uniform_filter1d(image, max(3, window.height // 12), axis=1, mode="nearest")
        rows, columns = window.y - small.y * FINE, window.x - small.x * FINE
        image = image[:, rows : rows + window.height, columns : columns + window.width]
        share = image[3] * np.float32(0.45 * self.scenario.wet)
        wet: Float = plain * (1 - share) + image[:3] * np.float32(0.45 * self.scenario.wet)
        return wet


def _without(window: ImageWindow, cut: Cut) -> ImageWindow:
    """Return what a cut leaves of a window, at least `SMALLEST` pixels each way or what there was."""
    across = min(round(window.width * cut.share), max(window.width - SMALLEST, 0)) * (cut.edge in ("left", "right"))
    down = min(round(window.height * cut.share), max(window.height - SMALLEST, 0)) * (cut.edge in ("top", "bottom"))
    return replace(
        window,
        x=window.x + across * (cut.edge == "left"),
        y=window.y + down * (cut.edge == "top"),
        width=window.width - across,
        height=window.height - down,
    )
