"""Threshold calibration: decide MATCH, UNCERTAIN or NO MATCH with calibrated error rates.

The threshold of MATCH is the k-th smallest distance of the first candidates of n queries of unknown vehicles (vehicles
without a gallery image), where k is the largest integer with k / n at most the target. If queries are independent, the
false-match rate of a new query is k / (n + 1) on average over calibrations, which is below the target; the interval
shows the uncertainty of a single calibration.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vreid.errors import InputError
from vreid.files import parse_errors, read_json, write_json
from vreid.formats.facts import typed
from vreid.ranges import bounds, check_number, check_settings, in_range
from vreid.retrieval.evaluation.open_set import OpenSet
from vreid.retrieval.evaluation.proportions import rate_interval, whole
from vreid.retrieval.ranking import Ranking

NO_MATCH, UNCERTAIN, MATCH = 0, 1, 2
DECISIONS = ("NO MATCH", "UNCERTAIN", "MATCH")
"""Names of the decisions by code."""

_ALIKE = 1.1  # a gallery larger than that of the calibration by more than this factor gives a note


@dataclass(frozen=True)
class Rate:
    """Error rate of a decision, measured on the queries of the calibration.

    Attributes:
        target: requested rate.
        value: measured rate.
        low, high: confidence interval (`rate_interval`).
        num_queries, num_identities: number of queries and of their vehicles.
    """

    target: float
    value: float
    low: float
    high: float
    num_queries: int
    num_identities: int

    def __post_init__(self) -> None:
        if not (
            0 < self.target < 1
            and 0 <= self.low <= self.value <= self.high <= 1
            and self.num_queries >= self.num_identities >= 1
        ):
            raise InputError(f"Rate: {asdict(self)} is not a valid rate with its interval; calibrate again.")

    def __str__(self) -> str:
        return f"{_percent(self.value)} % ({_percent(self.low)} to {_percent(self.high)} %)"


@dataclass(frozen=True)
class Threshold:
    """Distance thresholds of MATCH and NO MATCH with their error rates and range of validity.

    Attributes:
        match: a candidate at a distance of at most this is a MATCH.
        no_match: a candidate at a larger distance than this is NO MATCH; at least `match`.
        false_match: share of queries of unknown vehicles that get a MATCH (FPIR at `match`).
        miss: share of queries of known vehicles whose positives are all NO MATCH (FNIR at any rank at `no_match`).
        confidence: confidence level of the intervals.
        features, steps: features and post-processing of the distances; other distances are rejected.
        protocol: protocol of the calibration.
        gallery_images: size of the gallery; larger galleries give more false matches.
        left_out: number of vehicles removed from the gallery to obtain queries of unknown vehicles.
        transductive: whether the distances depend on the other queries and on the gallery.
    """

    match: float
    no_match: float
    false_match: Rate
    miss: Rate
    confidence: float = field(metadata=bounds(above=0, below=1))
    features: str
    steps: tuple[str, ...]
    protocol: str
    gallery_images: int = field(metadata=bounds(least=1))
    left_out: int = in_range(0, least=0)
    transductive: bool = False

    def __post_init__(self) -> None:
        if not (np.isfinite([self.match, self.no_match]).all() and self.match <= self.no_match):
            raise InputError(
                f"Threshold: match is {self.match} and no_match {self.no_match}; give finite distances with match at "
                "most no_match."
            )
        check_settings(self, "Threshold: ")

    def __str__(self) -> str:
        left_out = f" (vehicles left out: {self.left_out:,})" if self.left_out else ""
        return (
            f"MATCH at a false-match rate of {self.false_match}, calibrated on {self.false_match.num_queries:,} "
            f"queries of unknown vehicles{left_out} among {self.gallery_images:,} images; NO MATCH at a miss rate of "
            f"{self.miss}, calibrated on {self.miss.num_queries:,} queries of known vehicles; "
            f"{100 * self.confidence:g} % intervals"
        )

    def classify(self, distances: ArrayLike) -> NDArray[np.int8]:
        """Return NO_MATCH, UNCERTAIN or MATCH for each distance; +inf (no candidate) is NO_MATCH.

        Raises:
            InputError: a distance is NaN.
        """
        values = np.asarray(distances, dtype=np.float64)
        if np.isnan(values).any():
            raise InputError("distances hold NaN; compute them again.")
        return np.where(values <= self.match, MATCH, np.where(values <= self.no_match, UNCERTAIN, NO_MATCH)).astype(
            np.int8
        )

    def check(self, *, features: str, steps: tuple[str, ...]) -> None:
        """Raise if the threshold was calibrated for other features or other post-processing steps.

        Raises:
            InputError: features or steps differ.
        """
        for what, mine, theirs in (
            ("features", self.features or "unknown", features or "unknown"),
            ("post-processing", ", ".join(self.steps) or "none", ", ".join(steps) or "none"),
        ):
            if mine != theirs:
                raise InputError(
                    f"the threshold was calibrated on other distances ({what}: {mine}) than these ({what}: {theirs}); "
                    "calibrate one for these."
                )

    def notes(self, gallery_images: int, protocol: str) -> tuple[str, ...]:
        """Return sentences on why the stated error rates may not hold for this gallery size and protocol."""
        notes = []
        if not self.features:
            notes.append("The model of the calibration is not recorded; make sure that it is this one.")
        if self.transductive:
            notes.append(
                f"These distances ({', '.join(self.steps)}) depend on all queries and the whole gallery: the stated "
                "errors hold only for data similar to those of the calibration."
            )
        larger = gallery_images / self.gallery_images
        if larger > _ALIKE:
            notes.append(
                f"This gallery is {larger:.1f} times as large as that of the calibration: the false-match rate may be "
                f"up to {int(np.ceil(larger))} times the stated one."
            )
        if protocol != self.protocol:
            notes.append(f"The threshold was calibrated under protocol {self.protocol}; here it is {protocol}.")
        return tuple(notes)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-serialisable values."""
        return {"kind": "threshold", **asdict(self)}

    def save(self, path: Path | str) -> None:
        """Write the threshold atomically to a JSON file."""
        write_json(path, self.as_dict())

    @classmethod
    def load(cls, path: Path | str) -> Threshold:
        """Load a threshold written by `save`.

        Raises:
            InputError: the file is missing, damaged, or not a threshold file.
        """
        stored = read_json(path)
        if not isinstance(stored, dict) or stored.pop("kind", None) != "threshold":
            raise InputError(f"{path}: is not a threshold file; give a file written by `vreid calibrate`.")
        with parse_errors(path):
            return typed(cls, stored, "threshold")


