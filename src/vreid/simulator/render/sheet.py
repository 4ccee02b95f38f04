"""Contact sheets of simulator output, for visual inspection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vreid.errors import InputError
from vreid.files import atomic_write
from vreid.simulator.render.camera import SCENARIOS, CameraSpec, Sensor, sample_camera
from vreid.simulator.render.scene import CameraView, Placed, Shot
from vreid.simulator.render.synthetic import shoot_synthetic
from vreid.simulator.vehicle.vehicles import COLORS, MOTORCYCLE, TYPES, Vehicle, VehicleSpec, build_vehicle

CELL, LABEL = 132, 12  # pixels
INK, PAPER = (225, 225, 120), (34, 34, 36)
PLAIN = Sensor(1.35, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), 2.2, 1.08, 1.0, 0.06, 0.003, 0.0, 0.0)
"""An ideal sensor, for the close-up."""


def contact_sheet(out: Path, *, seed: int = 0, kind: str = "domains") -> None:
    """Write a contact sheet as JPEG or PNG.

    `kind` is "domains" (synthetic, day and night crops), "lookalikes" (vehicles of one model and colour side by side)
    or "closeup" (several types at 640 pixels). Raises InputError for another kind or file name
    ending, and for a negative seed.
    """
    if seed < 0:
        raise InputError(f"seed {seed} is negative; give 0 or more.")
    if kind not in SHEETS:
        raise InputError(f"there is no sheet {kind!r}; the sheets are {', '.join(SHEETS)}.")
    if out.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        raise InputError(f"{out}: a contact sheet is an image; use the extension .jpg or .png.")
    with atomic_write(out) as part:
        sheet = SHEETS[kind](np.random.default_rng(seed))
        sheet.save(part, "PNG" if out.suffix.lower() == ".png" else "JPEG", quality=84, optimize=True)


def _random_vehicle(rng: np.random.Generator, kind: str | None = None) -> Vehicle:
    vehicle_type = kind or str(rng.choice(TYPES))
    return build_vehicle(
        VehicleSpec(vehicle_type, str(rng.choice(COLORS)), int(rng.integers(5)), int(rng.integers(2**31)))
    )


def _try_shot(
    view: CameraView, vehicle: Vehicle, others: Sequence[Vehicle], rng: np.random.Generator, size: int
) -> Shot:
    """Return a shot somewhere on the camera's lanes, with others around now and then."""
    lanes = view.camera.lanes
    for attempt in range(200):
        lane = lanes[int(rng.integers(len(lanes)))]
        s = float(rng.uniform(0.1, 0.9)) * lane.length
        around = []
        if others and rng.random() < 0.4 and attempt < 20:
            gap = float(rng.choice([-1, 1]) * rng.uniform(9, 13))
            around = [Placed(others[int(rng.integers(len(others)))], *lane.pose(s + gap))]
        shot = view.shoot(Placed(vehicle, *lane.pose(s)), around, rng, longest_side=size)
        if shot is not None:
            return shot
    raise AssertionError("a camera sees none of its own lanes")


def _paste(sheet: Image.Image, pixels: NDArray[np.uint8], column: int, row: int, label: str) -> None:
    image = Image.fromarray(pixels)
    image.thumbnail((CELL - 4, CELL - LABEL - 4), Image.Resampling.LANCZOS)
    x, y = column * CELL, row * CELL
    sheet.paste(image, (x + (CELL - image.width) // 2, y + LABEL + (CELL - LABEL - image.height) // 2))
    ImageDraw.Draw(sheet).text((x + 3, y), label, fill=INK)


def _domains(rng: np.random.Generator) -> Image.Image:
    """Two rows of synthetic crops, four of day cameras, three of night cameras."""
    columns = 9
    vehicles = [_random_vehicle(rng, kind) for kind in (*TYPES, *rng.choice(TYPES, 16))]
    sheet = Image.new("RGB", (columns * CELL, 9 * CELL), PAPER)
    for index in range(2 * columns):
        image = shoot_synthetic(vehicles[index % len(vehicles)], rng, longest_side=120).image
        _paste(sheet, image, index % columns, index // columns, "synthetic")
    days = [name for name, scenario in SCENARIOS.items() if not scenario.unseen]
    nights = [name for name, scenario in SCENARIOS.items() if scenario.unseen]
    for row, names in enumerate([days] * 4 + [nights] * 3, start=2):
        views = [
            CameraView(sample_camera(rng, names[k % len(names)])) for k in range(3 if len(names) == 1 else len(names))
        ]
        for column in range(columns):
            number = column % len(views)
            shot = _try_shot(views[number], vehicles[int(rng.integers(len(vehicles)))], vehicles, rng, 120)
            _paste(sheet, shot.image, column, row, views[number].camera.scenario)
    return sheet


def _lookalikes(rng: np.random.Generator) -> Image.Image:
    """Each row: vehicles of one model and colour, each seen by two cameras."""
    kinds, pairs = ("sedan", "suv", "hatchback", "van", "pickup", "truck", "sportscar", MOTORCYCLE), 4
    sheet = Image.new("RGB", (2 * pairs * CELL, len(kinds) * CELL), PAPER)
    names = [name for name, scenario in SCENARIOS.items() if not scenario.unseen]
    views = [CameraView(sample_camera(rng, name)) for name in names for _ in range(2)]
    for row, kind in enumerate(kinds):
        color, model = str(rng.choice(COLORS)), int(rng.integers(5))
        for pair in range(pairs):
            vehicle = build_vehicle(VehicleSpec(kind, color, model, int(rng.integers(2**31))))
            for k, view in enumerate(rng.choice(len(views), 2, replace=False)):
                shot = _try_shot(views[int(view)], vehicle, (), rng, 120)
                _paste(sheet, shot.image, 2 * pair + k, row, f"{kind} {'ABCD'[pair]}")
    return sheet


def _closeup(rng: np.random.Generator) -> Image.Image:
    """Six vehicles, 640 pixels wide, on the street of one sunny camera."""
    kinds = ("sedan", "suv", "truck", "hatchback", "bus", MOTORCYCLE)
    sheet = Image.new("RGB", (2 * 640, 3 * 440), PAPER)
    for index, kind in enumerate(kinds):
        camera = _closeup_camera(rng, "night" if index == 3 else "day_a")
        shot = _try_shot(CameraView(camera), _random_vehicle(rng, kind), (), rng, 640)
        image = Image.fromarray(shot.image)
        image.thumbnail((636, 436), Image.Resampling.LANCZOS)
        x, y = index % 2 * 640, index // 2 * 440
        sheet.paste(image, (x + (640 - image.width) // 2, y + (440 - image.height) // 2))
    return sheet


def _closeup_camera(rng: np.random.Generator, scenario: str) -> CameraSpec:
    while True:
        camera = sample_camera(rng, scenario)
        if camera.pole is None and camera.position[2] < 9:
            return replace(camera, sensor=PLAIN, looseness=0.35)


SHEETS = {"domains": _domains, "lookalikes": _lookalikes, "closeup": _closeup}
"""Contact sheets by name."""
