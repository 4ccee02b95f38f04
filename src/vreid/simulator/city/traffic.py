"""A day of traffic in a city as tables: journeys of vehicles and their passes at cameras, 10^2 to 10^6 of them.

Vehicles enter through gates, which need not have a camera, or start from where they are parked; they choose one of
two routes, wait at signals, slow down in traffic, stop on the way, park, and drive again later in the day. What cameras
make of it (clocks, missed and broken tracklets) is in `observation`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.data.seeds import generator
from vreid.errors import InputError, named
from vreid.ranges import bounds, check_settings, in_range
from vreid.simulator.city.plan import DAY
from vreid.simulator.city.streets import Float, Ints, Streets, build_streets

HOUR = 3600.0
BIN = 900.0
"""Length of the steps in seconds in which the amount of traffic varies."""
ROUTE_CHOICE = 60.0
"""Seconds of detour at which the second route is chosen 1 / (1 + e) times."""
PEAKS = (0.15, 0.75)
"""Shared peaks of the departures as shares of the day."""
PEAK_WIDTH = 0.06
"""Standard deviation of a peak as a share of the day."""
PACE_SPREAD = 0.08
"""Standard deviation of the logarithm of a vehicle's relative travel time over the day."""
STREET_SPREAD = 0.10
"""Standard deviation of the logarithm of the travel time along one street."""
STOP = (420.0, 0.8)
"""Median stop on the way in seconds, and standard deviation of its logarithm."""
ERRAND = (1500.0, 0.7)
"""The same for parking between the journeys of a local vehicle."""
WORK = (0.45, 0.25)
"""Median time parked at work as a share of the day, and standard deviation of its logarithm."""
AWAY = (0.15, 0.8)
"""The same for the time outside the city before a vehicle returns."""
PASS_SPEED = (5.0, 12.0)
"""Minimum and maximum speed past a camera in m/s."""
VIEW = (35.0, 60.0)
"""Minimum and maximum length of road in a camera's view in metres."""


