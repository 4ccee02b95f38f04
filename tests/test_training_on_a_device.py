"""Training on a device: every family of networks and every loss, in steps that do not wait; the weights of the CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from support.pretend_gpu import PretendGpu
from support.tiny_translation import TINY_TRANSLATION
from vreid.data.augment import TrainTransform
from vreid.data.loading import train_loader
from vreid.data.protocols import PROTOCOLS
from vreid.data.records import Records
from vreid.data.sampling import PKSampler
from vreid.errors import InputError
from vreid.files import read_json
from vreid.models import ModelConfig, TransReIDOptions, load_weights
from vreid.training import supervised
from vreid.training.supervised import Trainer, train
from vreid.training.targets import LabelConfig
from vreid.training.train_config import LossConfig, TrainConfig
from vreid.training.translate import Translation, train_translation
from vreid.training.validation import Validation

pytestmark = pytest.mark.usefixtures("one_thread")

CNN = TrainConfig(
    recipe="cnn",
    model=ModelConfig(backbone="resnet10_ibn_a_tiny"),
    num_identities=4,
    num_instances=2,
    epochs=1,
    transform=TrainTransform(height=32, width=32, pad=2),
    precision="float32",
)
STRDAN = replace(
    CNN,
    model=replace(CNN.model, neck=False, pooling="gem"),
    heads=("domain", "color", "vehicle_type", "orientation"),
    labels=LabelConfig(identity_on="real", attributes_on="synthetic", orientation="circle"),
    batches="domains",
)
SIDES = TransReIDOptions(image_size=(32, 32), jpm=True, sie_cameras=3, sie_views=4)
FAMILIES = {
    "cnn": CNN,
    "cnn, further losses": replace(
        CNN,
        losses=LossConfig(circle=1.0, contrastive=1.0, label_smoothing=0.1, triplet_form="hinge"),
        accumulation=2,
        clip_norm=1.0,
        ema=0.9,
    ),
    "efficientnet": replace(CNN, model=ModelConfig(backbone="tf_efficientnet_lite0")),
    "transreid": replace(CNN, model=ModelConfig(backbone="transreid_small", transreid=SIDES)),
    "strdan": STRDAN,
}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """16 images of 8 vehicles at three cameras, half of them synthetic."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    paths = [folder / f"{number:02d}.png" for number in range(16)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    numbers = range(16)
    return Records.of(
        path=paths,
        identity=[f"v{number // 2}" for number in numbers],
        camera=[f"c{number % 3}" for number in numbers],
        orientation=[90.0 * (number % 4) for number in numbers],
        domain=["real" if number < 8 else "synthetic" for number in numbers],
        color=["red" if number % 4 < 2 else "blue" for number in numbers],
        vehicle_type=["car" if number % 8 < 4 else "van" for number in numbers],
    )


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_weights(path)[0]


