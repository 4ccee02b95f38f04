"""Which boxes and crops of a tracklet are kept."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from vreid.store.crop_selection import (
    CropCandidate,
    best_crops,
    choose_frames,
    exposure_and_sharpness,
    geometry_quality,
    view_of,
    visible_shares,
)

FRAME = np.array([[640.0, 480.0]])


def quality(*box: float, visible: float = 1.0) -> float:
    return float(geometry_quality(np.array([box], dtype=float), np.array([visible]), FRAME)[0])


def test_the_box_with_the_lower_bottom_edge_is_in_front() -> None:
    boxes = np.array([[0, 0, 100, 100], [50, 50, 150, 150], [300, 0, 310, 10.0]])
    assert visible_shares(boxes).tolist() == [0.75, 1, 1]


def test_two_boxes_of_one_vehicle_do_not_hide_each_other() -> None:
    assert visible_shares(np.array([[0, 0, 100, 100], [2, 2, 102, 102.0]])).tolist() == [1, 1]


def test_large_whole_boxes_inside_the_frame_are_best() -> None:
    assert quality(100, 100, 340, 340) == 1
    assert quality(100, 100, 220, 220) == pytest.approx(0.5)
    assert quality(0, 100, 240, 340) == pytest.approx(0.5) == quality(399, 100, 639, 340)
    assert quality(100, 100, 340, 340, visible=0.4) == pytest.approx(0.4)
    assert quality(100, 100, 400, 115) == 0 == quality(630, 100, 900, 300)
    crop = geometry_quality(np.array([[0, 0, 96, 96.0]]), np.ones(1), np.full((1, 2), np.inf))
    assert crop[0] == pytest.approx(0.4)


def test_frames_are_spread_over_the_movement() -> None:
    """A vehicle that waits for 900 of 1,000 frames is not chosen again and again while it waits."""
    left = np.concatenate([np.linspace(0, 300, 50), np.full(900, 300), np.linspace(300, 600, 50)])
    boxes = np.stack([left, left * 0 + 100, left + 60, left * 0 + 160], axis=1)
    chosen = choose_frames(boxes, np.ones(1000), 12)
    assert len(chosen) == 12 and (np.diff(chosen) > 0).all()
    assert ((chosen > 50) & (chosen < 950)).sum() <= 3


def test_the_best_box_of_each_part_is_taken_and_none_of_quality_0() -> None:
    boxes = np.stack([np.arange(10) * 50.0, np.zeros(10), np.arange(10) * 50.0 + 50, np.full(10, 50.0)], axis=1)
    worth = np.array([0.1, 0.9, 0.1, 0.1, 0.1, 0, 0, 0, 0, 0])
    assert choose_frames(boxes, worth, 2).tolist() == [1]
    assert choose_frames(boxes, worth * 0, 2).tolist() == []
    assert choose_frames(boxes[:1], np.ones(1), 12).tolist() == [0]


def test_sharpness_and_exposure() -> None:
    """A blur in one direction, as of motion, lowers the sharpness as much as one in both."""
    draw = np.random.default_rng(0)
    image = Image.fromarray(draw.integers(60, 200, (24, 32, 3)).astype(np.uint8)).resize((256, 192), 0)
    exposure, sharpness = exposure_and_sharpness(image)
    assert exposure == 1
    moved = np.mean([np.roll(np.asarray(image, dtype=float), shift, axis=1) for shift in range(20)], axis=0)
    for blurred in (image.filter(ImageFilter.GaussianBlur(8)), Image.fromarray(moved.astype(np.uint8))):
        assert exposure_and_sharpness(blurred)[1] < sharpness / 2
    assert exposure_and_sharpness(image.resize((512, 384), 0))[1] == pytest.approx(sharpness, rel=0.1)
    white = Image.fromarray(np.clip(np.asarray(image, dtype=int) + 120, 0, 255).astype(np.uint8))
    assert exposure_and_sharpness(white)[0] < 0.7
    assert exposure_and_sharpness(Image.new("RGB", (256, 192)))[0] == 0


def candidates(*rows: tuple[float, float, float]) -> list[CropCandidate]:
    """Crops at `left` pixels of quality and sharpness."""
    frame = np.array([640.0, 480.0])
    return [
        CropCandidate(b"", row, quality, sharp, view_of(np.array([left, 100, left + 100, 200.0]), frame, left / 400))
        for row, (left, quality, sharp) in enumerate(rows)
    ]


def test_blurred_crops_are_not_kept() -> None:
    best = best_crops(candidates((10, 0.9, 0.1), (200, 0.6, 0.3), (400, 0.5, 0.25)), 2)
    assert [(crop.row, crop.quality) for crop in best] == [(1, 0.6), (2, 0.5)]
    assert [crop.quality for crop in best_crops(candidates((10, 0.5, 0.0)), 2)] == [0]


def test_crops_are_good_and_differ() -> None:
    found = candidates((10, 0.9, 1), (12, 0.89, 1), (14, 0.88, 1), (400, 0.5, 1), (200, 0.6, 1))
    assert [candidate.row for candidate in best_crops(found, 3)] == [0, 4, 3]
    assert [candidate.row for candidate in best_crops(found, 9)] == [0, 1, 2, 4, 3]
    assert best_crops([], 3) == []
