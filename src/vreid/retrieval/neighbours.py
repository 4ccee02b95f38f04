"""Exact nearest neighbours in row tiles: never more than a few tiles in memory, equal distances by index."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vreid.errors import InputError
from vreid.retrieval.distances import SquaredEuclidean
from vreid.retrieval.features import as_features

_ROWS = 32  # rows selected from together: their copy stays in the cache


def nearest(
    query_features: ArrayLike, gallery_features: ArrayLike, k: int
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The k nearest gallery features of each query: squared Euclidean distances and indices, both (Q, k).

    Exact; ascending; equal distances in gallery order; k is cut to the size of the gallery.

    Raises:
        InputError: k below 1, empty or unequal sides.

    Example:
        >>> distances, indices = nearest([[1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]], k=2)
        >>> indices.tolist(), distances.tolist()
        ([[1, 0]], [[0.0, 2.0]])
    """
    source = SquaredEuclidean(as_features(query_features, "query features"), as_features(gallery_features, "gallery"))
    rows, columns = source.shape
    if k < 1 or not rows or not columns:
        raise InputError(f"nearest: k is {k}, for {rows} queries x {columns} gallery features; none may be zero.")
    distances = np.empty((rows, min(k, columns)), dtype=np.float32)
    indices = np.empty(distances.shape, dtype=np.int32)
    for start, tile in source.tiles():
        stop = start + len(tile)
        distances[start:stop], indices[start:stop] = smallest(tile, k)
    return distances, indices


def smallest(tile: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The k smallest numbers of each row and their columns, both (rows, k), ascending, ties by column."""
    rows, columns = tile.shape
    k = min(k, columns)
    values = np.empty((rows, k), dtype=np.float32)
    indices = np.empty((rows, k), dtype=np.int32)
    for start in range(0, rows, _ROWS):
        block = tile[start : start + _ROWS]
        # SIMD selection of values, then few candidates a row (more than k only on ties): much faster than argpartition
        last = np.partition(block, k - 1, axis=1)[:, k - 1 : k]
        row, column = np.divmod(np.flatnonzero(block <= last), columns)
        value = block[row, column]
        order = np.lexsort((column, value, row))
        first = np.searchsorted(row, np.arange(len(block)))  # rows ascend, before and after sorting
        chosen = order[first[:, None] + np.arange(k)]
        values[start : start + _ROWS] = value[chosen]
        indices[start : start + _ROWS] = column[chosen]
    return values, indices
