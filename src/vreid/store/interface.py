"""The interface between the store and the engine that keeps its rows: what every engine must do, and its values.

A row is a tracklet: one vehicle in the view of one camera, from its first frame to its last. Its vector is the feature
that is searched, of unit length; similarity is the inner product. Times are whole UTC milliseconds. Small documents
(cameras, thresholds, answers to questions) are kept beside the rows as JSON.

Shapes: N tracklets, Q queries, D dimensions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vreid.errors import InputError

NO_TIME = -(2**62)
"""Start and end of a tracklet whose time is unknown; no time filter selects it."""
LONGEST_TEXT = 512
"""Maximum number of bytes of an id, camera, colour or type in UTF-8."""
LONGEST_FACTS = 16_000
"""Maximum number of bytes of a row's facts in UTF-8."""
LARGEST_JPEG = 45_000
"""Maximum size of one crop in bytes; in base64 it fits a text field of Milvus (65,535 bytes)."""

UNIT_TOLERANCE = 1e-3
"""Largest difference of a unit vector's length from 1."""


class NoStore(InputError):
    """There is no store where one should be opened."""


@dataclass(frozen=True)
class Filter:
    """Selects tracklets; None selects all.

    Attributes:
        cameras: any of these.
        not_cameras: none of these.
        start, end: milliseconds; tracklets that are in view at any moment of the half-open interval [start, end). An
            interval that is empty selects nothing.
        colors, vehicle_types: any of these.
    """

    cameras: frozenset[str] | None = None
    not_cameras: frozenset[str] | None = None
    start: int | None = None
    end: int | None = None
    colors: frozenset[str] | None = None
    vehicle_types: frozenset[str] | None = None

    @property
    def empty(self) -> bool:
        """Whether it selects everything."""
        return all(getattr(self, one.name) is None for one in fields(self))


@dataclass(frozen=True, eq=False)
class StoredCrop:
    """One crop of a tracklet.

    Attributes:
        jpeg: the image, at most `LARGEST_JPEG` bytes.
        vector: (D,) feature of this crop, of unit length.
        time: UTC milliseconds, or NO_TIME.
        frame: number of its frame in the source, -1 unknown.
        box: x1, y1, x2, y2 in pixels of the frame; None: the source was a crop.
        quality: in [0, 1]; the first crop of a tracklet is the best.
    """

    jpeg: bytes
    vector: NDArray[np.float32]
    time: int = NO_TIME
    frame: int = -1
    box: tuple[float, float, float, float] | None = None
    quality: float = 0.0


@dataclass(frozen=True, eq=False)
class TrackletBatch:
    """N tracklets, one column per attribute.

    Attributes:
        id: (N,) distinct texts, "camera/track".
        vector: (N, D) float32 of unit length.
        camera: (N,) texts.
        start, end: (N,) int64 UTC milliseconds of the first and last frame, or NO_TIME for both.
        color, vehicle_type: (N,) texts, "" unknown.
        facts: N dicts that survive JSON: confidences, orientation, source, number of boxes, ...
        crops: the crops of each tracklet, best first; None if they were not asked for.
    """

    id: NDArray[np.object_]
    vector: NDArray[np.float32]
    camera: NDArray[np.object_]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    color: NDArray[np.object_]
    vehicle_type: NDArray[np.object_]
    facts: Sequence[dict[str, Any]]
    crops: Sequence[Sequence[StoredCrop]] | None = None

    def __len__(self) -> int:
        return len(self.id)


@dataclass(frozen=True, eq=False)
class Hits:
    """Nearest tracklets of one query, most similar first; equal similarities in the order of ids.

    Attributes:
        id: (K,) texts.
        similarity: (K,) inner products, summed in float64 and rounded to float32 (SQLite) or summed in float32.
        start, end: (K,) int64 UTC milliseconds of the first and last frame, or NO_TIME for both.
    """

    id: NDArray[np.object_]
    similarity: NDArray[np.float32]
    start: NDArray[np.int64]
    end: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.id)


