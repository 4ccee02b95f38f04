"""Shared geometry of a car model: lofted body, underbody, wheels, mirrors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vreid.simulator.vehicle.bodies import BOXY, CHASSIS, LARGE, TANKER, CarModel
from vreid.simulator.vehicle.mesh import Mesh, MeshBuilder, Patch, grid_faces

LEFT, RIGHT, TOP = Patch(0, 0, 640, 224), Patch(0, 224, 640, 224), Patch(0, 448, 640, 256)
FRONT, REAR = Patch(640, 0, 256, 256), Patch(640, 256, 256, 256)
WHEEL, ODD_WHEEL = Patch(896, 0, 128, 128), Patch(896, 128, 128, 128)
CARGO, CARGO_REAR, CARGO_TOP = Patch(640, 512, 384, 192), Patch(896, 256, 128, 256), Patch(0, 720, 640, 112)
SWATCHES = (
    "dark",
    "tyre",
    "paint",
    "black",
    "chrome",
    "mirror",
    "rack",
    "cargo",
    "sign",
    "box",
    "metal",
    "lamp",
    "tail",
    "seat",
    "trim",
    "planks",
    "indicator",
    "exhaust",
    "case",
    "flap",
    "beams",
    "skin",
    "hair",
    "jacket",
    "forearm",
    "trousers",
    "shin",
    "shoe",
    "visor",
    "bag",
    "face",
    "skin 2",
    "hair 2",
    "jacket 2",
    "forearm 2",
    "trousers 2",
    "shin 2",
    "shoe 2",
    "visor 2",
    "bag 2",
    "face 2",
)
"""Plain colours; those of a motorcycle's passenger end in 2."""


def swatch_patch(name: str) -> Patch:
    """Return the 16 x 16 texels of a plain colour."""
    index = SWATCHES.index(name)
    return Patch(index * 16, 704, 16, 16)


def swatch(name: str) -> tuple[float, float]:
    """Return the texel in the middle of a plain colour."""
    patch = swatch_patch(name)
    return patch.left + 8.0, patch.top + 8.0


@dataclass(frozen=True)
class Views:
    """The five painted sides of a body with the metres they stand for (x and y as in the vehicle frame)."""

    left: Patch
    right: Patch
    top: Patch
    front: Patch
    rear: Patch


def views_of(model: CarModel) -> Views:
    """Return where each side of a car model is painted."""
    nose, side = model.length / 2, model.width * 0.51
    return Views(
        LEFT.over(nose, -nose, 0, model.high),
        RIGHT.over(-nose, nose, 0, model.high),
        TOP.over(nose, -nose, -side, side),
        FRONT.over(-side, side, 0, model.high),
        REAR.over(side, -side, 0, model.high),
    )


def end_limits(model: CarModel) -> tuple[float, float]:
    """Return the shares of the length at which front paint ends and rear paint starts."""
    return (0.012, 0.985) if model.vehicle_type in LARGE else (0.022, 0.982)


def stations(model: CarModel) -> NDArray[np.float64]:
    """Return the loft's cross-sections as shares of the length."""
    base, radius = model.proportions, model.proportions.wheel_radius / model.length
    around = [np.linspace(axle - 1.2 * radius, axle + 1.2 * radius, 11) for axle in base.axles]
    bends = [point for point, _ in (*model.belt, *model.roof)]
    fine = [0, 0.004, 0.012, 0.022, 0.035, 0.06, 0.965, 0.982, 0.985, 0.992, 0.997, 1, base.hatch]
    ramp = np.linspace(model.roof[0][0], model.roof[1][0], 5), np.linspace(model.roof[-2][0], model.roof[-1][0], 5)
    shares = np.concatenate([np.linspace(0, 1, 23), *around, *ramp, bends, fine])
    shares = np.unique(np.round(shares[(shares >= 0) & (shares <= 1)], 4))
    keep = np.concatenate([[True], np.diff(shares) > 0.0025])
    keep |= np.isin(shares, np.round([0, 1, base.hatch, *end_limits(model)], 4))
    kept: NDArray[np.float64] = shares[keep]
    return kept


