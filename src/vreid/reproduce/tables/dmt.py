"""The tables of DMT: generators of rows with the paper's figures, each row `dataclasses.replace` of one above.

Source: Luo et al., "An Empirical Study of Vehicle Re-Identification on the AI City Challenge", CVPRW 2021, Tables 1 to
7, on Split-Test; mAP and rank-1 in percent. The paper's baseline uses one view of an image.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from vreid.data.protocols import AI_CITY
from vreid.reproduce.rows import BEST_MEMBER, TYPE_1, TYPE_2, TYPE_3, TYPE_4, AnyRow, Ensemble, Row
from vreid.reproduce.stages import Part
from vreid.reproduce.tables.scales import Scale
from vreid.retrieval.postprocessing.camera_statistics import CameraWhitening
from vreid.retrieval.postprocessing.pipeline import PostProcessing
from vreid.retrieval.postprocessing.reranking import ReRanking
from vreid.retrieval.postprocessing.tracklet_features import Tracklets
from vreid.simulator.formats.layouts import CITYFLOW
from vreid.training.train_config import TrainConfig

TTA = ("original", "flip", "crop", "crop-flip")
CODE_TTA = ("original", "crop")
STEPS = (
    "TTA",
    "re-ranking",
    "weighted tracklets",
    "camera verification",
    "inter-camera fusion",
    "biases",
    "scene groups",
)
"""The steps of Table 4, in its order, and the one that only the released code has."""
RIDGE = 0.18
"""Ridge of the inter-camera fusion for models for which the paper gives none."""


def figures(mean_ap: float, rank1: float) -> dict[str, float]:
    """Return a row's figures by metric."""
    return {"mAP": mean_ap, "rank1": rank1}


def first_row(scale: Scale) -> Row:
    """R50-IBN-a on real images only, the base of all rows."""
    return Row(
        name="Type 1: real",
        data=scale.data(CITYFLOW.name),
        training=scale.training("resnet50_ibn_a"),
        parts=TYPE_1,
        crops=scale.cropping,
        translation=scale.translation,
        views=("original",),
        protocol=AI_CITY,
        paper=figures(36.0, 51.7),
    )


def second_row(scale: Scale) -> Row:
    """R50-IBN-a on real and synthetic images: the baseline of Tables 3 to 5."""
    first = first_row(scale)
    return replace(first, name="Type 2: + synthetic", parts=TYPE_2, against=first.name, paper=figures(46.2, 64.8))


def with_steps(row: Row, scale: Scale, steps: Collection[str], ridge: float = RIDGE) -> Row:
    """Add `STEPS` to `row`; re-ranking has different parameters for single images and for tracklets."""
    tracklets = "weighted tracklets" in steps
    reranking = ReRanking(k1=7, k2=2, lambda_=0.6) if tracklets else scale.image_reranking
    post = PostProcessing(
        camera_whitening=CameraWhitening(ridge, share=0.5) if "inter-camera fusion" in steps else None,
        tracklets=Tracklets(feature="weighted", norm="raw") if tracklets else None,
        reranking=reranking if "re-ranking" in steps else None,
        exclude_same_camera="camera verification" in steps,
    )
    return replace(
        row,
        views=TTA if "TTA" in steps else row.views,
        post=post,
        camera_bias=scale.camera if "biases" in steps else None,
        orientation_bias=scale.orientation if "biases" in steps else None,
        scene_groups="scene groups" in steps,
    )


def table_1(scale: Scale) -> Iterator[AnyRow]:
    """Training data: real, + synthetic, + crops, translated instead of synthetic."""
    yield first_row(scale)
    second = second_row(scale)
    yield second
    third = replace(second, name="Type 3: + crops", parts=TYPE_3, against=second.name, paper=figures(49.1, 65.9))
    yield third
    yield replace(third, name="Type 4: translated", parts=TYPE_4, against=third.name, paper=figures(49.9, 66.4))
    paper = replace(
        second.training, num_identities=second.training.num_instances, num_instances=second.training.num_identities
    )
    yield replace(
        second,
        name="Type 2, P and K as in the paper (8 x 12, not 12 x 8)",
        training=paper,
        against=second.name,
        paper={},
    )


def table_2(scale: Scale) -> Iterator[AnyRow]:
    """Backbones, without and with synthetic images, all at the size of the first."""
    backbones = ("resnet50_ibn_a", "resnet101_ibn_a", "transreid")
    printed = {TYPE_1: ((36.0, 51.7), (38.8, 54.8), (42.1, 59.8)), TYPE_2: ((46.2, 64.8), (47.6, 68.2), (45.5, 61.0))}
    first = first_row(scale)
    for kind, (parts, found) in zip(("Type 1", "Type 2"), printed.items(), strict=True):
        for name, paper in zip(backbones, found, strict=True):
            against = "" if name == "resnet50_ibn_a" else f"{kind}, resnet50_ibn_a"
            training = _sized(scale.training(name), first.training)
            yield replace(
                first, name=f"{kind}, {name}", parts=parts, training=training, against=against, paper=figures(*paper)
            )


def _sized(config: TrainConfig, like: TrainConfig) -> TrainConfig:
    transform = replace(config.transform, height=like.transform.height, width=like.transform.width)
    return replace(config, transform=transform)


def table_3(scale: Scale) -> Iterator[AnyRow]:
    """Stage 2: adaptation to the test images without their labels."""
    first = replace(second_row(scale), name="stage 1", against="")
    yield first
    second = replace(
        first, name="stage 2 (v1)", adaptation=scale.adaptation("v1"), against=first.name, paper=figures(66.0, 76.8)
    )
    yield second
    yield replace(second, name="stage 2 (v2)", adaptation=scale.adaptation("v2"), paper={})
    yield replace(second, name="stage 2 as printed (Eq. 2, 3)", adaptation=scale.adaptation("paper"), paper={})


