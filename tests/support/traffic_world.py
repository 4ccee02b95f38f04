"""A small world of traffic: vehicles that drive past cameras, as a table of tracklets with features and its truth."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vreid.trips.tables import TimedTracklets


@dataclass(frozen=True)
class ToyTraffic:
    """Settings: cameras in a row, `vehicles` in `hours`; see the fields' names.

    Attributes:
        groups: look-alike groups (colour and model); 1: all vehicles look alike.
        noise: of a tracklet's feature against the identity (0.7) and the group (1).
        spread: standard deviation of the logarithm of a travel time.
        detour: share of drivers who take a second route, which takes 2.2 times as long.
        missed: share of tracklets that are missing.
        stops: share of links with a stop of 5 to 20 minutes.
        turns: share of trips that turn around half way.
        returns: share of vehicles that park for `pause` hours, and drive back to where they came from.
        clocks: seconds added to the times of a camera.
    """

    cameras: int = 6
    vehicles: int = 400
    hours: float = 2.0
    dimensions: int = 32
    groups: int = 40
    noise: float = 0.6
    spread: float = 0.15
    detour: float = 0.0
    missed: float = 0.05
    stops: float = 0.02
    turns: float = 0.05
    returns: float = 0.0
    pause: float = 3.0
    clocks: dict[int, float] = field(default_factory=dict)
    dead: tuple[int, ...] = ()


def traffic_world(seed: int = 0, world: ToyTraffic | None = None) -> tuple[TimedTracklets, NDArray[np.int64]]:
    """Return the table and the vehicle (N,) of each of its rows."""
    w = world or ToyTraffic()
    rng = np.random.default_rng(seed)
    scale = 1 / np.sqrt(w.dimensions)
    group = rng.normal(size=(w.groups, w.dimensions)) * scale
    seconds = rng.uniform(40, 160, size=w.cameras)
    rows: list[tuple[str, float, float, int]] = []
    vectors = []
    for vehicle in range(w.vehicles):
        look = group[rng.integers(w.groups)] + 0.7 * scale * rng.normal(size=w.dimensions)
        first, last = rng.choice(w.cameras, 2, replace=False)
        step = 1 if last > first else -1
        path = list(range(first, last + step, step))
        if rng.random() < w.turns:
            path += path[-2::-1]
        parks = len(path) if w.returns and rng.random() < w.returns else 0
        if parks:
            path += path[::-1]
        now = rng.uniform(0, w.hours * 3600)
        pace = rng.normal(0, w.spread / 2)
        for place, camera in enumerate(path):
            if parks and place == parks:
                now += 3600 * w.pause * rng.uniform(0.8, 1.2)
            elif place:
                base = seconds[min(camera, path[place - 1])] * (2.2 if rng.random() < w.detour else 1.0)
                now += base * np.exp(pace + rng.normal(0, w.spread))
                now += rng.uniform(300, 1200) if rng.random() < w.stops else 0.0
            stay = rng.uniform(2, 8)
            if rng.random() >= w.missed and camera not in w.dead:
                shift = w.clocks.get(camera, 0.0)
                rows.append((f"c{camera}", now + shift, now + stay + shift, vehicle))
                vectors.append(look + w.noise * scale * rng.normal(size=w.dimensions))
            now += stay
    names = [f"{camera}/{number}" for number, (camera, *_) in enumerate(rows)]
    table = TimedTracklets.of(
        id=names,
        camera=[row[0] for row in rows],
        start=[row[1] for row in rows],
        end=[row[2] for row in rows],
        vector=vectors,
    )
    of = dict(zip(names, (row[3] for row in rows), strict=True))
    return table, np.array([of[name] for name in table.id])


def true_links(table: TimedTracklets, vehicle: NDArray[np.int64]) -> set[tuple[int, int]]:
    """Return the pairs of rows of successive tracklets of one vehicle."""
    order = np.lexsort((np.arange(len(table)), vehicle))
    same = vehicle[order[1:]] == vehicle[order[:-1]]
    return set(zip(order[:-1][same].tolist(), order[1:][same].tolist(), strict=True))
