"""Motorcycle riders: clothes, bags, body geometry and paint.

Each rider is drawn from their own seed. Clothes are mostly black, white, grey and denim.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vreid.simulator.vehicle.canvas import MATT, PAINT, PLASTIC, SATIN, Atlas, Canvas, Colour
from vreid.simulator.vehicle.mesh import Mesh, MeshBuilder, Patch
from vreid.simulator.vehicle.shell import swatch, swatch_patch

CLOTHES: tuple[tuple[float, Colour], ...] = (
    (0.30, (24, 24, 27)),
    (0.10, (54, 55, 59)),
    (0.10, (112, 113, 116)),
    (0.05, (160, 160, 162)),
    (0.14, (222, 222, 220)),
    (0.08, (30, 36, 62)),
    (0.07, (66, 84, 116)),
    (0.03, (142, 164, 190)),
    (0.03, (166, 152, 128)),
    (0.02, (86, 70, 56)),
    (0.02, (74, 78, 54)),
    (0.02, (118, 38, 42)),
    (0.015, (196, 166, 170)),
    (0.005, (94, 74, 108)),
    (0.01, (40, 104, 72)),
    (0.005, (214, 112, 38)),
    (0.005, (208, 178, 60)),
)
TROUSERS: tuple[tuple[float, Colour], ...] = (
    (0.40, (26, 26, 29)),
    (0.14, (52, 62, 88)),
    (0.12, (84, 104, 138)),
    (0.12, (62, 62, 66)),
    (0.10, (128, 116, 96)),
    (0.06, (198, 196, 190)),
    (0.06, (36, 38, 58)),
)
HELMETS: tuple[tuple[float, Colour], ...] = (
    (0.26, (226, 226, 224)),
    (0.30, (22, 22, 24)),
    (0.14, (112, 114, 118)),
    (0.10, (150, 26, 30)),
    (0.05, (40, 58, 118)),
    (0.04, (206, 172, 52)),
    (0.04, (214, 150, 166)),
    (0.03, (44, 96, 66)),
    (0.04, (90, 40, 44)),
)
SKINS: tuple[Colour, ...] = ((196, 150, 122), (150, 108, 82), (218, 178, 150))
PLAIN, YOKE, BAND, STRIPES, WORDS, PANEL, DISC, PLAID, RAGLAN, SIDES = range(10)  # patterns of a jacket
ROUND, HALF, CAP = range(3)  # helmets
LONG, SHORTS, SKIRT = range(3)  # legs
NO_BAG, BACKPACK, SLING, SATCHEL = range(4)
BACK, CHEST = Patch(0, 0, 160, 224), Patch(160, 0, 160, 224)
HELMET, BAG = Patch(320, 0, 112, 112), Patch(432, 0, 112, 160)
PASSENGER_BELOW = 224  # texels from the driver's patches down to the passenger's
MATERIALS = ("skin", "hair", "jacket", "forearm", "trousers", "shin", "shoe", "visor", "bag", "face")


@dataclass(frozen=True)
class Outfit:
    """One rider's build, clothes, helmet and bag; lengths are factors on an average person's."""

    tall: float
    girth: float
    lean: float  # metres that the shoulders are before the hips
    skin: Colour
    face: Colour  # skin, or a mask
    hair: Colour
    long_hair: bool
    jacket: Colour
    pattern: int
    pattern_colour: Colour
    pattern_up: float  # share of the back's height
    words: str
    hood: bool
    long_sleeves: bool
    cape: bool
    trousers: Colour
    legs: int
    shoe: Colour
    helmet: Colour
    helmet_kind: int
    helmet_trim: Colour
    helmet_pattern: int  # 0 none, 1 stripe over the middle, 2 two-coloured, 3 sticker, 4 rim
    bag: int
    bag_colour: Colour
    bag_trim: Colour
    folds: tuple[tuple[float, float, float], ...]  # across, up, slant of creases in the cloth


def _pick(rng: np.random.Generator, palette: tuple[tuple[float, Colour], ...]) -> Colour:
    """Draw a colour of the palette by its share, with a small random variation."""
    shares = np.array([share for share, _ in palette])
    colour = palette[int(rng.choice(len(palette), p=shares / shares.sum()))][1]
    factors = rng.normal(1, 0.07) * rng.normal(1, 0.025, 3)
    r, g, b = (int(np.clip(value * factor, 6, 240)) for value, factor in zip(colour, factors, strict=True))
    return r, g, b


def draw_outfit(rng: np.random.Generator) -> Outfit:
    """Draw what one rider wears and carries."""

    def chance(share: float) -> bool:
        return bool(rng.random() < share)

    skin, jacket, helmet = SKINS[int(rng.integers(3))], _pick(rng, CLOTHES), _pick(rng, HELMETS)
    return Outfit(
        tall=float(rng.uniform(0.92, 1.06)),
        girth=float(rng.uniform(0.86, 1.24)),
        lean=float(rng.uniform(0.02, 0.16)),
        skin=skin,
        face=((218, 218, 216), (28, 30, 34), (96, 128, 168))[int(rng.integers(3))] if chance(0.4) else skin,
        hair=((20, 17, 16), (52, 36, 26), (110, 106, 104))[int(rng.choice(3, p=[0.75, 0.18, 0.07]))],
        long_hair=chance(0.22),
        jacket=jacket,
        pattern=int(rng.choice(10, p=[0.38, 0.08, 0.07, 0.06, 0.12, 0.06, 0.06, 0.05, 0.07, 0.05])),
        pattern_colour=_pick(rng, CLOTHES),
        pattern_up=float(rng.uniform(0.3, 0.75)),
        words="".join("ABCDEFGHKLMNOPRSTU"[int(k)] for k in rng.integers(0, 18, rng.integers(3, 8))),
        hood=chance(0.3),
        long_sleeves=chance(0.72),
        cape=chance(0.05),
        trousers=_pick(rng, TROUSERS),
        legs=int(rng.choice(3, p=[0.8, 0.13, 0.07])),
        shoe=((28, 25, 23), (206, 206, 204), (92, 70, 52))[int(rng.choice(3, p=[0.6, 0.25, 0.15]))],
        helmet=helmet,
        helmet_kind=int(rng.choice(3, p=[0.42, 0.5, 0.08])),
        helmet_trim=_pick(rng, HELMETS),
        helmet_pattern=int(rng.choice(5, p=[0.42, 0.17, 0.15, 0.13, 0.13])),
        bag=int(rng.choice(4, p=[0.6, 0.22, 0.09, 0.09])),
        bag_colour=_pick(rng, CLOTHES),
        bag_trim=_pick(rng, CLOTHES),
        folds=tuple(
            (float(rng.uniform(-0.2, 0.2)), float(rng.uniform(0.1, 0.8)), float(rng.normal(0, 0.1))) for _ in range(7)
        ),
    )


def _part(name: str, *, driver: bool) -> tuple[float, float]:
    return swatch(name if driver else f"{name} 2")


def _patch(patch: Patch, *, driver: bool) -> Patch:
    return patch if driver else Patch(patch.left, patch.top + PASSENGER_BELOW, patch.width, patch.height)


def _wrap(part: Mesh, back: Patch, front: Patch | None, middle: tuple[float, float], half: tuple[float, float]) -> None:
    """Show `back` on the faces of a part that look backwards and `front` (None: `back`) on the others.

    The patches stand for `half` metres around `middle` across and up.
    """
    (y, z), (wide, high) = middle, half
    at, forwards = part.vertices[part.faces], part.corners[..., 2].mean(axis=1) > 0.05
    for patch, chosen, left in ((back, ~forwards, wide), (front or back, forwards, -wide)):
        plane = patch.over(y + left, y - left, z - high, z + high)
        part.corners[chosen, :, :2] = plane.texels(at[chosen][..., 1], at[chosen][..., 2])


def add_rider(
    builder: MeshBuilder, outfit: Outfit, seat: float, grip: tuple[float, float, float], *, driver: bool, last: bool
) -> None:
    """Add a person who sits at x = `seat`, hands at `grip` (x, half the distance of the hands, z), in metres.

    The `last` one has no passenger behind and carries the bag on the back.
    """
    tall, girth, lean = outfit.tall, outfit.girth, outfit.lean

    def part(name: str) -> tuple[float, float]:
        return _part(name, driver=driver)

    def up(z: float) -> float:
        """Scale a height above the seat with the size of the person."""
        return 0.82 + (z - 0.82) * tall

    neck, hang = seat + lean, 1.35 if outfit.cape else 1.0
    spine = [
        (seat - 0.03, 0, 0.74 if outfit.cape else 0.8),
        (seat, 0, up(0.95)),
        (seat + lean * 0.5, 0, up(1.14)),
        (seat + lean * 0.9, 0, up(1.34)),
        (neck, 0, up(1.43)),
        (neck + 0.02, 0, up(1.49)),
    ]
    radii = np.array([0.185 * hang**2, 0.18 * hang, 0.19 * hang, 0.205 + 0.03 * outfit.cape, 0.165, 0.07])
    builder.tube(spine, (radii * (girth**0.7)).tolist(), (0, 0), sides=12, flatten=0.76)
    patches = _patch(BACK, driver=driver), _patch(CHEST, driver=driver)
    _wrap(builder.parts[-1], *patches, (0.0, (0.78 + up(1.5)) / 2), (0.26, (up(1.5) - 0.78) / 2))
    builder.tube([(neck, 0, up(1.45)), (neck + 0.03, 0, up(1.56))], 0.055, part("skin"))
    if outfit.hood:
        builder.ellipsoid((neck - 0.08, 0, up(1.45)), (0.085, 0.13, 0.075), part("jacket"), rings=4)
    if outfit.long_hair:
        builder.ellipsoid((neck - 0.09, 0, up(1.44)), (0.05, 0.085, 0.17), part("hair"), rings=4)
    _head(builder, outfit, neck + 0.05, up(1.64), driver=driver)

    for side in (1, -1):
        shoulder = (neck - 0.02, side * 0.185 * girth**0.7, up(1.38))
        hand = (grip[0], side * grip[1], grip[2])
        elbow = ((shoulder[0] * 0.55 + hand[0] * 0.45) - 0.04, side * (0.1 + 0.24 * girth), 1.12)
        builder.tube([shoulder, elbow], (0.085, 0.07), part("jacket"), sides=7)
        builder.tube([elbow, hand], (0.068, 0.045), part("forearm"), sides=6)
        builder.ellipsoid(hand, (0.06, 0.05, 0.045), part("skin"), rings=3)
        hip, knee, foot = (seat, side * 0.1, 0.84), (seat + 0.40, side * 0.21, 0.8), (seat + 0.29, side * 0.2, 0.36)
        thigh = (0.13 * girth, 0.09 * girth**0.5)
        builder.tube([hip, knee], thigh, part("trousers"), sides=7)
        builder.tube([knee, foot], (0.085 * girth**0.5, 0.06), part("shin"), sides=7)
        builder.ellipsoid(knee, (0.09, 0.085, 0.09), part("trousers"), rings=3)
        builder.box((foot[0] + 0.06, foot[1], foot[2] - 0.03), (0.26, 0.095, 0.09), part("shoe"), bevel=0.02)
    if outfit.legs == SKIRT:
        builder.ellipsoid((seat + 0.16, 0, 0.8), (0.3, 0.24 * girth, 0.14), part("trousers"), power=0.8, rings=4)
    if outfit.bag == BACKPACK and last:
        x, z = seat + lean * 0.5 - 0.14 * girth - 0.12, up(1.19)
        builder.ellipsoid((x, 0, z), (0.13, 0.165, 0.225), (0, 0), power=0.55, rings=6)
        _wrap(builder.parts[-1], _patch(BAG, driver=driver), None, (0.0, z), (0.17, 0.23))
    elif outfit.bag in (SLING, SATCHEL):
        x, y = (seat - 0.12, 0.17) if outfit.bag == SLING else (seat + 0.02, -0.29 * girth)
        builder.ellipsoid(
            (x, y, 0.95), (0.1, 0.1 if outfit.bag == SLING else 0.06, 0.11), part("bag"), power=0.6, rings=4
        )


def _head(builder: MeshBuilder, outfit: Outfit, x: float, z: float, *, driver: bool) -> None:
    def part(name: str) -> tuple[float, float]:
        return _part(name, driver=driver)

    if outfit.helmet_kind == ROUND:
        centre, radii = (x, 0.0, z), (0.15, 0.13, 0.15)
        builder.ellipsoid((x + 0.06, 0, z - 0.015), (0.1, 0.105, 0.075), part("visor"), rings=4)
    else:
        builder.ellipsoid((x, 0, z - 0.02), (0.105, 0.088, 0.125), part("hair"), rings=5)
        builder.ellipsoid((x + 0.04, 0, z - 0.045), (0.075, 0.078, 0.1), part("face"), rings=4)
        low = outfit.helmet_kind == CAP
        centre, radii = (x - 0.005, 0.0, z + 0.05), (0.115, 0.098, 0.075) if low else (0.145, 0.13, 0.105)
        builder.box((x + 0.13, 0, z + 0.035), (0.13, 0.16, 0.02), part("visor"))
    builder.ellipsoid(centre, radii, (0, 0), rings=6)
    _wrap(builder.parts[-1], _patch(HELMET, driver=driver), None, (0.0, centre[2]), (radii[1], radii[2]))


def paint_rider(atlas: Atlas, outfit: Outfit, *, driver: bool) -> None:
    """Paint jacket, helmet, bag and plain materials of a rider."""
    for patch, back in ((BACK, True), (CHEST, False)):
        atlas.put(_jacket(_patch(patch, driver=driver), outfit, back=back))
    atlas.put(_helmet(_patch(HELMET, driver=driver), outfit))
    atlas.put(_bag(_patch(BAG, driver=driver), outfit))
    arm = outfit.pattern_colour if outfit.pattern == RAGLAN else outfit.jacket
    visor = (16, 17, 20) if outfit.helmet_kind == ROUND else outfit.helmet_trim
    colours = dict(
        zip(
            MATERIALS,
            (
                outfit.skin,
                outfit.hair,
                arm,
                arm if outfit.long_sleeves else outfit.skin,
                outfit.trousers,
                outfit.trousers if outfit.legs == LONG else outfit.skin,
                outfit.shoe,
                visor,
                outfit.bag_colour,
                outfit.face,
            ),
            strict=True,
        )
    )
    for name, colour in colours.items():
        glossy = name == "visor" and outfit.helmet_kind == ROUND
        atlas.plain(swatch_patch(name if driver else f"{name} 2"), colour, PAINT if glossy else MATT)


def _shade(colour: Colour, factor: float) -> Colour:
    r, g, b = (int(min(value * factor + 3, 250)) for value in colour)
    return r, g, b


def _jacket(patch: Patch, outfit: Outfit, *, back: bool) -> Canvas:
    """Paint the back or the chest of a jacket, shares of its width (-1..1) and height (0..1)."""
    side = 1.0 if back else -1.0
    canvas = Canvas(patch.over(side, -side, 0, 1), outfit.jacket, SATIN if outfit.cape else MATT)
    colour, z = outfit.pattern_colour, outfit.pattern_up
    if outfit.pattern == YOKE:
        canvas.rectangle(-1, 0.5 + z / 3, 1, 1, colour, MATT)
    elif outfit.pattern == BAND:
        canvas.rectangle(-1, z - 0.1, 1, z + 0.1, colour, MATT)
    elif outfit.pattern == STRIPES:
        for level in np.arange(0.02, 1, 0.14):
            canvas.rectangle(-1, float(level), 1, float(level) + 0.06, colour, MATT)
    elif outfit.pattern == PANEL:
        canvas.rectangle(-0.42, z - 0.17, 0.42, z + 0.17, colour, MATT)
    elif outfit.pattern == DISC:
        canvas.ellipse(0, z, 0.36, 0.16, colour, MATT)
        canvas.ellipse(0, z, 0.2, 0.09, outfit.jacket, MATT)
    elif outfit.pattern == PLAID:
        for place in np.linspace(-0.9, 0.9, 7):
            canvas.line([(float(place), 0), (float(place), 1)], colour, 0.09, MATT)
            canvas.line([(-1, 0.5 + float(place) / 2), (1, 0.5 + float(place) / 2)], colour, 0.09, MATT)
    elif outfit.pattern == SIDES:
        for edge in (-1.0, 1.0):
            canvas.rectangle(edge, 0, edge * 0.5, 1, colour, MATT)
    for across, up, slant in outfit.folds:
        line = [(across * 4 - 0.25, up - slant), (across * 4 + 0.25, up + slant)]
        canvas.line(line, _shade(outfit.jacket, 0.72), 0.05)
        canvas.line([(x, y + 0.02) for x, y in line], _shade(outfit.jacket, 1.14), 0.03)
    if outfit.pattern == WORDS and back:
        canvas.text(outfit.words, 0, 0.45 + z / 3, 0.95, 0.12, colour)
    if not back:
        canvas.line([(0, 0), (0, 1)], _shade(outfit.jacket, 0.55), 0.04)
    if outfit.bag == BACKPACK:
        for strap in (-0.34, 0.34):
            canvas.rectangle(strap - 0.07, 0.45, strap + 0.07, 1, outfit.bag_trim, MATT)
    elif outfit.bag in (SLING, SATCHEL):
        canvas.line(
            [(0.5, 1), (-0.6, 0.2)] if outfit.bag == SATCHEL else [(-0.5, 1), (0.6, 0.2)], outfit.bag_trim, 0.12
        )
    canvas.rectangle(-1, 0, 1, 0.035, _shade(outfit.jacket, 0.6), MATT)
    return canvas


def _helmet(patch: Patch, outfit: Outfit) -> Canvas:
    canvas = Canvas(patch.over(1, -1, -1, 1), outfit.helmet, MATT if outfit.helmet_kind == CAP else PAINT)
    trim = outfit.helmet_trim
    if outfit.helmet_pattern == 1:
        canvas.rectangle(-0.24, -1, 0.24, 1, trim)
    elif outfit.helmet_pattern == 2:
        canvas.rectangle(-1, -1, 1, 0.0, trim)
    elif outfit.helmet_pattern == 3:
        canvas.ellipse(0.1, 0.1, 0.4, 0.3, trim, MATT)
    elif outfit.helmet_pattern == 4:
        canvas.rectangle(-1, -1, 1, -0.45, trim)
    canvas.rectangle(-1, -1, 1, -0.86, (18, 18, 19), PLASTIC)
    return canvas


def _bag(patch: Patch, outfit: Outfit) -> Canvas:
    canvas = Canvas(patch.over(1, -1, 0, 1), outfit.bag_colour, MATT)
    canvas.rectangle(-0.66, 0.08, 0.66, 0.44, _shade(outfit.bag_colour, 0.8), MATT)
    canvas.line([(-0.66, 0.44), (0.66, 0.44)], outfit.bag_trim, 0.07)
    canvas.line([(-0.9, 0.72), (0.0, 0.88), (0.9, 0.72)], _shade(outfit.bag_colour, 0.6), 0.06)
    canvas.ellipse(0.0, 0.6, 0.16, 0.07, outfit.bag_trim, MATT)
    return canvas
