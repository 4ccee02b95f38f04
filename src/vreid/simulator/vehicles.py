"""Vehicles: a car model's shell, one vehicle's paint and marks, ready to be rendered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vreid.simulator.bodies import MOTORCYCLE, TYPES, CarModel, car_model
from vreid.simulator.mesh import ATLAS_SIZE, Mesh
from vreid.simulator.shell import shell

__all__ = ["COLORS", "MOTORCYCLE", "TYPES", "Vehicle", "VehicleSpec", "build_vehicle"]

PAINTS: dict[str, tuple[int, int, int]] = {
    "yellow": (222, 178, 22), "orange": (213, 96, 24), "green": (38, 98, 58), "gray": (112, 115, 119),
    "red": (162, 20, 24), "blue": (30, 64, 142), "white": (228, 228, 224), "golden": (172, 147, 97),
    "brown": (86, 59, 41), "black": (16, 16, 18), "purple": (77, 42, 107), "pink": (215, 130, 150),
}  # fmt: skip
COLORS: tuple[str, ...] = tuple(PAINTS)


@dataclass(frozen=True)
class VehicleSpec:
    """A vehicle in four words: its type, its colour, the seed of its car model and the seed of its own marks."""

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
    levels: tuple[NDArray[np.uint8], ...]  # atlas mip levels (H, W, 6): sRGB colour, reflectance, gloss, glow
    ground_shadow: NDArray[np.float32]  # (32, 56) sky light that reaches the ground around the vehicle
    ground_reach: tuple[float, float]  # metres from the middle to the border of `ground_shadow`


def build_vehicle(spec: VehicleSpec, *, plate: bool = True) -> Vehicle:
    """Build a vehicle, always the same for the same spec; `plate=False` leaves its licence plate blank."""
    model: CarModel = car_model(spec.vehicle_type, spec.model)
    mesh = shell(model)
    atlas = np.zeros((ATLAS_SIZE[1], ATLAS_SIZE[0], 6), np.uint8)
    atlas[..., :3] = PAINTS[spec.color]
    atlas[..., 3:] = (14, 240, 0)
    atlas[704:] = (12, 12, 13, 8, 40, 0)
    levels = [atlas]
    for _ in range(3):
        levels.append(levels[-1][::2, ::2].copy())
    reach = (model.length / 2 + 1.2, model.width / 2 + 1.2)
    size = (model.length, model.width, float(mesh.vertices[:, 2].max()))
    return Vehicle(spec, size, mesh, tuple(levels), np.ones((32, 56), np.float32), reach)
