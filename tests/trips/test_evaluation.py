"""Trips against the truth: identities, links, travel times, counts; by hand, and against the metrics of boxes."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vreid.errors import InputError
from vreid.simulator.city.observation import observe
from vreid.simulator.city.traffic import TRAFFIC_PRESETS, plan_traffic
from vreid.simulator.formats.trip_files import truth_tables
from vreid.trips.count_agreement import evaluate_counts, geh
from vreid.trips.evaluation import TripMetrics, evaluate_trips, idf1_difference
from vreid.trips.tracking_metrics import TrackBoxes, evaluate_boxes
from vreid.trips.travel_time_agreement import TravelTimeAgreement, evaluate_travel_times

Row = Mapping[str, object]


def write(path: Path, rows: Iterable[Row]) -> Path:
    rows = list(rows)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def truth_of(*vehicles: str) -> list[Row]:
    """A tracklet for each letter, in order of time: "aab" are two of vehicle a and one of b; cameras by turns."""
    rows = []
    for vehicle in vehicles:
        for letter in vehicle:
            n = len(rows)
            rows.append({"tracklet": f"t{n}", "camera": f"c{n % 3}", "vehicle": letter, "start": n, "end": n + 1})
    return rows


def trips_of(truth: list[Row], trips: str) -> list[Row]:
    """A trip for each letter, "-" is a tracklet that is missing."""
    return [
        {"trip": trip, "order": n + 1, **{key: row[key] for key in ("tracklet", "camera", "start", "end")}}
        for n, (row, trip) in enumerate(zip(truth, trips, strict=True))
        if trip != "-"
    ]


def evaluated(folder: Path, truth: list[Row], trips: list[Row], **options: object) -> TripMetrics:
    paths = write(folder / "trips.csv", trips), write(folder / "truth.csv", truth)
    return evaluate_trips(*paths, **{"cityflow": False, "resamples": 50, **options})


def test_by_hand(tmp_path: Path) -> None:
    truth = truth_of("aaabbb")
    got = evaluated(tmp_path, truth, trips_of(truth, "xxyyy-"))
    # x: two of a; y: one of a, two of b; best: a = x (2), b = y (2)
    assert (got.idp.value, got.idr.value, got.idf1.value) == pytest.approx((4 / 5, 4 / 6, 8 / 11))
    assert got.deta.value == pytest.approx(5 / 6)
    association = [2 / 3, 2 / 3, 1 / 5, 2 / 4, 2 / 4]  # a and x, a and y, b and y
    assert got.assa.value == pytest.approx(np.mean(association))
    assert got.hota.value == pytest.approx(math.sqrt(5 / 6 * np.mean(association)))
    assert (got.switches, got.mota) == (1, pytest.approx(1 - 2 / 6))
    # links: 0-1, 2-3, 3-4; of consecutive tracklets: 0-1, 1-2, 3-4
    assert (got.link_precision.value, got.link_recall.value) == pytest.approx((2 / 3, 2 / 3))
    assert (got.tracklets, got.vehicles, got.trips) == (6, 2, 2)


def test_perfect_trips_and_single_tracklets(tmp_path: Path) -> None:
    truth = truth_of("aabbabc")
    perfect = evaluated(tmp_path, truth, trips_of(truth, "xxyyxyz"))
    for name in ("idf1", "idp", "idr", "hota", "deta", "assa", "link_precision", "link_recall"):
        assert getattr(perfect, name).value == 1, name
        assert (getattr(perfect, name).low, getattr(perfect, name).high) == (1, 1), name
    alone = evaluated(tmp_path, truth, trips_of(truth, "1234567"))
    assert alone.idf1.value == pytest.approx(3 / 7)
    assert (alone.link_precision.value, alone.link_recall.value) == (0, 0)
    assert alone.deta.value == 1 and alone.switches == 4


def test_probabilities_of_links_are_kept_beside_what_they_joined(tmp_path: Path) -> None:
    truth = truth_of("aaab")
    trips = [
        dict(row) | {"probability": p} for row, p in zip(trips_of(truth, "xxxx"), ("", 0.9, 0.8, 0.3), strict=True)
    ]
    got = evaluated(tmp_path, truth, trips)
    assert (got.link_probability.tolist(), got.link_right.tolist()) == ([0.9, 0.8, 0.3], [True, True, False])
    assert len(evaluated(tmp_path, truth, trips_of(truth, "xxxx")).link_probability) == 0


def test_cityflows_rule(tmp_path: Path) -> None:
    """Vehicles at one camera do not count, and neither do trips past one camera; in other trips they are wrong."""
    truth = [dict(row) for row in truth_of("aabbcd")]
    for row in truth[4:]:
        row["camera"] = "c0"
    got = evaluated(tmp_path, truth, trips_of(truth, "xxyyyz"), cityflow=True)
    assert (got.tracklets, got.vehicles, got.trips) == (4, 2, 2)
    assert (got.idp.value, got.idr.value) == pytest.approx((4 / 5, 1))
    with pytest.raises(InputError, match="no vehicle is seen by two cameras or more"):
        evaluated(tmp_path, truth[4:], trips_of(truth[4:], "xx"), cityflow=True)


def test_weights_and_identities(tmp_path: Path) -> None:
    truth = [
        dict(row) | {"trip": trip} for row, trip in zip(truth_of("aaaa"), ("a-1", "a-1", "a-2", "a-2"), strict=True)
    ]
    truth[0]["end"] = float(str(truth[0]["start"])) + 7  # ten seconds in all
    trips = trips_of(truth, "xxyy")
    assert evaluated(tmp_path, truth, trips).idf1.value == pytest.approx(1 / 2)
    assert evaluated(tmp_path, truth, trips, weight="duration").idf1.value == pytest.approx(8 / 10)
    assert evaluated(tmp_path, truth, trips, identity="trip").idf1.value == 1


def test_trips_of_a_vehicle_that_parks_are_joined(tmp_path: Path) -> None:
    truth = truth_of("aaaabb")
    trips = trips_of(truth, "xxyyzz")
    assert evaluated(tmp_path, truth, trips).idf1.value == pytest.approx(2 * 4 / 12)
    write(tmp_path / "vehicles.csv", [{"vehicle": "1", "trip": trip} for trip in "xy"])
    joined = evaluated(tmp_path, truth, trips)
    assert (joined.idf1.value, joined.link_recall.value, joined.trips) == (1, 1, 2)
    assert evaluated(tmp_path, truth, trips, vehicles_csv=tmp_path / "vehicles.csv").idf1.value == 1
    assert evaluated(tmp_path, truth, trips_of(truth, "112233")).trips == 3  # trip 1 is not vehicle 1


def test_tracklets_that_the_truth_does_not_know_are_wrong(tmp_path: Path) -> None:
    truth = truth_of("aab")
    extra = {"trip": "x", "order": 9, "tracklet": "t9", "camera": "c1", "start": 9, "end": 10}
    got = evaluated(tmp_path, truth, [*trips_of(truth, "xxy"), extra])
    assert (got.idp.value, got.idr.value) == pytest.approx((3 / 4, 1))
    assert got.deta.value == pytest.approx(3 / 4)
    assert got.mota == pytest.approx(1 - 1 / 3)
    assert got.link_precision.value == pytest.approx(1 / 2)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("cityflow", [False, True])
def test_a_tracklet_is_a_box_that_is_found(tmp_path: Path, seed: int, cityflow: bool) -> None:
    """The numbers are those of boxes, one a tracklet, on frames in the order of time."""
    rng = np.random.default_rng(seed)
    vehicles, trips = rng.integers(0, 8, 60), rng.integers(0, 3, 60)
    truth = [
        {"tracklet": f"t{n}", "camera": f"c{rng.integers(3)}", "vehicle": f"v{vehicle}", "start": n, "end": n + 1}
        for n, vehicle in enumerate(vehicles.tolist())
    ]
    kept = np.flatnonzero(rng.random(60) < 0.8)
    found = [
        {**truth[n], "trip": f"{vehicles[n]}/{trips[n] // 2}" if trips[n] else f"{rng.integers(8)}/0", "order": n}
        for n in kept.tolist()
    ]
    got = evaluated(tmp_path, truth, found, cityflow=cityflow)
    sides = []
    for rows, key in ((truth, "vehicle"), (found, "trip")):
        boxes = TrackBoxes.of(
            camera=[row["camera"] for row in rows],
            frame=[row["start"] for row in rows],
            identity=[row[key] for row in rows],
            corners=[[0, 0, 1, 1]] * len(rows),
        )
        boxes = boxes.at_several_cameras() if cityflow else boxes
        # frames of one camera, so that their order is that of time
        sides.append(replace(boxes, camera=np.array(["c"] * len(boxes), dtype=object)))
    wanted = evaluate_boxes(*sides, cityflow=False)
    for name in ("idf1", "idp", "idr", "hota", "deta", "assa"):
        assert getattr(got, name).value == pytest.approx(getattr(wanted, name)), name
    assert (got.mota, got.switches) == (pytest.approx(wanted.mota), wanted.switches)


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The truth of a simulated day, and its trips as if they were linked without a mistake (od.csv too)."""
    folder = tmp_path_factory.mktemp("traffic")
    preset = replace(TRAFFIC_PRESETS["medium"], missed=0, broken=0, merged=0, clock_error=0, clock_drift=0)
    day = plan_traffic(preset, 1)
    for name, text in truth_tables(day, observe(day)).items():
        (folder / name).write_text(text)
    with open(folder / "truth.csv", newline="") as file:
        truth = sorted(csv.DictReader(file), key=lambda row: float(row["start"]))
    names = ("trip", "tracklet", "camera", "start", "end")
    write(folder / "trips.csv", [{"order": n, **{name: row[name] for name in names}} for n, row in enumerate(truth)])
    with open(folder / "truth_od.csv", newline="") as file:
        write(folder / "od.csv", [{**row, "corrected": row["count"]} for row in csv.DictReader(file)])
    return folder


