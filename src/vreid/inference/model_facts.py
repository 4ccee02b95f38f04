"""What a model file says of its model besides the weights; read without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vreid.files import parse_errors
from vreid.formats.facts import fact, typed
from vreid.retrieval.evaluation.calibration import Threshold

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
ADVERSARIAL_HEADS = ("domain",)
"""Heads that say nothing of a vehicle: `vreid.models.heads.ADVERSARIAL`, which needs torch to be read."""


@dataclass(frozen=True)
class ModelFacts:
    """Size of the input, heads with their classes, and what was measured of a model.

    Attributes:
        height, width, interpolation: images are resized to this by this filter of Pillow.
        heads: number of outputs of each head that describes a vehicle, by name.
        labels: names of the classes of each of them, in the order of the outputs; none for an angle (sine, cosine).
        temperatures: divisor of the outputs of a head that calibrates its confidence.
        threshold: distances of MATCH and NO MATCH, where they were calibrated.
        licence, card: licence of the weights and model card, "" where the file has none.
    """

    height: int
    width: int
    interpolation: str
    heads: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    temperatures: Mapping[str, float] = field(default_factory=dict)
    threshold: Threshold | None = None
    licence: str = ""
    card: str = ""

    @classmethod
    def of(cls, facts: Mapping[str, Any], path: Path | str) -> ModelFacts:
        """Read the facts that are stored in the model file `path`.

        Raises:
            InputError: a fact is missing or of a wrong type.
        """
        with parse_errors(path):
            transform = fact(facts, "transform", dict[str, Any])
            heads = fact(facts, "heads", dict[str, int], {})
            labels = fact(facts, "labels", dict[str, tuple[str, ...]], {})
            stored = dict(fact(facts, "threshold", dict[str, Any], {}))
            stored.pop("kind", None)
            interpolation = fact(transform, "interpolation", str)
            if interpolation not in _FILTERS:
                raise ValueError(f"there is no interpolation {interpolation!r}")
            if any(len(names) != heads.get(name) for name, names in labels.items()):
                raise ValueError("its labels do not fit its heads")
            return cls(
                fact(transform, "height", int),
                fact(transform, "width", int),
                interpolation,
                {name: outputs for name, outputs in heads.items() if name not in ADVERSARIAL_HEADS},
                labels,
                fact(facts, "temperatures", dict[str, float], {}),
                typed(Threshold, stored, "threshold") if stored else None,
                fact(facts, "licence", str, ""),
                fact(facts, "card", str, ""),
            )

    def resize(self, image: Image.Image) -> NDArray[np.uint8]:
        """Resize an RGB image to (height, width, 3), as in training (`vreid.data.augment.TestTransform.prepare`)."""
        return np.asarray(image.resize((self.width, self.height), _FILTERS[self.interpolation]))
