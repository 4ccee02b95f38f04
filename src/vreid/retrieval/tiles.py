"""Matrices that are produced a tile of rows at a time, so that none is held whole.

Shapes: Q rows (queries), U columns (units).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol as Interface

import numpy as np
from numpy.typing import NDArray

from vreid.ranges import check_number

Tiles = Iterator[tuple[int, NDArray[np.float32]]]
"""Consecutive (first row, (rows, columns) float32) pieces of a matrix, top to bottom; maybe views, so do not write.

Sources return `map` objects: a generator would keep the tile it has yielded until it is asked for the next one, and an
ensemble has many sources waiting.
"""

_TILE_NUMBERS = 1 << 24  # 64 MiB of float32 in one tile; tiles of 512 rows reach the speed of one large product
_STRIP_NUMBERS = 1 << 16


class Source(Interface):
    """Anything that can produce a float32 matrix from top to bottom, again and again, with equal bits each time."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows (queries) and columns (units)."""
        ...

    def tiles(self) -> Tiles:
        """The whole matrix in pieces on this source's own fixed grid of rows."""
        ...


@dataclass(frozen=True, eq=False)
class Matrix:
    """A matrix that is in memory already.

    Attributes:
        values: (Q, U) float32, small = near.
    """

    values: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.values.shape[0], self.values.shape[1]

    def tiles(self) -> Tiles:
        """The matrix in one piece (a view of it)."""
        yield 0, self.values


def tile_rows(columns: int) -> int:
    """How many rows a tile of that many columns has."""
    return min(512, max(64, _TILE_NUMBERS // max(columns, 1)))


def strips(tile: NDArray[np.float32]) -> Iterator[slice]:
    """Slices of rows of `tile` that stay in the cache while several things are done to them."""
    rows = max(1, _STRIP_NUMBERS // max(tile.shape[1], 1))
    return (slice(start, start + rows) for start in range(0, len(tile), rows))


class RowReader:
    """The rows of a source, as many at a time as asked for; between calls it holds nothing but the rest of a tile."""

    def __init__(self, tiles: Tiles) -> None:
        self._tiles = tiles
        self._rest: NDArray[np.float32] | None = None

    def take(self, count: int) -> NDArray[np.float32] | None:
        """The next `count` rows (or what is left of them), a view where one tile holds them all; None at the end."""
        parts: list[NDArray[np.float32]] = []
        while count:
            tile = self._rest if self._rest is not None else next(self._tiles, (0, None))[1]
            if tile is None:
                break
            parts.append(tile[:count])
            self._rest = tile[count:] if len(tile) > count else None
            count -= len(parts[-1])
        return np.concatenate(parts) if len(parts) > 1 else parts[0] if parts else None


def in_blocks(tiles: Tiles, rows: int) -> Tiles:
    """Cut and join `tiles` to blocks of `rows` rows (the last may be shorter)."""
    check_number("blocks: rows", rows, least=1, whole=True)
    reader, first = RowReader(tiles), 0
    while (block := reader.take(rows)) is not None:
        yield first, block
        first += len(block)
