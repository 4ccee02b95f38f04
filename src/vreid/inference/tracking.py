"""An `Embedder` under the names by which trackers call their re-identification model."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.inference.embedder import Embedder


class TrackerFeatures:
    """Features of the boxes of a frame, for trackers that bring frames as OpenCV does.

    BoxMOT takes it as `reid_model=` (it calls `get_features`); trackers in the way of DeepSORT take it as their
    `encoder` (they call it).

    Args:
        model: the model.
        bgr: frames are in the order blue, green, red; False: red, green, blue.

    Example:
        >>> tracker = boxmot.BotSort(reid_model=TrackerFeatures(vreid.load_model("default")))   # doctest: +SKIP
    """

    def __init__(self, model: Embedder, *, bgr: bool = True) -> None:
        self.model = model
        self.bgr = bgr

    @property
    def embedding_dim(self) -> int:
        """D, the length of a feature (BoxMOT)."""
        return self.model.dimensions

    def get_features(self, boxes: Any, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the features (N, D) of boxes (N, 4), x1, y1, x2, y2 (BoxMOT); boxes may stick out of the frame.

        Raises:
            InputError: a box lies outside of the frame.
        """
        return self.model.embed(frame[:, :, ::-1] if self.bgr else frame, np.asarray(boxes)[:, :4])

    def __call__(self, frame: NDArray[np.uint8], boxes: Any) -> NDArray[np.float32]:
        """Compute the features (N, D) of boxes (N, 4), left, top, width, height (DeepSORT).

        Raises:
            InputError: a box lies outside of the frame.
        """
        corners = np.array(boxes, dtype=np.float64).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        return self.get_features(corners, frame)
