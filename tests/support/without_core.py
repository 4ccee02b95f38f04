"""Retrieval in numpy alone, where the compiled core is there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from vreid.retrieval.nearest import compiled_core


@contextmanager
def without_core() -> Iterator[None]:
    """Inside, the core is not used, as one that was built from other sources."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[compiled_core.__module__], "REVISION", -1)
        compiled_core.cache_clear()
        yield
    compiled_core.cache_clear()
