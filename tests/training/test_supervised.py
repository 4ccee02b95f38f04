"""The training loop: it learns, survives kill -9 to the last bit, refuses what does not fit, and says what it saw."""

from __future__ import annotations

import json
import os
import pickle
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from support.listeners import Notes
from vreid.configuration import plain_values
from vreid.data.augment import TrainTransform
from vreid.data.dataset import fingerprint
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.files import read_json
from vreid.models import ModelConfig, build, load_weights, save_weights
from vreid.progress import Progress
from vreid.training.optimiser import OptimiserConfig
from vreid.training.run_folder import RunFolder
from vreid.training.schedules import CosineSchedule, StepSchedule
from vreid.training.supervised import train
from vreid.training.train_config import TrainConfig

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """8 identities x 4 noisy images of two colours each, one junk and one unknown."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    paths, identities = [], []
    for identity in range(8):
        top, bottom = rng.integers(0, 256, (2, 3))
        for shot in range(4):
            picture = np.empty((32, 32, 3))
            picture[:16], picture[16:] = top, bottom
            picture = np.clip(picture + rng.normal(0, 20, picture.shape), 0, 255).astype(np.uint8)
            paths.append(folder / f"{identity}_{shot}.png")
            identities.append(f"v{identity}")
            Image.fromarray(picture).save(paths[-1])
    return Records.of(path=[*paths, paths[0], paths[1]], image_key=range(34), identity=[*identities, "junk", ""])


TINY = TrainConfig(
    recipe="tiny",
    model=ModelConfig(backbone="resnet10_ibn_a_tiny"),
    num_identities=4,
    num_instances=2,
    epochs=3,
    transform=TrainTransform(height=32, width=32, pad=2),
    optimiser=OptimiserConfig(kind="adamw", learning_rate=3e-3, bias_factor=1.0, classifier_factor=1.0),
    schedule=CosineSchedule(warmup_epochs=0.5),
    precision="float32",
)


@pytest.fixture
def tiny() -> TrainConfig:
    return TINY


def weights(model: Path) -> dict[str, torch.Tensor]:
    return load_file(model)


def assert_bit_equal(left: Path, right: Path) -> None:
    a, b = weights(left), weights(right)
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_loss_falls_by_ninety_percent_on_sixteen_images(
    records: Records, tiny: TrainConfig, tmp_path: Path, optimiser: str
) -> None:
    sgd = OptimiserConfig(learning_rate=0.05)
    config = replace(
        tiny,
        epochs=80,
        num_identities=4,
        num_instances=4,
        transform=TrainTransform(height=32, width=32, pad=0, flip=0.0, erase=0.0),
        optimiser=tiny.optimiser if optimiser == "adamw" else sgd,
        schedule=StepSchedule(milestones=(70,), warmup_epochs=4),
    )
    sixteen = records[:16]
    train(config, sixteen, out=tmp_path / "run", log_steps=1)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["event"] == "step"]
    assert np.mean(losses[-3:]) < 0.1 * losses[0]
    last = lines[-1]
    assert last["loss"] == pytest.approx(last["identity"] + last["triplet"], rel=1e-5)


def test_a_run_folder_records_the_run(records: Records, tiny: TrainConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    seen: list[str] = []

    class Listener(Progress):
        def start(self, title: str, total: int, done: int = 0) -> None:
            seen.append(f"start {title} {total} {done}")

        def advance(self, steps: int, text: str = "") -> None:
            seen.append(f"advance {steps} {text}")

        def note(self, text: str) -> None:
            seen.append(text)

    config = replace(tiny, epochs=4)
    model = train(config, records, out=run, log_steps=2, progress=Listener())
    assert model == run / "model.safetensors"
    assert read_json(run / "config.json") == plain_values(config)
    assert read_json(run / "data.json") == {
        "fingerprint": fingerprint(records[:32]),
        "images": 32,
        "identities": 8,
    }
    environment = read_json(run / "environment.json")
    assert environment["torch"] == torch.__version__ and environment["precision"] == "float32"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if line["event"] == "epoch"]
    steps = [line for line in lines if line["event"] == "step"]
    assert [line["epoch"] for line in epochs] == [1, 2, 3, 4]
    assert sum(int(text.split()[1]) for text in seen if text.startswith("advance")) == epochs[-1]["step"]
    assert all(re.search(r"epoch \d/4, loss \S+, \d+ img/s$", text) for text in seen if "advance" in text)
    assert {"loss", "identity", "triplet", "learning_rate", "images_per_second", "seconds"} <= steps[0].keys()
    assert len(list((run / "checkpoints").iterdir())) == 2
    assert seen[0] == f"start train tiny {4 * epochs[0]['step']} 0"
    assert sum(text.startswith("about ") and "4 epochs of" in text for text in seen) == 1
    state, facts = load_weights(model)
    assert facts["model"]["backbone"] == "resnet10_ibn_a_tiny" and facts["transform"]["height"] == 32
    assert state["classifier.weight"].shape == (8, 64)
    assert bool((state["neck.bias"] == 0).all())


def test_the_same_seed_gives_identical_weights_for_any_number_of_workers(
    records: Records, tiny: TrainConfig, tmp_path: Path
) -> None:
    config = replace(tiny, epochs=2)
    first = train(config, records, out=tmp_path / "a", workers=0)
    assert_bit_equal(first, train(config, records, out=tmp_path / "b", workers=2))
    other = weights(train(replace(config, seed=5), records, out=tmp_path / "c"))
    assert not torch.equal(other["classifier.weight"], weights(first)["classifier.weight"])


KILLED = """
import pickle, sys
from pathlib import Path
from types import SimpleNamespace
from vreid.training.supervised import train
config, records = pickle.loads(Path(sys.argv[1]).read_bytes())
train(config, records, out=sys.argv[2], resume=True, checkpoint_steps=3, log_steps=1)
"""


@pytest.mark.parametrize(("kind", "precision", "kills"), [("adamw", "float32", 2), ("sgd", "bfloat16", 1)])
def test_a_killed_run_resumes_to_identical_weights(
    records: Records, tiny: TrainConfig, tmp_path: Path, kind: str, precision: str, kills: int
) -> None:
    """Subprocesses are killed, each after a random number of metric lines; then the run is resumed here."""
    optimiser = tiny.optimiser if kind == "adamw" else OptimiserConfig(learning_rate=0.02)
    config = replace(tiny, epochs=8, optimiser=optimiser, precision=precision, clip_norm=1.0)  # type: ignore[arg-type]
    whole = train(config, records, out=tmp_path / "whole", log_steps=1)
    job, run = tmp_path / "job", tmp_path / "run"
    job.write_bytes(pickle.dumps((config, records)))
    metrics = run / "metrics.jsonl"
    rng = random.Random(f"{kind} {precision}")
    for _ in range(kills):
        lines = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
        target = lines + rng.randint(2, 12)
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(job), str(run)],
            env={"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
            cwd=tmp_path,
        )
        while child.poll() is None and lines < target:
            lines = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        assert not (run / "model.safetensors").exists()
    train(config, records, out=run, resume=True, checkpoint_steps=3, log_steps=1)
    assert_bit_equal(whole, run / "model.safetensors")
    finished = [
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in (metrics, tmp_path / "whole/metrics.jsonl")
    ]
    for one, other in zip(*finished, strict=True):  # no line lost, none twice
        assert (one["event"], one["step"]) == (other["event"], other["step"])
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-6)


class Listener(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def flip_a_bit(path: Path) -> None:
    """Of a tensor: the last kilobyte of a safetensors file holds nothing else."""
    content = bytearray(path.read_bytes())
    content[-1000] ^= 4
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def become_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def become_a_folder(path: Path) -> None:
    path.unlink()
    (path / "within").mkdir(parents=True)


def become_a_socket(path: Path) -> None:
    path.unlink()
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path has 108 bytes at most
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


DAMAGES = (flip_a_bit, cut, become_a_pipe, become_a_folder, become_a_socket)


def lines_of(run: Path) -> list[tuple[object, ...]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["event"], line["step"], line["epoch"], line["loss"]) for line in lines]


@pytest.fixture(scope="module")
def finished(records: Records, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainConfig, Path]:
    run = tmp_path_factory.mktemp("finished") / "run"
    train(TINY, records, out=run, log_steps=1)
    return TINY, run


@pytest.mark.parametrize("damage", DAMAGES)
def test_resume_goes_back_one_checkpoint_when_the_last_is_damaged(
    damage: Callable[[Path], None], records: Records, finished: tuple[TrainConfig, Path], tmp_path: Path
) -> None:
    config, whole = finished
    run, listener = tmp_path / "run", Listener()
    shutil.copytree(whole, run)
    (run / "model.safetensors").unlink()
    *_, older, last = sorted((run / "checkpoints").iterdir())
    damage(last)
    train(config, records, out=run, resume=True, progress=listener, log_steps=1)
    assert_bit_equal(whole / "model.safetensors", run / "model.safetensors")
    assert lines_of(run) == lines_of(whole)
    assert listener.notes[0].startswith(f"{last}: ")
    assert listener.notes[0].endswith(f"kept as {last.name}.broken; the checkpoint before it is used.")
    assert listener.notes[1].startswith("Resumed after")
    assert {path.name for path in (run / "checkpoints").iterdir()} == {older.name, last.name, f"{last.name}.broken"}


def test_when_no_checkpoint_can_be_read_training_starts_from_the_beginning(
    records: Records, finished: tuple[TrainConfig, Path], tmp_path: Path
) -> None:
    """One whose weights alone do not fit leaves nothing behind in the optimiser either."""
    config, whole = finished
    run, listener = tmp_path / "run", Listener()
    shutil.copytree(whole, run)
    (run / "model.safetensors").unlink()
    older, last = sorted((run / "checkpoints").iterdir())
    flip_a_bit(older)
    state, facts = load_weights(last)
    state.pop(next(name for name in state if name.endswith("classifier.weight")))
    save_weights(last, state, facts)
    train(config, records, out=run, resume=True, progress=listener, log_steps=1)
    assert_bit_equal(whole / "model.safetensors", run / "model.safetensors")
    assert lines_of(run) == lines_of(whole)
    assert "No checkpoint can be read; training starts from the beginning." in listener.notes


def test_a_log_that_lost_lines_is_reported(
    records: Records, finished: tuple[TrainConfig, Path], tmp_path: Path
) -> None:
    config, whole = finished
    run, listener = tmp_path / "run", Listener()
    shutil.copytree(whole, run)
    (run / "model.safetensors").unlink()
    max((run / "checkpoints").iterdir()).unlink()
    (run / "metrics.jsonl").write_bytes((run / "metrics.jsonl").read_bytes()[:50])
    train(config, records, out=run, resume=True, progress=listener, log_steps=1)
    assert any("lines from before the checkpoint are missing" in note for note in listener.notes)
    _, *whole_lines = (run / "metrics.jsonl").read_text().splitlines()
    assert whole_lines and all(json.loads(line) for line in whole_lines)


@pytest.mark.parametrize("name", ["metrics.jsonl", "model.safetensors", "config.json"])
@pytest.mark.parametrize("damage", DAMAGES[2:])
def test_folders_and_pipes_in_place_of_files_are_reported(
    name: str, damage: Callable[[Path], None], records: Records, finished: tuple[TrainConfig, Path], tmp_path: Path
) -> None:
    config, whole = finished
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    if name != "model.safetensors":
        (run / "model.safetensors").unlink()
    damage(run / name)
    with pytest.raises(InputError, match=re.escape(str(run / name))):
        train(config, records, out=run, resume=True)


def test_a_complete_run_is_left_as_it_is(records: Records, tiny: TrainConfig, tmp_path: Path) -> None:
    config = replace(tiny, epochs=1)
    model = train(config, records, out=tmp_path / "run")
    before = model.stat().st_mtime_ns
    assert train(config, records, out=tmp_path / "run", resume=True) == model
    assert model.stat().st_mtime_ns == before


def test_a_mismatching_run_is_reported_in_one_sentence(records: Records, tiny: TrainConfig, tmp_path: Path) -> None:
    config, run = replace(tiny, epochs=1), tmp_path / "run"
    train(config, records, out=run)
    with pytest.raises(InputError, match="is not empty; name another folder, or resume"):
        train(config, records, out=run)
    with pytest.raises(InputError, match=r"optimiser.learning_rate = 0.003 but 0.1 is asked for"):
        rate = replace(config, optimiser=replace(config.optimiser, learning_rate=0.1))
        train(rate, records, out=run, resume=True)
    with pytest.raises(InputError, match=r"data\.json: the run has fingerprint = .* and 1 more"):
        train(config, records[:31], out=run, resume=True)
    with pytest.raises(InputError, match="holds no run"):
        (tmp_path / "other").mkdir()
        (tmp_path / "other/photo.jpg").touch()
        train(config, records, out=tmp_path / "other", resume=True)
    with pytest.raises(InputError, match="is a file"):
        train(config, records, out=tmp_path / "other/photo.jpg")
    with pytest.raises(InputError, match="no training image with a known identity"):
        train(config, records[32:], out=tmp_path / "none")
    with pytest.raises(InputError, match="lower num_identities"):
        train(replace(config, num_identities=9), records, out=tmp_path / "many")
    assert not (tmp_path / "many").exists()


def test_a_run_killed_before_its_first_step_starts_again(records: Records, tiny: TrainConfig, tmp_path: Path) -> None:
    config = replace(tiny, epochs=1)
    whole = train(config, records, out=tmp_path / "whole")
    for leftovers in ([], ["data.json"], ["data.json", "config.json"]):
        run = tmp_path / f"run{len(leftovers)}"
        run.mkdir()
        (run / ".data.json.1.partial").write_text("{")
        for name in leftovers:
            (run / name).write_bytes((tmp_path / "whole" / name).read_bytes())
        assert_bit_equal(whole, train(config, records, out=run, resume=True))


def test_a_loss_that_is_not_finite_is_reported(records: Records, tiny: TrainConfig, tmp_path: Path) -> None:
    wild = replace(tiny, optimiser=OptimiserConfig(learning_rate=1e30), schedule=StepSchedule(warmup_epochs=0))
    with pytest.raises(InputError) as caught:
        train(wild, records, out=tmp_path / "run")
    text = str(caught.value)
    for part in ("not finite in epoch 1 after", "identity", "learning rate 1e+30", "lower optimiser.learning_rate"):
        assert part in text
    assert not list((tmp_path / "run").glob("checkpoints/*"))  # nothing poisoned was kept


def test_weights_broken_by_the_last_step_are_not_saved(
    records: Records, tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(optimiser: torch.optim.Optimizer) -> None:
        optimiser.param_groups[0]["params"][0].detach().fill_(torch.inf)

    monkeypatch.setattr(torch.optim.AdamW, "step", breaks)
    sentence = r"weights hold NaN or infinity \(first model\..*, 1 in all\), after 1 steps; lower"
    with pytest.raises(InputError, match=sentence):
        train(replace(tiny, epochs=1, iterations=1), records, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_model_is_not_loaded(records: Records, tiny: TrainConfig, tmp_path: Path) -> None:
    from vreid.training.checkpoint import LoopState, load_checkpoint, save_checkpoint
    from vreid.training.optimiser import build_optimiser

    model = build("resnet10_ibn_a_tiny", 3)
    save_checkpoint(tmp_path / "c.safetensors", model, build_optimiser(model, tiny.optimiser), LoopState())
    other = build("resnet10_ibn_a_tiny", 4)
    with pytest.raises(InputError, match=r"of another shape \(classifier.weight"):
        load_checkpoint(tmp_path / "c.safetensors", other, build_optimiser(other, tiny.optimiser))


def test_the_run_folder_keeps_two_checkpoints_and_removes_partial_files(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run", config={}, data={}, resume=False)
    run.begin()
    run.checkpoints.mkdir()
    for step in (5, 20, 100):
        run.checkpoint_path(step).touch()
    (run.checkpoints / ".step-00000101.safetensors.9.partial").touch()
    run.prune_checkpoints()
    assert [path.name for path in run.checkpoint_paths()] == ["step-00000100.safetensors", "step-00000020.safetensors"]
    assert len(list(run.checkpoints.iterdir())) == 2


# ---------------------------------------------------------------- TensorBoard, compile


def test_tensorboard_receives_the_lines_of_the_log(
    records: Records, tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[str, float, int]] = []
    opened: list[tuple[str, int]] = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int) -> None:
            opened.append((folder, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            shown.append((name, value, step))

        def close(self) -> None:
            opened.append(("closed", 0))

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=SummaryWriter))
    run = tmp_path / "run"
    train(tiny, records, out=run, tensorboard=True, log_steps=1)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert shown == [
        (f"{line['event']}/{name}", line[name], line["step"])
        for line in lines
        for name in line
        if name not in ("event", "step")
    ]
    (run / "model.safetensors").unlink()
    newest = max((run / "checkpoints").iterdir())
    newest.unlink()  # the last epoch is done again
    train(tiny, records, out=run, tensorboard=True, resume=True, log_steps=1)
    before = [line["step"] for line in lines if line["event"] == "epoch"][-2]
    assert opened == [
        (str(run / "tensorboard"), 1),
        ("closed", 0),
        (str(run / "tensorboard"), before + 1),
        ("closed", 0),
    ]


def test_tensorboard_itself_reads_the_same_numbers(records: Records, tiny: TrainConfig, tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="no tensorboard here")
    train(replace(tiny, epochs=2), records, out=tmp_path / "run", tensorboard=True)
    shown = reader.EventAccumulator(str(tmp_path / "run/tensorboard")).Reload().Scalars("epoch/loss")
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    logged = [(line["step"], line["loss"]) for line in lines if line["event"] == "epoch"]
    assert [event.step for event in shown] == [step for step, _ in logged] and len(logged) == 2
    assert [event.value for event in shown] == pytest.approx([loss for _, loss in logged])


def test_missing_tensorboard_is_reported_before_anything_is_written(
    records: Records, tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r"pip install 'vehicle-reid\[tensorboard\]'"):
        train(tiny, records, out=tmp_path / "run", tensorboard=True)
    assert not (tmp_path / "run").exists()


def test_a_compiled_backbone_trains_alike_under_the_same_names(
    records: Records, tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiler's first half runs, its kernels (minutes of a compiler) do not."""
    real, compiled = torch.compile, []

    def compile_lightly(what: object, **options: object) -> object:
        compiled.append(what)
        return real(what, backend="eager", **options)  # type: ignore[call-overload]

    monkeypatch.setattr(torch, "compile", compile_lightly)
    config = replace(tiny, epochs=1, ema=0.5)
    plain = weights(train(config, records, out=tmp_path / "plain"))
    assert not compiled
    other = weights(train(replace(config, compile=True), records, out=tmp_path / "compiled"))
    assert len(compiled) == 1 and plain.keys() == other.keys()
    for name, value in plain.items():
        torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-6)


def test_where_the_compiler_fails_a_note_says_so_and_training_goes_on(
    records: Records, tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_compiler(graph: object, inputs: object) -> None:
        raise FileNotFoundError("no C++ compiler found\non this machine")

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda what, **options: real(what, backend=no_compiler, **options))
    notes = Notes()
    config = replace(tiny, epochs=1)
    plain = weights(train(config, records, out=tmp_path / "plain"))
    other = weights(train(replace(config, compile=True), records, out=tmp_path / "compiled", progress=notes))
    said = [note for note in notes.notes if "torch.compile" in note]
    assert said == [
        "torch.compile does not work here (no C++ compiler found); training goes on without it. "
        "Set compile=false to not try it."
    ]
    for name, value in plain.items():
        assert torch.equal(other[name], value)
