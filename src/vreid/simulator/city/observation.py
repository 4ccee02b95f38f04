"""What cameras make of a day of traffic: tracklets with wrong clocks; missed, broken and merged ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vreid.data.seeds import generator
from vreid.simulator.city.plan import DAY
from vreid.simulator.city.streets import Float, Ints
from vreid.simulator.city.traffic import Traffic

MERGE_GAP = 3.0
"""Longest time in seconds between two passes at a camera that may share a tracklet."""
BREAK_GAP = 0.8
"""Seconds between the two tracklets of one pass."""
SECONDS_A_DAY = 86400.0


@dataclass(frozen=True, eq=False)
class ObservedTracklets:
    """N tracklets, in order of camera and observed start.

    Attributes:
        camera: (N,) index of the camera.
        number: (N,) track id, from 1 at each camera.
        pass_index: (N,) the pass it shows, or shows most of.
        part: (N,) 0: a whole pass; 1, 2: first and second tracklet of a broken one.
        other: (N,) the pass of another vehicle that it also shows, -1: none.
        start, end: (N,) true UTC seconds.
        observed_start, observed_end: (N,) the same by the camera's clock.
        dead: (C,) whether a camera records nothing.
        clock_offset: (C,) seconds by which a camera's clock is ahead at midnight.
        clock_drift: (C,) seconds that it gains in a day.
    """

    camera: Ints
    number: Ints
    pass_index: Ints
    part: Ints
    other: Ints
    start: Float
    end: Float
    observed_start: Float
    observed_end: Float
    dead: NDArray[np.bool_]
    clock_offset: Float
    clock_drift: Float

    def __len__(self) -> int:
        return len(self.camera)

    def clock(self, camera: Ints, time: Float) -> Float:
        """Return what the clock of `camera` shows at a true time in UTC seconds."""
        return time + self.clock_offset[camera] + self.clock_drift[camera] * (time - DAY) / SECONDS_A_DAY


def observe(traffic: Traffic) -> ObservedTracklets:
    """Make the tracklets that the cameras of a day of traffic record."""
    preset, passes, seed = traffic.preset, traffic.passes, traffic.seed
    rng = generator(seed, "cameras")
    cameras = preset.cameras
    offset = np.round(rng.normal(0, 1, cameras) * preset.clock_error, 3)
    drift = np.round(rng.normal(0, 1, cameras) * preset.clock_drift, 3)
    troubled = rng.permutation(cameras)
    dead = np.zeros(cameras, dtype=np.bool_)
    dead[troubled[: preset.dead_cameras]] = True
    offset[troubled[preset.dead_cameras : preset.dead_cameras + preset.wrong_clocks]] += preset.wrong_clock

    rng = generator(seed, "detection")
    draws = rng.random((3, len(passes)))
    alive = np.flatnonzero((draws[0] >= preset.missed) & ~dead[passes.camera])
    order = alive[np.lexsort((passes.time[alive], passes.camera[alive]))]
    other = np.full(len(passes), -1, dtype=np.int64)
    into = _merge(traffic, order, draws[1] < preset.merged)
    other[into[:, 0]] = into[:, 1]
    hidden = np.zeros(len(passes), dtype=np.bool_)
    hidden[into[:, 1]] = True
    shown = order[~hidden[order]]
    broken = (draws[2] < preset.broken) & (other < 0)
    pass_index = np.concatenate([shown, shown[broken[shown]]])
    part = np.concatenate([broken[shown].astype(np.int64), np.full(int(broken[shown].sum()), 2)])
    start, end = passes.start[pass_index], passes.end[pass_index]
    middle = (start + end) / 2
    end = np.where(part == 1, middle - BREAK_GAP / 2, end)
    start = np.where(part == 2, middle + BREAK_GAP / 2, start)
    with_other = other[pass_index] >= 0
    start[with_other] = np.minimum(start, passes.start[other[pass_index]])[with_other]
    end[with_other] = np.maximum(end, passes.end[other[pass_index]])[with_other]

    camera = passes.camera[pass_index]
    made = ObservedTracklets(
        camera, camera, pass_index, part, other[pass_index], start, end, start, end, dead, offset, drift
    )
    observed, length = made.clock(camera, start), end - start
    if preset.shuffled_times:
        observed = _shuffled(generator(seed, "shuffled times"), camera, observed)
    order = np.lexsort((observed, camera))
    camera, start, end, observed = camera[order], start[order], end[order], observed[order]
    first = np.searchsorted(camera, camera, side="left")
    return ObservedTracklets(
        camera=camera,
        number=np.arange(len(camera)) - first + 1,
        pass_index=pass_index[order],
        part=part[order],
        other=other[pass_index[order]],
        start=start,
        end=end,
        observed_start=observed,
        observed_end=observed + length[order],
        dead=dead,
        clock_offset=offset,
        clock_drift=drift,
    )


def _merge(traffic: Traffic, order: Ints, wanted: NDArray[np.bool_]) -> Ints:
    """Return pairs (M, 2) of passes that share a tracklet: the one that it shows most of, and the other.

    `order` are passes by camera and time, `wanted` (P,) whether one is merged with the next if that follows soon.
    """
    passes, vehicle = traffic.passes, traffic.vehicle
    one, two = order[:-1], order[1:]
    close = (passes.camera[one] == passes.camera[two]) & (passes.time[two] - passes.time[one] < MERGE_GAP)
    chosen = close & (vehicle[one] != vehicle[two]) & wanted[one]
    places = np.flatnonzero(chosen)
    taken: list[int] = []
    for place in places.tolist():  # no pass is in two pairs
        if not taken or place > taken[-1] + 1:
            taken.append(place)
    pairs = np.stack([one[taken], two[taken]], axis=1) if taken else np.empty((0, 2), dtype=np.int64)
    length = passes.end - passes.start
    return np.where((length[pairs[:, 1]] > length[pairs[:, 0]])[:, None], pairs[:, ::-1], pairs)


def _shuffled(rng: np.random.Generator, camera: Ints, time: Float) -> Float:
    """Shuffle times (N,) within each camera."""
    out = np.empty_like(time)
    for number in np.unique(camera):
        rows = np.flatnonzero(camera == number)
        out[rows] = time[rng.permutation(rows)]
    return out
