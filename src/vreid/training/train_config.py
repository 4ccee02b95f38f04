"""The resolved configuration of a training run: one frozen value, plain to read and to compare."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from vreid.data.augment import TrainTransform
from vreid.errors import InputError
from vreid.models.reid_model import ModelConfig
from vreid.ranges import check_settings, in_range
from vreid.training.objective import LossConfig
from vreid.training.optimiser import OptimiserConfig
from vreid.training.precision import Precision
from vreid.training.schedules import Schedule, StepSchedule
from vreid.training.targets import HeadName, LabelConfig, TargetName

__all__ = ["HeadName", "LabelConfig", "LossConfig", "TargetName", "TrainConfig"]


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the weights besides the data; what does not (workers, checkpoints) is no part of it.

    Attributes:
        recipe: name under which it is found in `vreid.recipes.RECIPES`.
        target: what the classifier tells apart; an image without it takes no part.
        heads: what further linear layers say of the pooled feature: any of "domain" (through gradient reversal, so that
            the feature forgets it), "color", "vehicle_type" and "orientation".
        labels: which of these labels count.
        batches: P x K of the target, as "identities", or of "domains": half of P real, half synthetic (StRDAN); or
            P x K "images" at random.
        num_identities, num_instances: P and K of a batch.
        epochs: passes of the sampler.
        iterations: batches of an epoch, however many passes of the sampler they take; None: one pass.
        transform: augmentation; `transform.test()` is what the model sees afterwards.
        precision: number type of convolutions; "auto" is decided by the machine and recorded in the run.
        fresh_optimiser: each epoch begins without the momentum of the one before it (DMT's adaptation).
        accumulation: batches whose gradients are averaged before the weights move.
        clip_norm: gradients are scaled down to this norm; None leaves them alone.
        sync_batchnorm: several processes normalise by the statistics of the whole batch, not of their shares (GPUs).
        compile: torch.compile of the backbone: minutes at the start, fewer seconds a step; rounds differently.
        ema: the model is the running mean of the weights with this decay a step (0.999, say; in step t = 0, 1, ... at
            most (1 + t) / (10 + t)); 0: the last weights.
        seed: of initial weights, batches and augmentation.
    """

    recipe: str
    model: ModelConfig = field(default_factory=ModelConfig)
    target: TargetName = "identity"
    heads: tuple[HeadName, ...] = ()
    labels: LabelConfig = field(default_factory=LabelConfig)
    batches: Literal["identities", "domains", "images"] = "identities"
    num_identities: int = in_range(12, least=1, most=10_000)
    num_instances: int = in_range(8, least=1, most=10_000)
    epochs: int = in_range(80, least=1, most=100_000)
    iterations: int | None = in_range(None, least=1, most=1_000_000)
    transform: TrainTransform = field(default_factory=TrainTransform)
    losses: LossConfig = field(default_factory=LossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    schedule: Schedule = field(default_factory=StepSchedule)
    precision: Precision = "auto"
    fresh_optimiser: bool = False
    accumulation: int = in_range(1, least=1, most=10_000)
    clip_norm: float | None = in_range(None, least=1e-12, most=1e12)
    sync_batchnorm: bool = False
    compile: bool = False
    ema: float = in_range(0.0, least=0, most=0.999999)
    seed: int = in_range(1234, least=0, most=2**63 - 1)

    def __post_init__(self) -> None:
        check_settings(self)
        losses = self.losses
        for of_pairs in ("triplet", "circle"):
            if not getattr(losses, of_pairs):
                continue
            if self.batches == "images":
                raise InputError(
                    f"The {of_pairs} loss needs several images of an identity, "
                    f"so batches=images needs losses.{of_pairs}=0."
                )
            for name in ("num_identities", "num_instances"):
                if getattr(self, name) < 2:
                    few = getattr(self, name)
                    raise InputError(f"{name} is {few}; the {of_pairs} loss needs 2 or more in a batch.")
        if not (losses.identity or losses.triplet or losses.circle or (losses.metric and losses.metric_weight)):
            raise InputError("losses.identity, losses.triplet and losses.circle are all 0; nothing would be learned.")
        if len(set(self.heads)) < len(self.heads):
            raise InputError(f"heads {', '.join(self.heads)}: one is named twice; name each once.")
        if self.target in self.heads:
            raise InputError(f"{self.target} is the target and a head too; take it out of heads.")

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON-able values, nested as the fields are."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain
