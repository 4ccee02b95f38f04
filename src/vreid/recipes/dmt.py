"""Recipes of DMT's stage 1: Bag-of-Tricks CNNs, TransReID, and a small variant for CPUs.

Source: Luo et al., "An Empirical Study of Vehicle Re-Identification on the AI City Challenge", CVPRW 2021 (first place
in Track 2), section 3 and the authors' released configurations. All figures of the paper need ImageNet weights
(`--set model.weights=FILE`, after `vreid weights get NAME`); training from random weights does not reach them.
"""

from __future__ import annotations

from dataclasses import replace

from vreid.data.augment import TrainTransform
from vreid.models.published import SIMULATED
from vreid.models.reid_model import ModelConfig
from vreid.training.optimiser import OptimiserConfig
from vreid.training.schedules import CosineSchedule, EpochCosineSchedule
from vreid.training.train_config import TrainConfig


def resnet50_ibn_a() -> TrainConfig:
    """ResNet50-IBN-a at 256 x 256: the network of the paper's ablations (Tables 1 to 5).

    Figure: on Split-Test 36.0 mAP / 51.7 rank-1 with real data, 46.2 / 64.8 with real and synthetic (Table 1).
    Cost: 80 epochs; needs a GPU (one epoch of 5,000 images takes about an hour on two CPU cores).
    Command: vreid train resnet50_ibn_a --data FOLDER --out RUN --set model.weights=resnet50_ibn_a-d9d0bb7b.pth
    """
    return TrainConfig(recipe="resnet50_ibn_a")


def resnet101_ibn_a() -> TrainConfig:
    """ResNet101-IBN-a at 384 x 384.

    Figure: 54.0 mAP / 72.3 rank-1 on Split-Test after stage 1 (Table 6).
    Cost: a GPU with 32 GB (authors' README).
    Command: vreid train resnet101_ibn_a --data FOLDER --out RUN --set model.weights=resnet101_ibn_a-59ea0ac6.pth
    """
    return replace(
        resnet50_ibn_a(),
        recipe="resnet101_ibn_a",
        model=ModelConfig(backbone="resnet101_ibn_a"),
        transform=TrainTransform(height=384, width=384),
    )


def resnet101_ibn_a_crop() -> TrainConfig:
    """ResNet101-IBN-a with random resized crop instead of padding and cropping (double dagger in Table 6).

    Figure: 54.3 mAP / 71.5 rank-1 on Split-Test after stage 1 (Table 6).
    Cost: as resnet101_ibn_a.
    Command: vreid train resnet101_ibn_a_crop --data FOLDER --out RUN --set model.weights=resnet101_ibn_a-59ea0ac6.pth
    """
    base = resnet101_ibn_a()
    return replace(base, recipe="resnet101_ibn_a_crop", transform=replace(base.transform, resized_crop=True))


def resnext101_ibn_a() -> TrainConfig:
    """ResNeXt101-IBN-a (32x4d) at 384 x 384, the only CNN without a higher learning rate for the classifier.

    Figure: 50.6 mAP / 70.2 rank-1 on Split-Test after stage 1 (Table 6).
    Cost: 42 million parameters, 13 billion multiply-adds for 256 x 256 pixels.
    Command: vreid train resnext101_ibn_a --data FOLDER --out RUN --set model.weights=resnext101_ibn_a-6ace051d.pth
    """
    base = _at_384("resnext101_ibn_a")
    return replace(base, optimiser=replace(base.optimiser, classifier_factor=1.0))


def se_resnet101_ibn_a() -> TrainConfig:
    """SE-ResNet101-IBN-a at 384 x 384.

    Figure: 51.6 mAP / 69.9 rank-1 on Split-Test after stage 1 (Table 6).
    Cost: 47 million parameters, 13 billion multiply-adds for 256 x 256 pixels.
    Command: vreid train se_resnet101_ibn_a --data FOLDER --out RUN --set model.weights=se_resnet101_ibn_a-fabed4e2.pth
    """
    return _at_384("se_resnet101_ibn_a")


