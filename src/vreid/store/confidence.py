"""MATCH, UNCERTAIN or NO MATCH for the hits of a search, with the share of wrong ones, estimated without labels.

Decisions are taken on relative distances (`vreid.store.relative_distance`). In each contest the nearest tracklet of a
group is the target. Where it is right, the second one, with the first removed, is a decoy: a known non-match that took
part in the same contest (target-decoy estimate of the false discovery rate: Elias & Gygi, Nature Methods 2007; share of
true nulls: Storey, JRSS B 2002). So with M contests, of which a share pi0 has no match in the group,

    false-match share at t = pi0 * M * P(decoy <= t) / (number of targets <= t).

Where the target is wrong, the second is not a decoy but worse than one; the ratio of third to second tracklets says by
how much, which is corrected for. One decoy is added to their number (Levitsky et al., J. Proteome Res. 2017), so that
few contests do not promise much. The share holds for hits within `WINDOW` of the query: searches over longer times have
more chances of a wrong one. Error and coverage on simulated sites: studies/search_threshold.py.

Shapes: M contests, K hits.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vreid.errors import InputError
from vreid.files import parse_errors, read_json
from vreid.formats.facts import typed
from vreid.ranges import bounds, check_settings, in_range
from vreid.retrieval.evaluation.calibration import DECISIONS, MATCH, NO_MATCH, UNCERTAIN
from vreid.store.relative_distance import Contests
from vreid.training.model_file import BUNDLED

THRESHOLD = "threshold"
"""Document of a store's threshold."""
TARGETS, DOUBTFUL = (0.01, 0.02, 0.05), 0.5
"""Shares of wrong hits up to which a hit is a MATCH, the first that the data can show, and up to which UNCERTAIN."""
SHIPPED = BUNDLED / "search_threshold.json"
"""Threshold that was calibrated on simulated cameras, for the bundled model."""
FEWEST_CONTESTS = 1000
"""A store with fewer contests uses the shipped threshold."""

Source = Literal["simulated cameras", "this site, without labels", "this site, with answers"]

_FEWEST_MATCHES = 10  # a threshold below which fewer targets lie is not one
_NULL = 0.9  # relative distance above which targets are mostly wrong (Storey's lambda)
_ENOUGH = 30  # decoys from which the ratio of third to second tracklets is estimated
_LEAST_RATIO = 0.02  # so that a decoy counts at most 50 times
_ALIKE = 1.5  # a store larger than at calibration by more than this factor gives a note


@dataclass(frozen=True)
class OperatingPoint:
    """Relative distances of MATCH and NO MATCH, and the share of wrong ones among the MATCHes.

    Attributes:
        match: a hit at a relative distance of at most this is a MATCH; 0: none is.
        no_match: a hit at a larger relative distance than this is NO MATCH.
        false_match_share: estimated share of wrong hits among the MATCHes.
        low, high: 95 % interval of it.
        matches: number of MATCHes that it was estimated on.
    """

    match: float = in_range(0.0, least=0)
    no_match: float = in_range(0.0, least=0)
    false_match_share: float = in_range(0.0, least=0, most=1)
    low: float = in_range(0.0, least=0, most=1)
    high: float = in_range(1.0, least=0, most=1)
    matches: int = in_range(0, least=0)

    def __post_init__(self) -> None:
        check_settings(self, "operating point: ")
        if not (self.match <= self.no_match and self.low <= self.false_match_share <= self.high):
            raise InputError(f"operating point: {asdict(self)} is not in order; calibrate again.")

    def __str__(self) -> str:
        if not self.match:
            return "no hit is sure enough for a MATCH"
        return (
            f"MATCH up to a relative distance of {self.match:.2f}, {100 * self.false_match_share:.1f} % of them wrong "
            f"({100 * self.low:.1f} to {100 * self.high:.1f} %, of {self.matches:,})"
        )


