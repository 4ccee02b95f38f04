"""Exact nearest neighbours in tiles, with a few tiles in memory; ties by index.

Candidates come from a rounded matrix product (`candidates.py` explains why none is missed) and are sorted by float64
distances. The lists are therefore those of float64 distances rounded once to float32, independent of tile sizes, the
compiled core and bfloat16 units. The returned distances have this accuracy with the core and on devices; in numpy,
distances whose order was certain keep the rounding of the float32 product.

Shapes: N points, Q queries, G gallery features, D feature dimensions, K = list length.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vreid.ranges import check_number
from vreid.retrieval.nearest.candidates import Candidates, window
from vreid.retrieval.nearest.core import compiled_core, has_matrix_units, num_threads
from vreid.retrieval.nearest.lists import Lists
from vreid.retrieval.nearest.points import Points, exact_distances
from vreid.retrieval.tensors import like
from vreid.retrieval.tiles import Source, strips

TILE = 1600
"""Maximum number of rows and columns of a tile."""
FEW_QUERIES = 128
"""With fewer queries, rounding the gallery for matrix units does not pay off."""
_SAMPLE = 1024  # about so many features are sampled to estimate their centre
MANY_FAILED = 16
"""If more than one row in this many fails, all are searched again without rounding."""
_ABOVE = np.float32(np.inf)
_ROWS = 32  # rows per block: their copy fits in the cache


def nearest(
    query_features: ArrayLike, gallery_features: ArrayLike, k: int
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Find the k nearest gallery features of each query: squared Euclidean distances and indices, both (Q, k).

    Neighbours are sorted by float64 distance, ties in gallery order; k is limited to the size of the gallery. Torch
    tensors are searched on their device, and tensors on it are returned.

    Raises:
        InputError: k is below 1, a side is empty, the dimensions differ, or a feature contains NaN.

    Example:
        >>> distances, indices = nearest([[1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]], k=2)
        >>> indices.tolist(), distances.tolist()
        ([[1, 0]], [[0.0, 2.0]])
    """
    both = Points.of("nearest", query_features=query_features, gallery_features=gallery_features)
    check_number("nearest: k", k, least=1, whole=True)
    queries, gallery = both.split()
    lists = search(queries, gallery, min(k, len(gallery)))
    squared = lists.squared if both.unit == 1 else (lists.squared * np.float64(both.unit) ** 2).astype(np.float32)
    return like(query_features, squared), like(query_features, lists.index)


def neighbour_lists(points: Points, length: int, *, farthest: bool = False, products: bool = False) -> Lists:
    """Find the `length` nearest of each point among all points, itself always first, and its farthest point."""
    found = search(points, points, length - 1, farthest=farthest, products=products)
    own = np.arange(len(points), dtype=np.int32)[:, None]
    index = np.hstack([own, found.index])
    return Lists(
        index, np.hstack([np.zeros(own.shape, dtype=np.float32), found.squared]), found.farthest, found.products
    )


def lists_of_rows(rows: Source, length: int, columns_by: NDArray[np.float32] | None = None) -> Lists:
    """Find the `length` smallest values of each row of an (N, N) matrix, the diagonal first, and the largest.

    Args:
        rows: the matrix; its tiles are modified in place.
        length: K.
        columns_by: (N,) divisor of each column.
    """
    count = rows.shape[0]
    shape = count, length
    lists = Lists(np.empty(shape, np.int32), np.empty(shape, np.float32), np.empty(count, np.float32))
    for start, tile in rows.tiles():
        if columns_by is not None:
            tile /= columns_by
        own = np.arange(start, start + len(tile))
        tile[own - start, own] = 0
        lists.farthest[own] = tile.max(axis=1)
        tile[own - start, own] = -np.inf  # itself first, even where others are below 0
        lists.squared[own], lists.index[own] = smallest(tile, length)
    return lists


