"""Rows of a table: data, training, features, post-processing and protocol as one frozen value.

A row is usually `dataclasses.replace` of the row above. Its stages are those of `Row.evaluated`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from vreid.data.protocols import Protocol
from vreid.errors import InputError
from vreid.reproduce.stages import (
    Adapted,
    Crops,
    Data,
    Evaluated,
    Features,
    Folders,
    Model,
    Part,
    PostProcessed,
    Scenes,
    SimulatedWorld,
    Stage,
    Translations,
)
from vreid.retrieval.postprocessing.ensemble import How
from vreid.retrieval.postprocessing.pipeline import PostProcessing
from vreid.training.train_config import TrainConfig

if TYPE_CHECKING:
    from vreid.adaptation.adapt_config import AdaptConfig
    from vreid.training.crop import CropConfig
    from vreid.training.translate import TranslateConfig

__all__ = [
    "TYPE_1",
    "TYPE_2",
    "TYPE_3",
    "TYPE_4",
    "AnyRow",
    "Cropping",
    "Ensemble",
    "Folders",
    "Row",
    "SideModel",
    "SimulatedWorld",
    "with_seeds",
]

TYPE_1: tuple[Part, ...] = ("real",)
TYPE_2: tuple[Part, ...] = ("real", "synthetic")
TYPE_3: tuple[Part, ...] = ("real", "crop", "synthetic")
TYPE_4: tuple[Part, ...] = ("real", "crop", "translated")
"""The training data of the DMT paper's Table 1."""


@dataclass(frozen=True)
class Cropping:
    """Settings of crops: an initial model, trained on real images only, and the extraction of its boxes."""

    training: TrainConfig
    config: CropConfig


@dataclass(frozen=True)
class SideModel:
    """A camera or orientation model whose distances are subtracted.

    Attributes:
        training: configuration of the model.
        parts: its training images.
        weight: see `vreid.retrieval.postprocessing.bias.Bias`.
        views: views of its features (a flipped image has another orientation, but the same camera).
    """

    training: TrainConfig
    parts: tuple[Part, ...]
    weight: float
    views: tuple[str, ...] = ("original",)


@dataclass(frozen=True)
class Row:
    """One row of a table. `name`, `paper` and `against` are not part of its hash.

    Attributes:
        name: name in the table; rows with equal names differ only in seeds and are averaged.
        data: training and evaluation data.
        training: configuration of the model, usually of a recipe. Its recipe name is hashed, since the model stores it;
            initial weights are hashed by content, not by path.
        parts: the training images.
        crops, translation: settings of crops and translations, if training images or views need them.
        adaptation: adaptation to the query and gallery images (stage 2); None without it.
        views, normalise: as in `extract`.
        post: post-processing steps. The features of a bias are hashed by content.
        camera_bias, orientation_bias: models to train for a bias; they replace those in `post`.
        scene_groups: use scene groups from the labels of training images (or the test's column `scene`) instead of
            those in `post`.
        protocol: evaluation protocol; None for that of the data set.
        paper: the paper's figures by metric ("mAP", "mAP@100", "rank1") in percent; the first metric is compared.
        against: name of the row that the paper compares it with.

    Example:
        >>> from vreid.recipes import recipe
        >>> plain = Row("plain", SimulatedWorld("tiny", seed=1), recipe("small"))
        >>> ranked = replace(plain, name="+ re-ranking", post=PostProcessing.parse("rerank=7:2:0.6"))
        >>> ranked.features.hash == plain.features.hash, ranked.hash == plain.hash
        (True, False)
    """

    name: str
    data: Data
    training: TrainConfig
    parts: tuple[Part, ...] = TYPE_2
    crops: Cropping | None = None
    translation: TranslateConfig | None = None
    adaptation: AdaptConfig | None = None
    views: tuple[str, ...] = ("original", "flip")
    normalise: bool = True
    post: PostProcessing = field(default_factory=PostProcessing)
    camera_bias: SideModel | None = None
    orientation_bias: SideModel | None = None
    scene_groups: bool = False
    protocol: Protocol | None = None
    paper: Mapping[str, float] = field(default_factory=dict, hash=False)
    against: str = ""

    @cached_property
    def model(self) -> Model:
        """The model before adaptation."""
        translations = Translations(self.data, self.translation) if self.translation else None
        return Model(self.data, self.parts, self.training, self._crops, translations)

    @cached_property
    def features(self) -> Features:
        """Query and gallery features."""
        model = Adapted(self.model, self.adaptation) if self.adaptation else self.model
        return Features(model, self.views, self.normalise, self._crops)

    @cached_property
    def searched(self) -> PostProcessed:
        """The features with post-processing."""
        return PostProcessed(
            self.features,
            self.post,
            tuple(
                (name, side.weight, Features(Model(self.data, side.parts, side.training), side.views))
                for name, side in (("camera_bias", self.camera_bias), ("orientation_bias", self.orientation_bias))
                if side
            ),
            Scenes(self.data) if self.scene_groups else None,
        )

    @cached_property
    def evaluated(self) -> Evaluated:
        """The final stage, which determines the result."""
        return Evaluated((self.searched,), self.protocol)

    @property
    def hash(self) -> str:
        """The hash of the final stage."""
        return self.evaluated.hash

    @property
    def seeds(self) -> dict[str, int]:
        """The seeds of the world and of the training."""
        world = {"world": self.data.seed} if isinstance(self.data, SimulatedWorld) else {}
        return {**world, "training": self.training.seed}

    @property
    def _crops(self) -> Crops | None:
        """The crops of the data, if settings for crops are given."""
        return Crops(Model(self.data, ("real",), self.crops.training), self.crops.config) if self.crops else None

    def seeded(self, seed: int) -> Row:
        """Return the row with another seed of the world (not of data sets on disk) and of the training."""
        data = replace(self.data, seed=seed) if isinstance(self.data, SimulatedWorld) else self.data
        return replace(self, data=data, training=replace(self.training, seed=seed))


