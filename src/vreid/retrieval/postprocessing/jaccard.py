"""k-reciprocal encoding and Jaccard distance with sparse matrices, in O(N k) memory.

Steps (Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017, sections 3.2 to 3.4):

1. The k-reciprocal set R of a point: those of its nearest neighbours that have it among their nearest neighbours.
2. R is expanded by the k-reciprocal set, for lists of half the length, of each member if more than 2/3 of it is in R.
3. Weights decrease exponentially with the distance and sum to 1.
4. Each row of weights is replaced by the mean over the k2 nearest neighbours (the point itself is the first).
5. Jaccard distance = 1 - t / (2 - t), where t is the sum of the elementwise minima of two rows of weights.

Shapes: N points, D feature dimensions, K = list length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vreid.errors import InputError
from vreid.ranges import check_number
from vreid.retrieval.distances import SquaredEuclidean
from vreid.retrieval.features import unit_rows
from vreid.retrieval.nearest import Lists, Points, compiled_core, exact_distances, lists_of_rows, neighbour_lists
from vreid.retrieval.tiles import Source

if TYPE_CHECKING:
    from scipy.sparse import csr_array

ROWS = 4096
"""Rows per block of a sparse product, whose intermediate result is k / 2 times larger than the result."""
CELLS = 1 << 21
"""Elements per dense block of Jaccard distances (16 MiB)."""

OfPairs = Callable[[NDArray[np.intp], NDArray[np.integer]], NDArray[np.float32]]
"""Function from pairs (row, column) to a value per pair, for example the logarithm of a weight."""


@dataclass(frozen=True)
class Convention:
    """Differences between published implementations.

    Attributes:
        extra: length of neighbour lists minus k1. The paper's code uses k1 + 1 entries including the point itself;
            OpenUnReID requests k1 from its index, including the point, so its cut at k1 + 1 has no effect.
        row_maximum: divide each row of squared distances by its maximum over all points. Otherwise weights are
            exp(-(2 - 2xy)), where 2 - 2xy is the squared distance only for L2-normalised features.
        column_maximum: before that, divide each column by its maximum, which changes the neighbour lists too.
    """

    extra: int
    row_maximum: bool
    column_maximum: bool = False


CONVENTIONS = {
    "zhong": Convention(extra=1, row_maximum=True),
    "openunreid": Convention(extra=0, row_maximum=False),
    "dmt-2020": Convention(extra=1, row_maximum=True, column_maximum=True),
}
"""Conventions by name (the setting `neighbours`).

