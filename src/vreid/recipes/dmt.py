"""Stage 1 of DMT: the modified Bag-of-Tricks CNNs, and a small one for CPUs.

Source: Luo et al., "An Empirical Study of Vehicle Re-Identification on the AI City Challenge", CVPRW 2021 (first place
in Track 2), section 3 and the authors' released configurations. All papers' figures start from ImageNet weights
(`--set model.weights=FILE`); a random start does not reach them.
"""

from __future__ import annotations

from dataclasses import replace

from vreid.data.augment import TrainTransform
from vreid.models.reid_model import ModelConfig
from vreid.training.config import TrainConfig
from vreid.training.optimiser import OptimiserConfig
from vreid.training.schedules import CosineSchedule


def resnet50_ibn_a() -> TrainConfig:
    """ResNet50-IBN-a at 256 x 256: the network of the paper's ablations (Tables 1 to 5).

    Figure: on Split-Test 36.0 mAP / 51.7 rank-1 with real data, 46.2 / 64.8 with real and synthetic (Table 1).
    Cost: 80 epochs; a GPU's job (on two CPU cores about an hour for 5,000 images, once).
    Command: vreid train resnet50_ibn_a --data FOLDER --out RUN --set model.weights=resnet50_ibn_a-d9d0bb7b.pth
    """
    return TrainConfig(recipe="resnet50_ibn_a")


def resnet101_ibn_a() -> TrainConfig:
    """ResNet101-IBN-a at 384 x 384.

    Figure: 54.0 mAP / 72.3 rank-1 on Split-Test after stage 1 (Table 6).
    Cost: a GPU of 32 GB, says the authors' README.
    Command: vreid train resnet101_ibn_a --data FOLDER --out RUN --set model.weights=resnet101_ibn_a-59ea0ac6.pth
    """
    return replace(
        resnet50_ibn_a(),
        recipe="resnet101_ibn_a",
        model=ModelConfig(backbone="resnet101_ibn_a"),
        transform=TrainTransform(height=384, width=384),
    )


def resnet101_ibn_a_crop() -> TrainConfig:
    """ResNet101-IBN-a with a random resized crop in place of padding and cropping (Table 6's double dagger).

    Figure: 54.3 mAP / 71.5 rank-1 on Split-Test after stage 1 (Table 6).
    Command: vreid train resnet101_ibn_a_crop --data FOLDER --out RUN --set model.weights=resnet101_ibn_a-59ea0ac6.pth
    """
    base = resnet101_ibn_a()
    return replace(base, recipe="resnet101_ibn_a_crop", transform=replace(base.transform, resized_crop=True))


def resnext101_ibn_a() -> TrainConfig:
    """ResNeXt101-IBN-a (32x4d) at 384 x 384; the one whose classifier learns at the common rate.

    Figure: 50.6 mAP / 70.2 rank-1 on Split-Test after stage 1 (Table 6).
    Command: vreid train resnext101_ibn_a --data FOLDER --out RUN --set model.weights=resnext101_ibn_a-6ace051d.pth
    """
    base = resnet101_ibn_a()
    return replace(
        base,
        recipe="resnext101_ibn_a",
        model=ModelConfig(backbone="resnext101_ibn_a"),
        optimiser=replace(base.optimiser, classifier_factor=1.0),
    )


def small() -> TrainConfig:
    """The same model, narrow and at 96 x 96, with a schedule for minutes on a CPU: what `vreid demo` trains.

    Figure: none in a paper; `vreid demo` prints its own.
    Cost: 2.8 million parameters; some 250 images a second and core with bfloat16 matrix units, half without.
    Command: vreid train small --data FOLDER --out RUN
    """
    return TrainConfig(
        recipe="small",
        model=ModelConfig(backbone="resnet18_ibn_a_small"),
        num_identities=12,
        num_instances=4,
        epochs=22,
        transform=TrainTransform(height=96, width=96, pad=4),
        optimiser=OptimiserConfig(
            kind="adamw",
            learning_rate=4e-3,
            weight_decay=0.05,
            vector_decay=0.0,
            bias_factor=1.0,
            classifier_factor=1.0,
        ),
        schedule=CosineSchedule(),
        clip_norm=5.0,
    )
