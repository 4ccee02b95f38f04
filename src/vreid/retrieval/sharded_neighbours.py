"""Exact nearest neighbours of features that lie in shards: searched per shard, merged exactly.

A neighbour among all features is a neighbour among those of its shard, so the k nearest of each shard, merged by exact
distance with ties by index, are the k nearest of all. Each pair of shards can be searched by another process. Memory:
one shard of each side, and the lists.

Shapes: Q queries, N features in all shards, K list length, D feature dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vreid.errors import InputError
from vreid.ranges import check_number
from vreid.retrieval.features import as_features
from vreid.retrieval.nearest import Lists, Points, exact_distances, search

Shard = Callable[[], ArrayLike]
"""Loads the features (n, D) of a shard."""


@dataclass(frozen=True, eq=False)
class NearestOf:
    """The nearest of some features to Q queries; lists of disjoint features are merged with `+`, in any order.

    Attributes:
        distances: (Q, K) float32 squared Euclidean distances, ascending, ties by index; each rounded once from float64.
        indices: (Q, K) int64 positions among all features.
        farthest: (Q,) float32 squared distance to the farthest of the features.
        k: wanted list length; K is smaller as long as there are fewer features.
    """

    distances: NDArray[np.float32]
    indices: NDArray[np.int64]
    farthest: NDArray[np.float32]
    k: int

    @classmethod
    def of(
        cls, query_features: ArrayLike, features: ArrayLike, k: int, *, first: int = 0, same: bool = False
    ) -> NearestOf:
        """Search one shard, whose first feature has the position `first` among all.

        Args:
            query_features: (Q, D).
            features: (n, D).
            k: list length.
            first: position of the shard.
            same: both are the same features, and none is its own neighbour.

        Raises:
            InputError: as `vreid.retrieval.nearest.nearest`.
        """
        check_number("nearest: k", k, least=1, whole=True)
        if same:
            queries = others = Points.of("nearest", features=query_features)
        else:
            queries, others = Points.of("nearest", query_features=query_features, gallery_features=features).split()
        count = min(k, len(others) - same)
        found = search(queries, others, count, farthest=True)
        row = np.repeat(np.arange(len(queries)), count)
        exact = exact_distances(queries, row, others, found.index.ravel()).reshape(found.index.shape)
        order = np.lexsort((found.index, exact), axis=1)
        scale = np.float64(queries.unit) ** 2
        return cls(
            (np.take_along_axis(exact, order, axis=1) * scale).astype(np.float32),
            np.take_along_axis(found.index, order, axis=1).astype(np.int64) + first,
            (found.farthest * scale).astype(np.float32),
            k,
        )

    def __add__(self, other: NearestOf) -> NearestOf:
        """Merge the lists of the same queries over two disjoint sets of features."""
        if self.k != other.k or len(self.distances) != len(other.distances):
            raise InputError("nearest: the lists are of other queries or of another length; search all shards alike.")
        distances = np.hstack([self.distances, other.distances])
        indices = np.hstack([self.indices, other.indices])
        order = np.lexsort((indices, distances), axis=1)[:, : self.k]
        return NearestOf(
            np.take_along_axis(distances, order, axis=1),
            np.take_along_axis(indices, order, axis=1),
            np.maximum(self.farthest, other.farthest),
            self.k,
        )


def nearest_in_shards(
    query_features: ArrayLike, shards: Iterable[ArrayLike], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Find the k nearest of all shards for each query: squared Euclidean distances and positions, both (Q, K).

    The positions equal those of `vreid.retrieval.nearest` on all features at once, ties by position.

    Args:
        query_features: (Q, D).
        shards: features (n, D) of each shard in order, for example `(part.features for part in
            FeatureShards.open(...))` or slices of a memory-mapped array; one is held at a time.
        k: list length, limited to the number of features.

    Raises:
        InputError: k is below 1, there is no shard, the dimensions differ, or a feature contains NaN.

    Example:
        >>> distances, positions = nearest_in_shards([[1.0, 0.0]], [[[0.0, 1.0]], [[1.0, 0.0], [0.6, 0.8]]], k=2)
        >>> positions.tolist()
        [[1, 2]]
    """
    best: NearestOf | None = None
    first = 0
    for shard in shards:
        features = as_features(shard, "shard")
        found = NearestOf.of(query_features, features, k, first=first)
        best = found if best is None else best + found
        first += len(features)
    if best is None:
        raise InputError("nearest: there are no shards; give at least one.")
    return best.distances, best.indices


def neighbours_in_shards(shards: Sequence[Shard], length: int) -> Lists:
    """Find the `length` nearest of each feature among those of all shards, itself first, and its farthest.

    `jaccard_graph(..., lists=...)` takes these lists, and makes the same graph of them as of lists of its own.

    Args:
        shards: each loads the features of a shard; two are held at a time, and each is loaded once per shard.
        length: K, the feature itself included.

    Raises:
        InputError: there are fewer than `length` features, or as `nearest_in_shards`.
    """
    check_number("neighbour lists: length", length, least=2, whole=True)
    rows: list[NearestOf] = []
    for mine in shards:
        queries = as_features(mine(), "shard")
        best: NearestOf | None = None
        first = 0
        for shard in shards:
            same = shard is mine
            features = queries if same else as_features(shard(), "shard")
            if len(features) > same:  # a shard of one feature has no neighbour in itself
                found = NearestOf.of(queries, features, length - 1, first=first, same=same)
                best = found if best is None else best + found
            first += len(features)
        if best is None or best.indices.shape[1] < length - 1:
            raise InputError(f"neighbour lists: there are {first} features; give at least {length}.")
        rows.append(best)
    if not rows:
        raise InputError("neighbour lists: there are no shards; give at least one.")
    index, squared, farthest = (
        np.concatenate([getattr(one, name) for one in rows]) for name in ("indices", "distances", "farthest")
    )
    own = np.arange(len(index), dtype=np.int32)[:, None]
    return Lists(
        np.hstack([own, index.astype(np.int32)]), np.hstack([np.zeros(own.shape, np.float32), squared]), farthest
    )
