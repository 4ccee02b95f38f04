"""Individual marks that distinguish vehicles of the same model and colour.

All marks are drawn from the vehicle's own seed, so two vehicles of one model and colour share marks only by chance.
Positions are shares (0..1) unless a unit is named.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vreid.simulator.vehicle.bodies import BOXY, LARGE, MOTORCYCLE
from vreid.simulator.vehicle.canvas import Colour

LETTERS, DIGITS = "ABCDEFGHJKLMNPRSTUVWXYZ", "0123456789"
METALS: tuple[Colour, ...] = ((186, 188, 191), (120, 122, 125), (38, 38, 40), (208, 208, 208), (150, 140, 120))
PLATES: tuple[Colour, ...] = ((235, 235, 235), (232, 200, 60), (200, 215, 240))


@dataclass(frozen=True)
class Wheel:
    """A wheel's face."""

    kind: int  # 0 spokes, 1 steel with holes, 2 hub cap
    spokes: int
    spoke_width: float
    colour: Colour
    lip: bool
    shiny: bool
    phase: float


@dataclass(frozen=True)
class Spot:
    """A place on a side: -1 right or 1 left, along the length, up from sill to belt, metres across."""

    side: int
    along: float
    up: float
    size: float


@dataclass(frozen=True)
class Decal:
    """A graphic or a name on the sides."""

    kind: int  # 0 disc, 1 panel with a name, 2 a name, 3 two rows of small print
    along: float
    up: float
    size: float
    colour: Colour
    words: str


@dataclass(frozen=True)
class Marks:
    """All individual features of a vehicle."""

    paint: tuple[float, float, float]  # factors on the paint
    wheel: Wheel | None  # None: the model's factory wheel
    odd_wheel: bool  # one wheel is the steel spare
    roof_bars: int  # 0 none, 1 black, 2 bright
    cross_bars: bool
    roof_box: int  # 0 none, 1 black, 2 white
    basket: bool
    sunroof: bool
    black_roof: bool
    stripe: int  # -1 none, else a style
    stripe_colour: Colour
    stripe_up: float
    tint: float
    privacy: bool
    screen_sticker: tuple[float, float] | None  # across -1..1, up 0..1
    sticker_colour: Colour
    rear_sticker: tuple[float, float] | None
    sun_strip: Colour | None
    moulding: int  # 0 none, 1 black, 2 chrome
    bare_bumpers: bool
    spoiler: int  # 0 none, 1 body colour, 2 black
    mirror: int  # 0 body colour, 1 black, 2 chrome
    dirt: float
    dirt_seed: int
    decals: tuple[Decal, ...]
    dents: tuple[Spot, ...]
    rust: tuple[Spot, ...]
    scratches: tuple[Spot, ...]
    odd_door: tuple[int, Colour] | None
    odd_bonnet: Colour | None
    taxi: bool
    antenna: int  # 0 none, 1 rod, 2 fin
    plate_colour: Colour
    plate_text: str
    plate_frame: Colour | None
    bumper_sticker: float | None
    tow_bar: bool
    ladder: bool
    cargo: bool
    cargo_colour: Colour
    rear_wiper: bool
    spare_wheel: bool
    badge: Colour
    bull_bar: bool
    fog_covers: Colour | None
    brow: bool  # dark trim above the head lamps
    deflectors: bool
    driver: tuple[Colour, Colour] | None  # skin and clothes
    passenger: bool
    dashboard_item: float | None


def _colour(rng: np.random.Generator, low: int, high: int) -> Colour:
    r, g, b = (int(value) for value in rng.integers(low, high, 3))
    return r, g, b


def _bright(rng: np.random.Generator) -> Colour:
    palette = (
        (230, 40, 40),
        (40, 90, 220),
        (245, 200, 30),
        (40, 160, 70),
        (240, 240, 240),
        (20, 20, 22),
        (240, 120, 30),
    )
    return palette[int(rng.integers(len(palette)))]


def draw_wheel(rng: np.random.Generator, *, plain: bool) -> Wheel:
    """Draw a wheel; `plain` leaves out light-alloy spokes."""
    return Wheel(
        kind=int(rng.choice([1, 2, 2] if plain else [0, 0, 0, 1, 2])),
        spokes=int(rng.integers(5, 11)),
        spoke_width=float(rng.uniform(0.05, 0.16)),
        colour=METALS[int(rng.choice(5, p=[0.5, 0.2, 0.2, 0.05, 0.05]))],
        lip=bool(rng.random() < 0.4),
        shiny=bool(rng.random() < 0.7),
        phase=float(rng.uniform(0, 6)),
    )


def _words(rng: np.random.Generator) -> str:
    letters = LETTERS + "EAIO"
    first = "".join(letters[int(k)] for k in rng.integers(0, len(letters), rng.integers(4, 8)))
    return first if rng.random() < 0.5 else f"{first} {int(rng.integers(10, 999))}"


def _spots(
    rng: np.random.Generator, mean: float, size: tuple[float, float], along: tuple[float, float] = (0.1, 0.94)
) -> tuple[Spot, ...]:
    return tuple(
        Spot(
            int(rng.choice([-1, 1])),
            float(rng.uniform(*along)),
            float(rng.uniform(0.15, 0.85)),
            float(rng.uniform(*size)),
        )
        for _ in range(rng.poisson(mean))
    )


