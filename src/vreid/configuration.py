"""Frozen configurations: overrides (`--set key=value`), conversion to JSON values, and their hash.

Keys are dotted, and values are parsed as the type of the field. `vreid.formats.facts.typed` converts JSON values back.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import types
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from vreid.errors import InputError

Config = TypeVar("Config")


def with_overrides(config: Config, overrides: Mapping[str, str]) -> Config:
    """Return a copy of the dataclass `config` with some fields set from text.

    Example:
        >>> from vreid.recipes import RECIPES
        >>> config = with_overrides(RECIPES["small"](), {"optimiser.learning_rate": "0.002", "epochs": "3"})
        >>> config.optimiser.learning_rate, config.epochs
        (0.002, 3)

    Raises:
        InputError: a key is unknown (the nearest is suggested), or a value does not have the type of the field.
    """
    settings = [(key.split("."), key, text) for key, text in overrides.items()]
    made: Config = _replaced(config, settings, list(known_keys(config)))
    return made


def plain_values(config: Any) -> dict[str, Any]:
    """Convert a configuration, or a mapping of such, to JSON values: nested dictionaries, lists instead of tuples.

    Example:
        >>> from vreid.training.schedules import CosineSchedule
        >>> plain_values(CosineSchedule())["kind"]
        'cosine'
    """
    plain: dict[str, Any] = json.loads(json.dumps(config, default=asdict, allow_nan=False))
    return plain


def hash_of(plain: Any) -> str:
    """Compute 16 hexadecimal digits of the sha256 of JSON values, independent of the order of keys."""
    text = json.dumps(plain, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def known_keys(config: Any, prefix: str = "") -> Mapping[str, Any]:
    """Return every dotted key of a nested dataclass with its value.

    Example:
        >>> from vreid.training.schedules import StepSchedule
        >>> known_keys(StepSchedule())["milestones"]
        (40, 70)
    """
    found: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            found.update(known_keys(value, f"{prefix}{field.name}."))
        else:
            found[prefix + field.name] = value
    return found


def _replaced(config: Any, settings: list[tuple[list[str], str, str]], known: list[str]) -> Any:
    """Return a copy with all (path, key, text) set at once, because the checks of a dataclass may relate fields."""
    hints = get_type_hints(type(config))
    changes: dict[str, Any] = {}
    deeper: dict[str, list[tuple[list[str], str, str]]] = {}
    for (name, *rest), key, text in settings:
        if name not in hints or (rest != []) != is_dataclass(getattr(config, name)):
            # Compare with the last parts too, so that "lr" or "learning_rate" finds optimiser.learning_rate.
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
            near = near or [k for k in known if k.rpartition(".")[2] == key.rpartition(".")[2]]
            what = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}."
            raise InputError(f"There is no setting {key!r}; {what}")
        if rest:
            deeper.setdefault(name, []).append((rest, key, text))
        else:
            changes[name] = _parsed(text, hints[name], key)
    changes |= {name: _replaced(getattr(config, name), group, known) for name, group in deeper.items()}
    return replace(config, **changes)


def _parsed(text: str, hint: Any, key: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if type(None) in arguments and text.lower() in ("none", ""):
            return None
        for argument in arguments:
            if argument is not type(None):
                try:
                    return _parsed(text, argument, key)
                except InputError:
                    continue
        raise _wrong(text, key, " or ".join(_name(a) for a in arguments))
    if origin is Literal:
        if text not in arguments:
            raise _wrong(text, key, " or ".join(map(str, arguments)))
        return text
    if origin is tuple:
        items = [item.strip() for item in text.strip("()[]").split(",") if item.strip()]
        kinds = [arguments[0]] * len(items) if arguments[-1] is Ellipsis else list(arguments)
        if len(items) != len(kinds):
            raise _wrong(text, key, f"{len(kinds)} values separated by commas")
        return tuple(_parsed(item, kind, key) for item, kind in zip(items, kinds, strict=True))
    if hint is bool:
        if text.lower() not in _BOOLEANS:
            raise _wrong(text, key, "true or false")
        return _BOOLEANS[text.lower()]
    try:
        value = hint(text)
    except (TypeError, ValueError) as error:
        raise _wrong(text, key, _name(hint)) from error
    if value != value:  # NaN
        raise _wrong(text, key, _name(hint))
    return value


_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def _name(hint: Any) -> str:
    named: str = {int: "a whole number", float: "a number", str: "text", type(None): "none"}.get(hint, str(hint))
    return named


def _wrong(text: str, key: str, expected: str) -> InputError:
    return InputError(f"{key}={text}: {text!r} is not {expected}.")
