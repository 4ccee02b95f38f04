"""Painting front and rear of a vehicle."""

from __future__ import annotations

import numpy as np

from vreid.simulator.vehicle.bodies import LARGE, CarModel
from vreid.simulator.vehicle.canvas import (
    BULB,
    CHROME,
    GLASS,
    LAMP,
    MATT,
    PAINT,
    PLASTIC,
    PLATE,
    SIGN,
    TAIL,
    Canvas,
    Colour,
)
from vreid.simulator.vehicle.marks import Marks
from vreid.simulator.vehicle.mesh import Patch
from vreid.simulator.vehicle.sides import Coat, Outline, glass_colour

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
            outer, inner = side * half, side * 0.5 * half
            corners = [(inner * 1.06, top - tall), (inner, top - 0.015)]
            corners += [(outer, top + slant * 0.4), (outer, top - tall + slant)]
            canvas.polygon(corners, WHITE_LAMP, LAMP)
            canvas.ellipse(side * 0.68 * half, top - tall * 0.45, 0.062, 0.045, BULB_COLOUR, BULB)
            canvas.ellipse(side * 0.85 * half, top - tall * 0.35 + slant * 0.3, 0.05, 0.038, (228, 228, 226), BULB)
            canvas.line(
                [(side * 0.53 * half, top - tall), (side * half, top - tall + slant)], (40, 40, 42), 0.012, PLASTIC
            )
        if marks.brow:
            canvas.line(
                [(side * 0.48 * half, bonnet - 0.05), (side * half, bonnet - 0.02)], (14, 14, 15), 0.05, PLASTIC
            )
        if model.fog_lamps:
            canvas.ellipse(side * 0.74 * half, clear + 0.17, 0.085, 0.06, marks.fog_covers or (20, 20, 21), PLASTIC)
            canvas.ellipse(side * 0.74 * half, clear + 0.17, 0.05, 0.04, (215, 215, 205), LAMP)
        elif marks.fog_covers is not None:
            canvas.rectangle(
                side * 0.62 * half, clear + 0.12, side * 0.86 * half, clear + 0.21, marks.fog_covers, PLASTIC
            )
    paint_plate(canvas, marks, 0.0, clear + 0.20, plate=plate)
    return canvas


def _grille(canvas: Canvas, model: CarModel, marks: Marks, coat: Coat, bonnet: float, low: float) -> None:
    half = model.width / 2
    frame: Colour = ((12, 12, 13), (16, 16, 18), (150, 150, 152), (14, 14, 15), coat.times(0.3), (28, 28, 30))[
        model.grille
    ]
    wide = (0.42, 0.5, 0.36, 0.46, 0.54, 0.44)[model.grille] * half
    top = bonnet - 0.05
    bottom = low + 0.03 if model.grille != 3 else top - 0.1
    finish = CHROME if model.grille == 2 else PLASTIC
    if model.grille in (1, 5):
        rim = [(-wide * 1.14, top + 0.018), (wide * 1.14, top + 0.018), (wide * 1.06, bottom - 0.02)]
        canvas.polygon([*rim, (-wide * 1.06, bottom - 0.02)], (188, 188, 190), CHROME)
    canvas.polygon([(-wide * 1.1, top), (wide * 1.1, top), (wide, bottom), (-wide, bottom)], frame, finish)
    bar: Colour = (24, 24, 26) if model.grille == 2 else (96, 96, 98)
    for z in np.linspace(bottom + 0.03, top - 0.03, (3, 5, 4, 2, 5, 6)[model.grille]):
        canvas.line([(-wide, float(z)), (wide, float(z))], bar, 0.011, PLASTIC)
    canvas.ellipse(0, (top + bottom) / 2 + 0.02, 0.07, 0.055, marks.badge, CHROME)


def _cab_screen(canvas: Canvas, model: CarModel, marks: Marks) -> None:
    half, height = model.width / 2, model.height
    bus = model.vehicle_type == "bus"
    top, bottom = (height * 0.88, height * 0.37) if bus else (height * 0.735, height * 0.455)
    canvas.polygon(
        [
            (-0.96 * half, bottom - 0.03),
            (0.96 * half, bottom - 0.03),
            (0.92 * half, top + 0.03),
            (-0.92 * half, top + 0.03),
        ],
        (12, 12, 13),
        PLASTIC,
    )
    canvas.polygon(
        [(-0.92 * half, bottom), (0.92 * half, bottom), (0.88 * half, top), (-0.88 * half, top)],
        glass_colour(marks, rear=False),
        GLASS,
    )
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
        canvas.line(
            [(side * 0.5 * half, bottom), (side * 0.5 * half + 0.5, bottom + 0.28)], (12, 12, 12), 0.03, PLASTIC
        )
    if bus:
        canvas.line([(0, bottom), (0, top)], (15, 15, 16), 0.04, PLASTIC)
        canvas.rectangle(-0.62 * half, height * 0.895, 0.62 * half, height * 0.985, (10, 10, 11), PLASTIC)
        canvas.text(
            f"{marks.plate_text[3:6]} {marks.plate_text[:3]}", 0, height * 0.94, 1.2 * half, 0.17, (255, 170, 30), SIGN
        )