def table_4(scale: Scale) -> Iterator[AnyRow]:
    """Post-processing: steps added one by one as in the paper, then all steps but one."""
    cumulative = {
        "TTA": figures(47.0, 65.0),
        "re-ranking": figures(58.8, 66.1),
        "weighted tracklets": figures(66.8, 66.9),
        "camera verification": figures(72.7, 73.3),
        "inter-camera fusion": figures(74.7, 75.4),
        "biases": figures(76.0, 75.9),
        "scene groups": {},  # in the released code, not in the paper
    }
    row = baseline = replace(second_row(scale), name="baseline", against="")
    yield row
    for count, (step, paper) in enumerate(cumulative.items(), start=1):
        row = replace(with_steps(baseline, scale, STEPS[:count]), name=f"+ {step}", against=row.name, paper=paper)
        yield row
    for step in STEPS:
        others = [other for other in STEPS if other != step]
        yield replace(with_steps(baseline, scale, others), name=f"all but {step}", against=row.name, paper={})
    yield replace(row, name="all, TTA as in the code (original + crop)", views=CODE_TTA, against=row.name, paper={})


def table_5(scale: Scale) -> Iterator[AnyRow]:
    """Data, adaptation and post-processing combined; the paper's row "Type3" is Type 2 in its Table 1."""
    yield replace(first_row(scale), name="baseline, Type 1")
    second = replace(second_row(scale), name="baseline, Type 2", against="baseline, Type 1")
    yield second
    adapted = replace(
        second, name="+ adaptation", adaptation=scale.adaptation("v1"), against=second.name, paper=figures(66.0, 76.8)
    )
    yield adapted
    searched = replace(
        with_steps(second, scale, STEPS), name="+ post-processing", against=second.name, paper=figures(76.0, 75.9)
    )
    yield searched
    yield replace(with_steps(adapted, scale, STEPS), name="+ both", against=searched.name, paper=figures(80.3, 80.9))


MODELS: Mapping[str, tuple[str, tuple[Part, ...], float, tuple[float, ...]]] = {
    "ResNet101-IBN-a": ("resnet101_ibn_a", TYPE_3, 0.18, (54.0, 72.3, 71.2, 79.2, 81.6, 83.5)),
    "ResNet101-IBN-a (Type 4)": ("resnet101_ibn_a", TYPE_4, 0.22, (54.9, 72.7, 72.5, 80.2, 82.2, 83.5)),
    "ResNet101-IBN-a (resized crop)": ("resnet101_ibn_a_crop", TYPE_3, 0.22, (54.3, 71.5, 71.4, 79.0, 82.6, 84.6)),
    "ResNeXt101-IBN-a": ("resnext101_ibn_a", TYPE_3, 0.11, (50.6, 70.2, 74.0, 82.5, 82.5, 84.0)),
    "ResNeSt101": ("resnest101", TYPE_3, 0.09, (51.2, 70.8, 72.4, 80.8, 82.5, 84.1)),
    "SE-ResNet101-IBN-a": ("se_resnet101_ibn_a", TYPE_3, 0.18, (51.6, 69.9, 73.1, 81.6, 82.1, 84.3)),
    "DenseNet169-IBN-a": ("densenet169_ibn_a", TYPE_3, 0.23, (51.2, 69.2, 69.9, 79.6, 82.7, 85.9)),
    "TransReID": ("transreid", TYPE_3, 0.11, (47.5, 65.2, 52.4, 70.3, 78.5, 81.3)),
}
"""Recipe, training data, ridge of the fusion; mAP and rank-1 after stage 1, stage 2 and post-processing (Table 6)."""
TRANSFORMER = "TransReID"
"""The only model that is not a CNN."""


def table_6(scale: Scale) -> Iterator[AnyRow]:
    """The eight models, and their ensembles: each model adapted by both sets of pseudo labels."""
    finished: dict[str, tuple[Row, ...]] = {}
    for name, (recipe, parts, ridge, paper) in MODELS.items():
        row = replace(first_row(scale), training=scale.training(recipe), parts=parts)
        first = replace(row, name=f"{name}, stage 1", paper=figures(*paper[:2]))
        yield first
        adapted = replace(first, name=f"{name}, stage 2", adaptation=scale.adaptation("v1"))
        second = replace(adapted, against=first.name, paper=figures(*paper[2:4]))
        yield second
        third = replace(with_steps(second, scale, STEPS, ridge), name=f"{name}, post", against=second.name)
        third = replace(third, paper=figures(*paper[4:]))
        yield third
        finished[name] = third, replace(third, name=f"{name}, post (v2)", adaptation=scale.adaptation("v2"), paper={})
    convolutional = tuple(row for name, rows in finished.items() if name != TRANSFORMER for row in rows)
    seven = Ensemble("ensemble of the 7 CNNs", convolutional, paper=figures(84.3, 85.9), against=BEST_MEMBER)
    yield seven
    everything = (*convolutional, *finished[TRANSFORMER])
    eight = Ensemble("ensemble of all 8", everything, paper=figures(84.8, 86.7), against=seven.name)
    yield eight
    yield replace(eight, name="ensemble of all 8, over its best member", against=BEST_MEMBER, paper={})
    yield replace(eight, name="ensemble of all 8, by rank", how="rank", paper={}, against=eight.name)
