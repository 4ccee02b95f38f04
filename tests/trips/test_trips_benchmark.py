"""The benchmark of trips runs at toy size."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("options", "said"),
    [(("--tracklets", "200", "400"), "exponent of time"), (("--cuts", "400"), "candidates")],
)
def test_the_benchmark_runs(options: tuple[str, ...], said: str) -> None:
    ended = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "trips.py", *options, "--dimensions", "16"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert said in ended.stdout
