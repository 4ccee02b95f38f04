"""Shuffled times are noticed, and true ones are not taken for shuffled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from support.traffic_world import ToyTraffic, traffic_world
from vreid.trips.solve import link_trips
from vreid.trips.tables import TimedTracklets
from vreid.trips.time_evidence import clustered_share, times_are_informative

WORLD = ToyTraffic(vehicles=250, hours=1.5)


def shuffled(table: TimedTracklets, seed: int) -> TimedTracklets:
    start = table.start[np.random.default_rng(seed).permutation(len(table))]
    return TimedTracklets.of(
        id=table.id, camera=table.camera, start=start, end=start + table.end - table.start, vector=table.vector
    )


@pytest.mark.parametrize(
    "world",
    [WORLD, replace(WORLD, missed=0.3), replace(WORLD, stops=0.2), replace(WORLD, detour=0.4)],
    ids=["plain", "30 % missed", "stops", "two routes"],
)
def test_true_and_shuffled_times(world: ToyTraffic) -> None:
    for seed in (3, 4):
        table = traffic_world(seed, world)[0]
        assert times_are_informative(table, 3600.0, 0.0)
        assert not times_are_informative(shuffled(table, seed), 3600.0, 0.0)


def test_share_by_hand() -> None:
    """Thirty vehicles, each like no other, of which all take 100 s from x to y: all pairs cluster."""
    times = np.arange(30.0) * 2000
    table = TimedTracklets.of(
        id=[f"{n}" for n in range(60)],
        camera=["x"] * 30 + ["y"] * 30,
        start=np.concatenate([times, times + 105]),
        end=np.concatenate([times + 5, times + 110]),
        vector=np.concatenate([np.eye(30), np.eye(30)]),
    )
    pairs, share = clustered_share(table, 900.0, 0.0)
    assert pairs == 30
    assert share > 0.95


def test_few_tracklets_are_not_judged() -> None:
    assert times_are_informative(traffic_world(5, WORLD)[0][:30], 3600.0, 0.0)


def test_linking_warns() -> None:
    table = traffic_world(3, WORLD)[0]
    assert link_trips(table).warnings == ()
    (warning,) = link_trips(shuffled(table, 0)).warnings
    assert "times" in warning
