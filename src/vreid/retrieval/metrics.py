"""Metrics: mAP, mAP@K, CMC and mINP from the ranks of the relevant images alone, and how sure the numbers are.

Only ranks of relevant images matter, and a rank is a count, so no ranking is built: a row's values are sorted (without
their indices, which SIMD does ten times faster than an argsort) and the relevant distances looked up in them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vreid.data.records import JUNK, JUNK_NAME, UNKNOWN, joint_codes
from vreid.errors import InputError
from vreid.retrieval.distances import Distances, Tiles, as_matrix
from vreid.retrieval.protocols import MARKET, NOTHING, Exclusion, Groups, Normaliser, Protocol

CMC_LENGTH = 50


@dataclass(frozen=True, eq=False)
class Metrics:
    """The numbers of one evaluation, with what they mean and the queries they come from.

    Attributes:
        protocol: how it was judged.
        mAP: mean over queries of the average precision over the full list, 0 to 1.
        mAP_at_k: the same over the first `protocol.top_k` only; None where the protocol does not cut.
        mINP: mean of relevant images / rank of the last one.
        cmc: (50,) share of queries with a hit within the first 1, 2, ... images.
        num_queries: queries judged; num_skipped: queries without a relevant gallery image, in no mean.
        average_precision, average_precision_at_k, inverse_negative_penalty: (Q,) per query, NaN where skipped.
        first_hit: (Q,) rank of the first hit from 1; 0 where there is none.
        relevant: (Q,) relevant gallery images; 0 where skipped.
        steps, reranked, transductive: how the distances were made (see `Distances`).
    """

    protocol: Protocol
    mAP: float
    mAP_at_k: float | None
    mINP: float
    cmc: NDArray[np.float64]
    num_queries: int
    num_skipped: int
    average_precision: NDArray[np.float64]
    average_precision_at_k: NDArray[np.float64]
    inverse_negative_penalty: NDArray[np.float64]
    first_hit: NDArray[np.int64]
    relevant: NDArray[np.int64]
    steps: tuple[str, ...] = ()
    reranked: bool = False
    transductive: bool = False

    @property
    def rank1(self) -> float:
        """Share of queries whose first image is a hit."""
        return float(self.cmc[0])

    def of(self, queries: NDArray[np.bool_]) -> Metrics:
        """The same evaluation for some of the queries: `queries` (Q,) picks them, the gallery stays whole.

        Raises:
            InputError: none of them has a mate.
        """
        return replace(
            _summary(
                self.protocol,
                self.average_precision[queries],
                self.average_precision_at_k[queries],
                self.inverse_negative_penalty[queries],
                self.first_hit[queries],
                self.relevant[queries],
            ),
            steps=self.steps,
            reranked=self.reranked,
            transductive=self.transductive,
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and texts for JSON; a metric cut at K has K in its name."""
        cut = {} if self.mAP_at_k is None else {self.protocol.metric: self.mAP_at_k}
        return {
            "mAP": self.mAP,
            **cut,
            "rank1": self.rank1,
            "rank5": float(self.cmc[4]),
            "rank10": float(self.cmc[9]),
            "mINP": self.mINP,
            "num_queries": self.num_queries,
            "num_skipped": self.num_skipped,
            "protocol": self.protocol.name,
            "normaliser": self.protocol.normaliser,
            "steps": list(self.steps),
            "reranked": self.reranked,
            "transductive": self.transductive,
        }

    def __str__(self) -> str:
        cut = "" if self.mAP_at_k is None else f", {self.protocol.metric} {100 * self.mAP_at_k:.1f}"
        return (
            f"mAP {100 * self.mAP:.1f}{cut}, rank-1 {100 * self.rank1:.1f}, mINP {100 * self.mINP:.1f} "
            f"({self.num_queries:,} queries, {self.num_skipped:,} without a mate skipped; protocol "
            f"{self.protocol.name}; {'with' if self.reranked else 'without'} re-ranking; "
            f"{'' if self.transductive else 'not '}transductive)"
        )


