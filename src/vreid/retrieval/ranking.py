"""Ranking: for each query the gallery images in order of distance."""

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
    """The first K gallery images of each query, nearest first; equal distances stand in gallery order.

    Attributes:
        query: Q records.
        gallery: G records.
        indices: (Q, K) int32 gallery indices; -1 behind the last candidate.
        distances: (Q, K) float32, +inf behind the last candidate.
        protocol: name of the protocol whose exclusions were obeyed.
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
                f"Ranking: indices {self.indices.shape} and distances {self.distances.shape} must both be "
                f"({len(self.query)}, K)."
            )
        if self.indices.size and not -1 <= self.indices.min() <= self.indices.max() < len(self.gallery):
            raise InputError(f"Ranking: indices must lie in 0 .. {len(self.gallery) - 1}, or be -1 where a list ends.")

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
        """(Q,) how many candidates each list holds."""
        return np.asarray((self.indices >= 0).sum(axis=1))

    def hits(self) -> NDArray[np.int8]:
        """(Q, K) 1 same vehicle, 0 another one, -1 nobody knows (no label, junk, or behind the end of the list)."""
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
            path: the file; its ending chooses the format.
            decisions: (Q, K) texts for a further column "decision" of the table (`Decisions.names`).

        Raises:
            InputError: another file ending, or decisions for a .safetensors file.
        """
        path = Path(path)
        if path.suffix == ".csv":
            self._write_table(path, decisions)
            return
        if path.suffix != ".safetensors":
            raise InputError(f"{path}: give a name that ends in .csv or .safetensors.")
        if decisions is not None:
            raise InputError(f"{path}: has no place for decisions; give a name that ends in .csv.")
        arrays = {"indices": self.indices, "distances": self.distances}
        arrays |= pack_records("query", self.query) | pack_records("gallery", self.gallery)
        reported = ("protocol", "steps", "reranked", "transductive", "features", "notes")
        facts = {name: getattr(self, name) for name in reported}
        write_arrays(path, "ranking", arrays, **facts)

    def _write_table(self, path: Path, decisions: NDArray[np.str_] | None) -> None:
        with (
            atomic_write(path) as temporary,
            open(temporary, "w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            writer = csv.writer(file)
            asked = ["query", *(f"query_{name}" for name in _NAMED[1:])]
            writer.writerow([*asked, "rank", "distance", *_NAMED, *([] if decisions is None else ["decision"])])
            for row, length in enumerate(self.lengths):
                query = _named(self.query, row)
                for place, index in enumerate(self.indices[row, :length]):
                    distance = f"{self.distances[row, place]:.6f}"
                    decision = [] if decisions is None else [decisions[row, place]]
                    writer.writerow([*query, place + 1, distance, *_named(self.gallery, index), *decision])

    @classmethod
    def load(cls, path: Path | str) -> Ranking:
        """Inverse of `save` to a .safetensors file.

        Raises:
            InputError: absent, damaged, or not a file of a ranking.
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
"""Columns that name an image in ranked lists."""


def _named(records: Records, row: int) -> list[str]:
    """One image in the columns `_NAMED`; "" where a number or a label is unknown."""
    numbers = (records.time[row], *records.box[row])
    labels = records.tracklet.values[row], records.camera.values[row]
    return [records.image_key[row], records.path[row], *labels, *("" if np.isnan(n) else str(n) for n in numbers)]


PER_TRACKLET = "query tracklets by mean distance"
"""The step of a ranking that has one list for each tracklet of the queries."""


def rank(distances: Distances, protocol: Protocol, top_k: int | None = None, *, per_tracklet: bool = False) -> Ranking:
    """Order the gallery for each query: what `protocol` removes is not there, ties stand in gallery order.

    Args:
        distances: from search or post-processing.
        protocol: says which images are removed; its `top_k` holds unless `top_k` is given.
        top_k: K; None takes the protocol's, and the whole gallery where that is None too.
        per_tracklet: one list for each tracklet of the queries, under its first image, by the mean distance of its
            images (of squared distances that is the order of their mean feature). What is removed for one of them is
            removed for all. A query without a tracklet keeps its own list.

    Raises:
        InputError: top_k below 1, NaN among the distances, or no tracklets of queries where they are asked for.
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
    """(G,) distances of each query, +inf where the protocol removes an image."""
    for start, block in distances.image_blocks():
        for query, shared in enumerate(block, start=start):
            row = shared.copy()
            row[exclusion.removed(query)] = np.inf
            yield row


def _means(
    rows: Iterator[NDArray[np.float32]], lists: NDArray[np.integer]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """(list, mean of its rows) as soon as the last of them has come; memory is that of the lists begun meanwhile."""
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
    """Indices of the `count` smallest numbers below +inf, ascending; ties by index.

    Raises:
        InputError: NaN in the row.

    Example:
        >>> nearest_of_row(np.array([2, 1, np.inf, 1], dtype=np.float32), 3).tolist()
        [1, 3, 0]
    """
    if np.isnan(row.max()):
        raise InputError("distances hold NaN; compute them again.")
    last = np.partition(row, count - 1)[count - 1]
    candidates = np.flatnonzero((row <= last) & (row < np.inf))
    return candidates[np.argsort(row[candidates], kind="stable")[:count]]
