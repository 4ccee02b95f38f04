"""The three sizes of every table: `smoke`, `gpu` and `paper`.

`smoke` trains small variants on simulated worlds, for CPUs; `gpu` the papers' networks on a larger simulated world, at
256 pixels; `paper` uses the real folders and the papers' settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vreid.adaptation.adapt_config import AdaptConfig, preset_named
from vreid.data.augment import TrainTransform
from vreid.errors import InputError
from vreid.models.published import PUBLISHED, SIMULATED
from vreid.names import SCALES
from vreid.recipes import dmt, recipe, strdan
from vreid.recipes.spgan import translation
from vreid.reproduce.rows import Cropping, SideModel
from vreid.reproduce.stages import Data, Folders, SimulatedWorld
from vreid.retrieval.postprocessing.reranking import ReRanking
from vreid.simulator.city.presets import PRESETS
from vreid.simulator.formats.layouts import CITYFLOW, CITYFLOW2020, VERI
from vreid.training.crop import crop_config
from vreid.training.schedules import CosineSchedule, StepSchedule
from vreid.training.train_config import TrainConfig
from vreid.training.translate import TranslateConfig

SMOKE_DMT = replace(
    PRESETS["smoke"], name="smoke_dmt", train_identities=110, synthetic_identities=340, synthetic_images=6
)
"""`smoke` with 3.1 synthetic vehicles per real one, as in the paper (1,362 to 440); the test has the same size."""

SMOKE_STRDAN = replace(
    PRESETS["smoke"],
    name="smoke_strdan",
    train_identities=160,
    test_identities=30,
    synthetic_identities=200,
    test_frames=(3, 5),
)
"""A smaller `smoke`, since the StRDAN tables train eleven models on each of three such worlds in both layouts."""

SMOKE_VERI = replace(SMOKE_STRDAN, train_identities=90, synthetic_identities=260)
"""The world in VeRi's layout, with twice the images per vehicle. An epoch of half real and half synthetic batches ends
when one domain is exhausted; with too few synthetic images, real ones would be seen less often than in case 1."""

SMOKE_STRDAN_FEW = replace(SMOKE_STRDAN, train_identities=80, synthetic_identities=320)
"""Four synthetic vehicles per real one, as in the paper (1,362 to 333), for ImageNet and random weights."""

SMOKE_VERI_FEW = replace(SMOKE_STRDAN_FEW, train_identities=50)
"""The same in VeRi's layout."""


@dataclass(frozen=True)
class Initialisation:
    """Further initial weights of the StRDAN cases.

    Attributes:
        name: prefix of the names of the rows.
        training: the base configuration of the cases; `iterations` and `epochs` are the budget of each.
        data: training and test images, by layout of the simulator.
        domain: weight of the domain head's loss. With 1, as in the paper, training fails within so few batches because
            the reversed gradient dominates.
    """

    name: str
    training: TrainConfig
    data: Callable[[str], Data]
    domain: float = 0.1


@dataclass(frozen=True)
class Scale:
    """Data and settings of all rows at one size.

    Attributes:
        name: name of the scale.
        data: training and evaluation data, by layout of the simulator ("cityflow", ...).
        training: the configuration of stage 1, by the name of the paper's recipe.
        strdan: the base configuration of the StRDAN cases.
        cropping, translation: settings of crops and translations.
        adaptation: settings of stage 2, by the name of its preset ("v1", "v2", "paper").
        camera, orientation: the bias models.
        image_reranking: re-ranking parameters for single images; those for tracklets are the paper's at every scale.
        seeds: worlds and trainings per row in tables of small differences.
        usual: usual seconds of a stage by kind, for the first plan.
        initialisations: further initial weights of the StRDAN cases.
    """

    name: str
    data: Callable[[str], Data]
    training: Callable[[str], TrainConfig]
    strdan: TrainConfig
    cropping: Cropping
    translation: TranslateConfig
    adaptation: Callable[[str], AdaptConfig]
    camera: SideModel
    orientation: SideModel
    image_reranking: ReRanking
    seeds: int
    usual: Mapping[str, float]
    initialisations: tuple[Initialisation, ...] = ()


SMOKE_WORLDS = {CITYFLOW.name: SMOKE_DMT, CITYFLOW2020.name: SMOKE_STRDAN, VERI.name: SMOKE_VERI}
"""Worlds of the scale `smoke`, by layout."""
SMOKE_WORLDS_FEW = {CITYFLOW2020.name: SMOKE_STRDAN_FEW, VERI.name: SMOKE_VERI_FEW}
"""Worlds of `Scale.initialisations`, by layout."""


def ungated(name: str) -> AdaptConfig:
    """Return the preset of stage 2 without the gate and with one adaptation, as in the paper."""
    return replace(preset_named(name), gate=False, repeats=1)


