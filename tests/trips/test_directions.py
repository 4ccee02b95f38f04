"""Directions of travel: ratios and log-odds by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vreid.trips.directions import Headings, Turns, cameras_next
from vreid.trips.tables import TimedTracklets


def test_cameras_before_by_hand() -> None:
    table = TimedTracklets.of(
        id=["a", "b", "c"], camera=["c1", "c2", "c2"], start=[0.0, 50.0, 60.0], end=[1.0, 51.0, 61.0], vector=np.eye(3)
    )
    before = cameras_next(np.array([1, 2]), np.array([0, 0]), np.array([0.7, 0.2]), table)
    np.testing.assert_allclose(before, [[0, 0, 1], [0.7, 0, 0.3], [0.2, 0, 0.8]], atol=1e-6)


def test_vehicles_that_never_turn_around() -> None:
    """At camera 1 in the middle of a road 0 - 1 - 2, all go straight on: a past at 0 favours 2."""
    straight = np.zeros((200, 4), dtype=np.float32), np.zeros((200, 4), dtype=np.float32)
    straight[0][:100, 0] = straight[1][:100, 2] = 1
    straight[0][100:, 2] = straight[1][100:, 0] = 1
    middle = np.ones(200, dtype=np.int32)
    turns = Turns.of(*straight, middle)
    known = turns.leaving(Headings(*straight), middle)[0]
    assert known[2] - known[0] > 2
    arriving = turns.arriving(Headings(*straight), middle)[0]
    assert arriving[0] - arriving[2] > 2


def test_nothing_known_changes_nothing() -> None:
    camera = np.array([0, 1])
    turns = Turns.of(np.full((2, 3), 1 / 3, np.float32), np.full((2, 3), 1 / 3, np.float32), camera)
    for known in (turns.leaving, turns.arriving):
        assert np.abs(known(Headings.unknown(2, 2), camera)).max() == 0
    assert Turns.none(2).ratio.min() == pytest.approx(1.0)
