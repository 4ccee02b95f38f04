"""Open set: is the vehicle of a query in the gallery at all? What each query found, and the errors of any threshold.

A query is *mated* if the gallery holds its vehicle under the protocol, else it has no mate. At a threshold T, in the
terms of ISO/IEC 19795-1 (identification) and of NIST's 1:N tests:

* FPIR(T), false positive identification rate: share of the queries without a mate that have a candidate at a distance
  of at most T. It counts queries, not pairs of images as the 1:1 false match rate (FMR) does.
* FNIR(T), false negative identification rate: share of the mated queries whose nearest mate is not the first candidate
  or lies beyond T. *At any rank* only the second counts: the mate may stand further down the list.
* A query with no candidate within T is refused, which is right where it has no mate. TNR(T) = 1 - FPIR(T) is the share
  of queries without a mate that are refused; refusal F1 takes a right refusal as the positive case, so it depends on
  how many queries have no mate.

All of these are about a gallery of the size that was searched: the more images, the more of them are near. Queries of
one vehicle resemble each other, so intervals draw vehicles anew, not queries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vreid.data.protocols import Groups, Protocol
from vreid.data.records import Records, joint_codes
from vreid.errors import InputError
from vreid.ranges import check_number
from vreid.retrieval.distances import Distances
from vreid.retrieval.evaluation.bootstrap import CONFIDENCE, RESAMPLES, percentile_interval, resample
from vreid.retrieval.evaluation.evaluate import evaluated_rows, ranks_of
from vreid.retrieval.evaluation.proportions import rate_interval, whole

LEVELS = (0.01, 0.05, 0.1)
"""False positive identification rates at which FNIR is reported."""

Resampled = Literal["identity", "query"]


@dataclass(frozen=True, eq=False)
class Errors:
    """The errors at one threshold (numbers) or at T thresholds ((T,) arrays); see the top of this file.

    Attributes:
        threshold: candidates at a distance of at most this count.
        fpir, fnir, fnir_any_rank, tnr, refusal_f1: shares, 0 to 1.
    """

    threshold: NDArray[np.float64]
    fpir: NDArray[np.float64]
    fnir: NDArray[np.float64]
    fnir_any_rank: NDArray[np.float64]
    tnr: NDArray[np.float64]
    refusal_f1: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class OpenSet:
    """What each of Q judged queries found: all that open-set numbers rest on.

    Attributes:
        query: (Q,) row of the query (junk queries are not judged).
        identity: (Q,) code of its vehicle.
        nearest: (Q,) distance of its first candidate, +inf where there is none.
        mated: (Q,) whether the gallery holds its vehicle.
        mate: (Q,) distance of its nearest mate, +inf where it has none among the candidates.
        rank: (Q,) rank of its nearest mate from 1, 0 where it has none among the candidates.
        gallery_images: how many images were searched, removed ones included.
        left_out: how many vehicles were taken out of the gallery so that their queries have no mate (`leave_out`).
        protocol: name of the protocol.
        steps, reranked, transductive, features, notes: as in `Distances`.
    """

    query: NDArray[np.intp]
    identity: NDArray[np.int32]
    nearest: NDArray[np.float32]
    mated: NDArray[np.bool_]
    mate: NDArray[np.float32]
    rank: NDArray[np.int64]
    gallery_images: int
    left_out: int = 0
    protocol: str = ""
    steps: tuple[str, ...] = ()
    reranked: bool = False
    transductive: bool = False
    features: str = ""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.query)

    def __repr__(self) -> str:
        return (
            f"OpenSet: {self.num_mated:,} queries with a mate, {self.num_mateless:,} without"
            f"{f' (vehicles left out: {self.left_out:,})' if self.left_out else ''}; {self.gallery_images:,} gallery "
            f"images; protocol {self.protocol}"
        )

    @property
    def num_mated(self) -> int:
        """How many queries have a mate."""
        return int(self.mated.sum())

    @property
    def num_mateless(self) -> int:
        """How many queries have none."""
        return len(self) - self.num_mated

    def of(self, rows: NDArray[Any]) -> OpenSet:
        """Some of the queries, by index (repeated ones count repeatedly) or mask."""
        columns = ("query", "identity", "nearest", "mated", "mate", "rank")
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})

    def errors(self, threshold: ArrayLike) -> Errors:
        """The errors at one threshold, or at several.

        Raises:
            InputError: a threshold that is not a finite number.

        Example:
            >>> found = OpenSet(query=np.arange(3), identity=np.arange(3), nearest=np.array([0.1, 0.3, 0.4]),
            ...                 mated=np.array([True, True, False]), mate=np.array([0.1, 0.35, np.inf]),
            ...                 rank=np.array([1, 2, 0]), gallery_images=9)
            >>> at = found.errors(0.35)
            >>> float(at.fpir), float(at.fnir), float(at.fnir_any_rank), float(at.refusal_f1)
            (0.0, 0.5, 0.0, 1.0)
        """
        values = np.asarray(threshold, dtype=np.float64)
        if not np.isfinite(values).all():
            raise InputError(f"open set: threshold {values} is not a finite number; give a distance.")

        def within(distances: NDArray[np.float32]) -> Any:
            return np.searchsorted(np.sort(distances), values, side="right")

        answered = within(self.nearest[~self.mated])
        refused_wrongly = self.num_mated - within(self.nearest[self.mated])
        refused_rightly = self.num_mateless - answered
        with np.errstate(invalid="ignore"):  # some queries (`of`) may be all of a kind: the other's rates are NaN
            fpir = answered / np.float64(self.num_mateless)
            return Errors(
                threshold=values,
                fpir=fpir,
                fnir=1 - within(self.mate[self.rank == 1]) / np.float64(self.num_mated),
                fnir_any_rank=1 - within(self.mate[self.mated]) / np.float64(self.num_mated),
                tnr=1 - fpir,
                refusal_f1=2 * refused_rightly / (self.num_mateless + refused_rightly + refused_wrongly),
            )

    def curve(self) -> Errors:
        """The errors at every distance where one of them changes, ascending: the DET curve and the others."""
        distances = np.unique(np.concatenate([self.nearest, self.mate]))
        return self.errors(distances[np.isfinite(distances)])

    def fnir_at_fpir(self, fpir: float, *, any_rank: bool = False) -> float:
        """The lowest FNIR among thresholds whose FPIR is at most `fpir`; the threshold is chosen on these queries.

        Raises:
            InputError: `fpir` is not between 0 and 1.
        """
        check_number("fpir", fpir, above=0, below=1)
        mateless = np.sort(self.nearest[~self.mated])
        allowed = whole(fpir * len(mateless))
        limit = mateless[allowed] if allowed < len(mateless) else np.inf  # any threshold below it will do
        found = self.mate[self.mated if any_rank else self.rank == 1]
        return float(1 - np.count_nonzero(found < limit) / self.num_mated) if self.num_mated else float("nan")

    def interval(
        self,
        numbers: Callable[[OpenSet], ArrayLike],
        *,
        by: Resampled = "identity",
        seed: int = 0,
        resamples: int = RESAMPLES,
        confidence: float = CONFIDENCE,
    ) -> NDArray[np.float64]:
        """Bootstrap interval (percentile method) of any number of an `OpenSet`, or of several: (low, high), each (...).

        Args:
            numbers: what is computed anew from each resample, thresholds that it chooses included.
            by: "identity" draws vehicles with all their queries, "query" single queries; with replacement, those with
                and those without a mate apart, so that each resample holds both.
            seed: equal seeds give equal intervals.
            resamples: how many.
            confidence: share of the resampled numbers inside.

        Raises:
            InputError: an argument out of range.

        Example:
            >>> found = OpenSet(query=np.arange(3), identity=np.arange(3), nearest=np.array([0.1, 0.3, 0.4]),
            ...                 mated=np.array([True, True, False]), mate=np.array([0.1, 0.35, np.inf]),
            ...                 rank=np.array([1, 2, 0]), gallery_images=9)
            >>> low, high = found.interval(lambda some: some.fnir_at_fpir(0.01))
            >>> float(low), float(high)
            (0.0, 1.0)
        """
        if by not in get_args(Resampled):
            raise InputError(f"interval: by is {by!r}; use one of {', '.join(get_args(Resampled))}.")
        clusters = self.identity if by == "identity" else np.arange(len(self))
        strata = []
        for kind in (True, False):
            rows = np.flatnonzero(self.mated == kind)
            if len(rows):
                groups = Groups(clusters[rows])
                strata.append([rows[groups[code]] for code in np.unique(clusters[rows])])
        members = [rows for stratum in strata for rows in stratum]
        resampled = resample(*map(len, strata), seed=seed, resamples=resamples)
        drawn = [numbers(self.of(np.concatenate([members[i] for i in picks]))) for picks in resampled]
        return percentile_interval(np.array(drawn), confidence)

    def at(self, threshold: float, *, seed: int = 0, confidence: float = 0.95) -> dict[str, Any]:
        """Plain numbers for JSON: the errors at one threshold with their intervals.

        Shares of queries get the exact interval of `rate_interval`, which does not shrink to nothing where all queries
        agree as the bootstrap does; F1 is no share and is bootstrapped.

        Raises:
            InputError: as `errors` and `interval`.
        """
        mate_within = self.mate[self.mated] <= threshold
        shares = {
            "fpir": self.nearest[~self.mated] <= threshold,
            "fnir": ~(mate_within & (self.rank[self.mated] == 1)),
            "fnir_any_rank": ~mate_within,
            "tnr": self.nearest[~self.mated] > threshold,
        }
        reported: dict[str, Any] = {"threshold": float(threshold)}
        for name, wrong in shares.items():
            of = self.identity[self.mated if name.startswith("fnir") else ~self.mated]
            reported |= {name: float(wrong.mean()), f"{name}_interval": list(rate_interval(wrong, of, confidence))}

        def refusal_f1(some: OpenSet) -> float:
            return float(some.errors(threshold).refusal_f1)

        low, high = self.interval(refusal_f1, confidence=confidence, seed=seed)
        return reported | {"refusal_f1": refusal_f1(self), "refusal_f1_interval": [float(low), float(high)]}

    def as_dict(self, levels: tuple[float, ...] = LEVELS, **options: Any) -> dict[str, Any]:
        """Plain numbers and texts for JSON: FNIR at each FPIR that the queries can tell apart from 0, with intervals.

        Args:
            levels: false positive identification rates; one that is less than one query is left out.
            options: of `interval`.
        """
        reported = [level for level in levels if whole(level * self.num_mateless) >= 1]

        def numbers(some: OpenSet) -> list[list[float]]:
            return [[some.fnir_at_fpir(level, any_rank=any_rank) for any_rank in (False, True)] for level in reported]

        low, high = self.interval(numbers, **options) if reported else ([], [])
        rows = [
            {
                "fpir": level,
                "fnir": value[0],
                "fnir_interval": [below[0], above[0]],
                "fnir_any_rank": value[1],
                "fnir_any_rank_interval": [below[1], above[1]],
            }
            for level, value, below, above in zip(
                reported, numbers(self), np.asarray(low).tolist(), np.asarray(high).tolist(), strict=True
            )
        ]
        return {
            "num_mated": self.num_mated,
            "num_without_mate": self.num_mateless,
            "vehicles_left_out": self.left_out,
            "gallery_images": self.gallery_images,
            "fnir_at_fpir": rows,
            "protocol": self.protocol,
            "steps": list(self.steps),
            "reranked": self.reranked,
            "transductive": self.transductive,
            "notes": list(self.notes),
        }


def open_set(distances: Distances, protocol: Protocol, *, left_out: int = 0) -> OpenSet:
    """What each query finds under `protocol`: one pass over the distances, O(Q) memory.

    What is removed, and what is junk, are no candidates. Mates that post-processing took out of the candidates (camera
    verification) stay mates: their queries are missed.

    Args:
        distances: from search or post-processing.
        protocol: says what is removed and what is ranked.
        left_out: how many vehicles `leave_out` took from the gallery, to be said beside the numbers.

    Raises:
        InputError: as `evaluate_distances`; or all queries have a mate, or none has.
    """
    query, _ = joint_codes(distances.query.identity, distances.gallery.identity)
    count = len(query)
    nearest, mate = (np.full(count, np.inf, dtype=np.float32) for _ in range(2))
    mated, rank = np.zeros(count, dtype=np.bool_), np.zeros(count, dtype=np.int64)
    for row, values, mates in evaluated_rows(distances, protocol):
        nearest[row] = values.min()
        if len(mates):
            mated[row] = True
            closest = mates[[np.argmin(values[mates])]]
            if values[closest[0]] < np.inf:
                mate[row], rank[row] = values[closest[0]], ranks_of(values, closest)[0]
    found = OpenSet(
        query=np.arange(count),
        identity=query,
        nearest=nearest,
        mated=mated,
        mate=mate,
        rank=rank,
        gallery_images=len(distances.gallery),
        left_out=left_out,
        protocol=protocol.name,
        steps=distances.steps,
        reranked=distances.reranked,
        transductive=distances.transductive,
        features=distances.features,
        notes=distances.notes,
    ).of(query >= 0)
    if not found.num_mateless:
        raise InputError(
            f"open set: all {len(found):,} queries have a mate in the gallery, so nothing tells a known vehicle from "
            "an unknown one; take vehicles out of the gallery (leave_out, --leave-out 0.3)."
        )
    if not found.num_mated:
        raise InputError(f"open set: none of the {len(found):,} queries has a mate; check identities and cameras.")
    return found


def leave_out(query: Records, gallery: Records, share: float, seed: int = 0) -> NDArray[np.bool_]:
    """(G,) which gallery images stay when a share of the vehicles is taken away, so that their queries have no mate.

    Drawn from the vehicles on both sides: round(share * their number), at least one, never all. Take them away before
    post-processing, which looks at the whole gallery.

    Raises:
        InputError: `share` is not between 0 and 1, `seed` is negative, or fewer than two vehicles are on both sides.

    Example:
        >>> both = Records.of(path=["a", "b"], identity=["1", "2"])
        >>> leave_out(both, both, share=0.5).sum()
        np.int64(1)
    """
    check_number("leave_out: share", share, above=0, below=1)
    check_number("leave_out: seed", seed, least=0, whole=True)
    query_codes, gallery_codes = joint_codes(query.identity, gallery.identity)
    both = np.intersect1d(query_codes[query_codes >= 0], gallery_codes)
    if len(both) < 2:
        raise InputError(f"leave_out: query and gallery have {len(both)} vehicles in common; two are the least.")
    count = min(max(round(share * len(both)), 1), len(both) - 1)
    gone = np.random.default_rng(seed).choice(both, size=count, replace=False)
    return ~np.isin(gallery_codes, gone)
