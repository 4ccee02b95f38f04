"""Points: validated features of a nearest-neighbour search, and exact distances of single pairs.

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

_ROWS = 32  # rows per block: their float64 copies fit in the cache
_PAIRS = 32  # pairs per block, likewise
_PLAIN = 2.0**30  # features are not scaled if the largest norm is between 1 / _PLAIN and _PLAIN


@dataclass(frozen=True, eq=False)
class Points:
    """N points in one or two arrays (queries, then gallery), which are never concatenated.

    Attributes:
        parts: the arrays, each (n, D) float32 and C-contiguous.
        squares: (N,) float64 squared norms.
        unit: a power of two: given features = `unit` x stored features. It is 1 unless the largest norm is so far
            from 1 that float32 squares would overflow or underflow.
        device: device of the search, if the features are torch tensors on a device other than the CPU.
    """

    parts: tuple[NDArray[np.float32], ...]
    squares: NDArray[np.float64]
    unit: float = 1.0
    device: Any = None

    @classmethod
    def of(cls, step: str, **parts: ArrayLike) -> Points:
        """Validate one or two arrays or tensors; `step` and their names are used in messages.

        Raises:
            InputError: an array is not (rows, dimensions), is empty or contains NaN, or dimensions differ.
        """
        tensors = {name: values for name, values in parts.items() if is_tensor(values)}
        devices = {values.device for values in tensors.values()}  # type: ignore[union-attr]
        if len(devices) > 1 or (devices and len(tensors) < len(parts)):
            raise InputError(f"{step}: {' and '.join(parts)} must be on the same device; move one of them.")
        device = next((device for device in devices if device.type != "cpu"), None)
        arrays = {name.replace("_", " "): as_features(values, name.replace("_", " ")) for name, values in parts.items()}
        count = " x ".join(f"{len(array)} {name}" for name, array in arrays.items())
        if not all(len(array) for array in arrays.values()):
            raise InputError(f"{step}: {count}; give at least one of each.")
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
        """D, the number of feature dimensions."""
        return int(self.parts[0].shape[1])

    def blocks(self, rows: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (first row, features) in blocks of similar size of at most `rows` rows; views within one part."""
        for first, part in self.places():
            height = math.ceil(len(part) / math.ceil(len(part) / rows))
            for start in range(0, len(part), height):
                yield first + start, part[start : start + height]

    def places(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (index of its first point, features) of each part."""
        return zip(accumulate((len(part) for part in self.parts[:-1]), initial=0), self.parts, strict=True)

    def split(self) -> tuple[Points, Points]:
        """Return the two parts as separate points."""
        first, second = self.parts
        return (
            Points((first,), self.squares[: len(first)], self.unit, self.device),
            Points((second,), self.squares[len(first) :], self.unit, self.device),
        )

    def take(self, index: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the features (n, D) of the points `index` in float64."""
        out = np.empty((len(index), self.dimensions))
        for first, part in self.places():
            here = (index >= first) & (index < first + len(part))
            out[here] = part[index[here] - first]
        return out

    def need_direction(self, step: str) -> None:
        """Raise if a feature has norm zero, usually of an image that was not extracted.

        Raises:
            InputError: the message names the first such row.
        """
        if not self.squares.all():
            row, split = int(np.argmin(self.squares)), len(self.parts[0])
            place = f"row {row + 1}" if len(self.parts) == 1 else f"{('query', 'gallery')[row >= split]} row "
            place += "" if len(self.parts) == 1 else str(row % split + 1 if row < split else row - split + 1)
            raise InputError(f"{step}: the feature in {place} has norm zero; remove this image.")


def exact_distances(
    points: Points,
    row: NDArray[np.integer],
    others: Points,
    column: NDArray[np.integer],
    dtype: type[np.floating] = np.float64,
) -> NDArray[np.float32]:
    """Compute the squared distances (n,) of the pairs (row of `points`, column of `others`), rounded once to float32.

    `row` has n entries, or a single one that is paired with every column. Differences and sums are computed in float64:
    the only error is that of the final rounding, equal features have distance 0, and the result does not depend on the
    position of a pair. With `dtype` float32, numpy takes half the time, with a relative error of up to D 2^-24.
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
    """Compute the squared norms (n,) in float64, without underflow or overflow."""
    out = np.empty(len(features), dtype=np.float64)
    for start in range(0, len(features), _ROWS):
        block = features[start : start + _ROWS].astype(np.float64)
        out[start : start + _ROWS] = np.einsum("nd,nd->n", block, block)
    if not np.isfinite(out).all():
        row = int(np.argmin(np.isfinite(out)))
        raise InputError(f"{what}: row {row + 1} contains NaN or infinity; extract it again or remove it.")
    return out
