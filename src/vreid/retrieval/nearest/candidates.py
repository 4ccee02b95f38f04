"""Exact k nearest neighbours from rounded distances with an error bound.

Rounded distances d~ come from a matrix product: |d~ - d| <= E for every pair of a row. With t the k-th smallest d~ seen
so far, k columns have d <= t + E, so a column with d~ > t + 2E is not among the k nearest. All other columns are kept,
and candidates within 2E of each other are ordered by exact distances. The result is therefore independent of the number
format of d~ (float32 or bfloat16), of the tiles and of their order.

Shapes: N points, D feature dimensions, R x C a tile.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vreid.retrieval.nearest.points import Points, exact_distances

_MAX = np.finfo(np.float32).max
_UNIT_ROUNDOFF = {np.dtype(np.float32): 2.0**-24, np.dtype(np.float64): 2.0**-53}


def window(
    squares: NDArray[np.float64],
    other_squares: NDArray[np.float64],
    dimensions: int,
    dtype: type[np.floating] = np.float32,
    rounding: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> NDArray[np.float64]:
    """Compute the bound 2E (N,) of each point against all others from the squared norms of both sides.

    A dot product of D terms accumulated in `dtype`, in any order, fused or not, has an error of at most
    D u / (1 - D u) |x||y| (Higham, Accuracy and Stability, section 3.1); the sum |x|^2 + |y|^2 - 2xy, the rounding of
    the squares and that of the exact distance add a few u of |x|^2 + |y|^2. `rounding` is the distance |x - x'| of each
    feature of both sides from its rounded version x' (bfloat16): xy - x'y' = (x - x')y + x'(y - y').
    """
    unit = _UNIT_ROUNDOFF[np.dtype(dtype)]
    terms = (dimensions + 4) * unit
    ours, theirs = np.sqrt(squares), np.sqrt(other_squares.max())
    product: NDArray[np.float64] = np.zeros(len(squares))
    if rounding:
        product = rounding[0] * theirs + (ours + rounding[0]) * rounding[1].max()
        ours, theirs = ours + rounding[0], theirs + rounding[1].max()
    product = product + terms / (1 - terms) * ours * theirs
    error: NDArray[np.float64] = 2 * product + 16 * unit * (ours**2 + theirs**2)
    return 2 * error


class Candidates:
    """Collect, for each of N rows, the columns that may be among its `count` smallest, tile by tile.

    Tiles may come in any order, but always with the same blocks of rows. If more than `capacity` columns are too close
    to call, the farther ones are dropped; a row whose result may be affected is marked in `failed` and must be computed
    in another way.
    """

    def __init__(self, count: int, window: NDArray[np.float64], capacity: int | None = None) -> None:
        self.count = count
        self.capacity = capacity or max(64, 8 * count)
        self.failed = np.zeros(len(window), dtype=bool)
        self._window = np.nextafter(window.astype(np.float32), np.float32(np.inf))
        self._lost = np.full(len(window), np.inf, dtype=np.float32)  # the smallest dropped value
        self._limit = np.full(len(window), _MAX, dtype=np.float32)
        self._held: dict[int, list[tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32]]]] = {}
        self._rows: dict[int, int] = {}

    def offer(self, first_row: int, first_column: int, tile: NDArray[np.float32]) -> None:
        """Add the candidates of a tile (R, C) of distances, from `first_row` and `first_column`.

        The tile may be a transposed view; +inf: not a candidate.
        """
        rows, columns = tile.shape
        limit = self._limit[first_row : first_row + rows]
        if columns > self.count and limit.max() == _MAX:
            smallest = np.partition(tile, self.count - 1, axis=1)[:, self.count - 1]
            bound = smallest + self._window[first_row : first_row + rows]
            np.minimum(limit, np.nextafter(bound, np.float32(np.inf)), out=limit)
        if tile.flags.c_contiguous:
            row, column = np.divmod(np.flatnonzero(tile <= limit[:, None]), columns)
        else:
            column, row = np.divmod(np.flatnonzero(limit >= tile.T), rows)
        if not len(row):
            return
        held = self._held.setdefault(first_row, [])
        held.append((row.astype(np.int32), tile[row, column], (column + first_column).astype(np.int32)))
        self._rows[first_row] = rows
        if sum(len(part[0]) for part in held) > 4 * max(self.count, 8) * rows:
            self._prune(first_row)

    def _prune(self, first_row: int) -> None:
        """Lower the limits of a block of rows and drop the candidates beyond them."""
        held = self._held[first_row]
        row, value, column = (np.concatenate([part[i] for part in held]) for i in range(3))
        order = np.argsort((row.astype(np.int64) << 32) + _sortable(value))
        row, value, column = row[order], value[order], column[order]
        block = slice(first_row, first_row + self._rows[first_row])
        limit = self._limit[block]
        start = np.searchsorted(row, np.arange(len(limit) + 1))
        full = np.flatnonzero(np.diff(start) >= self.count)
        bound = value[start[full] + self.count - 1] + self._window[block][full]
        limit[full] = np.minimum(limit[full], np.nextafter(bound, np.float32(np.inf)))
        keep = value <= limit[row]
        row, value, column = row[keep], value[keep], column[keep]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        over = place == self.capacity
        self._lost[first_row + row[over]] = np.minimum(self._lost[first_row + row[over]], value[over])
        np.minimum(limit, self._lost[block], out=limit)
        room = place < self.capacity
        self._held[first_row] = [(row[room], value[room], column[room])]

    def decided(
        self, points: Points, others: Points
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.int32], NDArray[np.float32]]]:
        """Yield (rows, their columns (rows, count), squared distances) sorted by exact distance, block by block.

        If two candidates differ by more than 2E, their order is certain and d~ is returned; otherwise exact distances
        are computed. Failed rows are included.
        """
        for first_row in sorted(self._rows):
            self._prune(first_row)
            row, value, column = self._held.pop(first_row)[0]
            place = np.arange(len(row)) - np.searchsorted(row, row)
            last = place == self.count - 1
            full = first_row + row[last]
            bound = np.nextafter(value[last] + self._window[full], np.float32(np.inf))
            self.failed[full] = bound >= self._lost[full]
            apart = (place == 0) | (np.diff(value, prepend=0) > self._window[first_row + row])
            run = np.cumsum(apart) - 1
            needed = place[apart][run] < self.count
            unsure = needed & (np.bincount(run)[run] > 1)
            value[unsure] = exact_distances(points, first_row + row[unsure], others, column[unsure])
            row, value, column = row[needed], value[needed], column[needed]
            order = np.lexsort((column, value, row))
            rows = np.unique(row)
            chosen = order[np.searchsorted(row, rows)[:, None] + np.arange(self.count)]
            yield first_row + rows, column[chosen], np.maximum(value[chosen], 0)


def _sortable(values: NDArray[np.float32]) -> NDArray[np.int32]:
    """Map floating-point values to integers of the same order."""
    bits = values.view(np.int32)
    return bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
