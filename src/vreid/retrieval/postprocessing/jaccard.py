"""The k-reciprocal encoding and its Jaccard distance with sparse matrices: O(N k) memory.

From lists of neighbours to weights (Zhong et al., CVPR 2017, sections 3.2 to 3.4):

1. the k-reciprocal set R of a point: those among its nearest that have it among theirs;
2. each member whose own, half as long list has more than 2/3 of its k-reciprocal set inside R brings that set along;
3. weights fall exponentially with the distance and sum to 1;
4. each row of weights is replaced by the mean over the first k2 of the list (the point itself is the first);
5. Jaccard = 1 - t / (2 - t), t the sum of the smaller weights of two points.

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
"""Rows of a sparse product computed together: its intermediate is k / 2 times larger than its result."""
CELLS = 1 << 21
"""Cells of a dense piece of Jaccard distances (16 MiB)."""

OfPairs = Callable[[NDArray[np.intp], NDArray[np.integer]], NDArray[np.float32]]
"""Of pairs (row, column) a number: what the weight of a point in another's set is the exponential of, say."""


@dataclass(frozen=True)
class Convention:
    """What published implementations of the same paper do differently.

    Attributes:
        extra: entries of the list besides k1. The paper's code takes k1 + 1, the point itself being one of them;
            OpenUnReID asks its index for k1, the point included, and then cuts at k1 + 1 in vain.
        row_maximum: whether a row of squared distances is divided by its maximum over all points. If not, weights are
            exp(-(2 - 2xy)), which is the squared distance of L2-normalised features only.
        column_maximum: whether, before that, each column is divided by its maximum, so that lists change as well.
    """

    extra: int
    row_maximum: bool
    column_maximum: bool = False


CONVENTIONS = {
    "zhong": Convention(extra=1, row_maximum=True),
    "openunreid": Convention(extra=0, row_maximum=False),
    "dmt-2020": Convention(extra=1, row_maximum=True, column_maximum=True),
}
"""By the name that `neighbours` takes.

zhong: the paper's code, torchreid and fast-reid. openunreid: the Jaccard distance of fast-reid and of DMT's adaptation,
exp(-(2 - 2xy)). OpenUnReID itself takes exp(-d^2) with true squared distances: the same for L2-normalised features,
another number for others. dmt-2020: `re_ranking_numpy` of AICITY2020_DMT_VehicleReID, which divides the matrix by its
maxima and transposes it twice: d_ij / (c_j m_i), c_j the maximum of column j, m_i that of row i after the first
division.
"""


def convention_of(step: str, neighbours: str, points: int, k1: int, k2: int) -> Convention:
    """The convention of that name, after looking whether the constants suit so many points.

    Raises:
        InputError: an unknown name, k1 or k2 below 1, or lists longer than there are points.
    """
    if neighbours not in CONVENTIONS:
        raise InputError(f"{step}: neighbours is {neighbours!r}; choose one of {', '.join(CONVENTIONS)}.")
    for name, value in (("k1", k1), ("k2", k2)):
        check_number(f"{step}: {name}", value, least=1, whole=True)
    convention = CONVENTIONS[neighbours]
    if max(k1 + convention.extra, k2) > points:
        raise InputError(
            f"{step}: k1 is {k1} and k2 is {k2}, but there are only {points} points; choose k1 below and k2 up to that."
        )
    return convention