@dataclass(frozen=True)
class TrafficPreset:
    """Settings of a day of traffic and of the cameras that see it, without the seed.

    Attributes:
        name: name of the preset.
        cameras: number of cameras; half as many junctions have none.
        vehicles: number of vehicles of the day; with `hours` and `cameras` the density of traffic.
        hours: first and last hour of the day (UTC).
        block: mean distance of neighbouring junctions in metres.
        signal_share: share of junctions with signals.
        through_share: share of vehicles that enter and leave the city again at once.
        commuter_share: share of vehicles that drive to a place, park for hours and drive back; the rest are local
            vehicles with several errands.
        return_share: share of through vehicles that come back later.
        stop_share: share of journeys with a stop on the way.
        peak_share: share of vehicles that depart in a peak.
        shared_peak: the peaks are the same everywhere (False: every origin has its own).
        congestion: how much longer an average street takes at the busiest time, as a share.
        clock_error: standard deviation of the cameras' clock offsets in seconds.
        clock_drift: standard deviation of their drift in seconds a day.
        missed: share of passes without a tracklet.
        broken: share of passes that give two tracklets.
        merged: share of passes within `observation.MERGE_GAP` of another that share a tracklet with it.
        dead_cameras: number of cameras that record nothing.
        wrong_clocks: number of cameras whose clock is off by `wrong_clock` seconds more.
        wrong_clock: see `wrong_clocks`.
        shuffled_times: the times of each camera's tracklets are shuffled.
        images: minimum and maximum number of images of a tracklet.
        longest_side: side of the largest images in pixels.
        models: number of car models of each vehicle type.
        bystanders: number of other vehicles in the images.
        look_alike_share: probability that a vehicle copies type, colour and model of an earlier one.
        white_vans: all vehicles are white vans.
    """

    name: str
    cameras: int = field(metadata=bounds(least=3, most=400))
    vehicles: int = field(metadata=bounds(least=1))
    hours: tuple[float, float] = field(metadata=bounds(least=0, most=24, ascending=True))
    block: float = in_range(420.0, least=60, most=5000)
    signal_share: float = in_range(0.6, least=0, most=1)
    through_share: float = in_range(0.5, least=0, most=1)
    commuter_share: float = in_range(0.3, least=0, most=1)
    return_share: float = in_range(0.3, least=0, most=1)
    stop_share: float = in_range(0.08, least=0, most=1)
    peak_share: float = in_range(0.6, least=0, most=1)
    shared_peak: bool = True
    congestion: float = in_range(0.5, least=0, most=5)
    clock_error: float = in_range(1.0, least=0, most=3600)
    clock_drift: float = in_range(1.0, least=0, most=3600)
    missed: float = in_range(0.05, least=0, most=1)
    broken: float = in_range(0.03, least=0, most=1)
    merged: float = in_range(0.1, least=0, most=1)
    dead_cameras: int = in_range(0, least=0)
    wrong_clocks: int = in_range(0, least=0)
    wrong_clock: float = in_range(120.0, least=-86400, most=86400)
    shuffled_times: bool = False
    images: tuple[int, int] = in_range((2, 3), least=1, ascending=True)
    longest_side: int = in_range(128, least=16, most=1024)
    models: int = in_range(24, least=1)
    bystanders: int = in_range(12, least=0)
    look_alike_share: float = in_range(0.5, least=0, most=1)
    white_vans: bool = False

    def __post_init__(self) -> None:
        check_settings(self, f"preset {self.name!r}: ")
        for wrong, fix in (
            (self.hours[0] == self.hours[1], "hours must differ"),
            (self.through_share + self.commuter_share > 1, "through_share and commuter_share must not exceed 1 in all"),
            (
                self.dead_cameras + self.wrong_clocks > self.cameras,
                "dead_cameras and wrong_clocks must not exceed cameras in all",
            ),
        ):
            if wrong:
                raise InputError(f"preset {self.name!r}: {fix}.")

    @property
    def day(self) -> tuple[float, float]:
        """First and last second of the day's recording (UTC)."""
        return DAY + HOUR * self.hours[0], DAY + HOUR * self.hours[1]


TRAFFIC_PRESETS = {
    preset.name: preset
    for preset in (
        TrafficPreset(
            "tiny",
            4,
            24,
            (8, 9),
            block=150.0,
            through_share=0.9,
            commuter_share=0.1,
            longest_side=64,
            models=3,
            bystanders=2,
        ),
        TrafficPreset("demo", 8, 120, (7, 11)),
        TrafficPreset("small", 12, 370, (6, 18)),
        TrafficPreset("medium", 24, 2_800, (6, 20)),
        TrafficPreset("large", 60, 14_000, (5, 21)),
    )
}
"""Presets of the layout "trips" by name."""

STRESSES: dict[str, dict[str, Any]] = {
    "shuffled times": {"shuffled_times": True},
    "one dead camera": {"dead_cameras": 1},
    "a clock two minutes off": {"wrong_clocks": 1},
    "30 % missed": {"missed": 0.3},
    "all-white vans": {"white_vans": True},
}
"""Settings that make linking hard, by name; see `stressed`."""


def stressed(preset: TrafficPreset, stress: str) -> TrafficPreset:
    """Return the preset with the settings of one of `STRESSES`.

    Raises:
        InputError: unknown name; the message suggests the nearest.
    """
    settings = named("stress", STRESSES, stress)
    return replace(preset, name=f"{preset.name}, {stress}", **settings)


def traffic_preset_named(name: str) -> TrafficPreset:
    """Return the preset of traffic called `name`.

    Raises:
        InputError: unknown name; the message suggests the nearest.
    """
    return named("preset", TRAFFIC_PRESETS, name)


