"""Learning rates value by value (methods: section 5) and parameter groups."""

from __future__ import annotations

import pytest
from torch import nn

from vreid.models import build
from vreid.training.optimiser import OptimiserConfig, build_optimiser, parameter_groups, set_rates
from vreid.training.schedules import CosineSchedule, StepSchedule


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [(1, 1.09e-3), (5, 5.05e-3), (9, 9.01e-3), (10, 1e-2), (39, 1e-2), (40, 1e-3), (69, 1e-3), (70, 1e-4), (80, 1e-4)],
)
def test_step_schedule_is_the_papers(epoch: int, rate: float) -> None:
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
