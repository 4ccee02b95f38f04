"""Road graph: junctions, streets with travel times, and trips past a given number of cameras."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vreid.data.seeds import generator

BLOCK = 420.0
"""Mean distance of neighbouring junctions in metres."""
JITTER = 0.24
"""Maximum offset of a junction from its grid position, in blocks."""
DISTRICT_GAP = 900.0
"""Gap between two districts of a row in metres; districts alternate between two rows."""
ROW_HEIGHT = 2600.0
"""Distance of the two rows in metres."""
SPEED = (8.0, 14.0)
"""Slowest and fastest mean speed of a street in m/s."""
JUNCTION_DELAY = (4.0, 15.0)
"""Minimum and maximum of the mean delay in seconds at the junction at a street's end."""
TRAVEL_TIME_SPREAD = 0.22
"""Standard deviation of the logarithm of one vehicle's travel time along one street."""
DRIVER_SPREAD = 0.08
"""Standard deviation of the logarithm of a driver's relative speed over the whole trip."""


@dataclass(frozen=True)
class Junction:
    """A node of the road graph; `name` is the name of its camera, if any. Position in metres on the city map."""

    name: str
    district: str
    x: float
    y: float
    has_camera: bool


@dataclass(frozen=True)
class Road:
    """A two-way street between junctions `start` and `end`: length in metres, mean travel time in seconds."""

    start: int
    end: int
    length: float
    mean_time: float


@dataclass(frozen=True)
class RoadMap:
    """The connected road graph of a city."""

    junctions: tuple[Junction, ...]
    roads: tuple[Road, ...]

    @cached_property
    def neighbours(self) -> tuple[dict[int, Road], ...]:
        """Adjacency list: for each junction its neighbours, each with the connecting street."""
        table: tuple[dict[int, Road], ...] = tuple({} for _ in self.junctions)
        for road in self.roads:
            table[road.start][road.end] = road
            table[road.end][road.start] = road
        return table

    def scaled(self, factor: float) -> RoadMap:
        """Return the map with all lengths and travel times multiplied by `factor`."""
        return RoadMap(
            tuple(replace(j, x=round(j.x * factor, 1), y=round(j.y * factor, 1)) for j in self.junctions),
            tuple(
                replace(road, length=round(road.length * factor, 1), mean_time=round(road.mean_time * factor, 1))
                for road in self.roads
            ),
        )

    def draw_trip(self, rng: np.random.Generator, district: str, cameras: int) -> tuple[int, ...]:
        """Draw a path inside `district` from its first to its last camera that passes exactly `cameras` of them.

        No junction is passed twice; the path is a random walk with backtracking.

        Raises:
            ValueError: no such path exists.
        """
        starts = [i for i, j in enumerate(self.junctions) if j.district == district and j.has_camera]
        for start in rng.permutation(starts):
            path = self._extend(rng, (int(start),), cameras - 1)
            if path is not None:
                return path
        raise ValueError(f"district {district!r} has no path past {cameras} cameras")

    def _extend(self, rng: np.random.Generator, path: tuple[int, ...], missing: int) -> tuple[int, ...] | None:
        if missing == 0:
            return path
        here = self.junctions[path[-1]]
        for step in rng.permutation(list(self.neighbours[path[-1]])):
            junction = self.junctions[step]
            if junction.district == here.district and step not in path:
                longer = self._extend(rng, (*path, int(step)), missing - junction.has_camera)
                if longer is not None:
                    return longer
        return None

    def draw_times(self, rng: np.random.Generator, path: Sequence[int]) -> NDArray[np.float64]:
        """Draw the times (len(path),) in seconds after departure at which a vehicle passes the junctions of `path`.

        The time along a street is lognormal around the mean of the street, times the driver's relative speed.
        """
        means = [self.neighbours[a][b].mean_time for a, b in pairwise(path)]
        pace = math.exp(rng.normal(0, DRIVER_SPREAD))
        spread = np.exp(rng.normal(-(TRAVEL_TIME_SPREAD**2) / 2, TRAVEL_TIME_SPREAD, len(means)))
        return np.concatenate([[0.0], np.cumsum(pace * spread * np.array(means))])


def build_roads(seed: int, districts: Mapping[str, Sequence[str]]) -> RoadMap:
    """Build the road graph of a city: `districts` maps each district to the names of its cameras.

    A district is a jittered grid of junctions, two in three with a camera, joined by its Gabriel graph (Gabriel and
    Sokal 1969: two junctions are neighbours if no third lies in the circle whose diameter joins them), which is
    connected, planar and looks like streets. Each district is joined to the one before by one arterial road between
    their nearest junctions. A district does not change when others are added after it.
    """
    junctions: list[Junction] = []
    roads: list[Road] = []
    row_ends = [0.0, 0.0]
    earlier: NDArray[np.int64] = np.array([], dtype=np.int64)
    for number, (district, cameras) in enumerate(districts.items()):
        row = number % 2
        rng = generator(seed, "roads", district)
        count = len(cameras) + max(1, len(cameras) // 2)
        columns = math.ceil(math.sqrt(count))
        places = np.array([divmod(i, columns)[::-1] for i in range(count)], dtype=np.float64)
        points = (places + rng.uniform(-JITTER, JITTER, places.shape)) * BLOCK + (row_ends[row], row * ROW_HEIGHT)
        row_ends[row] = points[:, 0].max() + DISTRICT_GAP
        names = dict(zip(rng.permutation(count)[: len(cameras)].tolist(), cameras, strict=True))
        first = len(junctions)
        for i, (x, y) in enumerate(points.tolist()):
            name = names.get(i, f"{district}-{i + 1}")
            junctions.append(Junction(name, district, round(x, 1), round(y, 1), has_camera=i in names))
        here = np.arange(first, first + count)
        for a, b in gabriel_graph(points):
            roads.append(_road(rng, junctions, first + a, first + b))
        if len(earlier):
            positions = np.array([(j.x, j.y) for j in junctions])
            gaps = np.linalg.norm(positions[earlier][:, None] - positions[here][None], axis=2)
            a, b = divmod(int(gaps.argmin()), count)
            roads.append(_road(rng, junctions, int(earlier[a]), int(here[b])))
        earlier = here
    return RoadMap(tuple(junctions), tuple(roads))


def gabriel_graph(points: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return the edges (a < b) of the Gabriel graph of `points` (N, 2): no third point in the circle over an edge."""
    squared = ((points[:, None] - points[None]) ** 2).sum(2)
    edges = []
    for a in range(len(points)):
        for b in range(a + 1, len(points)):
            through = squared[a] + squared[b]
            through[[a, b]] = np.inf
            if (through >= squared[a, b]).all():
                edges.append((a, b))
    return edges


def _road(rng: np.random.Generator, junctions: Sequence[Junction], start: int, end: int) -> Road:
    straight = math.hypot(junctions[start].x - junctions[end].x, junctions[start].y - junctions[end].y)
    length = straight * rng.uniform(1.02, 1.25)
    mean_time = length / rng.uniform(*SPEED) + rng.uniform(*JUNCTION_DELAY)
    return Road(start, end, round(length, 1), round(mean_time, 1))
