"""A day of traffic: distances and speeds, signals, routes, demand, conservation; the same tables for the same seed."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from vreid.errors import InputError
from vreid.simulator.city.streets import ARTERIAL_SPEED, build_streets
from vreid.simulator.city.traffic import (
    STRESSES,
    TRAFFIC_PRESETS,
    Traffic,
    TrafficPreset,
    plan_traffic,
    stressed,
    traffic_preset_named,
)

MEDIUM = TRAFFIC_PRESETS["medium"]


@cache
def day(seed: int = 1, preset: TrafficPreset = MEDIUM) -> Traffic:
    return plan_traffic(preset, seed)


def columns(traffic: Traffic) -> dict[str, NDArray[np.generic]]:
    tables = (traffic.journeys, traffic.passes)
    return {f"{type(t).__name__}.{one.name}": getattr(t, one.name) for t in tables for one in fields(t)}


def steps(traffic: Traffic) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Passes followed by another one of their journey, and the travel times to it."""
    first = np.flatnonzero(np.diff(traffic.passes.journey) == 0)
    return first, traffic.passes.time[first + 1] - traffic.passes.time[first]


def test_a_seed_gives_the_same_tables_and_another_seed_others() -> None:
    one, again, other = columns(day(1)), columns(plan_traffic(MEDIUM, 1)), columns(day(2))
    assert all(np.array_equal(one[name], again[name]) for name in one)
    assert not np.array_equal(one["Passes.time"], other["Passes.time"])
    assert all(abs(len(day(seed).passes) - 10_000) < 4_000 for seed in (1, 2))


def test_journeys_are_connected_and_vehicles_that_enter_leave_or_park() -> None:
    journeys = day().journeys
    same = np.flatnonzero(np.diff(journeys.vehicle) == 0)
    assert (journeys.start[same + 1] == journeys.end[same]).all()
    assert (journeys.departure[same + 1] > journeys.arrival[same]).all()
    assert (journeys.enters[same + 1] == journeys.leaves[same]).all()  # what left comes back in, what parked drives off
    assert (np.diff(journeys.vehicle) >= 0).all()
    streets = day().streets
    assert (
        streets.is_gate[journeys.start[journeys.enters]].all() and streets.is_gate[journeys.end[journeys.leaves]].all()
    )
    assert len(np.unique(journeys.vehicle)) == MEDIUM.vehicles
    uncovered = streets.camera_of[journeys.start[journeys.enters]] < 0
    assert 0.05 < uncovered.mean() < 0.95  # some roads into the city have no camera
    counts = np.bincount(journeys.vehicle)
    assert counts.max() > 2 and 0.2 < (counts > 1).mean() < 0.8


def test_times_follow_from_distances_and_speeds() -> None:
    traffic = day()
    passes, streets = traffic.passes, traffic.streets
    place = np.empty(MEDIUM.cameras, dtype=np.int64)
    place[streets.camera_of[streets.camera_of >= 0]] = np.flatnonzero(streets.camera_of >= 0)
    first, seconds = steps(traffic)
    stopped = traffic.journeys.stop[passes.journey[first]] > 0
    start, end = place[passes.camera[first]], place[passes.camera[first + 1]]
    distance = np.hypot(*(streets.xy[end] - streets.xy[start]).T)
    assert seconds.min() > 0
    assert (distance / seconds).max() < 1.5 * ARTERIAL_SPEED[1]  # the fastest drivers on the fastest streets
    assert np.median(distance / seconds) < ARTERIAL_SPEED[0]
    usual = streets.route_time[0, start, end]
    ratio = seconds[~stopped] / usual[~stopped]
    assert 0.95 < np.median(ratio) < 1.6  # signals and traffic on top of free driving
    assert np.median(seconds[stopped]) > np.median(seconds[~stopped])
    assert traffic.journeys.stop.astype(bool).mean() == pytest.approx(MEDIUM.stop_share, abs=0.02)
    begin, end_of_day = MEDIUM.day
    assert passes.time.min() >= begin and passes.time.max() < end_of_day
    assert (passes.start < passes.time).all() and (passes.time < passes.end).all()


def test_signals_release_platoons() -> None:
    signals = day(1, replace(MEDIUM, signal_share=1.0, vehicles=6_000))
    free = day(1, replace(MEDIUM, signal_share=0.0, vehicles=6_000))

    def variation(traffic: Traffic) -> float:
        """Mean over cameras of the ratio of variance to mean of counts in 15 s: 1 for independent vehicles."""
        ratios = []
        for camera in range(MEDIUM.cameras):
            times = traffic.passes.time[traffic.passes.camera == camera]
            busy = times[(times > MEDIUM.day[0] + 3600 * 2) & (times < MEDIUM.day[0] + 3600 * 4)]
            counts = np.histogram(busy, np.arange(busy.min(), busy.max(), 15.0))[0]
            ratios.append(counts.var() / counts.mean())
        return float(np.median(ratios))

    assert variation(signals) > variation(free) + 0.1
    # All departures from a junction with signals are in one of its two phases.
    passes, streets = signals.passes, signals.streets
    camera = int(np.bincount(passes.camera).argmax())
    cycle = streets.cycle[streets.camera_of == camera][0]
    first = np.diff(passes.journey, prepend=-1) != 0
    phase = np.mod(passes.time[(passes.camera == camera) & ~first], cycle / 2) / (cycle / 2)
    resultant = np.abs(np.exp(2j * np.pi * phase).mean())
    assert resultant > 0.1