def test_true_trips_have_true_travel_times_and_counts(traffic: Path) -> None:
    got = evaluate_trips(traffic / "trips.csv", traffic / "truth.csv", identity="trip", resamples=20)
    assert got.idf1.value == 1 and got.travel_time_error == 0
    assert len(got.travel_times) > 30 and all(one.true_count >= 10 for one in got.travel_times)
    assert got.counts is not None and got.counts.cells > 20
    assert (got.counts.accepted, got.counts.accepted_raw, got.counts.median_geh) == (1, 1, 0)
    by_vehicle = evaluate_trips(traffic / "trips.csv", traffic / "truth.csv", resamples=20)
    assert by_vehicle.idf1.value < 0.9  # vehicles that park and drive again are several trips
    plain = got.plain()
    assert plain["idf1"] == {"value": 1.0, "low": 1.0, "high": 1.0} and plain["travel_time_error"] == 0
    assert "sums" not in plain and json.loads(json.dumps(plain, allow_nan=False))["counts"]["accepted"] == 1


def test_what_cannot_be_judged_is_none(tmp_path: Path) -> None:
    truth = truth_of("aab")
    write(tmp_path / "od.csv", [{"from": "c0", "to": "c1", "count": 1}])
    write(tmp_path / "truth_od.csv", [{"from": "c0", "to": "c1", "count": 1}])
    plain = evaluated(tmp_path, truth, trips_of(truth, "xxy")).plain()
    assert plain["travel_time_error"] is None and plain["counts"]["accepted"] is None
    json.dumps(plain, allow_nan=False)


