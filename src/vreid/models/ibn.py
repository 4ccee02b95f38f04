"""Instance-batch normalisation (IBN-a): half of the channels lose their image's style, the other half keep it.

Source: Pan et al., "Two at Once: Enhancing Learning and Generalization Capacities via IBN-Net", ECCV 2018.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class IBN(nn.Module):
    """Normalise the first floor(`ratio` C) channels by instance, the others by batch: (B, C, H, W) -> same shape.

    The instance half has learned scale and shift but no running statistics. State keys are those of the published
    IBN-Net files: `IN.weight`, `IN.bias`, `BN.weight`, `BN.bias`, `BN.running_mean`, `BN.running_var`.

    Example:
        >>> IBN(64)(torch.ones(2, 64, 8, 8)).shape
        torch.Size([2, 64, 8, 8])
    """

    def __init__(self, channels: int, ratio: float = 0.5) -> None:
        super().__init__()
        instance = int(channels * ratio)
        self.split = [instance, channels - instance]
        self.IN = nn.InstanceNorm2d(instance, affine=True)
        self.BN = nn.BatchNorm2d(channels - instance)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W), in the memory layout of the input."""
        instance, batch = torch.split(maps, self.split, dim=1)
        # Both kernels are fastest on plain layout; handing the input's layout back keeps the next convolution fast.
        joined = torch.cat((self.IN(instance.contiguous()), self.BN(batch.contiguous())), dim=1)
        channels_last = maps.is_contiguous(memory_format=torch.channels_last) and not maps.is_contiguous()
        return joined.contiguous(memory_format=torch.channels_last) if channels_last else joined
