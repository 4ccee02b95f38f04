"""Weight files: written and read as safetensors, loaded strictly, told apart by the hash of what they hold."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vreid.errors import InputError
from vreid.files import read_tensors, write_tensors

_SHOWN_KEYS = 12


def save_weights(path: Path | str, state: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and JSON-able `facts` as one safetensors file, whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    # Own memory each: safetensors refuses tensors that share storage, and wants plain layout.
    tensors = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in state.items()}
    write_tensors(path, tensors, facts, "torch")


def load_weights(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a safetensors file and the facts written with them ({} if vreid did not write it).

    Raises:
        InputError: absent, damaged, or not safetensors.
    """
    return read_tensors(path, "torch")


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """sha256 of names, types, shapes and values, whatever file or device they lie in: the model's hash.

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


def load_strict(module: nn.Module, state: Mapping[str, Tensor], source: Path | str) -> None:
    """Load `state` into `module`; nothing missing, nothing left over, every shape equal.

    Batch counters (`num_batches_tracked`), which old published files lack, may be missing.

    Raises:
        InputError: counts the keys that are missing, unexpected or of another shape and names the first dozen of each;
            its note (`error.__notes__`) lists every one.
    """
    own = module.state_dict()
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    shapes = [
        f"{key} {tuple(value.shape)} for {tuple(own[key].shape)}"
        for key, value in state.items()
        if key in own and value.shape != own[key].shape
    ]
    problems = [
        f"{len(keys)} {what} ({', '.join(keys[:_SHOWN_KEYS])}{', ...' if len(keys) > _SHOWN_KEYS else ''})"
        for what, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if keys
    ]
    if problems:
        error = InputError(f"{source}: the weights do not fit this model: {'; '.join(problems)}; name the right model.")
        error.add_note("\n".join(["missing:", *missing, "unexpected:", *unexpected, "of another shape:", *shapes]))
        raise error
    module.load_state_dict(dict(state), strict=False)
