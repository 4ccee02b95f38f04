"""Weight files: written and read as safetensors, loaded strictly, told apart by the hash of what they hold."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vreid.errors import InputError
from vreid.files import read_tensors, reading, write_tensors

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
        InputError: lists every key that is missing, unexpected or of another shape (the first dozen of each).
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
        raise InputError(f"{source}: the weights do not fit this model: {'; '.join(problems)}; name the right model.")
    module.load_state_dict(dict(state), strict=False)


def load_pretrained(model: nn.Module, path: Path | str) -> None:
    """Start `model` (a ReidModel) from a file: one of our models, or a published trunk (.pth, .pth.tar, .safetensors).

    Only the top classifier is left out (`classifier.` of our models, `fc.` or `classifier.` of a published trunk).
    Published files may be bare state dicts or hold one under `state_dict`, with or without the prefix `module.`; they
    fit the trunk as they are, e.g. `resnet50_ibn_a-d9d0bb7b.pth` of the IBN-Net release v1.0.

    Raises:
        InputError: the file cannot be read or does not fit.
    """
    state = load_weights(path)[0] if Path(path).suffix == ".safetensors" else _load_pickle(path)
    state = {key.removeprefix("module."): value for key, value in state.items()}
    if any(key.startswith("backbone.") for key in state):
        own_head = {key: value for key, value in model.state_dict().items() if key.startswith("classifier.")}
        body = {key: value for key, value in state.items() if not key.startswith("classifier.")}
        load_strict(model, {**body, **own_head}, path)
    else:
        trunk = {key: value for key, value in state.items() if not key.startswith(("fc.", "classifier."))}
        load_strict(model.get_submodule("backbone"), trunk, path)


def _load_pickle(path: Path | str) -> dict[str, Tensor]:
    try:
        with reading(path), warnings.catch_warnings(action="ignore"):  # about old pickles
            loaded = torch.load(path, map_location="cpu", weights_only=True)  # never runs code that a file brings along
    except InputError:
        raise
    except Exception as error:  # the unpickler raises nearly everything on damaged files
        reason = (str(error) or "it ends too early").splitlines()[0]
        raise InputError(f"{path}: is not a file of weights ({reason}); get it again.") from error
    loaded = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise InputError(f"{path}: holds no state dict of tensors; give the published file of weights.")
    return loaded
