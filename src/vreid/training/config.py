"""The resolved configuration of a training run: one frozen value, plain to read and to compare."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from operator import attrgetter
from typing import Any, Literal

from vreid.data.augment import TrainTransform
from vreid.errors import InputError
from vreid.models.reid_model import ModelConfig
from vreid.training.optimiser import OptimiserConfig
from vreid.training.precision import Precision
from vreid.training.schedules import Schedule, StepSchedule

RANGES: Mapping[str, tuple[float, float]] = {
    "num_identities": (1, 10_000),
    "num_instances": (1, 10_000),
    "epochs": (1, 100_000),
    "seed": (0, 2**63 - 1),
    "transform.height": (1, 4096),
    "transform.width": (1, 4096),
    "transform.mean": (0, 1),
    "transform.std": (1e-6, 10),
    "transform.crop_scale": (1e-6, 1),
    "transform.crop_ratio": (0.001, 1000),
    "transform.brightness": (0, 1),
    "transform.contrast": (0, 1),
    "transform.erase_scale": (1e-6, 1),
    "transform.erase_ratio": (0.001, 1000),
    "losses.identity": (0, 1_000_000),
    "losses.label_smoothing": (0, 1),
    "losses.triplet": (0, 1_000_000),
    "losses.triplet_margin": (0, 1_000_000),
    "optimiser.learning_rate": (1e-12, 1e30),
    "optimiser.momentum": (0, 0.9999),
    "optimiser.weight_decay": (0, 1_000_000),
    "optimiser.vector_decay": (0, 1_000_000),
    "optimiser.bias_factor": (0, 1_000_000),
    "optimiser.classifier_factor": (0, 1_000_000),
    "clip_norm": (1e-12, 1e12),
    "schedule.milestones": (1, 100_000),
    "schedule.decay": (0, 1),
    "schedule.warmup_epochs": (0, 100_000),
    "schedule.warmup_factor": (0, 1),
    "schedule.final_factor": (0, 1),
}
"""Smallest and largest value of each number by its dotted name: outside, torch fails or nothing is learned."""
ASCENDING = ("transform.crop_scale", "transform.crop_ratio", "transform.erase_scale", "transform.erase_ratio")
"""Pairs of a smallest and a largest value."""


@dataclass(frozen=True)
class LossConfig:
    """Which losses, how strong; the defaults are those of DMT's code.

    Attributes:
        identity: weight of the cross-entropy over identities.
        label_smoothing: of that cross-entropy.
        triplet: weight of the batch-hard triplet loss on f_t; 0 leaves it out.
        triplet_form, triplet_squared, triplet_margin: see `vreid.losses.triplet_loss`.
    """

    identity: float = 1.0
    label_smoothing: float = 0.0
    triplet: float = 1.0
    triplet_form: Literal["soft", "hinge"] = "soft"
    triplet_squared: bool = False
    triplet_margin: float = 0.0


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the weights besides the data; what does not (workers, checkpoints) is no part of it.

    Attributes:
        recipe: name under which it is found in `vreid.recipes.RECIPES`.
        num_identities, num_instances: P and K of a batch.
        epochs: passes of the P x K sampler.
        transform: augmentation; `transform.test()` is what the model sees afterwards.
        precision: number type of convolutions; "auto" is decided by the machine and recorded in the run.
        clip_norm: gradients are scaled down to this norm; None leaves them alone.
        seed: of initial weights, batches and augmentation.
    """

    recipe: str
    model: ModelConfig = field(default_factory=ModelConfig)
    num_identities: int = 12
    num_instances: int = 8
    epochs: int = 80
    transform: TrainTransform = field(default_factory=TrainTransform)
    losses: LossConfig = field(default_factory=LossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    schedule: Schedule = field(default_factory=StepSchedule)
    precision: Precision = "auto"
    clip_norm: float | None = None
    seed: int = 1234

    def __post_init__(self) -> None:
        for name, (least, most) in RANGES.items():
            if name.startswith("schedule.") and not hasattr(self.schedule, name.removeprefix("schedule.")):
                continue  # schedules have different fields
            value = attrgetter(name)(self)
            for number in value if isinstance(value, tuple) else () if value is None else (value,):
                if not least <= number <= most:  # NaN is not either
                    raise InputError(f"{name} is {number}; give a number from {least:,} to {most:,}.")
        for name in ASCENDING:
            if list(attrgetter(name)(self)) != sorted(attrgetter(name)(self)):
                raise InputError(f"{name} is {attrgetter(name)(self)}; give the smaller number first.")
        for name in ("num_identities", "num_instances"):
            if self.losses.triplet and getattr(self, name) < 2:
                raise InputError(f"{name} is {getattr(self, name)}; the triplet loss needs 2 or more in a batch.")
        if not self.losses.identity and not self.losses.triplet:
            raise InputError("losses.identity and losses.triplet are both 0; nothing would be learned.")

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON-able values, nested as the fields are."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain
