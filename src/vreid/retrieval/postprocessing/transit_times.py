"""Transit times: a prior on the time between cameras, learned without labels.

Two units of different cameras that are each other's nearest neighbours are probably the same vehicle. The time gaps of
such matches, compared with the gaps of random pairs, give the log-likelihood ratio
log p(gap | match) / p(gap | random pair). The ratio improves the matches, which improve the ratio, in a few rounds; it
is then subtracted from the distances of the search.

Related work: spatio-temporal priors from annotated or confident pairs (Liu et al., "PROVID", TMM 2018; Wang et al.,
"Spatial-Temporal Person Re-identification", AAAI 2019, which needs labels).

If the gaps of the initial matches do not differ from those of random pairs (Kolmogorov-Smirnov test at the 1 % level),
for example because clocks are wrong by hours, nothing is learned and distances do not change.

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

_CANDIDATES = 50  # nearest neighbours in other cameras that are candidates for a match
_MATCH_WEIGHT = 0.1  # weight of the log-ratio against squared distances (0 to 4) in matching
_PAIRS = 1_000_000  # number of random pairs
_BINS = 8  # quantiles of the gaps of matches, and of random pairs
_CHANCE = 0.01  # significance level of the test
_PRIOR_MATCHES = 5.0  # pseudo-count of matches distributed like random pairs


@dataclass(frozen=True)
class TransitTimes:
    """Settings of transit times: subtract `weight` times the log-ratio of the time gap from distances.

    Attributes:
        weight: weight of the natural log-ratio; 0.08 suits re-ranked distances (0 to 1), 0.2 squared ones (0 to 4).
        rounds: rounds of matching and estimation.
    """

    weight: float = in_range(0.08, above=0)
    rounds: int = in_range(4, least=1)

    def __post_init__(self) -> None:
        check_settings(self, "transit times: ")


@dataclass(frozen=True, eq=False)
class TransitPrior:
    """Learned log-ratio as a step function of the time gap.

    Attributes:
        edges_B: upper edges of the bins in seconds, ascending; the last is +inf.
        log_ratio_B: natural logarithm of p(gap | match) / p(gap | random pair) in each bin.
        matches: number of matched pairs.
    """

    edges_B: NDArray[np.float64]
    log_ratio_B: NDArray[np.float32]
    matches: int

    def of(self, gaps: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the log-ratio of gaps in seconds, of any shape; 0 for NaN."""
        place = np.searchsorted(self.edges_B, gaps, side="left").clip(max=len(self.edges_B) - 1)
        return np.asarray(np.where(np.isnan(gaps), np.float32(0), self.log_ratio_B[place]), dtype=np.float32)


def learn_transit_times(
    unit_UD: NDArray[np.float32], time_U: NDArray[np.float64], camera_U: Codes, *, rounds: int = 4
) -> TransitPrior:
    """Learn the log-ratio from units with known cameras and times, without labels.

    Args:
        unit_UD: features; L2-normalised first.
        time_U: seconds, NaN: unknown.
        camera_U: camera codes, negative: unknown.
        rounds: see `TransitTimes`.

    Raises:
        InputError: fewer than two cameras have units with known time.
    """
    known = np.flatnonzero(~np.isnan(time_U) & (camera_U >= 0))
    unit_UD, time_U, camera_U = unit_rows(unit_UD[known]), time_U[known], camera_U[known]
    if len(np.unique(camera_U)) < 2:
        raise InputError(
            "transit times: fewer than two cameras have gallery images with known time; give the columns `time` and "
            "`camera`, or disable the step."
        )
    squared_UK, index_UK = nearest_elsewhere(unit_UD, unit_UD, camera_U, camera_U, _CANDIDATES)
    gaps_UK = np.abs(time_U[:, None] - time_U[index_UK])
    random = _random_gaps(time_U, camera_U)
    itself = np.arange(len(unit_UD))
    prior = TransitPrior(np.array([np.inf]), np.zeros(1, dtype=np.float32), 0)
    for number in range(rounds):
        score_UK = squared_UK - np.float32(_MATCH_WEIGHT) * prior.of(gaps_UK)
        best = index_UK[itself, np.argmin(score_UK, axis=1)]
        first = np.flatnonzero((best[best] == itself) & (itself < best))
        gaps = np.abs(time_U[first] - time_U[best[first]])
        if number == 0 and not _distinguish(gaps, random):
            return replace(prior, matches=len(first))
        prior = _ratio(gaps, random)
    return prior


