"""Instance-batch normalisation (IBN-a).

Source: Pan et al., "Two at Once: Enhancing Learning and Generalization Capacities via IBN-Net", ECCV 2018.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class IBN(nn.Module):
    """Instance normalisation for a share `ratio` of the C channels, batch normalisation for the others.

    (B, C, H, W) -> same shape. The instance part has learned scale and shift but no running statistics. State keys are
    those of the published IBN-Net files: `IN.weight`, `IN.bias`, `BN.weight`, `BN.bias`, `BN.running_mean`,
    `BN.running_var`.

    Args:
        channels: C.
        ratio: share of channels with instance normalisation.
        batch_first: the first floor((1 - ratio) C) channels use batch normalisation and the others instance
            normalisation, as in the published DenseNets; otherwise the first floor(ratio C) channels use instance
            normalisation.
        relu: apply ReLU afterwards.

    Example:
        >>> IBN(64)(torch.ones(2, 64, 8, 8)).shape
        torch.Size([2, 64, 8, 8])
    """

    def __init__(self, channels: int, ratio: float = 0.5, *, batch_first: bool = False, relu: bool = False) -> None:
        super().__init__()
        first = int(channels * (1 - ratio)) if batch_first else int(channels * ratio)
        self.split = [first, channels - first]
        instance, batch = reversed(self.split) if batch_first else self.split
        self.IN = nn.InstanceNorm2d(instance, affine=True)
        self.BN = nn.BatchNorm2d(batch)
        self.batch_first = batch_first
        self.relu = relu

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W), in the memory layout of the input."""
        first, second = torch.split(maps, self.split, dim=1)
        norms = (self.BN, self.IN) if self.batch_first else (self.IN, self.BN)
        # Both kernels are fastest on contiguous memory; restoring the input's layout keeps the next convolution fast.
        joined = torch.cat((norms[0](first.contiguous()), norms[1](second.contiguous())), dim=1)
        joined = joined.relu_() if self.relu else joined
        channels_last = maps.is_contiguous(memory_format=torch.channels_last) and not maps.is_contiguous()
        return joined.contiguous(memory_format=torch.channels_last) if channels_last else joined
