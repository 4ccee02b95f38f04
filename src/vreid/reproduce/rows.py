"""A row of a table: data, training, features, post-processing and protocol as one frozen value; the next row is
`dataclasses.replace` of the one above. What it takes to make it are the stages of `Row.evaluated`."""

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
    """How crops are made: an initial model, trained on the real images alone, and how its boxes are found."""

    training: TrainConfig
    config: CropConfig


@dataclass(frozen=True)
class SideModel:
    """A model of the camera or of the orientation, and how much of its distance is taken off.

    Attributes:
        training: its configuration; parts: what it is trained on; views: of its features (a flipped picture has
            another orientation, but the same camera).
        weight: see `vreid.retrieval.postprocessing.bias.Bias`.
    """

    training: TrainConfig
    parts: tuple[Part, ...]
    weight: float
    views: tuple[str, ...] = ("original",)


@dataclass(frozen=True)
class Row:
    """One row of a table. The next one is `dataclasses.replace` of it.

    Attributes:
        name: in the table; rows of one name differ in seeds only, and are averaged. It decides nothing.
        data: what is trained on and searched.
        training: the configuration of the model, usually of a recipe. Its name counts, since the model carries it;
            where its weights lie does not, but what is in them.
        parts: the training images.
        crops, translation: how crops and translations are made, where training images or views are such.
        adaptation: stage 2, on the query and gallery images; None: none.
        views, normalise: as in `extract`.
        post: steps between features and ranking. Of a bias, what is in its folder of features counts.
        camera_bias, orientation_bias: models that are trained for a bias, and take the place of those in `post`.
        scene_groups: scene groups by the labels of the training images (or the test's column `scene`) take the place
            of those in `post`.
        protocol: how the ranking is judged; None: as the data set prescribes.
        paper: the paper's figures beside it, by metric ("mAP", "mAP@100", "rank1"), in percent; the first metric is
            that of `against`. They decide nothing.
        against: name of the row that it is compared with in the paper. It decides nothing.

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
        """The model before it is adapted."""
        translations = Translations(self.data, self.translation) if self.translation else None
        return Model(self.data, self.parts, self.training, self._crops, translations)

    @cached_property
    def features(self) -> Features:
        """Query and gallery features."""
        model = Adapted(self.model, self.adaptation) if self.adaptation else self.model
        return Features(model, self.views, self.normalise, self._crops)

    @cached_property
    def searched(self) -> PostProcessed:
        """Features and steps."""
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
        """All that decides its result."""
        return Evaluated((self.searched,), self.protocol)

    @property
    def hash(self) -> str:
        """The hash of all that decides the result."""
        return self.evaluated.hash

    @property
    def seeds(self) -> dict[str, int]:
        """What was drawn by which seed."""
        world = {"world": self.data.seed} if isinstance(self.data, SimulatedWorld) else {}
        return {**world, "training": self.training.seed}

    @property
    def _crops(self) -> Crops | None:
        """The crops of its data, whether anything needs them or not."""
        return Crops(Model(self.data, ("real",), self.crops.training), self.crops.config) if self.crops else None

    def seeded(self, seed: int) -> Row:
        """The same with this seed of the world and of the training; data sets on disk have none."""
        data = replace(self.data, seed=seed) if isinstance(self.data, SimulatedWorld) else self.data
        return replace(self, data=data, training=replace(self.training, seed=seed))


BEST_MEMBER = "the best of its members"
"""What an ensemble is compared with: the member that has the best number in the table, in the paper the paper's."""


@dataclass(frozen=True)
class Ensemble:
    """A row whose distances are those of several rows joined: of the same data, each with its own post-processing.

    Attributes:
        name, paper, against: as those of a `Row`; `BEST_MEMBER` compares it with the best of its members here.
        members: the rows; the first says what is searched and how it is judged.
        weights, how: as in `vreid.retrieval.postprocessing.ensemble.ensemble`.

    Raises:
        InputError: no members, or of other data.
    """

    name: str
    members: tuple[Row, ...]
    weights: tuple[float, ...] | None = None
    how: How = "mean"
    paper: Mapping[str, float] = field(default_factory=dict, hash=False)
    against: str = ""

    def __post_init__(self) -> None:
        if not self.members or any(member.data != self.members[0].data for member in self.members):
            raise InputError(f"Ensemble {self.name!r}: give rows of the same data, at least one.")

    @property
    def data(self) -> Data:
        """What is searched."""
        return self.members[0].data

    @property
    def training(self) -> TrainConfig:
        """The first member's."""
        return self.members[0].training

    @cached_property
    def evaluated(self) -> Evaluated:
        """All that decides its result."""
        members = tuple(member.searched for member in self.members)
        return Evaluated(members, self.members[0].protocol, self.weights, self.how)

    @property
    def hash(self) -> str:
        """The hash of all that decides the result."""
        return self.evaluated.hash

    @property
    def seeds(self) -> dict[str, int]:
        """Those of the first member."""
        return self.members[0].seeds

    def seeded(self, seed: int) -> Ensemble:
        """The same with this seed of the world and of all trainings."""
        return replace(self, members=tuple(member.seeded(seed) for member in self.members))


AnyRow = Row | Ensemble


def compared_with(row: AnyRow, rows: Iterable[AnyRow]) -> list[str]:
    """Names of those of `rows` that `row` is compared with: one, or all members of which the best will be."""
    if row.against == BEST_MEMBER and isinstance(row, Ensemble):
        members = {member.hash for member in row.members}
        return list(dict.fromkeys(other.name for other in rows if other.hash in members))
    return [row.against] if row.against else []


def with_seeds(rows: Iterable[AnyRow], seeds: Sequence[int]) -> Iterator[AnyRow]:
    """Each row with each seed of world and training, under the same name."""
    for row in rows:
        for seed in seeds:
            yield row.seeded(seed)


def stages(rows: Iterable[AnyRow]) -> tuple[Stage, ...]:
    """All stages of some rows, each once, before what needs it."""
    return tuple(dict.fromkeys(stage for row in rows for stage in row.evaluated.all))
