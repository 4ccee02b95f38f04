from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from vreid.simulator.render.camera import SCENARIOS, CameraSpec, Sensor, sample_camera
from vreid.simulator.render.drawing import FINE, ImageWindow, draw
from vreid.simulator.render.scene import CameraView, Cut, Placed, Shot
from vreid.simulator.vehicle.vehicles import TYPES, Vehicle, VehicleSpec, build_vehicle

NEUTRAL = Sensor(1.0, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), 2.2, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0)


@lru_cache(maxsize=64)
def vehicle(kind: str = "sedan", color: str = "red", model: int = 0, details: int = 3) -> Vehicle:
    return build_vehicle(VehicleSpec(kind, color, model, details))


def street(scenario: str = "day_a", seed: int = 4, **changes: object) -> CameraSpec:
    camera = replace(sample_camera(np.random.default_rng(seed), scenario), pole=None)
    return replace(camera, **changes)  # type: ignore[arg-type]


def halfway(camera: CameraSpec, what: Vehicle, shift: float = 0.0) -> Placed:
    return Placed(what, *camera.lanes[0].pose(camera.lanes[0].length / 2 + shift))


def shoot(camera: CameraSpec, target: Placed, others: tuple[Placed, ...] = (), **options: object) -> Shot:
    shot = CameraView(camera).shoot(target, others, np.random.default_rng(7), longest_side=128, **options)  # type: ignore[arg-type]
    assert shot is not None
    return shot


@pytest.mark.parametrize(
    ("heading", "orientation"),
    [(0.0, 0.0), (math.pi / 2, 90.0), (math.pi, 180.0), (-math.pi / 2, 270.0)],
    ids=["faces the camera", "turned to its left", "drives away", "turned to its right"],
)
def test_orientation_is_counted_from_the_camera_counter_clockwise(heading, orientation):
    placed = Placed(vehicle(), 2.0, 0.0, heading)
    assert placed.orientation((12.0, 0.0, 5.0)) == pytest.approx(orientation)
    # The same image from another corner of the world.
    turned = Placed(vehicle(), 0.0, 2.0, heading + math.pi / 2)
    assert turned.orientation((0.0, 12.0, 5.0)) == pytest.approx(orientation)


def test_the_true_box_is_the_box_of_the_projected_vertices_and_the_given_one_is_looser():
    camera = street()
    target = halfway(camera, vehicle())
    shot = shoot(camera, target)
    projected = CameraView(camera).pinhole.project(target.world())
    want = [*projected[:, :2].min(axis=0), *projected[:, :2].max(axis=0)]
    np.testing.assert_allclose(shot.true_box, want, rtol=1e-5)
    assert shot.box[0] < shot.true_box[0] and shot.box[1] < shot.true_box[1]
    assert shot.box[2] > shot.true_box[2] and shot.box[3] > shot.true_box[3]
    height, width, _ = shot.image.shape
    scale = width / (shot.box[2] - shot.box[0])
    assert height / (shot.box[3] - shot.box[1]) == pytest.approx(scale)
    inner = (np.array(shot.true_box) - np.array(shot.box[:2] * 2)) * scale
    np.testing.assert_allclose(shot.crop_box, inner, atol=1e-3)
    assert shot.visibility == 1.0
    assert shot.occluder == "none"


def test_visibility_counts_what_a_planted_occluder_hides():
    camera = street()
    target = halfway(camera, vehicle())
    eye = np.array(camera.position[:2])
    step = eye / np.linalg.norm(eye)
    view, clear, seen = CameraView(camera), shoot(camera, target), {}
    for aside in np.linspace(-4, 4, 9):
        blocker = Placed(
            vehicle("hatchback", "white"),
            target.x + 3.4 * step[0] - aside * step[1],
            target.y + 3.4 * step[1] + aside * step[0],
            math.atan2(step[1], step[0]),
        )
        shot = view.shoot(target, [blocker], np.random.default_rng(7), longest_side=128)
        if shot is None:
            continue
        seen[aside] = shot.visibility
        # The count again, from the two silhouettes and their depths alone.
        x0, y0 = (round(value * camera.crop_scale) for value in clear.box[:2])
        window = ImageWindow(x0, y0, clear.image.shape[1], clear.image.shape[0], camera.crop_scale)
        own, other = (draw(item, view.pinhole, window).fragments for item in (target, blocker))
        depth = np.zeros(window.width * window.height * FINE**2)
        depth[other.sample] = other.nearness
        assert shot.visibility == pytest.approx(1 - (depth[own.sample] >= own.nearness).mean(), abs=1e-6)
        assert shot.occluder == ("vehicle" if shot.visibility < 0.998 else "none")
    assert any(0.5 <= share < 0.95 for share in seen.values()), "the occluder is planted to hide a part"


