"""Truck bodies: boxes, flat beds, tarpaulins, container chassis, tanks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vreid.simulator.vehicle.bodies import BOX, CHASSIS, FLATBED, TANKER, TARPAULIN, CarModel
from vreid.simulator.vehicle.canvas import CHROME, DULL_ALLOY, LAMP, MATT, PLASTIC, SATIN, TAIL, Atlas, Canvas, Colour
from vreid.simulator.vehicle.marks import Marks
from vreid.simulator.vehicle.mesh import MeshBuilder, grid_faces
from vreid.simulator.vehicle.shell import CARGO, CARGO_REAR, CARGO_TOP, swatch, swatch_patch
from vreid.simulator.vehicle.sides import Coat

BOXES: tuple[Colour, ...] = (
    (226, 226, 223),
    (190, 192, 195),
    (150, 152, 150),
    (206, 200, 184),
    (58, 84, 120),
    (96, 104, 92),
)
TARPAULINS: tuple[Colour, ...] = (
    (98, 104, 106),
    (126, 128, 124),
    (82, 92, 82),
    (70, 84, 98),
    (150, 146, 134),
    (58, 72, 104),
    (104, 92, 76),
)
BEAMS: tuple[Colour, ...] = ((158, 84, 40), (44, 82, 62), (96, 98, 100), (44, 70, 118), (120, 44, 38), (38, 38, 40))
TANKS: tuple[Colour, ...] = ((220, 220, 216), (176, 178, 180), (198, 190, 170), (120, 134, 128))
DIRT: Colour = (104, 96, 84)
ARCHED = ((1.0, 0.0), (1.0, 0.72), (0.97, 0.86), (0.84, 0.94), (0.5, 0.985), (0.0, 1.0))  # half of a tarpaulin's hoop


@dataclass(frozen=True)
class Goods:
    """Individual features of one truck's body."""

    box: Colour
    tarpaulin: Colour
    boards: Colour
    rails: bool  # an open rail between boards and tarpaulin
    beams: Colour
    tank: Colour
    ribs: int
    dirt: float
    streaks: tuple[tuple[float, float, float], ...]  # along, length, strength; shares
    chevrons: bool
    door_bars: int


def draw_goods(marks: Marks) -> Goods:
    """Draw the body of the truck with these marks, from draws of its own."""
    rng = np.random.default_rng([marks.dirt_seed, 0xCA60])

    def one_of(palette: tuple[Colour, ...]) -> Colour:
        return Coat(palette[int(rng.integers(len(palette)))]).times(float(rng.normal(1, 0.06)))

    return Goods(
        box=one_of(BOXES),
        tarpaulin=one_of(TARPAULINS),
        boards=one_of((*BOXES, *BEAMS)),
        rails=bool(rng.random() < 0.4),
        beams=one_of(BEAMS),
        tank=one_of(TANKS),
        ribs=int(rng.integers(5, 9)),
        dirt=float(rng.beta(1.3, 2.2)),
        streaks=tuple(
            (float(rng.random()), float(rng.uniform(0.2, 1.0)), float(rng.uniform(0.1, 0.5))) for _ in range(14)
        ),
        chevrons=bool(rng.random() < 0.4),
        door_bars=int(rng.integers(1, 3)),
    )


def cargo_size(model: CarModel) -> tuple[float, float]:
    """Return length and height in metres of a truck's body behind the cab."""
    return model.length * 0.725, model.height * model.cargo_height - 0.36 * model.height


def add_cargo(builder: MeshBuilder, model: CarModel, marks: Marks) -> None:
    """Add the body behind a truck's cab."""
    length, height = cargo_size(model)
    front, floor, width = model.from_front(0.262), 0.36 * model.height, model.width
    if model.body == CHASSIS:
        _chassis(builder, model, front, length)
        return
    middle = front - length / 2
    builder.box((middle, 0, floor - 0.12), (length, width * 0.55, 0.22), swatch("dark"))
    if model.body == FLATBED:
        _flatbed(builder, model, marks, middle, length, floor)
    elif model.body == BOX:
        _hull(builder, model, [(1, 0), (1, 1), (0, 1)], [front, front - length], floor, height, flat=True)
    elif model.body == TARPAULIN:
        goods = draw_goods(marks)
        _hull(builder, model, ARCHED, np.linspace(front, front - length, 2 * goods.ribs + 1), floor, height)
    else:
        turn = np.linspace(-1.4, np.pi / 2, 9)  # a flat belly
        ellipse = np.round(np.stack([np.cos(turn), 0.5 + 0.5 * np.sin(turn)], 1), 6)
        _hull(builder, model, ellipse, np.linspace(front - 0.15, front - length, 4), floor, height * 0.86)
        for share in (0.25, 0.5, 0.75):
            at = (front - length * share, 0, floor + height * 0.88)
            builder.box(at, (0.5, 0.5, 0.12), swatch("metal"), bevel=0.05)
        builder.tube(
            [(front - length - 0.04, 0.4, floor), (front - length - 0.04, 0.4, floor + height * 0.8)],
            0.03,
            swatch("metal"),
            sides=4,
        )


