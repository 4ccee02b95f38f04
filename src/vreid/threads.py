"""How OpenMP threads wait for each other; to be set before torch, which reads it once, is imported."""

from __future__ import annotations

import os

WAIT_POLICY = "OMP_WAIT_POLICY"
WAITING = (WAIT_POLICY, "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
"""Environment variables with which users choose how threads wait; where one is set, it stays in force."""


def wait_passively() -> None:
    """Let OpenMP threads sleep while they wait, unless the user has chosen otherwise.

    By default they spin for milliseconds. On a machine that is shared, a spinning thread takes the core from the one
    that it waits for: training with two threads beside busy neighbours took 4 to 7 times longer
    (docs/results/performance.md).
    """
    if not any(name in os.environ for name in WAITING):
        os.environ[WAIT_POLICY] = "PASSIVE"


def describe_threads() -> str:
    """Number of OpenMP threads and how they wait, as the environment says it."""
    count = os.environ.get("OMP_NUM_THREADS", "one a core (OMP_NUM_THREADS is not set)")
    waiting = ", ".join(f"{name}={os.environ[name]}" for name in WAITING if name in os.environ)
    return f"{count}; waiting: {waiting or 'spinning, as OpenMP does by default'}"
