"""Checkpoints: everything needed to resume a run to bit-identical weights, in one safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vreid.errors import InputError
from vreid.files import parse_errors
from vreid.formats.facts import fact
from vreid.models.weights import load_strict, load_weights, save_weights


@dataclass
class LoopState:
    """Position of training; batches and augmentation are functions of seed, epoch and step.

    Attributes:
        epoch: current or next epoch, from 0.
        step: completed batches of that epoch.
        total_steps: completed batches in total.
        metrics_bytes: length of metrics.jsonl.
        sums: running sums of this epoch's loss terms.
        best: epoch (from 1) of the highest validation mAP so far, and that mAP; {} without validation.
    """

    epoch: int = 0
    step: int = 0
    total_steps: int = 0
    metrics_bytes: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)


def save_checkpoint(path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, state: LoopState) -> None:
    """Write model, optimiser, random-number states and loop state atomically."""
    tensors: dict[str, Tensor] = {f"model.{name}": value for name, value in model.state_dict().items()}
    for index, moments in optimiser.state_dict()["state"].items():
        for name, value in moments.items():
            if value is not None:
                tensors[f"optimiser.{index}.{name}"] = torch.as_tensor(value)
    tensors["random.cpu"] = torch.get_rng_state()
    device = next(model.parameters()).device
    if device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(device)
    save_weights(path, tensors, {"kind": "checkpoint", "loop": asdict(state)})


def load_checkpoint(path: Path, model: nn.Module, optimiser: torch.optim.Optimizer) -> LoopState:
    """Restore model, optimiser and random-number states and return the loop state; nothing changes if it fails.

    Raises:
        InputError: the file is not a checkpoint, is damaged, or belongs to another model.
    """
    tensors, facts = load_weights(path)
    if facts.get("kind") != "checkpoint":
        raise InputError(f"{path}: is not a checkpoint; remove it.")
    with parse_errors(path):
        state = fact(facts, "loop", LoopState)
        counts = (state.epoch, state.step, state.total_steps, state.metrics_bytes)
        if min(counts) < 0:
            raise ValueError("its loop state is not one of counts")
        if set(state.best) not in (set(), {"epoch", "mAP"}):
            raise ValueError("its best epoch is incomplete")
        generator = tensors["random.cpu"]
        if generator.dtype != torch.uint8 or generator.shape != torch.get_rng_state().shape:
            raise ValueError("its random-number state is of another size")
        moments: dict[int, dict[str, Any]] = {}
        for name, value in _under("optimiser.", tensors).items():
            index, _, key = name.partition(".")
            moments.setdefault(int(index), {})[key] = value
        _require_fit(moments, optimiser)
    load_strict(model, _under("model.", tensors), path)
    optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
    for parameter, held in optimiser.state.items():
        for key, value in held.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                # Restore the memory layout too: kernels may round differently with another one.
                held[key] = torch.empty_like(parameter, memory_format=torch.preserve_format).copy_(value)
    torch.set_rng_state(generator)
    device = next(model.parameters()).device
    if "random.cuda" in tensors and device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random.cuda"], device)
    return state


def _require_fit(moments: Mapping[int, Mapping[str, Tensor]], optimiser: torch.optim.Optimizer) -> None:
    """Raise ValueError for an optimiser state of other weights, before anything is restored."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    for index, held in moments.items():
        for key, value in held.items():
            if value.ndim and value.shape != parameters[index].shape:
                raise ValueError(f"optimiser.{index}.{key} is {tuple(value.shape)}, not {parameters[index].shape}")


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
