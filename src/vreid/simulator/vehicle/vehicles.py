"""Vehicles: a car model's shell, one vehicle's paint and marks, ready to be rendered."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vreid.simulator.vehicle.bodies import MOTORCYCLE, TYPES, CarModel, car_model
from vreid.simulator.vehicle.canvas import (
    ALLOY,
    CHROME,
    LAMP,
    MATT,
    PAINT,
    PLASTIC,
    RUBBER,
    SATIN,
    TAIL,
    Atlas,
    Colour,
    Level,
)
from vreid.simulator.vehicle.cargo import paint_cargo
from vreid.simulator.vehicle.ends import paint_front, paint_rear
from vreid.simulator.vehicle.fittings import fittings
from vreid.simulator.vehicle.marks import Marks, Wheel, draw_marks, draw_wheel
from vreid.simulator.vehicle.mesh import Mesh, concatenate
from vreid.simulator.vehicle.motorcycle import draw_ride, motorcycle_shell, paint_motorcycle, riding
from vreid.simulator.vehicle.occlusion import MARGIN, sky_visibility
from vreid.simulator.vehicle.shell import ODD_WHEEL, WHEEL, shell, swatch_patch, views_of
from vreid.simulator.vehicle.sides import Coat, outline_of, paint_side
from vreid.simulator.vehicle.tops import paint_top
from vreid.simulator.vehicle.wheels import paint_wheel

__all__ = ["COLORS", "MOTORCYCLE", "PAINTS", "TYPES", "Vehicle", "VehicleSpec", "build_vehicle"]

PAINTS: dict[str, Colour] = {  # sRGB
    "yellow": (222, 178, 22),
    "orange": (213, 96, 24),
    "green": (38, 98, 58),
    "gray": (112, 115, 119),
    "red": (162, 20, 24),
    "blue": (30, 64, 142),
    "white": (228, 228, 224),
    "golden": (172, 147, 97),
    "brown": (86, 59, 41),
    "black": (16, 16, 18),
    "purple": (77, 42, 107),
    "pink": (215, 130, 150),
}
COLORS: tuple[str, ...] = tuple(PAINTS)
STEEL_SPARE = Wheel(1, 8, 0.07, (70, 70, 72), lip=False, shiny=False, phase=0.0)


@dataclass(frozen=True)
class VehicleSpec:
    """Specification of a vehicle: type, colour, seed of the car model and seed of the individual marks."""

    vehicle_type: str
    color: str
    model: int
    details: int


@dataclass(frozen=True)
class Vehicle:
    """A vehicle ready to be rendered (picklable)."""

    spec: VehicleSpec
    size: tuple[float, float, float]  # length, width, height in metres
    mesh: Mesh
    levels: tuple[Level, ...]  # mip levels of the texture atlas
    ground_light: NDArray[np.float32]  # share of the sky's light that reaches the ground around the vehicle
    ground_reach: tuple[float, float]  # metres along and across from the middle to the border of `ground_light`


def build_vehicle(spec: VehicleSpec, *, plate: bool = True) -> Vehicle:
    """Build a vehicle, always the same for the same spec; `plate=False` leaves its licence plate blank."""
    model, body, ground_light = _shared(spec.vehicle_type, spec.model)
    marks = draw_marks(spec.vehicle_type, spec.details)
    base = _own_paint(PAINTS[spec.color], marks)
    extra: Mesh | None
    if spec.vehicle_type == MOTORCYCLE:
        ride = draw_ride(spec.details)
        extra, levels = riding(model, ride), paint_motorcycle(model, marks, ride, base, plate=plate)
    else:
        extra, levels = fittings(model, marks, outline_of(model)), _paint(model, marks, base, plate=plate)
    mesh = body if extra is None else concatenate([body, extra])
    height = float(mesh.vertices[:, 2].max())
    reach = (model.length / 2 + MARGIN, model.width / 2 + MARGIN)
    return Vehicle(spec, (model.length, model.width, height), mesh, levels, ground_light, reach)


@lru_cache(maxsize=256)
def _shared(vehicle_type: str, model_seed: int) -> tuple[CarModel, Mesh, NDArray[np.float32]]:
    """Return the shared geometry of a car model, with baked occlusion."""
    model = car_model(vehicle_type, model_seed)
    mesh = motorcycle_shell(model) if vehicle_type == MOTORCYCLE else shell(model)
    share, ground_light = sky_visibility(mesh, (model.length, model.width, model.height))
    mesh.corners[..., 5] = share[mesh.faces]
    return model, mesh, ground_light


def _own_paint(base: Colour, marks: Marks) -> Colour:
    r, g, b = (int(min(max(value * factor, 8), 240)) for value, factor in zip(base, marks.paint, strict=True))
    return r, g, b


def _paint(model: CarModel, marks: Marks, base: Colour, *, plate: bool) -> tuple[Level, ...]:
    coat, outline, views, atlas = Coat(base), outline_of(model), views_of(model), Atlas()
    atlas.put(paint_side(views.left, 1, model, marks, coat, outline))
    atlas.put(paint_side(views.right, -1, model, marks, coat, outline))
    atlas.put(paint_top(views.top, model, marks, coat, outline))
    atlas.put(paint_front(views.front, model, marks, coat, outline, plate=plate))
    atlas.put(paint_rear(views.rear, model, marks, coat, outline, plate=plate))
    large = model.vehicle_type in ("bus", "truck", "rv", "van")
    wheel = marks.wheel or draw_wheel(np.random.default_rng(model.wheel_seed), plain=large)
    atlas.put(paint_wheel(WHEEL, wheel))
    atlas.put(paint_wheel(ODD_WHEEL, STEEL_SPARE if marks.odd_wheel else wheel))
    if model.vehicle_type == "truck":
        paint_cargo(atlas, model, marks)
    black: Colour = (18, 18, 19)
    bright: Colour = (192, 192, 194)
    materials: dict[str, tuple[Colour, int]] = {
        "dark": ((7, 7, 7), RUBBER),
        "tyre": ((18, 18, 19), RUBBER),
        "paint": (coat.base, PAINT),
        "black": (black, PLASTIC),
        "chrome": (bright, CHROME),
        "mirror": ((coat.base, black, bright)[marks.mirror], (PAINT, PLASTIC, CHROME)[marks.mirror]),
        "rack": (black, PLASTIC) if marks.roof_bars != 2 else (bright, CHROME),
        "cargo": (marks.cargo_colour, MATT),
        "sign": ((244, 206, 60), LAMP),
        "box": ((20, 20, 21) if marks.roof_box == 1 else (214, 214, 212), SATIN),
        "metal": ((168, 168, 172), ALLOY),
        "lamp": ((200, 205, 210), LAMP),
        "tail": ((132, 10, 12), TAIL),
        "planks": ((74, 64, 54), MATT),
    }
    for name, (colour, finish) in materials.items():
        atlas.plain(swatch_patch(name), colour, finish)
    return atlas.levels()