def test_routes_are_paths_of_the_stated_times() -> None:
    streets = build_streets(3, 20, 420.0, 0.6)
    count = len(streets.xy)
    start, end = (index.ravel() for index in np.indices((count, count)))
    some = np.flatnonzero(start != end)
    usual = streets.free_time + np.where(streets.cycle[streets.end] > 0, streets.cycle[streets.end] / 4, 2.5)
    differ = 0
    for route in (0, 1):
        paths = streets.paths(np.full(len(some), route), start[some], end[some])
        for row, path in zip(some[::7].tolist(), paths[::7].tolist(), strict=True):
            nodes = [node for node in path if node >= 0]
            assert nodes[0] == start[row] and nodes[-1] == end[row] and len(set(nodes)) == len(nodes)
            streets_used = [int(streets.street_of[a, b]) for a, b in pairwise(nodes)]
            assert min(streets_used) >= 0
            assert sum(usual[streets_used]) == pytest.approx(streets.route_time[route, start[row], end[row]])
        differ = int((streets.route_time[1] > streets.route_time[0] + 1).sum())
    assert (streets.route_time[1] >= streets.route_time[0] - 1e-9).all()
    assert differ > 0.2 * len(some)


def test_both_routes_are_used() -> None:
    traffic = day()
    journeys, times = traffic.journeys, traffic.streets.route_time
    detour = times[1, journeys.start, journeys.end] - times[0, journeys.start, journeys.end]
    short = journeys.route[(detour > 5) & (detour < 60)]
    assert 0.25 < short.mean() < 0.55
    long = journeys.route[detour > 150]
    assert len(long) > 50 and long.mean() < 0.1


def test_the_shared_peak_shows_in_the_demand_and_in_the_travel_times() -> None:
    shared, spread = day(), day(1, replace(MEDIUM, shared_peak=False))

    def busiest(traffic: Traffic) -> float:
        counts = np.histogram(traffic.passes.time, 28, MEDIUM.day)[0]
        return float(counts.max() / counts.mean())

    assert busiest(shared) > busiest(spread) + 0.5
    first, seconds = steps(shared)
    camera, journey = shared.passes.camera, shared.passes.journey
    driving = shared.journeys.stop[journey[first]] == 0
    first, seconds = first[driving], seconds[driving]
    pair = camera[first] * MEDIUM.cameras + camera[first + 1]
    median = {one: np.median(seconds[pair == one]) for one in np.unique(pair)}
    relative = seconds / np.array([median[one] for one in pair.tolist()])
    hour = (shared.passes.time[first] - MEDIUM.day[0]) / (MEDIUM.day[1] - MEDIUM.day[0])
    assert np.median(relative[np.abs(hour - 0.15) < 0.04]) > np.median(relative[np.abs(hour - 0.45) < 0.04]) + 0.05


def test_the_smallest_cities_have_traffic() -> None:
    for seed in range(30):
        for cameras in (3, 4, 5, 8):
            small = replace(MEDIUM, cameras=cameras, vehicles=12, through_share=0.4)
            traffic = plan_traffic(small, seed)
            assert traffic.streets.is_gate.sum() >= 2 and (~traffic.streets.is_gate).sum() >= 2
            assert np.isfinite(traffic.passes.time).all() and len(traffic.journeys) >= 12


def test_settings_are_checked_and_stresses_are_settings() -> None:
    for wrong, words in (
        ({"through_share": 0.8}, "must not exceed 1"),
        ({"hours": (8, 8)}, "hours must differ"),
        ({"hours": (9, 8)}, "give the smaller number first"),
        ({"missed": 1.5}, "missed is 1.5"),
        ({"dead_cameras": 30}, "must not exceed cameras"),
    ):
        with pytest.raises(InputError, match=words):
            replace(MEDIUM, **wrong)
    with pytest.raises(InputError, match="did you mean 'medium'"):
        traffic_preset_named("mediun")
    with pytest.raises(InputError, match="did you mean 'one dead camera'"):
        stressed(MEDIUM, "dead camera")
    for stress in STRESSES:
        assert stressed(MEDIUM, stress) != MEDIUM and stressed(MEDIUM, stress).name == f"medium, {stress}"
