"""Image transforms: resizing, augmentation and normalisation of training and test images (DMT, StRDAN).

Three steps, each run where it is cheapest, with results that do not depend on the worker:
`prepare` (image -> uint8 CHW, no randomness, so it can be cached), `augment` (uint8 -> uint8, all randomness drawn
from the generator it is given) and `finish` (a whole batch -> normalised float32, on the batch's device).

Shapes: B batch, C = 3 channels (red, green, blue), H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from vreid.data.degrade import Degradation
from vreid.data.devices import to_device
from vreid.errors import InputError
from vreid.ranges import check_number, check_settings, in_range

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

INTERPOLATIONS = {"bicubic": InterpolationMode.BICUBIC, "bilinear": InterpolationMode.BILINEAR}

ENLARGED = 1.125
"""Enlargement factor before random cropping."""

Region = tuple[int, int, int, int]
"""top, left, height, width in pixels."""
NOTHING: Region = (0, 0, 0, 0)


class Augmented(NamedTuple):
    """One augmented image: `image` (3, H, W) uint8, whether it was `flipped`, and the region to be `erased`."""

    image: Tensor
    flipped: bool
    erased: Region


@dataclass(frozen=True)
class TestTransform:
    """Resize to height x width (antialiased), normalise. The base of `TrainTransform`.

    Attributes:
        height, width: size of the network's input in pixels; the aspect ratio is not kept.
        interpolation: "bicubic" (DMT) or "bilinear" (StRDAN).
        mean, std: per channel on the scale 0..1; ImageNet's, or .5 for vision transformers.
    """

    height: int = in_range(256, least=1, most=4096)
    width: int = in_range(256, least=1, most=4096)
    interpolation: str = "bicubic"
    mean: tuple[float, float, float] = in_range(IMAGENET_MEAN, least=0, most=1)
    std: tuple[float, float, float] = in_range(IMAGENET_STD, least=1e-6, most=10)

    __test__ = False  # keeps pytest from collecting this class

    def __post_init__(self) -> None:
        check_settings(self, "transform.")
        if self.interpolation not in INTERPOLATIONS:
            raise InputError(f"Interpolation {self.interpolation!r} is unknown; use {' or '.join(INTERPOLATIONS)}.")

    def prepare(self, image: Image.Image) -> Tensor:
        """Resize an RGB image: (3, H, W) uint8."""
        resized = functional.resize(image, [self.height, self.width], INTERPOLATIONS[self.interpolation])
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()

    def augment(self, image: Tensor, rng: np.random.Generator) -> Augmented:
        """Return a test image unchanged; `rng` is not used."""
        return Augmented(image, False, NOTHING)

    def finish(
        self, images: Tensor, erased: Tensor | None = None, fill: tuple[float, float, float] | None = None
    ) -> Tensor:
        """Turn a batch (B, 3, H, W) uint8 into float32 (x / 255 - mean) / std; regions `erased` (B, 4) become `fill`.

        `fill` is one normalised value per channel; None: 0, the mean colour, as in DMT's random erasing (methods:
        section 4).
        """
        mean, std, colour = (
            to_device(torch.tensor(values), images.device).view(3, 1, 1)
            for values in (self.mean, self.std, fill or (0.0, 0.0, 0.0))
        )
        out = torch.empty(images.shape, device=images.device)
        step = 1 if images.device.type == "cpu" else max(len(images), 1)  # one fits a CPU's cache: 2.7x faster
        for start in range(0, len(images), step):
            part = slice(start, start + step)
            out[part].copy_(images[part]).div_(255).sub_(mean).div_(std)
        if erased is not None:
            for row, (top, left, height, width) in enumerate(erased.tolist()):
                out[row, :, top : top + height, left : left + width] = colour
        return out


@dataclass(frozen=True)
class TrainTransform(TestTransform):
    """DMT's training transform: resize, flip, pad, crop, colour jitter, erase, normalise, in this order.

    StRDAN's is `pad=0, enlarge=0.5` with its own erasing (see `vreid.recipes.strdan`).

    Attributes:
        enlarge: probability of enlarging the image to 1.125 of its size and cropping height x width at random.
        flip: probability of a horizontal flip.
        pad: black border in pixels before the crop; 10 is the recipe's number for inputs of 256 and more, about a
            twenty-fifth of the side does the same to smaller ones.
        resized_crop: crop a region of area `crop_scale` and aspect ratio `crop_ratio` of the padded image and resize
            it, instead of cropping height x width (DMT's RESIZECROP).
        jitter: probability of colour jitter: brightness and contrast each by a factor in 1 +- `brightness`, `contrast`.
        erase: probability of random erasing of one rectangle, its area a share in `erase_scale` of the image, its
            aspect ratio (log-uniform) in `erase_ratio`; it is filled with `erase_fill`, one value a channel after
            normalisation, so that 0 is the mean colour.
        test_scale: side of test images as a multiple of the training images'; crops of training images show vehicles
            larger than whole test images do (Touvron et al., "Fixing the train-test resolution discrepancy", 2019).
        degradation: differences between cameras, drawn after the colour jitter; off by default.
    """

    enlarge: float = in_range(0.0, least=0, most=1)
    flip: float = in_range(0.5, least=0, most=1)
    pad: int = 10
    resized_crop: bool = False
    crop_scale: tuple[float, float] = in_range((0.75, 1.0), least=1e-6, most=1, ascending=True)
    crop_ratio: tuple[float, float] = in_range((0.75, 1.3333), least=0.001, most=1000, ascending=True)
    jitter: float = in_range(0.0, least=0, most=1)
    brightness: float = in_range(0.2, least=0, most=1)
    contrast: float = in_range(0.15, least=0, most=1)
    erase: float = in_range(0.5, least=0, most=1)
    erase_scale: tuple[float, float] = in_range((0.02, 0.33), least=1e-6, most=1, ascending=True)
    erase_ratio: tuple[float, float] = in_range((0.3, 3.3), least=0.001, most=1000, ascending=True)
    erase_fill: tuple[float, float, float] = in_range((0.0, 0.0, 0.0), least=-1000, most=1000)
    test_scale: float = in_range(1.0, least=0.25, most=4)
    degradation: Degradation = field(default_factory=Degradation)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("transform.pad", self.pad, least=0, below=min(self.height, self.width), whole=True)

    def test(self) -> TestTransform:
        """Return the test transform: size times `test_scale`, the same interpolation and normalisation."""
        height, width = (round(side * self.test_scale) for side in (self.height, self.width))
        return TestTransform(height, width, self.interpolation, self.mean, self.std)

    def finish(
        self, images: Tensor, erased: Tensor | None = None, fill: tuple[float, float, float] | None = None
    ) -> Tensor:
        """Normalise; regions `erased` become `erase_fill` unless another `fill` is given."""
        return super().finish(images, erased, fill or self.erase_fill)

    def augment(self, image: Tensor, rng: np.random.Generator) -> Augmented:
        """Enlarge, flip, pad, crop and jitter a prepared (3, H, W) uint8 image, and draw the region to erase.

        A `flipped` image is a mirror image, so its orientation label becomes (360 - theta) mod 360.
        """
        if self.enlarge and rng.random() < self.enlarge:
            image = self._enlarged(image, rng)
        flipped = bool(rng.random() < self.flip)
        if flipped:
            image = image.flip(-1)
        if self.resized_crop:
            image = functional.pad(image, [self.pad])
            region = _resized_crop_region(rng, image.shape[-2:], self.crop_scale, self.crop_ratio)
            size, interpolation = [self.height, self.width], INTERPOLATIONS[self.interpolation]
            image = functional.resized_crop(image, *region, size, interpolation)
        elif self.pad:
            image = _shifted(image, *(int(by) for by in rng.integers(-self.pad, self.pad + 1, size=2)))
        if rng.random() < self.jitter:
            image = self._jitter(image, rng)
        image = self.degradation(image, rng)
        erased = NOTHING
        if rng.random() < self.erase:
            erased = _erasing_region(rng, (self.height, self.width), self.erase_scale, self.erase_ratio)
        return Augmented(image, flipped, erased)

    def _enlarged(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        size = [round(side * ENLARGED) for side in (self.height, self.width)]
        large: Tensor = functional.resize(image, size, INTERPOLATIONS[self.interpolation])
        top, left, height, width = _place(rng, size, self.height, self.width)
        return large[:, top : top + height, left : left + width]

    def _jitter(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        steps = [(functional.adjust_brightness, self.brightness), (functional.adjust_contrast, self.contrast)]
        for step in rng.permutation(2):
            adjust, strength = steps[step]
            image = adjust(image, float(rng.uniform(max(0.0, 1 - strength), 1 + strength)))
        return image


def _shifted(image: Tensor, down: int, right: int) -> Tensor:
    """Shift the image by whole pixels, filling with black: pad and crop in one copy."""
    out = torch.zeros_like(image)
    height, width = image.shape[-2:]
    source = image[:, max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)]
    out[:, max(down, 0) : height - max(-down, 0), max(right, 0) : width - max(-right, 0)] = source
    return out


def _rectangle(
    rng: np.random.Generator, size: Sequence[int], scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int]:
    """Draw height and width of a rectangle: area share in `scale`, height / width log-uniform in `ratio`."""
    area = size[0] * size[1] * rng.uniform(*scale)
    aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
    return round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))


def _place(rng: np.random.Generator, size: Sequence[int], height: int, width: int) -> Region:
    top, left = rng.integers(size[0] - height + 1), rng.integers(size[1] - width + 1)
    return int(top), int(left), height, width


def _erasing_region(
    rng: np.random.Generator, size: Sequence[int], scale: tuple[float, float], ratio: tuple[float, float]
) -> Region:
    """Draw as torchvision's RandomErasing: ten attempts to fit, else nothing is erased."""
    for _ in range(10):
        height, width = _rectangle(rng, size, scale, ratio)
        if height < size[0] and width < size[1]:
            return _place(rng, size, height, width)
    return NOTHING


def _resized_crop_region(
    rng: np.random.Generator, size: Sequence[int], scale: tuple[float, float], ratio: tuple[float, float]
) -> Region:
    """Draw as torchvision's RandomResizedCrop (ratio = width / height): ten attempts to fit, else the centre."""
    for _ in range(10):
        width, height = _rectangle(rng, size, scale, ratio)
        if 0 < height <= size[0] and 0 < width <= size[1]:
            return _place(rng, size, height, width)
    height = min(size[0], round(size[1] / ratio[0]))
    width = min(size[1], round(size[0] * ratio[1]))
    return (size[0] - height) // 2, (size[1] - width) // 2, height, width
