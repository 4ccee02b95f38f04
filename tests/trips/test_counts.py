"""Origin-destination counts, travel times, routes and coverage; their files."""

from __future__ import annotations

import csv
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.traffic_world import ToyTraffic, traffic_world
from vreid.trips.candidate_links import CandidateLinks
from vreid.trips.counts import (
    coverage,
    origin_destination,
    route_shares,
    travel_times,
    weighted_quantiles,
)
from vreid.trips.missed_passes import missed_share
from vreid.trips.solve import Trips, link_trips
from vreid.trips.tables import TimedTracklets
from vreid.trips.trip_tables import OD_COLUMNS, TRIP_COLUMNS, write_trips


@pytest.fixture(scope="module")
def solved() -> tuple[np.ndarray, Trips]:
    table, vehicle = traffic_world(0, ToyTraffic(vehicles=250, hours=1.5, stops=0.0))
    places = {str(name): (50.0, 8.0 + 0.01 * n) for n, name in enumerate(table.camera.names)}
    return vehicle, link_trips(replace(table, positions=places))


@pytest.fixture(scope="module")
def by_hand(solved: tuple[np.ndarray, Trips]) -> Trips:
    """Tracklets a (c1), b (c2), d (c2): a -> b with probability 0.6, a -> d with 0.3; a -> b is made."""
    table = TimedTracklets.of(
        id=["a", "b", "d"],
        camera=["c1", "c2", "c2"],
        start=[0.0, 100.0, 200.0],
        end=[10.0, 120.0, 220.0],
        vector=np.eye(3),
    )
    pairs = np.array([0, 0], dtype=np.int32), np.array([1, 2], dtype=np.int32)
    return replace(
        solved[1],
        table=table,
        corrected=np.stack([table.start, table.end], axis=1),
        trip=np.array([1, 1, 2]),
        order=np.array([1, 2, 1]),
        vehicle=np.array([1, 1, 2]),
        previous=np.array([-1, 0, -1]),
        probability=np.array([np.nan, 0.6, np.nan]),
        parked=np.zeros(3, dtype=bool),
        links=CandidateLinks(*pairs, np.zeros(2, dtype=np.float32)),
        link_probability=np.array([0.6, 0.3]),
        link_parked=np.zeros(2, dtype=bool),
        offsets=np.zeros(2),
    )


def test_counts_by_hand(by_hand: Trips) -> None:
    (one,) = origin_destination(by_hand)
    assert (one.origin, one.destination, one.count) == ("c1", "c2", 1)
    assert one.corrected == pytest.approx(0.9)  # the trip of a ends at c2 unless a is seen alone
    above = 1.96 * np.sqrt(0.9 + (0.2 * 0.9) ** 2)
    assert (one.low, one.high) == (0.0, pytest.approx(0.9 + above))


def test_intervals_reach_further_up_than_down(by_hand: Trips) -> None:
    """A hundred trips a -> b, certain, none missed: 10 % below the count and 20 % above it, beside Poisson."""
    count = 100
    start = 1000.0 * np.arange(count)
    table = TimedTracklets.of(
        id=[f"{camera}{n}" for camera in "ab" for n in range(count)],
        camera=["a"] * count + ["b"] * count,
        start=np.concatenate([start, start + 50]),
        end=np.concatenate([start + 5, start + 55]),
        vector=np.ones((2 * count, 3)),
    )
    (one,) = origin_destination(linked_as(by_hand, table, [(f"a{n}", f"b{n}") for n in range(count)]))
    assert (one.count, one.corrected) == (100, pytest.approx(100))
    assert one.low == pytest.approx(100 - 1.96 * np.sqrt(100 + 10**2))
    assert one.high == pytest.approx(100 + 1.96 * np.sqrt(100 + 20**2))


def linked_as(trips: Trips, table: TimedTracklets, pairs: list[tuple[str, str]]) -> Trips:
    """Return trips of certain links between tracklets (first id, second id), those of a trip in the order of time."""
    count, row_of = len(table), table.row_of
    first, second = (np.array([row_of[pair[side]] for pair in pairs]) for side in (0, 1))
    previous = np.full(count, -1)
    previous[second] = first
    trip, order = np.zeros(count, dtype=np.int64), np.ones(count, dtype=np.int64)
    for row in np.argsort(table.start, kind="stable").tolist():
        before = previous[row]
        trip[row] = trip.max() + 1 if before < 0 else trip[before]
        order[row] = 1 if before < 0 else order[before] + 1
    return replace(
        trips,
        table=table,
        corrected=np.stack([table.start, table.end], axis=1),
        trip=trip,
        order=order,
        vehicle=trip,
        previous=previous,
        probability=np.where(previous >= 0, 1.0, np.nan),
        parked=np.zeros(count, dtype=bool),
        links=CandidateLinks(first.astype(np.int32), second.astype(np.int32), np.zeros(len(pairs), dtype=np.float32)),
        link_probability=np.ones(len(pairs)),
        link_parked=np.zeros(len(pairs), dtype=bool),
        offsets=np.zeros(table.cameras),
    )


