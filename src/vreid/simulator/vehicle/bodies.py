"""Body shapes: the proportions of each vehicle type, the styling that all vehicles of one car model share.

Lengths are metres; profile tables give height as a share of the vehicle's height over position as a share of its
length, measured from the front bumper.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

TYPES: tuple[str, ...] = (
    "sedan",
    "suv",
    "van",
    "hatchback",
    "mpv",
    "pickup",
    "bus",
    "truck",
    "estate",
    "sportscar",
    "rv",
)
MOTORCYCLE = "motorcycle"
BOXY = frozenset({"bus", "truck", "rv"})
LARGE = frozenset({"bus", "truck", "rv", "van"})

BOX, FLATBED, TARPAULIN, CHASSIS, TANKER = range(5)
"""Bodies of trucks behind the cab; CHASSIS is a trailer for containers without one."""
BODY_SHARES = (0.34, 0.14, 0.26, 0.14, 0.12)

Profile = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Proportions:
    """One type's size and outline: wheels, belt line (top of the doors), roof line; metres and shares."""

    length: float
    width: float
    height: float
    wheel_radius: float
    clearance: float
    axles: tuple[float, float]
    belt: Profile
    roof: Profile
    hatch: float  # from this share of the length on, the rear is painted as a tail gate; 1 = notchback


PROPORTIONS: dict[str, Proportions] = {
    "sedan": Proportions(
        4.7,
        1.8,
        1.45,
        0.325,
        0.17,
        (0.19, 0.79),
        (
            (0, 0.46),
            (0.02, 0.53),
            (0.06, 0.585),
            (0.24, 0.66),
            (0.32, 0.68),
            (0.8, 0.70),
            (0.95, 0.715),
            (0.985, 0.69),
            (1, 0.62),
        ),
        ((0.27, 0.66), (0.42, 0.95), (0.55, 1), (0.68, 0.965), (0.86, 0.71)),
        1.0,
    ),
    "suv": Proportions(
        4.6,
        1.88,
        1.72,
        0.375,
        0.22,
        (0.19, 0.79),
        ((0, 0.48), (0.02, 0.57), (0.06, 0.62), (0.23, 0.665), (0.3, 0.66), (0.8, 0.68), (0.97, 0.66), (1, 0.6)),
        ((0.24, 0.65), (0.36, 0.955), (0.5, 1), (0.88, 0.97), (0.985, 0.66)),
        0.885,
    ),
    "van": Proportions(
        5.3,
        2.0,
        2.2,
        0.345,
        0.2,
        (0.17, 0.77),
        ((0, 0.32), (0.02, 0.40), (0.05, 0.44), (0.14, 0.52), (0.3, 0.54), (0.97, 0.54), (1, 0.5)),
        ((0.10, 0.5), (0.25, 0.93), (0.34, 1), (0.955, 1), (0.995, 0.54)),
        0.957,
    ),
    "hatchback": Proportions(
        4.1,
        1.75,
        1.48,
        0.315,
        0.16,
        (0.2, 0.82),
        ((0, 0.46), (0.02, 0.545), (0.06, 0.6), (0.22, 0.67), (0.3, 0.68), (0.8, 0.7), (0.97, 0.66), (1, 0.58)),
        ((0.24, 0.665), (0.39, 0.96), (0.52, 1), (0.82, 0.96), (0.968, 0.68)),
        0.825,
    ),
    "mpv": Proportions(
        4.7,
        1.85,
        1.7,
        0.335,
        0.17,
        (0.18, 0.8),
        ((0, 0.42), (0.02, 0.49), (0.06, 0.53), (0.18, 0.6), (0.3, 0.61), (0.8, 0.63), (0.97, 0.62), (1, 0.55)),
        ((0.16, 0.59), (0.34, 0.95), (0.5, 1), (0.88, 0.97), (0.985, 0.62)),
        0.885,
    ),
    "pickup": Proportions(
        5.4,
        1.92,
        1.82,
        0.395,
        0.26,
        (0.18, 0.77),
        ((0, 0.5), (0.02, 0.58), (0.06, 0.62), (0.24, 0.65), (0.3, 0.65), (0.62, 0.66), (0.97, 0.665), (1, 0.63)),
        ((0.25, 0.645), (0.35, 0.955), (0.45, 1), (0.575, 0.98), (0.615, 0.66)),
        0.955,
    ),
    "bus": Proportions(
        11.0,
        2.5,
        3.0,
        0.48,
        0.3,
        (0.2, 0.72),
        ((0, 0.38), (0.01, 0.40), (0.3, 0.42), (0.98, 0.42), (1, 0.40)),
        ((-0.01, 0.4), (0.012, 0.97), (0.05, 1), (0.96, 1), (0.998, 0.42)),
        0.985,
    ),
    "truck": Proportions(
        7.0,
        2.3,
        3.0,
        0.45,
        0.4,
        (0.16, 0.74),
        ((0, 0.42), (0.01, 0.44), (0.245, 0.45), (0.265, 0.34), (1, 0.34)),
        ((-0.01, 0.44), (0.03, 0.76), (0.08, 0.80), (0.23, 0.80), (0.243, 0.45)),
        0.99,
    ),
    "estate": Proportions(
        4.8,
        1.8,
        1.49,
        0.325,
        0.16,
        (0.19, 0.78),
        ((0, 0.45), (0.02, 0.525), (0.06, 0.575), (0.24, 0.65), (0.32, 0.67), (0.8, 0.68), (0.95, 0.64), (1, 0.58)),
        ((0.27, 0.65), (0.41, 0.955), (0.54, 1), (0.885, 0.96), (0.985, 0.65)),
        0.89,
    ),
    "sportscar": Proportions(
        4.4,
        1.87,
        1.25,
        0.345,
        0.12,
        (0.2, 0.79),
        (
            (0, 0.42),
            (0.02, 0.5),
            (0.06, 0.56),
            (0.28, 0.68),
            (0.36, 0.7),
            (0.8, 0.76),
            (0.95, 0.78),
            (0.985, 0.74),
            (1, 0.66),
        ),
        ((0.30, 0.68), (0.46, 0.97), (0.54, 1), (0.66, 0.95), (0.9, 0.77)),
        1.0,
    ),
    "rv": Proportions(
        6.5,
        2.2,
        2.9,
        0.365,
        0.25,
        (0.16, 0.72),
        ((0, 0.34), (0.02, 0.38), (0.1, 0.44), (0.3, 0.45), (0.98, 0.45), (1, 0.4)),
        ((0.02, 0.42), (0.12, 0.72), (0.16, 1), (0.97, 1), (0.995, 0.45)),
        0.98,
    ),
    MOTORCYCLE: Proportions(
        1.95,
        0.74,
        1.2,
        0.26,
        0.15,
        (0.16, 0.8),
        ((0, 0.5), (1, 0.5)),
        ((0.2, 0.6), (0.4, 0.9), (0.6, 0.9), (0.8, 0.6)),
        1.0,
    ),
}