def densenet169_ibn_a() -> TrainConfig:
    """DenseNet169-IBN-a at 384 x 384, the only CNN with stride 32.

    Figure: 51.2 mAP / 69.2 rank-1 on Split-Test after stage 1 (Table 6).
    Cost: 12 million parameters, 4 billion multiply-adds for 256 x 256 pixels.
    Command: vreid train densenet169_ibn_a --data FOLDER --out RUN --set model.weights=densenet169_ibn_a-9f32c161.pth
    """
    return _at_384("densenet169_ibn_a")


def resnest101() -> TrainConfig:
    """ResNeSt101 at 384 x 384, without IBN.

    Figure: 51.2 mAP / 70.8 rank-1 on Split-Test after stage 1 (Table 6).
    Cost: 46 million parameters, 16 billion multiply-adds for 256 x 256 pixels.
    Command: vreid train resnest101 --data FOLDER --out RUN --set model.weights=resnest101-22405ba7.pth
    """
    return _at_384("resnest101")


def transreid() -> TrainConfig:
    """TransReID without JPM and SIE: ViT-B/16 at 256 x 256 with patch stride 14.

    `--set model.transreid.jpm=true` adds the jigsaw branch (JPM), which DMT dropped "to simplify". Side information
    (SIE) is enabled by `--set model.transreid.sie_cameras=N` for N training cameras and `model.transreid.sie_views=8`;
    other cameras take the mean embedding in testing.

    Figure: 47.5 mAP / 65.2 rank-1 on Split-Test after stage 1 (Table 6); 42.1 / 59.8 with real data alone (Table 2).
    Cost: 86 million parameters, 30 billion multiply-adds per image.
    Command: vreid train transreid --data FOLDER --out RUN --set model.weights=jx_vit_base_p16_224-80ecf9dd.pth
    """
    half = (0.5, 0.5, 0.5)
    return TrainConfig(
        recipe="transreid",
        model=ModelConfig(backbone="transreid"),
        epochs=40,
        transform=TrainTransform(mean=half, std=half),
        optimiser=OptimiserConfig(weight_decay=1e-4, vector_decay=1e-4, classifier_factor=1.0),
        schedule=EpochCosineSchedule(),
    )


def _at_384(name: str) -> TrainConfig:
    """Return the settings of ResNet101-IBN-a with another backbone."""
    return replace(resnet101_ibn_a(), recipe=name, model=ModelConfig(backbone=name))


def small() -> TrainConfig:
    """Small ResNet18-IBN-a at 96 x 96 that trains in minutes on a CPU; the default of `vreid demo`.

    It uses the shipped pretrained weights (`vreid.recipes.pretrain`), so learning rate and number of epochs are low.
    The recipe also trains the small variants of the papers' other models (`--set
    model.backbone=densenet169_ibn_a_small`); for transreid_small, set model.transreid.image_size=96,96 as well.

    Figure: none in a paper; `vreid demo` prints its own.
    Cost (`benchmarks/small_variants.py`: training images per CPU second on one thread, minutes for a whole run on a
    world of preset smoke): resnet18_ibn_a_small 204, 2.4; resnet50_ibn_a_small 177, 2.7;
    resnet50_stride32_small 201, 2.4; resnet101_ibn_a_small 156, 3.1; resnext101_ibn_a_small 158, 3.1;
    se_resnet101_ibn_a_small 118, 4.1; densenet169_ibn_a_small 167, 2.9; resnest101_small 99, 4.9;
    transreid_small 125, 3.9. At 64 x 64 half of that.
    Command: vreid train small --data FOLDER --out RUN
    """
    base = small_random()
    return replace(
        base,
        recipe="small",
        model=replace(base.model, weights=SIMULATED),
        epochs=10,
        optimiser=replace(base.optimiser, learning_rate=1.5e-3),
    )


def small_random() -> TrainConfig:
    """`small` from random weights, with a higher learning rate and twice the epochs.

    Figure: none in a paper.
    Cost: twice the time of `small`.
    Command: vreid train small_random --data FOLDER --out RUN
    """
    return TrainConfig(
        recipe="small_random",
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
