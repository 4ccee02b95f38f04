"""Streets of a city as arrays: travel times, traffic signals, two routes between any two junctions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.data.seeds import generator
from vreid.simulator.city.roads import BLOCK, build_roads

Float = NDArray[np.float64]
Ints = NDArray[np.int64]

ARTERIAL_SHARE = 0.3
"""Share of streets that are arterial."""
ARTERIAL_SPEED = (12.0, 15.0)
"""Slowest and fastest free speed of an arterial street in m/s."""
STREET_SPEED = (7.5, 12.0)
"""The same for other streets."""
CYCLES = (60.0, 75.0, 90.0)
"""Cycle times of the signals in seconds."""
GREEN_SHARE = 0.45
"""Green time of one of the two phases as a share of the cycle; the rest is clearance."""
SATURATION_HEADWAY = 2.0
"""Seconds between vehicles of a queue that discharges."""
YIELD_DELAY = (1.0, 4.0)
"""Minimum and maximum delay at a junction without signals in seconds."""
DETOUR_SPREAD = 0.6
"""Standard deviation of the logarithm of the street times that a driver of the second route perceives."""


@dataclass(frozen=True, eq=False)
class Streets:
    """The street network of a city with N junctions and E directed streets.

    Attributes:
        names: names of the junctions (N); that of the camera where there is one.
        xy: (N, 2) position in metres.
        cameras: names of the cameras (C), in order.
        camera_of: (N,) index of the junction's camera, -1: none.
        is_gate: (N,) whether roads out of the city start there.
        start, end: (E,) junctions of each street.
        length: (E,) metres.
        free_time: (E,) travel time without other traffic in seconds.
        sensitivity: (E,) how much the street slows down in traffic, about 1.
        street_of: (N, N) index of the street between two junctions, -1: none.
        cycle: (N,) cycle time of the junction's signal in seconds; 0: no signal.
        green_start: (E,) second of the cycle at which the approach at the street's end gets green.
        previous: (2, N, N) for both routes the junction before `to` on the way from `from`: [route, from, to].
        route_time: (2, N, N) free travel time of both routes in seconds.
    """

    names: tuple[str, ...]
    xy: Float
    cameras: tuple[str, ...]
    camera_of: Ints
    is_gate: NDArray[np.bool_]
    start: Ints
    end: Ints
    length: Float
    free_time: Float
    sensitivity: Float
    street_of: Ints
    cycle: Float
    green_start: Float
    previous: Ints
    route_time: Float

    def paths(self, route: Ints, start: Ints, end: Ints) -> Ints:
        """Return the junctions (T, L) of T trips from `start` to `end` (T,) on `route` (T,), padded with -1."""
        backwards = [end]
        while True:
            here = backwards[-1]
            moving = (here >= 0) & (here != start)
            if not moving.any():
                break
            step = np.full(len(here), -1, dtype=np.int64)
            step[moving] = self.previous[route[moving], start[moving], here[moving]]
            backwards.append(step)
        table = np.stack(backwards[::-1], axis=1)  # the end of each row is the end of its path
        order = np.argsort(table < 0, axis=1, kind="stable")
        return np.take_along_axis(table, order, axis=1)

    def leave(self, street: Ints, arrival: Float, flow: Float, jitter: Float) -> Float:
        """Return when vehicles that reach the ends of `street` at `arrival` (T,) seconds pass the junctions.

        Vehicles that arrive at red leave in a platoon when it turns green: each waits for those that arrived at red
        before it, at `flow` vehicles a second, to discharge one by one. `jitter` (T,) is uniform from 0 to 1.
        """
        cycle = self.cycle[self.end[street]]
        safe = np.where(cycle > 0, cycle, 1.0)
        phase = np.mod(arrival - self.green_start[street], safe)
        green = GREEN_SHARE * safe
        queue = np.minimum(flow * (phase - green), green / SATURATION_HEADWAY)
        wait = np.where(phase < green, jitter, safe - phase + 1.0 + SATURATION_HEADWAY * (queue + 0.5 * jitter))
        low, high = YIELD_DELAY
        return arrival + np.where(cycle > 0, wait, low + (high - low) * jitter)


def build_streets(seed: int, cameras: int, block: float, signal_share: float) -> Streets:
    """Build the streets of a city with `cameras` cameras, whose junctions are about `block` metres apart.

    One junction in three has no camera. Of the signals' two phases each serves the approaches along one axis.
    """
    from scipy.sparse import csr_array

    names = [f"c{number:03d}" for number in range(1, cameras + 1)]
    roads = build_roads(seed, {"city": names})
    rng = generator(seed, "streets")
    scale = block / BLOCK
    xy = np.array([(j.x, j.y) for j in roads.junctions]) * scale
    count = len(xy)
    number = {name: index for index, name in enumerate(names)}
    start = np.array([road.start for road in roads.roads])
    end = np.array([road.end for road in roads.roads])
    length = np.array([road.length for road in roads.roads]) * scale
    arterial = rng.random(len(start)) < ARTERIAL_SHARE
    speed = np.where(arterial, rng.uniform(*ARTERIAL_SPEED, len(start)), rng.uniform(*STREET_SPEED, len(start)))
    start, end = np.concatenate([start, end]), np.concatenate([end, start])
    length, free_time = np.tile(length, 2), np.tile(length / speed, 2)

    cycle = np.where(rng.random(count) < signal_share, rng.choice(CYCLES, count), 0.0)
    offset = rng.uniform(0, 1, count) * cycle
    across = np.abs(xy[end, 0] - xy[start, 0]) > np.abs(xy[end, 1] - xy[start, 1])
    green_start = offset[end] + across * cycle[end] / 2

    street_of = np.full((count, count), -1, dtype=np.int64)
    street_of[start, end] = np.arange(len(start))
    usual = free_time + np.where(cycle[end] > 0, cycle[end] / 4, sum(YIELD_DELAY) / 2)
    perceived = usual * np.exp(rng.normal(0, DETOUR_SPREAD, len(start)))
    found = [_shortest(csr_array((weight, (start, end)), shape=(count, count))) for weight in (usual, perceived)]
    previous = np.stack([table for _, table in found])
    detour = _times_along(found[1][0], previous[1], usual, street_of)
    return Streets(
        names=tuple(j.name for j in roads.junctions),
        xy=xy,
        cameras=tuple(names),
        camera_of=np.array([number.get(j.name, -1) for j in roads.junctions]),
        is_gate=_gates(xy),
        start=start,
        end=end,
        length=length,
        free_time=free_time,
        sensitivity=rng.uniform(0.5, 1.5, len(start)),
        street_of=street_of,
        cycle=cycle,
        green_start=green_start,
        previous=previous,
        route_time=np.stack([found[0][0], detour]),
    )


def _shortest(graph: Any) -> tuple[Float, Ints]:
    from scipy.sparse.csgraph import dijkstra

    times, previous = dijkstra(graph, return_predecessors=True)
    return times, previous.astype(np.int64)


def _times_along(perceived: Float, previous: Ints, usual: Float, street_of: Ints) -> Float:
    """Return (N, N) usual times along the paths of `previous`: those of a path's parts, nearest junctions first."""
    count = len(perceived)
    times = np.zeros((count, count))
    origins = np.arange(count)
    nearest = np.argsort(perceived, axis=1, kind="stable")
    for to in nearest[:, 1:].T:
        before = previous[origins, to]
        times[origins, to] = times[origins, before] + usual[street_of[before, to]]
    return times


def _gates(xy: Float) -> NDArray[np.bool_]:
    """Return (N,) whether a junction is the outermost of its sector seen from the middle; at least two are not."""
    sectors = max(4, len(xy) // 4)
    out = xy - xy.mean(axis=0)
    sector = (np.arctan2(out[:, 1], out[:, 0]) / (2 * math.pi) * sectors).astype(np.int64) % sectors
    distance = np.hypot(out[:, 0], out[:, 1])
    outermost = []
    for number in np.unique(sector):
        inside = np.flatnonzero(sector == number)
        outermost.append(int(inside[np.argmax(distance[inside])]))
    outermost.sort(key=lambda node: -distance[node])
    gates = np.zeros(len(xy), dtype=np.bool_)
    gates[outermost[: len(xy) - 2]] = True
    return gates
