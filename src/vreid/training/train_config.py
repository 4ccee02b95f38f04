"""The resolved configuration of a training run: one frozen value, plain to read and to compare."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from operator import attrgetter
from typing import Any, Literal, get_args, get_origin, get_type_hints

from vreid.data.augment import TrainTransform
from vreid.errors import InputError
from vreid.models.reid_model import ModelConfig
from vreid.training.objective import LossConfig
from vreid.training.optimiser import OptimiserConfig
from vreid.training.precision import Precision
from vreid.training.schedules import Schedule, StepSchedule
from vreid.training.targets import HeadName, LabelConfig, TargetName

__all__ = ["HeadName", "LabelConfig", "LossConfig", "TargetName", "TrainConfig"]

RANGES: Mapping[str, tuple[float, float]] = {
    "num_identities": (1, 10_000),
    "num_instances": (1, 10_000),
    "epochs": (1, 100_000),
    "iterations": (1, 1_000_000),
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
    "transform.erase_fill": (-1000, 1000),
    "labels.bins": (2, 360),
    "losses.identity": (0, 1_000_000),
    "losses.label_smoothing": (0, 1),
    "losses.triplet": (0, 1_000_000),
    "losses.triplet_margin": (0, 1_000_000),
    "losses.circle": (0, 1_000_000),
    "losses.circle_margin": (0, 1),
    "losses.circle_scale": (1e-6, 1_000_000),
    "losses.metric_weight": (0, 1_000_000),
    "losses.domain": (0, 1_000_000),
    "losses.attributes": (0, 1_000_000),
    "optimiser.learning_rate": (1e-12, 1e30),
    "optimiser.momentum": (0, 0.9999),
    "optimiser.weight_decay": (0, 1_000_000),
    "optimiser.vector_decay": (0, 1_000_000),
    "optimiser.bias_factor": (0, 1_000_000),
    "optimiser.classifier_factor": (0, 1_000_000),
    "accumulation": (1, 10_000),
    "clip_norm": (1e-12, 1e12),
    "ema": (0, 0.999999),
    "schedule.milestones": (1, 100_000),
    "schedule.decay": (0, 1),
    "schedule.warmup_epochs": (0, 100_000),
    "schedule.warmup_factor": (0, 1),
    "schedule.final_factor": (0, 1),
    "schedule.warmup_rate": (0, 1e30),
    "schedule.final_rate": (0, 1e30),
}
"""Smallest and largest value of each number by its dotted name: outside, torch fails or nothing is learned."""
ASCENDING = ("transform.crop_scale", "transform.crop_ratio", "transform.erase_scale", "transform.erase_ratio")
"""Pairs of a smallest and a largest value."""


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
    num_identities: int = 12
    num_instances: int = 8
    epochs: int = 80
    iterations: int | None = None
    transform: TrainTransform = field(default_factory=TrainTransform)
    losses: LossConfig = field(default_factory=LossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    schedule: Schedule = field(default_factory=StepSchedule)
    precision: Precision = "auto"
    fresh_optimiser: bool = False
    accumulation: int = 1
    clip_norm: float | None = None
    sync_batchnorm: bool = False
    compile: bool = False
    ema: float = 0.0
    seed: int = 1234

    def __post_init__(self) -> None:
        for key, words, known in _choices(self):
            for word in words:
                if word not in known:
                    raise InputError(f"{key} is {word!r}; choose among {', '.join(known)}.")
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


def _choices(config: Any, prefix: str = "") -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Dotted name, chosen words and known words of every field that takes words from a list."""
    for name, hint in get_type_hints(type(config)).items():
        value, several = getattr(config, name), get_origin(hint) is tuple
        words = get_args(hint)[0] if several else hint
        if is_dataclass(value):
            yield from _choices(value, f"{prefix}{name}.")
        elif get_origin(words) is Literal:
            yield prefix + name, value if several else (value,), get_args(words)
