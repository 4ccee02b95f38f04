"""The resolved configuration of a training run: one frozen value, plain to read and to compare."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from vreid.data.augment import TrainTransform
from vreid.errors import InputError
from vreid.models.reid_model import ModelConfig
from vreid.training.optimiser import OptimiserConfig
from vreid.training.precision import Precision
from vreid.training.schedules import Schedule, StepSchedule


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
        if self.epochs < 1:
            raise InputError(f"epochs is {self.epochs}; train for at least 1.")
        if self.losses.triplet and self.num_identities < 2:
            raise InputError(f"num_identities is {self.num_identities}; the triplet loss needs 2 or more in a batch.")
        if not self.losses.identity and not self.losses.triplet:
            raise InputError("losses.identity and losses.triplet are both 0; nothing would be learned.")
        if not 0 < self.optimiser.learning_rate < math.inf:
            raise InputError(f"optimiser.learning_rate is {self.optimiser.learning_rate}; give a positive number.")

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON-able values, nested as the fields are."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain
