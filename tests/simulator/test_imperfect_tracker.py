"""An imperfect tracker: misses, breaks, jitter, in the format of MOTChallenge."""

from __future__ import annotations

import numpy as np
import pytest

from vreid.data.seeds import generator
from vreid.simulator.imperfect_tracker import TrackedBox, mot_text, track
from vreid.simulator.render.video_frames import InView

SIZE = 640, 360


def drive(visibility: float = 1.0, frames: int = 40, size: float = 80.0) -> list[tuple[int, InView]]:
    return [(n, InView((10.0 * n, 100.0, 10.0 * n + size, 100.0 + size), visibility)) for n in range(frames)]


def tracked(seen: list[tuple[int, InView]], seed: int) -> list[list[TrackedBox]]:
    return track(seen, SIZE, 5.0, generator(seed, "tracker"))


def test_most_passes_give_one_track_near_the_vehicle() -> None:
    counts, errors, lengths = [], [], []
    for seed in range(200):
        tracks = tracked(drive(), seed)
        counts.append(len(tracks))
        lengths.append(sum(map(len, tracks)))
        errors += [abs(one.box[0] - 10.0 * one.frame) for some in tracks for one in some]
    assert 0.02 < np.mean(np.array(counts) == 2) < 0.12 and max(counts) <= 2
    assert np.mean(lengths) == pytest.approx(40 * 0.96, abs=1.0)
    assert 0.3 < np.median(errors) < 4


def test_hidden_small_and_short_vehicles_are_not_tracked() -> None:
    assert tracked(drive(visibility=0.3), 1) == []
    assert tracked(drive(size=10.0), 1) == []
    assert tracked(drive(frames=2), 1) == []


def test_a_track_ends_when_the_vehicle_is_hidden_for_long() -> None:
    seen = [(n, InView(view.box, 0.1 if 15 <= n < 22 else 1.0)) for n, view in drive()]
    spans = [(some[0].frame, some[-1].frame) for some in tracked(seen, 2)]
    assert len(spans) >= 2 and any(end < 15 for _, end in spans) and any(start >= 22 for start, _ in spans)


def test_boxes_stay_inside_the_frame() -> None:
    seen = [(n, InView((-40.0 + 300 * n, 300.0, 60.0 + 300 * n, 400.0), 1.0)) for n in range(3)]
    for some in tracked(seen, 3):
        for one in some:
            assert one.box[0] >= 0 and one.box[1] >= 0 and one.box[2] <= SIZE[0] and one.box[3] <= SIZE[1]


def test_lines_are_in_order_of_frame_and_id() -> None:
    boxes = [TrackedBox(frame, (1.0, 2.0, 11.0, 22.04), 0.5) for frame in (0, 2)]
    assert mot_text([(2, 5, boxes), (1, 2, boxes[:1])]).splitlines() == [
        "1,1,1.0,2.0,10.0,20.0,0.50,2,-1,-1",
        "1,2,1.0,2.0,10.0,20.0,0.50,5,-1,-1",
        "3,2,1.0,2.0,10.0,20.0,0.50,5,-1,-1",
    ]
