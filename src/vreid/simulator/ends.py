"""Painting front, rear, top, wheels and the cargo box of a vehicle."""

from __future__ import annotations

import math

import numpy as np

from vreid.simulator.bodies import LARGE, CarModel
from vreid.simulator.canvas import (
    ALLOY, BULB, CHROME, DULL_ALLOY, GLASS, LAMP, MATT, PAINT, PLASTIC, PLATE, RUBBER, SATIN, SIGN, TAIL, Canvas, Colour,
)  # fmt: skip
from vreid.simulator.marks import Marks, Wheel
from vreid.simulator.mesh import Patch
from vreid.simulator.shell import inner_edge
from vreid.simulator.sides import STEPS, Coat, Outline, glass_colour

WHITE_LAMP, BULB_COLOUR, TAIL_RED = (196, 202, 208), (252, 252, 250), (132, 10, 12)


def paint_front(patch: Patch, model: CarModel, marks: Marks, coat: Coat, outline: Outline, *, plate: bool) -> Canvas:
    """Paint the front: bumper, grille, lamps, plate, and the windscreen of buses and trucks."""
    canvas = Canvas(patch, coat.base)
    half, clear = model.width / 2, model.proportions.clearance
    bonnet, low = outline.belt_at(0.045), clear + 0.27
    bumper, finish = ((24, 24, 25), PLASTIC) if marks.bare_bumpers else (coat.base, PAINT)
    canvas.rectangle(-half, 0, half, low, bumper, finish)
    canvas.rectangle(-half, 0, half, clear + 0.09, (14, 14, 15), PLASTIC)
    canvas.line([(-half, low), (half, low)], coat.times(0.6), 0.014)
    if model.vehicle_type in ("bus", "truck"):
        _cab_screen(canvas, model, marks)
    if model.vehicle_type != "bus":
        _grille(canvas, model, marks, coat, bonnet, low)
    canvas.rectangle(-0.52 * half, clear + 0.07, 0.52 * half, low - 0.12, (11, 11, 12), PLASTIC)
    tall = (0.13, 0.10, 0.16, 0.085, 0.14)[model.headlamp] * (1.2 if model.vehicle_type in LARGE else 1.0)
    slant = (0.05, 0.10, 0.0, 0.13, 0.03)[model.headlamp]
    for side in (-1, 1):
        if model.headlamp == 2:
            canvas.ellipse(side * 0.73 * half, bonnet - 0.13, 0.15, 0.115, (40, 40, 42), PLASTIC)
            canvas.ellipse(side * 0.73 * half, bonnet - 0.13, 0.135, 0.10, WHITE_LAMP, LAMP)
            canvas.ellipse(side * 0.73 * half, bonnet - 0.13, 0.065, 0.055, BULB_COLOUR, BULB)
        else:
            top = bonnet - 0.055
            canvas.polygon([(side * 0.53 * half, top - tall), (side * 0.50 * half, top - 0.015), (side * half, top + slant * 0.4),
                            (side * half, top - tall + slant)], WHITE_LAMP, LAMP)  # fmt: skip
            canvas.ellipse(side * 0.68 * half, top - tall * 0.45, 0.062, 0.045, BULB_COLOUR, BULB)
            canvas.ellipse(side * 0.85 * half, top - tall * 0.35 + slant * 0.3, 0.05, 0.038, (228, 228, 226), BULB)
            canvas.line([(side * 0.53 * half, top - tall), (side * half, top - tall + slant)], (40, 40, 42), 0.012, PLASTIC)
        if marks.brow:
            canvas.line([(side * 0.48 * half, bonnet - 0.05), (side * half, bonnet - 0.02)], (14, 14, 15), 0.05, PLASTIC)
        if model.fog_lamps:
            canvas.ellipse(side * 0.74 * half, clear + 0.17, 0.085, 0.06, marks.fog_covers or (20, 20, 21), PLASTIC)
            canvas.ellipse(side * 0.74 * half, clear + 0.17, 0.05, 0.04, (215, 215, 205), LAMP)
        elif marks.fog_covers is not None:
            canvas.rectangle(side * 0.62 * half, clear + 0.12, side * 0.86 * half, clear + 0.21, marks.fog_covers, PLASTIC)
    _plate(canvas, marks, 0.0, clear + 0.20, plate=plate)
    return canvas