def search(points: Points, others: Points, count: int, *, farthest: bool = False, products: bool = False) -> Lists:
    """Find the `count` nearest of `others` for each of `points`; if both are the same, a point excludes itself."""
    rounded = len(points) >= FEW_QUERIES and has_matrix_units() and compiled_core() is not None
    products = products and points.device is None and not rounded
    lists = Lists(
        np.empty((len(points), count), dtype=np.int32),
        np.empty((len(points), count), dtype=np.float32),
        np.zeros(len(points), dtype=np.float32),
        np.empty([len(part) for part in points.parts], dtype=np.float32) if products else None,
    )
    if points.device is not None:
        from vreid.retrieval.nearest.device import propose

        failed = propose(points, others, lists, farthest, points.device)
    elif compiled_core() is None:
        failed = _by_numpy(points, others, lists, farthest)
    else:
        failed = propose_by_core(points, others, lists, farthest, rounded=rounded)
        if rounded and len(failed) > len(points) // MANY_FAILED:
            failed = propose_by_core(points, others, lists, farthest, rounded=False)
    for row, columns, exact, far in _whole_rows(points, others, failed, count):
        order = np.lexsort((columns, exact))[:count]
        lists.index[row], lists.squared[row], lists.farthest[row] = columns[order], exact[order], far
    return lists


