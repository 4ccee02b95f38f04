"""Optimisers and their parameter groups (learning-rate factors for biases and the classifier, weight decay)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from vreid.ranges import in_range


@dataclass(frozen=True)
class OptimiserConfig:
    """Optimiser settings; the defaults are those of DMT's CNNs.

    Attributes:
        kind: "sgd", "adamw", or "adam" with L2 regularisation (StRDAN).
        learning_rate: peak learning rate, which schedules scale.
        momentum: momentum of SGD, or the first beta of Adam; the second is 0.999.
        amsgrad: use the AMSGrad variant of Adam.
        weight_decay: weight decay of weights.
        vector_decay: weight decay of biases and normalisation weights.
        bias_factor: factor of the learning rate for parameters whose name contains "bias".
        classifier_factor: factor of the learning rate for the classifier.
    """

    kind: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: float = in_range(0.01, least=1e-12, most=1e30)
    momentum: float = in_range(0.9, least=0, most=0.9999)
    weight_decay: float = in_range(5e-4, least=0, most=1_000_000)
    vector_decay: float = in_range(5e-4, least=0, most=1_000_000)
    bias_factor: float = in_range(2.0, least=0, most=1_000_000)
    classifier_factor: float = in_range(2.0, least=0, most=1_000_000)
    amsgrad: bool = False


def parameter_groups(parameters: Iterable[tuple[str, nn.Parameter]], config: OptimiserConfig) -> list[dict[str, Any]]:
    """Group trainable parameters by learning-rate `factor` and `weight_decay`, in a stable order.

    Frozen parameters (the neck's bias) are in no group.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters:
        if not parameter.requires_grad:
            continue
        factor = 1.0
        if "bias" in name:
            factor = config.bias_factor
        if "classifier" in name:
            factor = config.classifier_factor
        decay = config.weight_decay if parameter.ndim > 1 else config.vector_decay
        groups.setdefault((factor, decay), []).append(parameter)
    return [
        {"params": members, "factor": factor, "weight_decay": decay, "lr": config.learning_rate * factor}
        for (factor, decay), members in groups.items()
    ]


def build_optimiser(model: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    """Build the optimiser of all trainable parameters of `model`."""
    groups = parameter_groups(model.named_parameters(), config)
    if config.kind == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum)
    kind = torch.optim.Adam if config.kind == "adam" else torch.optim.AdamW
    return kind(groups, lr=config.learning_rate, betas=(config.momentum, 0.999), amsgrad=config.amsgrad)


def set_rates(optimiser: torch.optim.Optimizer, peak: float, rate: Callable[[float], float]) -> None:
    """Set the learning rate of every group to `rate` of its peak, which is `peak` times its factor."""
    for group in optimiser.param_groups:
        group["lr"] = rate(peak * group["factor"])