def _grille(canvas: Canvas, model: CarModel, marks: Marks, coat: Coat, bonnet: float, low: float) -> None:
    half = model.width / 2
    frame: Colour = ((12, 12, 13), (16, 16, 18), (150, 150, 152), (14, 14, 15), coat.times(0.3), (28, 28, 30))[model.grille]
    wide = (0.42, 0.5, 0.36, 0.46, 0.54, 0.44)[model.grille] * half
    top = bonnet - 0.05
    bottom = low + 0.03 if model.grille != 3 else top - 0.1
    finish = CHROME if model.grille == 2 else PLASTIC
    if model.grille in (1, 5):
        canvas.polygon([(-wide * 1.14, top + 0.018), (wide * 1.14, top + 0.018), (wide * 1.06, bottom - 0.02), (-wide * 1.06, bottom - 0.02)],
                       (188, 188, 190), CHROME)  # fmt: skip
    canvas.polygon([(-wide * 1.1, top), (wide * 1.1, top), (wide, bottom), (-wide, bottom)], frame, finish)
    bar: Colour = (24, 24, 26) if model.grille == 2 else (96, 96, 98)
    for z in np.linspace(bottom + 0.03, top - 0.03, (3, 5, 4, 2, 5, 6)[model.grille]):
        canvas.line([(-wide, float(z)), (wide, float(z))], bar, 0.011, PLASTIC)
    canvas.ellipse(0, (top + bottom) / 2 + 0.02, 0.07, 0.055, marks.badge, CHROME)


def _cab_screen(canvas: Canvas, model: CarModel, marks: Marks) -> None:
    half, height = model.width / 2, model.height
    bus = model.vehicle_type == "bus"
    top, bottom = (height * 0.88, height * 0.37) if bus else (height * 0.735, height * 0.455)
    canvas.polygon([(-0.96 * half, bottom - 0.03), (0.96 * half, bottom - 0.03), (0.92 * half, top + 0.03), (-0.92 * half, top + 0.03)], (12, 12, 13), PLASTIC)
    canvas.polygon([(-0.92 * half, bottom), (0.92 * half, bottom), (0.88 * half, top), (-0.88 * half, top)], glass_colour(marks, rear=False), GLASS)
    if marks.driver is not None:
        skin, clothes = ((int(v * 0.36), int(w * 0.36), int(u * 0.38)) for v, w, u in marks.driver)
        canvas.ellipse(0.42 * half, bottom + 0.1, 0.26, 0.22, clothes)
        canvas.ellipse(0.42 * half, bottom + 0.4, 0.11, 0.14, skin)
    if marks.sun_strip is not None:
        canvas.rectangle(-0.9 * half, top - 0.16, 0.9 * half, top, marks.sun_strip, GLASS)
    if marks.screen_sticker is not None:
        x, z = marks.screen_sticker[0] * half * 0.8, bottom + marks.screen_sticker[1] * (top - bottom - 0.25)
        canvas.rectangle(x - 0.12, z, x + 0.12, z + 0.16, marks.sticker_colour, MATT)
    for side in (-1, 0.1):
        canvas.line([(side * 0.5 * half, bottom), (side * 0.5 * half + 0.5, bottom + 0.28)], (12, 12, 12), 0.03, PLASTIC)
    if bus:
        canvas.line([(0, bottom), (0, top)], (15, 15, 16), 0.04, PLASTIC)
        canvas.rectangle(-0.62 * half, height * 0.895, 0.62 * half, height * 0.985, (10, 10, 11), PLASTIC)
        canvas.text(f"{marks.plate_text[3:6]} {marks.plate_text[:3]}", 0, height * 0.94, 1.2 * half, 0.17, (255, 170, 30), SIGN)


