"""Add-ons of one vehicle: rails, boxes, spoilers, load, signs, cargo bodies."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from vreid.simulator.vehicle.bodies import BOXY, CarModel
from vreid.simulator.vehicle.cargo import add_cargo
from vreid.simulator.vehicle.marks import Marks
from vreid.simulator.vehicle.mesh import Mesh, MeshBuilder
from vreid.simulator.vehicle.shell import ODD_WHEEL, inner_edge, swatch
from vreid.simulator.vehicle.sides import Outline


def fittings(model: CarModel, marks: Marks, outline: Outline) -> Mesh | None:
    """Return the mesh of a vehicle's add-ons, or None."""
    builder = MeshBuilder()
    if model.vehicle_type not in BOXY:
        _on_roof(builder, model, marks, outline)
    if model.vehicle_type == "truck":
        add_cargo(builder, model, marks)
    if model.vehicle_type == "pickup":
        _bed(builder, model, marks, outline)
    if model.vehicle_type in ("bus", "rv"):
        for share in (0.35, 0.7):
            long = 0.8 + 0.8 * marks.stripe_up
            builder.box(
                (model.from_front(share), 0, model.height + 0.09),
                (long, model.width * 0.5, 0.18),
                swatch("metal"),
                bevel=0.12,
            )
    if marks.spoiler and model.vehicle_type in ("sedan", "sportscar", "hatchback", "suv"):
        _spoiler(builder, model, marks, outline)
    if marks.antenna:
        x = model.from_front(0.72 if model.vehicle_type not in BOXY else 0.15)
        z = outline.roof_at(0.72 if model.vehicle_type not in BOXY else 0.15)
        if marks.antenna == 1:
            builder.tube([(x, 0, z - 0.02), (x - 0.12, 0, z + 0.34)], 0.014, swatch("black"), sides=4)
        else:
            builder.box((x, 0, z + 0.05), (0.2, 0.045, 0.1), swatch("paint"), bevel=0.08)
    _ends(builder, model, marks, outline)
    return builder.build() if builder.parts else None


def _on_roof(builder: MeshBuilder, model: CarModel, marks: Marks, outline: Outline) -> None:
    x_at = model.from_front
    start, end = model.roof[1][0] + 0.03, model.roof[-2][0] - 0.015
    shares = np.linspace(start, end, 7)
    heights = np.array([outline.roof_at(float(share)) for share in shares])
    across = inner_edge(model, shares) * 0.90
    xs = np.array([x_at(float(share)) for share in shares])
    if marks.roof_bars:
        texel = swatch("rack")
        for side in (1, -1):
            path = np.stack([xs, side * across, heights + 0.035], 1)
            path[0, 2] -= 0.05
            path[-1, 2] -= 0.05
            builder.tube(path, 0.021, texel, sides=6, flatten=1.2)
            for k in (1, 3, 5):
                builder.box((xs[k], side * across[k], heights[k] + 0.005), (0.09, 0.035, 0.06), texel)
    if (marks.roof_bars and marks.cross_bars) or marks.roof_box or marks.basket:
        for k in (2, 4):
            builder.tube(
                [(xs[k], -across[k], heights[k] + 0.05), (xs[k], across[k], heights[k] + 0.05)],
                0.02,
                swatch("rack"),
                sides=4,
            )
    if marks.roof_box:
        z = heights[3] + 0.21
        offset = 0.22 * (1 if marks.stripe_up > 0.5 else -1)
        builder.ellipsoid((xs[3], offset, z), (0.78, 0.36, 0.165), swatch("box"), power=0.45, rings=6)
    elif marks.basket:
        z = heights[3] + 0.13
        for level in (0.07, 0.17):
            corners = [(xs[1], -1), (xs[1], 1), (xs[5], 1), (xs[5], -1), (xs[1], -1)]
            ring = [(x, y * across[3] * 0.85, heights[3] + level) for x, y in corners]
            for a, b in pairwise(ring):
                builder.tube([a, b], 0.016, swatch("rack"), sides=4)
        if marks.cargo:
            builder.box(
                (xs[3], 0, z + 0.08), (abs(xs[5] - xs[1]) * 0.6, across[3] * 1.1, 0.26), swatch("cargo"), bevel=0.05
            )
    if marks.taxi:
        builder.box((xs[2], 0, heights[2] + 0.08), (0.2, 0.5, 0.15), swatch("sign"), bevel=0.05)
    if marks.ladder:
        length = abs(xs[-1] - xs[0]) * 0.8
        for y in (-0.3, 0.12):
            builder.box((xs[3], y, heights[3] + 0.1), (length, 0.05, 0.07), swatch("metal"))
        for share in np.linspace(-0.46, 0.46, 8):
            builder.box((xs[3] + float(share) * length, -0.09, heights[3] + 0.1), (0.04, 0.4, 0.04), swatch("metal"))


