"""A row of a table: data, training, features, post-processing and protocol as one frozen value with a hash.

What decides a row's result is a chain of links, one a stage; the hash of a stage covers its own link and all before it:

    world | folders -> model -> features -> metrics

So rows that differ in post-processing share a model, and rows that differ in recipe share a world. A further stage (an
adaptation, say) is a further field of `Row` and a further link of `Row.links`, absent where the field is None.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from vreid.data.dataset import Dataset, join, open_dataset
from vreid.errors import InputError
from vreid.experiments.lines import Link, chain
from vreid.files import reading
from vreid.retrieval.bias import Bias
from vreid.retrieval.postprocess import PostProcessing
from vreid.retrieval.protocols import Protocol
from vreid.simulator.layouts import CITYFLOW, layout_named
from vreid.simulator.presets import SIMULATOR_VERSION, Preset, preset_named
from vreid.training.config import TrainConfig

Parts = Literal["real", "synthetic", "both"]


@dataclass(frozen=True)
class World:
    """A simulated world (see `vreid.simulator.simulate`) and which of its two domains is trained on.

    Raises:
        InputError: there is no such preset, layout or part, or the seed is negative.
    """

    preset: Preset | str
    seed: int
    layout: str = CITYFLOW.name
    train: Parts = "both"

    def __post_init__(self) -> None:
        layout_named(self.layout)
        if isinstance(self.preset, str):
            preset_named(self.preset)
        if self.seed < 0:
            raise InputError(f"World: seed {self.seed} is negative; give 0 or more.")
        if self.train not in get_args(Parts):
            raise InputError(f"World: train is {self.train!r}; choose among {', '.join(get_args(Parts))}.")

    @property
    def link(self) -> Link:
        """What decides the pictures; which of them are trained on is the model's business."""
        preset = preset_named(self.preset) if isinstance(self.preset, str) else self.preset
        made_by = {"preset": asdict(preset), "layout": self.layout, "seed": self.seed}
        return "world", {"simulator_version": SIMULATOR_VERSION, **made_by}

    def open(self, folder: Path) -> Dataset:
        """The world that was simulated into `folder`, with its training images of the chosen domains."""
        layout = layout_named(self.layout)
        real = open_dataset(folder / layout.real, labels="auto")
        if self.train == "real":
            return real
        synthetic = open_dataset((folder / layout.synthetic).parent)
        if self.train == "synthetic":
            return replace(real, name=f"{real.name}, trained on {synthetic.name}", train=synthetic.train)
        return join(real, synthetic)


@dataclass(frozen=True)
class Folders:
    """Data sets on disk: the first is searched, the training images of all are joined.

    What counts is the `fingerprint`, not where the folders lie, so that rows of several machines merge; `Folders.of`
    takes it from the data.
    """

    sources: tuple[str, ...]
    fingerprint: str
    labels: str = "auto"
    train: ClassVar[str] = "all"

    @classmethod
    def of(cls, *sources: Path | str, labels: str = "auto") -> Folders:
        """The folders or tables `sources` (FOLDER@SELECTOR,... as in `open_dataset`) as they are now.

        Raises:
            InputError: one cannot be read.
        """
        unread = cls(tuple(map(str, sources)), "", labels)
        return replace(unread, fingerprint=unread._read().fingerprint())

    @property
    def link(self) -> Link:
        """What decides the pictures."""
        return "folders", {"fingerprint": self.fingerprint}

    def open(self, folder: Path | None = None) -> Dataset:
        """The joined data set; nothing lies in `folder`.

        Raises:
            InputError: it is no longer the one that was planned with.
        """
        dataset = self._read()
        if dataset.fingerprint() != self.fingerprint:
            raise InputError(f"{', '.join(self.sources)}: is not the data that the row is about (fingerprint "
                             f"{dataset.fingerprint()}, not {self.fingerprint}); plan the row anew.")  # fmt: skip
        return dataset

    def _read(self) -> Dataset:
        labels = {"auto": "auto", "none": None}.get(self.labels, Path(self.labels))
        return join(*(open_dataset(source, labels=labels) for source in self.sources))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Row:
    """One row of a table. The next one is `dataclasses.replace` of it.

    Attributes:
        name: in the table; rows of one name differ in seeds only, and are averaged. It decides nothing.
        data: what is trained on and searched.
        training: the configuration of the model, usually of a recipe. Its name counts, since the model carries it;
            where its weights lie does not, but what is in them.
        post: steps between features and ranking. Of a bias, what is in its folder of features counts.
        protocol: how the ranking is judged; None: as the data set prescribes.
        views, normalise: as in `extract`.
        paper: the paper's figures beside it, by metric ("mAP", "mAP@100", "rank1"), in percent. They decide nothing.

    Example:
        >>> from vreid.recipes import recipe
        >>> plain = Row("plain", World("tiny", seed=1), recipe("small"))
        >>> ranked = replace(plain, name="+ re-ranking", post=PostProcessing.parse("rerank=7:2:0.6"))
        >>> ranked.hashes["model"] == plain.hashes["model"], ranked.hash == plain.hash
        (True, False)
    """

    name: str
    data: World | Folders
    training: TrainConfig
    post: PostProcessing = field(default_factory=PostProcessing)
    protocol: Protocol | None = None
    views: tuple[str, ...] = ("original", "flip")
    normalise: bool = True
    paper: Mapping[str, float] = field(default_factory=dict, hash=False)

    @cached_property
    def links(self) -> tuple[Link, ...]:
        """What decides the result, stage by stage, in plain values.

        Raises:
            InputError: weights or a bias's features are named that are not there.
        """
        config = self.training.as_dict()
        if self.training.model.weights:
            config["model"]["weights"] = _digest([Path(self.training.model.weights)])
        post = {step.name: _plain(getattr(self.post, step.name)) for step in fields(self.post)}
        links = (
            self.data.link,
            ("model", {"train": self.data.train, "training": config}),
            ("features", {"views": self.views, "normalise": self.normalise}),
            ("metrics", {"post": post, "protocol": self.protocol and asdict(self.protocol)}),
        )
        return tuple((stage, json.loads(json.dumps(decides, allow_nan=False))) for stage, decides in links)

    @cached_property
    def hashes(self) -> dict[str, str]:
        """The hash of each stage, first to last."""
        return chain(self.links)

    @property
    def hash(self) -> str:
        """The hash of all that decides the result: that of the last stage."""
        return self.hashes["metrics"]

    @property
    def seeds(self) -> dict[str, int]:
        """What was drawn by which seed."""
        world = {"world": self.data.seed} if isinstance(self.data, World) else {}
        return {**world, "training": self.training.seed}


def with_seeds(rows: Iterable[Row], seeds: Sequence[int]) -> Iterator[Row]:
    """Each row with each training seed, under the same name."""
    for row in rows:
        for seed in seeds:
            yield replace(row, training=replace(row.training, seed=seed))


def _digest(files: Sequence[Path]) -> str:
    total = hashlib.sha256()
    for file in files:
        with reading(file), open(file, "rb") as opened:
            total.update(hashlib.file_digest(opened, "sha256").digest())
    return f"sha256 {total.hexdigest()[:16]}"


def _plain(step: Any) -> Any:
    """The configuration of a post-processing step in plain values; of features in a folder what they are."""
    if not is_dataclass(step):
        return step
    if isinstance(step, Bias):
        if isinstance(step.features, tuple):
            raise InputError("A row's bias names the folder of its features; features in memory have no name.")
        digest = _digest([Path(step.features) / f"{side}.safetensors" for side in ("query", "gallery")])
        step = replace(step, features=digest)
    return asdict(step)
