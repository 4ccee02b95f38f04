"""Builders of each kind of stage (see `vreid.reproduce.stages`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from vreid.data.dataset import Dataset
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.files import parse_errors, read_json, write_json
from vreid.progress import Progress
from vreid.reproduce.stages import (
    Adapted,
    Crops,
    Data,
    Features,
    Model,
    Part,
    Scenes,
    SimulatedWorld,
    Stage,
    Translations,
)
from vreid.retrieval.postprocessing.scene_groups import SceneGroups
from vreid.retrieval.storage import pack_records, read_arrays, unpack_records, write_arrays
from vreid.simulator.formats.write import simulate
from vreid.training.supervised import train
from vreid.workflow import extract


@dataclass(frozen=True)
class StageBuilder:
    """Builds stages in a cache.

    Attributes:
        cache: the folder of all stages.
        device: device of training and extraction.
        workers: processes for simulation and image loading.
        progress: listener.
    """

    cache: Path
    device: str
    workers: int | None
    progress: Progress
    _opened: dict[Data, Dataset] = field(default_factory=dict, repr=False)

    def folder(self, stage: Stage) -> Path:
        """Return the folder of a stage."""
        return self.cache / stage.name

    def dataset(self, data: Data) -> Dataset:
        """Open a data set with the training images of both domains; the last one is cached."""
        if data not in self._opened:
            self._opened.clear()
            self._opened[data] = data.open(self.folder(data))
        return self._opened[data]

    def images(self, stage: Model) -> Records:
        """Collect the training images of a model."""
        dataset = self.dataset(stage.data)
        found = {"crop": stage.crops, "translated": stage.translations}
        parts: list[Records] = []
        for part in stage.parts:
            made = found.get(part)
            originals = of_part(dataset.train, part)
            if not len(originals):
                raise InputError(f"{dataset.name}: has no {part} training images; add a data set that has some.")
            parts.append(self.variant(made, "train", originals) if made else originals)
        return Records.concat(parts)

    def variant(self, made: Crops | Translations, split: str, originals: Records) -> Records:
        """Replace the images of a split by their crops or translations."""
        folder = self.folder(made)
        arrays, _ = read_arrays(folder / f"{split}.safetensors", "images")
        with parse_errors(folder / f"{split}.safetensors"):
            stored = unpack_records("images", arrays)
        place = {key: number for number, key in enumerate(stored.image_key)}
        stored = stored[np.array([place[key] for key in originals.image_key], dtype=np.intp)]
        path = originals.path if isinstance(made, Crops) else [str(folder / path) for path in stored.path]
        return originals.with_(path=path, variant=stored.variant.values.tolist(), box=stored.box)

    def store(self, made: Crops | Translations, split: str, records: Records) -> None:
        """Write the records that `variant` reads, with relative paths, so that a cache can be moved."""
        folder = self.folder(made)
        if isinstance(made, Translations):
            records = records.with_(path=[str(Path(path).relative_to(folder)) for path in records.path])
        write_arrays(folder / f"{split}.safetensors", "images", pack_records("images", records))

    def scene_groups(self, stage: Scenes) -> SceneGroups:
        """Read the scene groups of a built stage."""
        file = self.folder(stage) / stage.complete
        stored = read_json(file)
        with parse_errors(file):
            return SceneGroups(tuple(map(tuple, stored["cameras"])))

    def build(self, stage: Stage) -> None:
        """Build a stage from its inputs, resuming an interrupted attempt."""
        BUILDERS[type(stage)](self, stage)

    @property
    def _how(self) -> dict[str, Any]:
        return {"device": self.device, "workers": self.workers, "progress": self.progress}


def of_part(records: Records, part: Part) -> Records:
    """Select the original images of a part: real (not known to be synthetic) or synthetic ones."""
    synthetic = records.domain.values == "synthetic"
    return records[synthetic if part in ("synthetic", "translated") else ~synthetic]


def scene_groups(dataset: Dataset) -> SceneGroups:
    """Derive the scene groups of a test: from its column `scene`, else from labels of real training images."""
    return SceneGroups.for_images(Records.concat([dataset.query, dataset.gallery]), dataset.train)


def _world(builder: StageBuilder, stage: SimulatedWorld) -> None:
    simulate(
        builder.folder(stage),
        preset=stage.preset,
        seed=stage.seed,
        layout=stage.layout,
        workers=builder.workers,
        progress=builder.progress,
    )


def _model(builder: StageBuilder, stage: Model) -> None:
    train(stage.training, builder.images(stage), out=builder.folder(stage), resume=True, **builder._how)


def _crops(builder: StageBuilder, stage: Crops) -> None:
    from vreid.training.crop import find_boxes

    dataset = builder.dataset(stage.model.data)
    splits = {"query": dataset.query, "gallery": dataset.gallery, "train": of_part(dataset.train, "real")}
    for split, records in splits.items():  # train last: it marks the stage as complete
        builder.store(stage, split, find_boxes(builder.folder(stage.model), records, stage.config, **builder._how))


def _translations(builder: StageBuilder, stage: Translations) -> None:
    from vreid.training.translate import train_translation
    from vreid.training.translate_images import translate

    train_records = builder.dataset(stage.data).train
    real, synthetic = (of_part(train_records, part) for part in ("real", "synthetic"))
    folder = builder.folder(stage)
    model = train_translation(stage.config, synthetic, real, out=folder / "model", resume=True, **builder._how)
    builder.store(stage, "train", translate(model, synthetic, folder / "pictures", **builder._how))


def _adapted(builder: StageBuilder, stage: Adapted) -> None:
    from vreid.adaptation.repeated import adapt

    dataset, config = builder.dataset(stage.model.data), stage.config
    target, seen = Records.concat([dataset.query, dataset.gallery]), of_part(dataset.train, "real")
    if stage.scenes:
        config = replace(config, pseudo=replace(config.pseudo, scene_groups=builder.scene_groups(stage.scenes).cameras))
    adapt(
        builder.folder(stage.model), target, config, out=builder.folder(stage), source=seen, resume=True, **builder._how
    )


def _scenes(builder: StageBuilder, stage: Scenes) -> None:
    dataset = builder.dataset(stage.data)
    groups = scene_groups(dataset)
    builder.progress.note(groups.describe(dataset.query, dataset.gallery))
    write_json(builder.folder(stage) / stage.complete, {"cameras": groups.cameras})


def _features(builder: StageBuilder, stage: Features) -> None:
    dataset = builder.dataset(stage.data)
    how: dict[str, Any] = {"device": builder.device, "progress": builder.progress}
    if stage.crops and stage.crops in stage.inputs:
        how["crops"] = {
            side: builder.variant(stage.crops, side, getattr(dataset, side)) for side in ("query", "gallery")
        }
    extract(
        builder.folder(stage.model), dataset, builder.folder(stage), views=stage.views, normalise=stage.normalise, **how
    )


BUILDERS: Mapping[type[Stage], Callable[[StageBuilder, Any], None]] = {
    SimulatedWorld: _world,
    Model: _model,
    Crops: _crops,
    Translations: _translations,
    Scenes: _scenes,
    Adapted: _adapted,
    Features: _features,
}
