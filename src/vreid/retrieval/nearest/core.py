"""The compiled core of retrieval: optional, the same results, several times faster."""

from __future__ import annotations

import importlib
import os
from functools import cache
from types import ModuleType
from typing import Any

REVISION = 2
"""Version of the functions that Python calls; a core of another version is not used."""


@cache
def compiled_core() -> ModuleType | None:
    """The compiled core, or None where it was not built, or was built from other sources than these."""
    try:
        compiled = importlib.import_module("vreid.retrieval.nearest._core")
    except ImportError:
        return None
    return compiled if getattr(compiled, "revision", None) == REVISION else None


def has_matrix_units() -> bool:
    """Whether the core can use bfloat16 matrix units (Intel AMX) of this processor."""
    compiled = compiled_core()
    return compiled is not None and bool(compiled.information()["matrix_units"])


def num_threads() -> int:
    """How many threads the core uses: OMP_NUM_THREADS, else every processor this program may run on."""
    wish = os.environ.get("OMP_NUM_THREADS", "")
    if wish.isdigit() and int(wish) > 0:
        return int(wish)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def core_info() -> dict[str, Any]:
    """What is active: `compiled` (bool) and, if so, `instructions`, `matrix_units` and `compiler`.

    Example:
        >>> sorted(core_info())[0] in ("compiled", "compiler")
        True
    """
    compiled = compiled_core()
    return {"compiled": compiled is not None} | (compiled.information() if compiled else {})
