"""The benchmark for a GPU runs at toy size on the CPU, so that it works on the day on which there is a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "gpu.py"


def test_every_section_runs_at_toy_size(tmp_path: Path) -> None:
    out = tmp_path / "toy.json"
    ended = subprocess.run(
        [sys.executable, SCRIPT, "--toy", "--out", out],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(out.read_text())
    assert found["toy"] and {"vreid", "torch", "cuda", "python", "numpy"} <= found["machine"].keys()
    assert found["sections"].pop("tests")["skipped"] == "no GPU"
    assert len(found["sections"]) == 7
    assert not [name for name, figures in found["sections"].items() if "skipped" in figures]
    for name in ("training resnet50_ibn_a", "training transreid"):
        assert found["sections"][name]["images/s with loader"] > 0
        assert found["sections"][name]["share of the bare product"] > 0
    assert found["sections"]["search"]["neighbours equal to the CPU's"]


def test_the_tests_that_it_runs_are_there() -> None:
    named = SCRIPT.read_text().partition("TESTS = (")[2].partition(")")[0]
    assert [(ROOT / name.strip(" '\"")).is_file() for name in named.split(",")] == [True, True]
