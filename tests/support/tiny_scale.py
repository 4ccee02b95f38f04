"""A scale for tests: every stage of every table, in a second each."""

from __future__ import annotations

from dataclasses import replace

from vreid.adaptation.adapt_config import AdaptConfig
from vreid.data.augment import TrainTransform
from vreid.models.reid_model import ModelConfig
from vreid.recipes import recipe, strdan
from vreid.recipes.spgan import translation
from vreid.reproduce.rows import Cropping, SideModel
from vreid.reproduce.stages import SimulatedWorld
from vreid.reproduce.tables.scales import Scale, ungated
from vreid.retrieval.postprocessing.reranking import ReRanking
from vreid.training.crop import CropConfig
from vreid.training.train_config import TrainConfig

TRAINING = TrainConfig(
    recipe="tiny",
    model=ModelConfig(backbone="resnet10_ibn_a_tiny"),
    num_identities=4,
    num_instances=2,
    epochs=1,
    iterations=1,
    transform=TrainTransform(height=32, width=32, pad=2),
    precision="float32",
)


def _side(name: str) -> TrainConfig:
    return replace(
        recipe(name),
        model=TRAINING.model,
        transform=TRAINING.transform,
        epochs=1,
        iterations=1,
        num_identities=8,
        precision="float32",
    )


def _adaptation(name: str) -> AdaptConfig:
    config = ungated(name)
    pseudo = replace(config.pseudo, k1=4, k2=2, eps=0.85, min_samples=2)
    return replace(config, pseudo=pseudo, iterations=1, epochs=1, num_identities=2, num_instances=2)


def _strdan() -> TrainConfig:
    base = strdan.strdan()
    return replace(
        base,
        model=replace(TRAINING.model, neck=False),
        num_identities=8,
        num_instances=2,
        epochs=1,
        transform=replace(base.transform, height=32, width=32),
        iterations=1,
    )


TINY = Scale(
    name="tiny",
    data=lambda layout: SimulatedWorld("tiny", 1, layout),
    training=lambda name: replace(TRAINING, recipe=f"tiny {name}"),
    strdan=_strdan(),
    cropping=Cropping(replace(TRAINING, transform=TrainTransform(height=128, width=128, pad=2)), CropConfig()),
    translation=translation(
        "spgan_small", {"epochs": "1", "size": "16", "load": "18", "filters": "4", "blocks": "1", "metric_stages": "1"}
    ),
    adaptation=_adaptation,
    camera=SideModel(_side("camera_small"), ("real",), 0.1, ("original", "flip")),
    orientation=SideModel(_side("orientation_small"), ("synthetic",), 0.05),
    image_reranking=ReRanking(k1=4, k2=2, lambda_=0.3),
    seeds=2,
    usual={"world": 1.0},
)
