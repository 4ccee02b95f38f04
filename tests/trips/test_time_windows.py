"""Linking window by window: the same trips where nothing crosses a cut, and sound ones where something does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.traffic_world import ToyTraffic, traffic_world
from vreid.progress import Progress
from vreid.trips.assignment import NONE, assign
from vreid.trips.confirmations import CERTAIN, Confirmations
from vreid.trips.link_inference import LinkInference
from vreid.trips.link_learning import Sample
from vreid.trips.solve import TripConfig, link_trips, linked_by_window, marginals_by_window
from vreid.trips.tables import TimedTracklets
from vreid.trips.time_windows import TimeWindow, most_within, time_windows

LONGEST = 600.0


def world(days: int) -> TimedTracklets:
    """Days of an hour with a pause of more than the longest gap between them."""
    parts = [traffic_world(day, ToyTraffic(vehicles=120, hours=0.7, stops=0.0))[0] for day in range(days)]
    shift = [day * 7200.0 for day in range(days)]
    return TimedTracklets.of(
        id=[f"{day}/{name}" for day, part in enumerate(parts) for name in part.id],
        camera=[str(name) for part in parts for name in part.camera.values],
        start=np.concatenate([part.start + at for part, at in zip(parts, shift, strict=True)]),
        end=np.concatenate([part.end + at for part, at in zip(parts, shift, strict=True)]),
        vector=np.concatenate([part.vector for part in parts]),
    )


@pytest.fixture(scope="module")
def learned() -> tuple[TimedTracklets, LinkInference]:
    table = world(3)
    return table, LinkInference.learn(Sample.of(table, 20_000), nothing(table), LONGEST, 0.0, 24)


def nothing(table: TimedTracklets) -> Confirmations:
    return Confirmations.of(table, (), ())


def whole(table: TimedTracklets) -> list[TimeWindow]:
    return [TimeWindow(slice(0, len(table)), slice(0, len(table)))]


def solved(
    learned: tuple[TimedTracklets, LinkInference], windows: list[TimeWindow], answers: Confirmations | None = None
) -> tuple[dict[tuple[int, int], float], np.ndarray]:
    """Probability of each link, and successors."""
    table, inference = learned
    links, odds = linked_by_window(inference, table, answers or nothing(table), windows, Progress())
    probability = marginals_by_window(links, odds, windows)
    pairs = zip(links.first.tolist(), links.second.tolist(), strict=True)
    return dict(zip(pairs, probability, strict=True)), assign(links.first, links.second, probability - 0.4, len(table))


def test_windows_that_end_in_pauses_give_what_one_window_gives(learned: tuple[TimedTracklets, LinkInference]) -> None:
    table = learned[0]
    windows = time_windows(table, len(table) // 2, LONGEST, 0.0)
    assert len(windows) == 3  # a day each
    expected, successor = solved(learned, whole(table))
    for margin in (0.0, 300.0, 1e6):
        found, again = solved(learned, time_windows(table, len(table) // 2, LONGEST, margin))
        assert found.keys() == expected.keys()
        np.testing.assert_allclose([found[pair] for pair in expected], list(expected.values()), atol=1e-3)
        np.testing.assert_array_equal(again, successor)


def test_trips_do_not_depend_on_the_window_where_days_are_apart() -> None:
    table = world(3)
    one, several = (
        link_trips(table, TripConfig(longest_gap=LONGEST, longest_stop=300.0, window=size)) for size in (50_000, 300)
    )
    for name in ("trip", "order", "vehicle", "previous", "parked"):
        np.testing.assert_array_equal(getattr(several, name), getattr(one, name))


class Listener(Progress):
    """Keeps what is reported."""

    def __init__(self) -> None:
        self.total, self.done, self.lines = 0, 0, list[str]()

    def start(self, title: str, total: int, done: int = 0) -> None:
        self.total += total

    def advance(self, steps: int, text: str = "") -> None:
        self.done += steps

    def log(self, text: str) -> None:
        self.lines.append(text)


def test_progress_counts_each_window_and_ends_complete() -> None:
    table, listener = world(2), Listener()
    link_trips(table, TripConfig(longest_gap=LONGEST, window=300), progress=listener)
    assert listener.done == listener.total == 4 * len(table)
    assert listener.lines[-1] == f"window 2 of 2: {len(table)} of {len(table)} tracklets"


@given(size=st.integers(1, 500), margin=st.sampled_from([0.0, 60.0, 900.0]))
@settings(max_examples=8)
def test_windows_of_any_size_break_no_rule(
    learned: tuple[TimedTracklets, LinkInference], size: int, margin: float
) -> None:
    """One successor, one predecessor, forward in time; every link at most once, none that one window has not."""
    table = learned[0]
    windows = time_windows(table, max(size, 20), LONGEST, margin)
    links, successor = solved(learned, windows)
    made = np.flatnonzero(successor != NONE)
    assert len(set(successor[made].tolist())) == len(made)
    assert (table.start[successor[made]] >= table.end[made]).all()
    assert (table.start[successor[made]] - table.end[made] <= LONGEST).all()
    assert all(0 <= value <= 1 for value in links.values())


def test_a_margin_of_the_longest_gap_and_a_half_changes_little(learned: tuple[TimedTracklets, LinkInference]) -> None:
    table = learned[0]
    expected, successor = solved(learned, whole(table))
    windows = time_windows(table, 100, LONGEST, 1.5 * LONGEST)
    assert len(windows) > 8
    found, again = solved(learned, windows)
    assert (again == successor).mean() > 0.995
    common = expected.keys() & found.keys()
    assert len(common) > 0.99 * len(expected)
    assert np.mean([abs(found[pair] - expected[pair]) > 0.01 for pair in common]) < 0.01


def test_answers_reach_across_windows(learned: tuple[TimedTracklets, LinkInference]) -> None:
    """A confirmed pair two days apart is linked; its tracklets have no other links on these sides."""
    table = learned[0]
    first, second = 5, len(table) - 5
    names = str(table.id[first]), str(table.id[second])
    answers = Confirmations.of(table, [names], ())
    links, successor = solved(learned, time_windows(table, 100, LONGEST, LONGEST), answers)
    assert successor[first] == second
    assert links[first, second] == pytest.approx(1 / (1 + np.exp(-CERTAIN)))
    assert [pair for pair in links if pair[0] == first or pair[1] == second] == [(first, second)]


def test_cores_cover_all_rows_once_and_lie_inside_what_is_around_them() -> None:
    table = world(2)
    for size in (1, 7, 100, 10_000):
        windows = time_windows(table, size, LONGEST, 60.0)
        rows = np.concatenate([np.arange(one.core.start, one.core.stop) for one in windows])
        np.testing.assert_array_equal(rows, np.arange(len(table)))
        for one in windows:
            assert one.around.start <= one.core.start < one.core.stop <= one.around.stop
            assert one.core.stop - one.core.start <= size
            later = table.start[one.around.stop :]
            assert not len(later) or later[0] > table.start[one.core.stop - 1] + 60


def test_a_vehicle_that_stays_for_hours_does_not_make_a_window_long() -> None:
    table = world(2)
    end = table.end.copy()
    end[10] = table.end.max()
    windows = time_windows(replace(table, end=end), 50, LONGEST, 60.0)
    assert max(map(len, windows)) < 200


def test_most_within_by_hand() -> None:
    times = np.array([0.0, 1, 2, 10, 11, 12, 13, 30])
    table = TimedTracklets.of(id="abcdefgh", camera="xyxyxyxy", start=times, end=times, vector=np.ones((8, 2)))
    assert most_within(table, 3) == 4
    assert most_within(table, 0) == 1