def smoke() -> Scale:
    """Small variants at 64 x 64 from weights pretrained on simulated data: half a minute to two minutes per training.

    Stage 2 keeps the camera statistics and scene constraints of its preset. Neighbours, clusters, ridge, steps and
    learning rate are derived from the smaller target (`vreid.adaptation.auto_settings`), since DMT's constants are
    for tracklets of thirty images.
    """

    def training(name: str) -> TrainConfig:
        small = dmt.small()
        crop = name == "resnet101_ibn_a_crop"
        model = replace(small.model, backbone=f"{'resnet101_ibn_a' if crop else name}_small")
        options = replace(model.transreid, image_size=(64, 64))
        return replace(
            small,
            recipe=f"{name}_small",
            model=replace(model, transreid=options) if name == "transreid" else model,
            transform=TrainTransform(height=64, width=64, pad=3, resized_crop=crop),
            epochs=5,
            optimiser=replace(small.optimiser, learning_rate=4e-4) if name == "transreid" else small.optimiser,
        )

    def side(name: str) -> TrainConfig:
        return replace(recipe(name), transform=TrainTransform(height=64, width=64, pad=3), epochs=5)

    def adaptation(name: str) -> AdaptConfig:
        own, by_data = preset_named(name).pseudo, ungated("auto")
        pseudo = replace(by_data.pseudo, camera=own.camera, scenes=own.scenes)
        return replace(by_data, preset=name, pseudo=pseudo)

    case = strdan.strdan_small()
    crop_model = recipe("crop_model_small")
    return Scale(
        name="smoke",
        data=lambda layout: SimulatedWorld(SMOKE_WORLDS[layout], 1, layout),
        training=training,
        strdan=replace(
            case,
            transform=replace(case.transform, height=48, width=96),
            epochs=8,
            schedule=StepSchedule(milestones=(5, 7), warmup_epochs=0),
        ),
        cropping=Cropping(
            replace(crop_model, epochs=4, model=replace(crop_model.model, weights=SIMULATED)), crop_config("even")
        ),
        translation=translation("spgan_small", {"epochs": "5"}),
        adaptation=adaptation,
        camera=SideModel(side("camera_small"), ("real",), 0.1, ("original", "flip")),
        orientation=SideModel(side("orientation_small"), ("synthetic",), 0.05),
        image_reranking=ReRanking(k1=20, k2=6, lambda_=0.3),
        seeds=3,
        usual={"world": 150, "model": 60, "crops": 30, "translations": 300, "adapted": 60, "features": 10},
        initialisations=tuple(
            Initialisation(name, config, lambda layout: SimulatedWorld(SMOKE_WORLDS_FEW[layout], 1, layout))
            for name, config in (("ImageNet", strdan.strdan_imagenet()), ("random", strdan.strdan_random()))
        ),
    )


def gpu() -> Scale:
    """The papers' networks at 256 x 256 on a world of preset city, from random weights: minutes per row on one GPU."""

    def at_256(config: TrainConfig, epochs: int) -> TrainConfig:
        """Resize images and use a schedule for few epochs."""
        transform = replace(config.transform, height=256, width=256)
        return replace(
            config,
            epochs=epochs,
            transform=transform,
            optimiser=dmt.small_random().optimiser,
            schedule=CosineSchedule(),
            clip_norm=5.0,
        )

    crop_model = recipe("crop_model_small")
    return Scale(
        name="gpu",
        data=lambda layout: SimulatedWorld("city", 1, layout),
        training=lambda name: at_256(recipe(name), 16),
        strdan=replace(
            strdan.strdan(), epochs=20, schedule=StepSchedule(milestones=(11, 16), warmup_epochs=0), precision="auto"
        ),
        cropping=Cropping(
            replace(crop_model, transform=replace(crop_model.transform, height=256, width=256)), crop_config("even")
        ),
        translation=translation("spgan", {"epochs": "2", "batch_size": "16"}),
        adaptation=ungated,
        camera=SideModel(at_256(recipe("camera_model"), 6), ("real",), 0.1, ("original", "flip")),
        orientation=SideModel(at_256(recipe("orientation_model"), 6), ("synthetic",), 0.05),
        image_reranking=ReRanking(k1=20, k2=6, lambda_=0.3),
        seeds=3,
        usual={"world": 900, "model": 300, "crops": 60, "translations": 400, "adapted": 150, "features": 30},
    )


def paper(sources: Sequence[Path | str]) -> Scale:
    """The papers' settings on real data sets: evaluation on the first, additional training images from the others.

    Models are initialised with published ImageNet weights, which `vreid weights get` downloads.
    """
    if not sources:
        raise InputError("scale paper: needs the real data sets; give --data CITYFLOW --data VEHICLEX.")
    folders = Folders.of(*sources)

    def published(config: TrainConfig) -> TrainConfig:
        """Initialise from ImageNet weights, which do not depend on the stride of the last stage."""
        file = PUBLISHED[config.model.backbone.removesuffix("_stride32")].file
        return replace(config, model=replace(config.model, weights=file))

    return Scale(
        name="paper",
        data=lambda layout: folders,
        training=lambda name: published(recipe(name)),
        strdan=published(strdan.strdan()),
        cropping=Cropping(published(recipe("crop_model")), crop_config("voc")),
        translation=translation("spgan"),
        adaptation=ungated,
        camera=SideModel(published(recipe("camera_model")), ("real",), 0.1, ("original", "flip")),
        orientation=SideModel(published(recipe("orientation_model")), ("synthetic",), 0.05),
        image_reranking=ReRanking(k1=50, k2=15, lambda_=0.3),
        seeds=1,
        usual={},
    )


def scale_named(name: str, sources: Sequence[Path | str] = ()) -> Scale:
    """Look up a scale by name; `paper` needs the data sets `sources`.

    Raises:
        InputError: unknown name, or `sources` for a scale that simulates its data.
    """
    if name == "paper":
        return paper(sources)
    if name not in SCALES:
        raise InputError(f"scale {name!r}: unknown scale; use one of {', '.join(SCALES)}.")
    if sources:
        raise InputError(f"scale {name}: simulates its data; give --data with --scale paper only.")
    return smoke() if name == "smoke" else gpu()
