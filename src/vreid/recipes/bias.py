"""Recipes of camera and orientation models, whose similarities are subtracted from distances (DMT's biases).

Source: Luo et al., "An Empirical Study of Vehicle Re-Identification on the AI City Challenge", CVPRW 2021, section 3.4,
and the authors' released configurations: the stage-1 schedule, cross-entropy only, batches of 64 random images. The
paper's result with both models: 74.7 -> 76.0 mAP on Split-Test (Table 4).
"""

from __future__ import annotations

from dataclasses import replace

from vreid.data.augment import TrainTransform
from vreid.recipes import dmt
from vreid.training.train_config import LabelConfig, LossConfig, TargetName, TrainConfig


def camera_model() -> TrainConfig:
    """ResNet101-IBN-a at 320 x 320, trained to classify cameras.

    Figure: none by itself.
    Cost: 0.7 times resnet101_ibn_a for as many images.
    Command: vreid train camera_model --data REAL --out RUN --set model.weights=resnet101_ibn_a-59ea0ac6.pth
    """
    base = dmt.resnet101_ibn_a()
    alone = replace(
        base,
        transform=TrainTransform(height=320, width=320),
        optimiser=replace(base.optimiser, classifier_factor=1.0),
    )
    return _label_model("camera", alone, "camera_model")


def orientation_model() -> TrainConfig:
    """ResNet101-IBN-a at 320 x 320, trained to classify orientation in 36 bins of 10 degrees (those that occur).

    A flipped image has the label of its mirror image; the authors' code flips images without changing the label, and
    numbers bins by a rule that leaves 31 of them. Its bin edges are `--set labels.bin_edges=right`.

    Figure: none by itself.
    Cost: as camera_model.
    Command: vreid train orientation_model --data VEHICLEX --out RUN --set model.weights=resnet101_ibn_a-59ea0ac6.pth
    """
    return replace(_label_model("orientation", camera_model(), "orientation_model"), labels=LabelConfig(bins=36))


def camera_small() -> TrainConfig:
    """Small variant of `camera_model` for CPUs, at 96 x 96.

    Figure: none in a paper.
    Cost: 1.0 million parameters; 160 images per CPU second, two minutes on preset smoke
    (`benchmarks/small_variants.py`).
    Command: vreid train camera_small --data REAL --out RUN
    """
    small = dmt.small()
    narrow = replace(small, model=replace(small.model, backbone="resnet101_ibn_a_small"))
    return _label_model("camera", narrow, "camera_small")


def orientation_small() -> TrainConfig:
    """Small variant of `orientation_model` for CPUs: 12 bins of 30 degrees.

    Figure: none in a paper.
    Cost: as camera_small, 166 images per CPU second, 1.2 minutes.
    Command: vreid train orientation_small --data SYNTHETIC --out RUN
    """
    return replace(_label_model("orientation", camera_small(), "orientation_small"), labels=LabelConfig(bins=12))


def _label_model(target: TargetName, base: TrainConfig, recipe: str) -> TrainConfig:
    return replace(
        base,
        recipe=recipe,
        target=target,
        batches="images",
        num_identities=64,
        num_instances=1,
        losses=LossConfig(triplet=0.0),
    )
