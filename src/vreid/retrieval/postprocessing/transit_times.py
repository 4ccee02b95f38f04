"""Transit times: how long vehicles take between cameras, learned without labels, as a prior for who it can have been.

Two units of different cameras that are each other's nearest are probably one vehicle. The gaps in time between such
matches, beside the gaps between any two units, say how much likelier a gap is for one vehicle than for two strangers:
log p(gap | match) / p(gap | any pair). This log-ratio makes better matches, which make a better ratio, a few rounds
long. It then comes off the distances of the search.

Related: spatio-temporal priors from annotated or confident pairs in vehicle re-identification (Liu et al., PROVID, TMM
2018; Wang et al., "Spatial-Temporal Person Re-identification", AAAI 2019, which needs labels).

Where the gaps of matches that looks alone have made are like anybody's (Kolmogorov-Smirnov, 1 % chance of an error), as
with clocks that are wrong by hours, nothing is learned and nothing changes.

Shapes: Q queries, U units, D feature dimensions, B bins of gaps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vreid.data.records import Records
from vreid.errors import InputError
from vreid.ranges import check_settings, in_range
from vreid.retrieval.features import unit_rows
from vreid.retrieval.postprocessing.ensemble import Weighted
from vreid.retrieval.postprocessing.own_tracklet import nearest_elsewhere
from vreid.retrieval.postprocessing.state import Codes, SearchState
from vreid.retrieval.tiles import Tiles, tile_rows

_CANDIDATES = 50  # nearest of other cameras among which a match is looked for
_MATCH_WEIGHT = 0.1  # of the log-ratio beside squared distances (0 to 4) while matches are made
_PAIRS = 1_000_000  # pairs that stand for any two units
_BINS = 8  # quantiles of matched gaps, and as many of any pair's
_CHANCE = 0.01  # of learning something where times say nothing
_PRIOR_MATCHES = 5.0  # weight of "gaps of matches are like anybody's": few matches say little


@dataclass(frozen=True)
class TransitTimes:
    """Distances less `weight` times the log-ratio of the gap in time.

    Attributes:
        weight: of the natural log-ratio; 0.08 suits re-ranked distances (0 to 1), 0.2 squared ones (0 to 4).
        rounds: how often matches and ratio are made anew.
    """

    weight: float = in_range(0.08, above=0)
    rounds: int = in_range(4, least=1)

    def __post_init__(self) -> None:
        check_settings(self, "transit times: ")


@dataclass(frozen=True, eq=False)
class TransitPrior:
    """The learned log-ratio of a gap in time, a step function.

    Attributes:
        edges_B: upper edges of the bins in seconds, ascending; the last is +inf.
        log_ratio_B: natural log of p(gap | match) / p(gap | any pair) in each.
        matches: how many matched pairs it was made from.
    """

    edges_B: NDArray[np.float64]
    log_ratio_B: NDArray[np.float32]
    matches: int

    def of(self, gaps: NDArray[np.float64]) -> NDArray[np.float32]:
        """The log-ratio of gaps in seconds, of any shape; 0 where a gap is NaN."""
        place = np.searchsorted(self.edges_B, gaps, side="left").clip(max=len(self.edges_B) - 1)
        return np.asarray(np.where(np.isnan(gaps), np.float32(0), self.log_ratio_B[place]), dtype=np.float32)


def learn_transit_times(
    unit_UD: NDArray[np.float32], time_U: NDArray[np.float64], camera_U: Codes, *, rounds: int = 4
) -> TransitPrior:
    """Learn the log-ratio from units of known cameras and times, without labels.

    Args:
        unit_UD: features; only directions matter.
        time_U: seconds, NaN where unknown.
        camera_U: codes, negative where unknown.
        rounds: see `TransitTimes`.

    Raises:
        InputError: fewer than two cameras have units of known time.
    """
    known = np.flatnonzero(~np.isnan(time_U) & (camera_U >= 0))
    unit_UD, time_U, camera_U = unit_rows(unit_UD[known]), time_U[known], camera_U[known]
    if len(np.unique(camera_U)) < 2:
        raise InputError(
            "transit times: fewer than two cameras have gallery images of known time; give the columns `time` and "
            "`camera`, or switch the step off."
        )
    squared_UK, index_UK = nearest_elsewhere(unit_UD, unit_UD, camera_U, camera_U, _CANDIDATES)
    gaps_UK = np.abs(time_U[:, None] - time_U[index_UK])
    strangers = _gaps_of_any(time_U, camera_U)
    itself = np.arange(len(unit_UD))
    prior = TransitPrior(np.array([np.inf]), np.zeros(1, dtype=np.float32), 0)
    for number in range(rounds):
        score_UK = squared_UK - np.float32(_MATCH_WEIGHT) * prior.of(gaps_UK)
        best = index_UK[itself, np.argmin(score_UK, axis=1)]
        first = np.flatnonzero((best[best] == itself) & (itself < best))
        gaps = np.abs(time_U[first] - time_U[best[first]])
        if number == 0 and not _distinguish(gaps, strangers):
            return replace(prior, matches=len(first))
        prior = _ratio(gaps, strangers)
    return prior


def _distinguish(matched: NDArray[np.float64], strangers: NDArray[np.float64]) -> bool:
    """Whether gaps of matches that looks alone have made differ from anybody's by more than chance."""
    from scipy.stats import ks_2samp

    return len(matched) > 0 and bool(ks_2samp(matched, strangers).pvalue < _CHANCE)


