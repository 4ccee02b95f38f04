"""`Store`: the tracklets of a site with features, times and crops; ingest, search, export."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from vreid.data.cameras import Camera
from vreid.errors import InputError, nearest_name
from vreid.formats.facts import typed
from vreid.inference.embedder import Embedder, load_model
from vreid.progress import Progress
from vreid.store.centering import global_mean, read_means, refit_means, tracklet_vector
from vreid.store.confidence import THRESHOLD, SearchThreshold, shipped_threshold
from vreid.store.engines import is_server, open_vectors
from vreid.store.ingest import IngestReport, ingest_sources
from vreid.store.interface import NO_TIME, EngineInfo, Filter, NoStore, StoredCrop, TrackletBatch, VectorStore
from vreid.store.search import Query, SearchConfig, SearchResult, make_filter, search_tracklets
from vreid.store.sources import CameraOptions, Detect, ReadSource, read_source
from vreid.store.sqlite_file import FILE
from vreid.training.model_file import DEFAULT

if TYPE_CHECKING:
    import pyarrow

MODEL = "model"
"""Document of the model that made the features."""
CAMERA = "camera/"
"""Prefix of the documents that describe cameras."""


class Store:
    """A searchable store of tracklets; make or open one with `Store.open`.

    It can be used as a context manager. Several processes may read a store while one writes.

    Example:
        >>> from vreid import Store
        >>> with Store.open("site", create=True) as store:                    # doctest: +SKIP
        ...     store.ingest("cam1.mp4", "cam2.mp4")
        ...     for hit in store.search("cam1/17", top=5).hits:
        ...         print(hit.camera, hit.start, hit.distance, hit.decision)
    """

    def __init__(self, vectors: VectorStore, where: str, model: Path | str | None = None, device: str = "cpu") -> None:
        self.vectors = vectors
        self.where = where
        self._model = model
        self._device = device

    @classmethod
    def open(
        cls,
        where: Path | str,
        *,
        model: Path | str | None = None,
        create: bool = False,
        read_only: bool = False,
        device: str = "cpu",
    ) -> Store:
        """Open a store.

        Args:
            where: its folder, or the URI of a Milvus server ("http://HOST:19530?collection=NAME").
            model: a MODEL as of `load_model`; None: that of the store, "default" for a new one.
            create: make the store if there is none.
            read_only: nothing is written, not even beside it.
            device: of the model, see `load_model`.

        Raises:
            InputError: there is no store, it is damaged or of a newer version, or its features are another model's.
        """
        try:
            store = cls(open_vectors(where, read_only=read_only), str(where), model, device)
        except NoStore:
            if not create:
                raise
            embedder = load_model(model or DEFAULT, device=device)
            vectors = open_vectors(where, dimensions=embedder.dimensions, model=embedder.made_by, create=True)
            store = cls(vectors, str(where), model, device)
            store.__dict__["embedder"] = embedder
            store._put_model(model or DEFAULT)
        if model is not None:
            _ = store.embedder  # refuses another model's features at once
        return store

    @cached_property
    def embedder(self) -> Embedder:
        """The model that made the features of the store.

        Raises:
            InputError: it is no longer where it was, or it is another one.
        """
        source = self._model if self._model is not None else self.model_source
        embedder = load_model(source, device=self._device)
        if embedder.made_by != self.vectors.model:
            raise InputError(
                f"{self.where}: holds features of {self.vectors.model}, but {source} is {embedder.made_by}; use the "
                f"store's model, or compute its features again with `vreid store embed {self.where} --model {source}`."
            )
        return embedder

    @property
    def model_source(self) -> Path | str:
        """Where the model of the store is: "default", or a path."""
        found = self.vectors.get_document(MODEL) or {}
        source = typed(str, found.get("source", DEFAULT), f"{self.where}: model")
        return source if source == DEFAULT or "://" in source else Path(self.where) / source

    def _put_model(self, source: Path | str) -> None:
        text = str(source) if source == DEFAULT or "://" in str(source) else os.path.abspath(source)
        self.vectors.put_document(MODEL, {"source": text, "made_by": self.embedder.made_by})

    def __repr__(self) -> str:
        return f"Store({self.where}: {self.vectors.count():,} tracklets, {self.vectors.model})"

    def __len__(self) -> int:
        return self.vectors.count()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release files and connections."""
        self.vectors.close()

    # ------------------------------------------------------------------------------------------------ writing

    def ingest(
        self,
        *sources: Path | str | ReadSource,
        cameras: Path | str | None = None,
        options: CameraOptions | None = None,
        detect: Detect | None = None,
        report: IngestReport | None = None,
        crops: int = 4,
        blur_plates: str = "",
        progress: Progress | None = None,
    ) -> IngestReport:
        """Read sources and store their tracklets; those that are stored already are not touched.

        Args:
            sources: tracker output with its video or frames, tables, folders of crops, or videos with `detect`.
            cameras, options, detect: see `vreid.store.sources.read_source`.
            report: counts are added to it; None: to a new one.
            crops: most crops of a tracklet.
            blur_plates: "likely" or "band", see `vreid.store.plates`; "": crops stay as they are.
            progress: listener.

        Raises:
            InputError: a source cannot be read at all; single boxes and lines that cannot are counted in the report.
        """
        report = report or IngestReport()
        read = [
            source
            if isinstance(source, ReadSource)
            else read_source(
                source,
                cameras=None if cameras is None else Path(cameras),
                options=options,
                detect=detect,
                progress=progress,
                on_finding=report.on_finding,
            )
            for source in sources
        ]
        ingest_sources(
            self.vectors, self.embedder, read, report, crops=crops, blur_plates=blur_plates, progress=progress
        )
        refit_means(self.vectors)
        return report

    def add(self, batch: TrackletBatch) -> None:
        """Insert or replace tracklets of the store's model, as they are."""
        self.vectors.upsert(batch)

    def delete(self, ids: Sequence[str]) -> int:
        """Delete tracklets with their crops; return how many there were."""
        return self.vectors.delete(ids=ids)

    # ------------------------------------------------------------------------------------------------ reading

    def search(
        self,
        query: Any,
        *,
        box: Sequence[float] | None = None,
        camera_of_query: str = "",
        time_of_query: float | None = None,
        cameras: Sequence[str] = (),
        not_cameras: Sequence[str] = (),
        start: float | None = None,
        end: float | None = None,
        colors: Sequence[str] = (),
        vehicle_types: Sequence[str] = (),
        config: SearchConfig | None = None,
        **settings: Any,
    ) -> SearchResult:
        """Search where else a vehicle was seen.

        Args:
            query: id of a tracklet of the store, or an image: a path, a PIL image or an array (H, W, 3) in RGB; or
                several images of one vehicle.
            box: x1, y1, x2, y2 of the vehicle in the query image; None: the whole image.
            camera_of_query: camera of the query image, if it is one of the store's; its hits are not left out.
            time_of_query: UTC seconds at which the query image was taken, if known.
            cameras, not_cameras, colors, vehicle_types: hits are restricted to these, or to others.
            start, end: UTC seconds; hits in view at any moment of the half-open interval.
            config: settings of the search; `settings` changes single ones (`top=5`).

        Raises:
            InputError: no such tracklet, camera, colour or type, or the image cannot be read.
        """
        where = make_filter(
            cameras=self._known_cameras(cameras),
            not_cameras=self._known_cameras(not_cameras),
            start=start,
            end=end,
            colors=colors,
            vehicle_types=vehicle_types,
        )
        self._check_values("colour", colors, "color")
        self._check_values("type", vehicle_types, "vehicle_type")
        chosen = replace(config or SearchConfig(), **settings)
        searched = self.query(query, box=box, camera=camera_of_query, time=time_of_query)
        return search_tracklets(self.vectors, searched, where, chosen, self.threshold())

    def query(
        self, query: Any, *, box: Sequence[float] | None = None, camera: str = "", time: float | None = None
    ) -> Query:
        """Compute what is searched for a tracklet's id, or for images; see `search`.

        Raises:
            InputError: as `search`.
        """
        if isinstance(query, str) and not os.path.exists(query):
            found = self.vectors.fetch([query])
            if not len(found):
                raise InputError(
                    f"{query}: is neither an image file nor a tracklet of {self.where}{self._nearest(query)}."
                )
            return Query(query, found.vector[0], query, str(found.camera[0]), int(found.start[0]), int(found.end[0]))
        if camera:
            self._known_cameras([camera])
        features = self.embedder.embed(query, None if box is None else [box])
        means = self.camera_means()
        mean = means.get(camera) if camera else global_mean(means)
        vector = tracklet_vector(features, np.ones(len(features)), mean)
        name = os.fspath(query) if isinstance(query, (str, os.PathLike)) else "image"
        moment = NO_TIME if time is None else round(1000 * time)
        return Query(name, vector, "", camera, moment, moment)

    def _nearest(self, name: str) -> str:
        first = next(iter(self.vectors.scan(limit=1000)), None)
        if first is None:
            return ", which is empty"
        return f"; did you mean {nearest_name(name, [str(one) for one in first.id])!r}"

    def _known_cameras(self, names: Sequence[str]) -> Sequence[str]:
        known = self.cameras()
        for name in names:
            if name not in known:
                near = f"; did you mean {nearest_name(name, known)!r}" if known else ""
                raise InputError(
                    f"camera {name!r}: is not in {self.where}{near}. Cameras: {', '.join(known) or 'none'}."
                )
        return names

    def _check_values(self, what: str, values: Sequence[str], column: Literal["color", "vehicle_type"]) -> None:
        """Raise an error if a filter names a value that no tracklet has."""
        for value in values:
            where = make_filter(colors=[value]) if column == "color" else make_filter(vehicle_types=[value])
            if self.vectors.count() and not self.vectors.count(where):
                known = {str(one) for batch in self.scan() for one in getattr(batch, column)} - {""}
                raise InputError(
                    f"{what} {value!r}: no tracklet of {self.where} has it; choose one of {', '.join(sorted(known))}."
                    if known
                    else f"{what} {value!r}: the tracklets of {self.where} have none."
                )

    def tracklet(self, name: str) -> TrackletBatch:
        """Return one tracklet with its crops.

        Raises:
            InputError: there is none of this id.
        """
        found = self.vectors.fetch([name], crops=True)
        if not len(found):
            raise InputError(f"tracklet {name!r}: is not in {self.where}{self._nearest(name)}.")
        return found

    def crop(self, reference: str) -> StoredCrop:
        """Return a crop by its reference, "TRACKLET#NUMBER"; number 0 is the best.

        Raises:
            InputError: there is no such tracklet or crop.
        """
        name, _, number = reference.rpartition("#")
        crops = (self.tracklet(name or reference).crops or [[]])[0]
        if not number.isdigit() or int(number) >= len(crops):
            raise InputError(f"crop {reference!r}: the tracklet has crops {name or reference}#0 to #{len(crops) - 1}.")
        return crops[int(number)]

    def cameras(self) -> dict[str, Camera]:
        """Cameras by name, as they were described when they were ingested."""
        found = self.vectors.documents(CAMERA)
        return {key.removeprefix(CAMERA): typed(Camera, value, key) for key, value in found.items()}

    @property
    def time_zone(self) -> str:
        """IANA name of the time zone that all cameras share, else "UTC"."""
        zones = {camera.zone for camera in self.cameras().values()} - {""}
        return zones.pop() if len(zones) == 1 else "UTC"

    def camera_means(self) -> dict[str, NDArray[np.float32]]:
        """Mean feature (D,) of each camera that has one."""
        return read_means(self.vectors)

    def threshold(self) -> SearchThreshold | None:
        """What MATCH and NO MATCH mean here: calibrated on this site, else as shipped with the model, else None."""
        found = self.vectors.get_document(THRESHOLD)
        return SearchThreshold.from_dict(found) if found else shipped_threshold(self.vectors.model)

    def info(self) -> EngineInfo:
        """Describe the engine, the model and what is stored."""
        return self.vectors.info()

    def scan(self, where: Filter | None = None, *, crops: bool = False) -> Iterator[TrackletBatch]:
        """Yield all tracklets in the order of their ids, a batch at a time."""
        yield from self.vectors.scan(where, crops=crops)

    def to_arrow(self, *, vectors: bool = True) -> pyarrow.Table:
        """Return the tracklets as a pyarrow table: id, camera, start, end, color, type, facts and feature.

        Raises:
            InputError: pyarrow is not installed.
        """
        from vreid.store.export import arrow_table

        return arrow_table(self.scan(), self.vectors.dimensions, vectors=vectors)

    def to_parquet(self, path: Path | str, *, vectors: bool = True) -> Path:
        """Write the tracklets as Parquet, which pandas and other vector databases read; memory is bounded.

        Raises:
            InputError: pyarrow is not installed, or `path` cannot be written.
        """
        from vreid.store.export import write_parquet

        return write_parquet(self.scan(), self.vectors.dimensions, Path(path), vectors=vectors)


def store_exists(where: Path | str) -> bool:
    """Whether `where` is a store that may be opened: a folder that holds one, or the address of a server."""
    return is_server(where) or (Path(where) / FILE).is_file()