@dataclass(frozen=True, eq=False)
class Journeys:
    """J journeys, in order of vehicle and time; each is a drive from one place to another without parking.

    Attributes:
        vehicle: (J,) from 0.
        start, end: (J,) junctions where it starts and ends.
        enters, leaves: (J,) whether it enters the city through the gate `start`, and leaves it through `end`.
        route: (J,) 0 or 1.
        departure, arrival: (J,) UTC seconds.
        stop: (J,) seconds that it stops on the way.
    """

    vehicle: Ints
    start: Ints
    end: Ints
    enters: NDArray[np.bool_]
    leaves: NDArray[np.bool_]
    route: Ints
    departure: Float
    arrival: Float
    stop: Float

    def __len__(self) -> int:
        return len(self.vehicle)


@dataclass(frozen=True, eq=False)
class Passes:
    """P passes of vehicles at cameras, in order of journey and time.

    Attributes:
        journey: (P,) index of the journey.
        camera: (P,) index of the camera.
        time: (P,) UTC seconds at the middle of the view.
        start, end: (P,) UTC seconds at which the vehicle enters and leaves the view.
    """

    journey: Ints
    camera: Ints
    time: Float
    start: Float
    end: Float

    def __len__(self) -> int:
        return len(self.journey)


@dataclass(frozen=True, eq=False)
class Traffic:
    """A day of traffic as it happens, whether or not cameras record it."""

    preset: TrafficPreset
    seed: int
    streets: Streets
    journeys: Journeys
    passes: Passes

    @property
    def vehicle(self) -> Ints:
        """(P,) vehicle of each pass."""
        return self.journeys.vehicle[self.passes.journey]


def plan_traffic(preset: TrafficPreset, seed: int) -> Traffic:
    """Plan the traffic `seed` of `preset`; equal settings and seeds give equal tables."""
    streets = build_streets(seed, preset.cameras, preset.block, preset.signal_share)
    places, pauses, is_outside = _itineraries(preset, seed, streets)
    pace = np.exp(generator(seed, "pace").normal(0, PACE_SPREAD, len(places)))
    departure = _departures(preset, seed, places[:, 0], streets)
    traffic = np.histogram(departure, bins=_bins(preset))[0].astype(np.float64)
    slow = _smooth(traffic) / max(_smooth(traffic).max(), 1.0)

    legs = []
    load: Float | None = None
    for leg in range(places.shape[1] - 1):
        driving = np.flatnonzero((places[:, leg + 1] >= 0) & (departure < preset.day[1]))
        if not len(driving):
            break
        rng = generator(seed, "leg", leg)
        start, end = places[driving, leg], places[driving, leg + 1]
        route = _choose_routes(rng, streets, start, end)
        stop = np.where(rng.random(len(driving)) < preset.stop_share, _lognormal(rng, *STOP, len(driving)), 0.0)
        paths = streets.paths(route, start, end)
        if load is None:
            load = _load(preset, streets, paths, departure[driving], float((places[:, 1:] >= 0).sum() / len(places)))
        times = _drive(rng, preset, streets, paths, departure[driving], pace[driving], stop, slow, load)
        last = (paths >= 0).sum(axis=1) - 1
        arrival = times[np.arange(len(driving)), last]
        enters, leaves = is_outside[driving, leg], is_outside[driving, leg + 1]
        legs.append((driving, start, end, enters, leaves, route, departure[driving], arrival, stop, paths, times))
        departure[driving] = arrival + pauses[driving, leg]
    return _assembled(preset, seed, streets, legs)


