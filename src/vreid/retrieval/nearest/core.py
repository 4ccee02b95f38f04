"""The optional compiled core of retrieval: equal results, several times faster."""

from __future__ import annotations

import importlib
import os
from functools import cache
from types import ModuleType
from typing import Any

REVISION = 2
"""Version of the core's interface; a core of another version is not used."""


@cache
def compiled_core() -> ModuleType | None:
    """Return the compiled core; None if it is not built or was built from another version."""
    try:
        compiled = importlib.import_module("vreid.retrieval.nearest._core")
    except ImportError:
        return None
    return compiled if getattr(compiled, "revision", None) == REVISION else None


def has_matrix_units() -> bool:
    """Whether the core can use the processor's bfloat16 matrix units (Intel AMX)."""
    compiled = compiled_core()
    return compiled is not None and bool(compiled.information()["matrix_units"])


def num_threads() -> int:
    """Return the number of threads of the core: OMP_NUM_THREADS, else all processors available to this process."""
    wish = os.environ.get("OMP_NUM_THREADS", "")
    if wish.isdigit() and int(wish) > 0:
        return int(wish)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def core_info() -> dict[str, Any]:
    """Describe the core: `compiled` (bool) and, if it is, `instructions`, `matrix_units` and `compiler`.

    Example:
        >>> sorted(core_info())[0] in ("compiled", "compiler")
        True
    """
    compiled = compiled_core()
    return {"compiled": compiled is not None} | (compiled.information() if compiled else {})
