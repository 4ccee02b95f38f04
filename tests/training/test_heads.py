"""Heads beside the classifier: gradients, learning, resuming, and StRDAN from the command line."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from support.command_line import Run
from vreid.data.augment import TrainTransform
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.losses import circular_loss, classification_loss
from vreid.models import ModelConfig, build, load_pretrained, load_weights, save_weights
from vreid.models.heads import reverse_gradient
from vreid.progress import Progress
from vreid.recipes import RECIPES
from vreid.recipes.strdan import as_code, case, strdan, strdan_small
from vreid.training.extract import extract, load_trained
from vreid.training.objective import Objective
from vreid.training.optimiser import OptimiserConfig
from vreid.training.run_folder import RunFolder
from vreid.training.schedules import StepSchedule
from vreid.training.supervised import Trainer, train
from vreid.training.targets import POSITIVES
from vreid.training.train_config import LabelConfig, TrainConfig

TINY = "resnet10_ibn_a_tiny"
SMALLEST = "--set epochs=1 --set num_identities=8 --set transform.height=32 --set transform.width=64"
ALL = ("domain", "orientation", "color", "vehicle_type")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """4 real vehicles without attributes and 4 synthetic ones with all, 4 images of each."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    paths = []
    for number in range(32):
        noise = np.kron(rng.integers(0, 256, (4, 8, 3)), np.ones((8, 8, 1)))
        Image.fromarray(noise.astype(np.uint8)).save(folder / f"{number:02d}.png")
        paths.append(folder / f"{number:02d}.png")
    synthetic = np.arange(32) >= 16
    return Records.of(
        path=paths,
        identity=[f"v{number // 4}" for number in range(32)],
        camera=[f"c{number % 3}" for number in range(32)],
        domain=np.where(synthetic, "synthetic", "real"),
        color=[["red", "blue", "white"][number % 3] if number >= 16 else "" for number in range(32)],
        vehicle_type=[["suv", "bus"][number // 4 % 2] if number >= 16 else "" for number in range(32)],
        orientation=np.where(synthetic, np.arange(32) * 45.5 % 360, np.nan),
    )


@pytest.fixture
def tiny() -> TrainConfig:
    """StRDAN, as small as it gets."""
    return replace(
        strdan(),
        recipe="tiny",
        model=ModelConfig(backbone=TINY, neck=False),
        num_identities=4,
        num_instances=2,
        epochs=3,
        transform=replace(strdan().transform, height=32, width=64),
    )


# ---------------------------------------------------------------- gradients


def test_reversal_negates_the_gradient_of_features_but_not_of_heads() -> None:
    """Sign and magnitude by hand: loss w . x has gradient x for the head and w for the feature."""
    feature, weight = torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([3.0, -4.0], requires_grad=True)
    reversed_ = reverse_gradient(feature, 0.25)
    assert torch.equal(reversed_, feature)
    (weight * reversed_).sum().backward()
    assert feature.grad is not None and weight.grad is not None
    assert feature.grad.tolist() == [-0.75, 1.0] and weight.grad.tolist() == [1.0, 2.0]


def gradients(head: str, reversal: float) -> dict[str, Tensor]:
    torch.manual_seed(0)
    model = build(TINY, 3, neck=False, heads={"domain": 2, "color": 3}).train()
    outputs = model(torch.randn(4, 3, 32, 32), reversal=reversal)
    classification_loss(outputs.heads[head], torch.tensor([0, 1, 1, 0])).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_only_the_domain_gradient_of_the_backbone_is_reversed() -> None:
    learned, reversed_ = gradients("domain", -1.0), gradients("domain", 0.5)
    for name, value in reversed_.items():
        factor = 1.0 if name.startswith("heads.domain.") else -0.5
        torch.testing.assert_close(value, factor * learned[name], rtol=1e-4, atol=1e-7)
    assert any(name.startswith("backbone.") and bool(value.abs().max() > 0) for name, value in reversed_.items())
    color, other = gradients("color", 0.5), gradients("color", 0.0)
    assert all(torch.equal(value, other[name]) for name, value in color.items())


def test_with_zero_reversal_the_domain_has_no_gradient_in_the_backbone() -> None:
    found = gradients("domain", 0.0)
    assert all(not value.any() for name, value in found.items() if name.startswith("backbone."))
    assert bool(found["heads.domain.weight"].any())


def test_heads_are_initialised_as_in_strdan() -> None:
    model = build(TINY, 400, neck=False, heads={"color": 400})
    for layer in (model.classifier, model.heads["color"]):
        assert isinstance(layer, nn.Linear) and not layer.bias.any()
        assert float(layer.weight.detach().std()) == pytest.approx(0.01, rel=0.05)
    assert build(TINY, 4).classifier.bias is None  # type: ignore[union-attr]  # with a neck, as the papers of it


# ---------------------------------------------------------------- learning


@pytest.mark.parametrize("orientation", ["bins", "circle"])
def test_each_heads_loss_falls_on_sixteen_images(orientation: str) -> None:
    torch.manual_seed(1)
    images = torch.randn(16, 3, 32, 32)
    labels = {name: torch.arange(16) % count for name, count in (("domain", 2), ("color", 5), ("vehicle_type", 3))}
    labels["orientation"] = torch.arange(16) * 22.5 if orientation == "circle" else torch.arange(16) % 6
    outputs = {"domain": 2, "color": 5, "vehicle_type": 3, "orientation": 2 if orientation == "circle" else 6}
    model = build(TINY, 4, neck=False, heads=outputs).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses: dict[str, list[float]] = {name: [] for name in labels}
    for _ in range(60):
        said = model(images, reversal=-1.0).heads  # -1: the backbone helps the domain head too
        terms = {}
        for name, target in labels.items():
            terms[name] = (circular_loss if target.is_floating_point() else classification_loss)(said[name], target)
            losses[name].append(float(terms[name].detach()))
        optimiser.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimiser.step()
    assert {name: values[-1] < 0.1 * values[0] for name, values in losses.items()} == dict.fromkeys(labels, True)


def test_strdan_trains_all_heads(records: Records, tiny: TrainConfig, tmp_path: Path) -> None:
    config = replace(
        tiny,
        epochs=40,
        transform=TrainTransform(height=32, width=64, pad=0, flip=0.0, erase=0.0),
        optimiser=replace(tiny.optimiser, learning_rate=3e-3),
        schedule=StepSchedule(milestones=(), warmup_epochs=0),
    )
    train(config, records, out=tmp_path / "run", log_steps=1)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if line["event"] == "epoch"]
    names = ["identity", "head orientation", "head color", "head vehicle_type"]
    assert {name: epochs[-1][name] < 0.5 * epochs[0][name] for name in names} == dict.fromkeys(names, True)
    terms = ["triplet", "head domain", *names]
    assert epochs[-1]["loss"] == pytest.approx(sum(epochs[-1][name] for name in terms), rel=1e-4)


def test_the_model_file_records_the_number_of_outputs(records: Records, tiny: TrainConfig, tmp_path: Path) -> None:
    code = replace(as_code(tiny), num_identities=4, num_instances=2, epochs=1)
    path = train(code, records, out=tmp_path / "run")
    state, facts = load_weights(path)
    assert facts["num_identities"] == 4 and facts["target"] == "identity"  # real vehicles only, as coded
    assert facts["heads"] == {"domain": 2, "orientation": 6, "color": 3, "vehicle_type": 2}
    assert facts["labels"]["color"] == ["blue", "red", "white"] and facts["labels"]["vehicle_type"] == ["bus", "suv"]
    assert facts["labels"]["orientation"] == ["0-60", "60-120", "120-180", "180-240", "240-300", "300-360"]
    assert state["heads.color.weight"].shape == (3, 64)
    trained = load_trained(tmp_path / "run")
    features = extract(trained.model, records, transform=trained.transform, views=("original",), normalise=False)
    assert not features.normalised and features.features.shape == (32, 64)


def test_the_attribute_weight_scales_attribute_losses(records: Records, tiny: TrainConfig, tmp_path: Path) -> None:
    first = []
    for weight in (1.0, 0.25):
        losses = replace(tiny.losses, attributes=weight)
        train(replace(tiny, epochs=1, losses=losses), records, out=tmp_path / f"{weight}", log_steps=1)
        first.append(json.loads((tmp_path / f"{weight}/metrics.jsonl").read_text().splitlines()[0]))
    for name in ("head orientation", "head color", "head vehicle_type"):
        assert first[1][name] == pytest.approx(0.25 * first[0][name], rel=1e-5)
    assert first[1]["head domain"] == first[0]["head domain"]


THIRTIES = {int(number * 45.5 % 360 // 30) for number in range(16, 32)}  # bins of the orientations above


@pytest.mark.parametrize(("name", "outputs"), [("camera_small", 3), ("orientation_small", len(THIRTIES))])
def test_camera_and_orientation_models_train_by_the_same_loop(
    records: Records, tmp_path: Path, name: str, outputs: int
) -> None:
    base = RECIPES[name]()
    small = replace(base.transform, height=32, width=32, pad=2, flip=0.0)
    config = replace(base, model=ModelConfig(backbone=TINY), transform=small, num_identities=8, epochs=1)
    path = train(config, records, out=tmp_path / "run")
    facts = load_weights(path)[1]
    assert (facts["target"], facts["num_identities"], facts["heads"]) == (base.target, outputs, {})
    line = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])
    assert line["loss"] == line[base.target] and line["step"] == (4 if name == "camera_small" else 2)


def test_pretrained_weights_from_a_model_with_heads(tmp_path: Path) -> None:
    first = build(TINY, 3, neck=False, heads={"color": 2})
    save_weights(tmp_path / "first.safetensors", first.state_dict(), {})
    second = build(TINY, 5, neck=False, heads={"domain": 2, "color": 4})
    load_pretrained(second, tmp_path / "first.safetensors")
    for key, value in second.state_dict().items():
        assert not key.startswith("backbone.") or torch.equal(value, first.state_dict()[key])


# ---------------------------------------------------------------- resuming


class Stop(Progress):
    """A listener who ends the run after some steps, as Ctrl-C does."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def advance(self, steps: int, text: str = "") -> None:
        self.left -= steps
        if self.left < 0:
            raise KeyboardInterrupt


class _Centres(nn.Module):
    """A loss with something to learn, in place of the library's."""

    def __init__(self, num_classes: int, embedding_size: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(num_classes, embedding_size))

    def forward(self, features: Tensor, identities: Tensor) -> Tensor:
        return (features - self.W[identities]).square().mean()


@pytest.mark.parametrize(
    ("metric", "changes"), [("", {}), ("CentreLoss", {}), ("", {"accumulation": 3, "ema": 0.9})], ids=str
)
def test_an_interrupted_run_with_heads_resumes_to_identical_weights(
    records: Records,
    tiny: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    metric: str,
    changes: dict[str, float],
) -> None:
    package, library = ModuleType("pytorch_metric_learning"), ModuleType("losses")
    package.losses = library  # type: ignore[attr-defined]
    library.CentreLoss = _Centres  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", package)
    config = replace(tiny, losses=replace(tiny.losses, metric=metric), clip_norm=1.0, **changes)  # type: ignore[arg-type]
    whole = load_file(train(config, records, out=tmp_path / "whole"))
    for stop in (3, 7):
        with pytest.raises(KeyboardInterrupt):
            train(
                config, records, out=tmp_path / "run", resume=True, checkpoint_steps=2, log_steps=1, progress=Stop(stop)
            )
    resumed = load_file(train(config, records, out=tmp_path / "run", resume=True, checkpoint_steps=2, log_steps=1))
    assert whole.keys() == resumed.keys()
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []
    assert not any("objective" in name for name in whole)  # what the loss learned is no part of the model


# ---------------------------------------------------------------- accumulated gradients, mean weights


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """A trainer of plain gradient descent at rate 0.1, always from the same weights."""

    def made(**changes: float) -> Trainer:
        plain = OptimiserConfig("sgd", 0.1, 0.0, 0.0, 0.0, 1.0, 1.0)
        schedule = StepSchedule(milestones=(), warmup_epochs=0)
        config = TrainConfig("plain", ModelConfig(TINY), optimiser=plain, schedule=schedule, **changes)  # type: ignore[arg-type]
        torch.manual_seed(0)
        model = build(TINY, 2)
        run = RunFolder(tmp_path / str(len(list(tmp_path.iterdir()))), config={}, data={}, resume=False)
        return Trainer(config, model, Objective(config.losses), run, torch.device("cpu"), "float32", Progress())

    return made


def batches() -> list[tuple[Tensor, dict[str, Tensor]]]:
    generator = torch.Generator().manual_seed(1)
    identities = torch.tensor([0, 0, 1, 1])
    labels = {"identity": identities, POSITIVES: identities}
    return [(torch.randn(4, 3, 32, 32, generator=generator), labels) for _ in range(2)]


def test_accumulated_gradients_are_those_of_the_batches_averaged(trainer: Callable[..., Trainer]) -> None:
    accumulated, alone = trainer(accumulation=2), trainer()
    (images, labels), (more, others) = batches()
    before = {name: value.clone() for name, value in accumulated.model.named_parameters()}
    accumulated.step(images, labels, 0.0, moves=False)
    assert all(torch.equal(value, before[name]) for name, value in accumulated.model.named_parameters())
    accumulated.step(more, others, 0.0)
    total = [
        torch.stack(list(alone.objective(alone.model(x), y).values())).sum()
        for x, y in ((images, labels), (more, others))
    ]
    (sum(total) / 2).backward()  # type: ignore[union-attr]
    for name, value in alone.model.named_parameters():
        if value.grad is not None:
            expected = before[name] - 0.1 * value.grad
            torch.testing.assert_close(
                accumulated.model.get_parameter(name).detach(), expected.detach(), rtol=1e-4, atol=1e-6
            )


def test_mean_weights_by_hand(trainer: Callable[..., Trainer]) -> None:
    averaging = trainer(ema=0.15)
    names = ["classifier.weight", "neck.running_mean"]
    history = [{name: averaging.model.state_dict()[name].clone() for name in names}]
    for images, labels in batches():
        averaging.step(images, labels, 0.0)
        averaging.state.total_steps += 1
        history.append({name: averaging.model.state_dict()[name].clone() for name in names})
    for name in names:  # decays: min(0.15, 1 / 10), then min(0.15, 2 / 11)
        first = 0.1 * history[0][name] + 0.9 * history[1][name]
        torch.testing.assert_close(averaging.trained.state_dict()[name], 0.15 * first + 0.85 * history[2][name])
    assert int(averaging.trained.state_dict()["neck.num_batches_tracked"]) == 2
    assert not any(parameter.requires_grad for parameter in averaging.trained.parameters())
    plain = trainer()
    assert plain.trained is plain.model


# ---------------------------------------------------------------- wrong settings


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"heads": ("domain", "colour")}, "heads is 'colour'; use one of domain, color"),
        ({"batches": "any"}, "batches is 'any'; use one of identities, domains, images"),
        ({"labels": LabelConfig(bin_edges="both")}, "labels.bin_edges is 'both'; use one of left, right"),  # type: ignore[arg-type]
        ({"heads": ("domain", "domain")}, "one is named twice"),
        ({"heads": ("orientation",), "target": "orientation"}, "orientation is both the target and a head"),
        ({"batches": "images"}, "batches=images needs losses.triplet=0"),
        ({"labels": LabelConfig(bins=1)}, "labels.bins is 1; give a whole number from 2 to 360"),
    ],
)
def test_invalid_settings_are_reported_in_one_sentence(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        replace(strdan(), **changes)  # type: ignore[arg-type]
    assert sentence in str(caught.value)


def test_missing_labels_are_reported_before_a_folder_is_created(
    records: Records, tiny: TrainConfig, tmp_path: Path
) -> None:
    for config, data, sentence in (
        (tiny, records[:16], "head domain needs real and synthetic"),
        (case(1, tiny), records[16:].with_(identity=[""] * 16), "training needs labels"),
        (replace(tiny, heads=()), records[:16], "need both domains"),
        (replace(tiny, heads=("color",)), records.with_(color=[""] * 32), "head color has no labels"),
        (replace(tiny, num_identities=16), records, "needs 8 identities but the real training images have 4"),
    ):
        with pytest.raises(InputError, match=sentence):
            train(config, data, out=tmp_path / "run")
        assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- from the command line


def test_strdan_from_the_command_line(run: Run, tiny_world: Path, tmp_path: Path) -> None:
    real, synthetic = tiny_world / "AIC21_Track2_ReID", tiny_world / "AIC21_Track2_ReID_Simulation"
    made = run(f"train strdan_small --data {real} --data {synthetic} --out {tmp_path}/run {SMALLEST} --json")
    assert made.code == 0, made.err
    facts = load_weights(tmp_path / "run/model.safetensors")[1]
    assert facts["num_identities"] == 24 and set(facts["heads"]) == set(ALL)
    assert facts["model"]["backbone"] == strdan_small().model.backbone
    assert run(f"extract {tmp_path}/run {real} --out {tmp_path}/f --views original --raw --json").code == 0
    evaluated = run(f"evaluate {tmp_path}/f --post rerank=5:2:0.3 --json")
    assert evaluated.code == 0, evaluated.err
    assert [row["name"] for row in json.loads(evaluated.out)] == ["norm=raw", "norm=raw, rerank=5:2:0.3"]
    shutil.rmtree(tmp_path / "run")
    for line, sentence in (
        (f"--data {real}", "head domain needs real and synthetic"),
        (f"--data {real} --data {synthetic} --set heads=domain,colour", "'colour' is not domain or color"),
        (f"--data {real} --data {synthetic} --set num_identities=7", "make it even"),
        (f"--data {real} --set heads=", "add a data set of the other, or set batches=identities"),
    ):
        refused = run(f"train strdan_small {line} --out {tmp_path}/run")
        assert refused.code == 2 and sentence in refused.err and refused.err.count("\n") == 1
        assert not (tmp_path / "run").exists()
