"""Ranking: the gallery images of each query, sorted by distance."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vreid.data.protocols import Exclusion, Protocol
from vreid.data.records import BOX_COLUMNS, JUNK, UNKNOWN, Records, joint_codes
from vreid.errors import InputError
from vreid.files import atomic_write, parse_errors
from vreid.formats.facts import fact
from vreid.ranges import check_number
from vreid.retrieval.distances import Distances
from vreid.retrieval.postprocessing.tracklet_features import tracklet_units
from vreid.retrieval.storage import pack_records, read_arrays, unpack_records, write_arrays


@dataclass(frozen=True, eq=False)
class Ranking:
    """The K nearest gallery images of each query, nearest first; ties in gallery order.

    Attributes:
        query: Q records.
        gallery: G records.
        indices: (Q, K) int32 gallery indices; -1 after the last candidate.
        distances: (Q, K) float32, +inf after the last candidate.
        protocol: name of the protocol whose exclusions apply.
        steps, reranked, transductive, features, notes: as in `Distances`.
    """

    query: Records
    gallery: Records
    indices: NDArray[np.int32]
    distances: NDArray[np.float32]
    protocol: str
    steps: tuple[str, ...] = ()
    reranked: bool = False
    transductive: bool = False
    features: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.indices.shape != self.distances.shape or len(self.indices) != len(self.query):
            raise InputError(
                f"Ranking: indices have shape {self.indices.shape} and distances {self.distances.shape}; both must be "
                f"({len(self.query)}, K)."
            )
        if self.indices.size and not -1 <= self.indices.min() <= self.indices.max() < len(self.gallery):
            raise InputError(f"Ranking: indices must be from 0 to {len(self.gallery) - 1}, or -1 after the last one.")

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        facts = [f"protocol {self.protocol}", *self.steps] + (["transductive"] if self.transductive else [])
        return (
            f"Ranking: {len(self):,} queries, first {self.indices.shape[1]:,} of {len(self.gallery):,} images; "
            f"{', '.join(facts)}"
        )

    @property
    def lengths(self) -> NDArray[np.intp]:
        """(Q,) number of candidates of each query."""
        return np.asarray((self.indices >= 0).sum(axis=1))

    def hits(self) -> NDArray[np.int8]:
        """Return (Q, K) 1: same vehicle, 0: another one, -1: unknown (no label, junk, or after the last candidate)."""
        query, gallery = joint_codes(self.query.identity, self.gallery.identity)
        found = gallery[self.indices]
        hit: NDArray[np.int8] = (found == query[:, None]).astype(np.int8)
        hit[(self.indices < 0) | (found == UNKNOWN) | (found == JUNK) | (query < 0)[:, None]] = -1
        return hit

    def save(self, path: Path | str, decisions: NDArray[np.str_] | None = None) -> None:
        """Write a .safetensors file, which `load` reads, or a .csv table with one row per result.

        A row of the table names the query and the result by image key, path, tracklet, camera, time (UTC seconds) and
        box (pixels, empty for whole images); the columns of the query begin with "query".

        Args:
            path: the file; its suffix selects the format.
            decisions: (Q, K) text of an additional column "decision" of the table (`Decisions.names`).

        Raises:
            InputError: another suffix, or decisions for a .safetensors file.
        """
        path = Path(path)
        if path.suffix == ".csv":
            self._write_table(path, decisions)
            return
        if path.suffix != ".safetensors":
            raise InputError(f"{path}: give a name that ends in .csv or .safetensors.")
        if decisions is not None:
            raise InputError(f"{path}: this format cannot hold decisions; give a name that ends in .csv.")
        arrays = {"indices": self.indices, "distances": self.distances}
        arrays |= pack_records("query", self.query) | pack_records("gallery", self.gallery)
        names = ("protocol", "steps", "reranked", "transductive", "features", "notes")
        facts = {name: getattr(self, name) for name in names}
        write_arrays(path, "ranking", arrays, **facts)

    def _write_table(self, path: Path, decisions: NDArray[np.str_] | None) -> None:
        with (
            atomic_write(path) as temporary,
            open(temporary, "w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            writer = csv.writer(file)
            columns = ["query", *(f"query_{name}" for name in _NAMED[1:])]
            writer.writerow([*columns, "rank", "distance", *_NAMED, *([] if decisions is None else ["decision"])])
            for row, length in enumerate(self.lengths):
                query = _named(self.query, row)
                for place, index in enumerate(self.indices[row, :length]):
                    distance = f"{self.distances[row, place]:.6f}"
                    decision = [] if decisions is None else [decisions[row, place]]
                    writer.writerow([*query, place + 1, distance, *_named(self.gallery, index), *decision])

    @classmethod
    def load(cls, path: Path | str) -> Ranking:
        """Load a ranking saved as .safetensors.

        Raises:
            InputError: the file is missing, damaged, or not a ranking.
        """
        arrays, facts = read_arrays(path, "ranking")
        with parse_errors(path):
            return cls(
                query=unpack_records("query", arrays),
                gallery=unpack_records("gallery", arrays),
                indices=arrays["indices"],
                distances=arrays["distances"],
                protocol=fact(facts, "protocol", str),
                steps=fact(facts, "steps", tuple[str, ...]),
                reranked=fact(facts, "reranked", bool),
                transductive=fact(facts, "transductive", bool),
                features=fact(facts, "features", str, ""),
                notes=fact(facts, "notes", tuple[str, ...], ()),
            )


_NAMED = ("image_key", "path", "tracklet", "camera", "time", *BOX_COLUMNS)
"""Columns that identify an image in the table."""


def _named(records: Records, row: int) -> list[str]:
    """Return the values of the columns `_NAMED` of an image; "" if unknown."""
    numbers = (records.time[row], *records.box[row])
    labels = records.tracklet.values[row], records.camera.values[row]
    return [records.image_key[row], records.path[row], *labels, *("" if np.isnan(n) else str(n) for n in numbers)]


PER_TRACKLET = "query tracklets by mean distance"
"""Step name of a ranking with one list per query tracklet."""


def rank(distances: Distances, protocol: Protocol, top_k: int | None = None, *, per_tracklet: bool = False) -> Ranking:
    """Rank the gallery for each query, without the images that `protocol` excludes; ties in gallery order.

    Args:
        distances: distances of search or post-processing.
        protocol: defines the excluded images, and K if `top_k` is None.
        top_k: K; None: that of the protocol, or the whole gallery if it has none.
        per_tracklet: return one list per query tracklet, for its first image, by the mean distance of its images (for
            squared distances, the order of their mean feature). Images excluded for one of them are excluded for all. A
            query without a tracklet has its own list.

    Raises:
        InputError: `top_k` is below 1, a distance is NaN, or `per_tracklet` is set and no query has a tracklet.
    """
    wanted = top_k if top_k is not None else protocol.top_k
    if wanted is not None:
        check_number("rank: top_k", wanted, least=1, whole=True)
    count = len(distances.gallery) if wanted is None else min(wanted, len(distances.gallery))
    exclusion = Exclusion(distances.query, distances.gallery, protocol)
    first = np.arange(len(distances.query))
    lists = first.astype(np.int32)
    if per_tracklet:
        lists, _ = tracklet_units(distances.query, "query")
        first = np.unique(lists, return_index=True)[1]
    indices = np.full((len(first), count), -1, dtype=np.int32)
    values = np.full((len(first), count), np.inf, dtype=np.float32)
    for number, row in _means(_rows(distances, exclusion), lists):
        order = nearest_of_row(row, count)
        indices[number, : len(order)] = order
        values[number, : len(order)] = row[order]
    return Ranking(
        distances.query[first],
        distances.gallery,
        indices,
        values,
        protocol=protocol.name,
        steps=(*distances.steps, PER_TRACKLET) if per_tracklet else distances.steps,
        reranked=distances.reranked,
        transductive=distances.transductive,
        features=distances.features,
        notes=distances.notes,
    )


def _rows(distances: Distances, exclusion: Exclusion) -> Iterator[NDArray[np.float32]]:
    """Yield the distances (G,) of each query, +inf for images excluded by the protocol."""
    for start, block in distances.image_blocks():
        for query, shared in enumerate(block, start=start):
            row = shared.copy()
            row[exclusion.removed(query)] = np.inf
            yield row


def _means(
    rows: Iterator[NDArray[np.float32]], lists: NDArray[np.integer]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield (list, mean of its rows) when its last row has been read; only incomplete lists are in memory."""
    left = np.bincount(lists)
    begun: dict[int, tuple[int, NDArray[np.float64]]] = {}
    for number, row in zip(lists.tolist(), rows, strict=True):
        left[number] -= 1
        count, total = begun.pop(number, (0, None))
        if count == 0 and left[number] == 0:
            yield number, row
            continue
        total = row.astype(np.float64) if total is None else total + row
        if left[number]:
            begun[number] = count + 1, total
        else:
            yield number, (total / (count + 1)).astype(np.float32)


def nearest_of_row(row: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Return the indices of the `count` smallest finite values, ascending; ties by index.

    Raises:
        InputError: a value is NaN.

    Example:
        >>> nearest_of_row(np.array([2, 1, np.inf, 1], dtype=np.float32), 3).tolist()
        [1, 3, 0]
    """
    if np.isnan(row.max()):
        raise InputError("distances hold NaN; compute them again.")
    last = np.partition(row, count - 1)[count - 1]
    candidates = np.flatnonzero((row <= last) & (row < np.inf))
    return candidates[np.argsort(row[candidates], kind="stable")[:count]]