@dataclass(frozen=True)
class EngineInfo:
    """What an engine holds.

    Attributes:
        engine: "sqlite" or "milvus".
        version: of the engine.
        uri: where it is.
        dimensions: D.
        model: fingerprint of the model of the vectors.
        tracklets, crops: how many.
        size: bytes on disk, -1 unknown.
        details: other facts.
    """

    engine: str
    version: str
    uri: str
    dimensions: int
    model: str
    tracklets: int
    crops: int
    size: int = -1
    details: dict[str, Any] = field(default_factory=dict)


class VectorStore(Protocol):
    """An engine that keeps tracklets; made by `vreid.store.engines.open_vectors`.

    Every method raises `InputError` where the engine fails (disk full, damaged file, server away), with the fix.
    """

    dimensions: int
    model: str

    def upsert(self, batch: TrackletBatch) -> None:
        """Insert or replace tracklets with their crops (`batch.crops` is not None), all or none; durable on return."""

    def replace_vectors(
        self, ids: Sequence[str], vectors: NDArray[np.float32], documents: Mapping[str, Any] | None = None
    ) -> None:
        """Replace the vectors of tracklets and put documents; ids that do not exist are skipped.

        All or none where the engine can (SQLite).
        """

    def delete(self, *, ids: Sequence[str] | None = None, where: Filter | None = None) -> int:
        """Delete tracklets with their crops by id or filter; return how many there were."""

    def search(self, query: NDArray[np.float32], k: int, where: Filter | Sequence[Filter] | None = None) -> list[Hits]:
        """Return the k most similar tracklets of each of (Q, D) queries.

        Args:
            query: (Q, D) float32.
            k: most hits of a query.
            where: selects the tracklets that are searched: one filter for all queries, or Q filters.
        """

    def fetch(self, ids: Sequence[str], *, crops: bool = False) -> TrackletBatch:
        """Return the tracklets of `ids` that exist, in this order."""

    def count(self, where: Filter | None = None) -> int:
        """Count tracklets."""

    def scan(
        self, where: Filter | None = None, *, after: str = "", limit: int = 1000, crops: bool = False
    ) -> Iterator[TrackletBatch]:
        """Yield all tracklets in the order of their ids, from the first id greater than `after`, `limit` at a time."""

    def list_by_time(
        self, where: Filter | None = None, *, after: tuple[int, str] | None = None, limit: int = 1000
    ) -> TrackletBatch:
        """Return the first `limit` tracklets in the order of their starts, equal ones in that of their ids.

        Those without a time come first. Pages stay consistent while tracklets are added: none is repeated or left out.

        Args:
            where: which tracklets.
            after: start and id of the last tracklet of the page before.
            limit: most tracklets.
        """

    def get_document(self, key: str) -> Any:
        """Return the document of a key, None if there is none."""

    def put_document(self, key: str, value: Any) -> None:
        """Insert or replace a document that survives JSON; durable on return."""

    def documents(self, prefix: str = "") -> dict[str, Any]:
        """Return the documents whose key starts with `prefix`, in the order of their keys."""

    def delete_document(self, key: str) -> bool:
        """Delete a document; return whether there was one."""

    def info(self) -> EngineInfo:
        """Describe the engine and what it holds."""

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with how the engine keeps the rows, a sentence each (part of `verify`)."""

    def compact(self, *, rewrite: bool = False) -> int:
        """Give the space of deleted rows back to the disk; return the bytes, -1 unknown.

        With `rewrite`, also the space in half-empty pages: the file is written anew (SQLite).
        """

    def close(self) -> None:
        """Release files and connections."""


def check_batch(batch: TrackletBatch, dimensions: int) -> None:
    """Raise unless an engine may store `batch`; every engine calls this first.

    Raises:
        InputError: wrong dimensions, a vector that is not finite or not of unit length, repeated or empty ids, times
            out of order, a text, facts or JPEG that is too long, or a tracklet without crops.
    """
    if batch.vector.ndim != 2 or batch.vector.shape[1] != dimensions:
        raise InputError(
            f"features of shape {batch.vector.shape} do not fit the store, which holds {dimensions} dimensions; use "
            "the store's model."
        )
    texts = [("id", batch.id), ("camera", batch.camera), ("color", batch.color), ("type", batch.vehicle_type)]
    lengths = {name: len(values) for name, values in (*texts, ("start", batch.start), ("end", batch.end))}
    for column, length in (lengths | {"vector": len(batch.vector), "facts": len(batch.facts)}).items():
        if length != len(batch):
            raise InputError(f"column {column} has {length} values for {len(batch)} tracklets; give one each.")
    if batch.crops is None or len(batch.crops) != len(batch):
        raise InputError("tracklets are stored with their crops; give a list of crops for each.")
    seen: set[str] = set()
    for row, name in enumerate(batch.id):
        if not name or name in seen:
            raise InputError(f"tracklet {row + 1} has the id {name!r}, which is empty or given twice; rename it.")
        seen.add(name)
        for column, values in texts:
            _check_text(str(values[row]), name, column)
        start, end = int(batch.start[row]), int(batch.end[row])
        if start > end or (start == NO_TIME) != (end == NO_TIME):
            raise InputError(f"tracklet {name}: starts at {start} and ends at {end} ms; correct its times.")
        if len(json.dumps(batch.facts[row]).encode()) > LONGEST_FACTS:
            raise InputError(f"tracklet {name}: its facts exceed {LONGEST_FACTS:,} bytes; store fewer.")
        if not batch.crops[row]:
            raise InputError(f"tracklet {name}: has no crops; give at least one.")
        for number, crop in enumerate(batch.crops[row], start=1):
            if not 0 < len(crop.jpeg) <= LARGEST_JPEG:
                raise InputError(
                    f"tracklet {name}, crop {number}: has {len(crop.jpeg):,} bytes; give a JPEG of at most "
                    f"{LARGEST_JPEG:,}."
                )
            if crop.vector.shape != (dimensions,):
                raise InputError(
                    f"tracklet {name}, crop {number}: its feature has shape {crop.vector.shape}; give {dimensions} "
                    "numbers."
                )
        check_vectors(np.stack([crop.vector for crop in batch.crops[row]]), [f"{name}, a crop"] * len(batch.crops[row]))
    check_vectors(batch.vector, batch.id)


def check_vectors(vectors: NDArray[np.float32], names: Sequence[str] | NDArray[np.object_]) -> None:
    """Raise `InputError` with the name of the first of (N, D) vectors that is not finite or not of unit length."""
    lengths = np.einsum("nd,nd->n", vectors, vectors)
    wrong = ~(np.abs(np.sqrt(lengths) - 1) < UNIT_TOLERANCE)
    if wrong.any():
        name = names[int(np.argmax(wrong))]
        raise InputError(f"tracklet {name}: its feature is not a finite vector of unit length; normalise it.")


def filters_of_queries(where: Filter | Sequence[Filter] | None, queries: int) -> dict[Filter, list[int]]:
    """Return the distinct filters of a search, each with the queries that it is for (see `VectorStore.search`).

    Raises:
        InputError: there are several filters, but not one for each query.
    """
    if where is None or isinstance(where, Filter):
        return {where or Filter(): list(range(queries))}
    if len(where) != queries:
        raise InputError(f"{len(where)} filters were given for {queries} queries; give one, or one for each.")
    found: dict[Filter, list[int]] = {}
    for number, one in enumerate(where):
        found.setdefault(one, []).append(number)
    return found


def check_query(query: NDArray[np.float32], k: int, dimensions: int) -> None:
    """Raise `InputError` unless `query` is a finite (Q, dimensions) array and `k` is positive."""
    if query.ndim != 2 or query.shape[1] != dimensions:
        raise InputError(
            f"query features of shape {query.shape} do not fit the store, which holds {dimensions} dimensions; use "
            "the store's model."
        )
    if not np.isfinite(query).all():
        raise InputError("the query's feature is not finite; compute it again.")
    if k < 1:
        raise InputError(f"{k} results were asked for; ask for at least 1.")


def _check_text(text: str, name: str, column: str) -> None:
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        raise InputError(f"tracklet {name!r}: its {column} {text!r} is not valid Unicode; rename it.") from None
    if length > LONGEST_TEXT:
        raise InputError(f"tracklet {name!r}: its {column} exceeds {LONGEST_TEXT} bytes; shorten it.")
    if "\0" in text:
        raise InputError(f"tracklet {name!r}: its {column} holds a NUL character; rename it.")
