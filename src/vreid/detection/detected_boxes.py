"""What a detector is and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Detector = Callable[[NDArray[np.uint8]], Any]
"""Called with an upright RGB frame (H, W, 3); returns boxes as `supervision.Detections` does: `xyxy` (N, 4) in pixels
and, where known, `confidence`, `class_id`, `tracker_id` (each (N,) or None) and `data["class_name"]`."""

COCO_VEHICLES: Mapping[int, str] = {3: "car", 4: "motorcycle", 6: "bus", 8: "truck"}
"""Vehicles among the 91 class numbers of COCO, as DETR-like models count them."""


@dataclass(frozen=True, eq=False)
class DetectedBoxes:
    """Boxes of a frame; N boxes.

    Attributes:
        xyxy: (N, 4) x1, y1, x2, y2 in pixels of the frame.
        confidence: (N,) in [0, 1], None unknown.
        class_id: (N,) numbers of classes, None unknown.
        tracker_id: (N,) ids of tracks, -1 none; None: not tracked.
        data: "class_name": (N,) names.
    """

    xyxy: NDArray[np.float64]
    confidence: NDArray[np.float64] | None = None
    class_id: NDArray[np.int64] | None = None
    tracker_id: NDArray[np.int64] | None = None
    data: Mapping[str, ArrayLike] = field(default_factory=dict)
