"""Ensembles: fuse the distances of several models or searches, a block of queries at a time.

Shapes: Q queries, U units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vreid.data.records import Records
from vreid.errors import InputError
from vreid.retrieval.distances import Distances
from vreid.retrieval.tiles import RowReader, Source, Tiles, tile_rows

How = Literal["mean", "rank"]


@dataclass(frozen=True)
class Fusion:
    """Fusion of several models; the arguments of `ensemble`.

    Attributes:
        weights: a weight above 0 for each model; (): equal weights.
        how: mean of the distances ("mean") or of the ranks ("rank").
    """

    weights: tuple[float, ...] = ()
    how: How = "mean"


ALIKE = Fusion()
"""Mean of the distances with equal weights."""


@dataclass(frozen=True, eq=False)
class Weighted:
    """Weighted sum of several sources, or of their ranks, computed lazily.

    A unit that one source excludes (+inf) is excluded from the sum. If all sources have the same row tiles, one tile is
    in memory at a time.

    Attributes:
        sources: sources of shape (Q, U).
        weights: a weight per source, above 0 if the source contains +inf.
        how: "mean" adds distances; "rank" adds the rank of each unit within its row (1 + number of smaller distances),
            which needs no common scale.
    """

    sources: tuple[Source, ...]
    weights: tuple[float, ...]
    how: How = "mean"

    @property
    def shape(self) -> tuple[int, int]:
        """Queries and units."""
        return self.sources[0].shape

    def tiles(self) -> Tiles:
        """Yield row tiles of the same size as those of plain distances, reading one source after the other."""
        rows, columns = self.shape
        height = tile_rows(columns)
        readers = [RowReader(source.tiles()) for source in self.sources]

        def joined(start: int) -> tuple[int, NDArray[np.float32]]:
            total = np.zeros((min(height, rows - start), columns))
            for weight, reader in zip(self.weights, readers, strict=True):
                block = reader.take(len(total))
                assert block is not None and len(block) == len(total)
                total += weight * (ranks(block) if self.how == "rank" else block)
                del block  # free it before the next source allocates its block
            return start, total.astype(np.float32)

        return map(joined, range(0, rows, height))


def ranks(block: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute the rank (rows, U) of each value in its row: 1 + number of smaller values; +inf stays +inf.

    Raises:
        InputError: a value is NaN.

    Example:
        >>> ranks(np.array([[0.5, 0.1, 0.5, np.inf]], dtype=np.float32)).tolist()
        [[2.0, 1.0, 2.0, inf]]
    """
    if np.isnan(block.max(initial=0)):
        raise InputError("distances hold NaN; compute them again.")
    out = np.empty(block.shape)
    for row, values in zip(out, block, strict=True):
        row[:] = 1 + np.searchsorted(np.sort(values), values)
    out[np.isinf(block)] = np.inf
    return out


def ensemble(members: Sequence[Distances], weights: Sequence[float] | None = None, how: How = "mean") -> Distances:
    """Fuse several distances of the same queries and gallery, computed lazily in blocks of queries.

    No (Q, U) matrix is built, with or without re-ranking: memory is that of the features, O(N k), and a few tiles (at
    most 512 queries and about 64 MiB each) for any number of members. DMT sums final distances with equal weights,
    which gives the same ranking as their mean.

    Args:
        members: distances of the same images in the same order; all with tracklets or all without.
        weights: a weight above 0 for each member, normalised to sum 1; None: equal weights.
        how: mean of the distances ("mean"), or of the ranks ("rank") if members have different scales.

    Raises:
        InputError: there are no members, images or units differ, or the weights are invalid.

    Example:
        >>> records = Records.of(path=["a.jpg", "b.jpg"])
        >>> one, two = (Distances.from_matrix(m, records, records) for m in ([[0, 1], [1, 0]], [[0, 3], [1, 0]]))
        >>> ensemble([one, two]).matrix().tolist()
        [[0.0, 2.0], [1.0, 0.0]]
    """
    if not members:
        raise InputError("ensemble: there are no members; give at least one.")
    if how not in get_args(How):
        raise InputError(f"ensemble: how is {how!r}; use one of {', '.join(get_args(How))}.")
    shares = np.ones(len(members)) if weights is None else np.asarray(weights, dtype=np.float64)
    if shares.shape != (len(members),) or not ((shares > 0) & np.isfinite(shares)).all():
        raise InputError(f"ensemble: weights are {list(weights or ())}; give {len(members)} numbers above 0.")
    first = members[0]
    for number, member in enumerate(members[1:], start=2):
        check_same_images(first.query, member.query, f"query of member {number}")
        check_same_images(first.gallery, member.gallery, f"gallery of member {number}")
        if not np.array_equal(first.unit_of_image, member.unit_of_image):
            raise InputError(
                f"ensemble: member {number} ranks other units (images, tracklets) than the first; use the same "
                "tracklet step for all."
            )
    if len(members) == 1:
        return first
    part = tuple((shares / shares.sum()).tolist())
    frames = [member.frames for member in members if member.frames is not None]
    by = how if weights is None else f"{how}, weights {' : '.join(f'{share:g}' for share in shares)}"
    alike = all(member.steps == first.steps for member in members)
    steps = first.steps if alike else (" | ".join(", ".join(m.steps) or "plain search" for m in members),)
    return replace(
        first,
        source=Weighted(tuple(member.source for member in members), part, how),
        frames=_joined(frames, part) if len(frames) == len(members) else None,
        steps=(*steps, f"ensemble of {len(members)} by {by}"),
        reranked=any(member.reranked for member in members),
        transductive=any(member.transductive for member in members),
        notes=tuple(dict.fromkeys(note for member in members for note in member.notes)),
        features=" + ".join(member.features for member in members) if all(m.features for m in members) else "",
    )


def _joined(frames: list[Source], part: tuple[float, ...]) -> Source:
    """Return the weighted sum of sources, or the source itself if all are the same object."""
    return frames[0] if all(one is frames[0] for one in frames) else Weighted(tuple(frames), part)


def check_same_images(first: Records, other: Records, what: str) -> None:
    """Check that records are the same images in the same order, by `image_key`.

    Raises:
        InputError: lengths or a row differ.
    """
    if len(first) != len(other):
        raise InputError(f"{what}: holds {len(other):,} images, not {len(first):,}; extract the same images.")
    wrong = first.image_key != other.image_key
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            f"{what}: row {row + 1} is {other.image_key[row]}, not {first.image_key[row]}; extract the same images in "
            "the same order."
        )
