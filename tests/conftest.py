"""Fixtures that several test files share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the simulated world `tiny`, seed 1, made once a session; treat it as read-only."""
    from vreid.simulator.write import simulate

    return simulate(tmp_path_factory.mktemp("worlds") / "tiny", preset="tiny", seed=1, workers=1).path
