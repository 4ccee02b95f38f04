"""Load checkpoints of other toolkits: one explicit key mapping per family, and every key accounted for.

A rule is a regular expression, matched at the start of a key, and its replacement; None drops the tensor. Only
classifiers (identities, attributes, ImageNet classes) are dropped. Published ImageNet weights fit the backbones after
the rules in a backbone's attribute `published_keys` are applied.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vreid.errors import InputError
from vreid.formats.kinds import described_type, kind_of, not_wanted
from vreid.formats.numpy_files import read_npz
from vreid.formats.torch_files import Inert, load_torch
from vreid.models.published import located
from vreid.models.transreid import match_cameras, matched_cameras
from vreid.models.weights import load_strict, load_weights, misfit

Rule = tuple[str, str | None]
State = Mapping[str, Tensor]

_TOP: tuple[Rule, ...] = ((r"(fc|classifier)\.(weight|bias)$", None),)
"""The classifier of a published backbone; `se.fc.` and torchreid's `fc.0.` (an embedding layer) do not match."""
_FIX = "pass a file written by torch.save(model.state_dict(), FILE)"
EMBEDDINGS = "backbone.sie_embed"
"""Key of the side-information embeddings (SIE) of a TransReID in a vreid model."""
_OWN_HEADS = r"(classifier|local_classifiers\.\d+|heads\.\w+)\.(weight|bias)$"


class KeyFamily(NamedTuple):
    """The key names that one toolkit uses for a whole model.

    Attributes:
        name: name in messages ("a ... checkpoint").
        sign: regular expression; a state with a key that it matches (from the start) belongs to the family.
        rules: function from the state to the rules that map its keys to those of a `ReidModel`.
    """

    name: str
    sign: str
    rules: Callable[[State], tuple[Rule, ...]]


def _fastreid(state: State) -> tuple[Rule, ...]:
    # The backbone has the same prefix as ours. The stem pads its pooling differently: fine-tune these weights.
    return (
        (r"heads\.bottleneck\.0\.", "neck."),
        (r"heads\.pool_layer\.p$", "pool.p"),
        (r"heads\.(weight|classifier\.weight)$", None),
        (r"pixel_(mean|std)$", None),
    )


def _transreid(state: State) -> tuple[Rule, ...]:
    top: tuple[Rule, ...] = ((r"base\.(fc|head)\.(weight|bias)$", None), (r"classifier(_\d)?\.weight$", None))
    jigsaw: tuple[Rule, ...] = ()
    if any(key.startswith("b1.") for key in state):
        # b1 and b2 replace the last block and the norm of `base`, which the file contains but does not use.
        last = max(int(found[1]) for key in state if (found := re.match(r"base\.blocks\.(\d+)\.", key)))
        jigsaw = (
            (rf"base\.(blocks\.{last}|norm)\.", None),
            (r"b1\.0\.", f"backbone.blocks.{last}."),
            (r"b1\.1\.", "backbone.norm."),
            (r"b2\.0\.", "backbone.local_block."),
            (r"b2\.1\.", "backbone.local_norm."),
            *((rf"bottleneck_{number + 1}\.", f"local_necks.{number}.") for number in range(4)),
        )
    return (*top, *jigsaw, (r"bottleneck\.", "neck."), (r"base\.", "backbone."))


FAMILIES = (
    KeyFamily("a fast-reid checkpoint", r"heads\.(bottleneck\.|pool_layer\.|weight$)", _fastreid),
    KeyFamily("a TransReID or DMT checkpoint", r"base\.", _transreid),
    KeyFamily("a model of vreid", r"backbone\.", lambda state: ((_OWN_HEADS, None),)),
)
"""Families of whole models; any other state is a backbone: published ImageNet weights or a torchreid checkpoint."""


def load_pretrained(model: nn.Module, weights: Path | str, backbone: str = "", cameras: Sequence[str] = ()) -> str:
    """Load pretrained weights into a `ReidModel`: a vreid model, a checkpoint of another toolkit, or ImageNet weights.

    Args:
        model: the model; it keeps its own classifiers, and its neck and pooling if the file holds only a backbone.
        weights: a file (.pth, .pth.tar, .ckpt, .safetensors, .npz; see `read_state`), the name of a published file
            fetched by `vreid weights get`, "simulated" for the weights shipped for `backbone`, or "imagenet" (see
            `vreid.models.published`).
        backbone: name of the backbone, needed only for "simulated" and "imagenet".
        cameras: camera names of the model's embeddings (SIE). If the file names its cameras, embeddings are matched by
            name, and a camera missing from the file is initialised with the mean of all.

    Returns:
        A sentence about the camera embeddings, "" if file or model has none.

    Raises:
        InputError: the file does not exist, cannot be read or does not fit (every missing and unexpected key is
            reported).
    """
    path = located(weights, backbone)
    state, sentence = read_state(path), ""
    if cameras and any(key.endswith("sie_embed") for key in state):
        named = load_weights(path)[1].get("cameras", ()) if path.suffix == ".safetensors" else ()
        sentence = (
            f"{path}: does not name the cameras of its embeddings; their order is assumed to be {cameras[0]}, ..."
        )
        if named and EMBEDDINGS in state:
            state[EMBEDDINGS] = match_cameras(state[EMBEDDINGS], named, cameras)
            sentence = matched_cameras(named, cameras)
    load_state(model, state, path)
    return sentence


