"""k-reciprocal re-ranking (Zhong et al., CVPR 2017) with sparse matrices.

Memory beside input and output: one copy of the features, a tile of at most about 64 MiB, and O(N k).

Shapes: Q queries, G gallery units, N = Q + G points, D feature dimensions, K = list length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vreid.errors import InputError
from vreid.retrieval.distances import SquaredEuclidean
from vreid.retrieval.features import as_features
from vreid.retrieval.neighbours import smallest

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_ROWS = 4096  # rows of a sparse product made together: its intermediate is k / 2 times larger than its result
_PAIRS = 256  # pairs of features compared together: few enough to stay in the cache
_QUERIES = 64  # queries whose Jaccard distances are made together


@dataclass(frozen=True)
class ReRanking:
    """k-reciprocal re-ranking, distance = (1 - lambda_) * Jaccard + lambda_ * original.

    Attributes:
        k1: length of the neighbour lists besides the point itself.
        k2: how many neighbours are averaged (the point itself is the first).
        lambda_: weight of the original distance, 0 to 1. Image level: 20, 6, 0.3; tracklet level (DMT): 7, 2, 0.6.
    """

    k1: int = 20
    k2: int = 6
    lambda_: float = 0.3

    def __post_init__(self) -> None:
        if self.k1 < 1 or self.k2 < 1:
            raise InputError(f"re-ranking: k1 is {self.k1} and k2 is {self.k2}; both must be at least 1.")
        if not 0 <= self.lambda_ <= 1:
            raise InputError(f"re-ranking: lambda_ is {self.lambda_}; it must lie between 0 and 1.")


def rerank(
    query_features: ArrayLike, gallery_features: ArrayLike, *, k1: int = 20, k2: int = 6, lambda_: float = 0.3
) -> NDArray[np.float32]:
    """Re-ranked distances (Q, G) float32, by the textbook convention ("zhong").

    Lists hold the point itself and its k1 nearest among all N points, ties by the smaller index (queries first);
    squared distances are divided by each row's maximum over all N points; a candidate's half list (np.around(k1 / 2)
    nearest) joins when more than 2/3 of it lies in the unexpanded set; weights exp(-d) sum to 1; rows are averaged
    over k2 neighbours; Jaccard = 1 - t / (2 - t) with t the sum of element-wise minima.

    Args:
        query_features: (Q, D), normally L2-normalised.
        gallery_features: (G, D).
        k1: see `ReRanking`; cut to the number of points where it is greater.
        k2: see `ReRanking`.
        lambda_: see `ReRanking`.

    Raises:
        InputError: constants out of range, an empty side, NaN, or unequal dimensions.

    Example:
        >>> rerank([[1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]], k1=1, k2=1).round(3).tolist()
        [[1.0, 0.0]]
    """
    config = ReRanking(k1, k2, lambda_)
    query_QD = as_features(query_features, "query features")
    gallery_GD = as_features(gallery_features, "gallery features")
    if not len(query_QD) or not len(gallery_GD):
        raise InputError(f"re-ranking: {len(query_QD)} queries x {len(gallery_GD)} gallery features; none may be zero.")
    if query_QD.shape[1] != gallery_GD.shape[1]:
        raise InputError(
            f"re-ranking: query features have {query_QD.shape[1]} dimensions, gallery features {gallery_GD.shape[1]}; "
            "extract both with the same model."
        )
    points_ND = np.concatenate([query_QD, gallery_GD])
    if not np.isfinite(points_ND).all():
        raise InputError("re-ranking: features hold NaN or infinity; extract them again.")
    lists, distances_NK, scale_N, original_QG = _neighbour_lists(points_ND, len(query_QD), config)
    weights_NN = _weights(points_ND, lists, distances_NK, scale_N, config.k1)
    if config.k2 > 1:
        weights_NN = _averaged(weights_NN, lists[:, : config.k2])
    return _blend_jaccard(weights_NN, original_QG, config.lambda_)


def _neighbour_lists(
    points_ND: NDArray[np.float32], queries: int, config: ReRanking
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """One pass over all pairs: lists (N, K), their d^2 (N, K), row maxima (N,), and d^2 / row maximum (Q, G)."""
    count = len(points_ND)
    length = min(max(config.k1 + 1, config.k2), count)
    lists = np.empty((count, length), dtype=np.int32)
    distances_NK = np.empty((count, length), dtype=np.float32)
    scale_N = np.empty(count, dtype=np.float32)
    original_QG = np.empty((queries, count - queries), dtype=np.float32)
    for start, tile in SquaredEuclidean(points_ND, points_ND).tiles():
        rows = np.arange(len(tile))
        block = slice(start, start + len(tile))
        largest = tile.max(axis=1)
        scale_N[block] = np.where(largest > 0, largest, 1)  # all points equal: every distance is 0, not 0 / 0
        ours = max(0, min(queries - start, len(tile)))
        original_QG[start : start + ours] = tile[:ours, queries:] / scale_N[start : start + ours, None]
        tile[rows, start + rows] = -1  # the point itself comes first, whatever rounding says
        distances_NK[block], lists[block] = smallest(tile, length)
    distances_NK[:, 0] = 0
    return lists, distances_NK, scale_N, original_QG


def _weights(
    points_ND: NDArray[np.float32],
    lists: NDArray[np.int32],
    distances_NK: NDArray[np.float32],
    scale_N: NDArray[np.float32],
    k1: int,
) -> csr_array[Any]:
    """(N, N) sparse: each row the weights of its expanded k-reciprocal set, summing to 1."""
    from scipy import sparse

    count = len(lists)
    near = _reciprocal(lists[:, : k1 + 1])
    half = _reciprocal(lists[:, : int(np.around(k1 / 2)) + 1])
    half_size = np.diff(half.indptr).astype(np.float32)
    parts = []
    for start in range(0, count, _ROWS):
        mine = near[start : start + _ROWS]
        inside = mine.multiply(mine @ half).tocsr()  # on the pattern of `mine`: |half list of candidate & my set|
        inside.data = (3 * inside.data > 2 * half_size[inside.indices]).astype(np.float32)
        inside.eliminate_zeros()
        parts.append((mine + inside @ half).tocsr())
    expanded = sparse.vstack(parts, format="csr")
    expanded.sort_indices()
    row = np.repeat(np.arange(count), np.diff(expanded.indptr))
    squared = _pair_distances(points_ND, lists, distances_NK, row, expanded.indices)
    value = np.exp(-squared / scale_N[row])
    value /= np.add.reduceat(value, expanded.indptr[:-1])[row]  # no row is empty: a point is its own neighbour
    return sparse.csr_array((value, expanded.indices, expanded.indptr), shape=(count, count))


def _reciprocal(lists: NDArray[np.int32]) -> csr_array[Any]:
    """(N, N) sparse 0/1 float32: i and j are in each other's lists."""
    pattern = _rows_to_sparse(lists, 1.0)
    mutual: csr_array[Any] = pattern.multiply(pattern.T).tocsr()
    return mutual