def test_a_vehicle_hidden_by_more_than_half_or_out_of_sight_gives_no_shot():
    camera = street()
    view = CameraView(camera)
    target = halfway(camera, vehicle())
    eye = np.array(camera.position[:2])
    step = eye / np.linalg.norm(eye)
    wall = Placed(vehicle("bus", "white"), target.x + 4 * step[0], target.y + 4 * step[1], target.heading)
    rng = np.random.default_rng(0)
    assert view.shoot(target, [wall], rng, longest_side=128) is None
    behind = Placed(target.vehicle, *(eye * 1.5), target.heading)
    assert view.shoot(behind, [], rng, longest_side=128) is None
    far = Placed(target.vehicle, *(-eye * 40), target.heading)
    assert view.shoot(far, [], rng, longest_side=128) is None


def test_a_vehicle_that_leaves_the_frame_is_cut_by_the_frame():
    camera = street()
    view, what, cut = CameraView(camera), vehicle("van", "white"), []
    for shift in np.arange(0, 40, 0.5):
        shot = view.shoot(halfway(camera, what, float(shift)), [], np.random.default_rng(1), longest_side=128)
        if shot is not None and shot.occluder == "frame":
            cut.append(shot)
            assert 0.5 <= shot.visibility < 1
            width, height = camera.frame_size
            assert (
                shot.true_box[0] < 1
                or shot.true_box[1] < 1
                or shot.true_box[2] > width - 4
                or shot.true_box[3] > height - 4
            )
    assert cut


@pytest.mark.parametrize("edge", ["left", "top", "right", "bottom"])
def test_a_cut_box_is_the_whole_one_without_a_strip_and_reports_what_is_missing(edge):
    camera = street()
    view, target = CameraView(camera), halfway(camera, vehicle())
    whole = view.shoot(target, [], np.random.default_rng(2), longest_side=128)
    cut = view.shoot(target, [], np.random.default_rng(2), longest_side=128, cut=Cut(edge, 0.4))
    assert cut.true_box == whole.true_box and cut.orientation == whole.orientation
    moved = {"left": 0, "top": 1, "right": 2, "bottom": 3}[edge]
    assert all((cut.box[k] == pytest.approx(whole.box[k])) == (k != moved) for k in range(4))
    axis = moved % 2
    kept = (cut.box[axis + 2] - cut.box[axis]) / (whole.box[axis + 2] - whole.box[axis])
    assert kept == pytest.approx(0.6, abs=0.02)
    assert 0.5 <= cut.visibility < 0.9 and cut.occluder == "frame"
    height, width, _ = cut.image.shape
    assert cut.crop_box[0] >= 0 and cut.crop_box[2] <= width and cut.crop_box[3] <= height
    assert view.shoot(target, [], np.random.default_rng(2), longest_side=128, cut=Cut(edge, 0.8)) is None


def test_a_pole_in_front_is_reported_as_such():
    camera = street()
    target = halfway(camera, vehicle())
    at = np.array(camera.position[:2]) * 0.5 + np.array([target.x, target.y]) * 0.5
    shot = shoot(replace(camera, pole=(float(at[0]), float(at[1]), 0.2)), target)
    assert shot.occluder == "pole"
    assert 0.5 < shot.visibility < 1


