"""Data sets: training, query and gallery records with the evaluation protocol."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal

import numpy as np

from vreid.data.findings import Origin
from vreid.data.protocols import Protocol
from vreid.data.records import Labels, Records

LabelSource = Literal["auto"] | Path | None
"""Source of the test labels: None, a table, or "auto" (a table beside the data, if there is one)."""

NAMESPACED = ("identity", "camera", "tracklet", "image_key")


@dataclass(frozen=True)
class Dataset:
    """Records of three splits, each may be empty, and the protocol that the data set prescribes.

    Attributes:
        name: of the data set, as in the literature.
        train, query, gallery: images; with the cross-camera protocol query and gallery are the very same Records.
        protocol: how a ranking of `gallery` for `query` is evaluated.
        source: origin of the data, if known (simulator version, seed and preset).
        notes: remarks of the reader that need no action.
        origins: label file and rows of each split that has a list, by name of the split.
        local_times: cameras whose times are local ones that name no zone, as if they were UTC
            (`vreid.data.cameras.with_times` moves them).
    """

    name: str
    train: Records
    query: Records
    gallery: Records
    protocol: Protocol
    source: Mapping[str, str | int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    origins: Mapping[str, Origin] = field(default_factory=dict)
    local_times: tuple[str, ...] = ()

    def __repr__(self) -> str:
        parts = []
        for name in ("train", "query", "gallery"):
            records = getattr(self, name)
            parts.append(f"{name} {repr(records).removeprefix('Records: ')}" if len(records) else f"no {name}")
        parts.append(f"protocol {self.protocol.name}")
        parts += [f"{key} {value}" for key, value in self.source.items()]
        return f"Dataset {self.name}: {'; '.join(parts)}"

    def where(self, split: str, image: int) -> str:
        """Return file and row that list image `image` (from 0) of `split`, or its path if there is no list."""
        origin = self.origins.get(split)
        listed = origin is not None and origin.rows[image] > 0
        return origin.where(image) if origin and listed else str(getattr(self, split).path[image])

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits over the `fingerprint` of each split and the protocol's fields."""
        parts = [fingerprint(split) for split in (self.train, self.query, self.gallery)]
        parts += [repr(self.protocol), *(repr(row) for row in sorted(self.protocol.junk.items()))]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


def fingerprint(records: Records) -> str:
    """Return 16 hexadecimal digits over all columns but the path, in order, and the size of each image file in bytes.

    A moved or copied data set keeps its fingerprint; pixels are covered by the file size only. A missing file counts
    as size -1.
    """
    digest = hashlib.sha256()
    for column in fields(records):
        if column.name == "path":
            continue
        values = getattr(records, column.name)
        if isinstance(values, Labels):
            values = values.values
        digest.update(column.name.encode())
        if values.dtype == object:
            digest.update("\0".join(values).encode("utf-8", "surrogateescape"))
        else:
            digest.update(np.ascontiguousarray(values).tobytes())
    sizes = {path: _size(path) for path in set(records.path)}
    digest.update(np.array([sizes[path] for path in records.path], dtype=np.int64).tobytes())
    return digest.hexdigest()[:16]


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def join(first: Dataset, *others: Dataset) -> Dataset:
    """Append the training images of all `others`, which show other vehicles, to those of `first`.

    To keep vehicles, cameras, tracklets and images of different data sets distinct, a name prefix ("VehicleX/0001") is
    added to all names of a kind if some of them occur in an earlier data set. Query, gallery and protocol are those of
    `first`. Further variants of images that are already present (for example crops from a table, with the same keys,
    vehicles and cameras) are the same vehicles and keep their names.

    Example:
        >>> join(open_dataset("city"), open_dataset("vehiclex")).train.identity.distinct   # doctest: +SKIP
        1802
    """
    train = first.train
    splits = (first.train, first.query, first.gallery)
    taken = {column: set().union(*(_present(split, column) for split in splits)) for column in NAMESPACED}
    notes = list(first.notes)
    for number, other in enumerate(others, start=2):
        earlier = [dataset.name for dataset in (first, *others[: number - 2])]
        prefix = f"{other.name}-{number}" if other.name in earlier else other.name
        records = other.train
        for column, names in {} if _further_variants(train, records) else taken.items():
            if names & _present(records, column):
                records = records.with_(**{column: _prefixed(records, column, f"{prefix}/")})
                notes.append(f"each {column} of {other.name} was named {prefix}/..., because some names were taken.")
            names |= _present(records, column)
        train = Records.concat([train, records])
        notes += other.notes
    name = " + ".join(dataset.name for dataset in (first, *others))
    tested = {split: origin for split, origin in first.origins.items() if split != "train"}
    return replace(first, name=name, train=train, notes=tuple(notes), origins=tested)


def _further_variants(train: Records, records: Records) -> bool:
    """Whether `records` are other variants of some images of `train`."""

    def described(images: Records) -> list[tuple[str, ...]]:
        labels = (images.identity.values, images.camera.values, images.variant.values)
        return list(zip(images.image_key.tolist(), *(column.tolist() for column in labels), strict=True))

    there, added = described(train), described(records)
    return {row[:3] for row in added} <= {row[:3] for row in there} and not set(added) & set(there)


def _present(records: Records, column: str) -> set[str]:
    values = getattr(records, column)
    return set(values.names[np.unique(values.codes[values.known])] if isinstance(values, Labels) else values)


def _prefixed(records: Records, column: str, prefix: str) -> Labels | list[str]:
    values = getattr(records, column)
    if not isinstance(values, Labels):
        return [prefix + value for value in values]
    names = values.names.copy()
    names[:] = [prefix + name for name in names]
    return Labels(names, values.codes)
