"""Motorcycles and scooters with their riders."""

from __future__ import annotations

import numpy as np

from vreid.simulator.bodies import CarModel
from vreid.simulator.canvas import ALLOY, CHROME, LAMP, MATT, PAINT, PLASTIC, RUBBER, TAIL, Atlas, Canvas, Colour
from vreid.simulator.ends import paint_plate
from vreid.simulator.marks import Marks, draw_wheel
from vreid.simulator.mesh import Mesh, MeshBuilder
from vreid.simulator.shell import FRONT, WHEEL, add_wheel, swatch, swatch_patch
from vreid.simulator.wheels import paint_wheel

PLATE_PATCH = FRONT.over(0.12, -0.12, 0.0, 0.24)


def motorcycle_shell(model: CarModel) -> Mesh:
    """Return the machine without its rider: a scooter, or a naked bike for `model.cab` 2."""
    builder = MeshBuilder()
    scooter = model.cab != 2
    radius = 0.26 if scooter else 0.31
    front, rear = 0.34 * model.length, -0.30 * model.length
    paint, black, metal = swatch("paint"), swatch("black"), swatch("metal")
    for x in (front, rear):
        for side in (1, -1):
            add_wheel(builder, x, side * 0.05, radius, 0.1, side, WHEEL)
    for side in (1, -1):
        builder.tube([(front, side * 0.075, radius), (front - 0.2, side * 0.075, 0.86)], 0.024, metal, sides=5)
        grip = [(front - 0.28, 0.0, 0.98), (front - 0.32, side * 0.2, 1.02), (front - 0.40, side * 0.36, 1.0)]
        builder.tube(grip, 0.02, black, sides=5)
        builder.tube([(front - 0.32, side * 0.26, 1.02), (front - 0.3, side * 0.34, 1.17)], 0.01, black, sides=4)
        builder.ellipsoid((front - 0.3, side * 0.36, 1.19), (0.02, 0.065, 0.045), swatch("mirror"), rings=3)
    builder.ellipsoid((front, 0, radius * 1.65), (radius * 0.8, 0.08, 0.09), paint, rings=4)
    builder.ellipsoid((front - 0.14, 0, 0.92), (0.1, 0.12, 0.12), paint, rings=4)
    builder.ellipsoid((front - 0.07, 0, 0.92), (0.06, 0.085, 0.075), swatch("lamp"), rings=4)
    if scooter:
        builder.ellipsoid((front - 0.26, 0, 0.62), (0.07, 0.23, 0.34), paint, power=0.8, rings=5)
        builder.box((front - 0.5, 0, 0.31), (0.5, 0.28, 0.1), black, bevel=0.02)
        builder.ellipsoid((rear + 0.12, 0, 0.56), (0.46, 0.19, 0.22), paint, power=0.85, rings=5)
    else:
        builder.ellipsoid((front - 0.5, 0, 0.84), (0.28, 0.16, 0.14), paint, power=0.9, rings=5)
        builder.ellipsoid((front - 0.52, 0, 0.46), (0.22, 0.14, 0.2), metal, power=0.6, rings=4)
        builder.ellipsoid((rear + 0.1, 0, 0.68), (0.36, 0.11, 0.1), paint, power=0.9, rings=4)
        builder.tube([(front - 0.22, 0, 0.8), (rear, 0, 0.5)], 0.05, black)
    builder.ellipsoid((rear + 0.27, 0, 0.79), (0.44, 0.14, 0.075), black, power=0.8, rings=4)
    back = rear - 0.30
    builder.ellipsoid((back, 0, 0.67), (0.05, 0.11, 0.05), swatch("tail"), rings=4)
    builder.tube([(front - 0.5, -0.17, 0.28), (rear + 0.1, -0.2, 0.3), (rear - 0.28, -0.2, 0.42)], 0.05, metal)
    corners = np.array([(back - 0.06, 0.11, 0.36), (back - 0.06, -0.11, 0.36), (back, -0.11, 0.56), (back, 0.11, 0.56)])
    triangles = np.array([(0, 2, 1), (0, 3, 2)])
    at = corners[triangles]
    builder.add(corners, triangles, PLATE_PATCH.texels(at[..., 1], (at[..., 2] - 0.36) * 1.2), flat=True)
    return builder.build()