PLAN_CAR: Profile = (
    (0, 0.70),
    (0.01, 0.80),
    (0.03, 0.88),
    (0.07, 0.94),
    (0.14, 0.975),
    (0.25, 0.99),
    (0.5, 1),
    (0.8, 0.99),
    (0.93, 0.95),
    (0.975, 0.89),
    (0.99, 0.82),
    (1, 0.74),
)
PLAN_BOX: Profile = ((0, 0.90), (0.008, 0.96), (0.03, 0.99), (0.06, 1), (0.96, 1), (0.985, 0.985), (1, 0.94))


@dataclass(frozen=True)
class CarModel:
    """A car model: size, outline and styling shared by its vehicles."""

    vehicle_type: str
    length: float
    width: float
    height: float
    proportions: Proportions
    belt: Profile
    roof: Profile
    tumblehome: float  # width of the roof as a share of the width at the belt
    shoulder: float  # how far the glass stands in from the shoulder line, share of the half width
    crease: float  # height of the body crease, share from sill to belt
    flare: float  # metres that the wheel-arch lips stand out
    cab: int  # van: windows or panels; truck: 2 has a third axle
    body: int  # truck: BOX, FLATBED, TARPAULIN, CHASSIS, TANKER
    headlamp: int
    taillamp: int
    grille: int
    door: float  # position of the door split, share of the length
    two_door: bool
    window_kink: float
    window_chrome: bool
    handle_chrome: bool
    plate_low: bool
    fog_lamps: bool
    dark_arches: bool
    cargo_height: float
    wheel_seed: int

    @property
    def high(self) -> float:
        """Height that side and end paint reaches up to, metres."""
        return self.height * 1.06

    def from_front(self, share: float) -> float:
        """Return the vehicle-frame x of a share of the length."""
        return self.length * (0.5 - share)

    def belt_at(self, share: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the belt line's height in metres."""
        return profile(self.belt, share) * self.height

    def roof_at(self, share: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the roof line's height in metres, the belt line's where there is no greenhouse."""
        first, last = self.roof[0], self.roof[-1]
        closed = ((first[0] - 0.001, 0.0), *self.roof, (last[0] + 0.001, 0.0))
        roof = profile(closed, share, smooth=0.006 if self.vehicle_type in BOXY else 0.02)
        return np.maximum(roof * self.height, self.belt_at(share))

    def half_width_at(self, share: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return half of the plan width in metres."""
        boxy = self.vehicle_type in LARGE
        return profile(PLAN_BOX if boxy else PLAN_CAR, share, smooth=0.008) * self.width / 2


def profile(points: Profile, at: NDArray[np.float64], *, smooth: float = 0.012) -> NDArray[np.float64]:
    """Interpolate a profile table with its corners rounded over `smooth` of the length."""
    table = np.array(points, np.float64)
    grid = np.linspace(0, 1, 801)
    values = np.interp(grid, table[:, 0], table[:, 1])
    width = max(3, int(smooth * 801)) | 1
    padded = np.pad(values, width // 2, mode="edge")
    return np.interp(at, grid, np.convolve(padded, np.ones(width) / width, "valid"))


def stable_seed(*parts: object) -> int:
    """Return a seed that depends on the parts' text only (not on the process)."""
    return zlib.crc32("/".join(map(str, parts)).encode())


def car_model(vehicle_type: str, model: int) -> CarModel:
    """Draw the car model with seed `model` of a type."""
    rng = np.random.default_rng([stable_seed("model", vehicle_type), model])
    base = PROPORTIONS[vehicle_type]
    bonnet, belt_shift, roof_shift = rng.normal(0, 0.015), rng.normal(0, 0.015), rng.normal(0, 0.018)
    belt = tuple((x, z + (bonnet if 0.01 < x < 0.3 else 0.0) + (belt_shift if x >= 0.2 else 0.0)) for x, z in base.belt)
    roof = tuple((x + (roof_shift if index < 2 else 0.0), z) for index, (x, z) in enumerate(base.roof))
    if vehicle_type in BOXY:
        belt, roof = base.belt, base.roof
    tumblehome = rng.uniform(0.72, 0.85)
    body = BOX
    if vehicle_type == "truck":
        body = int(np.random.default_rng([stable_seed("body"), model]).choice(5, p=BODY_SHARES))
        if body == CHASSIS:  # longer, and nothing but a frame behind the cab
            base = replace(base, length=10.8, axles=(0.1, 0.92))
            belt = (*belt[:3], (0.262, 0.24), (1, 0.24))
        elif body == TANKER:
            base = replace(base, length=8.4, axles=(0.13, 0.82))
    return CarModel(
        vehicle_type=vehicle_type,
        length=base.length * rng.normal(1, 0.04),
        width=base.width * rng.normal(1, 0.02),
        height=base.height * rng.normal(1, 0.03),
        proportions=base,
        belt=belt,
        roof=roof,
        tumblehome=0.93 if vehicle_type in LARGE else tumblehome,
        shoulder=rng.uniform(0.0, 0.045),
        crease=rng.uniform(0.4, 0.72),
        flare=rng.uniform(0.012, 0.04),
        cab=int(rng.integers(0, 3)),
        body=body,
        headlamp=int(rng.integers(0, 5)),
        taillamp=int(rng.integers(0, 5)),
        grille=int(rng.integers(0, 6)),
        door=rng.uniform(0.5, 0.56),
        two_door=bool(rng.random() < 0.25),
        window_kink=rng.uniform(-0.03, 0.05),
        window_chrome=bool(rng.random() < 0.35),
        handle_chrome=bool(rng.random() < 0.3),
        plate_low=bool(rng.random() < 0.5),
        fog_lamps=bool(rng.random() < 0.5),
        dark_arches=bool(rng.random() < (0.7 if vehicle_type in ("suv", "pickup") else 0.1)),
        cargo_height=rng.uniform(0.8, 1.0),
        wheel_seed=int(rng.integers(0, 2**31)),
    )
