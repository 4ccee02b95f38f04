"""Circle loss in plain loops, as one would explain it."""

from __future__ import annotations

import math
from collections.abc import Sequence


def cosine(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True)) / (math.hypot(*left) * math.hypot(*right))


def circle_loss(
    features: Sequence[Sequence[float]], identities: Sequence[int], *, margin: float = 0.35, scale: float = 64.0
) -> float:
    losses = []
    for i, anchor in enumerate(features):
        positives, negatives = [], []
        for j, other in enumerate(features):
            s = cosine(anchor, other)
            if i == j:
                continue
            if identities[i] == identities[j]:
                positives.append(math.exp(-scale * max(0.0, 1 + margin - s) * (s - (1 - margin))))
            else:
                negatives.append(math.exp(scale * max(0.0, s + margin) * (s - margin)))
        if positives and negatives:
            losses.append(math.log1p(sum(positives) * sum(negatives)))
    return sum(losses) / max(len(losses), 1)
