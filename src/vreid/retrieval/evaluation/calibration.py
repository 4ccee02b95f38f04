"""Decisions: MATCH, UNCERTAIN or NO MATCH, by two thresholds that were calibrated and say how often they err.

Among n queries without a mate the threshold of MATCH is the distance that the k nearest of them reach, k being the
largest whole number with k / n at most the target. Where queries are independent, a new one reaches it with probability
k / (n + 1) on average over calibrations, which is below the target; how far off one calibration may be, its interval
says.
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
"""Names of the verdicts by their code."""

_ALIKE = 1.1  # a gallery larger than the calibration's by more than this factor is told


@dataclass(frozen=True)
class Rate:
    """How often a decision is wrong, as measured on the calibration's queries.

    Attributes:
        target: what was asked for.
        value: share of wrong ones.
        low, high: confidence interval (`rate_interval`).
        num_queries, num_identities: what it rests on.
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
            raise InputError(f"Rate: {asdict(self)} is no rate with its interval; calibrate again.")

    def __str__(self) -> str:
        return f"{_percent(self.value)} % ({_percent(self.low)} to {_percent(self.high)} %)"


@dataclass(frozen=True)
class Threshold:
    """Two distances that part MATCH, UNCERTAIN and NO MATCH, with their errors and what they are valid for.

    Attributes:
        match: a candidate at a distance of at most this is a MATCH.
        no_match: one at a distance of more than this is NO MATCH; never below `match`.
        false_match: share of the queries without a mate that got a MATCH all the same (FPIR at `match`).
        miss: share of the mated queries whose every mate was a NO MATCH (FNIR at any rank at `no_match`).
        confidence: of the intervals.
        features, steps: what made the distances; others are refused.
        protocol: the protocol of the calibration.
        gallery_images: how many images were searched; more of them give more false matches.
        left_out: vehicles taken out of the gallery to have queries without a mate.
        transductive: the distances of the calibration depend on its other queries and on its gallery.
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
                f"Threshold: match is {self.match} and no_match {self.no_match}; both must be distances, and match not "
                "the larger one."
            )
        check_settings(self, "Threshold: ")

    def __str__(self) -> str:
        left_out = f" (vehicles left out: {self.left_out:,})" if self.left_out else ""
        return (
            f"MATCH at a false-match rate of {self.false_match}, calibrated on {self.false_match.num_queries:,} "
            f"queries without a mate{left_out} among {self.gallery_images:,} images; NO MATCH at a miss rate of "
            f"{self.miss}, calibrated on {self.miss.num_queries:,} queries with one; {100 * self.confidence:g} % "
            "intervals"
        )

    def verdicts(self, distances: ArrayLike) -> NDArray[np.int8]:
        """NO_MATCH, UNCERTAIN or MATCH for each distance; +inf, no candidate, is NO_MATCH.

        Raises:
            InputError: NaN among the distances.
        """
        values = np.asarray(distances, dtype=np.float64)
        if np.isnan(values).any():
            raise InputError("distances hold NaN; compute them again.")
        return np.where(values <= self.match, MATCH, np.where(values <= self.no_match, UNCERTAIN, NO_MATCH)).astype(
            np.int8
        )

    def check(self, *, features: str, steps: tuple[str, ...]) -> None:
        """Refuse distances of another kind: a distance means nothing to another model or after other steps.

        Raises:
            InputError: they are of another kind.
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
        """Why the stated errors may not hold for a gallery of that size under that protocol, in sentences."""
        notes = []
        if not self.features:
            notes.append("Nobody knows which model the threshold was calibrated for; make sure that it is this one.")
        if self.transductive:
            notes.append(
                f"These distances ({', '.join(self.steps)}) depend on all queries and the whole gallery: the stated "
                "errors hold for data like the calibration's."
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
        """Plain numbers and texts for JSON."""
        return {"kind": "threshold", **asdict(self)}

    def save(self, path: Path | str) -> None:
        """Write one JSON file, whole or not at all."""
        write_json(path, self.as_dict())

    @classmethod
    def load(cls, path: Path | str) -> Threshold:
        """Inverse of `save`.

        Raises:
            InputError: absent, damaged, or no file of a threshold.
        """
        stored = read_json(path)
        if not isinstance(stored, dict) or stored.pop("kind", None) != "threshold":
            raise InputError(f"{path}: holds no threshold; give a file that `vreid calibrate` has written.")
        with parse_errors(path):
            return typed(cls, stored, "threshold")


def calibrate(
    validation: OpenSet, *, fpir: float = 0.01, miss_rate: float = 0.05, confidence: float = 0.95
) -> Threshold:
    """The largest distance of MATCH and the smallest of NO MATCH that keep to the wanted errors on `validation`.

    Args:
        validation: queries that no later number rests on, with and without a mate.
        fpir: how many of the queries without a mate may get a MATCH.
        miss_rate: how many of the mated queries may see all their mates called NO MATCH.
        confidence: of the stated intervals.

    Raises:
        InputError: too few queries for such rates (one wrong query would be more), or a share out of range.
    """
    for name, share in (("fpir", fpir), ("miss_rate", miss_rate), ("confidence", confidence)):
        check_number(f"calibrate: {name}", share, above=0, below=1)
    without, mated = validation.of(~validation.mated), validation.of(validation.mated)
    wrong, missed = (
        _allowed(rate, side, what)
        for rate, side, what in ((fpir, without, "queries without a mate"), (miss_rate, mated, "queries with a mate"))
    )
    ordered = np.sort(without.nearest)
    if np.isinf(ordered[0]):
        raise InputError("calibrate: no query without a mate has a candidate (post-processing took them all out).")
    reached = ordered[ordered < ordered[wrong]]
    if not len(reached):
        raise InputError(
            f"calibrate: more than {_percent(fpir)} % of the queries without a mate have a candidate at the smallest "
            f"distance, {ordered[0]:g}; are there copies of pictures under two names?"
        )
    match = float(reached[-1])
    no_match = max(match, float(np.sort(mated.mate)[len(mated) - 1 - missed]))
    if not np.isfinite(no_match):
        raise InputError(
            f"calibrate: more than {_percent(miss_rate)} % of the mated queries have no mate among the candidates "
            "(post-processing took them out); allow a larger miss rate or leave that step off."
        )
    return Threshold(
        match=match,
        no_match=no_match,
        false_match=_rate(fpir, without.nearest <= match, without.identity, confidence),
        miss=_rate(miss_rate, mated.mate > no_match, mated.identity, confidence),
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
    """A verdict for each candidate of each query.

    Attributes:
        decision: (Q, K) int8, NO_MATCH, UNCERTAIN or MATCH for each place of the ranking; NO_MATCH behind its end.
        threshold: what decided.
        notes: why the stated errors may not hold here, in sentences.
    """

    decision: NDArray[np.int8]
    threshold: Threshold
    notes: tuple[str, ...] = ()

    @property
    def of_query(self) -> NDArray[np.int8]:
        """(Q,) verdict of each query: that of its first candidate, NO_MATCH where it has none."""
        return self.decision[:, 0]

    @property
    def names(self) -> NDArray[np.str_]:
        """(Q, K) "MATCH", "UNCERTAIN" or "NO MATCH"."""
        return np.array(DECISIONS)[self.decision]

    @property
    def counts(self) -> dict[str, int]:
        """How many queries got which verdict."""
        return {DECISIONS[code]: int((self.of_query == code).sum()) for code in (MATCH, UNCERTAIN, NO_MATCH)}

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and texts for JSON, without the verdicts."""
        return {"counts": self.counts, "threshold": self.threshold.as_dict(), "notes": list(self.notes)}

    def __str__(self) -> str:
        counts = ", ".join(f"{count:,} {name}" for name, count in self.counts.items())
        return " ".join([f"{counts} of {len(self.decision):,} queries. {self.threshold}.", *self.notes])


def decide(ranking: Ranking, threshold: Threshold) -> Decisions:
    """Judge every candidate of `ranking`.

    A query without a mate gets a MATCH anywhere in its list just when it gets one at its first place, so the stated
    false-match rate is that of the whole list.

    Raises:
        InputError: the threshold belongs to another model or other steps.
    """
    threshold.check(features=ranking.features, steps=ranking.steps)
    notes = threshold.notes(len(ranking.gallery), ranking.protocol)
    return Decisions(threshold.verdicts(ranking.distances), threshold, notes)


def _rate(target: float, wrong: NDArray[np.bool_], identity: NDArray[np.integer], confidence: float) -> Rate:
    low, high = rate_interval(wrong, identity, confidence)
    return Rate(target, float(wrong.mean()), low, high, len(wrong), len(np.unique(identity)))


def _allowed(rate: float, side: OpenSet, what: str) -> int:
    """How many queries of `side` may go wrong.

    Raises:
        InputError: not even one.
    """
    allowed = whole(rate * len(side))
    if not allowed:
        raise InputError(
            f"calibrate: a rate of {_percent(rate)} % needs at least {int(np.ceil(1 / rate - 1e-9)):,} {what}; there "
            f"are {len(side):,}. Give more, or ask for a larger rate."
        )
    return allowed


def _percent(share: float) -> str:
    """0.01 -> "1.0", 0.0004 -> "0.04": percent that does not round a small share to nothing."""
    return f"{100 * share:.1f}" if share == 0 or share >= 0.001 else f"{100 * share:.1g}"
