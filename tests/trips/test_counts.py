"""Origin-destination counts, travel times, routes and coverage; their files."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.traffic_world import ToyTraffic, traffic_world
from vreid.trips.candidate_links import CandidateLinks
from vreid.trips.counts import (
    coverage,
    missed_share,
    origin_destination,
    route_shares,
    travel_times,
    weighted_quantiles,
)
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
    wide = 1.96 * np.sqrt(0.9 + (0.1 * 0.9) ** 2)
    assert (one.low, one.high) == (0.0, pytest.approx(0.9 + wide))


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


def test_passes_that_a_camera_missed_are_estimated() -> None:
    for missed in (0.05, 0.3):
        table, _ = traffic_world(
            1, ToyTraffic(vehicles=500, hours=3.0, groups=200, noise=0.3, missed=missed, stops=0.0)
        )
        assert missed_share(link_trips(table)) == pytest.approx(missed, rel=0.35)


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