def _plate(canvas: Canvas, marks: Marks, x: float, z: float, *, plate: bool) -> None:
    """A licence plate; without `plate` it carries no characters."""
    if marks.plate_frame is not None:
        canvas.rectangle(x - 0.285, z - 0.02, x + 0.285, z + 0.135, marks.plate_frame, PLASTIC)
    canvas.rectangle(x - 0.26, z, x + 0.26, z + 0.115, marks.plate_colour, PLATE)
    if plate:
        canvas.text(marks.plate_text, x, z + 0.058, 0.47, 0.075, (24, 26, 40), PLATE)


def paint_rear(patch: Patch, model: CarModel, marks: Marks, coat: Coat, outline: Outline, *, plate: bool) -> Canvas:
    """Paint the rear: bumper, tail lamps, tail gate with its window, plate."""
    canvas = Canvas(patch, coat.base)
    half, clear, kind = model.width / 2, model.proportions.clearance, model.vehicle_type
    large = kind in LARGE
    belt, low = outline.belt_at(0.965), clear + 0.28
    if marks.black_roof:
        canvas.rectangle(-half, outline.roof_at(0.8) - 0.1, half, model.high, (14, 14, 15), PAINT)
    bumper, finish = ((24, 24, 25), PLASTIC) if marks.bare_bumpers else (coat.base, PAINT)
    canvas.rectangle(-half, 0, half, low, bumper, finish)
    canvas.rectangle(-half, 0, half, clear + 0.13, (15, 15, 16), PLASTIC)
    canvas.line([(-half, low), (half, low)], coat.times(0.45), 0.018)
    wide = (0.30, 0.20, 0.42, 0.15, 0.25)[model.taillamp] * (0.6 if large else 1.0)
    tall = (0.15, 0.32, 0.13, 0.40, 0.22)[model.taillamp] * (1.5 if large else 1.0)
    for side in (-1, 1):
        canvas.rectangle(side * half, belt - 0.05 - tall, side * (1 - wide) * half, belt - 0.05, TAIL_RED, TAIL)
        canvas.rectangle(side * half, belt - 0.05 - tall * 0.68, side * (1 - wide * 0.85) * half, belt - 0.05 - tall * 0.42, (222, 196, 188), LAMP)
        canvas.line([(side * (1 - wide) * half, belt - 0.05 - tall), (side * (1 - wide) * half, belt - 0.05)], coat.seam, 0.012)
    if model.taillamp == 2:
        canvas.rectangle(-half * 0.6, belt - 0.15, half * 0.6, belt - 0.10, (116, 10, 12), TAIL)
    window = kind in ("van", "bus", "rv", "mpv", "suv", "hatchback", "estate") and not (kind == "van" and model.cab == 2)
    if window:
        _tail_window(canvas, model, marks, outline, belt)
    else:
        canvas.line([(-0.8 * half, belt - 0.02), (0.8 * half, belt - 0.02)], coat.seam, 0.014)
    if kind in ("van", "truck"):
        canvas.line([(0, low), (0, outline.roof_at(0.9) - 0.05)], coat.seam, 0.025)
    canvas.line([(-0.82 * half, low + 0.05), (-0.80 * half, belt - 0.1)], coat.times(0.6), 0.012)
    canvas.line([(0.82 * half, low + 0.05), (0.80 * half, belt - 0.1)], coat.times(0.6), 0.012)
    if marks.bumper_sticker is not None:
        x = marks.bumper_sticker * half * 0.8
        canvas.rectangle(x - 0.13, low + 0.05, x + 0.13, low + 0.14, marks.sticker_colour, MATT)
    canvas.ellipse(0, belt - 0.09, 0.055, 0.05, marks.badge, CHROME)
    if model.plate_low:
        canvas.rectangle(-0.34, low - 0.19, 0.34, low - 0.02, coat.times(0.75), finish)
    z = low - 0.165 if model.plate_low else low + 0.10
    _plate(canvas, marks, 0.0, z, plate=plate)
    for side in (-1, 1):
        canvas.rectangle(side * 0.72 * half, clear + 0.14, side * 0.9 * half, clear + 0.18, (120, 14, 16), TAIL)
    return canvas


