"""The world and the recipe of the model that ships with the package (`vreid.load_model("default")`).

`studies/default_model.py` makes the world, trains the model and writes the shipped files. Nothing real is in the
training: images are simulated, the initial weights are ImageNet's.
"""

from __future__ import annotations

from dataclasses import replace

from vreid.data.augment import TrainTransform
from vreid.data.degrade import Degradation
from vreid.models.efficientnet import IMAGENET_BACKBONE
from vreid.models.published import IMAGENET
from vreid.models.reid_model import ModelConfig
from vreid.simulator.city.presets import PRESETS, Preset, Scene
from vreid.training.objective import LossConfig
from vreid.training.optimiser import OptimiserConfig
from vreid.training.schedules import CosineSchedule
from vreid.training.train_config import TrainConfig

WORLD: Preset = replace(
    PRESETS["demo"],
    name="default",
    scenes=(Scene("day_a", 6), Scene("day_b", 6), Scene("day_c", 6), Scene("day_d", 6)),
    label_new_scene=True,
    train_identities=2000,
    test_identities=60,
    synthetic_identities=1400,
    synthetic_images=4,
    models=100,
    bystanders=24,
    motorcycle_share=0.45,
)
"""All light there is, almost as many motorcycles as other vehicles, 100 models of each type: 18,718 training images."""
WORLD_SEED = 1616

CHECK_WORLD: Preset = replace(
    WORLD, name="default_check", train_identities=24, test_identities=150, synthetic_identities=300
)
"""The world on which thresholds and temperatures are calibrated: other vehicles, cameras and weather."""
CHECK_SEED = 1617


def default() -> TrainConfig:
    """EfficientNet-Lite0 from ImageNet weights at 96 x 96, trained on simulated images that differ as cameras do.

    Supervised contrastive loss and cross-entropy on identities, further heads for colour, type and orientation. Colour,
    focus, motion, distance, noise and compression change from image to image (`Degradation`), since the features are
    for cameras that nobody simulated. Float32, which is faster for depth-wise networks on CPUs. Needs the extra
    `imagenet`.

    Test images are larger (128 x 128) than training images.

    Figure: none in a paper; docs/results/default_model.md.
    Cost: 3.4 million parameters; 50 images per CPU second.
    Command: python studies/default_model.py (world, training and shipped files)
    """
    half = (0.5, 0.5, 0.5)
    return TrainConfig(
        recipe="default",
        model=ModelConfig(backbone=IMAGENET_BACKBONE, weights=IMAGENET),
        heads=("color", "vehicle_type", "orientation"),
        num_identities=16,
        num_instances=4,
        epochs=5,
        iterations=320,
        transform=TrainTransform(
            height=96,
            width=96,
            mean=half,
            std=half,
            pad=4,
            resized_crop=True,
            crop_scale=(0.6, 1.0),
            erase=0.4,
            test_scale=4 / 3,
            degradation=Degradation(
                colour=0.8, gain=0.3, white_balance=0.07, grey=0.05, shrink=0.6, blur=0.5, noise=0.3, jpeg=0.5
            ),
        ),
        losses=LossConfig(label_smoothing=0.1, triplet=0.0, contrastive=1.0, attributes=0.1),
        optimiser=OptimiserConfig(
            kind="adamw",
            learning_rate=6e-4,
            weight_decay=0.05,
            vector_decay=0.0,
            bias_factor=1.0,
            classifier_factor=2.0,
        ),
        schedule=CosineSchedule(warmup_epochs=0.3),
        clip_norm=5.0,
        precision="float32",
    )


def refined() -> TrainConfig:
    """The second training of the default model, from the weights of the first: larger images, averaged weights.

    Figure: none in a paper; docs/results/default_model.md.
    Cost: 36 images per CPU second.
    Command: python studies/default_model.py
    """
    base = default()
    return replace(
        base,
        recipe="default_refined",
        model=replace(base.model, weights=""),
        epochs=4,
        iterations=365,
        transform=replace(base.transform, height=112, width=112, test_scale=9 / 7),
        optimiser=replace(base.optimiser, learning_rate=4e-4),
        schedule=CosineSchedule(warmup_epochs=0.1),
        ema=0.998,
    )
