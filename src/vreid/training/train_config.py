"""Configuration of a training run, as a frozen dataclass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

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
    """All settings that determine the weights, besides the data; workers and checkpoints are arguments of `train`.

    Attributes:
        recipe: name of the recipe in `vreid.recipes.RECIPES`.
        target: target of the classifier; images without it are ignored.
        heads: further heads on the pooled feature: any of "domain" (adversarial, with gradient reversal), "color",
            "vehicle_type" and "orientation".
        labels: use of the labels.
        batches: "identities": P identities x K images; "domains": the same, with half of P real and half synthetic
            (StRDAN); "images": P x K random images.
        num_identities, num_instances: P and K of a batch.
        epochs: passes of the sampler.
        iterations: batches per epoch, over as many passes of the sampler as needed; None: one pass.
        transform: augmentation; `transform.test()` is the preprocessing in testing.
        precision: number type of convolutions; "auto" is resolved on the machine and recorded in the run.
        fresh_optimiser: reset the optimiser's state at the start of each epoch (DMT's adaptation).
        accumulation: number of batches whose gradients are averaged per update.
        clip_norm: maximum norm of the gradients; None disables clipping.
        sync_batchnorm: in distributed training, use batch statistics of the whole batch instead of the share (GPUs).
        compile: use torch.compile for the backbone: minutes of start-up time, faster steps, different rounding. Where
            its compiler does not work, a note says so and training goes on without it.
        ema: decay per step of an exponential moving average of the weights, such as 0.999 (in step t = 0, 1, ... at
            most (1 + t) / (10 + t)), which becomes the model; 0: the last weights.
        seed: seed of initial weights, batches and augmentation.
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
        for of_pairs in ("triplet", "circle", "contrastive"):
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
            raise InputError("losses.identity, losses.triplet and losses.circle are all 0; set one of them above 0.")
        if len(set(self.heads)) < len(self.heads):
            raise InputError(f"heads {', '.join(self.heads)}: one is named twice; name each once.")
        if self.target in self.heads:
            raise InputError(f"{self.target} is both the target and a head; remove it from heads.")
