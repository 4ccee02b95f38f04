"""Number type of networks: chosen by their layers and the machine, recorded in the run, kept when it resumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from vreid.data.records import Records
from vreid.files import read_json
from vreid.models import ModelConfig, load_weights
from vreid.models.backbones import build_backbone
from vreid.progress import Progress
from vreid.training.precision import choose_precision, depthwise_share
from vreid.training.supervised import train
from vreid.training.train_config import TrainConfig, TrainTransform

CPU = torch.device("cpu")
HARDWARE = "vreid.training.precision.cpu_has_bfloat16"


def test_depthwise_networks_train_in_float32_on_a_cpu_and_extract_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HARDWARE, lambda: True)
    with torch.device("meta"):
        dense = [build_backbone(name) for name in ("resnet50_ibn_a_small", "resnext101_ibn_a_small", "transreid_small")]
        depthwise = [build_backbone(f"timm/{name}") for name in ("tf_efficientnet_lite0", "mobilenetv3_large_100")]
        convnext = build_backbone("timm/convnext_atto")  # depth-wise too, but mostly linear layers: faster in bfloat16
    for network in (*dense, convnext):
        assert choose_precision("auto", CPU, network, training=True).dtype == "bfloat16"
    for network in depthwise:
        choice = choose_precision("auto", CPU, network, training=True)
        assert choice.dtype == "float32" and "channels are depth-wise" in choice.reason
        assert choose_precision("auto", CPU, network, training=False).dtype == "bfloat16"
        assert choose_precision("bfloat16", CPU, network, training=True) == ("bfloat16", "as set")


def test_share_of_depthwise_channels() -> None:
    layers = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 8, 1, groups=2), nn.Linear(8, 4))
    assert depthwise_share(layers) == 0.25
    assert depthwise_share(nn.Conv2d(1, 8, 3)) == depthwise_share(nn.ReLU()) == 0  # one channel in is no depth-wise


def test_a_processor_without_bfloat16_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HARDWARE, lambda: False)
    choice = choose_precision("auto", CPU, nn.Conv2d(3, 8, 3), training=True)
    assert choice.dtype == "float32" and "no bfloat16 instructions" in choice.reason
    assert choose_precision("auto", torch.device("meta"), nn.Conv2d(3, 8, 3), training=True).dtype == "float32"


@pytest.mark.usefixtures("one_thread")
def test_the_choice_is_recorded_and_a_resumed_run_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.png" for number in range(8)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    records = Records.of(path=paths, image_key=range(8), identity=[f"v{number // 2}" for number in range(8)])
    config = TrainConfig(
        recipe="tiny",
        model=ModelConfig(backbone="resnet10_ibn_a_tiny"),
        num_identities=2,
        num_instances=2,
        epochs=2,
        transform=TrainTransform(height=32, width=32),
    )
    notes: list[str] = []

    class Listener(Progress):
        def note(self, text: str) -> None:
            notes.append(text)

    monkeypatch.setattr(HARDWARE, lambda: True)
    whole = train(config, records, out=tmp_path / "run", progress=Listener())
    environment = read_json(tmp_path / "run/environment.json")
    assert environment["precision"] == "bfloat16"
    assert environment["precision_reason"] == "this processor has bfloat16 instructions"
    assert "Precision bfloat16: this processor has bfloat16 instructions." in notes

    before, _ = load_weights(whole)
    whole.unlink()
    max((tmp_path / "run/checkpoints").iterdir()).unlink()  # as if it had been stopped after the first epoch
    monkeypatch.setattr(HARDWARE, lambda: False)  # another machine, or another choice of a later version
    notes.clear()
    after, _ = load_weights(train(config, records, out=tmp_path / "run", resume=True, progress=Listener()))
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert "Precision bfloat16: as at the start of the run." in notes
    assert not any("Resumed elsewhere" in note for note in notes)
    in_float32 = train(replace(config, precision="float32"), records, out=tmp_path / "other")
    assert not torch.equal(load_weights(in_float32)[0]["classifier.weight"], before["classifier.weight"])
