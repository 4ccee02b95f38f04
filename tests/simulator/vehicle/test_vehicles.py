from __future__ import annotations

import colorsys
import pickle
from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest
from PIL import Image

from vreid.errors import InputError
from vreid.simulator.render.camera import Pinhole
from vreid.simulator.render.drawing import ImageWindow, Placed, colours_of, draw
from vreid.simulator.render.light import Environment, LightSpec
from vreid.simulator.render.sheet import contact_sheet
from vreid.simulator.render.synthetic import shoot_synthetic
from vreid.simulator.vehicle.bodies import BODY_SHARES, BOX, CHASSIS, FLATBED, TANKER, TARPAULIN, car_model
from vreid.simulator.vehicle.cargo import add_cargo, cargo_size, draw_goods
from vreid.simulator.vehicle.ends import paint_rear
from vreid.simulator.vehicle.marks import draw_marks
from vreid.simulator.vehicle.mesh import MeshBuilder
from vreid.simulator.vehicle.shell import FRONT, LEFT, REAR, axles_of, views_of
from vreid.simulator.vehicle.sides import Coat, outline_of
from vreid.simulator.vehicle.vehicles import COLORS, MOTORCYCLE, PAINTS, TYPES, VehicleSpec, build_vehicle


def side_view(spec: VehicleSpec, heading: float = 1.2) -> np.ndarray:
    """Return (H, W, 3) linear colours of a vehicle under a white sky, NaN where it is not."""
    vehicle = build_vehicle(spec)
    environment = Environment(LightSpec(0.9, 1.0, 0.5, 0.8, 1.0, 0.0), np.random.default_rng(0))
    pinhole = Pinhole((14.0, 0.0, 4.0), (0.0, 0.0, 0.7), 420.0, (200, 120))
    window = ImageWindow(0, 0, 200, 120, 1.0)
    drawn = draw(Placed(vehicle, 0.0, 0.0, heading), pinhole, window)
    pixels = np.full((240 * 400, 3), np.nan, np.float32)
    pixels[drawn.fragments.sample] = colours_of(drawn, drawn.fragments, pinhole, window, environment).T
    return pixels.reshape(240, 400, 3)


def test_types_and_colours_are_those_of_vehiclex_in_its_order():
    assert TYPES == ("sedan", "suv", "van", "hatchback", "mpv", "pickup", "bus", "truck", "estate", "sportscar", "rv")
    assert COLORS == (
        "yellow",
        "orange",
        "green",
        "gray",
        "red",
        "blue",
        "white",
        "golden",
        "brown",
        "black",
        "purple",
        "pink",
    )
    assert MOTORCYCLE not in TYPES


