"""Features of records by an `Embedder`, resumable: `vreid extract` without torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vreid.data.crops import crops_of
from vreid.data.images import cut, read_image
from vreid.data.records import Records
from vreid.inference.embedder import Embedder
from vreid.progress import Progress
from vreid.retrieval.features import FeatureSet
from vreid.training.feature_job import Batches, FeatureJob
from vreid.training.views import VIEWS, check_views


def extract_records(
    embedder: Embedder,
    records: Records,
    *,
    views: Sequence[str] = ("original", "flip"),
    batch_size: int = 64,
    crops: Records | None = None,
    unit_views: bool = False,
    normalise: bool = True,
    out: Path | str | None = None,
    resume: bool = True,
    progress: Progress | None = None,
) -> FeatureSet:
    """Features of all records in their order; arguments and errors as of `vreid.training.extract.extract`."""
    check_views(views, crops=crops is not None)
    kinds = sorted({VIEWS[view].cropped for view in views})
    shown = {cropped: crops_of(records, crops) if cropped and crops is not None else records for cropped in kinds}
    job = FeatureJob(
        records,
        model=embedder.hash,
        views=tuple(f"unit {view}" if unit_views else view for view in views),
        normalise=normalise,
        out=out,
        resume=resume,
        progress=progress or Progress(),
        crops=shown.get(True),
    )
    if (found := job.finished()) is not None:
        return found
    facts = embedder.backend.facts

    def batches(missing: NDArray[np.intp]) -> Batches:
        images = {cropped: images_of_records(shown[cropped][missing]) for cropped in kinds}
        for start in range(0, len(missing), batch_size):
            rows = np.arange(start, min(start + batch_size, len(missing)))
            made = np.zeros((len(rows), embedder.dimensions), dtype=np.float32)
            for cropped in kinds:
                batch = np.stack([facts.resize(next(images[cropped])) for _ in rows])
                of_kind = [view for view in views if VIEWS[view].cropped == cropped]
                made += embedder.sum_views(batch, of_kind, unit_views=unit_views)
            yield rows, made

    return job.run(embedder.dimensions, "float32", "", batches)


def images_of_records(records: Records) -> Iterator[Image.Image]:
    """Read the images of records one after the other; the boxes of one frame are cut out of one decoding."""
    frame: tuple[str, Image.Image] | None = None
    for path, box in zip(records.path, records.box, strict=True):
        if np.isnan(box[0]):
            yield read_image(path)
            continue
        if frame is None or frame[0] != path:
            frame = path, read_image(path)
        yield cut(frame[1], box.tolist(), path)
