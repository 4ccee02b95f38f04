"""What a `vreid` line typed by a test returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Outcome(NamedTuple):
    """How a `vreid` line ended."""

    code: int
    out: str
    err: str


Run = Callable[[str], Outcome]

SMALLEST = "--set epochs=1 --set num_identities=4 --set transform.height=32 --set transform.width=32"