def load_state(model: nn.Module, state: State, source: Path | str) -> None:
    """Load a state of any known family strictly; see `load_pretrained`.

    The network's keys may share any prefix (of a wrapper, `DataParallel`, `torch.compile`); other entries beside the
    network (criterion, optimiser state, classifier) are ignored. If several networks fit, the one that is not a moving
    average is used.

    Raises:
        InputError: the state does not fit, fits under several prefixes, or contains values that are not finite.
    """
    backbone: Any = model.get_submodule("backbone")
    tried: list[_Match] = []
    for prefix in _prefixes(state, len(backbone.state_dict())):
        # parts of a whole model, or of a network that fits, are no networks of their own
        if not any(prefix.startswith(one.prefix) and (one.whole or not one.problems) for one in tried):
            tried.append(_match(model, backbone, state, prefix, source))
    fitting = [one for one in tried if not one.problems]
    plain = [one for one in fitting if not _AVERAGED.search(one.prefix)] or fitting
    if not plain:
        best = min(tried, key=lambda one: one.problems)
        if best.error is not None:
            raise best.error
        load_strict(best.module, best.state, best.label)
    if any(not _same(one.state, plain[0].state) for one in plain[1:]):
        names = ", ".join(one.prefix.rstrip(".") or "the top level" for one in plain)
        raise InputError(f"{source}: holds several sets of weights that fit ({names}); save only the one to load.")
    _check_values(plain[0].state, plain[0].module.state_dict(), source)
    load_strict(plain[0].module, plain[0].state, plain[0].label)


_AVERAGED = re.compile(r"(^|[._])(\w*ema|teacher|momentum|averaged|swa|target|shadow)\w*\.", re.IGNORECASE)
"""Prefixes of moving averages (EMA) of a network."""
_INNER = re.compile(r"(^|\.)(?:_orig_mod|module|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\.")
"""Names that PyTorch's wrappers insert into keys, at any position."""
_BESIDE = re.compile(
    r"(\w*criterion|\w*loss|optimi[sz]er|\w*scheduler|scaler|\w*metric|\w*accuracy|n_averaged|epoch|\w*step|\w*iter|best)"
    r"\w*(\.|$)",
    re.IGNORECASE,
)
"""Entries of a checkpoint that are not part of the network."""


class _Match(NamedTuple):
    """How well the keys under a prefix fit a model.

    Attributes:
        module: the whole model or its backbone.
        state: the tensors under their names in `module`.
        label: the file and its family, for messages.
        problems: number of keys that are missing, unexpected or of another shape.
        whole: the keys are those of a whole model of a known family, so no part of them is tried on its own.
        error: the error if keys cannot be renamed.
    """

    prefix: str
    module: nn.Module
    state: State
    label: str
    problems: int
    whole: bool
    error: InputError | None = None


def _prefixes(state: State, needed: int) -> list[str]:
    """Return the prefixes with enough keys for a network of `needed` tensors, shortest first; always includes ""."""
    counts: Counter[str] = Counter()
    for key in state:
        parts = key.split(".")[:-1]
        counts.update(".".join(parts[: end + 1]) + "." for end in range(len(parts)))
    return ["", *sorted((prefix for prefix, count in counts.items() if 2 * count >= needed), key=len)]


