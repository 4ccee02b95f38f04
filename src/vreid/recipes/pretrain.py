"""Where training starts when no ImageNet weights are at hand: a simulated world, and what each twin learns from it.

Every number of both papers starts from ImageNet. The narrow trunks for CPUs start from this world instead, of which no
test shows a vehicle or a camera: its seed is refused everywhere else (`PRETRAINING_SEED`). All cameras film by day, so
that night is as new to such a start as to a random one; nothing else is held back: four kinds of daylight, all types,
the car models that all worlds share, real-like and synthetic pictures. `studies/pretrain_starts.py` makes the files
that the package ships.
"""

from __future__ import annotations

from dataclasses import replace

from vreid.models.reid_model import ModelConfig
from vreid.models.transreid import TransReIDOptions
from vreid.recipes import dmt
from vreid.simulator.city.presets import PRETRAINING, Preset, Scene
from vreid.training.train_config import LabelConfig, TrainConfig

SIDE = 64
"""Pixels of the square pictures that the starts are trained on."""

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
"""The world, in layout cityflow: some 8,300 training pictures of 1,800 vehicles, 32 cameras."""

EPOCHS = 7
"""Epochs of every backbone: all have seen the same images equally often (two to eight minutes of one core each)."""


def pretrain(backbone: str = "resnet18_ibn_a_small") -> TrainConfig:
    """Identities of both domains and what is known of each picture (colour, type, orientation), at 64 x 64.

    Figure: none; docs/results/measurements.md has what a start is worth.
    Cost: 7 epochs of 8,300 pictures, four minutes of one core.
    Command: python studies/pretrain_starts.py (all trunks, world included)
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
