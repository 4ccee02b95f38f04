"""Features of records by an `Embedder`: `vreid extract` without torch; and the extractor of any model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from vreid.data.record_images import RecordImages
from vreid.data.records import Records
from vreid.environment import resolve_device
from vreid.inference.backend import installed
from vreid.inference.embedder import Embedder, load_model
from vreid.progress import Progress
from vreid.training.feature_job import ExtractionSettings, Extractor, Rows
from vreid.training.model_file import model_file
from vreid.training.views import VIEWS

if TYPE_CHECKING:
    from vreid.inference.torch_backend import TorchBackend
    from vreid.training.extract import TrainedModel


def extractor_of(
    model: Path | str | TrainedModel | Embedder,
    device: str = "auto",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Extractor:
    """Return the extractor of a model, in the library that runs it.

    Args:
        model: see `vreid.workflow.extract`; an .onnx file, and "default" without torch, run in onnxruntime.
        device: "auto", "cpu", "cuda", ...
        workers: processes that load images (torch only; None: chosen for the device).
        progress: listener, is told when the device's memory is full.

    Raises:
        InputError: the model cannot be read, or what would run it is not installed.
    """
    if isinstance(model, (str, Path)) and (model_file(model, onnx=True).suffix == ".onnx" or not installed("torch")):
        model = load_model(model, device=device)
    if isinstance(model, Embedder) and model.backend.name != "torch":
        return EmbedderExtractor(model)
    from vreid.training.extract import TorchExtractor, load_trained

    if isinstance(model, Embedder):
        trained = cast("TorchBackend", model.backend).trained
    else:
        trained = load_trained(model) if isinstance(model, (str, Path)) else model
    place = resolve_device(device)
    return TorchExtractor(trained.model, trained.transform, device=place, workers=workers, progress=progress)


class EmbedderExtractor:
    """Features by an `Embedder`; see `vreid.training.feature_job.Extractor`."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self.hash, self.num_features = embedder.hash, embedder.dimensions

    def precision(self, stored: str | None) -> tuple[str, str]:
        """Return float32."""
        return "float32", ""

    def features(
        self, shown: Mapping[bool, Records], batches: Sequence[Rows], settings: ExtractionSettings, precision: str
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the features (B, D) of each batch, summed over the views."""
        resize = self.embedder.backend.facts.resize
        images = {cropped: RecordImages(shown[cropped]) for cropped in settings.kinds}
        for rows in batches:
            made = np.zeros((len(rows), self.num_features), dtype=np.float32)
            for cropped in settings.kinds:
                found = {row: resize(image) for row, image in images[cropped].read(rows.tolist())}
                batch = np.stack([found[row] for row in rows.tolist()])
                views = [view for view in settings.views if VIEWS[view].cropped == cropped]
                made += self.embedder.sum_views(batch, views, unit_views=settings.unit_views)
            yield made
