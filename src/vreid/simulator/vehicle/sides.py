"""Painting the left and right side of a vehicle."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter1d

from vreid.simulator.vehicle.bodies import BOXY, FLATBED, LARGE, CarModel
from vreid.simulator.vehicle.canvas import CHROME, GLASS, LAMP, MATT, PAINT, PLASTIC, RUBBER, TAIL, Canvas, Colour
from vreid.simulator.vehicle.marks import Decal, Marks, Spot
from vreid.simulator.vehicle.mesh import Patch

STEPS = 241


@dataclass(frozen=True)
class Coat:
    """The body colour and the shades of it that seams and creases need."""

    base: Colour

    def times(self, factor: float, plus: float = 0.0) -> Colour:
        """Return the colour made darker or lighter."""
        r, g, b = (int(min(max(value * factor + plus, 0), 255)) for value in self.base)
        return r, g, b

    @property
    def seam(self) -> Colour:
        """The colour of a gap between panels."""
        return self.times(0.3)


@dataclass(frozen=True)
class Outline:
    """Lines of a car model sampled along its length."""

    share: NDArray[np.float64]
    x: NDArray[np.float64]  # vehicle-frame metres
    belt: NDArray[np.float64]
    roof: NDArray[np.float64]

    def belt_at(self, share: float) -> float:
        """Return the belt's height in metres."""
        return float(np.interp(share, self.share, self.belt))

    def roof_at(self, share: float) -> float:
        """Return the roof's height in metres."""
        return float(np.interp(share, self.share, self.roof))


def outline_of(model: CarModel) -> Outline:
    """Return the outline of a car model."""
    share = np.linspace(0, 1, STEPS)
    return Outline(share, model.length * (0.5 - share), model.belt_at(share), model.roof_at(share))


def glass_colour(marks: Marks, *, rear: bool) -> Colour:
    """Return the colour of a window: darker in the rear with privacy glass."""
    t = 6.0 if rear and marks.privacy else marks.tint
    return int(0.78 * t), int(0.95 * t), int(1.0 * t)


