"""Sample vehicle identities: types, colours, car models, and look-alikes that differ only in small marks."""

from __future__ import annotations

from collections import Counter

import numpy as np

from vreid.data.seeds import generator
from vreid.simulator.city.presets import Preset
from vreid.simulator.vehicle.vehicles import COLORS, MOTORCYCLE, TYPES, VehicleSpec

TYPE_SHARES = {
    "sedan": 0.24,
    "suv": 0.20,
    "hatchback": 0.11,
    "van": 0.09,
    "mpv": 0.06,
    "pickup": 0.09,
    "truck": 0.07,
    "estate": 0.05,
    "bus": 0.04,
    "sportscar": 0.03,
    "rv": 0.02,
}
"""Probability of each vehicle type, motorcycles excluded."""

COLOR_SHARES = {
    "white": 0.22,
    "gray": 0.17,
    "black": 0.16,
    "red": 0.11,
    "blue": 0.11,
    "green": 0.05,
    "golden": 0.045,
    "brown": 0.045,
    "yellow": 0.035,
    "orange": 0.025,
    "purple": 0.015,
    "pink": 0.015,
}
"""Probability of each colour, for all types but buses."""

BUS_COLORS = ("white", "blue", "yellow", "red")
"""Bus liveries, equally likely."""

_TRIES = 200


def draw_vehicles(
    seed: int,
    preset: Preset,
    group: str,
    count: int,
    *,
    part: str = "",
    model_shift: int = 0,
    types: tuple[str, ...] = TYPES,
    colors: tuple[str, ...] = COLORS,
) -> tuple[VehicleSpec, ...]:
    """Draw `count` vehicles of the group of identities `group` ("train", "test", "synthetic", "bystander").

    Types and colours are drawn from `types` and `colors` in the proportions of `TYPE_SHARES` and `COLOR_SHARES`.

    With probability `preset.look_alike_share` a vehicle copies type, colour and model of an earlier one of its group
    (at most `preset.look_alike_group` vehicles look alike); its marks, plate and dirt are always individual. Vehicle i
    depends only on those before it, so a longer draw starts with the shorter one.

    The parts of a group (`part`) have the same types, colours and look-alike groups but different vehicles: details
    are redrawn and car models are shifted by `model_shift`, which makes the parts equally hard.
    """
    kinds: list[tuple[str, str, int]] = []
    alike: Counter[tuple[str, str, int]] = Counter()
    for index in range(count):
        rng = generator(seed, "identity", group, index)
        for _ in range(_TRIES):
            copied = bool(kinds) and rng.random() < preset.look_alike_share
            kind = kinds[int(rng.integers(len(kinds)))] if copied else _draw_kind(rng, preset, types, colors)
            if alike[kind] < preset.look_alike_group:
                break
        alike[kind] += 1
        kinds.append(kind)
    return tuple(
        VehicleSpec(
            vehicle_type=vehicle_type,
            color=color,
            model=(model + model_shift) % preset.models,
            details=int(generator(seed, "details", group, part, index).integers(2**31)),
        )
        for index, (vehicle_type, color, model) in enumerate(kinds)
    )


def _draw_kind(
    rng: np.random.Generator, preset: Preset, types: tuple[str, ...], colors: tuple[str, ...]
) -> tuple[str, str, int]:
    if rng.random() < preset.motorcycle_share:
        vehicle_type = MOTORCYCLE
    else:
        vehicle_type = str(rng.choice(types, p=_shares(TYPE_SHARES, types)))
    if vehicle_type == "bus":
        color = str(rng.choice(BUS_COLORS))
    else:
        color = str(rng.choice(colors, p=_shares(COLOR_SHARES, colors)))
    return vehicle_type, color, int(rng.integers(preset.models))


def _shares(table: dict[str, float], names: tuple[str, ...]) -> list[float]:
    total = sum(share for name, share in table.items() if name in names)
    return [table[name] / total for name in names]
