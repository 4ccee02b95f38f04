"""Losses per image: cross-entropy over classes, and regression of an angle.

Images without a label are ignored: each loss is the sum over labelled images divided by max(1, their number), so a
batch without labels gives 0 and no gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

NO_LABEL = -1
"""Class of an image without a label."""


def classification_loss(logits: Tensor, classes: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Compute the cross-entropy of `logits` (B, C) and `classes` (B,) int64 in float32, mean over images with a class.

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
    """Compute the squared distance of `directions` (B, 2) to (sin, cos) of `degrees` (B,), mean over known angles.

    Angles of NaN are ignored. The loss is periodic: 359 and 1 degree are close. Computed in float32.

    Example:
        >>> round(float(circular_loss(torch.tensor([[1.0, 0.0], [5.0, 5.0]]), torch.tensor([90.0, torch.nan]))), 4)
        0.0
    """
    known = ~degrees.isnan()
    angles = torch.deg2rad(degrees.nan_to_num())  # replace NaN before sin and cos: NaN times 0 in a gradient is NaN
    squared = (directions.float() - torch.stack((angles.sin(), angles.cos()), dim=1)).square().sum(dim=1)
    return (squared * known).sum() / known.sum().clamp(min=1)
