"""Distance matrices that are computed in tiles of rows, without the whole matrix in memory.

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
"""Consecutive pieces of a matrix, top to bottom: (first row, (rows, columns) float32). They may be views: read-only.

Sources return `map` objects: a generator would keep a yielded tile alive until the next one is requested, and an
ensemble iterates over many sources at once.
"""

_TILE_NUMBERS = 1 << 24  # 64 MiB of float32 in one tile; tiles of 512 rows reach the speed of one large product
_STRIP_NUMBERS = 1 << 16


class Source(Interface):
    """Interface of a float32 matrix that is computed in row tiles, bit-identical on every pass."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows (queries) and columns (units)."""
        ...

    def tiles(self) -> Tiles:
        """Iterate over the whole matrix in row tiles of a fixed size."""
        ...


@dataclass(frozen=True, eq=False)
class Matrix:
    """A matrix in memory.

    Attributes:
        values: (Q, U) float32 distances.
    """

    values: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.values.shape[0], self.values.shape[1]

    def tiles(self) -> Tiles:
        """Yield the whole matrix as one tile (a view)."""
        yield 0, self.values


def tile_rows(columns: int) -> int:
    """Return the number of rows of a tile with `columns` columns."""
    return min(512, max(64, _TILE_NUMBERS // max(columns, 1)))


def strips(tile: NDArray[np.float32]) -> Iterator[slice]:
    """Return slices of rows of `tile` that are small enough for the CPU cache."""
    rows = max(1, _STRIP_NUMBERS // max(tile.shape[1], 1))
    return (slice(start, start + rows) for start in range(0, len(tile), rows))


class RowReader:
    """Read the rows of a source in chunks of any size; between calls, only the rest of one tile is kept."""

    def __init__(self, tiles: Tiles) -> None:
        self._tiles = tiles
        self._rest: NDArray[np.float32] | None = None

    def take(self, count: int) -> NDArray[np.float32] | None:
        """Return the next `count` rows, or fewer at the end (a view if one tile holds them all); None after the end."""
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
    """Regroup `tiles` into blocks of `rows` rows (the last may be shorter)."""
    check_number("blocks: rows", rows, least=1, whole=True)
    reader, first = RowReader(tiles), 0
    while (block := reader.take(rows)) is not None:
        yield first, block
        first += len(block)
