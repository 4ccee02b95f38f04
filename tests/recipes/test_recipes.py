"""Recipes have the papers' settings; overrides set any field from text."""

from __future__ import annotations

import re

import pytest

from vreid.configuration import known_keys
from vreid.errors import InputError
from vreid.recipes import RECIPES, recipe
from vreid.training.optimiser import OptimiserConfig
from vreid.training.schedules import StepSchedule
from vreid.training.train_config import LossConfig


def test_recipes_have_the_papers_settings() -> None:
    base = RECIPES["resnet50_ibn_a"]()
    assert (base.num_identities, base.num_instances, base.epochs, base.seed) == (12, 8, 80, 1234)
    assert (base.transform.height, base.transform.width, base.transform.interpolation) == (256, 256, "bicubic")
    assert (base.transform.pad, base.transform.flip, base.transform.erase) == (10, 0.5, 0.5)
    assert base.losses == LossConfig(1.0, 0.0, 1.0, "soft", False, 0.0)
    assert base.optimiser == OptimiserConfig("sgd", 0.01, 0.9, 5e-4, 5e-4, 2.0, 2.0)
    assert base.schedule == StepSchedule("steps", (40, 70), 0.1, 10, 0.01)
    for name in ("resnet101_ibn_a", "resnet101_ibn_a_crop", "resnext101_ibn_a"):
        assert RECIPES[name]().transform.height == 384 and RECIPES[name]().epochs == 80
    assert RECIPES["resnext101_ibn_a"]().optimiser.classifier_factor == 1.0
    assert RECIPES["resnet101_ibn_a_crop"]().transform.resized_crop
    assert all(make().recipe == name for name, make in RECIPES.items())


@pytest.mark.parametrize("name", [name for name in RECIPES if not re.match("strdan_case", name)])
def test_each_recipe_documents_figure_cost_and_command(name: str) -> None:
    text = RECIPES[name].__doc__ or ""
    command = re.search(r"Command: (.+)", text)
    assert "Figure: " in text and re.search(r"Cost( \(.*\n.*\))?: ", text) and command is not None
    assert re.match(f"vreid train {name} |python studies|see the module", command[1])


def test_overrides_read_values_as_the_fields_type() -> None:
    config = recipe(
        "resnet50_ibn_a",
        {
            "optimiser.learning_rate": "1e-3",
            "epochs": "3",
            "schedule.milestones": "1, 2",
            "clip_norm": "5",
            "losses.triplet_squared": "true",
            "transform.mean": ".5,.5,.5",
            "precision": "bfloat16",
            "model.weights": "net.pth",
        },
    )
    assert (config.optimiser.learning_rate, config.epochs, config.clip_norm) == (1e-3, 3, 5.0)
    assert config.schedule == StepSchedule(milestones=(1, 2))
    assert config.losses.triplet_squared is True and config.transform.mean == (0.5, 0.5, 0.5)
    assert config.precision == "bfloat16" and config.model.weights == "net.pth"
    assert recipe("small", {"clip_norm": "none"}).clip_norm is None
    assert recipe("small", {"batches": "images", "losses.triplet": "0"}).losses.triplet == 0  # neither goes alone
    assert recipe("small") == RECIPES["small"]()
    assert known_keys(config)["optimiser.momentum"] == 0.9


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("optimizer.learning_rate", "1", "did you mean 'optimiser.learning_rate'"),
        ("learning_rate", "1", "did you mean 'optimiser.learning_rate'"),
        ("epoch", "1", "did you mean 'epochs'"),
        ("epochs.more", "1", "did you mean 'epochs'"),
        ("optimiser", "sgd", "There is no setting 'optimiser'"),
        ("epochs", "three", "'three' is not a whole number"),
        ("epochs", "0", "epochs is 0; give a whole number from 1 to 100,000."),
        ("precision", "float8", "not auto or float32 or bfloat16"),
        ("losses.triplet_squared", "maybe", "not true or false"),
        ("transform.mean", "1,2", "not 3 values"),
        ("optimiser.learning_rate", "nan", "'nan' is not a number"),
        ("optimiser.learning_rate", "-1", "give a number from 1e-12"),
        ("clip_norm", "big", "not a number or none"),
        ("num_identities", "1", "2 or more"),
    ],
)
def test_wrong_overrides_raise(key: str, value: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        recipe("small", {key: value})
    assert sentence in str(caught.value)


def test_an_unknown_recipe_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'resnet50_ibn_a'"):
        recipe("resnet50")
