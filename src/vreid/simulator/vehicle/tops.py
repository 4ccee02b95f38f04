"""Painting of the top surfaces: bonnet, windscreen, roof, rear window or bed."""

from __future__ import annotations

import numpy as np

from vreid.simulator.vehicle.bodies import CarModel
from vreid.simulator.vehicle.canvas import GLASS, LAMP, MATT, PAINT, PLASTIC, Canvas
from vreid.simulator.vehicle.ends import WHITE_LAMP
from vreid.simulator.vehicle.marks import Marks
from vreid.simulator.vehicle.mesh import Patch
from vreid.simulator.vehicle.shell import inner_edge
from vreid.simulator.vehicle.sides import STEPS, Coat, Outline, glass_colour


def paint_top(patch: Patch, model: CarModel, marks: Marks, coat: Coat, outline: Outline) -> Canvas:
    """Paint the top surfaces: bonnet, windscreen, roof, rear window or bed."""
    canvas = Canvas(patch, coat.base)
    kind, x_at, half = model.vehicle_type, model.from_front, model.width / 2
    roof = model.roof
    edge = inner_edge(model, outline.share)
    black = (14, 14, 15)
    if marks.black_roof:
        canvas.rectangle(x_at(roof[1][0] - 0.04), -half, x_at(roof[-2][0] + 0.04), half, black, PAINT)
    if kind in ("bus", "truck"):
        for share in np.linspace(0.1, 0.9, 9):
            canvas.line([(x_at(float(share)), -half), (x_at(float(share)), half)], coat.times(0.85), 0.03)
        if kind == "truck":
            canvas.rectangle(x_at(0.25), -half, x_at(1), half, (40, 40, 42), PLASTIC)
        return canvas

    def glass(start: float, end: float, inset: float, *, rear: bool) -> None:
        index = [i for i in range(STEPS) if start <= outline.share[i] <= end]
        for margin, colour, finish in (
            (inset * 0.4, (10, 10, 11), PLASTIC),
            (inset, glass_colour(marks, rear=rear), GLASS),
        ):
            left = [(float(outline.x[i]), float(edge[i]) - margin) for i in index]
            canvas.polygon(left + [(x, -y) for x, y in left[::-1]], colour, finish)

    start, end = roof[0][0] + 0.012, roof[1][0] - 0.004
    canvas.rectangle(x_at(start - 0.012), -half * 0.8, x_at(start + 0.004), half * 0.8, (12, 12, 12), PLASTIC)
    glass(start, end, 0.06, rear=False)
    _screen_details(canvas, model, marks, start, end)
    if kind in ("sedan", "sportscar"):
        glass(roof[-2][0] + 0.018, roof[-1][0] - 0.012, 0.07, rear=True)
        _rear_shelf(canvas, model, marks, (roof[-2][0] + roof[-1][0]) / 2)
        canvas.line(
            [(x_at(roof[-1][0] + 0.012), -half * 0.8), (x_at(roof[-1][0] + 0.012), half * 0.8)], coat.seam, 0.014
        )
    elif kind == "pickup":
        canvas.rectangle(x_at(roof[-1][0] + 0.03), -half * 0.80, x_at(0.95), half * 0.80, (22, 22, 23), PLASTIC)
        for y in np.linspace(-0.7, 0.7, 8):
            canvas.line(
                [(x_at(roof[-1][0] + 0.03), float(y) * half), (x_at(0.95), float(y) * half)],
                (34, 34, 35),
                0.03,
                PLASTIC,
            )
    _bonnet(canvas, model, marks, coat, outline)
    if marks.stripe in (0, 1, 2, 3, 4):
        for y in (-0.2, 0.2) if marks.stripe < 2 else (0.0,):
            wide = 0.09 if marks.stripe < 2 else 0.16
            canvas.rectangle(x_at(0), y - wide, x_at(start - 0.03), y + wide, marks.stripe_colour, PAINT)
            canvas.rectangle(x_at(end + 0.02), y - wide, x_at(roof[-2][0]), y + wide, marks.stripe_colour, PAINT)
    if marks.sunroof:
        share = end + 0.035
        canvas.rectangle(x_at(share), -0.5 * half, x_at(share + 0.13), 0.5 * half, (9, 10, 11), GLASS)
    return canvas


