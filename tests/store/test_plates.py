"""Blurring of licence plates: characters are illegible afterwards, and the rest of the crop stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from vreid.store.plates import BLURS, blur_likely_plates, plate_regions


def car(*, plate: bool = True) -> Image.Image:
    """A grey vehicle with a white plate of dark strokes at 140..200, 150..170 of 240 x 220 pixels."""
    pixels = np.random.default_rng(0).integers(70, 80, (220, 240, 3)).astype(np.uint8)
    pixels[30:80, 60:180] = 40
    if plate:
        pixels[150:170, 140:200] = 235
        pixels[154:166, 144:196:6] = 20
        pixels[154:166, 145:196:6] = 20
    return Image.fromarray(pixels)


def strokes(image: Image.Image) -> Any:
    """Contrast of the characters on the plate."""
    return np.asarray(image, dtype=float)[155:165, 145:195, 0].std()


@pytest.mark.parametrize("name", BLURS)
def test_characters_are_illegible_and_the_rest_stays(name: str) -> None:
    image = car()
    blurred = BLURS[name](image)
    assert blurred.size == image.size and strokes(blurred) < strokes(image) / 3
    assert np.array_equal(np.asarray(blurred)[:90], np.asarray(image)[:90])
    assert strokes(image) == strokes(car())  # the given image is not changed


def test_the_plate_is_the_likeliest_region() -> None:
    x1, y1, x2, y2 = plate_regions(car())[0]
    assert 130 <= x1 < x2 <= 210 and 140 <= y1 < y2 <= 180
    assert len(plate_regions(car())) <= 6


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (16, 16), (320, 20), (20, 320)])
def test_crops_of_any_size(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    for blur in BLURS.values():
        assert blur(Image.fromarray(noise)).size == size
    flat = Image.new("RGB", size, (90, 90, 90))
    assert plate_regions(flat) == [] and blur_likely_plates(flat).tobytes() == flat.tobytes()
