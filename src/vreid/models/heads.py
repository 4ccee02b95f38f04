"""Attribute and domain heads, and gradient reversal for the adversarial domain head.

Source: Lee et al., "StRDAN: Synthetic-to-Real Domain Adaptation Network for Vehicle Re-Identification", CVPRW 2020,
section 3; gradient reversal: Ganin and Lempitsky, "Unsupervised Domain Adaptation by Backpropagation", ICML 2015.

Shape legend: B images in a batch, D feature length.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

ADVERSARIAL = ("domain",)
"""Heads trained through gradient reversal: the feature is trained so that they cannot predict their label."""


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, features: Tensor, strength: float) -> Tensor:
        context.strength = strength
        return features.view_as(features)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -context.strength * gradients[0], None


def reverse_gradient(features: Tensor, strength: float) -> Tensor:
    """Return `features` unchanged; in the backward pass their gradient is multiplied by -`strength`.

    Example:
        >>> features = torch.ones(2, requires_grad=True)
        >>> reverse_gradient(features, 0.5).sum().backward()
        >>> features.grad.tolist()
        [-0.5, -0.5]
    """
    reversed_: Tensor = _Reversal.apply(features, strength)
    return reversed_


class Heads(nn.ModuleDict):
    """One linear layer per head on the pooled feature: (B, D) -> {name: (B, outputs)}.

    Weights are initialised from N(0, 0.01 ** 2), biases with 0 (StRDAN's code).

    Args:
        num_features: D.
        outputs: number of outputs of each head, by name.
    """

    def __init__(self, num_features: int, outputs: Mapping[str, int]) -> None:
        super().__init__({name: plain_linear(num_features, count) for name, count in outputs.items()})

    def forward(self, features_BD: Tensor, reversal: float) -> dict[str, Tensor]:
        """Return the outputs of each head; adversarial heads apply `reverse_gradient` of strength `reversal`."""
        return {
            name: head(reverse_gradient(features_BD, reversal) if name in ADVERSARIAL else features_BD)
            for name, head in self.items()
        }


def plain_linear(num_features: int, outputs: int) -> nn.Linear:
    """Build a linear layer with bias, initialised as in StRDAN's code."""
    layer = nn.Linear(num_features, outputs)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    return layer
