"""Candidate links: for each tracklet the most probable successors inside a window of time.

Tracklets in the order of time are compared in blocks with those that start inside the window, so memory is bounded by a
block, whatever N is; what can be no candidate by its similarity alone is dropped before times are looked at.

Shapes: N tracklets, E links, C cameras.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.progress import Progress
from vreid.retrieval.features import unit_rows
from vreid.trips.appearance import Cohort, look_alikes
from vreid.trips.directions import Headings, cameras_next
from vreid.trips.link_model import LinkModel, possible
from vreid.trips.tables import TimedTracklets

_CELLS = 6_000_000  # similarities of a block
_PAIRS = 32_768  # whose similarities are computed together
_ROUNDING = 1e-4  # of similarities and log-odds in float32, by which the first comparison is too generous
ROWS = 512
"""Tracklets of a block, by which its window is longer than needed."""
_LEAST_CONTEXT = 0.05  # least probability of a link whose tracklet adds to the look of a vehicle
_CONTEXT = 6  # tracklets before and after that add to it


@dataclass(frozen=True, eq=False)
class CandidateLinks:
    """E links from a tracklet to a later one, in the order of `first`, then `second`.

    Attributes:
        first, second: (E,) int32 rows.
        score: (E,) float32 normalised similarity.
    """

    first: NDArray[np.int32]
    second: NDArray[np.int32]
    score: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.integer]) -> CandidateLinks:
        return CandidateLinks(self.first[index], self.second[index], self.score[index])

    @classmethod
    def join(cls, parts: list[CandidateLinks]) -> CandidateLinks:
        """Concatenate and sort."""
        if not parts:
            return cls(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))
        first, second = (np.concatenate([getattr(part, name) for part in parts]) for name in ("first", "second"))
        score, order = np.concatenate([part.score for part in parts]), np.lexsort((second, first))
        return cls(first[order], second[order], score[order])


@dataclass(frozen=True, eq=False)
class Looks:
    """What is known of the vehicle up to each tracklet, and from it on.

    Attributes:
        past, future: (N, D) features of unit length.
        headings: cameras before and after.
    """

    past: NDArray[np.float32]
    future: NDArray[np.float32]
    headings: Headings

    @classmethod
    def alone(cls, table: TimedTracklets) -> Looks:
        """Return tracklets alone: nothing is known of those before and after."""
        return cls(table.vector, table.vector, Headings.unknown(len(table), table.cameras))

    @classmethod
    def in_context(cls, table: TimedTracklets, links: CandidateLinks, probability: NDArray[np.float64]) -> Looks:
        """Add to each tracklet the features of its possible predecessors (past) and successors (future).

        They are weighted with the probability of the links between, so a link i -> j is decided by all that is known of
        the vehicle before i and after j, and not by itself.
        """
        from scipy.sparse import csr_array

        kept = probability > _LEAST_CONTEXT
        of_link = probability[kept].astype(np.float32), (links.second[kept], links.first[kept])
        before = csr_array(of_link, shape=(len(table), len(table)))
        after = csr_array(before.T)
        past, future = (_summed(step, table.vector) for step in (before, after))
        ends = links.first, links.second
        headings = (cameras_next(one, other, probability, table) for one, other in (ends[::-1], ends))
        return cls(past, future, Headings(*headings))

    def up_to(self, other: Looks) -> Looks:
        """Join what is known of the past here with what is known of the future in `other`."""
        return Looks(self.past, other.future, Headings(self.headings.before, other.headings.after))


Cohorts = tuple[Cohort, Cohort]
"""What the futures and what the pasts of tracklets are compared with: a cohort of pasts and one of futures."""


@dataclass(frozen=True, eq=False)
class Appearances:
    """What is compared: the look of each vehicle up to a tracklet with that from a tracklet on.

    Attributes:
        table: the tracklets.
        looks: of each.
        cohorts: with which look-alikes were counted.
        past_alikes, future_alikes: (N,) mean similarity to look-alikes; see `vreid.trips.appearance.look_alikes`.
    """

    table: TimedTracklets
    looks: Looks
    cohorts: Cohorts
    past_alikes: NDArray[np.float32]
    future_alikes: NDArray[np.float32]

    @classmethod
    def of(cls, table: TimedTracklets, looks: Looks | None = None, cohorts: Cohorts | None = None) -> Appearances:
        """Compare looks, by default of tracklets alone, with look-alikes by default among themselves."""
        looks, codes = looks or Looks.alone(table), table.camera.codes
        pasts, futures = cohorts or (Cohort.of(looks.past, codes), Cohort.of(looks.future, codes))
        alikes = look_alikes(looks.past, codes, futures), look_alikes(looks.future, codes, pasts)
        return cls(table, looks, (pasts, futures), *alikes)

    def score(self, first: NDArray[np.integer], second: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return the normalised similarity of pairs, in blocks."""
        out = np.empty(len(first), dtype=np.float32)
        for start in range(0, len(first), _PAIRS):
            part = slice(start, start + _PAIRS)
            i, j = first[part], second[part]
            product = np.einsum("ed,ed->e", self.looks.past[i], self.looks.future[j])
            out[part] = product - (self.past_alikes[i] + self.future_alikes[j]) / 2
        return out

    def blocks(
        self, longest: float, overlap: float, progress: Progress
    ) -> Iterator[tuple[slice, slice, NDArray[np.float32]]]:
        """Yield rows, columns and their normalised similarities: columns start inside the window of the rows."""
        table, height = self.table, ROWS
        start = 0
        while start < len(table):
            while True:
                rows = slice(start, min(start + height, len(table)))
                low = int(np.searchsorted(table.start, table.end[rows].min() - overlap, side="left"))
                high = int(np.searchsorted(table.start, table.end[rows].max() + longest, side="right"))
                if (rows.stop - start) * (high - low) <= _CELLS or height <= 16:
                    break
                height //= 2
            columns = slice(max(low, start), high)
            product = self.looks.past[rows] @ self.looks.future[columns].T
            product -= self.past_alikes[rows, None] / 2
            product -= self.future_alikes[columns] / 2
            yield rows, columns, product
            progress.advance(rows.stop - start)
            start = rows.stop
            if (rows.stop - rows.start) * (high - low) * 4 < _CELLS:
                height = min(height * 2, ROWS)


