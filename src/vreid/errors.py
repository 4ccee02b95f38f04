"""The `InputError` exception for wrong user input, and helpers for its messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


class InputError(ValueError):
    """Wrong input; the message is one sentence with file, row and fix (command line: exit code 2)."""


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Suggest a known name for a misspelt one: the first that starts with it, else the most similar.

    Example:
        >>> nearest_name("resn", ["densenet", "resnet18", "resnet50"]), nearest_name("rexnet50", ["vgg", "resnet50"])
        ('resnet18', 'resnet50')
    """
    import difflib

    names = list(known)
    begun = [other for other in names if other.startswith(name)]
    return (begun or difflib.get_close_matches(name, names, n=1, cutoff=0.0))[0]


def named(what: str, table: Mapping[str, T], name: str) -> T:
    """Look up `table[name]`; `what` is a noun for the entries, used in the message.

    Raises:
        InputError: unknown name; the message suggests the nearest and lists all.
    """
    if name in table:
        return table[name]
    near = nearest_name(name, table)
    raise InputError(f"There is no {what} {name!r}; did you mean {near!r}? Known: {', '.join(table)}.")
