"""Learning rates value by value (methods: section 5) and parameter groups."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from vreid.models import build
from vreid.recipes import RECIPES
from vreid.recipes.strdan import as_code, as_paper, strdan
from vreid.training.optimiser import OptimiserConfig, build_optimiser, parameter_groups, set_rates
from vreid.training.schedules import CosineSchedule, EpochCosineSchedule, StepSchedule, reversal_strength
from vreid.training.train_config import LossConfig, TrainConfig


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [(1, 1.09e-3), (5, 5.05e-3), (9, 9.01e-3), (10, 1e-2), (39, 1e-2), (40, 1e-3), (69, 1e-3), (70, 1e-4), (80, 1e-4)],
)
def test_step_schedule_has_the_papers_rates(epoch: int, rate: float) -> None:
    schedule = StepSchedule()
    assert schedule.rate(0.01, epoch - 1, 80) == pytest.approx(rate, rel=1e-12)
    assert schedule.rate(0.01, epoch - 0.01, 80) == pytest.approx(rate, rel=1e-12)  # constant inside an epoch


def test_step_schedule_without_warm_up_or_milestones_is_constant() -> None:
    schedule = StepSchedule(milestones=(), warmup_epochs=0)
    assert {schedule.rate(4e-4, epoch, 3) for epoch in range(3)} == {4e-4}


def test_cosine_schedule_values() -> None:
    schedule = CosineSchedule(warmup_epochs=2.0, warmup_factor=0.1, final_factor=0.0)
    assert schedule.rate(1.0, 0.0, 10) == pytest.approx(0.1)
    assert schedule.rate(1.0, 1.0, 10) == pytest.approx(0.55)
    assert schedule.rate(1.0, 2.0, 10) == pytest.approx(1.0)
    assert schedule.rate(1.0, 6.0, 10) == pytest.approx(0.5)
    assert schedule.rate(1.0, 10.0, 10) == pytest.approx(0.0, abs=1e-12)
    rates = [schedule.rate(1.0, 2 + i / 100, 10) for i in range(801)]
    assert rates == sorted(rates, reverse=True)


def test_parameter_groups_follow_the_papers_factors() -> None:
    model = build("resnet10_ibn_a_tiny", 7)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model.named_parameters(), OptimiserConfig(weight_decay=1e-3, vector_decay=5e-4))
    seen = {names[id(p)]: group for group in groups for p in group["params"]}
    assert set(names.values()) - set(seen) == {"neck.bias"}  # frozen
    assert seen["classifier.weight"]["factor"] == 2.0
    assert seen["backbone.layer1.0.bn1.IN.bias"]["factor"] == 2.0
    assert seen["backbone.layer1.0.conv1.weight"]["factor"] == 1.0
    assert seen["backbone.layer1.0.conv1.weight"]["weight_decay"] == 1e-3
    assert seen["neck.weight"]["factor"] == 1.0
    assert seen["neck.weight"]["weight_decay"] == 5e-4
    assert sum(len(group["params"]) for group in groups) == len(names) - 1


def test_rates_are_multiples_of_the_schedule() -> None:
    model = nn.Module()
    model.classifier = nn.Linear(2, 2)
    model.body = nn.Linear(2, 2)
    for kind in ("sgd", "adamw"):
        optimiser = build_optimiser(model, OptimiserConfig(kind=kind, classifier_factor=3.0))  # type: ignore[arg-type]
        set_rates(optimiser, 0.05, lambda peak: 2 * peak)
        assert sorted(group["lr"] for group in optimiser.param_groups) == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [
        (1, 1e-6 + (0.01 - 1e-6) / 5),
        (4, 1e-6 + 4 * (0.01 - 1e-6) / 5),
        (5, 1e-5 + 0.5 * (0.01 - 1e-5) * (1 + math.cos(math.pi * 5 / 40))),
        (20, 1e-5 + 0.5 * (0.01 - 1e-5)),
        (40, 1e-5),
    ],
)
def test_the_transformers_cosine_is_the_papers(epoch: int, rate: float) -> None:
    schedule = EpochCosineSchedule()
    assert schedule.rate(0.01, epoch - 1, 40) == pytest.approx(rate, rel=1e-9)
    assert schedule.rate(0.01, epoch - 0.01, 40) == schedule.rate(0.01, epoch - 1, 40)  # constant inside an epoch


def test_groups_of_the_transformer_have_their_own_peak_and_the_same_ends() -> None:
    model = nn.Module()
    model.body = nn.Linear(2, 2)
    config = RECIPES["transreid"]()
    optimiser = build_optimiser(model, config.optimiser)
    rates = {}
    for epoch in (1, 20, 40):
        set_rates(optimiser, 0.01, lambda peak, epoch=epoch: config.schedule.rate(peak, epoch - 1, 40))  # type: ignore[misc]
        rates[epoch] = sorted(group["lr"] for group in optimiser.param_groups)
    assert rates[1] == pytest.approx([1e-6 + (peak - 1e-6) / 5 for peak in (0.01, 0.02)])
    assert rates[20] == pytest.approx([1e-5 + (peak - 1e-5) / 2 for peak in (0.01, 0.02)])
    assert rates[40] == pytest.approx([1e-5, 1e-5])  # twice the peak does not mean twice the end


@pytest.mark.parametrize(("epoch", "rate"), [(1, 3e-4), (20, 3e-4), (21, 3e-5), (40, 3e-5), (41, 3e-6), (60, 3e-6)])
def test_strdan_steps_after_epochs_20_and_40(epoch: int, rate: float) -> None:
    assert strdan().schedule.rate(3e-4, epoch - 1, 60) == pytest.approx(rate, rel=1e-12)


def test_reversal_by_hand() -> None:
    assert reversal_strength(0) == 0
    assert reversal_strength(0.1) == pytest.approx(2 / (1 + math.exp(-1)) - 1)
    assert reversal_strength(1) == pytest.approx((1 - math.exp(-10)) / (1 + math.exp(-10)))


def test_adam_decays_through_its_moments_and_amsgrad_remembers_the_largest() -> None:
    """With no gradient but the decay's, Adam's first step is the rate whatever the decay; AdamW's is their product."""
    steps = {}
    for kind in ("adam", "adamw"):
        model = nn.Linear(1, 1, bias=False)
        nn.init.ones_(model.weight)
        config = OptimiserConfig(kind=kind, learning_rate=0.1, weight_decay=0.01, amsgrad=True)  # type: ignore[arg-type]
        optimiser = build_optimiser(model, config)
        model.weight.grad = torch.zeros(1, 1)
        optimiser.step()
        steps[kind] = 1 - float(model.weight.detach())
        assert "max_exp_avg_sq" in optimiser.state[model.weight]
        assert optimiser.param_groups[0]["betas"] == (0.9, 0.999)
    assert steps["adam"] == pytest.approx(0.1, rel=1e-4) and steps["adamw"] == pytest.approx(0.1 * 0.01, rel=1e-3)