def _screen_details(canvas: Canvas, model: CarModel, marks: Marks, start: float, end: float) -> None:
    half, x_at, long = model.width / 2, model.from_front, end - start
    if marks.driver is not None:
        people = [(0.42, marks.driver)] + ([(-0.42, marks.driver[::-1])] if marks.passenger else [])
        for y, (skin, clothes) in people:
            shade = (int(clothes[0] * 0.3), int(clothes[1] * 0.3), int(clothes[2] * 0.32))
            face = (int(skin[0] * 0.3), int(skin[1] * 0.3), int(skin[2] * 0.32))
            canvas.ellipse(x_at(start + long * 0.42), y * half, long * model.length * 0.2, 0.22, shade)
            canvas.ellipse(x_at(start + long * 0.68), y * half, long * model.length * 0.13, 0.095, face)
    for y in (-0.5, 0.12):
        canvas.line([(x_at(start), y * half), (x_at(start + 0.014), y * half + 0.42)], (8, 8, 8), 0.022, PLASTIC)
    canvas.ellipse(x_at(end - 0.03), 0, 0.05, 0.1, (9, 9, 10), PLASTIC)
    if marks.dashboard_item is not None:
        canvas.ellipse(x_at(start + 0.02), marks.dashboard_item * half * 0.8, 0.08, 0.1, marks.sticker_colour, GLASS)
    if marks.sun_strip is not None:
        canvas.rectangle(x_at(end - 0.028), -half * 0.72, x_at(end), half * 0.72, marks.sun_strip, GLASS)
    if marks.screen_sticker is not None:
        y, up = marks.screen_sticker
        x = x_at(start + 0.02 + up * (long - 0.055))
        canvas.rectangle(x - 0.055, y * half * 0.8 - 0.06, x + 0.055, y * half * 0.8 + 0.06, marks.sticker_colour, MATT)


def _rear_shelf(canvas: Canvas, model: CarModel, marks: Marks, share: float) -> None:
    if not marks.privacy:
        for y in (-0.34, 0.34):
            canvas.ellipse(model.from_front(share - 0.02), y * model.width / 2, 0.1, 0.13, (24, 24, 26))
    if marks.rear_sticker is not None:
        y = marks.rear_sticker[0] * model.width / 2 * 0.66
        x = model.from_front(share + 0.05 - marks.rear_sticker[1] * 0.08)
        canvas.rectangle(x - 0.06, y - 0.07, x + 0.06, y + 0.07, marks.sticker_colour, MATT)


def _bonnet(canvas: Canvas, model: CarModel, marks: Marks, coat: Coat, outline: Outline) -> None:
    half, x_at, back = model.width / 2, model.from_front, model.roof[0][0] - 0.005
    if marks.odd_bonnet is not None:
        canvas.polygon(
            [
                (x_at(0.045), -0.76 * half),
                (x_at(back), -0.86 * half),
                (x_at(back), 0.86 * half),
                (x_at(0.045), 0.76 * half),
            ],
            marks.odd_bonnet,
            PAINT,
        )
    for side in (-1, 1):
        canvas.line([(x_at(0.045), side * 0.76 * half), (x_at(back), side * 0.86 * half)], coat.seam, 0.013)
        canvas.line([(x_at(0.07), side * 0.4 * half), (x_at(back - 0.02), side * 0.56 * half)], coat.times(0.86), 0.026)
        canvas.line(
            [(x_at(0.07), side * 0.4 * half + 0.025), (x_at(back - 0.02), side * 0.56 * half + 0.025)],
            coat.times(1.06, 6),
            0.02,
        )
        lamp = (0.075, 0.06, 0.035, 0.085, 0.06)[model.headlamp]
        canvas.polygon(
            [
                (x_at(0), side * half),
                (x_at(0), side * 0.56 * half),
                (x_at(lamp * 0.5), side * 0.66 * half),
                (x_at(lamp), side * 0.97 * half),
            ],
            WHITE_LAMP,
            LAMP,
        )
    canvas.line([(x_at(0.045), -0.76 * half), (x_at(0.045), 0.76 * half)], coat.seam, 0.013)
