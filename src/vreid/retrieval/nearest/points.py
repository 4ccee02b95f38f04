"""Points: the features of a search, checked once, with exact distances of single pairs.

Shapes: N points, D feature dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vreid.errors import InputError
from vreid.retrieval.features import as_features
from vreid.retrieval.nearest.core import compiled_core
from vreid.retrieval.tensors import is_tensor

_ROWS = 32  # rows looked at together: their float64 copies stay in the cache
_PAIRS = 32  # pairs compared together: the same
_PLAIN = 2.0**30  # norms up to here (and down to its inverse) are used as they are


@dataclass(frozen=True, eq=False)
class Points:
    """N points in one array or two (queries, then gallery) that are never copied into one.

    Attributes:
        parts: the arrays, each (n, D) float32 and C-contiguous.
        squares: (N,) float64, squared norms.
        unit: a power of two; features as given = `unit` x features held. It is 1 unless the largest norm is so far
            from 1 that float32 squares would overflow or vanish.
        device: where candidates are looked for, if the features came as torch tensors from another device.
    """

    parts: tuple[NDArray[np.float32], ...]
    squares: NDArray[np.float64]
    unit: float = 1.0
    device: Any = None

    @classmethod
    def of(cls, step: str, **parts: ArrayLike) -> Points:
        """Points of one or two arrays or tensors; `step` and their names appear in the error's sentence.

        Raises:
            InputError: an array that is not (rows, dimensions), is empty or holds NaN; unequal dimensions.
        """
        tensors = {name: values for name, values in parts.items() if is_tensor(values)}
        devices = {values.device for values in tensors.values()}  # type: ignore[union-attr]
        if len(devices) > 1 or (devices and len(tensors) < len(parts)):
            raise InputError(f"{step}: {' and '.join(parts)} must be on the same device; move one of them.")
        device = next((device for device in devices if device.type != "cpu"), None)
        arrays = {name.replace("_", " "): as_features(values, name.replace("_", " ")) for name, values in parts.items()}
        count = " x ".join(f"{len(array)} {name}" for name, array in arrays.items())
        if not all(len(array) for array in arrays.values()):
            raise InputError(f"{step}: {count}; none may be zero.")
        if len({array.shape[1] for array in arrays.values()}) > 1:
            (one, a), (other, b) = arrays.items()
            raise InputError(
                f"{step}: {one} have {a.shape[1]} dimensions, {other} {b.shape[1]}; extract both with the same model."
            )
        squares = np.concatenate([_squares(array, f"{step}: {name}") for name, array in arrays.items()])
        held, largest = tuple(arrays.values()), math.sqrt(float(squares.max()))
        if largest == 0 or 1 / _PLAIN <= largest <= _PLAIN:
            return cls(held, squares, device=device)
        unit = 2.0 ** math.frexp(largest)[1]
        return cls(tuple((part / unit).astype(np.float32) for part in held), squares / unit**2, unit, device)

    def __len__(self) -> int:
        return len(self.squares)

    @property
    def dimensions(self) -> int:
        """D."""
        return int(self.parts[0].shape[1])

    def blocks(self, rows: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """(first row, features) of at most `rows` rows each, alike in size: views that never straddle two parts."""
        for first, part in self.places():
            height = math.ceil(len(part) / math.ceil(len(part) / rows))
            for start in range(0, len(part), height):
                yield first + start, part[start : start + height]

    def places(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """(index of its first point, features) of each part."""
        return zip(accumulate((len(part) for part in self.parts[:-1]), initial=0), self.parts, strict=True)

    def split(self) -> tuple[Points, Points]:
        """The two parts by themselves."""
        first, second = self.parts
        return (
            Points((first,), self.squares[: len(first)], self.unit, self.device),
            Points((second,), self.squares[len(first) :], self.unit, self.device),
        )

    def take(self, index: NDArray[np.integer]) -> NDArray[np.float64]:
        """(n, D) features of the points `index` in float64."""
        out = np.empty((len(index), self.dimensions))
        for first, part in self.places():
            here = (index >= first) & (index < first + len(part))
            out[here] = part[index[here] - first]
        return out

    def need_direction(self, step: str) -> None:
        """Refuse a feature of norm zero: it stands for an image that was never extracted.

        Raises:
            InputError: naming the first such row.
        """
        if not self.squares.all():
            row, split = int(np.argmin(self.squares)), len(self.parts[0])
            place = f"row {row + 1}" if len(self.parts) == 1 else f"{('query', 'gallery')[row >= split]} row "
            place += "" if len(self.parts) == 1 else str(row % split + 1 if row < split else row - split + 1)
            raise InputError(f"{step}: the feature in {place} has norm zero and no direction; leave this image out.")


def exact_distances(
    points: Points,
    row: NDArray[np.integer],
    others: Points,
    column: NDArray[np.integer],
    dtype: type[np.floating] = np.float64,
) -> NDArray[np.float32]:
    """(n,) squared distances of the pairs (row of `points`, column of `others`), rounded once to float32.

    `row` has n entries, or a single one that is paired with every column.
    Differences and sums are float64, so the error is that last rounding's alone, equal features are at distance 0
    exactly, and the number does not depend on where in memory, or beside which others, a pair stands. With `dtype`
    float32, where last bits decide nothing, numpy takes half the time and errs by up to D 2^-24 of the distance.
    """
    compiled = compiled_core()
    if compiled is not None:
        sides = (compiled.Points(list(side.parts)) for side in (points, others))
        distances: NDArray[np.float32] = compiled.pair_distances(next(sides), row, next(sides), column)
        return distances
    out = np.empty(len(column), dtype=np.float32)
    row = np.broadcast_to(row, column.shape)
    room = np.empty((_PAIRS, points.dimensions), dtype=dtype)
    for (first_row, ours), (first_column, theirs) in product(points.places(), others.places()):
        left, right = row - first_row, column - first_column
        here = np.flatnonzero((left >= 0) & (left < len(ours)) & (right >= 0) & (right < len(theirs)))
        for start in range(0, len(here), _PAIRS):
            pair = here[start : start + _PAIRS]
            difference = room[: len(pair)]
            difference[:] = theirs.take(right[pair], axis=0)
            difference -= ours.take(left[pair], axis=0)
            out[pair] = np.vecdot(difference, difference)
    return out


def _squares(features: NDArray[np.float32], what: str) -> NDArray[np.float64]:
    """(n,) squared norms in float64, which neither tiny nor huge float32 numbers leave."""
    out = np.empty(len(features), dtype=np.float64)
    for start in range(0, len(features), _ROWS):
        block = features[start : start + _ROWS].astype(np.float64)
        out[start : start + _ROWS] = np.einsum("nd,nd->n", block, block)
    if not np.isfinite(out).all():
        row = int(np.argmin(np.isfinite(out)))
        raise InputError(f"{what}: row {row + 1} holds NaN or infinity; extract it again or leave it out.")
    return out