# ---------------------------------------------------------------- the table of the two papers, row by row


def facts(config: TrainConfig) -> tuple[object, ...]:
    return config.batches, config.num_identities, config.num_instances, config.epochs, config.seed


@pytest.mark.parametrize(
    "name",
    [
        "resnet101_ibn_a",
        "resnet101_ibn_a_crop",
        "se_resnet101_ibn_a",
        "densenet169_ibn_a",
        "resnest101",
        "resnext101_ibn_a",
    ],
)
def test_stage_one_of_the_cnns(name: str) -> None:
    config = RECIPES[name]()
    assert facts(config) == ("identities", 12, 8, 80, 1234)
    assert (config.transform.height, config.transform.width, config.transform.interpolation) == (384, 384, "bicubic")
    assert config.transform.resized_crop == (name == "resnet101_ibn_a_crop")
    assert config.losses == LossConfig() and config.schedule == StepSchedule()
    factor = 1.0 if name == "resnext101_ibn_a" else 2.0
    assert config.optimiser == OptimiserConfig("sgd", 0.01, 0.9, 5e-4, 5e-4, 2.0, factor)
    assert config.model.backbone == name.removesuffix("_crop") and config.model.neck


def test_stage_one_of_the_transformer() -> None:
    config = RECIPES["transreid"]()
    assert facts(config) == ("identities", 12, 8, 40, 1234)
    assert (config.transform.height, config.transform.width) == (256, 256)
    assert config.transform.mean == config.transform.std == (0.5, 0.5, 0.5)
    assert config.optimiser == OptimiserConfig("sgd", 0.01, 0.9, 1e-4, 1e-4, 2.0, 1.0)
    assert config.schedule == EpochCosineSchedule("epoch-cosine", 5, 1e-6, 1e-5)