def _itineraries(preset: TrafficPreset, seed: int, streets: Streets) -> tuple[Ints, Float, NDArray[np.bool_]]:
    """Draw the places (V, 6) that vehicles visit in turn (-1: none), the pauses (V, 5) there, and which are outside."""
    rng = generator(seed, "itineraries")
    count, day = preset.vehicles, preset.day[1] - preset.day[0]
    inside = ~streets.is_gate
    kind = rng.choice(
        3,
        count,
        p=[preset.through_share, preset.commuter_share, max(1 - preset.through_share - preset.commuter_share, 0.0)],
    )
    through, commuter, local = kind == 0, kind == 1, kind == 2
    weight = np.exp(rng.normal(0, 0.8, len(streets.xy)))
    places = np.full((count, 6), -1, dtype=np.int64)
    is_outside = np.zeros((count, 6), dtype=np.bool_)
    pauses = _lognormal(rng, *ERRAND, (count, 5))

    from_outside = through | (commuter & (rng.random(count) < 0.5))
    gates = np.flatnonzero(streets.is_gate)
    homes = np.flatnonzero(inside)
    places[:, 0] = np.where(
        from_outside,
        rng.choice(gates, count, p=weight[gates] / weight[gates].sum()),
        rng.choice(homes, count, p=weight[homes] / weight[homes].sum()),
    )
    is_outside[:, 0] = from_outside
    gate_next = _gravity(rng, streets, places[:, 0], weight * streets.is_gate)
    inner_next = _gravity(rng, streets, places[:, 0], weight * inside)
    places[:, 1] = np.where(through, gate_next, inner_next)
    is_outside[:, 1] = through
    back = commuter | (through & (rng.random(count) < preset.return_share))
    places[back, 2], is_outside[back, 2] = places[back, 0], is_outside[back, 0]
    pauses[commuter, 0] = day * _lognormal(rng, *WORK, count)[commuter]
    pauses[through, 0] = day * _lognormal(rng, *AWAY, count)[through]
    errands = rng.integers(1, 5, count)
    for leg in range(2, 6):
        going = local & (errands >= leg)
        places[going, leg] = _gravity(rng, streets, places[going, leg - 1], weight * inside)
        home = local & (errands == leg - 1)
        places[home, leg] = places[home, 0]
    same = local[:, None] & (places[:, 1:] == places[:, :-1])  # already at home: the day ends there
    places[:, 1:][np.logical_or.accumulate(same, axis=1)] = -1
    return places, pauses, is_outside


def _gravity(rng: np.random.Generator, streets: Streets, origin: Ints, weight: Float) -> Ints:
    """Draw a destination for each origin (T,): heavy ones often, those next door and very far ones seldom."""
    span = float(np.ptp(streets.xy, axis=0).max())
    draws = rng.random(len(origin))
    destination = np.empty(len(origin), dtype=np.int64)
    for node in np.unique(origin):
        distance = np.hypot(*(streets.xy - streets.xy[node]).T) / span
        share = weight * distance * np.exp(-1.5 * distance)
        here = origin == node
        cumulated = np.cumsum(share) / share.sum()
        destination[here] = np.searchsorted(cumulated, draws[here], side="right").clip(max=len(share) - 1)
    return destination


def _departures(preset: TrafficPreset, seed: int, origin: Ints, streets: Streets) -> Float:
    """Draw the first departure of each vehicle (V,)."""
    rng = generator(seed, "departures")
    count = len(origin)
    peak = np.array(PEAKS)[(rng.random(count) < 0.4).astype(np.int64)]
    if not preset.shared_peak:
        peak = rng.uniform(0.05, 0.95, len(streets.xy))[origin]
    in_peak = rng.random(count) < preset.peak_share
    share = np.where(in_peak, rng.normal(peak, PEAK_WIDTH), rng.random(count))
    begin, end = preset.day
    return begin + np.where((share < 0) | (share > 0.97), rng.uniform(0, 0.97, count), share) * (end - begin)


def _bins(preset: TrafficPreset) -> Float:
    begin, end = preset.day
    return np.linspace(begin, end, max(1, round((end - begin) / BIN)) + 1)


def _smooth(counts: Float) -> Float:
    padded = np.pad(counts, 1, mode="edge")
    smooth: Float = 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]
    return smooth


