"""Stages of an experiment, each a frozen value with its settings and input stages, built once and cached by hash.

    world | folders ─┬─> crop model (a model) ─> crops ─┐
                     ├─> translations ──────────────────┤
                     ├──────────────────────────────────┴─> model ─> adapted ─> features ─> metrics
                     └─> scene groups of the test (of `adapted` and `metrics`)

The hash of a stage covers its settings and the hashes of its inputs, and nothing else. Rows that differ in
post-processing therefore share features, rows that differ in recipe share a world, and a changed field rebuilds exactly
the stages that depend on it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from vreid.configuration import plain_values
from vreid.data.dataset import Dataset, join
from vreid.data.open import open_dataset
from vreid.data.protocols import Protocol
from vreid.errors import InputError
from vreid.files import reading
from vreid.reproduce.result_lines import Link, chain
from vreid.retrieval.features import FACTS
from vreid.retrieval.postprocessing.bias import Bias
from vreid.retrieval.postprocessing.ensemble import How
from vreid.retrieval.postprocessing.pipeline import PostProcessing
from vreid.simulator.city.presets import SIMULATOR_VERSION, Preset, check_seed, preset_named
from vreid.simulator.formats.layouts import CITYFLOW, layout_named
from vreid.simulator.formats.output_folder import SUMMARY
from vreid.training.train_config import TrainConfig

if TYPE_CHECKING:
    from vreid.adaptation.adapt_config import AdaptConfig
    from vreid.training.crop import CropConfig
    from vreid.training.translate import TranslateConfig

Part = Literal["real", "crop", "synthetic", "translated"]
"""Parts of the training images: real ones, their crops, synthetic ones, their translations."""


@dataclass(frozen=True)
class Stage:
    """A stage, built once in the folder KIND/HASH of a cache.

    Attributes:
        kind: name of the folder of all stages of this kind.
        complete: the file that it writes last; "" if it has no folder.
    """

    kind: ClassVar[str]
    complete: ClassVar[str] = ""

    @property
    def inputs(self) -> tuple[Stage, ...]:
        """The input stages: by default those among the fields."""
        return tuple(value for one in fields(self) if isinstance(value := getattr(self, one.name), Stage))

    @property
    def settings(self) -> dict[str, Any]:
        """The settings besides input stages: all other fields that are not None; configurations are flattened."""
        found: dict[str, Any] = {}
        for one in fields(self):
            value = getattr(self, one.name)
            if is_dataclass(value):
                found |= {} if isinstance(value, Stage) else plain_values(value)
            elif value is not None:
                found[one.name] = value
        return found

    @cached_property
    def links(self) -> tuple[Link, ...]:
        """Kind, settings and inputs of each stage it depends on, itself included, in topological order.

        Raises:
            InputError: weights or features are missing.
        """
        place = {stage: number for number, stage in enumerate(self.all)}
        settings = {stage: plain_values(stage.settings) for stage in place}
        return tuple((stage.kind, settings[stage], tuple(place[of] for of in stage.inputs)) for stage in place)

    @cached_property
    def hash(self) -> str:
        """16 hexadecimal digits over its settings and inputs."""
        return chain(self.links)[-1]

    @property
    def name(self) -> str:
        """Its folder below the cache."""
        return f"{self.kind}/{self.hash}"

    @cached_property
    def all(self) -> tuple[Stage, ...]:
        """The stage and all its direct and indirect inputs in topological order."""
        found = dict.fromkeys(stage for needed in self.inputs for stage in needed.all)
        return (*found, self)


@dataclass(frozen=True)
class SimulatedWorld(Stage):
    """A simulated world (see `vreid.simulator.simulate`).

    Raises:
        InputError: there is no such preset or layout, or the seed is negative or that of pretraining.
    """

    kind: ClassVar[str] = "world"
    complete: ClassVar[str] = SUMMARY

    preset: Preset | str
    seed: int
    layout: str = CITYFLOW.name

    def __post_init__(self) -> None:
        layout_named(self.layout)
        if isinstance(self.preset, str):
            preset_named(self.preset)
        check_seed(self.seed)

    @property
    def settings(self) -> dict[str, Any]:
        """The values of the preset, the layout and the seed."""
        preset = preset_named(self.preset) if isinstance(self.preset, str) else self.preset
        made_by = {"preset": preset, "layout": self.layout, "seed": self.seed}
        return {"simulator_version": SIMULATOR_VERSION, **made_by}

    def open(self, folder: Path) -> Dataset:
        """Open the world in `folder`, with the training images of both domains."""
        layout = layout_named(self.layout)
        return join(open_dataset(folder / layout.real, labels="auto"), open_dataset((folder / layout.synthetic).parent))


@dataclass(frozen=True)
class Folders(Stage):
    """Data sets on disk: evaluation on the first, training on the joined training images of all.

    The hash covers the `fingerprint`, not the paths, so that rows of several machines can be merged. `Folders.of` reads
    it from the data, together with the name of the evaluation data set, its numbers of queries, gallery images and
    gallery vehicles, and whether its test images have cameras.
    """

    kind: ClassVar[str] = "folders"

    sources: tuple[str, ...]
    fingerprint: str
    labels: str = "auto"
    searched: str = ""
    test: tuple[int, int, int] = (0, 0, 0)
    cameras: bool = False

    @classmethod
    def of(cls, *sources: Path | str, labels: str = "auto") -> Folders:
        """Read the folders or tables `sources` (FOLDER@SELECTOR,... as in `open_dataset`).

        Raises:
            InputError: one cannot be read.
        """
        unread = cls(tuple(map(str, sources)), "", labels)
        found = unread._read()
        return replace(
            unread,
            fingerprint=found.fingerprint(),
            searched=found.name.partition(" + ")[0],
            test=(len(found.query), len(found.gallery), found.gallery.identity.distinct),
            cameras=bool(found.query.camera.known.any() and found.gallery.camera.known.any()),
        )

    @property
    def settings(self) -> dict[str, Any]:
        """The fingerprint of the data."""
        return {"fingerprint": self.fingerprint}

    def open(self, folder: Path | None = None) -> Dataset:
        """Open the joined data set; `folder` is not used.

        Raises:
            InputError: the data has changed since the row was planned.
        """
        dataset = self._read()
        if dataset.fingerprint() != self.fingerprint:
            raise InputError(
                f"{', '.join(self.sources)}: the data has changed (fingerprint {dataset.fingerprint()}, not "
                f"{self.fingerprint}); run the command again to plan the row with the new data."
            )
        return dataset

    def _read(self) -> Dataset:
        labels = {"auto": "auto", "none": None}.get(self.labels, Path(self.labels))
        return join(*(open_dataset(source, labels=labels) for source in self.sources))  # type: ignore[arg-type]


Data = SimulatedWorld | Folders


@dataclass(frozen=True)
class Model(Stage):
    """A model trained on some `parts` of the data; its initial weights are hashed by content."""

    kind: ClassVar[str] = "model"
    complete: ClassVar[str] = "model.safetensors"

    data: Data
    parts: tuple[Part, ...]
    training: TrainConfig
    crops: Crops | None = None
    translations: Translations | None = None

    @property
    def inputs(self) -> tuple[Stage, ...]:
        """The data, and the crops and translations among the training images."""
        further = {"crop": self.crops, "translated": self.translations}
        for part, stage in further.items():
            if part in self.parts and stage is None:
                raise InputError(f"Training images of kind {part!r} need settings that say how to build them.")
        return self.data, *(stage for part, stage in further.items() if stage and part in self.parts)

    @property
    def settings(self) -> dict[str, Any]:
        """The parts and the configuration."""
        config = plain_values(self.training)
        weights = self.training.model.weights_path
        config["model"]["weights"] = "" if weights is None else digest([weights])
        return {"parts": self.parts, "training": config}


@dataclass(frozen=True)
class Crops(Stage):
    """Boxes around the vehicles in all real images, by an initial model (see `vreid.training.crop`)."""

    kind: ClassVar[str] = "crops"
    complete: ClassVar[str] = "train.safetensors"

    model: Model
    config: CropConfig

    @property
    def inputs(self) -> tuple[Stage, ...]:
        """The initial model and its data."""
        return self.model, self.model.data


@dataclass(frozen=True)
class Translations(Stage):
    """All synthetic images, translated to the style of the real ones (see `vreid.training.translate`)."""

    kind: ClassVar[str] = "translations"
    complete: ClassVar[str] = "train.safetensors"

    data: Data
    config: TranslateConfig


@dataclass(frozen=True)
class Scenes(Stage):
    """Scene groups of the test: its column `scene`, else from labels of real training images (see `SceneGroups`)."""

    kind: ClassVar[str] = "scenes"
    complete: ClassVar[str] = "scenes.json"

    data: Data


@dataclass(frozen=True)
class Adapted(Stage):
    """A model adapted to the query and gallery images without their labels (see `vreid.adaptation`)."""

    kind: ClassVar[str] = "adapted"
    complete: ClassVar[str] = "model.safetensors"

    model: Model
    config: AdaptConfig

    @property
    def inputs(self) -> tuple[Stage, ...]:
        """The model and its data, and the scene groups if they constrain neighbours."""
        return self.model, self.model.data, *((self.scenes,) if self.scenes else ())

    @property
    def scenes(self) -> Scenes | None:
        """The scene groups, if they are used but not given in the configuration."""
        pseudo = self.config.pseudo
        return Scenes(self.model.data) if pseudo.scenes and not pseudo.scene_groups else None


@dataclass(frozen=True)
class Features(Stage):
    """Query and gallery features."""

    kind: ClassVar[str] = "features"
    complete: ClassVar[str] = FACTS

    model: Model | Adapted
    views: tuple[str, ...] = ("original", "flip")
    normalise: bool = True
    crops: Crops | None = None

    @property
    def data(self) -> Data:
        """The data of the queries and the gallery."""
        return self.first_model.data

    @property
    def first_model(self) -> Model:
        """The model before adaptation."""
        return self.model.model if isinstance(self.model, Adapted) else self.model

    @property
    def inputs(self) -> tuple[Stage, ...]:
        """The model, the data, and the crops if a view needs them."""
        cropped = any(view.startswith("crop") for view in self.views)
        if cropped and self.crops is None:
            raise InputError(f"Views {', '.join(self.views)} need crops; give the settings that say how to build them.")
        return self.model, self.data, *((self.crops,) if cropped and self.crops else ())


@dataclass(frozen=True)
class PostProcessed:
    """Features with post-processing; part of `Evaluated`.

    Attributes:
        features: the features.
        post: the post-processing steps.
        biases: field of `post`, weight and features of each bias whose model is a stage.
        scenes: scene groups that replace those of `post`.
    """

    features: Features
    post: PostProcessing = field(default_factory=PostProcessing)
    biases: tuple[tuple[str, float, Features], ...] = ()
    scenes: Scenes | None = None

    @property
    def inputs(self) -> tuple[Stage, ...]:
        """Features of the model and of its bias models, and the scene groups."""
        biases = (features for _, _, features in self.biases)
        return self.features, *biases, *((self.scenes,) if self.scenes else ())

    @property
    def settings(self) -> dict[str, Any]:
        """The steps, and the weights of the biases."""
        steps = {step.name: _by_content(getattr(self.post, step.name)) for step in fields(self.post)}
        scenes = {"scenes": True} if self.scenes else {}
        return {"post": steps, "biases": [(name, weight) for name, weight, _ in self.biases], **scenes}


@dataclass(frozen=True)
class Evaluated(Stage):
    """The metrics of a row: distances of one model, or an ensemble, under a protocol."""

    kind: ClassVar[str] = "metrics"

    members: tuple[PostProcessed, ...]
    protocol: Protocol | None = None
    weights: tuple[float, ...] | None = None
    how: How = "mean"

    @property
    def inputs(self) -> tuple[Stage, ...]:
        """Features of all members."""
        return tuple(dict.fromkeys(stage for member in self.members for stage in member.inputs))

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of each member, the fusion, and the protocol."""
        place = {stage: number for number, stage in enumerate(self.inputs)}
        members = [{**member.settings, "of": [place[of] for of in member.inputs]} for member in self.members]
        joined = {"weights": self.weights, "how": self.how} if len(members) > 1 else None
        return {"members": members, "joined": joined, "protocol": self.protocol}


def digest(files: Sequence[Path]) -> str:
    """Hash the contents of files: "sha256 " and 16 hexadecimal digits.

    Raises:
        InputError: one cannot be read.
    """
    total = hashlib.sha256()
    for file in files:
        with reading(file), open(file, "rb") as opened:
            total.update(hashlib.file_digest(opened, "sha256").digest())
    return f"sha256 {total.hexdigest()[:16]}"


def _by_content(step: Any) -> Any:
    """Replace the folder of a bias's features in a post-processing step by the hash of their contents."""
    if not isinstance(step, Bias):
        return step
    if isinstance(step.features, tuple):
        raise InputError("A row's bias needs a folder of features; save features in memory to a folder first.")
    folder = Path(step.features)
    return replace(step, features=digest([folder / f"{side}.safetensors" for side in ("query", "gallery")]))
