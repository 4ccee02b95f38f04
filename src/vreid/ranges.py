"""Ranges of settings: declared on the fields of a dataclass, checked in one place, reported in one form."""

from __future__ import annotations

import math
import types
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache
from numbers import Integral, Real
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from vreid.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """Allowed values of a number; NaN and infinity are never allowed.

    Attributes:
        least, most: smallest and largest allowed number.
        above, below: bounds that are not allowed themselves.
        whole: only integers.
        ascending: the numbers of a tuple must not decrease.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    whole: bool = False
    ascending: bool = False

    def __contains__(self, number: object) -> bool:
        if not isinstance(number, Integral if self.whole else Real) or not math.isfinite(number):
            return False
        value: Any = number
        return (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        if self.least is not None and self.most is not None:
            return f"{kind} from {self.least:,} to {self.most:,}"
        named = {"of at least": self.least, "above": self.above, "of at most": self.most, "below": self.below}
        given = " and ".join(f"{word} {bound:,}" for word, bound in named.items() if bound is not None)
        return f"{kind} {given}" if given else f"{kind} that is finite"


def in_range(default: T, **limits: Any) -> T:
    """Return the dataclass field of a number, or of a tuple of numbers, with its default and its allowed range.

    Args:
        default: default value of the field.
        limits: see `Range`; `whole` is set from the type of the field.

    Example:
        >>> @dataclass(frozen=True)
        ... class Whitening:
        ...     ridge: float = in_range(0.18, above=0)
        ...     def __post_init__(self) -> None:
        ...         check_settings(self, "whitening.")
        >>> Whitening(ridge=0)
        Traceback (most recent call last):
        vreid.errors.InputError: whitening.ridge is 0; give a number above 0.
    """
    made: T = field(default=default, metadata=bounds(**limits))
    return made


def bounds(**limits: Any) -> dict[str, Range]:
    """Return the metadata of a dataclass field without a default: `count: int = field(metadata=bounds(least=1))`.

    Args:
        limits: see `Range`; `whole` follows from the field's type.
    """
    return {"range": Range(**limits)}


def check_settings(settings: Any, prefix: str = "") -> None:
    """Check the `Literal` and `in_range` fields of a dataclass, including nested dataclasses.

    Args:
        settings: usually `self` in `__post_init__`; None is accepted if the type of a field allows it.
        prefix: prefix of the names in messages, such as "pseudo.".

    Raises:
        InputError: a value is not one of its literals, or is out of range.
    """
    for name, words, allowed, optional in _rules(settings.__class__):
        value, key = getattr(settings, name), prefix + name
        if is_dataclass(value):
            check_settings(value, f"{key}.")
        if value is None and optional:
            continue
        values = value if isinstance(value, tuple) else (value,)
        for word in values:
            if words and word not in words:
                raise InputError(f"{key} is {word!r}; use one of {', '.join(map(str, words))}.")
        if allowed is None:
            continue
        for number in values:
            _check(key, number, allowed)
        if allowed.ascending and list(values) != sorted(values):
            raise InputError(f"{key} is {value}; give the smaller number first.")


def check_number(name: str, number: object, **limits: Any) -> None:
    """Check a number that is not a field of a dataclass.

    Args:
        name: name of the number in messages.
        number: the number.
        limits: see `Range`.

    Raises:
        InputError: the number is out of range.

    Example:
        >>> check_number("rank: top_k", 2.5, least=1, whole=True)
        Traceback (most recent call last):
        vreid.errors.InputError: rank: top_k is 2.5; give a whole number of at least 1.
    """
    _check(name, number, Range(**limits))


def _check(name: str, number: object, allowed: Range) -> None:
    if number not in allowed:
        raise InputError(f"{name} is {number!s}; give {allowed}.")


@cache
def _rules(kind: type) -> list[tuple[str, tuple[Any, ...], Range | None, bool]]:
    """Return name, literals, range and whether None is allowed, for each field of a dataclass."""
    hints, found = get_type_hints(kind), []
    for one in fields(kind):
        leaves = set(_leaves(hints[one.name]))
        optional = type(None) in leaves
        words = leaves - {type(None), Ellipsis}
        known = tuple(dict.fromkeys(word for leaf in _leaves(hints[one.name]) for word in get_args(leaf)))
        allowed = one.metadata.get("range")
        if allowed and int in leaves and float not in leaves:
            allowed = replace(allowed, whole=True)
        literal = all(get_origin(leaf) is Literal for leaf in words)
        found.append((one.name, known if literal else (), allowed, optional))
    return found


def _leaves(hint: Any) -> Iterator[Any]:
    """Yield the member types of a union or tuple."""
    if get_origin(hint) in (Union, types.UnionType, tuple):
        for argument in get_args(hint):
            yield from _leaves(argument)
    else:
        yield hint
