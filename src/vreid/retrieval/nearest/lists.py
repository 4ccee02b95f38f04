"""Nearest-neighbour lists of N points.

Shapes: N points, K list length, Q and G points of the two parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Lists:
    """The nearest neighbours of each point.

    Attributes:
        index: (N, K) int32 neighbours, ascending by distance, ties by index.
        squared: (N, K) float32 squared distances (of the features in `Points`).
        farthest: (N,) float32 squared distance to the farthest point, if requested.
        products: (Q, G) float32 dot products of the first part with the second, if requested and computed anyway.
    """

    index: NDArray[np.int32]
    squared: NDArray[np.float32]
    farthest: NDArray[np.float32]
    products: NDArray[np.float32] | None = None