def paint_plate(canvas: Canvas, marks: Marks, x: float, z: float, *, plate: bool) -> None:
    """Paint a licence plate with its middle at x and lower edge at z; without `plate` it carries no characters."""
    half, high = 0.26, 0.115
    if marks.plate_frame is not None:
        canvas.rectangle(x - half * 1.1, z - high * 0.17, x + half * 1.1, z + high * 1.17, marks.plate_frame, PLASTIC)
    canvas.rectangle(x - half, z, x + half, z + high, marks.plate_colour, PLATE)
    if plate:
        canvas.text(marks.plate_text, x, z + high / 2, half * 1.8, high * 0.65, (24, 26, 40), PLATE)


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
        canvas.rectangle(
            side * half,
            belt - 0.05 - tall * 0.68,
            side * (1 - wide * 0.85) * half,
            belt - 0.05 - tall * 0.42,
            (222, 196, 188),
            LAMP,
        )
        canvas.line(
            [(side * (1 - wide) * half, belt - 0.05 - tall), (side * (1 - wide) * half, belt - 0.05)], coat.seam, 0.012
        )
    if model.taillamp == 2:
        canvas.rectangle(-half * 0.6, belt - 0.15, half * 0.6, belt - 0.10, (116, 10, 12), TAIL)
    window = kind in ("van", "bus", "rv", "mpv", "suv", "hatchback", "estate") and not (
        kind == "van" and model.cab == 2
    )
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
    if not large:
        _rear_trim(canvas, marks, half, belt, low, clear)
    canvas.ellipse(0, belt - 0.09, 0.055, 0.05, marks.badge, CHROME)
    if model.plate_low:
        canvas.rectangle(-0.34, low - 0.19, 0.34, low - 0.02, coat.times(0.75), finish)
    z = low - 0.165 if model.plate_low else low + 0.10
    paint_plate(canvas, marks, 0.0, z, plate=plate)
    for side in (-1, 1):
        canvas.rectangle(side * 0.72 * half, clear + 0.14, side * 0.9 * half, clear + 0.18, (120, 14, 16), TAIL)
    return canvas


def _rear_trim(canvas: Canvas, marks: Marks, half: float, belt: float, low: float, clear: float) -> None:
    """Paint individual rear features of dark cars: a strip, letters, exhaust tips."""
    rng = np.random.default_rng([marks.dirt_seed, 0x7A11])
    strip, letters, tips = rng.random(3)
    if strip < 0.35:
        colour, finish = ((196, 196, 198), CHROME) if strip < 0.2 else ((16, 16, 17), PLASTIC)
        canvas.rectangle(-0.5 * half, belt - 0.19, 0.5 * half, belt - 0.15, colour, finish)
    if letters < 0.6:
        side = -1 if letters < 0.3 else 1
        words = "".join("ACEGLRSTX1235"[int(k)] for k in rng.integers(0, 13, rng.integers(2, 5)))
        canvas.text(words, side * 0.5 * half, low + 0.09, 0.1 * len(words), 0.075, marks.badge, CHROME)
    if tips < 0.5:
        for side in (-1, 1) if tips < 0.2 else (1,):
            canvas.ellipse(side * 0.62 * half, clear + 0.08, 0.075, 0.04, (190, 190, 192), CHROME)
            canvas.ellipse(side * 0.62 * half, clear + 0.08, 0.05, 0.026, (12, 12, 12), PLASTIC)


def _tail_window(canvas: Canvas, model: CarModel, marks: Marks, outline: Outline, belt: float) -> None:
    half, kind = model.width / 2, model.vehicle_type
    top = outline.roof_at(model.proportions.hatch - 0.01) - (0.16 if kind in LARGE else 0.1)
    bottom = belt + (0.05 if kind not in ("van", "rv") else 0.2)
    narrow = model.tumblehome + 0.01
    canvas.polygon(
        [
            (-0.84 * half, bottom - 0.02),
            (0.84 * half, bottom - 0.02),
            (narrow * 0.93 * half, top + 0.02),
            (-narrow * 0.93 * half, top + 0.02),
        ],
        (11, 11, 12),
        PLASTIC,
    )
    canvas.polygon(
        [(-0.80 * half, bottom), (0.80 * half, bottom), (narrow * 0.88 * half, top), (-narrow * 0.88 * half, top)],
        glass_colour(marks, rear=True),
        GLASS,
    )
    if not marks.privacy and kind not in LARGE:
        for x in (-0.36, 0.36):
            canvas.ellipse(x * half * 1.1, bottom + 0.07, 0.12, 0.12, (24, 24, 26))
    if marks.rear_wiper:
        canvas.line([(0.0, bottom), (0.38 * half, bottom + 0.11)], (8, 8, 8), 0.022, PLASTIC)
    if marks.rear_sticker is not None:
        x, z = marks.rear_sticker[0] * 0.68 * half, bottom + 0.02 + marks.rear_sticker[1] * (top - bottom - 0.14)
        canvas.rectangle(x - 0.07, z, x + 0.07, z + 0.1, marks.sticker_colour, MATT)
    canvas.rectangle(-0.16, top + 0.03, 0.16, top + 0.055, (140, 12, 14), TAIL)
