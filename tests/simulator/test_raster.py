from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles.raster import rasterise_slowly
from vreid.simulator.raster import axes_along, depth_map, rasterise
from vreid.simulator.vehicle.mesh import MeshBuilder, grid_faces


@pytest.mark.parametrize("cull", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_the_rasteriser_agrees_with_asking_every_sample_about_every_face(seed, cull):
    rng = np.random.default_rng(seed)
    points = np.column_stack([rng.uniform(-6, 26, 30), rng.uniform(-6, 20, 30), rng.uniform(-0.05, 1, 30)]).astype("f4")
    faces = rng.integers(0, 30, (25, 3)).astype(np.int32)
    got = rasterise(points, faces, 20, 14, cull=cull)
    expected = rasterise_slowly(points, faces, 20, 14, cull=cull)
    assert got.sample.tolist() == sorted(expected)
    for sample, face, weights, nearness in zip(got.sample, got.face, got.weights, got.nearness, strict=True):
        want_face, want_weights, want_near = expected[int(sample)]
        assert nearness == pytest.approx(want_near, abs=1e-4)
        if face == want_face:
            np.testing.assert_allclose(weights, want_weights, atol=1e-3)


@settings(max_examples=40)
@given(st.integers(0, 2**31), st.integers(2, 9), st.integers(2, 9))
def test_faces_that_share_edges_leave_no_sample_between_them(seed, rows, columns):
    """A jittered net of triangles over the whole grid covers every sample, whatever its vertices."""
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(np.linspace(-1, 33, rows + 1), np.linspace(-1, 33, columns + 1), indexing="ij")
    inner = np.zeros_like(x)
    inner[1:-1, 1:-1] = 0.3 * 34 / max(rows, columns)
    x, y = x + inner * rng.uniform(-1, 1, x.shape), y + inner * rng.uniform(-1, 1, y.shape)
    points = np.stack([x, y, rng.uniform(0.1, 1, x.shape)], -1).reshape(-1, 3).astype(np.float32)
    faces = grid_faces(rows + 1, columns + 1)
    order = np.argsort(rng.random((len(faces), 3)), axis=1)  # any corner may come first, any winding
    covered = rasterise(points, np.take_along_axis(faces, order, 1), 32, 32, cull=False)
    assert len(covered) == 32 * 32


def test_of_equally_near_faces_the_first_wins():
    points = np.array([[0, 0, 1], [9, 0, 1], [0, 9, 1]], np.float32)
    faces = np.array([[0, 2, 1], [0, 2, 1]], np.int32)
    assert set(rasterise(points, faces, 8, 8).face.tolist()) == {0}


def test_faces_behind_the_eye_and_empty_meshes_cover_nothing():
    points = np.array([[0, 0, 1], [9, 0, 0], [0, 9, 1]], np.float32)
    assert len(rasterise(points, np.array([[0, 2, 1]], np.int32), 8, 8)) == 0
    assert len(rasterise(points, np.zeros((0, 3), np.int32), 8, 8)) == 0


def test_axes_are_orthonormal_and_right_handed_on_a_screen_with_y_down():
    for direction in ((0, 0, 1), (1, 2, 3), (-1, 0.5, 0.1)):
        right, down, toward = axes_along(np.array(direction, float))
        np.testing.assert_allclose(np.cross(right, down), -toward, atol=1e-6)
        np.testing.assert_allclose(toward, np.array(direction) / np.linalg.norm(direction), atol=1e-6)


def test_a_box_shades_the_ground_that_the_sun_cannot_reach():
    builder = MeshBuilder()
    builder.box((0, 0, 1), (2, 2, 2), (0, 0))
    mesh = builder.build()
    sun = np.array([1.0, 0.0, 1.0])  # 45 degrees: the shadow of the 2 m box reaches 2 m to the other side
    shadow = depth_map(mesh.vertices, mesh.faces, sun, np.array([0, 0, 1], np.float32), 6.0, 256)
    ground = np.array([[-2.0, 0, 0], [-2.8, 0, 0], [-3.3, 0, 0], [2, 0, 0], [-2, 1.3, 0]], np.float32)
    assert shadow.lit(ground.T, 0.02).tolist() == [0, 0, 1, 1, 1]
    top = np.array([[0.0], [0.0], [2.0]], np.float32)
    assert shadow.lit(top, 0.05).tolist() == [1]
