"""OpenMP wait policy; must be set before torch is imported, which reads it once."""

from __future__ import annotations

import os

WAIT_POLICY = "OMP_WAIT_POLICY"
WAITING = (WAIT_POLICY, "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
"""Environment variables of the wait policy; values set by the user are kept."""


def wait_passively() -> None:
    """Make OpenMP threads sleep while they wait, unless the user has set a policy.

    By default they spin for milliseconds. On a shared machine, a spinning thread occupies the core of the thread it
    waits for: training with two threads beside other busy processes took 4 to 7 times longer
    (docs/results/performance.md).
    """
    if not any(name in os.environ for name in WAITING):
        os.environ[WAIT_POLICY] = "PASSIVE"


def describe_threads() -> str:
    """Describe the number of OpenMP threads and their wait policy, from the environment."""
    count = os.environ.get("OMP_NUM_THREADS", "one per core (OMP_NUM_THREADS is not set)")
    waiting = ", ".join(f"{name}={os.environ[name]}" for name in WAITING if name in os.environ)
    return f"{count}; waiting: {waiting or 'spinning (OpenMP default)'}"
