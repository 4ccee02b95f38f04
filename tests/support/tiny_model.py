"""A tiny model with heads, written in a moment, for tests of everything that embeds or exports."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from vreid.data.augment import TestTransform
from vreid.models import ModelConfig, build, save_weights

BACKBONE = "resnet10_ibn_a_tiny"
TRANSFORM = TestTransform(height=32, width=48)
HEADS = {"color": 3, "orientation": 2, "domain": 2}
LABELS = {"color": ["blue", "red", "white"], "domain": ["real", "synthetic"]}


def write_model(path: Path, seed: int = 0, *, heads: bool = True, **facts: Any) -> Path:
    """Write a model file with random weights and running statistics unlike those of a fresh model."""
    torch.manual_seed(seed)
    model = build(BACKBONE, 5, heads=HEADS if heads else {})
    for _ in range(2):
        model(torch.randn(8, 3, 32, 48))
    stored = {
        "kind": "model",
        "model": asdict(replace(ModelConfig(BACKBONE), weights="")),
        "num_identities": 5,
        "heads": HEADS if heads else {},
        "labels": LABELS if heads else {},
        "transform": asdict(TRANSFORM),
    }
    save_weights(path, model.state_dict(), {**stored, **facts})
    return path


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """A smooth image (height, width, 3) of a few colours."""
    rng = np.random.default_rng(seed)
    blocks = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    return np.asarray(blocks.resize((width, height), Image.Resampling.BICUBIC))
