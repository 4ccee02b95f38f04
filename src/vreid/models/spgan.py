"""Networks of SPGAN: generators, patch discriminators, and the Siamese network that preserves identity.

Source: Deng et al., "Image-Image Domain Adaptation with Preserved Self-Similarity and Domain-Dissimilarity for Person
Re-identification", CVPR 2018, as the style transfer of VehicleX uses it. Images are (B, 3, H, W) in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> list[nn.Module]:
    """Convolution without bias, instance normalisation without learned parameters, ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
    return [conv, nn.InstanceNorm2d(outputs), nn.ReLU(inplace=True)]


class ResidualBlock(nn.Module):
    """Residual block of two 3 x 3 convolutions with reflection padding: (B, C, H, W) -> same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            *_conv(channels, channels, 3),
            nn.ReflectionPad2d(1),
            *_conv(channels, channels, 3)[:-1],
        )

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        out: Tensor = maps + self.layers(maps)
        return out


class RepeatedPixels(nn.Module):
    """Nearest-neighbour upsampling by 2: (B, C, H, W) -> (B, C, 2H, 2W).

    torch's upsampling is slow with deterministic kernels.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 2H, 2W)."""
        batch, channels, height, width = maps.shape
        repeated = maps[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2)
        return repeated.reshape(batch, channels, 2 * height, 2 * width)


class Generator(nn.Module):
    """Translate images from one domain to the other: (B, 3, H, W) -> same shape, H and W multiples of 4.

    Args:
        filters: channels at full resolution; doubled at half, quadrupled at a quarter of it. 64 in the paper.
        blocks: residual blocks at a quarter of the resolution. 9 in the paper.
        masked: also predict a mask that blends the output into the input, so that unchanged regions need not be
            generated; initially nearly everything is kept (Pumarola et al., "GANimation", ECCV 2018). The paper
            generates the whole image.
        repeat: upsample by repeating pixels before a convolution instead of by a transposed convolution, which causes
            checkerboard artefacts in short trainings.
    """

    def __init__(self, filters: int = 64, blocks: int = 9, *, masked: bool = False, repeat: bool = False) -> None:
        super().__init__()
        self.masked = masked
        down = [layer for width in (filters, 2 * filters) for layer in _conv(width, 2 * width, 3, stride=2, padding=1)]
        up: list[nn.Module] = []
        for width in (4 * filters, 2 * filters):
            if repeat:
                up += [RepeatedPixels(), nn.ReflectionPad2d(1), *_conv(width, width // 2, 3)]
            else:
                grow = nn.ConvTranspose2d(width, width // 2, 3, stride=2, padding=1, output_padding=1, bias=False)
                up += [grow, nn.InstanceNorm2d(width // 2), nn.ReLU(inplace=True)]
        last = nn.Conv2d(filters, 4 if masked else 3, 7)
        if masked:
            nn.init.zeros_(last.weight)
            last.bias = nn.Parameter(torch.tensor([0.0, 0.0, 0.0, -2.0]))  # grey, blended in with weight 1/8
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(3),
            *_conv(3, filters, 7),
            *down,
            *(ResidualBlock(4 * filters) for _ in range(blocks)),
            *up,
            nn.ReflectionPad2d(3),
            last,
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 3, H, W) float32."""
        out: Tensor = self.layers(images).float()
        painting = out[:, :3].tanh()
        return torch.lerp(images, painting, out[:, 3:].sigmoid()) if self.masked else painting


class Discriminator(nn.Module):
    """PatchGAN discriminator: (B, 3, H, W) -> (B, 1, h, w) float32, 1 for real patches and 0 for generated ones.

    Args:
        filters: channels of the first layer; doubled in every further layer. 64 in the paper.
        layers: layers of stride 2. 3 in the paper (patches of 70 pixels); 2 give patches of 34.
    """

    def __init__(self, filters: int = 64, layers: int = 3) -> None:
        super().__init__()
        parts: list[nn.Module] = [nn.Conv2d(3, filters, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        for number in range(1, layers + 1):
            width, stride = filters * 2 ** (number - 1), 2 if number < layers else 1
            conv = nn.Conv2d(width, 2 * width, 4, stride, 1, bias=False)
            parts += [conv, nn.InstanceNorm2d(2 * width), nn.LeakyReLU(0.2, inplace=True)]
        self.layers = nn.Sequential(*parts, nn.Conv2d(filters * 2**layers, 1, 4, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 1, h, w)."""
        out: Tensor = self.layers(images)
        return out.float()


class SiameseNet(nn.Module):
    """Embed images on the unit sphere to measure their similarity: (B, 3, S, S) -> (B, 64) float32.

    Args:
        size: S, side of the images in pixels.
        filters: channels of the first stage; doubled in every further stage. 64 in the paper.
        stages: stages of a 4 x 4 convolution of stride 2 and a 2 x 2 max pooling; each divides the side by 4. 3 in the
            paper, which reduce 256 pixels to 4 x 4 cells.
    """

    def __init__(self, size: int = 256, filters: int = 64, stages: int = 3) -> None:
        super().__init__()
        widths = [3, *(filters * 2**stage for stage in range(stages))]
        parts: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            parts += [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True), nn.MaxPool2d(2)]
        self.layers = nn.Sequential(
            *parts,
            nn.Flatten(),
            nn.Linear(widths[-1] * (size // 4**stages) ** 2, 128, bias=False),
            nn.LeakyReLU(0.2),
            nn.Dropout(0.5),
            nn.Linear(128, 64, bias=False),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, 64), each of length 1."""
        return functional.normalize(self.layers(images).float(), dim=1)


class ImagePool(nn.Module):
    """Buffer of previously generated images for training a discriminator; its state is part of a checkpoint.

    Until the buffer is full, each new image is stored and returned. Then each new image, with probability one half,
    replaces a stored one, which is returned instead. Source: Shrivastava et al., "Learning from Simulated and
    Unsupervised Images through Adversarial Training", CVPR 2017. With 0 slots, images are returned unchanged.

    Args:
        slots: capacity in images.
        size: side of the images in pixels.
    """

    images: Tensor
    held: Tensor

    def __init__(self, slots: int, size: int) -> None:
        super().__init__()
        self.register_buffer("images", torch.zeros(slots, 3, size, size))
        self.register_buffer("held", torch.zeros((), dtype=torch.int64))
        self._count: int | None = None  # `held` on the host; reading that in each step would wait for the device

    def exchange(self, made: Tensor, draws: Sequence[float]) -> Tensor:
        """Store the images `made` (B, 3, S, S) and return a mix of new and stored images of the same shape.

        `draws` holds one number in [0, 1) per image: a draw d below 1/2 swaps the image with slot floor(2 d slots).
        """
        slots, handed = len(self.images), []
        if self._count is None:
            self._count = int(self.held)
        for image, draw in zip(made.detach(), draws, strict=True):
            slot = int(2 * draw * slots)
            if self._count < slots:
                self.images[self._count] = image
                self.held += 1
                self._count += 1
            elif slot < slots:
                image, self.images[slot] = self.images[slot].clone(), image
            handed.append(image)
        return torch.stack(handed)

    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        super()._load_from_state_dict(*args, **options)
        self._count = None
