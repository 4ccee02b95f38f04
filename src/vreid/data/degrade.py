"""Degradation of training images: differences between cameras, drawn at random (domain randomisation).

Two cameras see the same vehicle with another focus, distance, exposure, white balance and compression. A model that is
trained on simulated images with these differences drawn anew for each image relies on what they leave unchanged.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor

from vreid.ranges import check_settings, in_range

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in the luma of ITU-R BT.601."""


@dataclass(frozen=True)
class Degradation:
    """Random differences between cameras, in the order in which light, lens, sensor and codec cause them.

    Each part is applied with its own probability; 0 disables it.

    Attributes:
        colour: probability of a change of colour: gain, white balance, saturation and gamma.
        gain: the brightness is multiplied by exp(u), u uniform in +- `gain`.
        white_balance: each channel is multiplied by exp(u), u uniform in +- `white_balance`.
        saturation: the difference from grey is multiplied by a factor uniform in this range.
        gamma: the image is raised to the power exp(u), u uniform in +- `gamma`.
        grey: probability of a grey image.
        shrink: probability of a vehicle that is far away: the image is reduced by a factor (log-uniform in
            `shrink_scale`) and enlarged again.
        shrink_scale: range of that factor.
        blur: probability of a blur, half of them Gaussian (focus), half along a line (motion).
        blur_sigma: standard deviation of the blur as a share of the image's side (log-uniform).
        noise: probability of Gaussian noise.
        noise_sigma: its standard deviation on the scale 0..1 (uniform).
        jpeg: probability of JPEG compression.
        jpeg_quality: range of its quality (uniform).
    """

    colour: float = in_range(0.0, least=0, most=1)
    gain: float = in_range(0.4, least=0, most=3)
    white_balance: float = in_range(0.1, least=0, most=1)
    saturation: tuple[float, float] = in_range((0.5, 1.4), least=0, most=5, ascending=True)
    gamma: float = in_range(0.3, least=0, most=2)
    grey: float = in_range(0.0, least=0, most=1)
    shrink: float = in_range(0.0, least=0, most=1)
    shrink_scale: tuple[float, float] = in_range((0.25, 1.0), least=0.01, most=1, ascending=True)
    blur: float = in_range(0.0, least=0, most=1)
    blur_sigma: tuple[float, float] = in_range((0.004, 0.03), least=1e-4, most=0.5, ascending=True)
    noise: float = in_range(0.0, least=0, most=1)
    noise_sigma: tuple[float, float] = in_range((0.005, 0.04), least=0, most=1, ascending=True)
    jpeg: float = in_range(0.0, least=0, most=1)
    jpeg_quality: tuple[int, int] = in_range((20, 90), least=1, most=100, ascending=True)

    def __post_init__(self) -> None:
        check_settings(self, "transform.degradation.")

    @property
    def enabled(self) -> bool:
        """Whether any part has a probability above 0."""
        return any((self.colour, self.grey, self.shrink, self.blur, self.noise, self.jpeg))

    def __call__(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Degrade an image (3, H, W) uint8 with draws from `rng`; the result has the same shape and type."""
        if not self.enabled:
            return image
        pixels: NDArray[np.uint8] = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        if rng.random() < self.colour:
            pixels = self._recoloured(pixels, rng)
        if rng.random() < self.grey:
            pixels = np.repeat(_rounded(pixels @ LUMA)[..., None], 3, axis=2)
        picture = Image.fromarray(pixels)
        size = picture.size
        if rng.random() < self.shrink:
            scale = _log_uniform(rng, self.shrink_scale)
            small = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
            back = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)[int(rng.integers(2))]
            picture = picture.resize(small, Image.Resampling.BILINEAR).resize(size, back)
        if rng.random() < self.blur:
            sigma, along = _log_uniform(rng, self.blur_sigma) * max(size), rng.random() < 0.5
            picture = _moved(picture, sigma, rng.uniform(0, math.pi)) if along else _defocused(picture, sigma)
        if rng.random() < self.noise:
            sigma = rng.uniform(*self.noise_sigma) * 255
            shape = (size[1], size[0], 3)
            picture = Image.fromarray(_rounded(np.asarray(picture) + rng.standard_normal(shape, np.float32) * sigma))
        if rng.random() < self.jpeg:
            file = io.BytesIO()
            picture.save(file, "JPEG", quality=int(rng.integers(self.jpeg_quality[0], self.jpeg_quality[1] + 1)))
            picture = Image.open(file)
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()

    def _recoloured(self, pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        gains = np.exp(rng.uniform(-self.gain, self.gain) + rng.uniform(-self.white_balance, self.white_balance, 3))
        linear = pixels.astype(np.float32) * (gains / 255).astype(np.float32)
        grey = (linear @ LUMA)[..., None]
        mixed = grey + (linear - grey) * np.float32(rng.uniform(*self.saturation))
        power = math.exp(rng.uniform(-self.gamma, self.gamma))
        return _rounded(np.clip(mixed, 0, 1) ** np.float32(power) * 255)


def _defocused(picture: Image.Image, sigma: float) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(sigma))


def _moved(picture: Image.Image, sigma: float, angle: float) -> Image.Image:
    """Average the image along a line whose uniform weights have the standard deviation `sigma` in pixels."""
    half = sigma * math.sqrt(3)
    side = math.ceil(half)
    pixels = np.pad(np.asarray(picture), ((side, side), (side, side), (0, 0)), mode="edge")
    height, width = picture.height, picture.width
    total = np.zeros((height, width, 3), np.float32)
    offsets = np.linspace(-half, half, 2 * max(1, round(half)) + 1)
    for offset in offsets:
        top, left = side + round(offset * math.sin(angle)), side + round(offset * math.cos(angle))
        total += pixels[top : top + height, left : left + width]
    return Image.fromarray(_rounded(total / len(offsets)))


def _log_uniform(rng: np.random.Generator, between: tuple[float, float]) -> float:
    return math.exp(rng.uniform(math.log(between[0]), math.log(between[1])))


def _rounded(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    rounded: NDArray[np.uint8] = np.clip(values + 0.5, 0, 255).astype(np.uint8)
    return rounded
