"""Motorcycles and scooters: shared model geometry and individual features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vreid.simulator.vehicle.bodies import CarModel
from vreid.simulator.vehicle.canvas import (
    ALLOY,
    CHROME,
    LAMP,
    MATT,
    PAINT,
    PLASTIC,
    PLATE,
    RUBBER,
    SATIN,
    TAIL,
    Atlas,
    Canvas,
    Colour,
    Level,
)
from vreid.simulator.vehicle.marks import Marks, draw_wheel
from vreid.simulator.vehicle.mesh import Mesh, MeshBuilder
from vreid.simulator.vehicle.riders import Outfit, add_rider, draw_outfit, paint_rider
from vreid.simulator.vehicle.shell import FRONT, REAR, WHEEL, add_wheel, swatch, swatch_patch
from vreid.simulator.vehicle.wheels import paint_wheel

PLATE_PATCH = FRONT.over(0.12, -0.12, 0.0, 0.24)
CASE_PATCH = REAR.over(1, -1, 0, 1)
BLACK: Colour = (20, 20, 21)
DULL: tuple[Colour, ...] = (
    BLACK,
    (62, 63, 66),
    (150, 151, 154),
    (214, 214, 212),
    (120, 26, 30),
    (40, 52, 92),
    (92, 62, 44),
)
DELIVERY: tuple[Colour, ...] = ((34, 128, 70), (214, 106, 34), (196, 40, 44), (30, 96, 150), (36, 36, 38))
CARDBOARD: Colour = (166, 132, 92)
NO_LOAD, TOP_CASE, DELIVERY_BOX, PARCEL = range(4)


@dataclass(frozen=True)
class Ride:
    """Individual features of one motorcycle and its riders."""

    driver: Outfit
    passenger: Outfit | None
    load: int  # on the rack behind the last seat
    load_size: float  # metres
    load_colour: Colour
    load_trim: Colour
    saddle_bags: bool
    hook_bag: int  # -1 right, 1 left, 0 none
    tail_lamp: int
    tail_colour: Colour
    trim: Colour
    seat: Colour
    mud_flap: float  # metres below the plate, 0 for none
    flap: Colour
    rail: bool
    screen: bool
    mirrors: int  # 0 round, 1 wide, 2 none
    exhaust: int  # 0 bright, 1 black


def draw_ride(seed: int) -> Ride:
    """Draw riders, load and fittings of the motorcycle whose marks have this seed, from draws of their own."""
    rng = np.random.default_rng([seed, 0x51DE])

    def chance(share: float) -> bool:
        return bool(rng.random() < share)

    def dull() -> Colour:
        return DULL[int(rng.choice(len(DULL), p=[0.36, 0.16, 0.14, 0.1, 0.1, 0.07, 0.07]))]

    load = int(rng.choice(4, p=[0.66, 0.16, 0.09, 0.09]))
    return Ride(
        driver=draw_outfit(np.random.default_rng([seed, 0x51DF])),
        passenger=draw_outfit(np.random.default_rng([seed, 0x51E0])) if chance(0.24) else None,
        load=load,
        load_size=float(rng.uniform(0.3, 0.4) if load != DELIVERY_BOX else rng.uniform(0.42, 0.52)),
        load_colour={DELIVERY_BOX: DELIVERY[int(rng.integers(5))], PARCEL: CARDBOARD}.get(load, dull()),
        load_trim=((214, 214, 212), BLACK, (150, 24, 28), (206, 176, 60))[int(rng.integers(4))],
        saddle_bags=chance(0.12),
        hook_bag=int(rng.choice([0, -1, 1], p=[0.8, 0.1, 0.1])),
        tail_lamp=int(rng.integers(5)),
        tail_colour=((132, 10, 12), (176, 20, 20), (96, 12, 16))[int(rng.integers(3))],
        trim=dull(),
        seat=((26, 25, 25), (70, 44, 32), (96, 30, 30), (150, 140, 122))[int(rng.choice(4, p=[0.7, 0.14, 0.08, 0.08]))],
        mud_flap=float(rng.uniform(0.1, 0.2)) if chance(0.5) else 0.0,
        flap=(BLACK, (60, 60, 62), (200, 200, 198), (140, 24, 26))[int(rng.choice(4, p=[0.6, 0.2, 0.1, 0.1]))],
        rail=chance(0.5),
        screen=chance(0.15),
        mirrors=int(rng.choice(3, p=[0.5, 0.38, 0.12])),
        exhaust=int(rng.integers(2)),
    )


def _ends(model: CarModel) -> tuple[float, float]:
    """Return the x of the front and the rear axle."""
    return 0.34 * model.length, -0.30 * model.length


def motorcycle_shell(model: CarModel) -> Mesh:
    """Return the machine without its rider: a scooter, or a naked bike for `model.cab` 2."""
    builder = MeshBuilder()
    scooter = model.cab != 2
    radius = 0.26 if scooter else 0.31
    front, rear = _ends(model)
    paint, black, metal = swatch("paint"), swatch("black"), swatch("metal")
    for x in (front, rear):
        for side in (1, -1):
            add_wheel(builder, x, side * 0.05, radius, 0.1, side, WHEEL)
    for side in (1, -1):
        builder.tube([(front, side * 0.075, radius), (front - 0.2, side * 0.075, 0.86)], 0.024, metal, sides=5)
        grip = [(front - 0.28, 0.0, 0.98), (front - 0.32, side * 0.2, 1.02), (front - 0.40, side * 0.36, 1.0)]
        builder.tube(grip, 0.02, black, sides=5)
    builder.ellipsoid((front, 0, radius * 1.65), (radius * 0.8, 0.08, 0.09), paint, rings=4)
    builder.ellipsoid((front - 0.14, 0, 0.92), (0.1, 0.12, 0.12), paint, rings=4)
    builder.ellipsoid((front - 0.07, 0, 0.92), (0.06, 0.085, 0.075), swatch("lamp"), rings=4)
    if scooter:
        builder.ellipsoid((front - 0.26, 0, 0.62), (0.07, 0.23, 0.34), paint, power=0.8, rings=5)
        builder.box((front - 0.5, 0, 0.31), (0.5, 0.28, 0.1), black, bevel=0.02)
        builder.ellipsoid((rear + 0.12, 0, 0.57), (0.46, 0.19, 0.2), paint, power=0.85, rings=5)
        builder.ellipsoid((rear + 0.04, 0, 0.40), (0.36, 0.15, 0.14), swatch("trim"), power=0.8, rings=4)
    else:
        builder.ellipsoid((front - 0.5, 0, 0.84), (0.28, 0.16, 0.14), paint, power=0.9, rings=5)
        builder.ellipsoid((front - 0.52, 0, 0.46), (0.22, 0.14, 0.2), metal, power=0.6, rings=4)
        builder.ellipsoid((rear + 0.1, 0, 0.68), (0.36, 0.11, 0.1), paint, power=0.9, rings=4)
        builder.tube([(front - 0.22, 0, 0.8), (rear, 0, 0.5)], 0.05, swatch("trim"))
    builder.ellipsoid((rear + 0.27, 0, 0.79), (0.44, 0.14, 0.075), swatch("seat"), power=0.8, rings=4)
    exhaust = [(front - 0.5, -0.17, 0.28), (rear + 0.1, -0.2, 0.3), (rear - 0.28, -0.2, 0.42)]
    builder.tube(exhaust, 0.05, swatch("exhaust"))
    back = rear - 0.33
    builder.tube([(rear - 0.1, 0, 0.62), (back, 0, 0.5)], 0.06, black, sides=5)  # carries plate and lamps
    builder.box((back + 0.03, 0, 0.5), (0.02, 0.25, 0.22), black)
    corners = np.array(
        [(back - 0.05, 0.12, 0.4), (back - 0.05, -0.12, 0.4), (back + 0.01, -0.12, 0.58), (back + 0.01, 0.12, 0.58)]
    )
    triangles = np.array([(0, 1, 2), (0, 2, 3)])
    at = corners[triangles]
    builder.add(corners, triangles, PLATE_PATCH.texels(at[..., 1], (at[..., 2] - 0.4) / 0.18 * 0.24), flat=True)
    return builder.build()


def riding(model: CarModel, ride: Ride) -> Mesh:
    """Return the mesh of riders, load and individual fittings."""
    builder = MeshBuilder()
    seat = _ends(model)[1] + 0.42
    alone = ride.passenger is None
    add_rider(builder, ride.driver, seat, (_ends(model)[0] - 0.40, 0.33, 1.01), driver=True, last=alone)
    if ride.passenger is not None:
        add_rider(builder, ride.passenger, seat - 0.36, (seat - 0.1, 0.17, 1.02), driver=False, last=True)
    _rear(builder, model, ride)
    _handlebar(builder, model, ride)
    if ride.load and alone:
        size, at = ride.load_size, (seat - 0.62, 0.0, 0.9 + ride.load_size * 0.42)
        if ride.load == TOP_CASE:
            builder.ellipsoid(at, (size * 0.55, size * 0.62, size * 0.45), swatch("case"), power=0.5, rings=5)
        else:
            builder.box(
                at, (size, size * 1.1, size * (0.84 if ride.load == PARCEL else 1.0)), swatch("case"), bevel=0.012
            )
        _case_back(builder, at, size)
    if ride.saddle_bags:
        for side in (1, -1):
            where = (_ends(model)[1] - 0.02, side * 0.25, 0.6)
            builder.ellipsoid(where, (0.2, 0.09, 0.16), swatch("flap"), power=0.6, rings=4)
    if ride.hook_bag:
        builder.ellipsoid(
            (seat + 0.5, ride.hook_bag * 0.2, 0.6), (0.11, 0.12, 0.17), swatch("cargo"), power=0.9, rings=4
        )
    return builder.build()


def _case_back(builder: MeshBuilder, at: tuple[float, float, float], size: float) -> None:
    """The painted panel on the back of a load."""
    x, half, low, high = at[0] - size * 0.56, size * 0.42, at[2] - size * 0.3, at[2] + size * 0.3
    corners = np.array([(x, half, low), (x, -half, low), (x, -half, high), (x, half, high)])
    triangles = np.array([(0, 1, 2), (0, 2, 3)])
    place = corners[triangles]
    builder.add(
        corners, triangles, CASE_PATCH.texels(place[..., 1] / half, (place[..., 2] - low) / (high - low)), flat=True
    )


def _rear(builder: MeshBuilder, model: CarModel, ride: Ride) -> None:
    back, tail = _ends(model)[1] - 0.33, swatch("tail")
    if ride.tail_lamp == 0:
        builder.ellipsoid((back + 0.02, 0, 0.68), (0.06, 0.13, 0.05), tail, rings=4)
    elif ride.tail_lamp == 1:
        builder.ellipsoid((back + 0.02, 0, 0.68), (0.06, 0.07, 0.07), tail, rings=4)
    elif ride.tail_lamp == 2:
        builder.box((back + 0.01, 0, 0.69), (0.06, 0.3, 0.035), tail)
    else:
        for side in (1, -1):
            path = [(back + 0.04, side * 0.05, 0.62), (back + 0.06, side * 0.13, 0.73 if ride.tail_lamp == 3 else 0.64)]
            builder.tube(path, 0.034, tail, sides=6)
    for side in (1, -1):
        builder.ellipsoid((back + 0.06, side * 0.19, 0.64), (0.035, 0.04, 0.03), swatch("indicator"), rings=3)
        if ride.rail:
            rail = [(back + 0.5, side * 0.16, 0.8), (back + 0.12, side * 0.15, 0.84), (back + 0.06, 0, 0.84)]
            builder.tube(rail, 0.018, swatch("chrome"), sides=5)
    if ride.mud_flap:
        builder.box((back + 0.06, 0, 0.38 - ride.mud_flap / 2), (0.02, 0.17, ride.mud_flap), swatch("flap"))


def _handlebar(builder: MeshBuilder, model: CarModel, ride: Ride) -> None:
    front = _ends(model)[0]
    for side in (1, -1) if ride.mirrors < 2 else ():
        builder.tube(
            [(front - 0.32, side * 0.26, 1.02), (front - 0.3, side * 0.34, 1.17)], 0.01, swatch("black"), sides=4
        )
        radii = ((0.02, 0.065, 0.06), (0.02, 0.09, 0.045))[ride.mirrors]
        builder.ellipsoid((front - 0.3, side * 0.38, 1.19), radii, swatch("mirror"), rings=3)
    if ride.screen:
        builder.ellipsoid((front - 0.12, 0, 1.14), (0.03, 0.17, 0.2), swatch("black"), power=0.8, rings=4)


def paint_motorcycle(model: CarModel, marks: Marks, ride: Ride, base: Colour, *, plate: bool) -> tuple[Level, ...]:
    """Return the painted atlas of a machine in `base` with its riders; `plate=False` leaves its plate blank."""
    atlas = Atlas()
    wheel = marks.wheel or draw_wheel(np.random.default_rng(model.wheel_seed), plain=False)
    atlas.put(paint_wheel(WHEEL, wheel))
    atlas.put(_plate(marks, plate=plate))
    case = Canvas(CASE_PATCH, ride.load_colour, SATIN)
    if ride.load == DELIVERY_BOX:
        case.text(ride.driver.words, 0, 0.6, 1.6, 0.3, ride.load_trim)
    else:
        case.rectangle(-1, 0.4, 1, 0.62, ride.load_trim, PLASTIC)
    atlas.put(case)
    for outfit, driver in ((ride.driver, True), (ride.passenger, False)):
        if outfit is not None:
            paint_rider(atlas, outfit, driver=driver)
    materials: dict[str, tuple[Colour, int]] = {
        "dark": ((7, 7, 7), RUBBER),
        "tyre": ((18, 18, 19), RUBBER),
        "paint": (base, PAINT),
        "black": (BLACK, PLASTIC),
        "chrome": ((192, 192, 194), CHROME),
        "metal": ((150, 150, 154), ALLOY),
        "mirror": ((base, BLACK, (192, 192, 194))[marks.mirror], (PAINT, PLASTIC, CHROME)[marks.mirror]),
        "lamp": ((206, 210, 215), LAMP),
        "tail": (ride.tail_colour, TAIL),
        "indicator": ((196, 112, 28), LAMP),
        "seat": (ride.seat, MATT),
        "trim": (ride.trim, SATIN),
        "case": (ride.load_colour, SATIN),
        "flap": (ride.flap, RUBBER),
        "cargo": (ride.load_trim, MATT),
        "exhaust": ((168, 168, 172), CHROME) if ride.exhaust == 0 else (BLACK, PLASTIC),
    }
    for name, (colour, finish) in materials.items():
        atlas.plain(swatch_patch(name), colour, finish)
    return atlas.levels()


def _plate(marks: Marks, *, plate: bool) -> Canvas:
    """Paint the plate, nearly square with its characters in two rows, and its frame."""
    canvas = Canvas(PLATE_PATCH, marks.plate_frame or BLACK, PLASTIC)
    margin = 0.01 if marks.plate_frame is None else 0.022
    canvas.rectangle(-0.12 + margin, margin, 0.12 - margin, 0.24 - margin, marks.plate_colour, PLATE)
    if plate:
        canvas.text(marks.plate_text[:3], 0, 0.172, 0.13, 0.075, (24, 26, 40), PLATE)
        canvas.text(marks.plate_text[3:], 0, 0.075, 0.17, 0.085, (24, 26, 40), PLATE)
    return canvas
