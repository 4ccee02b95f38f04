"""The initial model of weakly supervised cropping, from whose activation maps boxes are read.

Source: Zhu et al., "VOC-ReID: Vehicle Re-identification based on Vehicle-Orientation-Camera", CVPRW 2020, and its code.
Train it on the originals of the real domain alone; `vreid data crop` reads boxes from its last map, so the stride is 16
and pictures have at least 128 pixels.
"""

from __future__ import annotations

from dataclasses import replace

from vreid.data.augment import TrainTransform
from vreid.models.reid_model import ModelConfig
from vreid.recipes import dmt
from vreid.training.optimiser import OptimiserConfig
from vreid.training.schedules import CosineSchedule
from vreid.training.train_config import LossConfig, TrainConfig


def crop_model() -> TrainConfig:
    """ResNet50-IBN-a at 256 x 256 (a map of 16 x 16) with GeM pooling, circle and triplet loss.

    Circle loss has the authors' m 0.35 and s 64, but on pairs of images where theirs is on class weights. A warm-up of
    two epochs stands for the two in which the authors freeze the backbone.

    Figure: none by itself.
    Cost: 12 epochs of the real originals; a GPU's job.
    Command: vreid train crop_model --data REAL --out RUN --set model.weights=resnet50_ibn_a-d9d0bb7b.pth
    """
    return TrainConfig(
        recipe="crop_model",
        model=ModelConfig(pooling="gem"),
        num_identities=4,
        num_instances=16,
        epochs=12,
        losses=LossConfig(identity=0.0, circle=1.0),
        optimiser=OptimiserConfig(kind="adam", learning_rate=3.5e-4),
        schedule=CosineSchedule(warmup_epochs=2.0, warmup_factor=0.01),
    )


def crop_model_small() -> TrainConfig:
    """The crop model's twin for CPUs: 128 x 128, a map of 8 x 8, all else as `small_random`, but 12 epochs.

    Figure: docs/guides/crops.md.
    Cost: 0.8 million parameters; one to two minutes for 1,700 images.
    Command: vreid train crop_model_small --data REAL --out RUN
    """
    return replace(
        dmt.small_random(),
        recipe="crop_model_small",
        model=ModelConfig(backbone="resnet50_ibn_a_small", pooling="gem"),
        transform=TrainTransform(height=128, width=128, pad=5),
        epochs=12,
    )