def evaluate(
    distances: ArrayLike,
    *,
    query_identity: ArrayLike,
    gallery_identity: ArrayLike,
    query_camera: ArrayLike,
    gallery_camera: ArrayLike,
    top_k: int | None = None,
    normaliser: Normaliser = "total",
) -> Metrics:
    """Judge a (Q, G) matrix of distances: image to image, same identity and camera removed (Market-1501 protocol).

    Identities and cameras are integers or strings. A gallery image of identity -2 or "junk" never counts, one of
    identity -1 or "" is nobody's mate, and a camera -1 or "" is unknown and equals no other.

    Raises:
        InputError: lengths that do not fit, NaN, a query without identity, or no query with a mate.

    Example:
        >>> metrics = evaluate([[0.1, 0.2, 0.3]], query_identity=[7], gallery_identity=[7, 8, 7], query_camera=[1],
        ...                    gallery_camera=[2, 2, 2])
        >>> round(metrics.mAP, 4), metrics.rank1
        (0.8333, 1.0)
    """
    matrix = as_matrix(distances)
    rows, columns = matrix.shape
    query_names, gallery_names = _codes(query_identity, rows, gallery_identity, columns, "identity")
    query_where, gallery_where = _codes(query_camera, rows, gallery_camera, columns, "camera")
    of_identity = Groups(gallery_names)

    def removed(query: int) -> NDArray[np.intp]:
        group = of_identity[query_names[query]] if query_where[query] >= 0 else NOTHING
        return np.asarray(group[gallery_where[group] == query_where[query]])

    protocol = replace(MARKET, top_k=top_k, normaliser=normaliser)
    return _judge(iter([(0, matrix)]), query_names, gallery_names, removed, protocol)


def evaluate_distances(distances: Distances, protocol: Protocol) -> Metrics:
    """Judge `distances` by `protocol`, a block of queries at a time; no (Q, G) matrix is held.

    Images that post-processing took out of the candidates (camera verification) stay relevant where the protocol
    counts them: they are misses.

    Raises:
        InputError: a query without identity or (where the protocol needs it) without camera, NaN, or no query with a
            mate.
    """
    query, gallery = distances.query, distances.gallery
    if protocol.needs_camera and not query.camera.known.all():
        row = int(np.argmin(query.camera.known))
        raise InputError(
            f"{query.path[row]} (query {row + 1}): protocol {protocol.name} needs the camera of every query; give the "
            "column `camera`, or a protocol that removes nothing by camera (camera-less)."
        )
    query_names, gallery_names = joint_codes(query.identity, gallery.identity)
    exclusion = Exclusion(query, gallery, protocol)
    metrics = _judge(distances.image_blocks(), query_names, gallery_names, exclusion.removed, protocol, query.path)
    return replace(metrics, steps=distances.steps, reranked=distances.reranked, transductive=distances.transductive)


