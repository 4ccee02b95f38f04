"""Validation while a model is trained: numbers, the kept epoch, resume, and no influence on the training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from support.command_line import SMALLEST, Run
from vreid.data.augment import TrainTransform
from vreid.data.protocols import MARKET
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.files import read_json
from vreid.models import ModelConfig, load_weights
from vreid.models.backbones import build_backbone
from vreid.models.reid_model import ReidModel
from vreid.progress import Progress
from vreid.retrieval.evaluation.metrics import Metrics
from vreid.training.extract import load_trained
from vreid.training.supervised import train
from vreid.training.train_config import TrainConfig
from vreid.training.validation import Validation

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = TrainConfig(
    recipe="tiny",
    model=ModelConfig(backbone="resnet10_ibn_a_tiny"),
    num_identities=2,
    num_instances=2,
    epochs=3,
    transform=TrainTransform(height=32, width=32),
    precision="float32",
)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """16 noisy images of 8 vehicles, each at two cameras."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    paths = [folder / f"{number:02d}.png" for number in range(16)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    return Records.of(
        path=paths,
        image_key=range(16),
        identity=[f"v{number // 2}" for number in range(16)],
        camera=[f"c{number % 2}" for number in range(16)],
    )


@pytest.fixture
def validation(records: Records) -> Validation:
    return Validation("half", records[8::2], records[9::2], MARKET)


def lines(run: Path, event: str = "validation") -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line["event"] == event]


class Scripted(Validation):
    """Says that the second epoch is the best; remembers the weights that it was shown."""

    def evaluate(self, model: ReidModel, *args: Any, **options: Any) -> Metrics:
        found = super().evaluate(model, *args, **options)
        shown = vars(self).setdefault("shown", [])
        shown.append({name: value.clone() for name, value in model.state_dict().items()})
        return replace(found, mAP=(0.3, 0.9, 0.5)[len(shown) - 1])


def scripted(validation: Validation, shown: int = 0, **options: Any) -> Scripted:
    made = Scripted(validation.name, validation.query, validation.gallery, validation.protocol, **options)
    vars(made)["shown"] = [{}] * shown
    return made


def equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(value, right[name]) for name, value in left.items())


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_validation_does_not_change_the_trained_weights(
    records: Records, validation: Validation, tmp_path: Path, ema: float
) -> None:
    config = replace(CONFIG, ema=ema)
    without, _ = load_weights(train(config, records[:8], out=tmp_path / "without"))
    seen: list[str] = []
    listener = SimpleNamespace(**{name: lambda *_: None for name in ("start", "advance", "note", "finish")})
    listener.log = seen.append
    options: dict[str, Any] = {"validation": replace(validation, every=2), "progress": listener}
    run = tmp_path / "run"
    found, facts = load_weights(train(config, records[:8], out=run, **options))
    assert equal(without, found) and "validation" not in facts
    assert [line["epoch"] for line in lines(run)] == [2, 3]  # every second, and the last
    last, trained = lines(run)[-1], load_trained(run)
    again = validation.evaluate(trained.model, trained.transform, device="cpu", workers=0, precision="float32")
    assert last["mAP"] == again.mAP and last["rank1"] == again.rank1 and last["num_queries"] == 4
    assert (last["data"], last["protocol"]) == ("half", "market")
    assert [line.split(":")[0] for line in seen] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert "left" in seen[0] and "mAP" not in seen[0] and f"mAP {100 * last['mAP']:.1f}" in seen[2]


def test_evaluation_draws_no_random_number_and_leaves_modes(validation: Validation) -> None:
    model = ReidModel(build_backbone("resnet10_ibn_a_tiny"), 4).train()
    model.neck.eval()
    before = torch.get_rng_state()
    validation.evaluate(model, CONFIG.transform.test(), device="cpu", workers=None, precision="float32")
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training and model.backbone.training and not model.neck.training