@pytest.mark.parametrize(("missed", "within"), [(0.06, 0.03), (0.3, 0.08)])
def test_counts_of_a_world_that_misses_a_known_share(by_hand: Trips, missed: float, within: float) -> None:
    """Vehicles go from c0 to c4 (3,000) or from c1 to c3 (1,500); what is linked is right."""
    rng = np.random.default_rng(5)
    rows: list[tuple[str, str, float]] = []
    pairs = []
    for number in range(4500):
        cameras = range(5) if number < 3000 else range(1, 4)
        seen = [camera for camera in cameras if rng.random() >= missed]
        names = [f"{number}/{camera}" for camera in seen]
        pace = rng.normal(60, 5)
        rows += [(name, f"c{camera}", 1e3 * number + pace * camera) for name, camera in zip(names, seen, strict=True)]
        pairs += list(itertools.pairwise(names))
    start = np.array([row[2] for row in rows])
    table = TimedTracklets.of(
        id=[row[0] for row in rows],
        camera=[row[1] for row in rows],
        start=start,
        end=start + 5,
        vector=np.ones((len(rows), 3)),
    )
    trips = linked_as(by_hand, table, pairs)
    assert missed_share(trips) == pytest.approx(missed, rel=0.05)
    found = {(one.origin, one.destination): one for one in origin_destination(trips)}
    large = {("c0", "c4"): 3000, ("c1", "c3"): 1500}
    for cell, count in large.items():
        assert found[cell].corrected == pytest.approx(count, rel=within)
        assert found[cell].low <= count <= found[cell].high
    assert max(one.corrected for cell, one in found.items() if cell not in large) < 0.04 * 3000
    assert sum(one.corrected for one in found.values()) == pytest.approx(4500, rel=within)


def test_travel_times_routes_and_coverage_by_hand(by_hand: Trips) -> None:
    all_day, hour = travel_times(by_hand)
    assert (all_day.hour, hour.hour, hour.count) == (None, 0, 1)
    assert hour.median == 105.0  # from 5 to 110 s
    (route,) = route_shares(by_hand)
    assert (route.route, route.count, route.share) == (("c1", "c2"), 1, 1.0)
    first, second = coverage(by_hand)
    assert (first.tracklets, first.linked, first.begin, first.end) == (1, 1.0, 1.0, 0.0)
    assert (second.tracklets, second.linked, second.begin, second.end) == (2, 0.5, 0.5, 1.0)
    assert second.probability == pytest.approx(0.6)


def test_quantiles_are_weighted() -> None:
    values = np.array([3.0, 1.0, 2.0, 5.0])
    equal = weighted_quantiles(values, np.ones(4), (0.2, 0.5, 0.9))
    np.testing.assert_allclose(equal, np.quantile(values, [0.2, 0.5, 0.9], method="hazen"))
    assert weighted_quantiles(values, np.array([1e-9, 1.0, 1e-9, 1e-9]), (0.5,))[0] == pytest.approx(1.0, abs=1e-6)


def test_expected_counts_add_up_and_cover_the_truth(solved: tuple[np.ndarray, Trips]) -> None:
    vehicle, trips = solved
    cameras = trips.table.camera.values
    truth: dict[tuple[str, str], int] = {}
    for one in np.unique(vehicle):
        seen = cameras[vehicle == one]
        if len(set(seen)) > 1:
            truth[seen[0], seen[-1]] = truth.get((seen[0], seen[-1]), 0) + 1
    found = origin_destination(trips)
    assert sum(one.corrected for one in found) == pytest.approx(sum(truth.values()), rel=0.1)
    assert all(one.low <= one.corrected <= one.high for one in found)
    inside = [one.low <= truth.get((one.origin, one.destination), 0) <= one.high for one in found]
    assert np.mean(inside) > 0.9


def test_files(solved: tuple[np.ndarray, Trips], tmp_path: Path) -> None:
    trips = solved[1]
    written = {path.name for path in write_trips(trips, tmp_path)}
    assert {"trips.csv", "od.csv", "travel_times.csv", "routes.csv", "coverage.csv", "trips.geojson"} <= written
    with open(tmp_path / "trips.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == TRIP_COLUMNS
    assert sorted(row["tracklet"] for row in rows) == sorted(trips.table.id)
    assert all((row["order"] == "1") == (row["probability"] == "") for row in rows)
    with open(tmp_path / "od.csv", newline="") as file:
        counts = list(csv.DictReader(file))
    assert tuple(counts[0]) == OD_COLUMNS
    ends: dict[str, list[str]] = {}
    for row in rows:
        ends.setdefault(row["trip"], []).append(row["camera"])
    several = [cameras for cameras in ends.values() if len(set(cameras)) > 1]
    assert sum(int(row["count"]) for row in counts) == len(several)
    collection = json.loads((tmp_path / "trips.geojson").read_text())
    lines = collection["features"]
    assert len(lines) == len(several)
    assert lines[0]["geometry"]["coordinates"][0][1] == 50.0
    assert collection["type"] == "FeatureCollection"


def test_parquet_holds_the_lines_of_the_table(solved: tuple[np.ndarray, Trips], tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write_trips(solved[1], tmp_path)
    table = parquet.read_table(tmp_path / "trips.parquet")
    assert tuple(table.column_names) == TRIP_COLUMNS
    assert table.num_rows == len(solved[1].table)


def test_what_is_stopped_leaves_the_folder_as_it_was(
    solved: tuple[np.ndarray, Trips], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C after the first tables: neither they nor temporary files are there, and old files are as before."""
    (tmp_path / "od.csv").write_text("old\n")

    def stopped(trips: Trips) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vreid.trips.trip_tables.trip_lines", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_trips(solved[1], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["od.csv"]
    assert (tmp_path / "od.csv").read_text() == "old\n"