def _spoiler(builder: MeshBuilder, model: CarModel, marks: Marks, outline: Outline) -> None:
    notch = model.vehicle_type in ("sedan", "sportscar")
    share = 0.95 if notch else model.proportions.hatch + 0.012
    x, z = model.from_front(share), outline.roof_at(share)
    texel = swatch("paint" if marks.spoiler == 1 else "black")
    lift = 0.15 if notch else 0.035
    builder.box((x, 0, z + lift), (0.24, model.width * (0.74 if notch else 0.62), 0.035), texel, bevel=0.02)
    if notch:
        for side in (-1, 1):
            builder.box((x + 0.02, side * model.width * 0.27, z + lift / 2), (0.11, 0.03, lift), texel)


def _bed(builder: MeshBuilder, model: CarModel, marks: Marks, outline: Outline) -> None:
    z, width = outline.belt_at(0.8), model.width
    start, end = model.from_front(model.roof[-1][0] + 0.02), model.from_front(0.965)
    texel = swatch("black" if marks.bare_bumpers else "paint")
    for side in (1, -1):
        builder.box(((start + end) / 2, side * width * 0.445, z + 0.04), (start - end, 0.10, 0.09), texel, bevel=0.02)
    builder.box((end, 0, z + 0.03), (0.07, width * 0.86, 0.1), texel, bevel=0.02)
    if marks.cargo:
        size = 0.4 + 0.7 * marks.stripe_up
        builder.box(
            ((start + end) / 2, 0.15 * width * (marks.stripe_up - 0.5), z + 0.16),
            (size, 0.9, 0.34),
            swatch("cargo"),
            bevel=0.06,
        )
    if marks.roof_bars:
        for side in (1, -1):
            x = start - 0.15
            builder.tube(
                [(x, side * width * 0.4, z), (x + 0.25, side * width * 0.36, model.height * 0.98)],
                0.035,
                swatch("rack"),
            )
        builder.tube(
            [(start + 0.1, -width * 0.36, model.height * 0.98), (start + 0.1, width * 0.36, model.height * 0.98)],
            0.035,
            swatch("rack"),
        )


def _ends(builder: MeshBuilder, model: CarModel, marks: Marks, outline: Outline) -> None:
    front, rear, clear = model.from_front(0), model.from_front(1), model.proportions.clearance
    if marks.bull_bar:
        bar = swatch("metal")
        for z in (clear + 0.22, outline.belt_at(0.03) - 0.08):
            builder.tube(
                [(front - 0.05, -0.55, z), (front + 0.09, -0.5, z), (front + 0.09, 0.5, z), (front - 0.05, 0.55, z)],
                0.03,
                bar,
            )
        for y in (-0.35, 0.35):
            builder.tube([(front + 0.08, y, clear + 0.05), (front + 0.09, y, outline.belt_at(0.03))], 0.03, bar)
    if marks.tow_bar:
        builder.tube(
            [(rear + 0.1, 0, clear + 0.12), (rear - 0.12, 0, clear + 0.12), (rear - 0.14, 0, clear + 0.2)],
            0.028,
            swatch("metal"),
        )
    if marks.spare_wheel:
        _spare(builder, model, outline)


def _spare(builder: MeshBuilder, model: CarModel, outline: Outline) -> None:
    radius, count = model.proportions.wheel_radius * 0.95, 18
    x, z = model.from_front(1) - 0.16, outline.belt_at(0.97) - 0.18
    angle = np.arange(count) * 2 * np.pi / count
    ring = [
        np.stack([np.full(count, x + dx), radius * s * np.cos(angle), z + radius * s * np.sin(angle)], 1)
        for dx, s in ((0.18, 1.0), (0.03, 1.0), (0, 0.9))
    ]
    i = np.arange(count)
    j = (i + 1) % count
    band = [np.stack([k * count + i, k * count + j, (k + 1) * count + j], 1) for k in (0, 1)]
    band += [np.stack([k * count + i, (k + 1) * count + j, (k + 1) * count + i], 1) for k in (0, 1)]
    builder.add(np.concatenate(ring), np.concatenate(band)[:, ::-1], swatch("tyre"))
    disc = np.concatenate([ring[2], [[x, 0, z]]])
    triangles = np.stack([i, np.full(count, count), j], 1)
    at = disc[triangles]
    builder.add(disc, triangles, ODD_WHEEL.over(radius, -radius, z - radius, z + radius).texels(at[..., 1], at[..., 2]))
