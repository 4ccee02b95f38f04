"""Adaptation of the model to the store's own cameras, and computing the features of a store anew.

The store's crops, with camera, tracklet and time, are the unlabelled images of `vreid.adaptation.repeated.adapt`, whose
gate keeps the old model unless evidence without labels shows that the new one is better. All features are computed
in a store beside the old one, which takes its place in one transaction: killed at any moment, the store is the old one
or the new one.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vreid.data.records import Records
from vreid.errors import InputError
from vreid.files import copy_file, parse_errors, read_json, writing
from vreid.formats.facts import fact
from vreid.inference.embedder import Embedder, load_model
from vreid.progress import Progress, job
from vreid.store.centering import MEAN, refit_means, tracklet_vector
from vreid.store.confidence import THRESHOLD
from vreid.store.engines import is_server, open_vectors
from vreid.store.interface import NO_TIME, TrackletBatch, VectorStore
from vreid.store.site_calibration import calibrate_site
from vreid.store.snapshots import restore_snapshot, write_snapshot
from vreid.store.store import MODEL, Store
from vreid.store.tracklet_rows import decode
from vreid.training.model_file import DEFAULT

if TYPE_CHECKING:
    from vreid.adaptation.adapt_config import AdaptConfig

MODELS = "models"
"""Folder of adapted models in a store's folder."""

_AT_ONCE = 64  # tracklets that are embedded at once
NOT_ENOUGH = "NOT ENOUGH EVIDENCE"
"""Decision where too little was found to learn from, or to compare models by."""
_NEXT = {
    "ACCEPT": "All features were computed again with the adapted model, and the threshold was calibrated. "
    "`vreid label` checks the share of wrong matches.",
    "REJECT": "The store is unchanged. Ingest tracklets of more cameras and times of day, or keep this model.",
    NOT_ENOUGH: "The store is unchanged. Ingest more tracklets of at least two cameras, then run it again.",
}