@dataclass(frozen=True, eq=False)
class Encoding:
    """Points as sparse weights over their k-reciprocal neighbours.

    Attributes:
        weights: (N, N) float32, each row sums to 1, columns ascending.
        lists: the neighbour lists that it was made from.
        columns_by: (N,) float32, what each column of the squared distances was divided by; None: by nothing.
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
    ) -> Encoding:
        """The encoding of `points`; `farthest` asks for `lists.farthest` where the convention does without it.

        `products` asks for `lists.products`.
        """
        length = max(k1 + convention.extra, k2)
        if convention.column_maximum:
            features_ND = np.concatenate(points.parts)

            def squared_distances(row: NDArray[np.intp], column: NDArray[np.integer]) -> NDArray[np.float32]:
                return exact_distances(points, row, points, column, np.float32)

            return cls.from_rows(SquaredEuclidean(features_ND, features_ND), squared_distances, k1, k2, convention)
        lists = neighbour_lists(points, length, farthest=farthest or convention.row_maximum, products=products)

        def exponent(row: NDArray[np.intp], column: NDArray[np.integer]) -> NDArray[np.float32]:
            squared = _pair_distances(points, lists, row, column)
            if convention.row_maximum:
                return by_row_maximum(squared, lists.farthest[row])
            # of 2 - 2xy = 2 + d^2 - |x|^2 - |y|^2 what differs inside a row of x
            return np.asarray((points.squares[column] - squared) * points.unit**2, dtype=np.float32)

        return cls.from_lists(lists, exponent, k1, k2, convention)

    @classmethod
    def from_rows(cls, rows: Source, squared: OfPairs, k1: int, k2: int, convention: Convention) -> Encoding:
        """The encoding of points that are known by whole rows of their distances: any convention of `row_maximum`.

        Args:
            rows: (N, N) symmetric, its tiles made for this call, which writes to them. They may be below 0.
            squared: (row, column) -> the same distances of single pairs.
            k1: see `ReRanking`.
            k2: see `ReRanking`.
            convention: how they are divided.
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
        """The encoding of points that are known by their neighbours and by a function of pairs alone.

        Args:
            lists: at least max(k1 + convention.extra, k2) neighbours of every point, itself first.
            exponent: (row, column) -> logarithm of a weight, up to a constant for each row.
            k1: see `ReRanking`.
            k2: see `ReRanking`.
            convention: its `extra`.
        """
        sets = _expanded(lists.index, k1 + convention.extra, int(np.around(k1 / 2)) + 1)
        weights = _weighted(sets, exponent)
        if k2 > 1:
            weights = _averaged(weights, lists.index, k2)
        if not weights.data.all():  # too far to have a weight at all, so not shared either
            weights.eliminate_zeros()
        return cls(weights, lists)

    def jaccard(
        self, stop: int, *, first_column: int = 0, below: float = 1.0
    ) -> Iterator[tuple[range, NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]]:
        """(range of rows; row, column and Jaccard distance of their pairs below 1 and up to `below`), piece by piece.

        Rows go from 0 to `stop`, columns from `first_column` to N (column numbers count from there); rows ascend, and
        columns ascend in a row. Every pair that is left out has distance 1, or more than `below`.
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
) -> csr_array[Any]:
    """All pairs with k-reciprocal Jaccard distance up to `max_distance`: (N, N) sparse, the diagonal an explicit 0.

    With `cosine_weight` w the distance is (1 - w) * Jaccard + w * C, clipped to [0, 1], where C = (1 - cos) / 2 divided
    by its row's maximum (DMT's adaptation: w = 0.1). Nothing is lost on the way: pairs without a common neighbour have
    Jaccard distance 1, so at least 1 - w in the mixture. The graph is symmetric when w is 0; the division by each
    row's own maximum makes the mixture slightly asymmetric, and DBSCAN reads rows.

    Args:
        features: (N, D), normally L2-normalised.
        k1: list length, as `neighbours` counts it.
        k2: how many neighbours are averaged.
        max_distance: largest distance kept; below 1 - w.
        neighbours: "openunreid" (what adaptation methods publish) or another of `CONVENTIONS`.
        cosine_weight: w, from 0 to below 1.

    Raises:
        InputError: constants out of range, fewer points than neighbours, NaN, or a feature of norm zero.

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
        raise InputError(f"Jaccard graph: cosine_weight is {cosine_weight}; it must be from 0 to below 1.")
    if not 0 <= max_distance < 1 - cosine_weight:
        raise InputError(
            f"Jaccard graph: max_distance is {max_distance}; it must be from 0 to below {1 - cosine_weight:g}, the "
            "distance of points that share no neighbour."
        )
    encoding = Encoding.of(points, k1, k2, convention, farthest=cosine_weight > 0)
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
    """(1 - cos) / 2 of pairs, divided by the row's maximum."""

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


def _column_maxima(rows: Source) -> NDArray[np.float32]:
    """(N,) the largest number of each row, which of a symmetric matrix is that of the column; 1 where that is 0."""
    largest = np.concatenate([tile.max(axis=1) for _, tile in rows.tiles()])
    return np.where(largest > 0, largest, 1).astype(np.float32)


def _expanded(lists: NDArray[np.int32], length: int, half_length: int) -> csr_array[Any]:
    """(N, N) sparse pattern: each row the expanded k-reciprocal set, columns ascending."""
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
    """Starts, indices and values of a compressed matrix as the core takes them."""
    return matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32, copy=False), matrix.data


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


def by_row_maximum(squared: NDArray[np.float32], farthest: NDArray[np.float32]) -> NDArray[np.float32]:
    """Exponents of pairs by the paper's code: squared distances over the largest of their row, negative."""
    return np.asarray(-squared / np.where(farthest > 0, farthest, 1), dtype=np.float32)  # all equal: 0, not 0 / 0


def _weighted(sets: csr_array[Any], exponent: OfPairs) -> csr_array[Any]:
    """`sets` with weights exp(exponent) that sum to 1 in every row."""
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
    """Squared distances of the pairs (row, column), looked up in the lists where they stand there."""
    count, length = lists.index.shape
    listed = (np.arange(count, dtype=np.int64)[:, None] * count + lists.index).ravel()
    order = np.argsort(listed)
    wanted = row.astype(np.int64) * count + column
    place = np.minimum(np.searchsorted(listed, wanted, sorter=order), count * length - 1)
    found = order[place]
    squared: NDArray[np.float32] = lists.squared.ravel()[found]
    missing = np.flatnonzero(listed[found] != wanted)
    company = lists.index.min(axis=1)  # rows that have it in common have others too, which then stay in the cache
    missing = missing[np.argsort(company[row[missing]], kind="stable")]
    squared[missing] = exact_distances(points, row[missing], points, column[missing], np.float32)
    return squared


def _averaged(weights: csr_array[Any], lists: NDArray[np.int32], length: int) -> csr_array[Any]:
    """Each row replaced by the mean of the rows of its first neighbours (itself included)."""
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
