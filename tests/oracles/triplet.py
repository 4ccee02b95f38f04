"""Batch-hard triplet loss in plain loops, as one would explain it."""

from __future__ import annotations

import math
from collections.abc import Sequence


def distance(left: Sequence[float], right: Sequence[float]) -> float:
    return math.sqrt(max(sum((a - b) ** 2 for a, b in zip(left, right, strict=True)), 1e-12))


def triplet_loss(
    features: Sequence[Sequence[float]],
    identities: Sequence[int],
    *,
    form: str = "soft",
    squared: bool = False,
    margin: float = 0.0,
) -> float:
    total = 0.0
    for i, anchor in enumerate(features):
        farthest, nearest = 0.0, math.inf
        for j, other in enumerate(features):
            d = distance(anchor, other)
            if identities[i] == identities[j]:
                farthest = max(farthest, d)
            else:
                nearest = min(nearest, d)
        gap = (farthest**2 - nearest**2 if squared else farthest - nearest) + margin
        total += max(gap, 0.0) if form == "hinge" else max(gap, 0.0) + math.log1p(math.exp(-abs(gap)))
    return total / len(features)
