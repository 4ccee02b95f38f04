"""Weights that others wrote: one explicit map from their keys to ours for each family, and nothing lost in silence.

A rule is a regular expression that must match a key from its start, and what to put in place of the match; None leaves
the tensor out. Only classifiers (of identities, attributes, ImageNet's classes) are ever left out. Files of ImageNet
weights fit the trunks but for the rules that a trunk brings along as `published_keys`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vreid.errors import InputError
from vreid.files import reading
from vreid.models.published import located
from vreid.models.weights import load_strict, load_weights

Rule = tuple[str, str | None]
State = Mapping[str, Tensor]

_TOP: tuple[Rule, ...] = ((r"(fc|classifier)\.(weight|bias)$", None),)
"""The classifier of a published trunk. Not `se.fc.`, and not torchreid's `fc.0.`, which is an embedding."""
_OWN_HEADS = r"(classifier|local_classifiers\.\d+|heads\.\w+)\.(weight|bias)$"


class Family(NamedTuple):
    """A way of naming the tensors of a whole model.

    Attributes:
        name: in a sentence, "... checkpoint".
        sign: regular expression; one key that it matches from its start tells the family.
        rules: from their keys to those of a `ReidModel`, given their state.
    """

    name: str
    sign: str
    rules: Callable[[State], tuple[Rule, ...]]


def _fastreid(state: State) -> tuple[Rule, ...]:
    # Its trunk is called backbone too. Its stem pools with other borders, so the weights are a start, not the model.
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
        # b1 and b2 stand in for the last block and the norm of `base`, which are there but play no part.
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
    Family("a fast-reid checkpoint", r"heads\.(bottleneck\.|pool_layer\.|weight$)", _fastreid),
    Family("a TransReID or DMT checkpoint", r"base\.", _transreid),
    Family("a model of vreid", r"backbone\.", lambda state: ((_OWN_HEADS, None),)),
)
"""Whole models; what shows no sign of these is a trunk: published ImageNet weights, or a torchreid checkpoint."""


def load_pretrained(model: nn.Module, weights: Path | str, backbone: str = "") -> None:
    """Start `model` (a `ReidModel`) from a file: one of our models, somebody else's, or published ImageNet weights.

    Args:
        model: keeps its own classifiers; from a file that holds only a trunk also its own neck and pooling.
        weights: a file (.pth, .pth.tar, .safetensors), the name of a published one that `vreid weights get` fetched,
            "simulated" for the weights that are shipped for `backbone`, or "imagenet" (see `vreid.models.published`).
        backbone: its name, needed for "simulated" and "imagenet" alone.

    Raises:
        InputError: the file is not there, cannot be read or does not fit (every missing and unexpected key is told).
    """
    path = located(weights, backbone)
    load_state(model, read_state(path), path)


def load_state(model: nn.Module, state: State, source: Path | str) -> None:
    """Load a state of any known family strictly; see `load_pretrained`.

    Raises:
        InputError: it does not fit.
    """
    trunk: Any = model.get_submodule("backbone")
    own_rules = tuple(getattr(trunk, "published_keys", ()))
    family = next((one for one in FAMILIES if any(re.match(one.sign, key) for key in state)), None)
    if family is None:
        adapt = getattr(trunk, "adapt_state", dict)
        load_strict(trunk, adapt(_renamed(state, (*own_rules, *_TOP), source)), source)
        return
    whole = _renamed(state, family.rules(state), source)
    if family is not FAMILIES[-1]:
        inner = {key.removeprefix("backbone."): value for key, value in whole.items() if key.startswith("backbone.")}
        outer = {key: value for key, value in whole.items() if not key.startswith("backbone.")}
        whole = outer | {f"backbone.{key}": value for key, value in _renamed(inner, own_rules, source).items()}
    heads = {key: value for key, value in model.state_dict().items() if re.match(_OWN_HEADS, key)}
    load_strict(model, {**whole, **heads}, f"{source} ({family.name})")


def read_state(path: Path | str) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors file or of a pickled state dict, bare or under `state_dict` or `model`.

    A prefix `module.` that all keys have is taken off. Pickles are read without running code that they bring along.

    Raises:
        InputError: absent, damaged, or something else than weights.
    """
    state = load_weights(path)[0] if Path(path).suffix == ".safetensors" else _read_pickle(path)
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return state


def _renamed(state: State, rules: tuple[Rule, ...], source: Path | str) -> dict[str, Tensor]:
    """`state` under other names; the first rule that matches a key is applied, one that none matches stays."""
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        pattern, replacement = next((rule for rule in rules if re.match(rule[0], key)), ("", ""))
        if replacement is None:
            continue
        new = re.sub(pattern, replacement, key, count=1) if pattern else key
        if new in renamed:
            raise InputError(f"{source}: holds {new} twice, once as {key}; give the file as it was published.")
        renamed[new] = value
    return renamed


def _read_pickle(path: Path | str) -> dict[str, Tensor]:
    try:
        with reading(path), warnings.catch_warnings(action="ignore"):  # about old pickles
            loaded = torch.load(path, map_location="cpu", weights_only=True)  # never runs code that a file brings along
    except InputError:
        raise
    except Exception as error:  # the unpickler raises nearly everything on damaged files
        reason = (str(error) or "it ends too early").splitlines()[0]
        raise InputError(f"{path}: is not a file of weights ({reason}); get it again.") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise InputError(f"{path}: holds no state dict of tensors; give the published file of weights.")
    return loaded
