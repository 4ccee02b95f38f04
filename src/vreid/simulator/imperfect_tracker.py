"""An imperfect tracker: what it would write of vehicles whose boxes are known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vreid.simulator.render.scene import Box
from vreid.simulator.render.video_frames import InView

SMALLEST = 16.0
"""Minimum height and width in pixels of a box that is detected."""
LEAST_VISIBLE = 0.35
"""Visible share of a silhouette below which it is not detected."""
MISSED = 0.04
"""Share of frames in which a vehicle that is well in view is not detected."""
CERTAIN = 0.7
"""Visible share from which on only `MISSED` frames lack a detection."""
MEMORY = 0.8
"""Seconds without a detection after which a track ends; the vehicle gets a new one."""
SWITCHES = 0.06
"""Probability that a pass is broken into two tracks although the vehicle is seen."""
SHIFT, SCALE = 0.015, 0.02
"""Standard deviations of a box's position and size, as shares of its size."""
SHORTEST = 3
"""Minimum number of detections of a track."""


@dataclass(frozen=True)
class TrackedBox:
    """A box that a tracker writes: frame (from 0), corners in pixels inside the frame, confidence."""

    frame: int
    box: Box
    confidence: float


def track(
    seen: Sequence[tuple[int, InView]], size: tuple[int, int], frame_rate: float, rng: np.random.Generator
) -> list[list[TrackedBox]]:
    """Return the tracks of one pass, none if it is hardly seen.

    Args:
        seen: frame and view of the vehicle, in order of frames.
        size: width and height of the frames.
        frame_rate: frames per second.
        rng: draws the mistakes.
    """
    tracks: list[list[TrackedBox]] = []
    breaks_after = int(rng.integers(SHORTEST, max(len(seen), SHORTEST + 1))) if rng.random() < SWITCHES else None
    for number, (frame, view) in enumerate(seen):
        jitter, chance, confidence = rng.normal(0, 1, 4), rng.random(), rng.normal(0, 0.04)
        box = _clipped(_jittered(view.box, jitter), size)
        smallest = min(box[2] - box[0], box[3] - box[1])
        share = (view.visibility - LEAST_VISIBLE) / (CERTAIN - LEAST_VISIBLE)
        if smallest < SMALLEST or chance > min(share, 1.0) * (1 - MISSED):
            continue
        lost = not tracks or frame - tracks[-1][-1].frame > MEMORY * frame_rate
        if lost or number == breaks_after:
            tracks.append([])
        level = 0.45 + 0.45 * view.visibility * min(smallest / 60, 1.0) + confidence
        tracks[-1].append(TrackedBox(frame, box, float(np.clip(level, 0.3, 0.99))))
    return [one for one in tracks if len(one) >= SHORTEST]


def mot_text(tracks: Iterable[tuple[int, int, Sequence[TrackedBox]]]) -> str:
    """Return tracks in MOTChallenge's format: frame (from 1), id, left, top, width, height, confidence, class, -1, -1.

    `tracks` are id, class and boxes of each track; lines are in order of frame and id.
    """
    lines = []
    for identity, kind, boxes in tracks:
        for one in boxes:
            x1, y1, x2, y2 = one.box
            text = f"{x1:.1f},{y1:.1f},{x2 - x1:.1f},{y2 - y1:.1f},{one.confidence:.2f},{kind},-1,-1"
            lines.append((one.frame, identity, f"{one.frame + 1},{identity},{text}\n"))
    return "".join(text for _, _, text in sorted(lines))


def _jittered(box: Box, jitter: NDArray[np.float64]) -> Box:
    width, height = box[2] - box[0], box[3] - box[1]
    right, down, wider, higher = jitter.tolist()
    x, y = (box[0] + box[2]) / 2 + SHIFT * width * right, (box[1] + box[3]) / 2 + SHIFT * height * down
    half_width, half_height = width / 2 * (1 + SCALE * wider), height / 2 * (1 + SCALE * higher)
    return x - half_width, y - half_height, x + half_width, y + half_height


def _clipped(box: Box, size: tuple[int, int]) -> Box:
    width, height = size
    return (
        min(max(box[0], 0.0), width),
        min(max(box[1], 0.0), height),
        min(max(box[2], 0.0), width),
        min(max(box[3], 0.0), height),
    )
