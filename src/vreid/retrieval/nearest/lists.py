"""Lists of the nearest neighbours of N points.

Shapes: N points, K list length, Q and G points of the two parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Lists:
    """The nearest of every point.

    Attributes:
        index: (N, K) int32, ascending by distance, ties by index.
        squared: (N, K) float32, their squared distances (of the features that `Points` holds).
        farthest: (N,) float32, squared distance to the farthest point where somebody asked.
        products: (Q, G) float32, products of the first part with the second where somebody asked and the search needed
            them too.
    """

    index: NDArray[np.int32]
    squared: NDArray[np.float32]
    farthest: NDArray[np.float32]
    products: NDArray[np.float32] | None = None
