"""A short form of each campaign of `make soak`; see soak/ and docs/guides/reliability.md."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("soak")


def test_the_search_service_answers_odd_requests(place: Path) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("av")
    ended = subprocess.run(
        [sys.executable, "-m", "soak.service", "--requests", "300", "--folder", str(place / "service")],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "300 drawn; 0 problems" in ended.stdout


@pytest.mark.parametrize(
    ("campaign", "rounds", "done"),
    [
        ("kills", 2, "2 jobs resumed"),
        ("disks", 2, "2 jobs resumed"),
        ("damage", 4, "4 damaged files"),
        ("fuzz", 5, "1,000 inputs"),
        ("stores", 1, "3 kills of a store's writer"),
    ],
)
def test_a_short_campaign_finds_nothing(campaign: str, rounds: int, done: str, place: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "soak", campaign, "--rounds", str(rounds), "--folder", str(place)],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.search(rf"^{campaign}: .*{done}.*; 0 problems; {rounds} rounds", ended.stdout, re.MULTILINE)