def _tail_window(canvas: Canvas, model: CarModel, marks: Marks, outline: Outline, belt: float) -> None:
    half, kind = model.width / 2, model.vehicle_type
    top = outline.roof_at(model.proportions.hatch - 0.01) - (0.16 if kind in LARGE else 0.1)
    bottom = belt + (0.05 if kind not in ("van", "rv") else 0.2)
    narrow = model.tumblehome + 0.01
    canvas.polygon([(-0.84 * half, bottom - 0.02), (0.84 * half, bottom - 0.02), (narrow * 0.93 * half, top + 0.02), (-narrow * 0.93 * half, top + 0.02)], (11, 11, 12), PLASTIC)
    canvas.polygon([(-0.80 * half, bottom), (0.80 * half, bottom), (narrow * 0.88 * half, top), (-narrow * 0.88 * half, top)], glass_colour(marks, rear=True), GLASS)
    if not marks.privacy and kind not in LARGE:
        for x in (-0.36, 0.36):
            canvas.ellipse(x * half * 1.1, bottom + 0.07, 0.12, 0.12, (24, 24, 26))
    if marks.rear_wiper:
        canvas.line([(0.0, bottom), (0.38 * half, bottom + 0.11)], (8, 8, 8), 0.022, PLASTIC)
    if marks.rear_sticker is not None:
        x, z = marks.rear_sticker[0] * 0.68 * half, bottom + 0.02 + marks.rear_sticker[1] * (top - bottom - 0.14)
        canvas.rectangle(x - 0.07, z, x + 0.07, z + 0.1, marks.sticker_colour, MATT)
    canvas.rectangle(-0.16, top + 0.03, 0.16, top + 0.055, (140, 12, 14), TAIL)


def paint_top(patch: Patch, model: CarModel, marks: Marks, coat: Coat, outline: Outline) -> Canvas:
    """Paint what is seen from above: bonnet, windscreen, roof, rear window or bed."""
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
        for margin, colour, finish in ((inset * 0.4, (10, 10, 11), PLASTIC), (inset, glass_colour(marks, rear=rear), GLASS)):
            left = [(float(outline.x[i]), float(edge[i]) - margin) for i in index]
            canvas.polygon(left + [(x, -y) for x, y in left[::-1]], colour, finish)

    start, end = roof[0][0] + 0.012, roof[1][0] - 0.004
    canvas.rectangle(x_at(start - 0.012), -half * 0.8, x_at(start + 0.004), half * 0.8, (12, 12, 12), PLASTIC)
    glass(start, end, 0.06, rear=False)
    _screen_details(canvas, model, marks, start, end)
    if kind in ("sedan", "sportscar"):
        glass(roof[-2][0] + 0.018, roof[-1][0] - 0.012, 0.07, rear=True)
        _rear_shelf(canvas, model, marks, (roof[-2][0] + roof[-1][0]) / 2)
        canvas.line([(x_at(roof[-1][0] + 0.012), -half * 0.8), (x_at(roof[-1][0] + 0.012), half * 0.8)], coat.seam, 0.014)
    elif kind == "pickup":
        canvas.rectangle(x_at(roof[-1][0] + 0.03), -half * 0.80, x_at(0.95), half * 0.80, (22, 22, 23), PLASTIC)
        for y in np.linspace(-0.7, 0.7, 8):
            canvas.line([(x_at(roof[-1][0] + 0.03), float(y) * half), (x_at(0.95), float(y) * half)], (34, 34, 35), 0.03, PLASTIC)
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
        canvas.polygon([(x_at(0.045), -0.76 * half), (x_at(back), -0.86 * half), (x_at(back), 0.86 * half), (x_at(0.045), 0.76 * half)], marks.odd_bonnet, PAINT)
    for side in (-1, 1):
        canvas.line([(x_at(0.045), side * 0.76 * half), (x_at(back), side * 0.86 * half)], coat.seam, 0.013)
        canvas.line([(x_at(0.07), side * 0.4 * half), (x_at(back - 0.02), side * 0.56 * half)], coat.times(0.86), 0.026)
        canvas.line([(x_at(0.07), side * 0.4 * half + 0.025), (x_at(back - 0.02), side * 0.56 * half + 0.025)], coat.times(1.06, 6), 0.02)
        lamp = (0.075, 0.06, 0.035, 0.085, 0.06)[model.headlamp]
        canvas.polygon([(x_at(0), side * half), (x_at(0), side * 0.56 * half), (x_at(lamp * 0.5), side * 0.66 * half), (x_at(lamp), side * 0.97 * half)], WHITE_LAMP, LAMP)
    canvas.line([(x_at(0.045), -0.76 * half), (x_at(0.045), 0.76 * half)], coat.seam, 0.013)