def _distinguish(matched: NDArray[np.float64], random: NDArray[np.float64]) -> bool:
    """Whether the gaps of matches by features differ significantly from those of random pairs."""
    from scipy.stats import ks_2samp

    return len(matched) > 0 and bool(ks_2samp(matched, random).pvalue < _CHANCE)


def _random_gaps(time_U: NDArray[np.float64], camera_U: Codes) -> NDArray[np.float64]:
    """Return the gaps of cross-camera pairs of units: of all pairs, or of a million random ones."""
    count = len(time_U)
    if count * (count - 1) // 2 <= _PAIRS:
        row, column = np.triu_indices(count, 1)
    else:
        row, column = np.random.default_rng(0).integers(count, size=(2, _PAIRS))
    apart = camera_U[row] != camera_U[column]
    return np.asarray(np.abs(time_U[row[apart]] - time_U[column[apart]]), dtype=np.float64)


def _ratio(matched: NDArray[np.float64], random: NDArray[np.float64]) -> TransitPrior:
    shares = np.linspace(0, 1, _BINS + 1)[1:-1]
    edges = np.unique(np.concatenate([np.quantile(gaps, shares) for gaps in (matched, random) if len(gaps)]))
    edges = np.append(edges, np.inf)
    of_matched, of_random = (
        np.bincount(np.searchsorted(edges, gaps, side="left"), minlength=len(edges)).astype(np.float64)
        for gaps in (matched, random)
    )
    random_shares = (of_random + 0.5) / (of_random + 0.5).sum()
    match = smoothed_shares(of_matched + _PRIOR_MATCHES * random_shares)
    return TransitPrior(edges, np.log(match / smoothed_shares(random_shares)).astype(np.float32), len(matched))


def smoothed_shares(counts_B: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the shares of bins, smoothed with the kernel (1, 2, 1)."""
    kernel = np.array([1.0, 2.0, 1.0])
    mixed = np.convolve(counts_B, kernel, mode="same") / np.convolve(np.ones_like(counts_B), kernel, mode="same")
    return np.asarray(mixed / mixed.sum())


@dataclass(frozen=True, eq=False)
class TransitRatios:
    """Log-ratios of pairs of queries and units, in tiles; 0 within a camera and for unknown times.

    Attributes:
        prior: the learned prior.
        time_Q, time_U: seconds, NaN: unknown.
        camera_Q, camera_U: joint camera codes, negative: unknown.
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
        """Yield row tiles of the same size as those of plain distances."""
        rows, columns = self.shape
        height = tile_rows(columns)

        def made(start: int) -> tuple[int, NDArray[np.float32]]:
            block = slice(start, start + height)
            ratios = self.prior.of(np.abs(self.time_Q[block, None] - self.time_U))
            ratios[self.camera_Q[block, None] == self.camera_U] = 0
            return start, ratios

        return map(made, range(0, rows, height))


def unit_times(gallery: Records, unit_of_image: NDArray[np.int32], num_units: int) -> NDArray[np.float64]:
    """Return the mean time (U,) of the images of each unit in seconds, NaN if no time is known."""
    known = ~np.isnan(gallery.time)
    total = np.bincount(unit_of_image[known], gallery.time[known], minlength=num_units)
    count = np.bincount(unit_of_image[known], minlength=num_units)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def transit_times_step(state: SearchState, config: TransitTimes) -> SearchState:
    """Subtract the log-ratios of time gaps, learned from the current features of the units.

    Raises:
        InputError: as `learn_transit_times`.
    """
    cameras = state.cameras
    time_U = unit_times(state.images.gallery, state.unit_of_image, len(state.unit_UD))
    prior = learn_transit_times(state.unit_UD, time_U, cameras[1], rounds=config.rounds)
    ratios = TransitRatios(prior, state.images.query.time, time_U, *cameras)
    return state.with_source(Weighted((state.distances.source, ratios), (1.0, -config.weight)))
