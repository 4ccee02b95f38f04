"""OpenMP threads wait passively unless the user says otherwise; set before torch is loaded, shown by `vreid info`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vreid.threads import WAITING, describe_threads, wait_passively

ROOT = Path(__file__).parents[1]


def shown(**settings: str) -> subprocess.CompletedProcess[str]:
    """Output of `vreid info --full`; on standard error the settings that libgomp obeys."""
    environment = {name: value for name, value in os.environ.items() if name not in WAITING}
    return subprocess.run(
        [sys.executable, "-m", "vreid", "info", "--full"],
        env={**environment, "PYTHONPATH": str(ROOT / "src"), "OMP_DISPLAY_ENV": "verbose", **settings},
        capture_output=True,
        text=True,
        check=True,
    )


def test_threads_wait_passively_by_default() -> None:
    result = shown()
    assert "OMP_WAIT_POLICY=PASSIVE" in result.stdout
    if "OPENMP DISPLAY ENVIRONMENT BEGIN" not in result.stderr:
        pytest.skip("this torch is built without an OpenMP library that shows its settings")
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in result.stderr  # torch has read it


@pytest.mark.parametrize(("name", "value"), [("OMP_WAIT_POLICY", "active"), ("GOMP_SPINCOUNT", "5000")])
def test_settings_of_the_user_stay_in_force(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    for other in WAITING:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    wait_passively()
    assert {other: os.environ.get(other) for other in WAITING if other in os.environ} == {name: value}
    assert describe_threads() == f"3; waiting: {name}={value}"


def test_info_does_not_import_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv = ['vreid', 'info', '--json']\n"
        "from vreid.cli import main; main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert '"torch": "' in result.stdout and '"threads": "' in result.stdout and '"device"' not in result.stdout