def test_late_travel_times_and_missing_counts_show(traffic: Path, tmp_path: Path) -> None:
    with open(traffic / "trips.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    origin = min(float(row["start"]) for row in rows)
    for row in rows:
        row |= {side: str(origin + 1.1 * (float(row[side]) - origin)) for side in ("start", "end")}
    write(tmp_path / "trips.csv", rows)
    with open(traffic / "od.csv", newline="") as file:
        cells = [{**row, "count": 0.25 * float(row["count"])} for row in csv.DictReader(file)]
    write(tmp_path / "od.csv", cells)
    got = evaluate_trips(
        tmp_path / "trips.csv",
        traffic / "truth.csv",
        identity="trip",
        od_csv=tmp_path / "od.csv",
        truth_od_csv=traffic / "truth_od.csv",
        resamples=20,
    )
    assert got.travel_time_error == pytest.approx(0.1, abs=0.001)
    assert got.counts is not None and got.counts.accepted == 1 and got.counts.accepted_raw < 0.9


def test_travel_times_by_hour_are_compared(traffic: Path, tmp_path: Path) -> None:
    rows = [
        {"from": "a", "to": "b", "hour": hour, "count": count, "median": median}
        for hour, count, median in (("", 99, 50), (7, 10, 100), (8, 10, 200), (9, 9, 100))
    ]
    truth = write(tmp_path / "truth_travel_times.csv", rows)
    found = write(tmp_path / "travel_times.csv", [{**row, "median": 90, "count": 1} for row in rows[:2]])
    assert evaluate_travel_times(found, truth) == TravelTimeAgreement(2, 1, pytest.approx(0.1))
    assert math.isnan(evaluate_travel_times(write(tmp_path / "other.csv", [{**rows[1], "from": "x"}]), truth).error)
    metrics = evaluate_trips(traffic / "trips.csv", traffic / "truth.csv", identity="trip", resamples=20)
    assert metrics.by_hour is None and "by hour" not in str(metrics)
    assert "IDF1 1.000 [1.000, 1.000]" in str(metrics) and "GEH < 5 in 100 %" in str(metrics)


def test_the_difference_of_two_results_has_an_interval(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = truth_of("".join("abcdefghijklmnop"[n] for n in rng.integers(0, 16, 300)))
    letters = [str(row["vehicle"]) for row in truth]
    good = "".join(letter if rng.random() < 0.9 else "z" for letter in letters)
    bad = "".join(letter if rng.random() < 0.6 else "z" for letter in letters)
    one, other = (evaluated(tmp_path, truth, trips_of(truth, trips)) for trips in (good, bad))
    difference = idf1_difference(one, other, resamples=200)
    assert difference.value == pytest.approx(one.idf1.value - other.idf1.value)
    assert 0 < difference.low < difference.value < difference.high
    assert one.idf1.low < one.idf1.value < one.idf1.high
    smaller = evaluated(tmp_path, truth[:20], trips_of(truth[:20], good[:20]))
    with pytest.raises(InputError, match="compare results of one truth"):
        idf1_difference(one, smaller)


def test_geh() -> None:
    assert geh([110, 5, 0, 0], [100, 5, 0, 8]) == pytest.approx([10 * math.sqrt(2 / 210), 0, 0, 4])


def test_only_large_cells_are_judged(tmp_path: Path) -> None:
    truth = write(
        tmp_path / "truth.csv",
        [{"from": "a", "to": to, "count": n} for to, n in zip("bcd", (20, 21, 400), strict=True)],
    )
    found = write(tmp_path / "od.csv", [{"from": "a", "to": "d", "count": 350, "corrected": 402}])
    got = evaluate_counts(found, truth)
    assert (got.cells, got.accepted, got.accepted_raw) == (2, 0.5, 0.5)  # c is absent: 0 of 21
    assert (got.true_total, got.found_total) == (441, 402)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"start": "soon"}, r"trips.csv, line 3: start 'soon' is neither UTC seconds nor an ISO 8601 time; correct it"),
        ({"order": "x"}, r"trips.csv, line 3: order 'x' is no number; correct it"),
        ({"tracklet": "t0"}, r"trips.csv, line 3: tracklet 't0' is already in line 2"),
    ],
)
def test_wrong_tables_are_reported(tmp_path: Path, change: dict[str, str], sentence: str) -> None:
    truth = truth_of("aa")
    trips = trips_of(truth, "xx")
    with pytest.raises(InputError, match=sentence):
        evaluated(tmp_path, truth, [trips[0], {**trips[1], **change}])


def test_missing_columns_are_reported(tmp_path: Path) -> None:
    truth = truth_of("aa")
    with pytest.raises(InputError, match=r"truth.csv: has no column vehicle; give tracklet,camera,vehicle,start,end"):
        evaluated(
            tmp_path, [{key: row[key] for key in row if key != "vehicle"} for row in truth], trips_of(truth, "xx")
        )
