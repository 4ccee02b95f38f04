"""Ensembles: the distances of several models (or of several ways to search) as one, a block of queries at a time.

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
    """How several models become one search; the arguments of `ensemble`.

    Attributes:
        weights: one above 0 for each model; () weighs all alike.
        how: "mean" of the distances, or of the "rank" of each unit.
    """

    weights: tuple[float, ...] = ()
    how: How = "mean"


ALIKE = Fusion()
"""The mean of all."""


@dataclass(frozen=True, eq=False)
class Weighted:
    """The weighted sum of several sources, or of the ranks of their units, made when asked for.

    What one source leaves out (+inf) the sum leaves out too. One tile of them is held at a time, however many they are,
    where all cut their rows alike.

    Attributes:
        sources: each (Q, U).
        weights: one a source, above 0 where the source holds +inf.
        how: "mean" adds distances; "rank" adds the rank of each unit among those of its query (equal distances have
            equal ranks: 1 + how many are nearer), which needs no common scale.
    """

    sources: tuple[Source, ...]
    weights: tuple[float, ...]
    how: How = "mean"

    @property
    def shape(self) -> tuple[int, int]:
        """Queries and units."""
        return self.sources[0].shape

    def tiles(self) -> Tiles:
        """Tiles on the grid of plain distances, each from one tile of every source after the other."""
        rows, columns = self.shape
        height = tile_rows(columns)
        readers = [RowReader(source.tiles()) for source in self.sources]

        def joined(start: int) -> tuple[int, NDArray[np.float32]]:
            total = np.zeros((min(height, rows - start), columns))
            for weight, reader in zip(self.weights, readers, strict=True):
                block = reader.take(len(total))
                assert block is not None and len(block) == len(total)
                total += weight * (ranks(block) if self.how == "rank" else block)
                del block  # before the next source makes its own
            return start, total.astype(np.float32)

        return map(joined, range(0, rows, height))


def ranks(block: NDArray[np.float32]) -> NDArray[np.float64]:
    """(rows, U) rank of each number in its row, 1 + how many are smaller; +inf stays +inf.

    Raises:
        InputError: NaN, which has no rank.

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
    """Several distances of the same queries and gallery as one, made a block of queries at a time.

    No (Q, U) matrix is made, re-ranked or not: beside the features and what is O(N k) there are a few tiles (of at most
    512 queries and about 64 MiB), however many members. DMT adds final distances with equal weights, which ranks as
    their mean does.

    Args:
        members: of the same images in the same order; tracklets in all of them or in none.
        weights: one above 0 for each member, divided by their sum; None weighs all alike.
        how: "mean" of the distances, or of the "rank" of each unit, where members measure on different scales.

    Raises:
        InputError: no members, other images or units than in the first, or wrong weights.

    Example:
        >>> records = Records.of(path=["a.jpg", "b.jpg"])
        >>> one, two = (Distances.from_matrix(m, records, records) for m in ([[0, 1], [1, 0]], [[0, 3], [1, 0]]))
        >>> ensemble([one, two]).matrix().tolist()
        [[0.0, 2.0], [1.0, 0.0]]
    """
    if not members:
        raise InputError("ensemble: there is nothing to join; give at least one member.")
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
                f"ensemble: member {number} ranks other units (images, tracklets) than the first; take the same "
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
    """The weighted sum of sources; those that are one and the same are made once."""
    return frames[0] if all(one is frames[0] for one in frames) else Weighted(tuple(frames), part)


def check_same_images(first: Records, other: Records, what: str) -> None:
    """Refuse records that are not the same images in the same order, by `image_key`.

    Raises:
        InputError: naming the first row that differs.
    """
    if len(first) != len(other):
        raise InputError(f"{what}: holds {len(other):,} images, not {len(first):,}; extract the same images alike.")
    wrong = first.image_key != other.image_key
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            f"{what}: row {row + 1} is {other.image_key[row]}, not {first.image_key[row]}; extract the same images in "
            "the same order."
        )
