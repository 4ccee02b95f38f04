"""Workers of a distributed extraction: a model that travels as a file, and its extractor in another process."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from vreid.files import reading
from vreid.inference.backend import installed
from vreid.inference.extraction import extractor_of
from vreid.inference.onnx_file import graph_of
from vreid.retrieval.feature_shards import FeatureShards
from vreid.training.feature_job import Extractor, ShardTask, begin
from vreid.training.model_file import model_file

if TYPE_CHECKING:
    from vreid.inference.embedder import Embedder
    from vreid.training.extract import TrainedModel


@dataclass(frozen=True)
class ModelCopy:
    """The file of a model with its contents, so that workers need no shared folder.

    Attributes:
        name: file name.
        content: bytes of the file.
    """

    name: str
    content: bytes

    @classmethod
    def of(cls, model: Path | str | TrainedModel | Embedder) -> ModelCopy:
        """Read the file of a model; see `extractor_of` for what `model` may be.

        Raises:
            InputError: the file cannot be read.
        """
        path = model_file(model if isinstance(model, (str, Path)) else model.source, onnx=True)
        if path.suffix != ".onnx" and not installed("torch"):
            path = graph_of(path) or path
        with reading(path):
            return cls(path.name, path.read_bytes())


@dataclass(frozen=True)
class ShardWorker:
    """Computes tasks with a model; the model is loaded by the first.

    Attributes:
        model: the model.
        device: "auto", "cpu" or "cuda": that of the process.
        loaders: processes that load images (None: chosen for the device).
    """

    model: ModelCopy
    device: str = "auto"
    loaders: int | None = None

    @cached_property
    def extractor(self) -> Extractor:
        """The extractor of the model.

        Raises:
            InputError: as `extractor_of`.
        """
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, self.model.name)
            file.write_bytes(self.model.content)
            return extractor_of(file, self.device, self.loaders)

    def begin(self, folder: str, job: Mapping[str, object]) -> str:
        """See `WorkerPool.begin`."""
        return begin(FeatureShards(folder, job), self.extractor)

    def run(self, task: ShardTask) -> dict[int, str]:
        """Compute a task.

        Raises:
            InputError: as `ShardTask.run`.
        """
        return task.run(self.extractor)
