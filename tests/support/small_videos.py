"""Tiny videos for tests of readers."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest


def write_video(path: Path, frames: int = 6, size: tuple[int, int] = (64, 48), rate: int = 10) -> Path:
    """Write `frames` grey frames of `size` (width, height) at `rate` a second; skips the test without PyAV."""
    av = pytest.importorskip("av", reason="needs PyAV (extra video)")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.time_base = Fraction(1, rate)
        for number in range(frames):
            image = np.full((size[1], size[0], 3), 20 * number % 256, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path
