"""Directions of travel: the next camera given the present one and the one before.

A vehicle that came from the west goes on to the east more often than back. For the link i -> j, the cameras from which
the vehicle may have come to i, and those to which it may go on from j, change the odds that the present camera alone
gives.

Shapes: N tracklets, E links, C cameras; index C of "from" is "the trip begins here", index C of "to" is "it ends here".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vreid.trips.tables import TimedTracklets

_PRIOR = 10.0  # weight in trips of the next camera given the present one alone
_OWN = 0.75  # of a trip in a cell of the table, which is no evidence for itself
_LEAST = 1e-3


@dataclass(frozen=True, eq=False)
class Headings:
    """What is known of the cameras before and after each tracklet, each without the other side.

    Attributes:
        before: (N, C + 1) probability of the camera before; the last column: none.
        after: (N, C + 1) probability of the camera after; the last column: none.
    """

    before: NDArray[np.float32]
    after: NDArray[np.float32]

    @classmethod
    def unknown(cls, count: int, cameras: int) -> Headings:
        """Return headings that say nothing: zero everywhere."""
        none = np.zeros((count, cameras + 1), dtype=np.float32)
        return cls(none, none)

    def __getitem__(self, rows: NDArray[np.integer]) -> Headings:
        return Headings(self.before[rows], self.after[rows])


def cameras_next(
    row: NDArray[np.integer], other: NDArray[np.integer], link: NDArray[np.float64], table: TimedTracklets
) -> NDArray[np.float32]:
    """Return the probability (N, C + 1) of the camera at the other end of each tracklet's links (E,)."""
    count, width = len(table), table.cameras + 1
    flat = row.astype(np.int64) * width + table.camera.codes[other]
    out = np.bincount(flat, link, minlength=count * width).reshape(count, width).astype(np.float32)
    out[:, -1] = np.clip(1 - out.sum(axis=1), 0, 1)
    return out


@dataclass(frozen=True, eq=False)
class Turns:
    """Ratio of the probability of the next camera given two cameras to that given one.

    Attributes:
        ratio: (C + 1, C, C + 1) by camera before, present and after.
    """

    ratio: NDArray[np.float64]

    @classmethod
    def none(cls, cameras: int) -> Turns:
        """Return ratios of one."""
        return cls(np.ones((cameras + 1, cameras, cameras + 1)))

    @classmethod
    def of(
        cls,
        before: NDArray[np.float32],
        after: NDArray[np.float32],
        camera: NDArray[np.integer],
    ) -> Turns:
        """Estimate from the probabilities of the cameras before and after each tracklet (n, C + 1)."""
        cameras = before.shape[1] - 1
        counts = np.zeros((cameras + 1, cameras, cameras + 1))
        for code in range(cameras):
            rows = camera == code
            counts[:, code] = before[rows].T.astype(np.float64) @ after[rows]
        onward = counts.sum(axis=0) + _LEAST
        onward /= onward.sum(axis=1, keepdims=True)
        own = np.minimum(counts, _OWN)
        smooth = counts - own + (own.sum(axis=2, keepdims=True) + _PRIOR) * onward
        smooth /= smooth.sum(axis=2, keepdims=True)
        return cls(smooth / onward)

    def leaving(self, headings: Headings, camera: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return what the past adds to the log-odds of a link (N, C) from each tracklet to each camera."""
        return self._log_ratio(headings.before, camera, self.ratio)

    def arriving(self, headings: Headings, camera: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return what the future adds to the log-odds of a link (N, C) to each tracklet from each camera."""
        return self._log_ratio(headings.after, camera, self.ratio.transpose(2, 1, 0))

    @staticmethod
    def _log_ratio(
        known: NDArray[np.float32], camera: NDArray[np.integer], ratio: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        count, cameras = len(known), known.shape[1] - 1
        out = np.zeros((count, cameras), dtype=np.float32)
        for code in range(cameras):
            rows = np.flatnonzero((camera == code) & (known.sum(axis=1) > 0))
            mixed = known[rows].astype(np.float64) @ ratio[:, code]
            out[rows] = np.log(mixed[:, :-1] / mixed[:, -1:])
        return out
