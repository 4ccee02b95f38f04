"""Cross-entropy and the distance of directions in plain loops, images without a label left out."""

from __future__ import annotations

import math
from collections.abc import Sequence


def classification_loss(logits: Sequence[Sequence[float]], classes: Sequence[int], smoothing: float = 0.0) -> float:
    losses = []
    for row, wanted in zip(logits, classes, strict=True):
        if wanted < 0:
            continue
        top = max(row)
        log_sum = top + math.log(sum(math.exp(value - top) for value in row))
        target = [smoothing / len(row) + (1 - smoothing) * (place == wanted) for place in range(len(row))]
        losses.append(sum(share * (log_sum - value) for share, value in zip(target, row, strict=True)))
    return sum(losses) / max(1, len(losses))


def circular_loss(directions: Sequence[Sequence[float]], degrees: Sequence[float]) -> float:
    losses = [
        (sine - math.sin(math.radians(angle))) ** 2 + (cosine - math.cos(math.radians(angle))) ** 2
        for (sine, cosine), angle in zip(directions, degrees, strict=True)
        if not math.isnan(angle)
    ]
    return sum(losses) / max(1, len(losses))
