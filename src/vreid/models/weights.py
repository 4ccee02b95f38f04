"""Weights files: safetensors with metadata, strict loading, and a hash of the contents.

A compact file stores matrices as int8 with one scale per row (output channel): a quarter of the bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vreid.errors import InputError
from vreid.files import parse_errors, read_tensors, write_tensors

_SHOWN_KEYS = 12
_COMPACT = "compact"
"""Metadata key that marks a compact file."""
_SCALES = "scales"
"""Name of the tensor with the scales of all rows, matrices in order of name; a single tensor keeps the header small."""


def save_weights(path: Path | str, state: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and JSON-serialisable `facts` atomically to one safetensors file.

    Raises:
        InputError: the file cannot be written.
    """
    # safetensors requires contiguous tensors that do not share storage.
    tensors = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in state.items()}
    write_tensors(path, tensors, facts, "torch")


def load_weights(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors of a safetensors file and the facts written with them ({} if vreid did not write it).

    Tensors of a compact file are converted back to float32.

    Raises:
        InputError: the file does not exist, is damaged, or is not safetensors.
    """
    state, facts = read_tensors(path, "torch")
    if facts.get(_COMPACT):
        with parse_errors(path):
            state = _expanded(state)
    return state, facts


def save_compact(path: Path | str, state: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write float tensors in a compact form, a quarter of the bytes; `load_weights` reads it.

    Each row of a matrix (output channel of a convolution) is stored as integers from -127 to 127 times a scale, so
    that the error is at most 1/254 of the row's largest absolute value. Vectors are stored in half precision if that
    keeps a relative error of 1e-3; batch counters are dropped.

    Raises:
        InputError: the file cannot be written.
    """
    floats = {name: value.detach().float() for name, value in sorted(state.items()) if value.is_floating_point()}
    small: dict[str, Tensor] = {}
    scales = [torch.empty(0)]
    for name, value in floats.items():
        if value.ndim > 1:
            rows = value.flatten(1)
            scale = rows.abs().amax(dim=1, keepdim=True) / 127
            small[name] = (rows / scale.clamp(min=torch.finfo().tiny)).round().to(torch.int8).reshape(value.shape)
            scales.append(scale.flatten())
        else:
            half = value.half()
            small[name] = half if torch.allclose(half.float(), value, rtol=1e-3, atol=0) else value
    save_weights(path, {**small, _SCALES: torch.cat(scales)}, {**facts, _COMPACT: True})


def save_half(path: Path | str, state: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write float32 tensors in half precision; `load_strict` converts them back to float32.

    The relative error is at most 1/2048 (absolute 3e-8 for values below 6e-5); a tensor with a value outside the range
    of half precision (65,520 and more) stays float32.

    Raises:
        InputError: the file cannot be written.
    """
    halves = {name: value.detach().half() if value.dtype == torch.float32 else value for name, value in state.items()}
    save_weights(
        path, {name: half if bool(torch.isfinite(half).all()) else state[name] for name, half in halves.items()}, facts
    )


def _expanded(small: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names = sorted(name for name in small if name != _SCALES)
    rows = [len(small[name]) if small[name].dtype == torch.int8 else 0 for name in names]
    if sum(rows) != len(small[_SCALES]):
        raise ValueError("its scales do not match its matrices")
    state = {}
    for name, scale in zip(names, torch.split(small[_SCALES], rows), strict=True):
        value = small[name].float()
        state[name] = value * scale.reshape(-1, *[1] * (value.ndim - 1)) if len(scale) else value
    return state


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """Compute the sha256 of names, types, shapes and values, independent of file format and device.

    Example:
        >>> weights_hash({"a": torch.zeros(2)}) == weights_hash({"a": torch.zeros(2)})
        True
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class Misfit(NamedTuple):
    """Keys of a state that do not fit a module; batch counters (`num_batches_tracked`) may be missing.

    Attributes:
        missing, unexpected: keys missing from the state, and keys that the module does not have.
        shapes: keys with different shapes, with both shapes.
    """

    missing: list[str]
    unexpected: list[str]
    shapes: list[str]

    @property
    def total(self) -> int:
        """Number of such keys."""
        return sum(map(len, self))


def misfit(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Misfit:
    """Compare a state with the state `own` of a module."""
    return Misfit(
        [key for key in own if key not in state and not key.endswith("num_batches_tracked")],
        [key for key in state if key not in own],
        [
            f"{key} {tuple(value.shape)} for {tuple(own[key].shape)}"
            for key, value in state.items()
            if key in own and value.shape != own[key].shape
        ],
    )


def load_strict(module: nn.Module, state: Mapping[str, Tensor], source: Path | str) -> None:
    """Load `state` into `module`, requiring all keys and shapes to match.

    Batch counters (`num_batches_tracked`), absent from old published files, may be missing.

    Raises:
        InputError: keys are missing, unexpected or of another shape; the message counts them and names the first dozen
            of each, and the note (`error.__notes__`) lists all.
    """
    missing, unexpected, shapes = misfit(module.state_dict(), state)
    problems = [
        f"{len(keys)} {what} ({', '.join(keys[:_SHOWN_KEYS])}{', ...' if len(keys) > _SHOWN_KEYS else ''})"
        for what, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if keys
    ]
    if problems:
        error = InputError(
            f"{source}: the weights do not fit this model: {'; '.join(problems)}; choose the right model."
        )
        error.add_note("\n".join(["missing:", *missing, "unexpected:", *unexpected, "of another shape:", *shapes]))
        raise error
    module.load_state_dict(dict(state), strict=False)