@pytest.mark.parametrize("kind", [*TYPES, MOTORCYCLE])
def test_every_type_is_a_closed_enough_body_of_a_plausible_size(kind):
    vehicle = build_vehicle(VehicleSpec(kind, "white", 2, 11))
    length, width, height = vehicle.size
    assert 1.7 < length < 13 and 0.5 < width < 3.2 and 1.0 < height < 4.2
    mesh = vehicle.mesh
    assert mesh.vertices[:, 2].min() > -0.05
    assert mesh.vertices[:, 2].max() == pytest.approx(height)
    corners = mesh.vertices[mesh.faces].astype(float)
    volume = np.einsum("fk,fk->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    assert volume > 0.05 * length * width * height, "faces look outwards"
    np.testing.assert_allclose(np.linalg.norm(mesh.corners[..., 2:5], axis=-1), 1, atol=1e-3)
    assert mesh.corners[..., 5].min() >= 0.05 and mesh.corners[..., 5].max() <= 1
    assert vehicle.ground_light.min() < 0.35 and vehicle.ground_light.max() > 0.75
    copy = pickle.loads(pickle.dumps(vehicle))
    np.testing.assert_array_equal(copy.levels[0].colour, vehicle.levels[0].colour)


@pytest.mark.parametrize("color", COLORS)
def test_the_painted_body_has_the_colour_of_its_name(color):
    spec = VehicleSpec("sedan", color, 1, 21)
    atlas = build_vehicle(spec).levels[0].colour[LEFT.top : LEFT.top + LEFT.height, LEFT.left : LEFT.left + LEFT.width]
    paint = np.median(atlas.reshape(-1, 3), axis=0)
    nearest = min(PAINTS, key=lambda name: float(np.abs(np.array(PAINTS[name]) - paint).sum()))
    assert nearest == color
    seen = side_view(spec)
    middle = np.nanmedian(seen.reshape(-1, 3), axis=0)
    hue, _, _ = colorsys.rgb_to_hsv(*(float(value) for value in np.clip(middle, 0, 1) ** (1 / 2.2)))
    want, saturation, _ = colorsys.rgb_to_hsv(*(value / 255 for value in PAINTS[color]))
    if saturation > 0.5 and color != "black":
        assert abs((hue - want + 0.5) % 1 - 0.5) < 0.09


def truck_models() -> dict[int, int]:
    """Return the first car model of trucks with each body."""
    found: dict[int, int] = {}
    for model in range(60):
        found.setdefault(car_model("truck", model).body, model)
    return found


def test_trucks_have_five_bodies_in_their_shares():
    count = Counter(car_model("truck", model).body for model in range(400))
    assert set(count) == {BOX, FLATBED, TARPAULIN, CHASSIS, TANKER}
    for body, share in enumerate(BODY_SHARES):
        assert abs(count[body] / 400 - share) < 0.07
    assert {car_model("van", model).body for model in range(20)} == {BOX}


@pytest.mark.parametrize("body", [BOX, FLATBED, TARPAULIN, CHASSIS, TANKER])
def test_a_trucks_body_looks_outwards_and_stands_where_the_cab_ends(body):
    model = car_model("truck", truck_models()[body])
    builder = MeshBuilder()
    add_cargo(builder, model, draw_marks("truck", 3))
    mesh = builder.build()
    corners = mesh.vertices[mesh.faces].astype(float)
    volume = np.einsum("fk,fk->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    length, height = cargo_size(model)
    filled = volume / (length * height * model.width)
    ranges = {BOX: (1.0, 1.2), TARPAULIN: (0.9, 1.1), TANKER: (0.6, 0.9), FLATBED: (0.1, 0.3), CHASSIS: (0.02, 0.1)}
    assert ranges[body][0] < filled < ranges[body][1]
    np.testing.assert_allclose(np.linalg.norm(mesh.corners[..., 2:5], axis=-1), 1, atol=1e-3)
    first, last = mesh.vertices[:, 0].max(), mesh.vertices[:, 0].min()
    assert first <= model.from_front(0.26) and last >= model.from_front(1) - 0.1
    assert len(axles_of(model)) >= (5 if body == CHASSIS else 2)


def test_the_rear_of_a_truck_is_its_own():
    model = truck_models()[TARPAULIN]
    seen = {
        build_vehicle(VehicleSpec("truck", "white", model, details)).levels[1].colour[128:256, 448:512].tobytes()
        for details in range(6)
    }
    assert len(seen) == 6
    assert len({draw_goods(draw_marks("truck", details)).tarpaulin for details in range(40)}) > 25


def test_the_same_spec_gives_the_same_vehicle():
    spec = VehicleSpec("suv", "red", 3, 99)
    one, two = build_vehicle(spec), build_vehicle(spec)
    np.testing.assert_array_equal(one.mesh.vertices, two.mesh.vertices)
    for a, b in zip(one.levels, two.levels, strict=True):
        np.testing.assert_array_equal(a.colour, b.colour)
        np.testing.assert_array_equal(a.finish, b.finish)


def test_without_a_plate_only_its_characters_are_missing():
    spec = VehicleSpec("hatchback", "blue", 0, 8)
    with_it, without = build_vehicle(spec), build_vehicle(spec, plate=False)
    np.testing.assert_array_equal(with_it.mesh.vertices, without.mesh.vertices)
    changed = (with_it.levels[0].colour != without.levels[0].colour).any(-1)
    elsewhere = changed.copy()
    for patch in (FRONT, REAR):
        area = (slice(patch.top, patch.top + patch.height), slice(patch.left, patch.left + patch.width))
        assert 0 < changed[area].mean() < 0.02
        elsewhere[area] = False
    assert not elsewhere.any()


def test_look_alikes_share_their_shape_and_differ_in_small_marks_from_every_side():
    specs = [VehicleSpec("sedan", "white", 4, details) for details in range(6)]
    for heading in (0.5, 1.5, 2.6, 4.5):
        views = [side_view(spec, heading) for spec in specs]
        for i in range(len(views)):
            for j in range(i):
                both = ~np.isnan(views[i][..., 0]) & ~np.isnan(views[j][..., 0])
                either = ~np.isnan(views[i][..., 0]) | ~np.isnan(views[j][..., 0])
                assert both.sum() > 0.8 * either.sum(), "one car model, one silhouette (up to roof loads)"
                difference = np.abs(views[i][both] ** (1 / 2.2) - views[j][both] ** (1 / 2.2)).max(-1)
                assert (difference > 0.12).mean() > 0.004, "some mark can be seen"
                assert np.median(difference) < 0.2, "but most of it is alike"


def test_any_two_vehicles_differ_in_several_marks():
    marks = [draw_marks("suv", seed) for seed in range(40)]
    names = [field.name for field in fields(marks[0]) if field.name not in ("paint", "dirt", "tint", "dirt_seed")]
    assert len(names) >= 35
    differing = [
        sum(getattr(a, name) != getattr(b, name) for name in names) for k, a in enumerate(marks) for b in marks[:k]
    ]
    assert min(differing) >= 5


def test_dark_cars_differ_from_behind_in_trim_alone():
    model, marks = car_model("sedan", 1), draw_marks("sedan", 5)
    rears = [
        np.asarray(
            paint_rear(
                views_of(model).rear,
                model,
                replace(marks, dirt_seed=seed),
                Coat((16, 16, 18)),
                outline_of(model),
                plate=True,
            ).colour
        ).astype(int)
        for seed in range(12)
    ]
    differing = [(np.abs(a - b).max(-1) > 60).mean() for k, a in enumerate(rears) for b in rears[:k]]
    assert np.mean(np.array(differing) > 0.002) > 0.7 and max(differing) < 0.06


def test_car_models_differ_in_shape():
    lengths = {round(build_vehicle(VehicleSpec("mpv", "gray", model, 0)).size[0], 3) for model in range(4)}
    assert len(lengths) == 4


def test_synthetic_crops_are_tight_saturated_and_carry_their_attributes():
    vehicle = build_vehicle(VehicleSpec("pickup", "orange", 0, 5))
    shots = [shoot_synthetic(vehicle, np.random.default_rng(seed), longest_side=96) for seed in range(12)]
    for shot in shots:
        assert 94 <= max(shot.image.shape) <= 97
        assert 0 <= shot.orientation < 360
        assert 0.3 <= shot.light_intensity <= 3 and 45 <= shot.light_direction <= 135
        x0, y0, x1, y1 = shot.crop_box
        height, width, _ = shot.image.shape
        assert all(2 < margin < 5 for margin in (x0, y0, width - x1, height - y1)), "8 pixels at 256"
    assert np.std([shot.orientation for shot in shots]) > 60
    bare = shoot_synthetic(vehicle, np.random.default_rng(0), longest_side=96, background=False)
    assert (bare.image[:3, :3] == bare.image[0, 0]).all()
    x0, y0, x1, y1 = (int(value) for value in bare.crop_box)
    middle = (slice((y0 + y1) // 2 - 3, (y0 + y1) // 2 + 3), slice((x0 + x1) // 2 - 3, (x0 + x1) // 2 + 3))
    np.testing.assert_array_equal(bare.image[middle], shots[0].image[middle])


def test_contact_sheets_are_small_images_and_reject_what_they_cannot_write(tmp_path):
    contact_sheet(tmp_path / "pairs.jpg", seed=3, kind="lookalikes")
    assert (tmp_path / "pairs.jpg").stat().st_size < 300_000
    pixels = np.asarray(Image.open(tmp_path / "pairs.jpg"))
    assert pixels.shape[2] == 3 and pixels.std() > 10
    with pytest.raises(InputError, match="domains, lookalikes, closeup"):
        contact_sheet(tmp_path / "x.jpg", kind="postcard")
    with pytest.raises(InputError, match=r"\.jpg or \.png"):
        contact_sheet(tmp_path / "x.gif")
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.jpg"]