def window_band(
    model: CarModel, outline: Outline
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return lower and upper edge (metres) of the side windows along the length, and where there are any."""
    rise = outline.roof - outline.belt
    step = model.length / (STEPS - 1)
    upper = outline.belt + 0.80 * minimum_filter1d(rise, 2 * max(1, round(0.055 / step)) + 1)
    lower = outline.belt + 0.02 + np.maximum(0, outline.share - 0.6) * model.window_kink * 2
    first, last = model.roof[0][0], model.roof[-1][0]
    there = (upper > lower + 0.03) & (outline.share > first) & (outline.share < last - 0.012)
    kind = model.vehicle_type
    if kind == "van" and model.cab != 1:
        there &= outline.share < 0.31
    elif kind == "truck":
        there &= (outline.share > 0.03) & (outline.share < 0.215)
        upper, lower = np.minimum(upper, model.height * 0.72), lower + 0.06
    elif kind == "rv":
        there &= (outline.share > 0.07) & (outline.share < 0.19)
        upper = np.minimum(upper, model.height * 0.70)
    elif kind == "bus":
        there = (outline.share > 0.025) & (outline.share < 0.97)
        upper = np.full_like(upper, model.height * 0.84)
    elif kind in ("suv", "mpv", "estate", "hatchback"):
        there &= outline.share < model.roof[-2][0] + 0.035
    return lower, upper, there


def _pillars(model: CarModel) -> list[float]:
    if model.vehicle_type == "bus":
        return [float(share) for share in np.linspace(0.11, 0.93, 8)]
    if model.vehicle_type in ("truck", "rv") or (model.vehicle_type == "van" and model.cab != 1):
        return []
    if model.two_door and model.vehicle_type in ("sportscar", "pickup", "hatchback"):
        return [model.door + 0.06]
    rear = model.door + 0.21 if model.vehicle_type in ("suv", "estate", "mpv", "van") else model.door + 0.215
    return [model.door - 0.015, rear]


def paint_side(patch: Patch, side: int, model: CarModel, marks: Marks, coat: Coat, outline: Outline) -> Canvas:
    """Paint one side (1 left, -1 right)."""
    canvas = Canvas(patch, coat.base)
    base, length = model.proportions, model.length
    clear, x_at = base.clearance, model.from_front
    top = list(zip(outline.x, outline.roof + 0.2, strict=True))
    if marks.black_roof:
        under = list(zip(outline.x, outline.belt + 0.86 * (outline.roof - outline.belt), strict=True))
        canvas.polygon(top + under[::-1], (14, 14, 15), PAINT)
    if marks.odd_door is not None and marks.odd_door[0] == side and model.vehicle_type not in BOXY:
        canvas.rectangle(x_at(0.31), clear, x_at(model.door), outline.belt_at(0.42), marks.odd_door[1], PAINT)
    _shading_lines(canvas, model, coat, outline)
    _stripes(canvas, model, marks, outline)
    _windows(canvas, model, marks, outline)
    _seams(canvas, model, coat, outline)
    if marks.moulding:
        z = clear + 0.36 * (outline.belt_at(0.5) - clear)
        colour, finish = ((18, 18, 19), PLASTIC) if marks.moulding == 1 else ((190, 190, 192), CHROME)
        canvas.rectangle(x_at(0.27), z, x_at(0.74), z + 0.05, colour, finish)
    canvas.rectangle(x_at(0), 0, x_at(1), clear + 0.07, (15, 15, 16), PLASTIC)
    if marks.bare_bumpers:
        canvas.rectangle(x_at(0), 0, x_at(0.06), clear + 0.26, (24, 24, 25), PLASTIC)
        canvas.rectangle(x_at(0.94), 0, x_at(1), clear + 0.26, (24, 24, 25), PLASTIC)
    if model.vehicle_type == "truck" and model.body != FLATBED:
        canvas.rectangle(x_at(0.25), 0, x_at(1), model.height * 0.36, (26, 26, 27), PLASTIC)
    radius = base.wheel_radius
    for axle in base.axles:
        if model.dark_arches:
            canvas.ellipse(x_at(axle), radius, radius * 1.36, radius * 1.36, (20, 20, 21), PLASTIC)
        else:
            canvas.ellipse(x_at(axle), radius, radius * 1.26, radius * 1.26, coat.times(0.82))
        canvas.ellipse(x_at(axle), radius, radius * 1.2, radius * 1.2, (6, 6, 6), RUBBER)
    _lamps(canvas, model, outline)
    for decal in marks.decals:
        _decal(canvas, decal, model, outline, side)
    _wear(canvas, side, marks, model, coat, outline)
    if marks.dirt > 0.06:
        _dirt(canvas, marks.dirt, marks.dirt_seed + side, clear)
    if length > 0 and side > 0 and model.vehicle_type not in BOXY:  # fuel filler
        canvas.ellipse(x_at(base.axles[1] + 0.02), outline.belt_at(0.8) - 0.17, 0.075, 0.075, coat.times(0.78))
        canvas.ellipse(x_at(base.axles[1] + 0.02), outline.belt_at(0.8) - 0.17, 0.062, 0.062, coat.base)
    return canvas


def _shading_lines(canvas: Canvas, model: CarModel, coat: Coat, outline: Outline) -> None:
    if model.vehicle_type in BOXY:
        return
    clear = model.proportions.clearance
    level = clear + model.crease * (outline.belt_at(0.5) - clear)
    points = [
        (model.from_front(0.12), level - 0.05),
        (model.from_front(0.5), level),
        (model.from_front(0.93), level + 0.06),
    ]
    canvas.line(points, coat.times(0.80), 0.022)
    canvas.line([(x, z + 0.022) for x, z in points], coat.times(1.08, 6), 0.014)


def _windows(canvas: Canvas, model: CarModel, marks: Marks, outline: Outline) -> None:
    lower, upper, there = window_band(model, outline)
    index = np.flatnonzero(there)
    if len(index) < 4:
        return
    if model.vehicle_type == "rv":
        for share in (0.34, 0.62):
            canvas.rectangle(
                model.from_front(share),
                model.height * 0.52,
                model.from_front(share + 0.13),
                model.height * 0.7,
                (16, 18, 20),
                GLASS,
            )
        canvas.rectangle(
            model.from_front(0.49), 0.45, model.from_front(0.585), model.height * 0.74, (198, 198, 196), PAINT
        )
    x = outline.x
    rim = 0.016
    if model.window_chrome:
        edge = [(x[i], upper[i] + rim) for i in index] + [(x[i], lower[i] - rim) for i in index[::-1]]
        canvas.polygon(edge, (196, 196, 198), CHROME)
    canvas.polygon([(x[i], upper[i]) for i in index] + [(x[i], lower[i]) for i in index[::-1]], (10, 10, 11), PLASTIC)
    first, last = float(outline.share[index[0]]), float(outline.share[index[-1]])
    ends = [first, *(share for share in _pillars(model) if first < share < last), last]
    gap = 0.028 / model.length if model.vehicle_type != "bus" else 0.05 / model.length
    for pane, (start, end) in enumerate(pairwise(ends)):
        inside = [i for i in index if start + gap <= outline.share[i] <= end - gap]
        if len(inside) < 2:
            continue
        shape = [(x[i], upper[i] - 0.018) for i in inside] + [(x[i], lower[i] + 0.014) for i in inside[::-1]]
        canvas.polygon(shape, glass_colour(marks, rear=pane > 0), GLASS)
        _people(canvas, model, marks, pane, x[inside[0]], x[inside[-1]], lower[inside[0]], upper[inside[-1]])
    if marks.deflectors:
        front = [i for i in index if outline.share[i] < (ends[1] if len(ends) > 2 else ends[-1])]
        canvas.line([(x[i], upper[i] - 0.035) for i in front], (12, 12, 13), 0.05, PLASTIC)
    if model.vehicle_type == "bus":
        for share in (0.05, 0.47):
            canvas.rectangle(
                model.from_front(share), 0.42, model.from_front(share + 0.085), model.height * 0.84, (22, 25, 28), GLASS
            )
            middle = model.from_front(share + 0.0425)
            canvas.line([(middle, 0.42), (middle, model.height * 0.84)], (16, 16, 17), 0.05, PLASTIC)


def _people(
    canvas: Canvas, model: CarModel, marks: Marks, pane: int, x0: float, x1: float, low: float, high: float
) -> None:
    """Paint seats and the driver as seen through the glass."""
    dark = pane > 0 and marks.privacy
    if dark or model.vehicle_type == "bus":
        return
    tall = min(high - low, 0.62)
    seat = (x0 + x1) / 2 - 0.1 * (x0 - x1)
    head_rest = (26, 26, 28) if marks.tint < 22 else (14, 14, 15)
    canvas.polygon(
        [(seat - 0.2, low), (seat - 0.24, low + tall * 0.45), (seat - 0.06, low + tall * 0.45), (seat, low)], head_rest
    )
    canvas.ellipse(seat - 0.14, low + tall * 0.58, 0.07, 0.09, head_rest)
    if pane == 0 and marks.driver is not None:
        skin, clothes = ((int(v * 0.36), int(w * 0.36), int(u * 0.38)) for v, w, u in marks.driver)
        canvas.ellipse(seat + 0.02, low + tall * 0.08, 0.19, tall * 0.30, clothes)
        canvas.ellipse(seat + 0.04, low + tall * 0.56, 0.085, 0.115, skin)


def _seams(canvas: Canvas, model: CarModel, coat: Coat, outline: Outline) -> None:
    kind, x_at = model.vehicle_type, model.from_front
    low = model.proportions.clearance + 0.11
    if kind in BOXY:
        if kind == "truck":
            canvas.line([(x_at(0.215), 0.5), (x_at(0.215), model.height * 0.7)], coat.seam, 0.014)
            canvas.line([(x_at(0.05), 0.6), (x_at(0.05), model.height * 0.44)], coat.seam, 0.014)
        else:
            for share in np.linspace(0.12, 0.92, 6):
                canvas.line(
                    [(x_at(float(share)), 0.4), (x_at(float(share)), model.height * 0.38)], coat.times(0.82), 0.012
                )
        return
    two = model.two_door and kind in ("sportscar", "hatchback", "pickup")
    seams = [0.3, 0.62] if two else ([0.3, model.door] if kind == "pickup" else [0.3, model.door, 0.745])
    for share in seams:
        canvas.line([(x_at(share), low), (x_at(share - 0.008), outline.belt_at(share))], coat.seam, 0.013)
    canvas.line([(x_at(seams[0]), low), (x_at(seams[-1]), low)], coat.seam, 0.013)
    for share in seams[1:]:
        z = outline.belt_at(share) - 0.12
        colour, finish = ((198, 198, 200), CHROME) if model.handle_chrome else (coat.times(0.72), PAINT)
        canvas.rectangle(x_at(share - 0.052), z - 0.014, x_at(share - 0.016), z + 0.016, colour, finish)
        canvas.line([(x_at(share - 0.052), z - 0.022), (x_at(share - 0.016), z - 0.022)], coat.times(0.55), 0.012)
    if kind == "van":
        canvas.line(
            [(x_at(0.55), outline.belt_at(0.6) - 0.1), (x_at(0.95), outline.belt_at(0.6) - 0.1)], coat.times(0.5), 0.03
        )


def _lamps(canvas: Canvas, model: CarModel, outline: Outline) -> None:
    boxy, x_at = model.vehicle_type in BOXY, model.from_front
    z = outline.belt_at(0.05)
    reach = 0.018 if boxy else (0.095, 0.08, 0.055, 0.11, 0.085)[model.headlamp]
    if not boxy:
        corners = [(x_at(0), z - 0.19), (x_at(0), z - 0.05), (x_at(reach), z - 0.015), (x_at(reach * 0.55), z - 0.16)]
        canvas.polygon(corners, (196, 202, 208), LAMP)
        canvas.line([(x_at(0), z - 0.05), (x_at(reach), z - 0.01)], (30, 30, 32), 0.012, PLASTIC)
    tail = outline.belt_at(0.96)
    reach = (0.045, 0.065, 0.035, 0.085, 0.05)[model.taillamp] * (0.35 if model.vehicle_type in LARGE else 1.0)
    tall = (0.17, 0.30, 0.14, 0.36, 0.22)[model.taillamp]
    corners = [(x_at(1), tail - 0.05 - tall), (x_at(1), tail - 0.05), (x_at(1 - reach), tail - 0.06)]
    canvas.polygon([*corners, (x_at(1 - reach * 0.8), tail - 0.05 - tall * 0.8)], (132, 10, 12), TAIL)


def _stripes(canvas: Canvas, model: CarModel, marks: Marks, outline: Outline) -> None:
    clear, x_at = model.proportions.clearance, model.from_front
    belt = outline.belt_at(0.5)
    z = clear + marks.stripe_up * (belt - clear)
    colour = marks.stripe_colour
    if marks.stripe < 0:
        if model.vehicle_type in ("bus", "rv"):
            canvas.rectangle(x_at(0), clear + 0.05, x_at(1), clear + 0.1 + marks.stripe_up * 0.35, colour, PAINT)
        return
    if marks.stripe % 3 == 0:
        canvas.rectangle(x_at(0.07), z, x_at(0.97), z + 0.11, colour, PAINT)
    elif marks.stripe % 3 == 1:
        canvas.polygon(
            [(x_at(0.1), clear + 0.15), (x_at(0.45), clear + 0.15), (x_at(0.95), z + 0.12), (x_at(0.95), z + 0.26)],
            colour,
            PAINT,
        )
    else:
        for up in (0.0, 0.10):
            canvas.rectangle(x_at(0.1), z + up, x_at(0.95), z + up + 0.05, colour, PAINT)


def _decal(canvas: Canvas, decal: Decal, model: CarModel, outline: Outline, side: int) -> None:
    large = model.vehicle_type in LARGE
    clear = model.proportions.clearance
    bottom, top = (
        clear + 0.1,
        outline.belt_at(decal.along) if model.vehicle_type in ("bus", "rv") or not large else model.height * 0.85,
    )
    x, z = model.from_front(decal.along), bottom + decal.up * (top - bottom)
    size = decal.size * (2.0 if large else 0.9)
    high = 0.3 if large and model.vehicle_type != "bus" else 0.15
    if decal.kind == 0:
        canvas.ellipse(x, z, size * 0.24, size * 0.20, decal.colour, MATT)
        canvas.ellipse(x, z, size * 0.15, size * 0.12, (240, 240, 238), MATT)
        canvas.text(decal.words[:2], x, z, size * 0.17, size * 0.13, decal.colour)
    elif decal.kind == 1:
        canvas.rectangle(x - size / 2, z - high * 0.75, x + size / 2, z + high * 0.75, decal.colour, MATT)
        light = (245, 245, 245) if sum(decal.colour) < 500 else (20, 20, 24)
        canvas.text(decal.words, x, z, size * 0.9, high * 0.8, light)
    elif decal.kind == 2:
        canvas.text(decal.words, x, z, size, high * 1.2, decal.colour)
    else:
        canvas.text(decal.words, x, z + high * 0.6, size, high * 0.8, decal.colour)
        canvas.text(decal.words[::-1], x, z - high * 0.6, size * 0.8, high * 0.6, decal.colour)


def _wear(canvas: Canvas, side: int, marks: Marks, model: CarModel, coat: Coat, outline: Outline) -> None:
    clear = model.proportions.clearance

    def place(spot: Spot) -> tuple[float, float]:
        return model.from_front(spot.along), clear + 0.05 + spot.up * (outline.belt_at(spot.along) - clear - 0.1)

    light = (176, 176, 176) if sum(coat.base) < 390 else (66, 66, 68)
    for spot in (s for s in marks.dents if s.side == side):
        x, z = place(spot)
        canvas.ellipse(x, z, spot.size * 1.2, spot.size * 0.8, coat.times(0.6))
        canvas.ellipse(x - 0.025, z + 0.025, spot.size * 0.75, spot.size * 0.45, coat.times(1.15, 14))
    for spot in (s for s in marks.scratches if s.side == side):
        x, z = place(spot)
        canvas.line([(x - spot.size, z), (x, z + 0.02), (x + spot.size * 0.4, z - 0.02)], light, 0.018, MATT)
    for spot in (s for s in marks.rust if s.side == side):
        x, z = model.from_front(spot.along), clear + 0.06 + 0.25 * spot.up
        canvas.ellipse(x, z, spot.size * 1.5, spot.size, (82, 44, 22), MATT)
        canvas.ellipse(x + spot.size, z - 0.02, spot.size * 0.8, spot.size * 0.6, (104, 58, 28), MATT)


def _dirt(canvas: Canvas, dirt: float, seed: int, clear: float) -> None:
    """Paint road dirt that rises from the sill."""
    patch = canvas.patch
    rng = np.random.default_rng(seed)
    columns = np.interp(np.linspace(0, 39, patch.width), np.arange(40), rng.random(40) * 0.9 + 0.35)
    z = np.linspace(patch.y1, patch.y0, patch.height)
    rise = np.exp(-np.maximum(z - clear, 0) / 0.38) * dirt * 1.5
    canvas.tint(np.minimum(rise[:, None] * columns[None], 0.75), (112, 104, 92))