@dataclass(frozen=True)
class AdaptedStore:
    """Result of `adapt_store`.

    Attributes:
        decision, reason: of the gate ("ACCEPT", ...); without the gate "not evaluated".
        model: model of the store from now on, None: unchanged.
        next_step: what to do next, in sentences.
    """

    decision: str
    reason: str
    model: Path | None
    next_step: str

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-serialisable values."""
        return {**self.__dict__, "model": None if self.model is None else str(self.model)}


def adapt_store(
    where: Path | str,
    config: AdaptConfig | None = None,
    *,
    out: Path | str | None = None,
    device: str = "cpu",
    resume: bool = False,
    progress: Progress | None = None,
) -> AdaptedStore:
    """Adapt the model of a store to its cameras without labels; if the gate accepts it, the store takes it over.

    Args:
        where: folder of an embedded store.
        config: settings of the adaptation; None: preset "auto".
        out: run folder to keep; None: none is kept.
        device: "cpu", "cuda", ...
        resume: continue the adaptation in `out`.
        progress: listener.

    Raises:
        InputError: `where` is on a server, or there are too few images for the settings.
    """
    from vreid.adaptation import repeated
    from vreid.adaptation.adapt import FACTS

    folder = _embedded(where)
    with _beside(folder, "adaptation") as work:
        with Store.open(folder, read_only=True) as store:
            if not len(store):
                raise InputError(f"{folder}: holds no tracklets; add some with `vreid ingest`.")
            images = write_crops(store.vectors, work / "crops")
            source, old = store.model_source, store.vectors.model
        run = work / "run" if out is None else Path(out)
        made = repeated.adapt(source, images, config, out=run, device=device, resume=resume, progress=progress)
        with parse_errors(run / FACTS):
            verdict = fact(read_json(run / FACTS), "verdict", dict[str, Any], {})
        decision, reason = str(verdict.get("decision", "not evaluated")), str(verdict.get("reason", ""))
        if decision not in ("ACCEPT", "not evaluated"):
            return AdaptedStore(decision, reason, None, _NEXT[decision])
        embedder = load_model(made, device=device)
        if embedder.made_by == old:  # nothing to learn from was found
            return AdaptedStore(
                NOT_ENOUGH, "Too few clusters were found; the model is unchanged.", None, _NEXT[NOT_ENOUGH]
            )
        kept = folder / MODELS / f"adapted-{embedder.hash[:8]}.safetensors"
        copy_file(made, kept)
        embed_store(folder, embedder, kept, progress=progress)
        return AdaptedStore(decision, reason, kept, _NEXT["ACCEPT"])


def write_crops(vectors: VectorStore, folder: Path) -> Records:
    """Write the crops of a store as image files; return their records with camera, tracklet and time."""
    columns: dict[str, list[Any]] = {"path": [], "camera": [], "tracklet": [], "time": []}
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for batch in vectors.scan(limit=_AT_ONCE, crops=True):
            for row, crops in enumerate(batch.crops or ()):
                for crop in crops:
                    path = folder / f"{len(columns['path']):07d}.jpg"
                    path.write_bytes(crop.jpeg)
                    time = crop.time if crop.time != NO_TIME else int(batch.start[row])
                    columns["path"].append(path)
                    columns["camera"].append(str(batch.camera[row]))
                    columns["tracklet"].append(str(batch.id[row]))
                    columns["time"].append(np.nan if time == NO_TIME else time / 1000)
    return Records.of(**columns)


def embed_store(where: Path | str, embedder: Embedder, source: Path | str, *, progress: Progress | None = None) -> int:
    """Compute all features of a store with another model; return the number of tracklets.

    Colours and types stay as they are. Camera means and the threshold are fitted anew; answers stay.

    Args:
        where: folder of an embedded store.
        embedder: the model.
        source: where it is, for the store's document: "default" or a file.
        progress: listener.

    Raises:
        InputError: `where` is on a server, or tracklets were stored meanwhile.
    """
    folder = _embedded(where)
    with _beside(folder, "embedding") as work:
        with closing(open_vectors(folder, read_only=True)) as old:
            before = old.info()
            new = open_vectors(work / "store", dimensions=embedder.dimensions, model=embedder.made_by, create=True)
            with closing(new):
                with job(progress, "embedding", before.tracklets) as listener:
                    for batch in old.scan(limit=_AT_ONCE, crops=True):
                        new.upsert(_embedded_again(batch, embedder))
                        listener.advance(len(batch))
                for key, document in old.documents().items():
                    if key not in (MODEL, THRESHOLD) and not key.startswith(MEAN):
                        new.put_document(key, document)
                new.put_document(MODEL, {"source": _relative(source, folder), "made_by": embedder.made_by})
                refit_means(new)
                calibrate_site(new)
            write_snapshot(work / "store", work / "snapshot")
            if old.info().details != before.details or old.count() != before.tracklets:
                raise InputError(f"{folder}: was changed while its features were computed; run it again.")
        restore_snapshot(work / "snapshot", folder, force=True)
    return before.tracklets


def _embedded_again(batch: TrackletBatch, embedder: Embedder) -> TrackletBatch:
    """Replace the features of crops and tracklets; vectors are not centred."""
    tracklets = batch.crops or ()
    features = embedder.embed([decode(crop.jpeg) for crops in tracklets for crop in crops])
    rows = np.split(features, np.cumsum([len(crops) for crops in tracklets])[:-1])
    return replace(
        batch,
        vector=np.stack(
            [
                tracklet_vector(part, np.array([crop.quality for crop in crops]), None)
                for part, crops in zip(rows, tracklets, strict=True)
            ]
        ),
        crops=[
            [replace(crop, vector=vector) for crop, vector in zip(crops, part, strict=True)]
            for part, crops in zip(rows, tracklets, strict=True)
        ],
    )


def _embedded(where: Path | str) -> Path:
    if is_server(str(where)):
        raise InputError(
            f"{where}: only embedded stores get features of another model; copy it to a folder (`vreid store copy`), "
            "and copy the result to a new collection."
        )
    return Path(str(where))


def _relative(source: Path | str, folder: Path) -> str:
    """Path of a model as the store keeps it: within its folder a relative one."""
    if str(source) == DEFAULT:
        return DEFAULT
    path = Path(source)
    if path.is_relative_to(folder):
        return str(path.relative_to(folder))
    return str(path.resolve())


@contextmanager
def _beside(folder: Path, name: str) -> Iterator[Path]:
    """Yield an empty folder in the store's folder, on the same disk; it is removed at the end."""
    work = folder / f".{name}"
    shutil.rmtree(work, ignore_errors=True)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
