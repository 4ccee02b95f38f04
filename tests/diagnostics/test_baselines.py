"""Baseline features and camera parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vreid.data.records import Records
from vreid.diagnostics.baselines import BINS, hsv_histogram, pixels, random_vectors
from vreid.diagnostics.slices import ALL, NEW, SEEN, camera_parts
from vreid.errors import InputError
from vreid.retrieval import FeatureSet


def save(path: Path, centre: tuple[int, int, int], rim: tuple[int, int, int]) -> str:
    image = Image.new("RGB", (50, 40), rim)
    image.paste(centre, (10, 8, 40, 32))
    image.save(path)
    return str(path)


def test_the_histogram_sees_the_colour_of_the_centre_only(tmp_path: Path) -> None:
    red, blue, green, gray = (200, 10, 10), (10, 10, 200), (10, 200, 10), (90, 90, 90)
    images = [
        save(tmp_path / "a.png", red, green),
        save(tmp_path / "b.png", red, gray),
        save(tmp_path / "c.png", blue, green),
    ]
    features = hsv_histogram(Records.of(path=images)).features
    assert features.shape == (3, np.prod(BINS))
    assert np.allclose(features[0], features[1])
    assert features[0] @ features[2] == 0


def test_the_histogram_by_hand(tmp_path: Path) -> None:
    # HSV of pure red is (0, 255, 255): bin (0, 4, 4) of 12 x 5 x 5; of black (0, 0, 0): bin (0, 0, 0).
    image = Image.new("RGB", (10, 10), (255, 0, 0))
    image.paste((0, 0, 0), (0, 0, 10, 4))  # rows 2 and 3 of the centre's rows 2..7 are black
    image.save(tmp_path / "half.png")
    feature = hsv_histogram(Records.of(path=[str(tmp_path / "half.png")])).features[0]
    expected = np.zeros(np.prod(BINS))
    expected[[0, 4 * 5 + 4]] = np.sqrt([2 / 6, 4 / 6])
    assert np.allclose(feature, expected)


def test_the_histogram_names_a_picture_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.jpg"):
        hsv_histogram(Records.of(path=[str(tmp_path / "gone.jpg")]))


def test_random_vectors_are_units_and_repeat_by_seed() -> None:
    records = Records.of(path=["a", "b"])
    first, again, other = (random_vectors(records, seed=seed).features for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.allclose(np.linalg.norm(first, axis=1), 1)


@pytest.mark.parametrize(
    ("trained", "parts"),
    [
        (["c1"], {ALL: [True, True], SEEN: [True, False], NEW: [False, True]}),
        (["c1", "c9"], {ALL: [True, True]}),
        (["c5"], {ALL: [True, True]}),
        ([], {ALL: [True, True]}),
    ],
)
def test_queries_by_whether_their_camera_was_trained_on(trained: list[str], parts: dict[str, list[bool]]) -> None:
    train = Records.of(path=trained, camera=trained)
    query = Records.of(path=["q", "r"], camera=["c1", "c9"])
    assert {name: mask.tolist() for name, mask in camera_parts(train, query).items()} == parts


def test_pixels_by_hand(tmp_path: Path) -> None:
    # Two pixels, black and white: minus their mean -127.5 and 127.5 in each channel, at unit norm 1 / sqrt(6) of it.
    image = Image.new("RGB", (2, 2))
    image.putdata([(0, 0, 0), (255, 255, 255)] * 2)
    image.save(tmp_path / "a.png")
    Image.new("RGB", (2, 2), (7, 7, 7)).save(tmp_path / "flat.png")
    features = pixels(Records.of(path=[tmp_path / "a.png", tmp_path / "flat.png"]), side=2).features
    expected = np.tile(np.repeat([-1, 1], 3), 2) / np.sqrt(12)
    assert np.allclose(features[0], expected)
    assert np.allclose(features[1], 1 / np.sqrt(12))


@pytest.mark.parametrize("baseline", [pixels, hsv_histogram])
def test_baselines_see_the_box_only(tmp_path: Path, baseline: Callable[[Records], FeatureSet]) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(frame).save(tmp_path / "frame.png")
    Image.fromarray(frame[5:25, 10:50]).save(tmp_path / "cut.png")
    boxed = Records.of(path=[tmp_path / "frame.png"], box=[[10, 5, 50, 25]])
    cut = Records.of(path=[tmp_path / "cut.png"])
    assert np.array_equal(baseline(boxed).features, baseline(cut).features)
