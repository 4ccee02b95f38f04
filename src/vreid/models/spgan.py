"""The networks of SPGAN: generators, patch discriminators, and the Siamese net that keeps a vehicle apart from others.

Source: Deng et al., "Image-Image Domain Adaptation with Preserved Self-Similarity and Domain-Dissimilarity for Person
Re-identification", CVPR 2018, as the style transfer of VehicleX uses it. Images are (B, 3, H, W) in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> list[nn.Module]:
    """Convolution, instance normalisation, ReLU; the normalisation learns nothing, so the convolution has no bias."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
    return [conv, nn.InstanceNorm2d(outputs), nn.ReLU(inplace=True)]


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions behind reflecting borders, added to what came in: (B, C, H, W) -> same shape."""

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
    """Each pixel four times: (B, C, H, W) -> (B, C, 2H, 2W); torch's own is slow with deterministic kernels."""

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, 2H, 2W)."""
        batch, channels, height, width = maps.shape
        repeated = maps[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2)
        return repeated.reshape(batch, channels, 2 * height, 2 * width)


class Generator(nn.Module):
    """Repaint images of one domain as if they were of the other: (B, 3, H, W) -> same shape, H and W multiples of 4.

    Args:
        filters: channels at full size; twice as many at half of it, four times at a quarter. 64 in the paper.
        blocks: residual blocks at a quarter of the size. 9 in the paper.
        masked: paint a mask too, and mix the painting into the image by it, so that what may stay as it is need not be
            painted; at first nearly all does (Pumarola et al., "GANimation", ECCV 2018). The paper paints all anew.
        repeat: grow by repeating pixels before a convolution instead of by a transposed one, which leaves a
            checkerboard where training is short.
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
            last.bias = nn.Parameter(torch.tensor([0.0, 0.0, 0.0, -2.0]))  # grey, mixed in by an eighth
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
    """Score overlapping patches, 1 for real and 0 for made ones: (B, 3, H, W) -> (B, 1, h, w) float32 (PatchGAN).

    Args:
        filters: channels of the first layer; doubled by every further one. 64 in the paper.
        layers: of stride 2. 3 in the paper, which makes patches of 70 pixels; 2 make patches of 34.
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
    """Embed images on the unit sphere, (B, 3, S, S) -> (B, 64) float32, to say which are alike.

    Args:
        size: S, side of the images in pixels.
        filters: channels of the first stage; doubled by every further one. 64 in the paper.
        stages: of a 4 x 4 convolution of stride 2 and a 2 x 2 maximum, so each quarters the side. 3 in the paper,
            which leaves 4 x 4 of 256 pixels.
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
    """Earlier made images, so that a discriminator does not forget them: its state is part of a checkpoint.

    Until `slots` images are held, each is kept and handed on. Then each, with probability one half, takes the place of
    a held one, which is handed on in its stead. Source: Shrivastava et al., "Learning from Simulated and Unsupervised
    Images through Adversarial Training", CVPR 2017. No slots: the images are handed on as they are.

    Args:
        slots: how many images.
        size: their side in pixels.
    """

    images: Tensor
    held: Tensor

    def __init__(self, slots: int, size: int) -> None:
        super().__init__()
        self.register_buffer("images", torch.zeros(slots, 3, size, size))
        self.register_buffer("held", torch.zeros((), dtype=torch.int64))

    def exchange(self, made: Tensor, draws: Sequence[float]) -> Tensor:
        """Hand on (B, 3, S, S) of `made` and held images; `draws` are B numbers in [0, 1), one decides about an image.

        A draw below one half swaps, with the slot that lies as far along the pool as the draw along that half.
        """
        slots, handed = len(self.images), []
        for image, draw in zip(made.detach(), draws, strict=True):
            slot = int(2 * draw * slots)
            if int(self.held) < slots:
                self.images[self.held] = image
                self.held += 1
            elif slot < slots:
                image, self.images[slot] = self.images[slot].clone(), image
            handed.append(image)
        return torch.stack(handed)