def propose_by_core(points: Points, others: Points, lists: Lists, farthest: bool, *, rounded: bool) -> NDArray[np.intp]:
    """Fill `lists` with the compiled core, from bfloat16 products if `rounded`; return the rows that failed."""
    compiled = compiled_core()
    assert compiled is not None
    alone = points is others
    ours = compiled.Points(list(points.parts))
    theirs = ours if alone else compiled.Points(list(others.parts))
    squares, other_squares, rounding = points.squares, others.squares, None
    if rounded:
        some = others.parts[-1][:: max(1, len(others) // _SAMPLE)]  # any centre is valid; one near the mean is best
        centre = some.mean(axis=0)
        packed = compiled.Packed(ours, centre)
        other_packed = packed if alone else compiled.Packed(theirs, centre)
        squares, other_squares = packed.squares, other_packed.squares
        rounding = (packed.rounding, other_packed.rounding)
    scan = compiled.Search(
        ours,
        theirs,
        alone,
        squares.astype(np.float32),
        other_squares.astype(np.float32),
        np.nextafter(window(squares, other_squares, points.dimensions, rounding=rounding).astype(np.float32), _ABOVE),
        lists.index.shape[1],
        farthest,
        num_threads(),
    )
    if rounded:
        scan.multiply_bfloat16(packed, other_packed)
    else:
        for row, column, tile in _products(points, others, lists.products):
            scan.offer(row, column, tile)
    failed: NDArray[np.intp] = scan.finish(lists.index, lists.squared, lists.farthest)
    return failed


def _by_numpy(points: Points, others: Points, lists: Lists, farthest: bool) -> NDArray[np.intp]:
    """Fill `lists` with numpy; return the rows that failed."""
    alone, far, count = points is others, lists.farthest, lists.index.shape[1]
    candidates = Candidates(count, window(points.squares, others.squares, points.dimensions)) if count else None
    squares, other_squares = points.squares.astype(np.float32), others.squares.astype(np.float32)
    for row, column, tile in _products(points, others, lists.products):
        rows, columns = slice(row, row + tile.shape[0]), slice(column, column + tile.shape[1])
        for strip in strips(tile):
            part = tile[strip]
            part *= np.float32(-2)
            part += other_squares[columns]
            part += squares[rows][strip, None]
            if farthest:
                np.maximum(far[rows][strip], part.max(axis=1), out=far[rows][strip])
                if alone:
                    np.maximum(far[columns], part.max(axis=0), out=far[columns])
        if alone and row == column:
            np.fill_diagonal(tile, np.inf)
        if candidates:
            candidates.offer(row, column, tile)
            if alone and row != column:
                candidates.offer(column, row, tile.T)
    if not candidates:
        return np.empty(0, dtype=np.intp)
    for found, index, squared in candidates.decided(points, others):
        lists.index[found], lists.squared[found] = index, squared
    return np.flatnonzero(candidates.failed)


def _products(
    points: Points, others: Points, between: NDArray[np.float32] | None
) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    """Yield (first row, first column, dot products) in tiles; only the upper triangle if both sides are the same.

    The products of the first part with the second are also written to `between`.
    """
    split = len(points.parts[0])
    buffer = np.empty(TILE * TILE, dtype=np.float32)
    for row, ours in points.blocks(TILE):
        for column, theirs in others.blocks(TILE):
            if points is not others or row <= column:
                tile = buffer[: len(ours) * len(theirs)].reshape(len(ours), len(theirs))
                np.matmul(ours, theirs.T, out=tile)
                if between is not None and row < split <= column:
                    between[row : row + len(ours), column - split : column - split + len(theirs)] = tile
                yield row, column, tile


def _whole_rows(
    points: Points, others: Points, rows: NDArray[np.intp], count: int
) -> Iterator[tuple[int, NDArray[np.int32], NDArray[np.float32], np.float32]]:
    """Yield (row, columns, exact distances, largest distance) of rows with too many candidates too close to call.

    The product is computed again in float64, after which hardly more than true ties remain; equal features (a broken
    model gives thousands) are compared once.
    """
    if not len(rows):
        return
    equal = _first_equal(others)
    error = window(points.squares, others.squares, points.dimensions, np.float64)
    for start in range(0, len(rows), _ROWS):
        batch = rows[start : start + _ROWS]
        ours = points.take(batch)
        distances = np.empty((len(batch), len(others)))
        for column, theirs in others.blocks(TILE):
            np.matmul(ours, theirs.astype(np.float64).T, out=distances[:, column : column + len(theirs)])
        distances *= -2
        distances += others.squares
        distances += points.squares[batch, None]
        for row, line in zip(batch, distances, strict=True):
            far = np.flatnonzero(line >= line.max() - error[row])
            if points is others:
                line[row] = np.inf
            near = far[:0]
            if count:
                limit = np.partition(line, count - 1)[count - 1] + error[row]
                near = np.flatnonzero(line <= limit * (1 + 2.0**-22))  # all that may round to the same float32
            both, place = np.unique(equal[np.concatenate([near, far])], return_inverse=True)
            exact = exact_distances(points, np.array([row]), others, both)[place]
            yield int(row), near.astype(np.int32), exact[: len(near)], exact[len(near) :].max()


def _first_equal(points: Points) -> NDArray[np.intp]:
    """Return, for each point, the first point (N,) with bit-identical features."""
    first: dict[bytes, int] = {}
    out = np.empty(len(points), dtype=np.intp)
    for start, block in points.blocks(TILE):
        for i, feature in enumerate(block, start=start):
            out[i] = first.setdefault(hashlib.blake2b(feature, digest_size=16).digest(), i)
    return out


def smallest(tile: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return the k smallest values of each row and their columns, both (rows, k), ascending, ties by column."""
    rows, columns = tile.shape
    k = min(k, columns)
    values = np.empty((rows, k), dtype=np.float32)
    indices = np.empty((rows, k), dtype=np.int32)
    for start in range(0, rows, _ROWS):
        block = tile[start : start + _ROWS]
        # SIMD selection of values, then few candidates per row (more than k only for ties): faster than argpartition
        last = np.partition(block, k - 1, axis=1)[:, k - 1 : k]
        row, column = np.divmod(np.flatnonzero(block <= last), columns)
        value = block[row, column]
        order = np.lexsort((column, value, row))
        first = np.searchsorted(row, np.arange(len(block)))  # rows ascend, before and after sorting
        chosen = order[first[:, None] + np.arange(k)]
        values[start : start + _ROWS] = value[chosen]
        indices[start : start + _ROWS] = column[chosen]
    return values, indices
