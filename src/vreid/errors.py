"""The one exception that means "your input is wrong", with a sentence fit to be shown as it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


class InputError(ValueError):
    """Wrong input, told in one sentence that names the file, the row and the mend (command line: exit code 2)."""


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Return the known name that an unknown one probably means: the first that it begins, else the most alike.

    Example:
        >>> nearest_name("resn", ["densenet", "resnet18", "resnet50"]), nearest_name("rexnet50", ["vgg", "resnet50"])
        ('resnet18', 'resnet50')
    """
    import difflib

    names = list(known)
    begun = [other for other in names if other.startswith(name)]
    return (begun or difflib.get_close_matches(name, names, n=1, cutoff=0.0))[0]


def named(what: str, table: Mapping[str, T], name: str) -> T:
    """Return `table[name]`; `what` says in a word what the table lists.

    Raises:
        InputError: there is none; the sentence names the nearest and all that are known.
    """
    if name in table:
        return table[name]
    near = nearest_name(name, table)
    raise InputError(f"There is no {what} {name!r}; did you mean {near!r}? Known: {', '.join(table)}.")
