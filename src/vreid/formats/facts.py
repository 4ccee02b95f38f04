"""Validate JSON values against dataclasses and types."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from vreid.errors import InputError

T = TypeVar("T")

_LARGEST = 2**63
_WORDS: Mapping[Any, str] = {
    int: "a whole number below 2^63",
    float: "a finite number",
    str: "text",
    bool: "true or false",
    NoneType: "null",
}


def typed(kind: type[T], value: Any, name: str) -> T:
    """Convert a JSON value to the type `kind`: a dataclass, a number, text, or tuples, lists and mappings of these.

    Text is never converted to numbers, or fractions to integers; missing fields of a dataclass take their defaults.

    Args:
        kind: the type, with its parameters.
        value: the value from `json.loads`.
        name: name of the value in messages.

    Raises:
        InputError: the value, or a part of it, has another type; the message names the part and the expected type.

    Example:
        >>> typed(tuple[int, ...], [1, 2], "sizes")     # doctest: +SKIP
        (1, 2)
    """
    made: T = _typed(kind, value, name)
    return made


def fact(facts: Mapping[str, Any], name: str, kind: type[T], default: Any = MISSING) -> T:
    """Return the entry `name` of a file's metadata as a `kind` (see `typed`).

    Raises:
        KeyError: the entry is missing and there is no default.
        InputError: the entry has another type.
    """
    if name not in facts and default is not MISSING:
        made: T = default
        return made
    return typed(kind, facts[name], name)


def _typed(kind: Any, value: Any, name: str) -> Any:
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is Literal:
        if type(value) is str and value in parts:
            return value
        raise _wrong(name, value, f"one of {', '.join(map(str, parts))}")
    if origin in (Union, UnionType):
        for part in parts:
            try:
                return _typed(part, value, name)
            except InputError as error:
                wrong = error
        raise wrong
    if is_dataclass(kind):
        return _dataclass(kind, value, name)
    if origin in (tuple, list):
        if not isinstance(value, (list, tuple)):
            raise _wrong(name, value, "a list")
        if origin is tuple and parts[-1:] != (Ellipsis,):
            if len(value) != len(parts):
                raise _wrong(name, value, f"a list of {len(parts)} values")
            return tuple(
                _typed(part, item, f"{name}[{at}]") for at, (part, item) in enumerate(zip(parts, value, strict=True))
            )
        return origin(_typed(parts[0], item, f"{name}[{at}]") for at, item in enumerate(value))
    if kind in (dict, Mapping) or (origin is not None and issubclass(origin, Mapping)):
        if not isinstance(value, dict):
            raise _wrong(name, value, "an object")
        inner = parts[1] if len(parts) == 2 else Any
        return {str(key): _typed(inner, item, f"{name}.{str(key)[:40]}") for key, item in value.items()}
    if kind is float and type(value) is int and abs(value) < _LARGEST:
        return float(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise _wrong(name, value, _WORDS.get(kind, kind.__name__))
    if kind is int and abs(value) >= _LARGEST:
        raise _wrong(name, value, _WORDS[int])
    return value


def _dataclass(kind: Any, value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(name, value, "an object")
    known = {one.name: one for one in fields(kind) if one.init}
    for key in value:
        if key not in known:
            raise InputError(
                f"{name} has a field {key[:40]!r}, which this version of vreid does not know; make it again."
            )
    for key, one in known.items():
        if key not in value and one.default is MISSING and one.default_factory is MISSING:
            raise InputError(f"{name} has no {key}; make it again.")
    hints = _hints(kind)
    return kind(**{key: _typed(hints[key], item, f"{name}.{key}") for key, item in value.items()})


@cache
def _hints(kind: Any) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _wrong(name: str, value: Any, wanted: str) -> InputError:
    try:
        text = repr(value)
    except ValueError:  # an integer with more digits than Python formats
        text = "a number of thousands of digits"
    return InputError(
        f"{name} is {text if len(text) <= 40 else text[:37] + '...'}; it must be {wanted}; make it again."
    )
