"""Losses on what a model says of each image: cross-entropy over classes, and the direction of an angle.

Images without a label take no part: each loss is the sum over labelled images divided by max(1, their number), so a
batch without any gives 0 and no gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

NO_LABEL = -1
"""Class of an image that has none."""


def classification_loss(logits: Tensor, classes: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of `logits` (B, C) against `classes` (B,) int64 in float32, mean over images with a class.

    With smoothing e the target is (1 - e) one-hot + e / C (Szegedy et al., "Rethinking the Inception Architecture",
    CVPR 2016, section 7); DMT and StRDAN use e = 0.

    Example:
        >>> round(float(classification_loss(torch.tensor([[0.0, 0.0], [9.0, 0.0]]), torch.tensor([1, NO_LABEL]))), 4)
        0.6931
    """
    total = functional.cross_entropy(
        logits.float(), classes, label_smoothing=label_smoothing, ignore_index=NO_LABEL, reduction="sum"
    )
    return total / (classes != NO_LABEL).sum().clamp(min=1)


def circular_loss(directions: Tensor, degrees: Tensor) -> Tensor:
    """Squared distance of `directions` (B, 2) to (sin, cos) of `degrees` (B,), mean over images whose angle is not NaN.

    Unlike classes, 359 and 1 degree are neighbours. In float32.

    Example:
        >>> round(float(circular_loss(torch.tensor([[1.0, 0.0], [5.0, 5.0]]), torch.tensor([90.0, torch.nan]))), 4)
        0.0
    """
    known = ~degrees.isnan()
    angles = torch.deg2rad(degrees.nan_to_num())  # before the functions: NaN times 0 in a gradient is NaN
    squared = (directions.float() - torch.stack((angles.sin(), angles.cos()), dim=1)).square().sum(dim=1)
    return (squared * known).sum() / known.sum().clamp(min=1)