zhong: the paper's code, torchreid and fast-reid. openunreid: the Jaccard distance of fast-reid and of DMT's adaptation,
with weights exp(-(2 - 2xy)); OpenUnReID itself uses exp(-d^2) with squared distances d^2, which is equal for
L2-normalised features. dmt-2020: `re_ranking_numpy` of AICITY2020_DMT_VehicleReID, which divides the matrix by its
maxima and transposes it, twice: d_ij / (c_j m_i), where c_j is the maximum of column j and m_i that of row i after the
first division.
"""


def convention_of(step: str, neighbours: str, points: int, k1: int, k2: int) -> Convention:
    """Return the convention of this name after checking k1 and k2 for the number of points.

    Raises:
        InputError: the name is unknown, k1 or k2 is below 1, or lists are longer than the number of points.
    """
    if neighbours not in CONVENTIONS:
        raise InputError(f"{step}: neighbours is {neighbours!r}; choose one of {', '.join(CONVENTIONS)}.")
    for name, value in (("k1", k1), ("k2", k2)):
        check_number(f"{step}: {name}", value, least=1, whole=True)
    convention = CONVENTIONS[neighbours]
    if max(k1 + convention.extra, k2) > points:
        raise InputError(
            f"{step}: k1 is {k1} and k2 is {k2}, but there are only {points} points; set k1 below and k2 to at most "
            "this number."
        )
    return convention


@dataclass(frozen=True, eq=False)
class Encoding:
    """Sparse weights of points over their k-reciprocal neighbours.

    Attributes:
        weights: (N, N) float32; each row sums to 1, columns ascending.
        lists: the neighbour lists.
        columns_by: (N,) float32 divisors of the columns of the squared distances; None: not divided.
    """

    weights: csr_array[Any]
    lists: Lists
    columns_by: NDArray[np.float32] | None = None

    @classmethod
    def of(
        cls,
        points: Points,
        k1: int,
        k2: int,
        convention: Convention,
        *,
        farthest: bool = False,
        products: bool = False,
        lists: Lists | None = None,
    ) -> Encoding:
        """Compute the encoding of `points`.

        `farthest` requests `lists.farthest` even if the convention does not need it, `products` requests
        `lists.products`; `lists` are neighbour lists that are known already.
        """
        length = max(k1 + convention.extra, k2)
        if lists is not None:
            _check_lists(lists, points, length, convention)
        elif convention.column_maximum:
            features_ND = np.concatenate(points.parts)

            def squared_distances(row: NDArray[np.intp], column: NDArray[np.integer]) -> NDArray[np.float32]:
                return exact_distances(points, row, points, column, np.float32)

            return cls.from_rows(SquaredEuclidean(features_ND, features_ND), squared_distances, k1, k2, convention)
        known = lists or neighbour_lists(points, length, farthest=farthest or convention.row_maximum, products=products)

        def exponent(row: NDArray[np.intp], column: NDArray[np.integer]) -> NDArray[np.float32]:
            squared = _pair_distances(points, known, row, column)
            if convention.row_maximum:
                return by_row_maximum(squared, known.farthest[row])
            # the terms of -(2 - 2xy) = |x|^2 + |y|^2 - d^2 - 2 that vary within the row of x
            return np.asarray((points.squares[column] - squared) * points.unit**2, dtype=np.float32)

        return cls.from_lists(known, exponent, k1, k2, convention)

    @classmethod
    def from_rows(cls, rows: Source, squared: OfPairs, k1: int, k2: int, convention: Convention) -> Encoding:
        """Compute the encoding from rows of a distance matrix, for conventions with `row_maximum`.

        Args:
            rows: (N, N) symmetric matrix, which may be negative; its tiles are modified in place.
            squared: (row, column) -> the same distances for single pairs.
            k1: see `ReRanking`.
            k2: see `ReRanking`.
            convention: the convention.
        """
        columns_by = _column_maxima(rows) if convention.column_maximum else None
        lists = lists_of_rows(rows, max(k1 + convention.extra, k2), columns_by)

        def exponent(row: NDArray[np.intp], column: NDArray[np.integer]) -> NDArray[np.float32]:
            distance = squared(row, column)
            divided = distance if columns_by is None else distance / columns_by[column]
            return by_row_maximum(divided, lists.farthest[row])

        encoding = cls.from_lists(lists, exponent, k1, k2, convention)
        return cls(encoding.weights, lists, columns_by)

    @classmethod
    def from_lists(cls, lists: Lists, exponent: OfPairs, k1: int, k2: int, convention: Convention) -> Encoding:
        """Compute the encoding from neighbour lists and a function of pairs.

        Args:
            lists: at least max(k1 + convention.extra, k2) neighbours of each point, itself first.
            exponent: (row, column) -> logarithm of a weight, up to a constant per row.
            k1: see `ReRanking`.
            k2: see `ReRanking`.
            convention: the convention, of which `extra` is used.
        """
        sets = _expanded(lists.index, k1 + convention.extra, int(np.around(k1 / 2)) + 1)
        weights = _weighted(sets, exponent)
        if k2 > 1:
            weights = _averaged(weights, lists.index, k2)
        if not weights.data.all():  # weights that underflow to 0 do not count as shared
            weights.eliminate_zeros()
        return cls(weights, lists)

    def jaccard(
        self, stop: int, *, first_column: int = 0, below: float = 1.0
    ) -> Iterator[tuple[range, NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]]:
        """Yield blocks of (range of rows; row, column and Jaccard distance of pairs with distance below 1).

        Rows go from 0 to `stop`, columns from `first_column` to N (column indices are relative to it); rows ascend, and
        columns ascend within a row. Omitted pairs have distance 1, or more than `below`.
        """
        columns = self.weights[first_column:].tocsc()
        width = columns.shape[0]
        compiled = compiled_core()
        if compiled is not None:
            sides = _parts(self.weights), _parts(columns)
            for start in range(0, stop, ROWS):
                rows = range(start, min(start + ROWS, stop))
                starts, column, jaccard = compiled.jaccard(*sides[0], rows.start, rows.stop, *sides[1], width, below)
                yield rows, np.repeat(np.arange(rows.start, rows.stop), np.diff(starts)), column, jaccard
            return
        sizes = np.diff(columns.indptr)
        height = max(1, CELLS // width)
        for start in range(0, stop, height):
            block = self.weights[start : min(start + height, stop)]
            row = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
            many = sizes[block.indices]
            within = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
            entry = np.repeat(columns.indptr[block.indices], many) + within
            cell = np.repeat(row, many) * width + columns.indices[entry]
            smaller = np.minimum(np.repeat(block.data, many), columns.data[entry])
            shared = np.bincount(cell, weights=smaller)
            cell = np.flatnonzero(shared)
            shared = np.minimum(shared[cell], 1)  # rows sum to 1 up to rounding
            jaccard = (1 - shared / (2 - shared)).astype(np.float32)
            if below < 1:
                keep = jaccard <= below
                cell, jaccard = cell[keep], jaccard[keep]
            row, column = np.divmod(cell, width)
            yield range(start, start + block.shape[0]), start + row, column, jaccard


def jaccard_graph(
    features: ArrayLike,
    *,
    k1: int = 30,
    k2: int = 6,
    max_distance: float,
    neighbours: str = "openunreid",
    cosine_weight: float = 0.0,
    lists: Lists | None = None,
) -> csr_array[Any]:
    """Compute the pairs with k-reciprocal Jaccard distance up to `max_distance`: (N, N) sparse, explicit diagonal 0.

    With `cosine_weight` w, the distance is (1 - w) * Jaccard + w * C, clipped to [0, 1], where C is (1 - cos) / 2
    divided by the maximum of its row (DMT's adaptation: w = 0.1). The result is exact: pairs without a common neighbour
    have Jaccard distance 1 and therefore a distance of at least 1 - w. The graph is symmetric for w = 0; otherwise the
    division by row maxima makes it slightly asymmetric, and DBSCAN reads rows.

    Args:
        features: (N, D), normally L2-normalised.
        k1: list length, in the convention `neighbours`.
        k2: number of neighbours that are averaged.
        max_distance: largest distance kept; below 1 - w.
        neighbours: "openunreid" (used by published adaptation methods) or another of `CONVENTIONS`.
        cosine_weight: w, from 0 to below 1.
        lists: neighbour lists that were made elsewhere, of at least k1 + 1 and k2 points with the farthest
            (`vreid.retrieval.sharded_neighbours`); the features may then be a memory-mapped array, of which single
            pairs are read.

    Raises:
        InputError: a parameter is out of range, there are fewer points than neighbours, or a feature contains NaN or
            has norm zero.

    Example:
        >>> graph = jaccard_graph([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]], k1=2, k2=1, max_distance=0.5)
        >>> graph.indices.tolist(), graph.indptr.tolist()
        ([0, 1, 0, 1, 2, 3, 2, 3], [0, 2, 4, 6, 8])
    """
    from scipy import sparse

    points = Points.of("Jaccard graph", features=features)
    points.need_direction("Jaccard graph")
    convention = convention_of("Jaccard graph", neighbours, len(points), k1, k2)
    if not 0 <= cosine_weight < 1:
        raise InputError(f"Jaccard graph: cosine_weight is {cosine_weight}; give a number from 0 to below 1.")
    if not 0 <= max_distance < 1 - cosine_weight:
        raise InputError(
            f"Jaccard graph: max_distance is {max_distance}; give a number from 0 to below {1 - cosine_weight:g}, the "
            "distance of points without a common neighbour."
        )
    encoding = Encoding.of(points, k1, k2, convention, farthest=cosine_weight > 0, lists=lists)
    below = np.nextafter(np.float32(max_distance / (1 - cosine_weight)), np.float32(1))
    cosine = _Cosine.of(points, encoding) if cosine_weight else None
    rows, columns, values = [], [], []
    for _, row, column, distance in encoding.jaccard(len(points), below=float(below)):
        distance[row == column] = 0
        if cosine:
            mixed = (1 - cosine_weight) * distance + cosine_weight * cosine.of_pairs(row, column)
            distance = np.clip(mixed, 0, 1).astype(np.float32)
        keep = distance <= np.float32(max_distance)
        rows.append(row[keep].astype(np.int32))
        columns.append(column[keep].astype(np.int32))
        values.append(distance[keep])
    starts = np.searchsorted(np.concatenate(rows), np.arange(len(points) + 1))
    return sparse.csr_array((np.concatenate(values), np.concatenate(columns), starts), shape=encoding.weights.shape)


@dataclass(frozen=True, eq=False)
class _Cosine:
    """Distances (1 - cos) / 2 of pairs, divided by the maximum of the row."""

    points: Points
    largest: NDArray[np.float32]

    @classmethod
    def of(cls, points: Points, encoding: Encoding) -> _Cosine:
        if encoding.columns_by is None and np.abs(points.squares - 1).max() < 1e-5:
            return cls(points, encoding.lists.farthest)  # 2 - 2 cos is the squared distance
        points = Points.of("Jaccard graph", features=unit_rows(points.parts[0]))
        return cls(points, neighbour_lists(points, 1, farthest=True).farthest)

    def of_pairs(self, row: NDArray[np.intp], column: NDArray[np.intp]) -> NDArray[np.float64]:
        largest = self.largest[row].astype(np.float64)
        return exact_distances(self.points, row, self.points, column) / np.where(largest > 0, largest, 1)


def _check_lists(lists: Lists, points: Points, length: int, convention: Convention) -> None:
    """Raise `InputError` if `lists` are not those that the encoding of `points` needs."""
    count, given = lists.index.shape
    if convention.column_maximum or points.unit != 1:
        raise InputError("k-reciprocal encoding: known lists need a convention without column maxima and norms near 1.")
    if count != len(points) or given < length:
        raise InputError(
            f"k-reciprocal encoding: the lists are of {count:,} points and {given} neighbours; make them of "
            f"{len(points):,} points and {length} neighbours."
        )


def _column_maxima(rows: Source) -> NDArray[np.float32]:
    """Return the maximum (N,) of each column of a symmetric matrix; 1 if it is 0."""
    largest = np.concatenate([tile.max(axis=1) for _, tile in rows.tiles()])
    return np.where(largest > 0, largest, 1).astype(np.float32)


def _expanded(lists: NDArray[np.int32], length: int, half_length: int) -> csr_array[Any]:
    """Return the expanded k-reciprocal sets as the rows of an (N, N) sparse pattern, columns ascending."""
    from scipy import sparse

    compiled = compiled_core()
    if compiled is not None:
        starts, columns, _ = compiled.expanded(lists, length, half_length)
        return sparse.csr_array((np.ones(len(columns), dtype=np.float32), columns, starts), shape=(len(lists),) * 2)
    near, half = _reciprocal(lists[:, :length]), _reciprocal(lists[:, :half_length])
    half_size = np.diff(half.indptr).astype(np.float32)
    parts = []
    for start in range(0, len(lists), ROWS):
        mine = near[start : start + ROWS]
        inside = mine.multiply(mine @ half).tocsr()  # on the pattern of `mine`: |half list of candidate & my set|
        inside.data = (3 * inside.data > 2 * half_size[inside.indices]).astype(np.float32)
        inside.eliminate_zeros()
        parts.append((mine + inside @ half).tocsr())
    expanded: csr_array[Any] = sparse.vstack(parts, format="csr")
    expanded.sort_indices()
    return expanded


def _parts(matrix: Any) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """Return row offsets, indices and values of a compressed matrix in the types of the core."""
    return matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32, copy=False), matrix.data


def _reciprocal(lists: NDArray[np.int32]) -> csr_array[Any]:
    """Return the (N, N) sparse 0/1 matrix of pairs that are in each other's lists."""
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