def _summed(step: Any, vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return each feature (N, D) plus those that weighted links (N, N) lead to, of unit length."""
    total = vector
    for _ in range(_CONTEXT):
        total = vector + step @ total
    return unit_rows(np.ascontiguousarray(total, dtype=np.float32))


def nearest_by_camera(appearances: Appearances, longest: float, overlap: float, progress: Progress) -> CandidateLinks:
    """Find mutual nearest neighbours of each ordered pair of cameras inside the window.

    j is the nearest of i in its camera, and of all tracklets of i's camera that chose j, i is the nearest.
    """
    table, parts = appearances.table, []
    camera = table.camera.codes
    for rows, columns, score in appearances.blocks(longest, overlap, progress):
        gap = table.start[None, columns] - table.end[rows, None]
        same = camera[rows, None] == camera[None, columns]
        score[(gap < np.where(same, 0.0, -overlap)) | (gap > longest)] = -np.inf
        own = np.arange(rows.start, rows.stop)
        inside = (own >= columns.start) & (own < columns.stop)
        score[own[inside] - rows.start, own[inside] - columns.start] = -np.inf
        of_columns = camera[columns]
        for code in np.unique(of_columns):
            place = np.flatnonzero(of_columns == code)
            part = score[:, place]
            best = part.argmax(axis=1)
            value = part[np.arange(len(part)), best]
            found = np.flatnonzero(value > -np.inf)
            parts.append(
                CandidateLinks(
                    (rows.start + found).astype(np.int32),
                    (columns.start + place[best[found]]).astype(np.int32),
                    value[found],
                )
            )
    links = CandidateLinks.join(parts)
    links = links[possible(table, links.first, links.second, overlap, longest)]
    order = np.lexsort((-links.score, camera[links.first], links.second))
    second, of_first = links.second[order], camera[links.first[order]]
    leads = np.ones(len(order), dtype=bool)
    leads[1:] = (second[1:] != second[:-1]) | (of_first[1:] != of_first[:-1])
    return links[np.sort(order[leads])]


def candidate_links(
    appearances: Appearances, model: LinkModel, most: int, least: float, progress: Progress
) -> tuple[CandidateLinks, NDArray[np.float64]]:
    """Find for each tracklet the `most` successors of highest log-odds above `least`; return links and log-odds.

    Nearly all pairs fall at the first comparison: of their similarity with the least that could reach `least`, had the
    pair of cameras its most frequent time and the later tracklet the best of its camera in the block.
    """
    table, births = appearances.table, model.log_births(appearances.table)
    camera, cameras, headings = table.camera.codes, table.cameras, appearances.looks.headings
    leaving, arriving = model.turns.leaving(headings, camera), model.turns.arriving(headings, camera)
    most_frequent = model.timing.reshape(cameras, cameras, -1).max(axis=2)
    later = arriving - births[:, None].astype(np.float32)
    links, odds = [], []
    for rows, columns, score in appearances.blocks(model.bins.longest, model.overlap, progress):
        if columns.stop <= columns.start:
            continue
        of_later = _largest_by_camera(later[columns], camera[columns], cameras).T  # (C, C), from and to
        needed = least - (most_frequent + of_later)[camera[rows]] - leaving[rows]
        threshold = (model.appearance.least_score(needed) - _ROUNDING).astype(np.float32)
        flat = np.flatnonzero(score >= np.take(threshold, camera[columns], axis=1))
        i, j = np.divmod(flat, score.shape[1])
        i, j = i + rows.start, j + columns.start
        kept = possible(table, i, j, model.overlap, model.bins.longest)
        i, j, value = i[kept], j[kept], score.ravel()[flat[kept]]
        total = model.appearance.of(value) + model.of_timing(table, births, i, j)
        total += leaving[i, camera[j]] + arriving[j, camera[i]]
        kept = total >= least
        i, j, value, total = i[kept], j[kept], value[kept], total[kept]
        order = np.lexsort((j, -total, i))
        rank = np.arange(len(order)) - np.searchsorted(i[order], i[order], side="left")
        chosen = np.sort(order[rank < most])
        links.append(CandidateLinks(i[chosen].astype(np.int32), j[chosen].astype(np.int32), value[chosen]))
        odds.append(total[chosen])
    joined = CandidateLinks.join(links)
    return joined, np.concatenate(odds or [np.empty(0)])


def _largest_by_camera(value: NDArray[np.float32], camera: NDArray[np.int32], cameras: int) -> NDArray[np.float32]:
    """Return the largest (C, K) of the values (n, K) of each camera; -inf for a camera without any."""
    out = np.full((cameras, value.shape[1]), -np.inf, dtype=np.float32)
    order = np.argsort(camera, kind="stable")
    starts = np.flatnonzero(np.diff(camera[order], prepend=-1))
    out[camera[order[starts]]] = np.maximum.reduceat(value[order], starts, axis=0)
    return out