def test_the_same_seed_gives_the_same_bytes_in_any_process_and_for_any_number_of_threads():
    code = """
import hashlib, numpy as np
from vreid.simulator.render.camera import sample_camera
from vreid.simulator.render.scene import CameraView, Placed
from vreid.simulator.render.synthetic import shoot_synthetic
from vreid.simulator.vehicle.vehicles import VehicleSpec, build_vehicle
digest = hashlib.sha256()
for scenario, kind in (("day_a", "suv"), ("night", "truck")):
    camera = sample_camera(np.random.default_rng(3), scenario)
    view, vehicle = CameraView(camera), build_vehicle(VehicleSpec(kind, "blue", 1, 5))
    lane = camera.lanes[0]
    for share in (0.3, 0.6):
        placed = Placed(vehicle, *lane.pose(share * lane.length))
        shot = view.shoot(placed, [], np.random.default_rng(9), longest_side=128)
        digest.update(shot.image.tobytes() + repr((shot.box, shot.visibility)).encode() if shot else b"none")
    digest.update(shoot_synthetic(vehicle, np.random.default_rng(2), longest_side=96).image.tobytes())
print(digest.hexdigest())
"""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": "src", "PYTHONHASHSEED": hash_seed, **dict.fromkeys(names, threads)},
        ).stdout
        for threads, hash_seed in (("1", "1"), ("4", "2"))
    }
    assert len(digests) == 1


def test_the_order_of_shots_does_not_change_them():
    camera = street()
    places = [halfway(camera, vehicle(), shift) for shift in (-2.0, 0.0, 2.0)]

    def digests(order: list[int]) -> dict[int, str]:
        view = CameraView(camera)
        shots = {k: view.shoot(places[k], [], np.random.default_rng(k), longest_side=128) for k in order}
        return {k: hashlib.sha256(shot.image.tobytes()).hexdigest() for k, shot in shots.items() if shot}

    assert digests([0, 1, 2]) == digests([2, 0, 1])


def test_without_background_the_vehicle_keeps_its_pixels_on_a_flat_backdrop():
    camera = street(sensor=NEUTRAL)
    target = halfway(camera, vehicle("suv", "yellow"))
    with_it, without = shoot(camera, target), shoot(camera, target, background=False)
    assert (with_it.box, with_it.visibility) == (without.box, without.visibility)
    scale = with_it.image.shape[1] / (with_it.box[2] - with_it.box[0])
    x0, y0 = (round(value * scale) for value in with_it.box[:2])
    window = ImageWindow(x0, y0, with_it.image.shape[1], with_it.image.shape[0], camera.crop_scale)
    fragments = draw(target, CameraView(camera).pinhole, window).fragments
    covered = np.zeros((window.height * FINE, window.width * FINE), bool)
    covered.ravel()[fragments.sample] = True
    share = covered.reshape(window.height, FINE, window.width, FINE).mean((1, 3))
    inside, outside = binary_erosion(share == 1), ~covered.reshape(window.height, FINE, window.width, FINE).any((1, 3))
    np.testing.assert_array_equal(with_it.image[inside], without.image[inside])
    assert len(np.unique(without.image[outside].reshape(-1, 3), axis=0)) == 1
    assert with_it.image[outside].std() > 3


def test_crops_follow_the_presets_size():
    camera = street(seed=5)
    target = halfway(camera, vehicle())
    view = CameraView(camera)
    sizes = {}
    for longest in (64, 128, 256):
        shot = view.shoot(target, [], np.random.default_rng(1), longest_side=longest)
        assert shot is not None
        sizes[longest] = max(shot.image.shape)
    assert sizes[256] == pytest.approx(4 * sizes[64], rel=0.08)
    assert 0.4 * 128 < sizes[128] < 1.8 * 128


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_is_rendered_by_day_and_by_night(kind):
    for scenario in ("day_b", "night"):
        camera = street(scenario, seed=2)
        view, what = CameraView(camera), vehicle(kind, "green", details=TYPES.index(kind))
        shots = [
            view.shoot(halfway(camera, what, shift), [], np.random.default_rng(0), longest_side=96)
            for shift in (-3.0, 0.0, 3.0)
        ]
        assert any(shot is not None and shot.image.std() > 8 for shot in shots)


def test_lamps_light_up_at_night_only_and_night_images_stay_bright():
    camera = street("night", seed=3, sensor=NEUTRAL)
    target = halfway(camera, vehicle("sedan", "gray"))
    view = CameraView(camera)
    lit = view.shoot(target, [], np.random.default_rng(1), longest_side=128)
    view.scenario = replace(view.scenario, lamps=0.0)
    dark = view.shoot(target, [], np.random.default_rng(1), longest_side=128)
    assert lit is not None and dark is not None
    difference = lit.image.astype(int).max(2) - dark.image.astype(int).max(2)
    assert difference.max() > 60
    assert SCENARIOS["day_a"].lamps == 0
    assert 50 < lit.image.mean() < 200