def interval(
    metrics: Metrics, name: str, *, seed: int = 0, resamples: int = 1000, confidence: float = 0.95
) -> tuple[float, float]:
    """Bootstrap interval of a mean over queries (percentile method): which values other draws of queries would give.

    Args:
        metrics: with its values per query.
        name: "mAP", "mAP@K" (as in `metrics.protocol.metric`), "rank1" or "mINP".
        seed: equal seeds give equal intervals.
        resamples: how many times the queries are drawn anew, with replacement.
        confidence: share of the resampled means inside.

    Raises:
        InputError: an unknown name, or numbers out of range.
    """
    values = {
        "mAP": metrics.average_precision,
        metrics.protocol.metric: metrics.average_precision_at_k,
        "rank1": (metrics.first_hit == 1).astype(np.float64),
        "mINP": metrics.inverse_negative_penalty,
    }
    if name not in values:
        raise InputError(f"interval: there is no metric {name!r}; use one of {', '.join(values)}.")
    if resamples < 1 or not 0 < confidence < 1:
        raise InputError("interval: resamples must be at least 1 and confidence between 0 and 1.")
    judged = values[name][metrics.relevant > 0]
    generator = np.random.default_rng(seed)
    means = [judged[generator.integers(len(judged), size=len(judged))].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _judge(
    tiles: Tiles,
    query_identity: NDArray[np.integer],
    gallery_identity: NDArray[np.integer],
    removed: Callable[[int], NDArray[np.intp]],
    protocol: Protocol,
    query_names: NDArray[np.object_] | None = None,
) -> Metrics:
    """The one evaluation loop: ranks of the relevant images of each query, then every metric from those."""
    unlabelled = query_identity == UNKNOWN
    if unlabelled.any():
        row = int(np.argmax(unlabelled))
        name = "" if query_names is None else f"{query_names[row]} "
        raise InputError(
            f"{name}(query {row + 1}): has no identity; evaluation needs labels, ranking does not: give identities."
        )
    count = len(query_identity)
    precision, precision_at_k, penalty = (np.full(count, np.nan) for _ in range(3))
    first_hit, relevant = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    of_identity = Groups(gallery_identity)
    gone = np.zeros(len(gallery_identity), dtype=bool)
    junk = np.flatnonzero(gallery_identity == JUNK)
    for start, block in tiles:
        if np.isnan(block.max()):
            raise InputError(f"distances hold NaN between queries {start + 1} and {start + len(block)}; compute again.")
        for query, shared in enumerate(block, start=start):
            if query_identity[query] < 0:
                continue  # a junk query has no mate
            out = removed(query)
            gone[out] = True
            mates = of_identity[query_identity[query]]
            mates = mates[~gone[mates]]
            relevant[query] = len(mates)
            if len(mates):
                row = shared.copy()
                row[out] = row[junk] = np.inf
                ranks = ranks_of(row, mates)
                precisions = np.arange(1, len(ranks) + 1) / ranks
                within = ranks <= (protocol.top_k or len(row))
                total = len(mates)
                divisor = total if protocol.normaliser == "total" else min(total, protocol.top_k or total)
                precision[query] = precisions.sum() / total
                precision_at_k[query] = precisions[within].sum() / divisor
                penalty[query] = total / ranks[-1] if len(ranks) == total else 0.0
                first_hit[query] = ranks[0] if len(ranks) else 0
            gone[out] = False
    return _summary(protocol, precision, precision_at_k, penalty, first_hit, relevant)


def _summary(
    protocol: Protocol,
    precision: NDArray[np.float64],
    precision_at_k: NDArray[np.float64],
    penalty: NDArray[np.float64],
    first_hit: NDArray[np.int64],
    relevant: NDArray[np.int64],
) -> Metrics:
    judged = relevant > 0
    if not judged.any():
        raise InputError(
            f"none of the {len(relevant):,} queries has an image of its vehicle left in the gallery under protocol "
            f"{protocol.name}; check identities and cameras of both sides."
        )
    hits = first_hit[judged]
    return Metrics(
        protocol=protocol,
        mAP=float(precision[judged].mean()),
        mAP_at_k=None if protocol.top_k is None else float(precision_at_k[judged].mean()),
        mINP=float(penalty[judged].mean()),
        cmc=np.array([((hits > 0) & (hits <= k)).mean() for k in range(1, CMC_LENGTH + 1)]),
        num_queries=int(judged.sum()),
        num_skipped=int((~judged).sum()),
        average_precision=precision,
        average_precision_at_k=precision_at_k,
        inverse_negative_penalty=penalty,
        first_hit=first_hit,
        relevant=relevant,
    )


def ranks_of(row: NDArray[np.float32], mates: NDArray[np.intp]) -> NDArray[np.int64]:
    """Ascending ranks (from 1) of `mates` (ascending indices) in `row`; ties by index; +inf has no rank.

    Example:
        >>> ranks_of(np.array([3, 1, 1, np.inf, 2], dtype=np.float32), np.array([0, 2, 3])).tolist()
        [2, 4]
    """
    order = np.argsort(row[mates], kind="stable")
    mates, value = mates[order], row[mates[order]]
    value = value[value < np.inf]
    if not len(value):
        return np.empty(0, dtype=np.int64)
    near = row <= value[-1]
    # picking out pays only where few are near: unpredictable picking costs more than sorting the whole row
    values = row[near] if 8 * np.count_nonzero(near) < len(row) else row.copy()
    values.sort()
    below = np.searchsorted(values, value, side="left")
    equal = np.searchsorted(values, value, side="right") - below
    before = np.arange(len(value)) - np.searchsorted(value, value, side="left")  # equal mates with a smaller index
    alike = np.searchsorted(value, value, side="right") - np.searchsorted(value, value, side="left")
    for distance in np.unique(value[equal > alike]):  # ties with images that are no mates: rare, so looked up
        tied = value == distance
        before[tied] = np.searchsorted(np.flatnonzero(row == distance), mates[: len(value)][tied])
    ranks: NDArray[np.int64] = below + before + 1
    return ranks


def _codes(
    query: ArrayLike, rows: int, gallery: ArrayLike, columns: int, what: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both sides as integers on one list; -1 unknown, -2 junk."""
    sides = []
    for side, values, count in (("query", query, rows), ("gallery", gallery, columns)):
        array = np.asarray(values)
        if array.shape != (count,):
            raise InputError(f"{side}_{what}: shape {array.shape} for {count:,} distances; give one per image.")
        if array.dtype.kind == "f" and not (np.isfinite(array).all() and np.array_equal(array, np.trunc(array))):
            raise InputError(f"{side}_{what}: must be whole numbers or names; NaN and fractions are neither.")
        sides.append(array)
    if all(array.dtype.kind in "iufb" for array in sides):
        return sides[0].astype(np.int64), sides[1].astype(np.int64)
    names = [np.array(["" if v is None else str(v) for v in array.tolist()], dtype=object) for array in sides]
    _, codes = np.unique(np.concatenate(names).astype(str), return_inverse=True)
    for special, code in (("", UNKNOWN), (JUNK_NAME, JUNK)):
        codes[np.concatenate(names) == special] = code
    return codes[:rows].astype(np.int64), codes[rows:].astype(np.int64)
