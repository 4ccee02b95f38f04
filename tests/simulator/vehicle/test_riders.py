"""Riders of motorcycles: what tells two of one machine apart, and what clothes on a street look like."""

from __future__ import annotations

import colorsys
from dataclasses import fields, replace

import numpy as np
import pytest

from vreid.simulator.render.camera import Pinhole
from vreid.simulator.render.drawing import ImageWindow, Placed, draw
from vreid.simulator.vehicle.bodies import car_model
from vreid.simulator.vehicle.marks import draw_marks
from vreid.simulator.vehicle.mesh import MeshBuilder
from vreid.simulator.vehicle.motorcycle import PLATE_PATCH, Ride, draw_ride, motorcycle_shell, paint_motorcycle, riding
from vreid.simulator.vehicle.riders import BACK, BACKPACK, CHEST, NO_BAG, PASSENGER_BELOW, WORDS, add_rider, draw_outfit
from vreid.simulator.vehicle.shell import SWATCHES, swatch_patch
from vreid.simulator.vehicle.vehicles import MOTORCYCLE, VehicleSpec, build_vehicle

OUTFITS = [draw_outfit(np.random.default_rng(seed)) for seed in range(400)]


def painted(ride: Ride, *, plate: bool = True) -> np.ndarray:
    """Return the (H, W, 3) atlas of a white machine with this ride."""
    return paint_motorcycle(car_model(MOTORCYCLE, 1), draw_marks(MOTORCYCLE, 5), ride, (228, 228, 224), plate=plate)[
        0
    ].colour.astype(int)


def area(patch) -> tuple[slice, slice]:
    return slice(patch.top, patch.top + patch.height), slice(patch.left, patch.left + patch.width)


def test_most_clothes_are_dull_and_helmets_black_white_or_grey() -> None:
    vivid = [colorsys.rgb_to_hsv(*(v / 255 for v in o.jacket)) for o in OUTFITS]
    assert np.mean([s > 0.55 and v > 0.35 for _, s, v in vivid]) < 0.12
    assert 0.35 < np.mean([v < 0.3 for _, _, v in vivid]) < 0.65
    assert 0.55 < np.mean([max(o.helmet) - min(o.helmet) < 30 for o in OUTFITS]) < 0.85
    for name in ("pattern", "legs", "helmet_kind", "helmet_pattern", "bag"):
        assert len({getattr(outfit, name) for outfit in OUTFITS}) >= 3


def test_two_riders_of_one_machine_differ_in_many_things() -> None:
    rides = [draw_ride(seed) for seed in range(30)]
    rider = [[getattr(r.driver, f.name) for f in fields(r.driver) if f.name not in ("folds", "words")] for r in rides]
    machine = [[getattr(r, f.name) for f in fields(r) if f.name not in ("driver", "passenger")] for r in rides]
    for some, least in ((rider, 6), (machine, 3)):
        assert (
            min(sum(a != b for a, b in zip(one, two, strict=True)) for k, one in enumerate(some) for two in some[:k])
            >= least
        )
    assert draw_ride(7) == draw_ride(7)


def test_print_and_backpack_are_on_the_back_and_a_passenger_has_an_own_jacket() -> None:
    ride = draw_ride(3)
    driver = replace(
        ride.driver, pattern=WORDS, words="OTTO", pattern_colour=(240, 30, 30), jacket=(30, 30, 200), bag=NO_BAG
    )
    plain = painted(replace(ride, driver=driver, passenger=driver))
    red = (plain[..., 0] > 200) & (plain[..., 2] < 90)
    assert red[area(BACK)].mean() > 0.02 and not red[area(CHEST)].any()
    assert red[area(replace(BACK, top=BACK.top + PASSENGER_BELOW))].mean() > 0.02
    other = painted(replace(ride, driver=driver, passenger=replace(driver, words="ANNA", jacket=(200, 200, 30))))
    assert (plain[area(BACK)] == other[area(BACK)]).all()
    assert other[area(swatch_patch("jacket 2"))].mean() != other[area(swatch_patch("jacket"))].mean()
    builder = MeshBuilder()
    add_rider(builder, driver, 0.0, (0.4, 0.3, 1.0), driver=True, last=True)
    torso = builder.parts[0]
    u, v, y = torso.corners[..., 0], torso.corners[..., 1], torso.vertices[torso.faces][..., 1]
    back = (u < BACK.left + BACK.width) & (v < BACK.top + BACK.height)
    assert np.corrcoef(u[back], y[back])[0, 1] < -0.99, "seen from behind, words begin at the wearer's left (+y)"
    assert torso.vertices[torso.faces][back, 0].mean() < torso.vertices[torso.faces][~back, 0].mean()

    def depth(bag: int, *, last: bool) -> float:
        builder = MeshBuilder()
        add_rider(builder, replace(driver, bag=bag, long_hair=False), 0.0, (0.4, 0.3, 1.0), driver=True, last=last)
        vertices = builder.build().vertices
        return float(-vertices[(vertices[:, 2] > 1.0) & (vertices[:, 2] < 1.4), 0].min())

    assert depth(BACKPACK, last=True) > depth(NO_BAG, last=True) + 0.1
    assert depth(BACKPACK, last=False) == depth(NO_BAG, last=False), "no room before a passenger"


def test_the_plate_is_seen_from_behind_and_only_its_characters_go_with_it() -> None:
    ride = draw_ride(4)
    changed = (painted(ride) != painted(ride, plate=False)).any(-1)
    assert 0.05 < changed[area(PLATE_PATCH)].mean() < 0.6
    changed[area(PLATE_PATCH)] = False
    assert not changed.any()
    vehicle = build_vehicle(VehicleSpec(MOTORCYCLE, "white", 1, 4))
    window = ImageWindow(0, 0, 160, 160, 1.0)
    u, v = vehicle.mesh.corners[..., 0].mean(1), vehicle.mesh.corners[..., 1].mean(1)
    plate = (abs(u - PLATE_PATCH.left - 128) < 128) & (abs(v - PLATE_PATCH.top - 128) < 128)
    for heading, seen in ((np.pi, True), (0.0, False)):
        pinhole = Pinhole((9.0, 0.0, 3.0), (0.0, 0.0, 0.8), 500.0, (160, 160))
        faces = draw(Placed(vehicle, 0.0, 0.0, heading), pinhole, window).fragments.face
        assert plate[faces].any() == seen


@pytest.mark.parametrize("seed", range(12))
def test_everything_that_rides_along_is_closed_above_the_ground_and_painted(seed: int) -> None:
    model, ride = car_model(MOTORCYCLE, seed % 4), draw_ride(seed)
    for mesh in (motorcycle_shell(model), riding(model, ride)):
        assert np.isfinite(mesh.vertices).all() and mesh.vertices[:, 2].min() > -0.01
        assert 1.0 < mesh.vertices[:, 2].max() < 2.1 and np.abs(mesh.vertices[:, 1]).max() < 0.65
        u, v = mesh.corners[..., 0], mesh.corners[..., 1]
        used = {
            name for name in SWATCHES if ((u == swatch_patch(name).left + 8) & (v == swatch_patch(name).top + 8)).any()
        }
        atlas = painted(ride)
        for name in used:
            centre = atlas[swatch_patch(name).top + 8, swatch_patch(name).left + 8]
            assert (centre != (12, 12, 13)).any(), f"{name} is painted"
