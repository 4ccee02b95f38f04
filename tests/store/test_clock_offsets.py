"""Clock offsets between cameras from matches in both directions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vreid.store.clock_offsets import clock_offsets
from vreid.store.relative_distance import Contests, TrackletTable


def matches(gap: NDArray[np.float64]) -> tuple[TrackletTable, Contests]:
    """Matches with these gaps between cameras a and b."""
    count = len(gap)
    start = np.concatenate([np.arange(count) * 10.0, np.arange(count) * 10.0 + gap])
    camera = np.repeat([0, 1], count)
    table = TrackletTable(
        np.arange(2 * count).astype(str).astype(object),
        np.eye(2 * count, 4, dtype=np.float32),
        camera,
        start,
        start + 2,
    )
    table = TrackletTable(table.id, table.vector, camera, start, start + 2, ("a", "b"))
    relative = np.full((count, 3), 0.2)
    return table, Contests(np.arange(count), np.arange(count, 2 * count), relative, relative)


def test_two_directions_of_traffic_give_offset_and_travel_time() -> None:
    rng = np.random.default_rng(0)
    gap = np.concatenate([rng.normal(40, 4, 30), rng.normal(-40, 4, 20)]) + 3.5
    gap[::10] = rng.uniform(-600, 600, 5)  # wrong matches
    (found,) = clock_offsets(*matches(gap), match=0.5)
    assert abs(found.seconds - 3.5) < 3 * found.error < 4
    assert abs(found.travel - 40) < 3
    assert str(found).startswith("b is ")


def test_one_direction_says_nothing() -> None:
    rng = np.random.default_rng(0)
    assert clock_offsets(*matches(rng.normal(40, 4, 50)), match=0.5) == []
    assert clock_offsets(*matches(rng.normal(40, 4, 10)), match=0.5) == []
    assert clock_offsets(*matches(np.full(50, np.nan)), match=0.5) == []
    assert clock_offsets(*matches(np.repeat([-40.0, 40.0], 20)), match=0.1) == []