def calibrate(
    validation: OpenSet, *, fpir: float = 0.01, miss_rate: float = 0.05, confidence: float = 0.95
) -> Threshold:
    """Compute the largest threshold of MATCH and the smallest of NO MATCH that meet the error rates on `validation`.

    Args:
        validation: queries of known and unknown vehicles, disjoint from any later test data.
        fpir: target share of queries of unknown vehicles that get a MATCH.
        miss_rate: target share of queries of known vehicles whose positives are all NO MATCH.
        confidence: confidence level of the stated intervals.

    Raises:
        InputError: there are too few queries for these rates (one error would exceed them), or a rate is out of range.
    """
    for name, share in (("fpir", fpir), ("miss_rate", miss_rate), ("confidence", confidence)):
        check_number(f"calibrate: {name}", share, above=0, below=1)
    unknown, known = validation.of(~validation.known), validation.of(validation.known)
    wrong = _allowed(fpir, unknown, "queries of unknown vehicles")
    missed = _allowed(miss_rate, known, "queries of known vehicles")
    ordered = np.sort(unknown.nearest)
    if np.isinf(ordered[0]):
        raise InputError(
            "calibrate: no query of an unknown vehicle has a candidate; disable the step that excludes candidates."
        )
    reached = ordered[ordered < ordered[wrong]]
    if not len(reached):
        raise InputError(
            f"calibrate: more than {_percent(fpir)} % of the queries of unknown vehicles have a candidate at the "
            f"smallest distance, {ordered[0]:g}; check for copies of images under two identities."
        )
    match = float(reached[-1])
    no_match = max(match, float(np.sort(known.positive)[len(known) - 1 - missed]))
    if not np.isfinite(no_match):
        raise InputError(
            f"calibrate: more than {_percent(miss_rate)} % of the queries of known vehicles have no positive among the "
            "candidates (post-processing excludes them); allow a larger miss rate or disable that step."
        )
    return Threshold(
        match=match,
        no_match=no_match,
        false_match=_rate(fpir, unknown.nearest <= match, unknown.identity, confidence),
        miss=_rate(miss_rate, known.positive > no_match, known.identity, confidence),
        confidence=confidence,
        features=validation.features,
        steps=validation.steps,
        protocol=validation.protocol,
        gallery_images=validation.gallery_images,
        left_out=validation.left_out,
        transductive=validation.transductive,
    )


