"""Published networks as their authors' sources define them: keys, shapes, and what they answer.

The lists in tests/fixtures/published were written by running the sources named in their first lines: a key and a
shape, `layer3.[1-22].conv1.weight` stands for 22 keys. outputs.json holds what these networks, with stride 1 in layer4
as the papers use them, answer when `filled` decides their weights and `picture` is shown: the pooled feature's
length and norm, and eight evenly spaced values of it.
"""

from __future__ import annotations

import json
import re
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parents[1] / "fixtures" / "published"
BACKBONES = {
    path.stem: {"vit_base_p16_224": "transreid", "vit_small_p16_224": "transreid_vit_s"}.get(path.stem, path.stem)
    for path in sorted(FOLDER.glob("*.txt"))
    if path.stem != "transreid_jpm_sie"
}
"""List -> the backbone that it must fit."""


@cache
def shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Key -> shape."""
    found = {}
    for line in (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()[1:]:
        pattern, _, shape = line.partition(" ")
        span = re.search(r"\[(\d+)-(\d+)\]", pattern)
        numbers = range(int(span[1]), int(span[2]) + 1) if span else (0,)
        for number in numbers:
            key = pattern.replace(span[0], str(number)) if span else pattern
            found[key] = tuple(int(length) for length in shape.split("x"))
    return found


def filled(key: str, shape: tuple[int, ...]) -> Tensor:
    """Weights that its name decides."""
    uniform = np.random.default_rng(zlib.crc32(key.encode())).random(shape, dtype=np.float32)
    if key.endswith("running_var"):
        return torch.from_numpy(0.5 + uniform)
    if key.endswith(("running_mean", "bias")):
        return torch.from_numpy(0.2 * (uniform - 0.5))
    if len(shape) == 1:
        return torch.from_numpy(0.5 + 0.5 * uniform)
    if key.endswith(("pos_embed", "cls_token", "sie_embed")):
        return torch.from_numpy(uniform - 0.5)
    return torch.from_numpy((2 * uniform - 1) * np.float32((3 / np.prod(shape[1:])) ** 0.5))


def published_state(name: str) -> dict[str, Tensor]:
    """A state as it would lie in the published file."""
    return {key: filled(key, shape) for key, shape in shapes(name).items()}


def picture(height: int, width: int) -> Tensor:
    """(1, 3, height, width)."""
    y, x = np.mgrid[0:height, 0:width] / width
    colours = np.stack([np.sin(7 * x + 3 * y), np.cos(5 * x * y), np.sin(11 * y - 2 * x)])
    return torch.from_numpy(colours[None].astype(np.float32))


def outputs() -> dict[str, dict[str, Any]]:
    """What the published networks answer."""
    found: dict[str, dict[str, Any]] = json.loads((FOLDER / "outputs.json").read_text(encoding="utf-8"))
    return found


def compare(feature: Tensor, expected: dict[str, Any]) -> None:
    """Assert that a feature is the published network's."""
    values = feature.flatten()
    assert len(values) == expected["length"]
    assert abs(float(values.norm()) / expected["norm"] - 1) < 1e-5
    chosen = values[np.linspace(0, len(values) - 1, 8).astype(int)]
    torch.testing.assert_close(chosen, torch.tensor(expected["values"]), rtol=1e-4, atol=1e-5)
