"""Recipes of crop models, from whose activation maps `vreid data crop` derives boxes.

Source: Zhu et al., "VOC-ReID: Vehicle Re-identification based on Vehicle-Orientation-Camera", CVPRW 2020, and its code.
Train a crop model on the original images of the real domain only. Boxes are derived from the last feature map, so the
stride must be 16 and images at least 128 pixels wide and high.
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

    Circle loss has the authors' m 0.35 and s 64, but on pairs of images instead of class weights. A warm-up of two
    epochs replaces the two epochs in which the authors freeze the backbone.

    Figure: none by itself.
    Cost: 12 epochs of the real originals; needs a GPU.
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
    """Small variant of `crop_model` for CPUs: `small_random` at 128 x 128 (a map of 8 x 8) with GeM, 12 epochs.

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