def draw_marks(vehicle_type: str, seed: int) -> Marks:
    """Draw all marks of the vehicle with this seed."""
    rng = np.random.default_rng([seed, 0x3A7C])

    def chance(share: float) -> bool:
        return bool(rng.random() < share)

    large, boxy = vehicle_type in LARGE, vehicle_type in BOXY
    goods = vehicle_type in ("van", "truck", "bus")
    tall = vehicle_type in ("suv", "estate", "mpv")
    shade = rng.normal(1, 0.05)
    hue = rng.normal(1, 0.02, 3)
    decals = tuple(
        Decal(
            int(rng.integers(0, 4)),
            float(rng.uniform(0.3, 0.66)),
            float(rng.uniform(0.35, 0.7)),
            float(rng.uniform(0.6, 1.5)),
            _bright(rng),
            _words(rng),
        )
        for _ in range(int(rng.integers(1, 3 + goods)) if chance(0.7 if goods else 0.14) else 0)
    )
    plate = "".join(LETTERS[int(k)] for k in rng.integers(0, len(LETTERS), 3))
    plate += "".join(DIGITS[int(k)] for k in rng.integers(0, 10, 4))
    return Marks(
        paint=(float(shade * hue[0]), float(shade * hue[1]), float(shade * hue[2])),
        wheel=draw_wheel(rng, plain=large) if chance(0.45) else None,
        odd_wheel=chance(0.08) and vehicle_type != MOTORCYCLE,
        roof_bars=int(rng.integers(1, 3)) if chance(0.5 if tall else 0.08) and not boxy else 0,
        cross_bars=chance(0.4),
        roof_box=int(rng.integers(1, 3)) if chance(0.07) and not large else 0,
        basket=chance(0.05) and not large,
        sunroof=chance(0.25) and not large,
        black_roof=chance(0.08) and not large,
        stripe=int(rng.integers(0, 10)) if chance(0.14) else -1,
        stripe_colour=_bright(rng),
        stripe_up=float(rng.uniform(0.25, 0.8)),
        tint=float(rng.uniform(10, 38)),
        privacy=chance(0.35),
        screen_sticker=(float(rng.uniform(-0.75, 0.75)), float(rng.uniform(0.1, 0.9))) if chance(0.45) else None,
        sticker_colour=_bright(rng),
        rear_sticker=(float(rng.uniform(-0.7, 0.7)), float(rng.uniform(0.15, 0.85))) if chance(0.4) else None,
        sun_strip=((18, 60, 32), (14, 14, 16), (30, 40, 110))[int(rng.integers(3))] if chance(0.15) else None,
        moulding=int(rng.integers(1, 3)) if chance(0.3) else 0,
        bare_bumpers=chance(0.3 if vehicle_type in ("suv", "van", "pickup", "truck") else 0.08),
        spoiler=int(rng.integers(1, 3)) if chance(0.5 if vehicle_type == "sportscar" else 0.13) else 0,
        mirror=int(rng.choice(3, p=[0.62, 0.26, 0.12])),
        dirt=float(rng.beta(1.2, 4)),
        dirt_seed=int(rng.integers(2**31)),
        decals=decals,
        dents=_spots(rng, 0.5, (0.05, 0.15)),
        rust=_spots(rng, 0.22, (0.05, 0.12)),
        scratches=_spots(rng, 0.4, (0.25, 0.7)),
        odd_door=(int(rng.choice([-1, 1])), _colour(rng, 20, 220)) if chance(0.05) else None,
        odd_bonnet=_colour(rng, 10, 60) if chance(0.05) else None,
        taxi=chance(0.03) and vehicle_type in ("sedan", "mpv", "estate"),
        antenna=int(rng.choice(3, p=[0.5, 0.25, 0.25])),
        plate_colour=PLATES[int(rng.choice(3, p=[0.6, 0.25, 0.15]))],
        plate_text=plate,
        plate_frame=((16, 16, 18), (200, 30, 30), (190, 190, 190))[int(rng.integers(3))] if chance(0.45) else None,
        bumper_sticker=float(rng.uniform(-0.8, 0.8)) if chance(0.28) else None,
        tow_bar=chance(0.15) and not boxy,
        ladder=chance(0.25) and vehicle_type == "van",
        cargo=chance(0.45),
        cargo_colour=_colour(rng, 30, 200),
        rear_wiper=chance(0.5),
        spare_wheel=chance(0.14) and vehicle_type == "suv",
        badge=((205, 205, 205), (25, 25, 28), (190, 40, 40), (200, 170, 80))[
            int(rng.choice(4, p=[0.5, 0.2, 0.15, 0.15]))
        ],
        bull_bar=chance(0.12 if vehicle_type in ("suv", "pickup") else 0.0),
        fog_covers=((16, 16, 18), (200, 200, 205), (230, 150, 40))[int(rng.integers(3))] if chance(0.3) else None,
        brow=chance(0.12),
        deflectors=chance(0.15) and not boxy,
        driver=(((196, 150, 122), (120, 84, 62), (224, 184, 156))[int(rng.integers(3))], _colour(rng, 25, 200))
        if chance(0.8)
        else None,
        passenger=chance(0.3),
        dashboard_item=float(rng.uniform(-0.5, 0.7)) if chance(0.2) else None,
    )
