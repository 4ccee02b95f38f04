"""From features of unlabelled images to pseudo labels.

Shapes: N images, D feature dimensions, C clusters.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vreid.data.records import Records
from vreid.errors import InputError


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """Which cluster each image is of.

    Attributes:
        labels: (N,) int32 clusters from 0 without gaps; -1 is noise, which takes no part in training.
        eps, min_samples, k1: what DBSCAN and the k-reciprocal encoding were given.
        reasons: one sentence for each setting that the data decided, and for what was noticed on the way.
        records: the N images.
        centres: (C, D) float32 mean of the processed features of each cluster.

    Raises:
        InputError: labels that do not fit the records, or with gaps.
    """

    labels: NDArray[np.int32]
    eps: float
    min_samples: int
    k1: int
    reasons: tuple[str, ...]
    records: Records
    centres: NDArray[np.float32]

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", np.ascontiguousarray(self.labels, dtype=np.int32))
        if self.labels.shape != (len(self.records),):
            raise InputError(f"PseudoLabels: {self.labels.shape} labels for {len(self.records):,} images.")
        present = np.unique(self.labels[self.labels >= 0])
        if len(present) and present[-1] != len(present) - 1:
            raise InputError("PseudoLabels: clusters must be numbered from 0 without gaps.")

    @property
    def clusters(self) -> int:
        """C."""
        return int(self.labels.max(initial=-1)) + 1

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """(C,) images of each cluster."""
        return np.bincount(self.labels[self.labels >= 0], minlength=self.clusters)

    @property
    def noise(self) -> float:
        """Share of the images that are of no cluster."""
        return float((self.labels < 0).mean()) if len(self.labels) else 0.0