@dataclass(frozen=True, eq=False)
class Decisions:
    """Decision for each candidate of each query.

    Attributes:
        decision: (Q, K) int8 NO_MATCH, UNCERTAIN or MATCH for each rank; NO_MATCH after the end of the ranking.
        threshold: the threshold used.
        notes: sentences on why the stated error rates may not hold here.
    """

    decision: NDArray[np.int8]
    threshold: Threshold
    notes: tuple[str, ...] = ()

    @property
    def of_query(self) -> NDArray[np.int8]:
        """(Q,) decision of each query: that of its first candidate, NO_MATCH if it has none."""
        return self.decision[:, 0]

    @property
    def names(self) -> NDArray[np.str_]:
        """(Q, K) "MATCH", "UNCERTAIN" or "NO MATCH"."""
        return np.array(DECISIONS)[self.decision]

    @property
    def counts(self) -> dict[str, int]:
        """Number of queries per decision."""
        return {DECISIONS[code]: int((self.of_query == code).sum()) for code in (MATCH, UNCERTAIN, NO_MATCH)}

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-serialisable values, without the decision of each candidate."""
        return {"counts": self.counts, "threshold": self.threshold.as_dict(), "notes": list(self.notes)}

    def __str__(self) -> str:
        counts = ", ".join(f"{count:,} {name}" for name, count in self.counts.items())
        return " ".join([f"{counts} of {len(self.decision):,} queries. {self.threshold}.", *self.notes])


def decide(ranking: Ranking, threshold: Threshold) -> Decisions:
    """Decide MATCH, UNCERTAIN or NO MATCH for each candidate of `ranking`.

    The stated false-match rate holds for the whole list, because a query has a MATCH at any rank only if its first
    candidate is one.

    Raises:
        InputError: the threshold was calibrated for another model or other steps.
    """
    threshold.check(features=ranking.features, steps=ranking.steps)
    notes = threshold.notes(len(ranking.gallery), ranking.protocol)
    return Decisions(threshold.classify(ranking.distances), threshold, notes)


def _rate(target: float, wrong: NDArray[np.bool_], identity: NDArray[np.integer], confidence: float) -> Rate:
    low, high = rate_interval(wrong, identity, confidence)
    return Rate(target, float(wrong.mean()), low, high, len(wrong), len(np.unique(identity)))


def _allowed(rate: float, side: OpenSet, what: str) -> int:
    """Return the number of errors that `rate` allows among the queries of `side`.

    Raises:
        InputError: there are too few queries for a single error.
    """
    allowed = whole(rate * len(side))
    if not allowed:
        raise InputError(
            f"calibrate: a rate of {_percent(rate)} % needs at least {int(np.ceil(1 / rate - 1e-9)):,} {what}; there "
            f"are {len(side):,}. Give more, or ask for a larger rate."
        )
    return allowed


def _percent(share: float) -> str:
    """Format a share as percent without rounding small ones to 0: 0.01 -> "1.0", 0.0004 -> "0.04"."""
    return f"{100 * share:.1f}" if share == 0 or share >= 0.001 else f"{100 * share:.1g}"
