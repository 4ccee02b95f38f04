"""Fixtures that several test files share."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import settings

from support.command_line import SMALLEST, Outcome, Run

if TYPE_CHECKING:
    from support.pretend_gpu import PretendGpu, RealGpu

settings.register_profile("untimed", deadline=None)  # no test depends on how busy the computer is
settings.load_profile("untimed")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Type a `vreid` line; a mistake of vreid's own shows its traceback."""
    from vreid.cli import main

    def typed(line: str) -> Outcome:
        monkeypatch.setenv("VREID_TRACEBACK", "1")
        monkeypatch.setattr(sys, "argv", ["vreid", *shlex.split(line)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        return Outcome(int(stopped.value.code or 0), captured.out, captured.err)

    return typed


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Threads that wait for each other on a shared machine make tiny networks a hundred times slower."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["pretended", pytest.param("cuda", marks=pytest.mark.gpu)])
def gpu(request: pytest.FixtureRequest) -> Iterator[PretendGpu | RealGpu]:
    """The pretended GPU and, where there is one, the GPU."""
    import torch

    from support.pretend_gpu import PretendGpu, RealGpu

    if request.param == "pretended":
        with PretendGpu() as pretended:
            yield pretended
    elif torch.cuda.is_available():
        yield RealGpu()
    else:
        pytest.skip("torch finds no GPU on this machine")


@pytest.fixture
def pretended() -> Iterator[PretendGpu]:
    """The pretended GPU alone, for tests of what it counts or refuses."""
    from support.pretend_gpu import PretendGpu

    with PretendGpu() as gpu:
        yield gpu


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the simulated world `tiny`, seed 1, made once a session; treat it as read-only."""
    from vreid.simulator import simulate

    return simulate(tmp_path_factory.mktemp("worlds") / "tiny", preset="tiny", seed=1, workers=1).path


@pytest.fixture(scope="session")
def trips_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a simulated hour of traffic `tiny`, seed 1 (four cameras), made once; treat it as read-only."""
    from vreid.simulator import simulate

    folder = tmp_path_factory.mktemp("worlds") / "trips"
    return simulate(folder, preset="tiny", layout="trips", seed=1, workers=1).path


@pytest.fixture(scope="session")
def videos_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of simulated videos `tiny`, seed 1 (three cameras), made once a session; treat it as read-only."""
    pytest.importorskip("av")
    from vreid.simulator import simulate

    folder = tmp_path_factory.mktemp("worlds") / "videos"
    return simulate(folder, preset="tiny", layout="videos", seed=1, workers=1).path


@pytest.fixture(scope="session")
def made(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained `run` and extracted `features`, made by the command line; treat it as read-only."""
    folder = tmp_path_factory.mktemp("made")
    for line in (
        f"train small --data {tiny_world} --out {folder}/run {SMALLEST} --json",
        f"extract {folder}/run {tiny_world} --out {folder}/features --json",
    ):
        result = subprocess.run([sys.executable, "-m", "vreid", *shlex.split(line)], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        json.loads(result.stdout)
    return folder


@pytest.fixture
def sketch(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stand-ins for the renderer that draw noise: `refuse` tells which shots they refuse, `shots` counts them."""
    from vreid.simulator import filming
    from vreid.simulator.render.scene import Shot
    from vreid.simulator.render.synthetic import SyntheticShot

    state = SimpleNamespace(shots=0, cuts=[], refuse=lambda camera, target, others, rng: False)

    class View:
        def __init__(self, camera) -> None:
            self.camera = camera

        def shoot(self, target, others, rng, *, longest_side, cut, background):
            state.shots += 1
            state.cuts.append(cut)
            if state.refuse(self.camera, target, others, rng):
                return None
            image = rng.integers(0, 256, (48, longest_side, 3), dtype=np.uint8)
            tight = (1.0, 1.0, 60.0, 40.0)
            return Shot(image, (0.0, 0.0, 64.0, 48.0), tight, tight, 1.0, "none", 359.96)

    def shoot_synthetic(vehicle, rng, *, longest_side, background):
        image = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        return SyntheticShot(image, 359.97, 1.5, 90.0, 5.0, 12.0, (8, 8, 56, 40))

    vehicle = SimpleNamespace(size=(4.5, 1.8, 1.5))
    monkeypatch.setattr(filming, "CameraView", View)
    monkeypatch.setattr(filming, "shoot_synthetic", shoot_synthetic)
    monkeypatch.setattr(filming, "build_vehicle", lambda spec, *, plate: vehicle)
    return state
