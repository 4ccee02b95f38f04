"""Linking on small worlds: invariants, answers, stresses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from support.traffic_world import ToyTraffic, traffic_world, true_links
from vreid.errors import InputError
from vreid.trips.probability import expected_calibration_error
from vreid.trips.solve import TripConfig, Trips, link_trips
from vreid.trips.tables import TimedTracklets
from vreid.trips.transit import Routes

WORLD = ToyTraffic(vehicles=250, hours=1.5)


@pytest.fixture(scope="module")
def solved() -> tuple[TimedTracklets, np.ndarray, Trips]:
    table, vehicle = traffic_world(0, WORLD)
    return table, vehicle, link_trips(table)


def made(trips: Trips) -> set[tuple[int, int]]:
    return {(int(before), row) for row, before in enumerate(trips.previous) if before >= 0}


def scores(trips: Trips, vehicle: np.ndarray) -> tuple[float, float]:
    """Precision and recall of links, by the corrected times."""
    order = np.lexsort((trips.corrected[:, 0], vehicle))
    same = vehicle[order[1:]] == vehicle[order[:-1]]
    truth = set(zip(order[:-1][same].tolist(), order[1:][same].tolist(), strict=True))
    found = made(trips)
    return len(found & truth) / max(len(found), 1), len(found & truth) / len(truth)


def test_links_are_right_and_probabilities_say_how_often(
    solved: tuple[TimedTracklets, np.ndarray, Trips],
) -> None:
    table, vehicle, trips = solved
    truth = true_links(table, vehicle)
    precision, recall = scores(trips, vehicle)
    assert precision > 0.97
    assert recall > 0.93
    pairs = sorted(made(trips))
    right = [pair in truth for pair in pairs]
    assert expected_calibration_error(trips.probability[[second for _, second in pairs]], right) < 0.04


def test_better_than_appearance_alone(solved: tuple[TimedTracklets, np.ndarray, Trips]) -> None:
    """Mutual nearest neighbours by similarity, in the order of time, find far fewer of the links."""
    table, vehicle, trips = solved
    similarity = table.vector @ table.vector.T
    np.fill_diagonal(similarity, -1)
    best = similarity.argmax(axis=1)
    pairs = {(i, int(j)) for i, j in enumerate(best) if best[j] == i and i < j}
    assert len(pairs & true_links(table, vehicle)) < 0.5 * len(made(trips) & true_links(table, vehicle))


def test_a_tracklet_has_one_predecessor_and_successor_and_no_vehicle_is_in_two_places(
    solved: tuple[TimedTracklets, np.ndarray, Trips],
) -> None:
    table, _, trips = solved
    before = trips.previous[trips.previous >= 0]
    assert len(set(before.tolist())) == len(before)
    for first, second in made(trips):
        assert trips.corrected[first, 1] <= trips.corrected[second, 0]
        assert trips.vehicle[first] == trips.vehicle[second]
        if trips.parked[second]:
            assert trips.order[second] == 1
        else:
            assert trips.trip[first] == trips.trip[second]
            assert trips.order[second] == trips.order[first] + 1
    assert sorted(set(trips.trip.tolist())) == list(range(1, len(trips) + 1))
    known = trips.probability[trips.previous >= 0]
    assert ((known > 0) & (known <= 1)).all()
    assert np.isnan(trips.probability[trips.previous < 0]).all()
    assert len(table) == len(trips.trip)


def test_the_order_of_rows_does_not_matter_and_runs_repeat(solved: tuple[TimedTracklets, np.ndarray, Trips]) -> None:
    table, _, trips = solved
    order = np.random.default_rng(0).permutation(len(table))
    again = link_trips(
        TimedTracklets.of(
            id=table.id[order],
            camera=table.camera[order],
            start=table.start[order],
            end=table.end[order],
            vector=table.vector[order],
        )
    )
    np.testing.assert_array_equal(again.trip, trips.trip)
    np.testing.assert_allclose(again.probability, trips.probability)


def test_answers_are_obeyed_and_the_rest_is_solved_again(solved: tuple[TimedTracklets, np.ndarray, Trips]) -> None:
    table, _, trips = solved
    links = sorted(made(trips), key=lambda pair: trips.probability[pair[1]])
    wrong, (first, _) = links[0], links[40]
    later = next(
        row
        for row in range(first + 1, len(table))
        if table.start[row] > table.end[first] + 60 and (first, row) not in made(trips)
    )
    name = [str(one) for one in table.id]
    answered = link_trips(table, confirmed=[(name[later], name[first])], rejected=[(name[wrong[0]], name[wrong[1]])])
    assert (first, later) in made(answered)
    assert answered.probability[later] > 0.99
    assert answered.vehicle[wrong[0]] != answered.vehicle[wrong[1]]


def test_a_rejected_pair_is_not_joined_through_others(solved: tuple[TimedTracklets, np.ndarray, Trips]) -> None:
    table, _, trips = solved
    following = {int(first): second for first, second in made(trips)}
    first = next(row for row in following if following.get(following[row]) is not None)
    last = following[following[first]]
    answered = link_trips(table, rejected=[(str(table.id[first]), str(table.id[last]))])
    assert answered.vehicle[first] != answered.vehicle[last]


def test_answers_that_contradict_are_errors(solved: tuple[TimedTracklets, np.ndarray, Trips]) -> None:
    table = solved[0]
    a, b, c = (str(table.id[row]) for row in (0, 200, 201))
    with pytest.raises(InputError, match="no tracklet 'nobody'"):
        link_trips(table, confirmed=[(a, "nobody")])
    with pytest.raises(InputError, match="confirmed and rejected"):
        link_trips(table, confirmed=[(a, b)], rejected=[(b, a)])
    with pytest.raises(InputError, match="two confirmed next"):
        link_trips(table, confirmed=[(a, b), (a, c)])
    with pytest.raises(InputError, match="paired with itself"):
        link_trips(table, rejected=[(a, a)])
    end = table.end.copy()
    end[0] = table.start[200] + 1
    with pytest.raises(InputError, match="in view at the same time"):
        link_trips(replace(table, end=end), confirmed=[(a, b)])


@pytest.mark.parametrize("seconds", [120.0, -120.0])
def test_a_clock_two_minutes_off_is_found(seconds: float) -> None:
    table, vehicle = traffic_world(1, replace(WORLD, clocks={2: seconds}))
    trips = link_trips(table)
    assert trips.offsets[2] == pytest.approx(seconds, abs=6)
    assert np.abs(np.delete(trips.offsets, 2)).max() == 0
    assert min(scores(trips, vehicle)) > 0.9


@pytest.mark.parametrize(
    ("world", "precision", "recall"),
    [
        (replace(WORLD, missed=0.3), 0.9, 0.85),
        (replace(WORLD, dead=(2,)), 0.93, 0.88),
        (replace(WORLD, detour=0.4), 0.93, 0.88),
        (replace(WORLD, stops=0.2), 0.9, 0.8),
        (replace(WORLD, turns=0.5), 0.93, 0.9),
        (replace(WORLD, groups=1, noise=0.8), 0.7, 0.6),
    ],
    ids=["30 % missed", "dead camera", "two routes", "stops", "vehicles that return", "white vans"],
)
def test_stresses(world: ToyTraffic, precision: float, recall: float) -> None:
    table, vehicle = traffic_world(2, world)
    found = scores(link_trips(table), vehicle)
    assert found[0] > precision
    assert found[1] > recall


def test_shuffled_times_give_few_links() -> None:
    """Nothing can be learned of times; what is linked has low probability."""
    table, _ = traffic_world(3, WORLD)
    shuffled = np.random.default_rng(0).permutation(len(table))
    trips = link_trips(
        TimedTracklets.of(
            id=table.id,
            camera=table.camera,
            start=table.start[shuffled],
            end=table.start[shuffled] + (table.end - table.start),
            vector=table.vector,
        )
    )
    assert np.isfinite(trips.link_probability).all()


def test_the_usual_time_between_two_passes_of_one_camera_is_no_drive(
    solved: tuple[TimedTracklets, np.ndarray, Trips],
) -> None:
    """All drives take a minute, but links from a camera to itself 20 minutes: these park after `longest_stop`."""
    table, _, trips = solved
    pairs = table.cameras**2
    weight, mean = np.tile([1.0, 0.0], (pairs, 1)), np.full((pairs, 2), np.log(60.0))
    mean[:: table.cameras + 1] = np.log(1200.0)
    model = replace(trips.model, routes=Routes(weight, mean, np.full((pairs, 2), 0.1), np.full(pairs, 50.0)))
    camera = table.camera.codes
    first, again = np.flatnonzero(camera == camera[0])[:2].tolist()
    elsewhere = int(np.flatnonzero(camera != camera[0])[0])
    for second, gap, expected in (
        (again, 590, False),
        (again, 610, True),
        (elsewhere, 650, False),
        (elsewhere, 700, True),
    ):
        start = np.zeros(len(table))
        start[second] = gap
        moved = replace(table, start=start, end=np.zeros(len(table)))
        assert model.parked(moved, np.array([first]), np.array([second]), 600.0).tolist() == [expected]


def test_a_parked_vehicle_goes_on_in_a_new_trip() -> None:
    table, vehicle = traffic_world(4, replace(WORLD, stops=0.2))
    trips = link_trips(table, TripConfig(longest_stop=200.0))
    parked = np.flatnonzero(trips.parked)
    assert len(parked) > 10
    assert (trips.order[parked] == 1).all()
    assert (trips.vehicle[parked] == trips.vehicle[trips.previous[parked]]).all()
    assert (trips.trip[parked] != trips.trip[trips.previous[parked]]).all()
    gap = trips.corrected[parked, 0] - trips.corrected[trips.previous[parked], 1]
    assert gap.min() > 200
    assert (vehicle[parked] == vehicle[trips.previous[parked]]).mean() > 0.7


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_tracklets(count: int) -> None:
    table = traffic_world(5, WORLD)[0][:count]
    assert 1 <= len(link_trips(table)) <= count


def test_one_camera_and_equal_features() -> None:
    times = np.arange(20.0) * 30
    table = TimedTracklets.of(
        id=[str(n) for n in range(20)], camera=["c"] * 20, start=times, end=times + 5, vector=np.ones((20, 4))
    )
    assert np.isfinite(link_trips(table).link_probability).all()


def test_a_sample_teaches_the_model_of_many() -> None:
    table, vehicle = traffic_world(6, replace(WORLD, vehicles=600, hours=3.0))
    trips = link_trips(table, TripConfig(learn_on=800))
    assert min(scores(trips, vehicle)) > 0.88