def _gaps_of_any(time_U: NDArray[np.float64], camera_U: Codes) -> NDArray[np.float64]:
    """Gaps of pairs of units in two cameras: all of them, or a million."""
    count = len(time_U)
    if count * (count - 1) // 2 <= _PAIRS:
        row, column = np.triu_indices(count, 1)
    else:
        row, column = np.random.default_rng(0).integers(count, size=(2, _PAIRS))
    apart = camera_U[row] != camera_U[column]
    return np.asarray(np.abs(time_U[row[apart]] - time_U[column[apart]]), dtype=np.float64)


def _ratio(matched: NDArray[np.float64], strangers: NDArray[np.float64]) -> TransitPrior:
    shares = np.linspace(0, 1, _BINS + 1)[1:-1]
    edges = np.unique(np.concatenate([np.quantile(gaps, shares) for gaps in (matched, strangers) if len(gaps)]))
    edges = np.append(edges, np.inf)
    of_matched, of_strangers = (
        np.bincount(np.searchsorted(edges, gaps, side="left"), minlength=len(edges)).astype(np.float64)
        for gaps in (matched, strangers)
    )
    any_pair = (of_strangers + 0.5) / (of_strangers + 0.5).sum()
    match = smoothed_shares(of_matched + _PRIOR_MATCHES * any_pair)
    return TransitPrior(edges, np.log(match / smoothed_shares(any_pair)).astype(np.float32), len(matched))


def smoothed_shares(counts_B: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares of bins, each mixed with its neighbours one to two to one."""
    kernel = np.array([1.0, 2.0, 1.0])
    mixed = np.convolve(counts_B, kernel, mode="same") / np.convolve(np.ones_like(counts_B), kernel, mode="same")
    return np.asarray(mixed / mixed.sum())


@dataclass(frozen=True, eq=False)
class TransitRatios:
    """Log-ratios of queries and units as a source of tiles; 0 within a camera and where a time is unknown.

    Attributes:
        prior: what was learned.
        time_Q, time_U: seconds, NaN where unknown.
        camera_Q, camera_U: codes on one list, negative where unknown.
    """

    prior: TransitPrior
    time_Q: NDArray[np.float64]
    time_U: NDArray[np.float64]
    camera_Q: Codes
    camera_U: Codes

    @property
    def shape(self) -> tuple[int, int]:
        """Queries and units."""
        return len(self.time_Q), len(self.time_U)

    def tiles(self) -> Tiles:
        """Tiles on the grid of plain distances."""
        rows, columns = self.shape
        height = tile_rows(columns)

        def made(start: int) -> tuple[int, NDArray[np.float32]]:
            block = slice(start, start + height)
            ratios = self.prior.of(np.abs(self.time_Q[block, None] - self.time_U))
            ratios[self.camera_Q[block, None] == self.camera_U] = 0
            return start, ratios

        return map(made, range(0, rows, height))


def unit_times(gallery: Records, unit_of_image: NDArray[np.int32], num_units: int) -> NDArray[np.float64]:
    """(U,) mean of the known times of each unit's images in seconds, NaN where none is known."""
    known = ~np.isnan(gallery.time)
    total = np.bincount(unit_of_image[known], gallery.time[known], minlength=num_units)
    count = np.bincount(unit_of_image[known], minlength=num_units)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def transit_times_step(state: SearchState, config: TransitTimes) -> SearchState:
    """Subtract the log-ratios of gaps in time, learned from the features of units as they are searched.

    Raises:
        InputError: as `learn_transit_times`.
    """
    cameras = state.cameras
    time_U = unit_times(state.images.gallery, state.unit_of_image, len(state.unit_UD))
    prior = learn_transit_times(state.unit_UD, time_U, cameras[1], rounds=config.rounds)
    ratios = TransitRatios(prior, state.images.query.time, time_U, *cameras)
    return state.with_source(Weighted((state.distances.source, ratios), (1.0, -config.weight)))
