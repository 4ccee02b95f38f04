"""Stages: the things that rows are made of, each made once. A stage is a frozen value that names what it is made from.

    world | folders ─┬─> crop model (a model) ─> crops ─┐
                     ├─> translations ──────────────────┤
                     ├──────────────────────────────────┴─> model ─> adapted ─> features ─> metrics
                     └─> scene groups of the test (of `adapted` and `metrics`)

Its hash covers its own settings and the hashes of what it is made from, and nothing else: so rows that differ in
post-processing share features, rows that differ in recipe share a world, and a changed field makes anew exactly what
depends on it.
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
from vreid.simulator.formats.write import SUMMARY
from vreid.training.train_config import TrainConfig

if TYPE_CHECKING:
    from vreid.adaptation.adapt_config import AdaptConfig
    from vreid.training.crop import CropConfig
    from vreid.training.translate import TranslateConfig

Part = Literal["real", "crop", "synthetic", "translated"]
"""What training images may be: real ones, their crops, synthetic ones, their translations."""


@dataclass(frozen=True)
class Stage:
    """A thing that is made once, in the folder KIND/HASH of a cache.

    Attributes:
        kind: name of the folder of all stages of its kind.
        complete: the file that it writes last; "" if it makes no folder.
    """

    kind: ClassVar[str]
    complete: ClassVar[str] = ""

    @property
    def inputs(self) -> tuple[Stage, ...]:
        """The stages that it needs: those among its fields, unless a kind says otherwise."""
        return tuple(value for one in fields(self) if isinstance(value := getattr(self, one.name), Stage))

    @property
    def settings(self) -> dict[str, Any]:
        """What decides it besides other stages: its other fields that are given, of a configuration its fields."""
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
        """What decides it, in plain values: a link for each stage that it needs, each before those that need it.

        Raises:
            InputError: weights or features are named that are not there.
        """
        place = {stage: number for number, stage in enumerate(self.all)}
        settings = {stage: plain_values(stage.settings) for stage in place}
        return tuple((stage.kind, settings[stage], tuple(place[of] for of in stage.inputs)) for stage in place)

    @cached_property
    def hash(self) -> str:
        """16 hexadecimal digits over all that decides it."""
        return chain(self.links)[-1]

    @property
    def name(self) -> str:
        """Its folder below the cache."""
        return f"{self.kind}/{self.hash}"

    @cached_property
    def all(self) -> tuple[Stage, ...]:
        """It and all that it needs, each once, before what needs it."""
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
        """The preset by its values."""
        preset = preset_named(self.preset) if isinstance(self.preset, str) else self.preset
        made_by = {"preset": preset, "layout": self.layout, "seed": self.seed}
        return {"simulator_version": SIMULATOR_VERSION, **made_by}

    def open(self, folder: Path) -> Dataset:
        """The world that was simulated into `folder`, with the training images of both domains."""
        layout = layout_named(self.layout)
        return join(open_dataset(folder / layout.real, labels="auto"), open_dataset((folder / layout.synthetic).parent))


@dataclass(frozen=True)
class Folders(Stage):
    """Data sets on disk: the first is searched, the training images of all are joined.

    What counts is the `fingerprint`, not where the folders lie, so that rows of several machines merge; `Folders.of`
    takes it from the data, and with it what is searched: the data set's name, its queries, gallery images and gallery
    vehicles, and whether its test names cameras.
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
        """The folders or tables `sources` (FOLDER@SELECTOR,... as in `open_dataset`) as they are now.

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
        """What is in them."""
        return {"fingerprint": self.fingerprint}

    def open(self, folder: Path | None = None) -> Dataset:
        """The joined data set; nothing lies in `folder`.

        Raises:
            InputError: it is no longer the one that was planned with.
        """
        dataset = self._read()
        if dataset.fingerprint() != self.fingerprint:
            raise InputError(
                f"{', '.join(self.sources)}: is not the data that the row is about (fingerprint "
                f"{dataset.fingerprint()}, not {self.fingerprint}); plan the row anew."
            )
        return dataset

    def _read(self) -> Dataset:
        labels = {"auto": "auto", "none": None}.get(self.labels, Path(self.labels))
        return join(*(open_dataset(source, labels=labels) for source in self.sources))  # type: ignore[arg-type]


Data = SimulatedWorld | Folders


@dataclass(frozen=True)
class Model(Stage):
    """A model trained on some `parts` of the data; where it starts from counts by content."""

    kind: ClassVar[str] = "model"
    complete: ClassVar[str] = "model.safetensors"

    data: Data
    parts: tuple[Part, ...]
    training: TrainConfig
    crops: Crops | None = None
    translations: Translations | None = None

    @property
    def inputs(self) -> tuple[Stage, ...]:
        """The data, and what was made of them that it is trained on."""
        further = {"crop": self.crops, "translated": self.translations}
        for part, stage in further.items():
            if part in self.parts and stage is None:
                raise InputError(f"Training images of kind {part!r} are asked for, but nothing says how to make them.")
        return self.data, *(stage for part, stage in further.items() if stage and part in self.parts)

    @property
    def settings(self) -> dict[str, Any]:
        """The parts and the configuration."""
        config = plain_values(self.training)
        start = self.training.model.weights_path
        config["model"]["weights"] = "" if start is None else digest([start])
        return {"parts": self.parts, "training": config}


@dataclass(frozen=True)
class Crops(Stage):
    """Boxes around the vehicles of all real images, found by an initial model (see `vreid.training.crop`)."""

    kind: ClassVar[str] = "crops"
    complete: ClassVar[str] = "train.safetensors"

    model: Model
    config: CropConfig

    @property
    def inputs(self) -> tuple[Stage, ...]:
        """The initial model, and with it the data."""
        return self.model, self.model.data


@dataclass(frozen=True)
class Translations(Stage):
    """All synthetic images in the look of the real ones (see `vreid.training.translate`)."""

    kind: ClassVar[str] = "translations"
    complete: ClassVar[str] = "train.safetensors"

    data: Data
    config: TranslateConfig


@dataclass(frozen=True)
class Scenes(Stage):
    """Scene groups of the test: its column `scene`, else by the labels of real training images (see `SceneGroups`)."""

    kind: ClassVar[str] = "scenes"
    complete: ClassVar[str] = "scenes.json"

    data: Data


@dataclass(frozen=True)
class Adapted(Stage):
    """A model adapted to the query and gallery images, whose vehicles it is not told (see `vreid.adaptation`)."""

    kind: ClassVar[str] = "adapted"
    complete: ClassVar[str] = "model.safetensors"

    model: Model
    config: AdaptConfig

    @property
    def inputs(self) -> tuple[Stage, ...]:
        """The model, and with it the data; the scene groups, if images of two are never neighbours."""
        return self.model, self.model.data, *((self.scenes,) if self.scenes else ())

    @property
    def scenes(self) -> Scenes | None:
        """The scene groups, if they are used and not named."""
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
        """Whose queries and gallery."""
        return self.first_model.data

    @property
    def first_model(self) -> Model:
        """The model as it was trained with labels."""
        return self.model.model if isinstance(self.model, Adapted) else self.model

    @property
    def inputs(self) -> tuple[Stage, ...]:
        """The model, the data, and the crops if a view shows them."""
        cropped = any(view.startswith("crop") for view in self.views)
        if cropped and self.crops is None:
            raise InputError(f"Views {', '.join(self.views)} show crops, but nothing says how to make them.")
        return self.model, self.data, *((self.crops,) if cropped and self.crops else ())


@dataclass(frozen=True)
class PostProcessed:
    """Features and what is done between them and distances; part of `Evaluated`.

    Attributes:
        biases: field of `post`, weight and features of each bias whose model is a stage too.
        scenes: the scene groups that take the place of those of `post`.
    """

    features: Features
    post: PostProcessing = field(default_factory=PostProcessing)
    biases: tuple[tuple[str, float, Features], ...] = ()
    scenes: Scenes | None = None

    @property
    def inputs(self) -> tuple[Stage, ...]:
        """Features of the model and of those of its biases, and the scene groups."""
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
    """The numbers of a row: distances of one model, or of several joined, under a protocol."""

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
        """What is done with each member, how they are joined, and the protocol."""
        place = {stage: number for number, stage in enumerate(self.inputs)}
        members = [{**member.settings, "of": [place[of] for of in member.inputs]} for member in self.members]
        joined = {"weights": self.weights, "how": self.how} if len(members) > 1 else None
        return {"members": members, "joined": joined, "protocol": self.protocol}


def digest(files: Sequence[Path]) -> str:
    """What is in some files, in 16 hexadecimal digits.

    Raises:
        InputError: one cannot be read.
    """
    total = hashlib.sha256()
    for file in files:
        with reading(file), open(file, "rb") as opened:
            total.update(hashlib.file_digest(opened, "sha256").digest())
    return f"sha256 {total.hexdigest()[:16]}"


def _by_content(step: Any) -> Any:
    """The configuration of a post-processing step, with the digest of features instead of their folder."""
    if not isinstance(step, Bias):
        return step
    if isinstance(step.features, tuple):
        raise InputError("A row's bias names the folder of its features; features in memory have no name.")
    folder = Path(step.features)
    return replace(step, features=digest([folder / f"{side}.safetensors" for side in ("query", "gallery")]))
