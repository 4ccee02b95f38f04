"""The benchmark runs at toy size."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_benchmark_runs(tmp_path: Path) -> None:
    options = ["--rows", "1100", "--dimensions", "16", "--repeats", "3"]
    ended = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "store.py", *options, "--folder", tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert "sqlite       search, 0.4 %" in ended.stdout
