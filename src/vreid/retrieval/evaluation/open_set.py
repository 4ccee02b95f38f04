"""Open-set identification: error rates at a distance threshold for queries of known and unknown vehicles.

The vehicle of a query is *known* if the gallery holds a positive of it under the protocol, otherwise *unknown* (mated
and non-mated searches in ISO/IEC 19795-1 and in NIST's 1:N tests). At a threshold T:

* FPIR(T), false positive identification rate: share of queries of unknown vehicles that have a candidate at a distance
  of at most T. It counts queries, not pairs of images as the 1:1 false match rate (FMR) does.
* FNIR(T), false negative identification rate: share of queries of known vehicles whose nearest positive is not the
  first candidate or is farther than T. *At any rank*, only the second condition counts.
* A query without a candidate within T is rejected, which is correct for an unknown vehicle. TNR(T) = 1 - FPIR(T) is the
  share of queries of unknown vehicles that are rejected; refusal F1 is the F1 score of rejection, with unknown vehicles
  as the positive class, so it depends on their share.

All rates hold for the size of the searched gallery: FPIR grows with it. Queries of one vehicle are correlated, so
intervals resample vehicles, not queries.
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
    """Error rates at one threshold (scalars) or at T thresholds ((T,) arrays); see the module's docstring.

    Attributes:
        threshold: largest distance of an accepted candidate.
        fpir, fnir, fnir_any_rank, tnr, refusal_f1: rates, 0 to 1.
    """

    threshold: NDArray[np.float64]
    fpir: NDArray[np.float64]
    fnir: NDArray[np.float64]
    fnir_any_rank: NDArray[np.float64]
    tnr: NDArray[np.float64]
    refusal_f1: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class OpenSet:
    """Search results of Q queries, from which the open-set metrics are computed.

    Attributes:
        query: (Q,) row of the query (junk queries are excluded).
        identity: (Q,) identity code of the query.
        nearest: (Q,) distance of the first candidate, +inf if there is none.
        known: (Q,) whether the gallery holds a positive.
        positive: (Q,) distance of the nearest positive, +inf if there is none among the candidates.
        rank: (Q,) rank of the nearest positive from 1, 0 if there is none among the candidates.
        gallery_images: size of the gallery, including excluded images.
        left_out: number of vehicles removed from the gallery to obtain queries of unknown vehicles (`leave_out`).
        protocol: name of the protocol.
        steps, reranked, transductive, features, notes: as in `Distances`.
    """

    query: NDArray[np.intp]
    identity: NDArray[np.int32]
    nearest: NDArray[np.float32]
    known: NDArray[np.bool_]
    positive: NDArray[np.float32]
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
            f"OpenSet: {self.num_known:,} queries of known vehicles, {self.num_unknown:,} of unknown ones"
            f"{f' (vehicles left out: {self.left_out:,})' if self.left_out else ''}; {self.gallery_images:,} gallery "
            f"images; protocol {self.protocol}"
        )

    @property
    def num_known(self) -> int:
        """Number of queries of known vehicles."""
        return int(self.known.sum())

    @property
    def num_unknown(self) -> int:
        """Number of queries of unknown vehicles."""
        return len(self) - self.num_known

    def of(self, rows: NDArray[Any]) -> OpenSet:
        """Select queries by mask or by index (repeated ones count repeatedly)."""
        columns = ("query", "identity", "nearest", "known", "positive", "rank")
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})

    def errors(self, threshold: ArrayLike) -> Errors:
        """Compute the error rates at one or several thresholds.

        Raises:
            InputError: a threshold is not finite.

        Example:
            >>> found = OpenSet(query=np.arange(3), identity=np.arange(3), nearest=np.array([0.1, 0.3, 0.4]),
            ...                 known=np.array([True, True, False]), positive=np.array([0.1, 0.35, np.inf]),
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

        answered = within(self.nearest[~self.known])
        wrongly_rejected = self.num_known - within(self.nearest[self.known])
        rightly_rejected = self.num_unknown - answered
        with np.errstate(invalid="ignore"):  # a selection (`of`) may hold known or unknown vehicles only: NaN rates
            fpir = answered / np.float64(self.num_unknown)
            return Errors(
                threshold=values,
                fpir=fpir,
                fnir=1 - within(self.positive[self.rank == 1]) / np.float64(self.num_known),
                fnir_any_rank=1 - within(self.positive[self.known]) / np.float64(self.num_known),
                tnr=1 - fpir,
                refusal_f1=2 * rightly_rejected / (self.num_unknown + rightly_rejected + wrongly_rejected),
            )

    def curve(self) -> Errors:
        """Compute the error rates at every threshold where one of them changes, ascending, as for a DET curve."""
        distances = np.unique(np.concatenate([self.nearest, self.positive]))
        return self.errors(distances[np.isfinite(distances)])

    def fnir_at_fpir(self, fpir: float, *, any_rank: bool = False) -> float:
        """Compute the lowest FNIR at an FPIR of at most `fpir`; the threshold is chosen on these queries.

        Raises:
            InputError: `fpir` is not between 0 and 1.
        """
        check_number("fpir", fpir, above=0, below=1)
        unknown = np.sort(self.nearest[~self.known])
        allowed = whole(fpir * len(unknown))
        limit = unknown[allowed] if allowed < len(unknown) else np.inf  # any threshold below it is valid
        found = self.positive[self.known if any_rank else self.rank == 1]
        return float(1 - np.count_nonzero(found < limit) / self.num_known) if self.num_known else float("nan")

    def interval(
        self,
        numbers: Callable[[OpenSet], ArrayLike],
        *,
        by: Resampled = "identity",
        seed: int = 0,
        resamples: int = RESAMPLES,
        confidence: float = CONFIDENCE,
    ) -> NDArray[np.float64]:
        """Compute the bootstrap interval (percentile method) of statistics of an `OpenSet`: (low, high), each (...).

        Args:
            numbers: function that computes the statistics of a resample, including the choice of thresholds.
            by: "identity" draws vehicles with all their queries, "query" single queries; known and unknown vehicles
                are drawn separately, so that each resample holds both.
            seed: equal seeds give equal intervals.
            resamples: number of resamples.
            confidence: confidence level.

        Raises:
            InputError: an argument is out of range.

        Example:
            >>> found = OpenSet(query=np.arange(3), identity=np.arange(3), nearest=np.array([0.1, 0.3, 0.4]),
            ...                 known=np.array([True, True, False]), positive=np.array([0.1, 0.35, np.inf]),
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
            rows = np.flatnonzero(self.known == kind)
            if len(rows):
                groups = Groups(clusters[rows])
                strata.append([rows[groups[code]] for code in np.unique(clusters[rows])])
        members = [rows for stratum in strata for rows in stratum]
        resampled = resample(*map(len, strata), seed=seed, resamples=resamples)
        drawn = [numbers(self.of(np.concatenate([members[i] for i in picks]))) for picks in resampled]
        return percentile_interval(np.array(drawn), confidence)

    def at(self, threshold: float, *, seed: int = 0, confidence: float = 0.95) -> dict[str, Any]:
        """Return the error rates at one threshold with their intervals, as JSON-serialisable values.

        Rates get the interval of `rate_interval`, whose width does not become 0 if all queries agree, as that of the
        bootstrap does; F1 is not a proportion and is bootstrapped.

        Raises:
            InputError: as `errors` and `interval`.
        """
        within = self.positive[self.known] <= threshold
        shares = {
            "fpir": self.nearest[~self.known] <= threshold,
            "fnir": ~(within & (self.rank[self.known] == 1)),
            "fnir_any_rank": ~within,
            "tnr": self.nearest[~self.known] > threshold,
        }
        rates: dict[str, Any] = {"threshold": float(threshold)}
        for name, counted in shares.items():
            of = self.identity[self.known if name.startswith("fnir") else ~self.known]
            rates |= {name: float(counted.mean()), f"{name}_interval": list(rate_interval(counted, of, confidence))}

        def refusal_f1(some: OpenSet) -> float:
            return float(some.errors(threshold).refusal_f1)

        low, high = self.interval(refusal_f1, confidence=confidence, seed=seed)
        return rates | {"refusal_f1": refusal_f1(self), "refusal_f1_interval": [float(low), float(high)]}

    def as_dict(self, levels: tuple[float, ...] = LEVELS, **options: Any) -> dict[str, Any]:
        """Return FNIR at several FPIRs with intervals, and the conditions, as JSON-serialisable values.

        Args:
            levels: false positive identification rates; those below one query are omitted.
            options: options of `interval`.
        """
        levels = tuple(level for level in levels if whole(level * self.num_unknown) >= 1)

        def numbers(some: OpenSet) -> list[list[float]]:
            return [[some.fnir_at_fpir(level, any_rank=any_rank) for any_rank in (False, True)] for level in levels]

        low, high = self.interval(numbers, **options) if levels else ([], [])
        rows = [
            {
                "fpir": level,
                "fnir": value[0],
                "fnir_interval": [below[0], above[0]],
                "fnir_any_rank": value[1],
                "fnir_any_rank_interval": [below[1], above[1]],
            }
            for level, value, below, above in zip(
                levels, numbers(self), np.asarray(low).tolist(), np.asarray(high).tolist(), strict=True
            )
        ]
        return {
            "num_mated": self.num_known,
            "num_without_mate": self.num_unknown,
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
    """Compute the search results of an open-set evaluation under `protocol`: one pass over the distances, O(Q) memory.

    Excluded and junk images are not candidates. Positives that post-processing excludes (camera verification) still
    count as positives: their queries are missed.

    Args:
        distances: distances of search or post-processing.
        protocol: evaluation protocol.
        left_out: number of vehicles removed from the gallery by `leave_out`, for reports.

    Raises:
        InputError: as `evaluate_distances`; or the vehicles of all queries are known, or none is.
    """
    query, _ = joint_codes(distances.query.identity, distances.gallery.identity)
    count = len(query)
    nearest, positive = (np.full(count, np.inf, dtype=np.float32) for _ in range(2))
    known, rank = np.zeros(count, dtype=np.bool_), np.zeros(count, dtype=np.int64)
    for row, values, positives in evaluated_rows(distances, protocol):
        nearest[row] = values.min()
        if len(positives):
            known[row] = True
            closest = positives[[np.argmin(values[positives])]]
            if values[closest[0]] < np.inf:
                positive[row], rank[row] = values[closest[0]], ranks_of(values, closest)[0]
    found = OpenSet(
        query=np.arange(count),
        identity=query,
        nearest=nearest,
        known=known,
        positive=positive,
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
    if not found.num_unknown:
        raise InputError(
            f"open set: the vehicles of all {len(found):,} queries are in the gallery, so errors on unknown vehicles "
            "cannot be measured; remove vehicles from the gallery (leave_out, --leave-out 0.3)."
        )
    if not found.num_known:
        raise InputError(
            f"open set: none of the {len(found):,} queries has a positive in the gallery; check identities and cameras."
        )
    return found


def leave_out(query: Records, gallery: Records, share: float, seed: int = 0) -> NDArray[np.bool_]:
    """Return the mask (G,) of gallery images that stay when a random share of the vehicles is removed.

    The vehicles are drawn from those in query and gallery: round(share * number), at least one, never all. Remove them
    before post-processing, which may use the whole gallery.

    Raises:
        InputError: `share` is not between 0 and 1, `seed` is negative, or query and gallery share fewer than two
            vehicles.

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
        raise InputError(f"leave_out: query and gallery have {len(both)} vehicles in common; at least two are needed.")
    count = min(max(round(share * len(both)), 1), len(both) - 1)
    gone = np.random.default_rng(seed).choice(both, size=count, replace=False)
    return ~np.isin(gallery_codes, gone)