BEST_MEMBER = "the best of its members"
"""Compare an ensemble with its best member: by our numbers here, by the paper's figures in the paper."""


@dataclass(frozen=True)
class Ensemble:
    """A row that fuses the distances of several rows with the same data, each with its own post-processing.

    Attributes:
        name, paper, against: as in `Row`; `BEST_MEMBER` compares it with its best member.
        members: the rows; the first gives data and protocol.
        weights, how: as in `vreid.retrieval.postprocessing.ensemble.ensemble`.

    Raises:
        InputError: no members, or members with different data.
    """

    name: str
    members: tuple[Row, ...]
    weights: tuple[float, ...] | None = None
    how: How = "mean"
    paper: Mapping[str, float] = field(default_factory=dict, hash=False)
    against: str = ""

    def __post_init__(self) -> None:
        if not self.members or any(member.data != self.members[0].data for member in self.members):
            raise InputError(f"Ensemble {self.name!r}: give at least one row, all with the same data.")

    @property
    def data(self) -> Data:
        """The data of the members."""
        return self.members[0].data

    @property
    def training(self) -> TrainConfig:
        """The training configuration of the first member."""
        return self.members[0].training

    @cached_property
    def evaluated(self) -> Evaluated:
        """The final stage, which determines the result."""
        members = tuple(member.searched for member in self.members)
        return Evaluated(members, self.members[0].protocol, self.weights, self.how)

    @property
    def hash(self) -> str:
        """The hash of the final stage."""
        return self.evaluated.hash

    @property
    def seeds(self) -> dict[str, int]:
        """The seeds of the first member."""
        return self.members[0].seeds

    def seeded(self, seed: int) -> Ensemble:
        """Return the ensemble with another seed of the world and of all trainings."""
        return replace(self, members=tuple(member.seeded(seed) for member in self.members))


AnyRow = Row | Ensemble


def compared_with(row: AnyRow, rows: Iterable[AnyRow]) -> list[str]:
    """Names of the `rows` that `row` is compared with: one, or all members if the best one is compared."""
    if row.against == BEST_MEMBER and isinstance(row, Ensemble):
        members = {member.hash for member in row.members}
        return list(dict.fromkeys(other.name for other in rows if other.hash in members))
    return [row.against] if row.against else []


def with_seeds(rows: Iterable[AnyRow], seeds: Sequence[int]) -> Iterator[AnyRow]:
    """Repeat each row with each seed of world and training, under the same name."""
    for row in rows:
        for seed in seeds:
            yield row.seeded(seed)


def stages(rows: Iterable[AnyRow]) -> tuple[Stage, ...]:
    """List all stages of rows in topological order."""
    return tuple(dict.fromkeys(stage for row in rows for stage in row.evaluated.all))