def _hull(
    builder: MeshBuilder,
    model: CarModel,
    half: ArrayLike,
    stations: ArrayLike,
    floor: float,
    height: float,
    *,
    flat: bool = False,
) -> None:
    """Add a closed body over cross-sections; `half` is the left half of each, bottom to top, in shares.

    Between two ribs (at every other station) a hull of more than four stations sags a little.
    """
    left, xs = np.array(half, float), np.array(stations, float)
    right = left[-2::-1] if left[-1, 0] == 0 else left[::-1]
    section = np.concatenate([left, right * (-1, 1)]) * (model.width * 0.505, height) + (0, floor)
    sag = np.where(np.arange(len(xs)) % 2 == 1, 0.975, 1.0) if len(xs) > 4 else np.ones(len(xs))
    points = np.empty((len(xs), len(section), 3))
    points[..., 0] = xs[:, None]
    points[..., 1] = section[:, 0]
    points[..., 2] = floor + (section[:, 1] - floor) * sag[:, None]
    vertices, faces = points.reshape(-1, 3), grid_faces(len(xs), len(section), wrap=True)
    at = vertices[faces]
    normal = np.cross(at[:, 1] - at[:, 0], at[:, 2] - at[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    length, half_width = float(xs[0] - xs[-1]), model.width * 0.505
    side = CARGO.over(0, length, 0, height)
    texels = np.empty((len(faces), 3, 2), np.float32)
    on_left = normal[:, 1] > 0
    for chosen, along in ((on_left, xs[0] - at[..., 0]), (~on_left, at[..., 0] - xs[-1])):
        texels[chosen] = side.texels(along[chosen], at[chosen][..., 2] - floor)
    top = normal[:, 2] > 0.75
    texels[top] = CARGO_TOP.over(xs[0], xs[-1], -half_width, half_width).texels(at[top][..., 0], at[top][..., 1])
    builder.add(vertices, faces, texels, flat=flat)
    rear = CARGO_REAR.over(half_width, -half_width, 0, height)
    for end, order in ((0, (0, 1, 2)), (-1, (1, 0, 2))):
        rim = points[end]
        fan = np.concatenate([rim, rim.mean(axis=0, keepdims=True)])
        j = np.arange(len(rim))
        triangles = np.stack([j, (j + 1) % len(rim), np.full(len(rim), len(rim))], 1)[:, order]
        place = fan[triangles]
        builder.add(fan, triangles, rear.texels(place[..., 1], place[..., 2] - floor), flat=True)


def _flatbed(builder: MeshBuilder, model: CarModel, marks: Marks, middle: float, length: float, floor: float) -> None:
    width, end = model.width, length / 2
    builder.box((middle, 0, floor + 0.06), (length, width, 0.14), swatch("planks"))
    for side in (1, -1):
        builder.box((middle, side * width * 0.48, floor + 0.30), (length, 0.05, 0.42), swatch("paint"))
    builder.box((middle + end - 0.04, 0, floor + 0.5), (0.06, width, 0.85), swatch("paint"))
    builder.box((middle - end + 0.03, 0, floor + 0.30), (0.06, width, 0.42), swatch("paint"))
    if marks.cargo:
        long = length * (0.35 + 0.4 * marks.stripe_up)
        builder.box((middle, 0, floor + 0.55), (long, width * 0.8, 0.85), swatch("cargo"), bevel=0.08)


def _chassis(builder: MeshBuilder, model: CarModel, front: float, length: float) -> None:
    """Add an empty container trailer: two beams, cross members, twist locks at the ends."""
    width, level = model.width, 1.05
    for side in (1, -1):
        builder.box((front - length * 0.5, side * width * 0.2, level), (length * 0.98, 0.14, 0.26), swatch("beams"))
    for share in np.linspace(0.06, 0.985, 8):
        wide = width * (0.98 if share > 0.97 or share < 0.1 else 0.8)
        builder.box((front - length * float(share), 0, level - 0.02), (0.16, wide, 0.18), swatch("beams"))


def paint_cargo(atlas: Atlas, model: CarModel, marks: Marks) -> None:
    """Paint sides, top and rear of a truck's body."""
    goods = draw_goods(marks)
    length, height = cargo_size(model)
    half = model.width * 0.505
    atlas.plain(swatch_patch("beams"), goods.beams, SATIN)
    colour = {TARPAULIN: goods.tarpaulin, TANKER: goods.tank}.get(model.body, goods.box)
    finish = MATT if model.body == TARPAULIN else SATIN
    side = Canvas(CARGO.over(0, length, 0, height), colour, finish)
    top = Canvas(CARGO_TOP.over(0, length, -half, half), colour, finish)
    rear = Canvas(CARGO_REAR.over(half, -half, 0, height), colour, finish)
    for canvas, ends in ((side, (0.0, length)), (rear, (-half, half))):
        _ribs(canvas, model.body, goods, Coat(colour), ends, height)
    for x in np.linspace(0, length, goods.ribs + 1):
        top.line([(float(x), -half), (float(x), half)], Coat(colour).times(1.14), 0.06)
        top.line([(float(x) + 0.12, -half), (float(x) + 0.12, half)], Coat(colour).times(0.84), 0.08)
    _names(side, marks, length, height)
    _rear_details(rear, model.body, goods, Coat(colour), half, height)
    for canvas in (side, rear):
        _dirt(canvas, goods)
    for canvas in (side, top, rear):
        atlas.put(canvas)


def _ribs(canvas: Canvas, body: int, goods: Goods, coat: Coat, ends: tuple[float, float], height: float) -> None:
    start, end = ends
    count = goods.ribs if body == TARPAULIN else 10
    for x in np.linspace(start, end, count + 1):
        at = float(x)
        canvas.line([(at, 0), (at, height)], coat.times(0.84), 0.05 if body == TARPAULIN else 0.03)
        if body == TARPAULIN:
            canvas.line([(at + 0.06, height * 0.3), (at + 0.06, height)], coat.times(1.13), 0.05)
    if body == TARPAULIN:
        low = 0.34 * height
        canvas.rectangle(start, 0, end, low, goods.boards, SATIN)
        if goods.rails:
            canvas.rectangle(start, low * 0.72, end, low * 1.5, (30, 30, 31), PLASTIC)
            canvas.line([(start, low * 1.1), (end, low * 1.1)], Coat(goods.boards).times(1.1), 0.06)
        for x in np.linspace(start, end, count + 1):
            canvas.line(
                [(float(x), 0), (float(x), low * (1.5 if goods.rails else 1))], Coat(goods.boards).times(0.6), 0.06
            )
        canvas.line([(start, low * 0.45), (end, low * 0.45)], Coat(goods.boards).times(0.72), 0.03)
    elif body == TANKER:
        canvas.rectangle(start, height * 0.38, end, height * 0.46, goods.beams, SATIN)
        canvas.rectangle(start, 0, end, height * 0.12, (40, 40, 42), PLASTIC)
    else:
        canvas.rectangle(start, 0, end, 0.07, (120, 120, 122), CHROME)
        canvas.line([(start, height - 0.03), (end, height - 0.03)], coat.times(0.7), 0.05)


def _names(canvas: Canvas, marks: Marks, length: float, height: float) -> None:
    for decal in marks.decals:
        x, z, size = (0.25 + decal.along * 0.5) * length, (0.3 + 0.4 * decal.up) * height, decal.size * 1.5
        if decal.kind == 0:
            canvas.ellipse(x, z, size * 0.3, size * 0.26, decal.colour, MATT)
        elif decal.kind == 1:
            canvas.rectangle(0, z - 0.24, length, z + 0.24, decal.colour, MATT)
        light = (245, 245, 245) if decal.kind == 1 and sum(decal.colour) < 500 else (26, 26, 34)
        canvas.text(decal.words, x, z, size * 1.2, 0.34, decal.colour if decal.kind >= 2 else light)


def _rear_details(canvas: Canvas, body: int, goods: Goods, coat: Coat, half: float, height: float) -> None:
    if body == BOX:  # two doors, their lock bars and hinges
        canvas.line([(0, 0.05), (0, height)], coat.times(0.35), 0.035)
        for k in range(goods.door_bars):
            for side in (-1, 1):
                x = side * half * (0.2 + 0.4 * k)
                canvas.line([(x, 0.08), (x, height - 0.08)], coat.times(0.62), 0.045, DULL_ALLOY)
                canvas.rectangle(x - 0.06, height * 0.36, x + 0.06, height * 0.42, (60, 60, 62), PLASTIC)
        canvas.rectangle(-half, height - 0.08, half, height, coat.times(0.7))
    elif body == TARPAULIN:  # the flap is tied in the middle
        canvas.line([(-half * 0.6, height), (0.0, height * 0.36)], coat.times(0.7), 0.05)
        canvas.line([(half * 0.6, height), (0.0, height * 0.36)], coat.times(0.78), 0.05)
    if goods.chevrons:
        for k, x in enumerate(np.linspace(-half, half, 13)[:-1]):
            colour: Colour = (190, 24, 28) if k % 2 else (232, 232, 228)
            canvas.rectangle(float(x), 0.02, float(x) + half / 6, 0.12, colour, LAMP)
    for side in (-1, 1):
        canvas.rectangle(side * half, 0.0, side * half * 0.84, 0.13, (140, 12, 14), TAIL)


def _dirt(canvas: Canvas, goods: Goods) -> None:
    """Paint grime that rises from the floor and runs down in streaks."""
    patch = canvas.patch
    across, down = np.linspace(0, 1, patch.width), np.linspace(0, 1, patch.height)
    strength = goods.dirt * 0.8 * np.exp((down[:, None] - 1) * 4) + np.zeros((1, patch.width))
    for along, long, dark in goods.streaks:
        streak = np.exp(-(((across - along) / 0.012) ** 2))
        strength = strength + goods.dirt * dark * streak[None] * (down[:, None] < long)
    canvas.tint(np.minimum(strength, 0.8), DIRT)