class Stops(Progress):
    def log(self, text: str) -> None:
        if text.startswith("epoch 3"):  # the checkpoint of this epoch is not written
            raise KeyboardInterrupt


def test_the_best_epoch_is_kept_also_by_a_resumed_run(records: Records, validation: Validation, tmp_path: Path) -> None:
    whole = scripted(validation, keep_best=True)
    weights, facts = load_weights(train(CONFIG, records[:8], out=tmp_path / "whole", validation=whole))
    assert equal(weights, vars(whole)["shown"][1]) and not equal(weights, vars(whole)["shown"][2])
    assert facts["kind"] == "model" and facts["validation"]["epoch"] == 2 and facts["validation"]["mAP"] == 0.9
    assert not (tmp_path / "whole/best.safetensors").exists()

    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(CONFIG, records[:8], out=run, validation=scripted(validation, keep_best=True), progress=Stops())
    assert (run / "best.safetensors").exists() and not (run / "model.safetensors").exists()
    for other in (None, scripted(validation, keep_best=True, every=2), scripted(validation)):
        with pytest.raises(InputError, match=r"data.json: the run has kept"):
            train(CONFIG, records[:8], out=run, resume=True, validation=other)
    train(CONFIG, records[:8], out=run, resume=True, validation=scripted(validation, shown=2, keep_best=True))
    assert equal(load_weights(run / "model.safetensors")[0], weights)
    assert [line["epoch"] for line in lines(run)] == [1, 2, 3] == [line["epoch"] for line in lines(tmp_path / "whole")]
    assert read_json(run / "data.json")["kept"]["data"] == "half"


def test_unusable_validation_data_are_reported_before_training(records: Records, validation: Validation) -> None:
    unknown = records.with_(identity=[""] * 16)
    for changes, sentence in (
        ({"query": unknown[8::2]}, "half: has no labelled test to validate on"),
        ({"gallery": records[:0]}, "half: has no labelled test to validate on"),
        ({"gallery": records[:8]}, "half, to validate on: none of the 4 queries"),
        ({"every": 0}, "every is 0; give a whole number of at least 1"),
    ):
        with pytest.raises(InputError, match=sentence):
            replace(validation, **changes)  # type: ignore[arg-type]


def test_training_images_among_those_of_the_validation_are_reported(
    records: Records, validation: Validation, tmp_path: Path
) -> None:
    notes: list[str] = []

    class Listener(Progress):
        def note(self, text: str) -> None:
            notes.append(text)

    config = replace(CONFIG, epochs=1)
    train(config, records, out=tmp_path / "run", validation=replace(validation, keep_best=True), progress=Listener())
    assert "8 image files of half are training images too: its numbers are too high." in notes
    assert any("final numbers on these images are optimistic" in note for note in notes)


def test_train_command_evaluates_on_the_labelled_test(run: Run, tiny_world: Path, tmp_path: Path) -> None:
    line = f"train small --data {tiny_world} --out {tmp_path}/run {SMALLEST} --set epochs=2 --set precision=float32"
    outcome = run(f"{line} --validate-every 1")
    assert outcome.code == 0, outcome.err
    logged = [text for text in outcome.err.splitlines() if text.startswith("epoch ")]
    assert len(logged) == 2 and " left" in logged[0] and "mAP " in logged[1] and all(len(text) <= 80 for text in logged)
    rows = lines(tmp_path / "run")
    assert all(f"{100 * row['mAP']:.1f}" in outcome.out for row in rows) and "protocol ai-city" in outcome.out
    answer = json.loads(run(f"{line} --validate-every 1 --resume --json").out)
    assert [row["mAP"] for row in answer["validation"]] == [row["mAP"] for row in rows] and answer["kept_epoch"] is None
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images/1.png")
    refused = run(f"{line.replace('/run', '/other')} --validate {tmp_path}/images")
    assert refused.code == 2 and "has no labelled test" in refused.err and not (tmp_path / "other").exists()