def inner_edge(model: CarModel, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return half the width of the surface seen from above (bonnet, screen, roof), metres."""
    edge: NDArray[np.float64] = model.half_width_at(shares) * _mix(0.90, model.tumblehome, _greenhouse(model, shares))
    return edge


def _greenhouse(model: CarModel, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    rise = (model.roof_at(shares) - model.belt_at(shares)) / 0.35
    return np.clip(rise, 0, 1)


def _mix(a: float, b: float, share: NDArray[np.float64]) -> NDArray[np.float64]:
    return a * (1 - share) + b * share


def _sections(model: CarModel, shares: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """Return (S, K, 3) points of the left half of each cross-section, bottom to top, and the first row of the top."""
    base = model.proportions
    belt, roof, half = model.belt_at(shares), model.roof_at(shares), model.half_width_at(shares)
    green = _greenhouse(model, shares)
    boxy = model.vehicle_type in BOXY
    sill = base.clearance + 0.10 * np.clip(1 - shares / 0.06, 0, 1) + 0.12 * np.clip((shares - 0.94) / 0.06, 0, 1)
    arch, lip = np.zeros_like(shares), np.zeros_like(shares)
    for axle in base.axles:
        distance, radius = np.abs(shares - axle) * model.length, base.wheel_radius * 1.19
        inside = distance < radius
        rise = base.wheel_radius + np.sqrt(np.maximum(radius**2 - distance**2, 0)) * 0.95
        arch = np.maximum(arch, np.where(inside, rise, 0.0))
        lip = np.maximum(lip, np.exp(-np.maximum(distance - radius, 0.0) / 0.06))
    low = np.minimum(np.maximum(sill, arch), belt - 0.05)
    rows = []
    crease = model.crease
    for t, out in (
        (0.0, 0.0),
        (0.08, 0.004),
        (0.3, 0.0),
        (crease - 0.05, -0.004),
        (crease, 0.014),
        (0.84, 0.002),
        (0.94, 0.012),
    ):
        bulge = out * (0.4 if boxy else 1.0)
        y = half * (1 - 0.055 * (1 - t) ** 3 - 0.02 * max(t - 0.8, 0) * 5) + bulge * np.minimum(
            1, half / half.max() - 0.6
        )
        y = y + model.flare * lip * (1 - t) ** 1.5
        rows.append(np.stack([y, low + (belt - low) * t * 0.985], 1))
    rows.append(np.stack([half * _mix(0.955, 0.955 - model.shoulder, green), belt], 1))
    for t in (0.06, 0.35, 0.7, 0.93):
        top = model.tumblehome
        inner = half * _mix(0.95 - 0.05 * t, (0.935 - model.shoulder) * (1 - t) + top * t, green)
        rows.append(np.stack([inner + 0.012 * green * np.sin(np.pi * t), belt + (roof - belt) * t * 0.97], 1))
    first_top = len(rows)
    crown = 0.012 if boxy else 0.03
    edge = inner_edge(model, shares)
    for across, drop in ((0.94, -0.026), (0.8, -0.012), (0.5, -0.004), (0.2, 0.0), (0.0, 0.0)):
        rows.append(np.stack([edge * across, roof + drop * green + crown * (1 - across**2) * (1 - 0.5 * green)], 1))
    points = np.empty((len(shares), len(rows), 3))
    points[:, :, 0] = model.from_front(0) - shares[:, None] * model.length
    for k, row in enumerate(rows):
        points[:, k, 1:] = row
    return points, first_top


def _body(builder: MeshBuilder, model: CarModel) -> None:
    shares = stations(model)
    half, first_top = _sections(model, shares)
    mirrored = half[:, -2::-1] * (1, -1, 1)
    ring = np.concatenate([half, mirrored], axis=1)
    count, rows = ring.shape[1], half.shape[1]
    points = ring.reshape(-1, 3)
    faces = grid_faces(len(shares), count)
    station, row = faces[:, 0] // count, faces[:, 0] % count
    a, b, c = (points[faces[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    faces, station, row = faces[area > 1e-7], station[area > 1e-7], row[area > 1e-7]

    middle = (shares[station] + shares[station + 1]) / 2
    front_end, rear_start = end_limits(model)
    top = (row >= first_top - 1) & (row < 2 * rows - 1 - first_top)
    views = views_of(model)
    part = np.where(top, 2, np.where(row < rows - 1, 0, 1))
    part = np.where(middle < front_end, 3, np.where(middle > rear_start, 4, part))
    part = np.where(top & (middle > model.proportions.hatch), 4, part)
    at = points[faces]
    texels = np.empty((len(faces), 3, 2), np.float32)
    for index, patch in enumerate((views.left, views.right, views.top, views.front, views.rear)):
        chosen = part == index
        across = at[chosen][..., 1] if index >= 3 else at[chosen][..., 0]
        texels[chosen] = patch.texels(across, at[chosen][..., 1 if index == 2 else 2])
    builder.add(points, faces, texels)
    for end, patch in ((0, views.front), (-1, views.rear)):
        outline = ring[end]
        fan = np.concatenate([outline, outline.mean(axis=0, keepdims=True)])
        j = np.arange(len(outline))
        triangles = np.stack([j, (j + 1) % len(outline), np.full(len(outline), len(outline))], 1)
        triangles = triangles if end == 0 else triangles[:, [1, 0, 2]]
        builder.add(fan, triangles, patch.texels(fan[triangles][..., 1], fan[triangles][..., 2]))


def add_wheel(builder: MeshBuilder, x: float, y: float, radius: float, width: float, side: int, patch: Patch) -> None:
    """Add a wheel whose outer face lies at `y` and shows the texels of `patch`; side is +1 left, -1 right."""
    count = 20
    angle = np.arange(count) * 2 * np.pi / count
    i = np.arange(count)
    j = (i + 1) % count

    def ring(at: float, share: float) -> NDArray[np.float64]:
        return np.stack(
            [x + radius * share * np.cos(angle), np.full(count, at), radius + radius * share * np.sin(angle)], 1
        )

    rings = [
        ring(y - side * width, 0.9),
        ring(y - side * width * 0.85, 1.0),
        ring(y - side * width * 0.15, 1.0),
        ring(y, 0.93),
    ]
    faces = grid_faces(4, count, wrap=True)
    builder.add(np.concatenate(rings), faces if side < 0 else faces[:, ::-1], swatch("tyre"))
    disc = np.concatenate([ring(y, 0.93), ring(y - side * 0.035, 0.62), [[x, y - side * 0.02, radius]]])
    band = grid_faces(2, count, wrap=True)
    cap = np.stack([count + i, count + j, np.full(count, 2 * count)], 1)
    triangles = np.concatenate([band, cap])
    triangles = triangles if side < 0 else triangles[:, ::-1]
    at = disc[triangles]
    face = patch.over(-radius, radius, 0, 2 * radius)
    builder.add(disc, triangles, face.texels((at[..., 0] - x) * -side, at[..., 2]))


def axles_of(model: CarModel) -> list[float]:
    """Return the vehicle-frame x of every axle."""
    front, rear = model.proportions.axles
    extra: list[float] = []
    if model.vehicle_type == "truck":
        step = 2.35 * model.proportions.wheel_radius / model.length
        count = {CHASSIS: 2, TANKER: 1}.get(model.body, int(model.cab == 2))
        extra = [rear - step * (k + 1) for k in range(count)] + ([0.29] if model.body == CHASSIS else [])
    return [model.from_front(share) for share in (front, rear, *extra)]


def shell(model: CarModel) -> Mesh:
    """Return body, underbody, wheels and mirrors of a car model."""
    builder = MeshBuilder()
    base = model.proportions
    _body(builder, model)
    builder.box((0, 0, base.clearance + 0.16), (model.length * 0.92, model.width * 0.84, 0.24), swatch("dark"))
    radius, half = base.wheel_radius, model.width / 2
    for index, x in enumerate(axles_of(model)):
        builder.box((x, 0, radius * 1.2), (radius * 2.44, model.width * 0.88, radius * 1.86), swatch("dark"))
        for side in (1, -1):
            patch = ODD_WHEEL if (index, side) == (1, 1) else WHEEL
            add_wheel(builder, x, side * (half - 0.02), radius, 0.22, side, patch)
    _mirrors(builder, model)
    return builder.build()


def _mirrors(builder: MeshBuilder, model: CarModel) -> None:
    boxy = model.vehicle_type in BOXY
    share = 0.02 if boxy else model.roof[0][0] + 0.075
    x, half = model.from_front(share), float(model.half_width_at(np.array([share]))[0])
    z = float(model.belt_at(np.array([share]))[0]) + (0.55 if boxy else 0.09)
    size = (0.09, 0.10, 0.24) if boxy else (0.075, 0.115, 0.085)
    for side in (1, -1):
        y = side * (half * 0.97 + size[1])
        builder.tube(
            [(x, side * half * 0.86, z - size[2] * 0.7), (x, y, z - size[2] * 0.2)], 0.022, swatch("black"), sides=4
        )
        builder.ellipsoid((x, y, z), size, swatch("mirror"), power=0.6, rings=4)