def _match(model: nn.Module, backbone: Any, state: State, prefix: str, source: Path | str) -> _Match:
    inner = {_INNER.sub(r"\1", key[len(prefix) :]): value for key, value in state.items() if key.startswith(prefix)}
    own_rules = tuple(getattr(backbone, "published_keys", ()))
    family = next((one for one in FAMILIES if any(re.match(one.sign, key) for key in inner)), None)
    whole = family is not None and (family is not FAMILIES[-1] or any(key.startswith("neck.") for key in inner))
    module: nn.Module = model
    label = str(source)
    try:
        if family is None:
            module = backbone
            renamed = getattr(backbone, "adapt_state", dict)(_renamed(inner, (*own_rules, *_TOP), source))
        else:
            label = f"{source} ({family.name})"
            renamed = _renamed(inner, family.rules(inner), source)
            if family is not FAMILIES[-1]:
                inner_state = {
                    key.removeprefix("backbone."): v for key, v in renamed.items() if key.startswith("backbone.")
                }
                outer = {key: value for key, value in renamed.items() if not key.startswith("backbone.")}
                inner_state = _renamed(inner_state, own_rules, source)
                renamed = outer | {f"backbone.{key}": value for key, value in inner_state.items()}
            heads = {key: value for key, value in model.state_dict().items() if re.match(_OWN_HEADS, key)}
            renamed = {**renamed, **heads}
    except InputError as error:
        return _Match(prefix, module, {}, label, sys.maxsize, whole, error)
    own = module.state_dict()
    renamed = {key: value for key, value in renamed.items() if key in own or not _BESIDE.match(key)}
    return _Match(prefix, module, renamed, label, misfit(own, renamed).total, whole)


def _same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def _check_values(state: State, own: State, source: Path | str) -> None:
    """Raise InputError for values that are not finite, or that would change when they are copied into the network."""
    for key, value in state.items():
        what = ""
        if value.is_quantized or value.layout != torch.strided:
            what = "quantised or sparse"
        elif value.is_meta and not own[key].is_meta:
            what = "without values (on the meta device)"
        elif own[key].is_floating_point() and not value.is_floating_point():
            what = f"of type {str(value.dtype).removeprefix('torch.')}"
        elif value.is_floating_point() and not value.is_meta and not bool(torch.isfinite(value.float()).all()):
            what = "not finite (NaN or infinity)"
        if what:
            raise InputError(
                f"{source}: {key} is {what}; save the trained weights as dense float32 or float16 tensors."
            )


def read_state(path: Path | str) -> dict[str, Tensor]:
    """Read all tensors of a weights file by name; the format is detected from its contents, not from the suffix.

    Reads safetensors, PyTorch files and .npz. Nested dictionaries and lists are flattened
    ("state_dict.model.conv1.weight"); `load_state` finds the network among them. No code named in the file is imported
    or run.

    Raises:
        InputError: the file does not exist, is damaged, or holds something other than weights (the message says what).
    """
    kind = kind_of(path)
    if kind == "safetensors" or (kind == "unknown" and Path(path).suffix == ".safetensors"):
        return load_weights(path)[0]
    if kind not in ("torch", "torch-old", "npz"):
        raise not_wanted(path, kind, "a file of weights", _FIX)
    loaded = read_npz(path) if kind == "npz" else load_torch(path, kind)
    state: dict[str, Tensor] = {}
    objects: list[Inert] = []
    _flatten(loaded, "", state, objects)
    modules = [one.name for one in objects if "_modules" in one.attributes]
    if modules and not any("." in name for name in state):
        raise InputError(
            f"{path}: holds a pickled module ({modules[0]}), which cannot be read without its code; where that code is "
            "available, run torch.save(model.state_dict(), FILE) and pass that file."
        )
    if not state:
        held = f"an object of class {objects[0].name}" if objects else described_type(loaded)
        raise InputError(f"{path}: holds {held}, no weights; {_FIX}.")
    return state


def _flatten(value: Any, name: str, state: dict[str, Tensor], objects: list[Inert]) -> None:
    if isinstance(value, Inert):
        objects.append(value)
    elif isinstance(value, Tensor):
        state[name or "tensor"] = value
    elif isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        state[name or "array"] = torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("=")))
    elif isinstance(value, dict):
        for key, item in value.items():
            _flatten(item, f"{name}.{key}" if name else str(key), state, objects)
    elif isinstance(value, (list, tuple)) and not all(isinstance(item, (int, float, str)) for item in value):
        for index, item in enumerate(value):
            _flatten(item, f"{name}.{index}" if name else str(index), state, objects)


def _renamed(state: State, rules: tuple[Rule, ...], source: Path | str) -> dict[str, Tensor]:
    """Rename the keys of `state` by the first rule that matches each; keys that no rule matches stay."""
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        pattern, replacement = next((rule for rule in rules if re.match(rule[0], key)), ("", ""))
        if replacement is None:
            continue
        new = re.sub(pattern, replacement, key, count=1) if pattern else key
        if new in renamed:
            raise InputError(f"{source}: holds {new} twice, once as {key}; pass the file as it was published.")
        renamed[new] = value
    return renamed
