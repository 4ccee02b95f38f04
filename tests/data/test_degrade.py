"""Degradation: each part alone against what it is to do, and draws that depend on the generator only."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vreid.data.augment import TrainTransform
from vreid.data.degrade import Degradation
from vreid.errors import InputError

PARTS = ("colour", "grey", "shrink", "blur", "noise", "jpeg")


def texture(height: int = 40, width: int = 32, seed: int = 0) -> torch.Tensor:
    pixels = np.random.default_rng(seed).integers(0, 256, (3, height, width), dtype=np.uint8)
    return torch.from_numpy(pixels)


def contrast(image: torch.Tensor) -> float:
    """Mean absolute difference of horizontal neighbours."""
    return float((image[:, :, 1:].float() - image[:, :, :-1].float()).abs().mean())


def test_everything_off_returns_the_image_and_draws_nothing() -> None:
    image, rng = texture(), np.random.default_rng(1)
    assert Degradation()(image, rng) is image
    assert rng.random() == np.random.default_rng(1).random()


@given(st.integers(0, 2**32), st.integers(8, 50), st.integers(8, 50))
@settings(max_examples=30)
def test_any_draw_keeps_shape_and_type_and_repeats(seed: int, height: int, width: int) -> None:
    strong = Degradation(**dict.fromkeys(PARTS, 0.7))
    image = texture(height, width, seed=3)
    first, second = (strong(image, np.random.default_rng(seed)) for _ in range(2))
    assert first.shape == image.shape and first.dtype == torch.uint8 and first.is_contiguous()
    assert torch.equal(first, second)


def test_grey_is_the_luma_in_all_channels() -> None:
    image = torch.tensor([200, 100, 50], dtype=torch.uint8).view(3, 1, 1).expand(3, 8, 8).contiguous()
    grey = Degradation(grey=1)(image, np.random.default_rng(0))
    assert grey.unique().tolist() == [round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)]


def test_colour_with_only_a_gain_multiplies_the_brightness() -> None:
    image = torch.full((3, 8, 8), 100, dtype=torch.uint8)
    gain_only = Degradation(colour=1, gain=0.5, white_balance=0, saturation=(1, 1), gamma=0)
    factor = np.exp(np.random.default_rng(5).uniform(size=2)[1] - 0.5)  # the first draw decides on colour at all
    assert gain_only(image, np.random.default_rng(5)).unique().tolist() == [round(100 * float(factor))]


def test_saturation_of_zero_is_grey_and_gamma_keeps_black_and_white() -> None:
    plain = Degradation(colour=1, gain=0, white_balance=0, saturation=(0, 0), gamma=0)(
        texture(), np.random.default_rng(0)
    )
    assert torch.equal(plain[0], plain[1]) and torch.equal(plain[1], plain[2])
    ends = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 2).expand(3, 4, 2).contiguous()
    gamma = Degradation(colour=1, gain=0, white_balance=0, saturation=(1, 1), gamma=2)
    assert torch.equal(gamma(ends, np.random.default_rng(0)), ends)


@pytest.mark.parametrize(
    "part", [{"shrink": 1, "shrink_scale": (0.2, 0.3)}, {"blur": 1, "blur_sigma": (0.05, 0.06)}], ids=["shrink", "blur"]
)
@pytest.mark.parametrize("seed", range(6))
def test_shrinking_and_blur_lower_the_contrast_and_keep_a_flat_image(part: dict[str, float], seed: int) -> None:
    degradation, flat = Degradation(**part), torch.full((3, 40, 40), 90, dtype=torch.uint8)
    assert contrast(degradation(texture(), np.random.default_rng(seed))) < 0.7 * contrast(texture())
    assert torch.equal(degradation(flat, np.random.default_rng(seed)), flat)


def test_motion_blur_spreads_a_point_along_a_line_with_the_given_deviation() -> None:
    image = torch.zeros((3, 81, 81), dtype=torch.uint8)
    image[:, 40, 40] = 255
    blur = Degradation(blur=1, blur_sigma=(0.05, 0.05))  # 4.05 pixels
    moved = next(
        found
        for found in (blur(image, np.random.default_rng(seed)) for seed in range(50))
        if (found[0] > 0).sum() < 20  # a Gaussian covers more pixels
    )
    rows, columns = np.nonzero(moved[0].numpy())
    deviations = np.hypot(rows - 40, columns - 40)
    assert np.sqrt((deviations**2).mean()) == pytest.approx(4.05, rel=0.15)
    directions = np.linalg.svd(np.stack([rows - 40, columns - 40]).astype(float), compute_uv=False)
    assert directions[1] < 0.1 * directions[0]  # on one line


def test_noise_has_the_given_deviation() -> None:
    image = torch.full((3, 64, 64), 128, dtype=torch.uint8)
    noisy = Degradation(noise=1, noise_sigma=(0.05, 0.05))(image, np.random.default_rng(0)).float()
    assert float(noisy.std()) == pytest.approx(0.05 * 255, rel=0.05)
    assert float(noisy.mean()) == pytest.approx(128, abs=0.5)


def test_lower_jpeg_quality_changes_more() -> None:
    image = texture()
    changes = [
        float(
            (Degradation(jpeg=1, jpeg_quality=(q, q))(image, np.random.default_rng(0)).float() - image.float())
            .abs()
            .mean()
        )
        for q in (95, 50, 10)
    ]
    assert 0 < changes[0] < changes[1] < changes[2]


def test_it_is_part_of_the_training_transform_before_erasing() -> None:
    transform = TrainTransform(height=40, width=32, pad=0, flip=0, erase=0, degradation=Degradation(grey=1))
    image = transform.augment(texture(), np.random.default_rng(0)).image
    assert torch.equal(image[0], image[2])


def test_a_value_out_of_range_names_the_key() -> None:
    with pytest.raises(InputError, match=r"transform\.degradation\.blur"):
        Degradation(blur=1.5)
    with pytest.raises(InputError, match="shrink_scale"):
        Degradation(shrink_scale=(0.9, 0.2))