def assert_close(one: Path, other: Path, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(weights(other), weights(one), rtol=tolerance, atol=tolerance)


@pytest.fixture
def steps_do_not_wait(gpu: PretendGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every training step an error that waits for the device."""

    class Asynchronous(Trainer):
        def train_step(self, *args: Any, **options: Any) -> dict[str, torch.Tensor]:
            if self.device.type == "cpu":
                return super().train_step(*args, **options)
            with gpu.asynchronous():
                return super().train_step(*args, **options)

    monkeypatch.setattr(supervised, "Trainer", Asynchronous)


@pytest.mark.usefixtures("steps_do_not_wait")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_trains_on_a_device_as_on_the_cpu(
    gpu: PretendGpu, family: str, records: Records, tmp_path: Path
) -> None:
    config = FAMILIES[family]
    expected = train(config, records, out=tmp_path / "cpu")
    found = train(config, records, out=tmp_path / "device", device=gpu.name, workers=0)
    assert_close(expected, found, 1e-5 if isinstance(gpu, PretendGpu) else 2e-2)


@pytest.mark.usefixtures("steps_do_not_wait")
def test_bfloat16_is_chosen_and_changes_the_weights_a_little(gpu: PretendGpu, records: Records, tmp_path: Path) -> None:
    config = FAMILIES["transreid"]
    expected = train(config, records, out=tmp_path / "float32", device=gpu.name, workers=0)
    found = train(replace(config, precision="auto"), records, out=tmp_path / "auto", device=gpu.name, workers=0)
    assert read_json(tmp_path / "auto" / "environment.json")["precision"].startswith("bfloat16")
    assert any(not torch.equal(weights(expected)[name], value) for name, value in weights(found).items())
    assert_close(expected, found, 0.1)


def test_a_loader_does_not_wait_and_gives_the_batches_of_the_cpu(gpu: PretendGpu, records: Records) -> None:
    sampler = PKSampler(records.identity.codes, 4, 2)
    here, there = (
        train_loader(records, replace(CNN.transform, erase=1.0), sampler, seed=0, workers=0, device=device)
        for device in ("cpu", gpu.name)
    )
    with gpu.asynchronous():
        batches = list(there)
    for batch, expected in zip(batches, here, strict=True):
        torch.testing.assert_close(batch.images.cpu(), expected.images)
        assert np.array_equal(batch.rows, expected.rows)


def test_a_stopped_run_resumes_on_a_device_with_its_random_numbers(
    gpu: PretendGpu, records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CNN, epochs=2)
    whole = train(config, records, out=tmp_path / "whole", device=gpu.name, workers=0)

    class Stopped(Trainer):
        def train_step(self, *args: Any, **options: Any) -> dict[str, torch.Tensor]:
            if self.state.epoch == 1:
                raise KeyboardInterrupt
            return super().train_step(*args, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(supervised, "Trainer", Stopped)
        train(config, records, out=tmp_path / "run", device=gpu.name, workers=0)
    resumed = train(config, records, out=tmp_path / "run", device=gpu.name, workers=0, resume=True)
    first, second = weights(whole), weights(resumed)
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_validation_runs_on_the_device(gpu: PretendGpu, records: Records, tmp_path: Path) -> None:
    check = Validation("images", records[::2], records[1::2], PROTOCOLS["veri"])
    train(CNN, records, out=tmp_path / "run", device=gpu.name, workers=0, validation=check)
    assert '"validation"' in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_translation_does_not_wait_and_trains_as_on_the_cpu(gpu: PretendGpu, records: Records, tmp_path: Path) -> None:
    config = replace(TINY_TRANSLATION, size=16, load=18, patch_layers=1, siamese_from=0, keeping_from=0, epochs=1)
    synthetic, real = records[8:12], records[:4]
    expected = train_translation(config, synthetic, real, out=tmp_path / "cpu")
    with pytest.MonkeyPatch.context() as patch:
        step = Translation.train_step

        def asynchronous(self: Translation, *args: Any, **options: Any) -> dict[str, torch.Tensor]:
            if self.state.total_steps == 0:
                return step(self, *args, **options)  # reads the state of the image pools, once
            with gpu.asynchronous():
                return step(self, *args, **options)

        patch.setattr(Translation, "train_step", asynchronous)
        found = train_translation(config, synthetic, real, out=tmp_path / "device", device=gpu.name, workers=0)
    assert_close(expected, found, 1e-5 if isinstance(gpu, PretendGpu) else 2e-2)


def test_a_batch_that_is_too_large_names_the_options(
    pretended: PretendGpu, records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Small(Trainer):
        def train_step(self, *args: Any, **options: Any) -> dict[str, torch.Tensor]:
            pretended.memory = pretended.used + 50_000  # bytes; the first maps have 65,536
            return super().train_step(*args, **options)

    monkeypatch.setattr(supervised, "Trainer", Small)
    with pytest.raises(InputError, match=r"batch of 8 images of 32 x 32 .* memory of cuda:0; lower num_identities"):
        train(CNN, records, out=tmp_path / "run", device="cuda:0", workers=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU on this machine")
def test_a_compiled_backbone_trains_on_a_gpu(records: Records, tmp_path: Path) -> None:
    plain = train(CNN, records, out=tmp_path / "plain", device="cuda:0", workers=0)
    compiled = train(replace(CNN, compile=True), records, out=tmp_path / "compiled", device="cuda:0", workers=0)
    assert_close(plain, compiled, 2e-2)
