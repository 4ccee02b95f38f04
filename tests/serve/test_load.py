"""The benchmark of the service at toy size: it runs, and no request fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "serve.py"


def test_the_service_answers_many_clients_beside_a_writing_ingest() -> None:
    toy = ["--tracklets", "300", "--clients", "4", "--minutes", "0.04", "--pause", "0"]
    done = subprocess.run([sys.executable, str(SCRIPT), *toy], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "errors 0, tracklets added meanwhile" in done.stdout
