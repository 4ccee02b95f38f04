"""Pretraining of the small backbones on a simulated world, as a substitute for ImageNet weights.

All results of both papers use ImageNet weights. The small backbones for CPUs are pretrained on this world instead. No
other world shows its vehicles or cameras: its seed (`PRETRAINING_SEED`) is reserved. All cameras record by day, so
that night scenes are unseen; otherwise the world covers four kinds of daylight, all vehicle types, the car models that
all worlds share, and real-like and synthetic images. `studies/pretrain_small.py` trains the shipped files.
"""

from __future__ import annotations

from dataclasses import replace

from vreid.models.reid_model import ModelConfig
from vreid.models.transreid import TransReIDOptions
from vreid.recipes import dmt
from vreid.simulator.city.presets import PRETRAINING, Preset, Scene
from vreid.training.train_config import LabelConfig, TrainConfig

SIDE = 64
"""Side of the square training images, in pixels."""

WORLD = Preset(
    name=PRETRAINING,
    scenes=(Scene("day_a", 8), Scene("day_b", 8), Scene("day_c", 8), Scene("day_d", 8)),
    new_scene=None,
    train_identities=900,
    test_identities=1,
    synthetic_identities=900,
    synthetic_images=4,
    cameras_per_trip=(3, 4),
    train_frames=(1, 2),
    test_frames=(2, 2),
    longest_side=128,
    models=40,
    bystanders=24,
    motorcycle_share=0.05,
)
"""The simulated world, in layout cityflow: about 8,300 training images of 1,800 vehicles from 32 cameras."""

EPOCHS = 7
"""Epochs for every backbone, so that all are trained on the same number of images (2 to 8 minutes on one core)."""


def pretrain(backbone: str = "resnet18_ibn_a_small") -> TrainConfig:
    """Train on identities of both domains and on colour, type and orientation of each image, at 64 x 64.

    Figure: none; docs/results/measurements.md measures the effect of these weights.
    Cost: 7 epochs of 8,300 images, four minutes on one core.
    Command: python studies/pretrain_small.py (all backbones, world included)
    """
    base, attention = dmt.small_random(), backbone.startswith("transreid")
    options = TransReIDOptions(image_size=(SIDE, SIDE)) if attention else TransReIDOptions()
    return replace(
        base,
        recipe="pretrain",
        model=ModelConfig(backbone=backbone, transreid=options),
        heads=("color", "vehicle_type", "orientation"),
        labels=LabelConfig(attributes_on="labelled", bins=12),
        epochs=EPOCHS,
        transform=replace(base.transform, height=SIDE, width=SIDE, pad=3),
        optimiser=replace(base.optimiser, learning_rate=1e-3) if attention else base.optimiser,
    )
