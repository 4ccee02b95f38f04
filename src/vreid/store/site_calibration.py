"""Calibration of a store on its own data: threshold without labels or with answers, and clock offsets."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from vreid.store.clock_offsets import ClockOffset, clock_offsets
from vreid.store.confidence import (
    FEWEST_CONTESTS,
    THRESHOLD,
    SearchThreshold,
    calibrate_without_labels,
    shipped_threshold,
)
from vreid.store.interface import VectorStore
from vreid.store.labelling import answered_pairs, fit_with_answers, pairs_of
from vreid.store.relative_distance import TrackletTable, hold_contests
from vreid.store.travel_times import learn_travel_times


@dataclass(frozen=True)
class SiteCalibration:
    """Result of `calibrate_site`.

    Attributes:
        threshold: of the store, or the shipped one if the store is too small; None: there is none.
        contests: number of contests that it was estimated on.
        offsets: clocks that differ, to be corrected in cameras.csv.
        travel_times: matches from which plausible times between cameras were learned, 0: none were.
    """

    threshold: SearchThreshold | None
    contests: int
    offsets: tuple[ClockOffset, ...]
    travel_times: int = 0

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was found, in sentences."""
        if self.contests >= FEWEST_CONTESTS:
            found = f"{self.threshold}."
        else:
            instead = "the threshold of simulated cameras is used" if self.threshold else "nothing is decided"
            found = (
                f"Tracklets and other cameras give {self.contests:,} contests; at least {FEWEST_CONTESTS:,} are needed "
                f"to calibrate on this site, so {instead}."
            )
        learned = f"Times between cameras were learned from {self.travel_times:,} likely matches; they order the hits."
        return (found, *([learned] if self.travel_times else []), *(f"Clocks: {offset}." for offset in self.offsets))

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-serialisable values."""
        return {
            "threshold": self.threshold.as_dict() if self.threshold else None,
            "contests": self.contests,
            "travel_times": self.travel_times,
            "clock_offsets": [asdict(offset) for offset in self.offsets],
            "notes": list(self.sentences),
        }


def calibrate_site(vectors: VectorStore) -> SiteCalibration:
    """Fit the threshold of a store to its own data and store it; learn travel times; estimate clock offsets.

    Answers (`vreid.store.labelling`) are used if there are some.

    Args:
        vectors: the store, open for writing.

    Raises:
        InputError: an answer is damaged, or the engine fails.
    """
    table = TrackletTable.load(vectors)
    contests = hold_contests(table)
    prior = learn_travel_times(vectors, table)
    learned = prior.matches if prior else 0
    threshold = calibrate_without_labels(contests, model=vectors.model, tracklets=len(table))
    if threshold is None:
        vectors.delete_document(THRESHOLD)
        return SiteCalibration(shipped_threshold(vectors.model), len(contests), (), learned)
    if answers := answered_pairs(vectors):
        threshold = fit_with_answers(pairs_of(table, contests, threshold.tracklet), answers, threshold)
    vectors.put_document(THRESHOLD, threshold.as_dict())
    offsets = clock_offsets(table, contests, threshold.tracklet.match)
    return SiteCalibration(threshold, len(contests), tuple(offsets), learned)