def _choose_routes(rng: np.random.Generator, streets: Streets, start: Ints, end: Ints) -> Ints:
    times = streets.route_time[:, start, end]
    detour = np.clip((times[1] - times[0]) / ROUTE_CHOICE, -50, 50)
    return np.where(rng.random(len(start)) < 1 / (1 + np.exp(detour)), 1, 0)


def _load(preset: TrafficPreset, streets: Streets, paths: Ints, departure: Float, legs: float) -> Float:
    """Return vehicles per second of each street and step of the day (E, B), from the first of `legs` journeys."""
    bins = _bins(preset)
    place = np.digitize(departure, bins[1:-1])
    flows = np.zeros((len(streets.start), len(bins) - 1))
    for step in range(1, paths.shape[1]):
        going = paths[:, step] >= 0
        street = streets.street_of[paths[going, step - 1], paths[going, step]]
        np.add.at(flows, (street, place[going]), 1.0)
    flows *= legs / (bins[1] - bins[0])
    return flows


def _drive(
    rng: np.random.Generator,
    preset: TrafficPreset,
    streets: Streets,
    paths: Ints,
    departure: Float,
    pace: Float,
    stop: Float,
    slow: Float,
    load: Float,
) -> Float:
    """Return the times (T, L) at which vehicles pass the junctions of their paths; NaN beyond their ends."""
    bins = _bins(preset)
    count, length = paths.shape
    times = np.full((count, length), np.nan)
    times[:, 0] = departure
    legs = (paths >= 0).sum(axis=1) - 1
    stop_at = 1 + (rng.random(count) * legs).astype(np.int64)
    for step in range(1, length):
        going = np.flatnonzero(paths[:, step] >= 0)
        street = streets.street_of[paths[going, step - 1], paths[going, step]]
        time = times[going, step - 1]
        now = np.digitize(time, bins[1:-1])
        busy = 1 + preset.congestion * streets.sensitivity[street] * slow[now] ** 2
        noise = np.exp(rng.normal(0, STREET_SPREAD, len(going)))
        time = time + streets.free_time[street] * pace[going] * busy * noise
        time += np.where(stop_at[going] == step, stop[going], 0.0)
        times[going, step] = streets.leave(street, time, load[street, now], rng.random(len(going)))
    return times


def _assembled(preset: TrafficPreset, seed: int, streets: Streets, legs: list[tuple[Any, ...]]) -> Traffic:
    """Join the legs' journeys and make the passes at junctions with cameras; endpoints inside the city are parking."""
    columns = [np.concatenate(column) for column in list(zip(*legs, strict=True))[:9]]
    order = np.lexsort((columns[6], columns[0]))
    journeys = Journeys(*(column[order] for column in columns))
    place_of = np.empty(len(order), dtype=np.int64)
    place_of[order] = np.arange(len(order))

    found, first = [], 0
    for *_, paths, times in legs:
        rows = place_of[first : first + len(paths)]
        first += len(paths)
        last = (paths >= 0).sum(axis=1) - 1
        seen = (paths >= 0) & (streets.camera_of[paths] >= 0)
        seen[:, 0] &= journeys.enters[rows]
        seen[np.arange(len(paths)), last] &= journeys.leaves[rows]
        seen &= (times >= preset.day[0]) & (times < preset.day[1])
        at, step = np.nonzero(seen)
        found.append((rows[at], streets.camera_of[paths[at, step]], times[at, step]))
    journey, camera, time = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((time, journey))
    journey, camera, time = journey[order], camera[order], np.round(time[order], 3)
    rng = generator(seed, "passes")
    view = rng.uniform(*VIEW, preset.cameras)[camera]
    half = np.round(view / rng.uniform(*PASS_SPEED, len(time)) / 2, 3)
    return Traffic(preset, seed, streets, journeys, Passes(journey, camera, time, time - half, time + half))


def _lognormal(rng: np.random.Generator, median: float, spread: float, size: int | tuple[int, int]) -> Float:
    return median * np.exp(rng.normal(0, spread, size))