@dataclass(frozen=True)
class SearchThreshold:
    """What MATCH, UNCERTAIN and NO MATCH mean in a store.

    Attributes:
        tracklet: for queries with a camera (tracklets of the store).
        image: for images of unknown camera, whose relative distances are one-sided.
        source: data of the estimate.
        model: features it is valid for, as `Embedder.made_by`.
        tracklets: size of the store at calibration.
        answers: number of labelled pairs.
    """

    tracklet: OperatingPoint
    image: OperatingPoint
    source: Source
    model: str
    tracklets: int = field(metadata=bounds(least=0))
    answers: int = in_range(0, least=0)

    def __post_init__(self) -> None:
        check_settings(self, "threshold: ")

    def __str__(self) -> str:
        source = f"this site, {self.answers:,} answers" if self.answers else self.source
        return f"Tracklets: {self.tracklet}. Images: {self.image}. Calibrated on {source}"

    def classify(self, relative: ArrayLike, *, image: bool = False) -> list[str]:
        """Return "MATCH", "UNCERTAIN" or "NO MATCH" for relative distances (K,); `image` if they are one-sided."""
        point = self.image if image else self.tracklet
        values = np.asarray(relative, dtype=np.float64)
        codes = np.where(values <= point.match, MATCH, np.where(values <= point.no_match, UNCERTAIN, NO_MATCH))
        return [DECISIONS[code] for code in codes]

    def notes(self, tracklets: int) -> tuple[str, ...]:
        """Return sentences on why the stated shares may not hold for a store of this size."""
        if self.source == "simulated cameras":
            return (
                "The decisions were calibrated on simulated cameras; `vreid calibrate STORE` calibrates them on this "
                "site, without labels.",
            )
        if tracklets > _ALIKE * self.tracklets:
            return (
                f"The store has grown from {self.tracklets:,} to {tracklets:,} tracklets since its calibration; run "
                "`vreid calibrate STORE` again.",
            )
        return ()

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-serialisable values."""
        return {"kind": "search threshold", **asdict(self)}

    @classmethod
    def from_dict(cls, stored: Any, name: str = THRESHOLD) -> SearchThreshold:
        """Return the threshold of `as_dict`.

        Raises:
            InputError: it is damaged or of another kind; `name` says where it is.
        """
        with parse_errors(name):
            if not isinstance(stored, dict) or stored.get("kind") != "search threshold":
                raise ValueError("not a search threshold")
            return typed(cls, {key: value for key, value in stored.items() if key != "kind"}, name)


@dataclass(frozen=True, eq=False)
class FalseMatchCurve:
    """Share of wrong targets up to each relative distance.

    Attributes:
        relative: (T,) relative distances of the targets, ascending.
        share: (T,) estimated share of wrong ones among the targets up to there.
        decoys: (T,) number of decoys up to there, on which the share rests.
        without_match: estimated share of the contests without a match (pi0).
    """

    relative: NDArray[np.float64]
    share: NDArray[np.float64]
    decoys: NDArray[np.intp]
    without_match: float

    @classmethod
    def of(cls, relative: NDArray[np.float64]) -> FalseMatchCurve:
        """Estimate the curve from the relative distances (M, 3) of `Contests`; inf where there is none."""
        targets = np.sort(relative[:, 0])
        targets = targets[np.isfinite(targets)]
        first, second, third = (np.sort(column) for column in relative.T)
        beyond_targets, beyond_decoys = (float((column > _NULL).mean()) for column in (first, second))
        without = min(1.0, beyond_targets / beyond_decoys) if beyond_decoys else 1.0
        seconds, thirds = (np.searchsorted(column, targets, side="right") for column in (second, third))
        ratio = thirds / np.maximum(seconds, 1)
        enough = int(np.searchsorted(seconds, _ENOUGH))
        ratio[:enough] = ratio[enough] if enough < len(ratio) else 1.0
        wrong = without * (seconds + 1) / (1 - without * (1 - np.clip(ratio, _LEAST_RATIO, 1)))
        share = np.minimum(wrong / np.arange(1, len(targets) + 1), 1)
        return cls(targets, np.minimum.accumulate(share[::-1])[::-1], seconds, without)

    def largest(self, share: float) -> int:
        """Return the number of targets up to the largest relative distance at which at most `share` are wrong."""
        return int(np.searchsorted(self.share, share, side="right"))

    def point(self) -> OperatingPoint:
        """Choose the relative distances of MATCH and NO MATCH: at the first of `TARGETS` that this site can show."""
        uncertain = self.largest(DOUBTFUL)
        no_match = float(self.relative[uncertain - 1]) if uncertain else 0.0
        match = next((found for target in TARGETS if (found := self.largest(target)) >= _FEWEST_MATCHES), 0)
        if not match:
            return OperatingPoint(no_match=no_match)
        share, decoys = float(self.share[match - 1]), int(self.decoys[match - 1])
        low, high = (min(end * share / (decoys + 1), 1.0) for end in decoy_interval(decoys))
        return OperatingPoint(
            float(self.relative[match - 1]), no_match, share, min(low, share), max(high, share), match
        )


def decoy_interval(decoys: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the expected number of decoys when `decoys` were counted, each pair of tracklets up to twice.

    Poisson, of half the count.

    Example:
        >>> [round(end, 1) for end in decoy_interval(20)]
        [9.6, 36.8]
    """
    from scipy.stats import chi2

    half, tail = decoys / 2, (1 - confidence) / 2
    low = float(chi2.ppf(tail, 2 * half)) if decoys else 0.0
    return low, float(chi2.ppf(1 - tail, 2 * half + 2))


def calibrate_without_labels(contests: Contests, *, model: str, tracklets: int) -> SearchThreshold | None:
    """Estimate the threshold of a store from its own contests; None if they are too few."""
    if len(contests) < FEWEST_CONTESTS:
        return None
    two, one = (FalseMatchCurve.of(values) for values in (contests.relative, contests.one_sided))
    return SearchThreshold(two.point(), one.point(), "this site, without labels", model, tracklets)


def shipped_threshold(model: str) -> SearchThreshold | None:
    """Return the threshold that was calibrated on simulated cameras, if it is for the features of `model`."""
    found = _read(SHIPPED) if SHIPPED.exists() else None
    return found if found and found.model == model else None


@cache
def _read(path: Path) -> SearchThreshold:
    return SearchThreshold.from_dict(read_json(path), str(path))