@pytest.mark.parametrize(("name", "target"), [("camera_model", "camera"), ("orientation_model", "orientation")])
def test_camera_and_orientation_models(name: str, target: str) -> None:
    config = RECIPES[name]()
    assert facts(config) == ("images", 64, 1, 80, 1234) and config.target == target
    assert (config.transform.height, config.transform.width) == (320, 320)
    assert (config.losses.identity, config.losses.triplet, config.heads) == (1.0, 0.0, ())
    assert config.optimiser == OptimiserConfig("sgd", 0.01, 0.9, 5e-4, 5e-4, 2.0, 1.0)
    assert config.schedule == StepSchedule() and config.model.backbone == "resnet101_ibn_a"
    assert RECIPES["orientation_model"]().labels.bins == 36


def test_strdan_has_the_papers_settings() -> None:
    config = strdan()
    assert facts(config) == ("domains", 16, 4, 60, 1)
    transform = config.transform
    assert (transform.height, transform.width, transform.interpolation) == (128, 256, "bilinear")
    assert (transform.enlarge, transform.flip, transform.pad, transform.erase) == (0.5, 0.5, 0, 0.5)
    assert transform.erase_scale == (0.02, 0.4) and transform.erase_ratio == pytest.approx((0.3, 10 / 3))
    assert transform.erase_fill == (0.4914, 0.4822, 0.4465)
    assert transform.mean == (0.485, 0.456, 0.406) and transform.std == (0.229, 0.224, 0.225)
    assert config.losses == LossConfig(triplet_form="hinge", triplet_margin=0.3)
    assert config.optimiser == OptimiserConfig("adam", 3e-4, 0.9, 5e-4, 5e-4, 1.0, 1.0, amsgrad=True)
    assert config.precision == "float32" and not config.model.neck and config.clip_norm is None
    assert (config.labels.bins, config.labels.attributes_on) == (6, "synthetic")


def test_differences_between_strdan_as_paper_and_as_code() -> None:
    paper, code = as_paper(strdan()), as_code(strdan())
    assert (paper.labels.identity_on, paper.labels.bin_edges, paper.num_identities) == ("all", "left", 4)
    assert (code.labels.identity_on, code.labels.bin_edges, code.num_identities) == ("real", "right", 16)
    assert as_code(paper) == code and as_paper(code) == paper


@pytest.mark.parametrize(
    ("number", "heads"),
    list(
        enumerate(
            [
                "",
                "domain orientation",
                "domain color",
                "domain vehicle_type",
                "domain orientation color",
                "domain orientation vehicle_type",
                "domain color vehicle_type",
                "domain orientation color vehicle_type",
            ],
            start=1,
        )
    ),
)
def test_cases_of_strdan(number: int, heads: str) -> None:
    config = RECIPES[f"strdan_case{number}"]()
    assert config.heads == tuple(heads.split())
    assert facts(config) == ("domains" if heads else "identities", 16, 4, 60, 1)
    assert RECIPES["strdan_domain"]().heads == ("domain",)
