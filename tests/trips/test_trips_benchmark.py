"""The benchmark of trips runs at toy size."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_benchmark_runs() -> None:
    ended = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "trips.py", "--tracklets", "200", "400", "--dimensions", "16"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert "exponent of time" in ended.stdout