def by_row_maximum(squared: NDArray[np.float32], farthest: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the exponents of the paper's code: negative squared distances divided by the maximum of their row."""
    return np.asarray(-squared / np.where(farthest > 0, farthest, 1), dtype=np.float32)  # all equal: 0, not 0 / 0


def _weighted(sets: csr_array[Any], exponent: OfPairs) -> csr_array[Any]:
    """Compute weights exp(exponent) on the pattern `sets`, normalised to sum 1 in each row."""
    from scipy import sparse

    row = np.repeat(np.arange(sets.shape[0]), np.diff(sets.indptr))
    exponents = exponent(row, sets.indices)
    starts = sets.indptr[:-1]  # no row is empty: a point is its own neighbour
    value = np.exp(exponents - np.maximum.reduceat(exponents, starts)[row])
    value /= np.add.reduceat(value, starts)[row]
    return sparse.csr_array((value, sets.indices, sets.indptr), shape=sets.shape)


def _pair_distances(
    points: Points, lists: Lists, row: NDArray[np.intp], column: NDArray[np.integer]
) -> NDArray[np.float32]:
    """Return the squared distances of pairs (row, column), from the lists if they contain them."""
    count, length = lists.index.shape
    listed = (np.arange(count, dtype=np.int64)[:, None] * count + lists.index).ravel()
    order = np.argsort(listed)
    wanted = row.astype(np.int64) * count + column
    place = np.minimum(np.searchsorted(listed, wanted, sorter=order), count * length - 1)
    found = order[place]
    squared: NDArray[np.float32] = lists.squared.ravel()[found]
    missing = np.flatnonzero(listed[found] != wanted)
    company = lists.index.min(axis=1)  # rows with the same smallest neighbour share others, which stay in the cache
    missing = missing[np.argsort(company[row[missing]], kind="stable")]
    squared[missing] = exact_distances(points, row[missing], points, column[missing], np.float32)
    return squared


def _averaged(weights: csr_array[Any], lists: NDArray[np.int32], length: int) -> csr_array[Any]:
    """Replace each row by the mean of the rows of its first neighbours (itself included)."""
    from scipy import sparse

    compiled = compiled_core()
    if compiled is not None:
        starts, columns, values = compiled.averaged(*_parts(weights), lists, length)
        return sparse.csr_array((values, columns, starts), shape=weights.shape)
    chosen = _rows_to_sparse(lists[:, :length], 1 / length)
    parts = [chosen[start : start + ROWS] @ weights for start in range(0, len(lists), ROWS)]
    averaged: csr_array[Any] = sparse.vstack(parts, format="csr")
    averaged.sort_indices()
    return averaged