def _rows_to_sparse(lists: NDArray[np.int32], value: float) -> csr_array[Any]:
    from scipy import sparse

    count, length = lists.shape
    values = np.full(count * length, value, dtype=np.float32)
    starts = np.arange(0, count * length + 1, length)
    matrix = sparse.csr_array((values, lists.ravel(), starts), shape=(count, count))
    matrix.sort_indices()
    return matrix


def _pair_distances(
    points_ND: NDArray[np.float32],
    lists: NDArray[np.int32],
    distances_NK: NDArray[np.float32],
    row: NDArray[np.intp],
    column: NDArray[np.integer],
) -> NDArray[np.float32]:
    """Squared distances of the pairs (row, column), looked up in the lists where they stand there."""
    count, length = lists.shape
    listed = (np.arange(count, dtype=np.int64)[:, None] * count + lists).ravel()
    order = np.argsort(listed)
    wanted = row.astype(np.int64) * count + column
    place = np.minimum(np.searchsorted(listed, wanted, sorter=order), count * length - 1)
    found = order[place]
    squared: NDArray[np.float32] = distances_NK.ravel()[found]
    missing = np.flatnonzero(listed[found] != wanted)
    for start in range(0, len(missing), _PAIRS):
        pair = missing[start : start + _PAIRS]
        difference = points_ND[row[pair]] - points_ND[column[pair]]
        squared[pair] = np.einsum("nd,nd->n", difference, difference)
    return squared


def _averaged(weights_NN: csr_array[Any], lists: NDArray[np.int32]) -> csr_array[Any]:
    """Each row replaced by the mean of the rows of its first neighbours (itself included)."""
    from scipy import sparse

    chosen = _rows_to_sparse(lists, 1 / lists.shape[1])
    parts = [chosen[start : start + _ROWS] @ weights_NN for start in range(0, len(lists), _ROWS)]
    averaged: csr_array[Any] = sparse.vstack(parts, format="csr")
    return averaged


def _blend_jaccard(weights_NN: csr_array[Any], original_QG: NDArray[np.float32], lambda_: float) -> NDArray[np.float32]:
    """(1 - lambda_) * Jaccard + lambda_ * original, written over `original_QG`."""
    queries, gallery = original_QG.shape
    columns = weights_NN[queries:].tocsc()  # for each point, the gallery rows that hold it
    sizes = np.diff(columns.indptr)
    for start in range(0, queries, _QUERIES):
        block = weights_NN[start : min(start + _QUERIES, queries)]
        height = block.shape[0]
        query = np.repeat(np.arange(height), np.diff(block.indptr))
        many = sizes[block.indices]
        within = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
        entry = np.repeat(columns.indptr[block.indices], many) + within
        cell = np.repeat(query, many) * gallery + columns.indices[entry]
        minimum = np.minimum(np.repeat(block.data, many), columns.data[entry])
        shared = np.bincount(cell, weights=minimum, minlength=height * gallery).reshape(height, gallery)
        np.minimum(shared, 1, out=shared)  # rows sum to 1 up to rounding
        jaccard = 1 - shared / (2 - shared)
        output = original_QG[start : start + height]
        output *= np.float32(lambda_)
        output += ((1 - lambda_) * jaccard).astype(np.float32)
    return original_QG