def riders(model: CarModel, marks: Marks) -> Mesh:
    """Return the rider, and whoever and whatever rides along."""
    builder = MeshBuilder()
    seat = -0.30 * model.length + 0.42
    _person(builder, seat, model, driver=True)
    if marks.passenger:
        _person(builder, seat - 0.34, model, driver=False)
    elif marks.cross_bars:
        builder.ellipsoid((seat - 0.27, 0, 1.18), (0.13, 0.17, 0.24), swatch("bag"), power=0.7, rings=4)
    if marks.cargo and not marks.passenger:
        size = 0.5 if marks.sunroof else 0.34
        builder.box((seat - 0.58, 0, 0.88 + size / 2), (size, size * 1.1, size), swatch("cargo"), bevel=0.012)
    return builder.build()


def _person(builder: MeshBuilder, x: float, model: CarModel, *, driver: bool) -> None:
    tall = 1.0 + 0.04 * np.sin(model.wheel_seed)
    jacket = swatch("jacket") if driver else swatch("accent")
    lean = 0.14 if driver else 0.05
    spine = [
        (x - 0.02, 0, 0.84),
        (x + lean * 0.4, 0, 1.08 * tall),
        (x + lean, 0, 1.36 * tall),
        (x + lean + 0.02, 0, 1.46 * tall),
    ]
    builder.tube(spine, (0.17, 0.185, 0.19, 0.08), jacket, sides=9, flatten=1.15)
    builder.tube([(x + lean, 0, 1.42 * tall), (x + lean + 0.02, 0, 1.52 * tall)], 0.06, swatch("skin"))
    head = (x + lean + 0.05, 0.0, 1.62 * tall)
    builder.ellipsoid(head, (0.145, 0.125, 0.145), swatch("helmet") if driver else swatch("bag"), rings=5)
    builder.ellipsoid((head[0] + 0.06, 0, head[2] - 0.015), (0.095, 0.1, 0.07), swatch("visor"), rings=4)
    hands = (0.34 * model.length - 0.40, 0.33, 1.01) if driver else (x + 0.3, 0.16, 1.05)
    for side in (1, -1):
        shoulder = (x + lean - 0.02, side * 0.16, 1.35 * tall)
        elbow = ((shoulder[0] + hands[0]) / 2 - 0.03, side * 0.33, 1.10)
        builder.tube([shoulder, elbow, (hands[0], side * hands[1], hands[2])], (0.075, 0.06, 0.045), jacket, sides=6)
        knee = (x + 0.40, side * 0.2, 0.80)
        builder.tube(
            [(x, side * 0.11, 0.86), knee, (x + 0.28, side * 0.19, 0.38)],
            (0.115, 0.085, 0.06),
            swatch("trousers"),
            sides=7,
        )
        builder.box((x + 0.34, side * 0.19, 0.35), (0.26, 0.09, 0.09), swatch("shoe"), bevel=0.02)


def paint_motorcycle(atlas: Atlas, marks: Marks, base: Colour, wheel_seed: int, *, plate: bool) -> None:
    """Paint wheels, plate and plain materials."""
    atlas.put(paint_wheel(WHEEL, marks.wheel or draw_wheel(np.random.default_rng(wheel_seed), plain=False)))
    canvas = Canvas(PLATE_PATCH, (20, 20, 21), PLASTIC)
    paint_plate(canvas, marks, 0.0, 0.06, plate=plate, scale=0.42)
    atlas.put(canvas)
    skin, clothes = marks.driver or ((196, 150, 122), (40, 46, 60))
    black: Colour = (20, 20, 21)
    materials: dict[str, tuple[Colour, int]] = {
        "tyre": ((18, 18, 19), RUBBER), "paint": (base, PAINT), "black": (black, PLASTIC),
        "metal": ((150, 150, 154), ALLOY),
        "mirror": ((base, black, (192, 192, 194))[marks.mirror], (PAINT, PLASTIC, CHROME)[marks.mirror]),
        "lamp": ((206, 210, 215), LAMP), "tail": ((132, 10, 12), TAIL), "skin": (skin, MATT),
        "jacket": (clothes, MATT),
        "trousers": (((46, 52, 72), (30, 30, 32), (98, 88, 70))[marks.dirt_seed % 3], MATT),
        "shoe": ((28, 24, 22), MATT),
        "helmet": (marks.sticker_colour, PAINT), "visor": ((14, 15, 17), PAINT), "bag": (marks.stripe_colour, MATT),
        "accent": (marks.cargo_colour, MATT), "cargo": (marks.stripe_colour, MATT), "dark": ((7, 7, 7), RUBBER),
    }  # fmt: skip
    for name, (colour, finish) in materials.items():
        atlas.plain(swatch_patch(name), colour, finish)