def paint_wheel(patch: Patch, wheel: Wheel) -> Canvas:
    """Paint a wheel's face; lengths are shares of its radius."""
    canvas = Canvas(patch.over(-1, 1, -1, 1), (17, 17, 18), RUBBER)
    dark = (int(wheel.colour[0] * 0.22), int(wheel.colour[1] * 0.22), int(wheel.colour[2] * 0.22))
    finish = ALLOY if wheel.shiny else DULL_ALLOY
    canvas.ellipse(0, 0, 0.72, 0.72, (24, 24, 25), PLASTIC)
    canvas.ellipse(0, 0, 0.69, 0.69, wheel.colour if wheel.lip else dark, finish)
    canvas.ellipse(0, 0, 0.63, 0.63, dark, PLASTIC)
    turns = [wheel.phase + 2 * math.pi * k / wheel.spokes for k in range(wheel.spokes)]
    if wheel.kind == 0:
        for turn in turns:
            wide = wheel.spoke_width
            corners = ((0.12, -2 * wide), (0.66, -wide), (0.66, wide), (0.12, 2 * wide))
            canvas.polygon([(r * math.cos(turn + a), r * math.sin(turn + a)) for r, a in corners], wheel.colour, finish)
    else:
        canvas.ellipse(0, 0, 0.62, 0.62, wheel.colour, finish)
        if wheel.kind == 1:
            for turn in turns:
                hole = 0.06 + 0.5 * wheel.spoke_width
                canvas.ellipse(0.43 * math.cos(turn), 0.43 * math.sin(turn), hole, hole, (15, 15, 15), RUBBER)
        else:
            shade = (int(wheel.colour[0] * 0.6), int(wheel.colour[1] * 0.6), int(wheel.colour[2] * 0.6))
            canvas.ellipse(0, 0, 0.36, 0.36, shade, finish)
            for turn in turns:
                canvas.line([(0.38 * math.cos(turn), 0.38 * math.sin(turn)), (0.6 * math.cos(turn), 0.6 * math.sin(turn))], shade, 0.04)
    canvas.ellipse(0, 0, 0.15, 0.15, wheel.colour, finish)
    canvas.ellipse(0, 0, 0.08, 0.08, dark, finish)
    return canvas


def paint_cargo(patch: Patch, marks: Marks, colour: Colour, length: float, height: float) -> Canvas:
    """Paint the side of a truck's box, `length` x `height` metres."""
    canvas = Canvas(patch.over(0, length, 0, height), colour, SATIN)
    shade = Coat(colour)
    for x in np.linspace(0, length, 10):
        canvas.line([(float(x), 0), (float(x), height)], shade.times(0.88), 0.03)
    canvas.rectangle(0, 0, length, 0.07, (120, 120, 122), CHROME)
    canvas.line([(0, height - 0.03), (length, height - 0.03)], shade.times(0.7), 0.05)
    for decal in marks.decals:
        x, z, size = (0.25 + decal.along * 0.5) * length, (0.3 + 0.4 * decal.up) * height, decal.size * 1.5
        if decal.kind == 0:
            canvas.ellipse(x, z, size * 0.3, size * 0.26, decal.colour, MATT)
        elif decal.kind == 1:
            canvas.rectangle(0, z - 0.24, length, z + 0.24, decal.colour, MATT)
        light = (245, 245, 245) if decal.kind == 1 and sum(decal.colour) < 500 else (26, 26, 34)
        canvas.text(decal.words, x, z, size * 1.2, 0.34, decal.colour if decal.kind >= 2 else light)
    return canvas

