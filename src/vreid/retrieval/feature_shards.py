"""Features in a folder of shards: the parts of an extraction that any number of processes write.

    query.shards/job.json                       what the shards are of: model, views, images, number type
    query.shards/rows-000000000000.safetensors  a file of features: those of the images 0 to 2,047
    query.shards/shards.json                    written last: the hash of every shard

A shard is computed by itself, whatever process computes it, and written whole under its final name. So a process killed
at any moment loses the shard that it computes, and no shard is computed again once it is written. The folder may lie on
object storage (`vreid.object_storage`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vreid.data.records import Records
from vreid.errors import InputError
from vreid.files import parse_errors, read_json, verify_tensors, write_json
from vreid.formats.facts import fact, typed
from vreid.object_storage import below, exists, local_copy, normalised, remove, written
from vreid.retrieval.features import FACTS, GALLERY_OF_QUERY, FeatureSet, Norm, Sides

SHARD = 2048
"""Images per shard: the maximum loss of a killed process."""
SUFFIX = ".shards"
"""Ending of the name of a folder of shards."""
_JOB, _COMPLETE = "job.json", "shards.json"
_AGAIN = "run the same `vreid extract` again"


class FeatureShards:
    """A folder with the features of N images in shards.

    Args:
        folder: a path, or an address of object storage.
        job: what the features are of: "count" (N), "model" (its hash), "views", "norm" ("unit" or "raw"), and whatever
            else must be equal in all shards; JSON-serialisable.

    Attributes:
        count: N.
        job: what the features are of.
        starts: the first image of each shard.
        precision: number type of the computation; None if no shard has been started.
        dimensions: D; 0 if no shard has been started.

    Raises:
        InputError: the folder holds shards of another job.
    """

    def __init__(self, folder: Path | str, job: Mapping[str, Any]) -> None:
        self.folder, self.count = normalised(folder), int(job["count"])
        self.job = {**job, "shard": SHARD}
        self._hashes: Mapping[str, str] = {}
        self.starts = range(0, self.count, SHARD)
        self.precision: str | None = None
        self.dimensions = 0
        self.refresh()

    def refresh(self) -> None:
        """Read what another process has recorded by `begin`.

        Raises:
            InputError: the folder holds shards of another job.
        """
        place = below(self.folder, _JOB)
        if exists(place):
            stored = _read_json(place, dict[str, Any])
            with parse_errors(place):
                self.precision, self.dimensions = fact(stored, "precision", str), fact(stored, "dimensions", int)
            for key, value in self.job.items():
                if stored.get(key) != value:
                    raise self._other(key, stored.get(key), value)

    @classmethod
    def open(cls, folder: Path | str) -> FeatureShards:
        """Open a complete folder.

        Raises:
            InputError: it holds no shards, or its lists of them contradict each other or have been edited.
        """
        place = below(folder, _COMPLETE)
        if not exists(place):
            raise InputError(f"{normalised(folder)}: holds no {_COMPLETE}; {_AGAIN}.")
        hashes = _read_json(place, dict[str, str])
        job = _read_json(below(folder, _JOB), dict[str, Any])
        with parse_errors(below(folder, _JOB)):
            if fact(job, "shard", int) != SHARD:
                raise ValueError(f"shards of {job['shard']} images instead of {SHARD}")
            for name, kind in (("model", str), ("norm", str), ("views", tuple[str, ...])):
                fact(job, name, kind)
            Norm(job["norm"])
            if fact(job, "count", int) < 0 or fact(job, "dimensions", int) < 1:
                raise ValueError(f"{job['count']} images of {job['dimensions']} dimensions")
        found = cls(folder, {name: value for name, value in job.items() if name not in ("precision", "dimensions")})
        if len(hashes) != len(found.starts) or any(found._name(start) not in hashes for start in found.starts):
            raise InputError(f"{place}: does not list the shards of {found.count:,} images; remove it and {_AGAIN}.")
        found._hashes = hashes
        return found

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[FeatureSet]:
        """Read one shard after the other; memory is that of one."""
        return map(self.read, self.starts)

    def __repr__(self) -> str:
        return f"FeatureShards: {self.count:,} x {self.dimensions} in {len(self.starts):,} shards, {self.folder}"

    @property
    def complete(self) -> bool:
        """Whether all shards were written, as `finish` says, and are still there."""
        return exists(below(self.folder, _COMPLETE)) and all(exists(self.place(start)) for start in self.starts)

    def begin(self, precision: str, dimensions: int) -> None:
        """Record what is computed, before the first shard is written.

        Raises:
            InputError: the shards that are there were computed in another number type.
        """
        if self.precision not in (None, precision):
            raise self._other("precision", self.precision, precision)
        if self.precision is None:
            self.precision, self.dimensions = precision, dimensions
            with written(below(self.folder, _JOB)) as file:
                write_json(file, {**self.job, "precision": precision, "dimensions": dimensions})

    def rows(self, start: int) -> slice:
        """Return the images of the shard that begins at `start`."""
        return slice(start, min(start + SHARD, self.count))

    def write(self, start: int, features: FeatureSet) -> str:
        """Write the shard of the images `rows(start)`, whole or not at all; return its hash."""
        with written(self.place(start)) as file:
            features.save(file)
            return verify_tensors(file)

    def read(self, start: int) -> FeatureSet:
        """Read a shard.

        Raises:
            InputError: it is missing, damaged, or not the shard of these images by this model.
        """
        return self._read(start)[0]

    def hash_of(self, start: int) -> str | None:
        """Return the hash of a shard that is there and whole; None if it is not there.

        Raises:
            InputError: it is damaged; see `read`.
        """
        return self._read(start)[1] if exists(self.place(start)) else None

    def _read(self, start: int) -> tuple[FeatureSet, str]:
        place, rows = self.place(start), self.rows(start)
        if not exists(place):
            raise InputError(f"{place}: is missing; {_AGAIN}.")
        with local_copy(place) as file:
            try:
                with parse_errors(place):
                    found = FeatureSet.load(file)
                hash_ = verify_tensors(file)
            except InputError as error:
                raise InputError(f"{place}: is damaged; remove it and {_AGAIN}.") from error
        there = found.model, found.dimensions, list(found.views), found.raw, len(found)
        job = self.job["model"], self.dimensions, list(self.job["views"]), self.job["norm"] == "raw"
        if there != (*job, rows.stop - rows.start) or self._hashes.get(self._name(start), hash_) != hash_:
            raise InputError(f"{place}: is the shard of another extraction; remove it and {_AGAIN}.")
        return found, hash_

    def finish(self, hashes: Mapping[int, str]) -> None:
        """Mark the folder as complete.

        Args:
            hashes: of each shard by its first image, as `write` and `hash_of` return them.
        """
        self._hashes = {self._name(start): hashes[start] for start in self.starts}
        with written(below(self.folder, _COMPLETE)) as file:
            write_json(file, self._hashes)

    def whole(self, records: Records | None = None) -> FeatureSet:
        """Join all shards; memory is that of the features, their records and one shard.

        Args:
            records: the N images if they are at hand, instead of those that the shards hold.
        """
        features = np.empty((self.count, self.dimensions), dtype=np.float32)
        images = []
        for start in self.starts:
            part = self.read(start)
            features[self.rows(start)] = part.features
            images += [part.records] if records is None else []
        unit = self.job["norm"] == "unit"
        found = Records.concat(images) if records is None else records
        views = tuple(self.job["views"])
        return FeatureSet(features, found, normalised=unit, views=views, model=self.job["model"], raw=not unit)

    def abandon(self) -> bool:
        """Remove the folder if it holds no shard; return whether it was removed."""
        if any(exists(self.place(start)) for start in self.starts):
            return False
        self.remove()
        return True

    def remove(self) -> None:
        """Remove the folder."""
        remove(self.folder)

    def place(self, start: int) -> str:
        """Return the file of the shard that begins at `start`."""
        return below(self.folder, self._name(start))

    def _name(self, start: int) -> str:
        return f"rows-{start:012d}.safetensors"

    def _other(self, what: str, there: object, asked: object) -> InputError:
        fix = "remove it or name another output"
        return InputError(f"{self.folder}: was started with other {what} ({there}, now {asked}); {fix}.")


def load_sides(folder: Path | str) -> Sides:
    """Load query and gallery features from a folder written by `vreid extract`, from whole files or from shards.

    If every image is query and gallery, features are stored once and both sides are the same object.

    Raises:
        InputError: a file is missing or damaged.
    """
    folder, once = Path(folder), False
    if (folder / FACTS).is_file():
        facts = read_json(folder / FACTS)
        with parse_errors(folder / FACTS):
            once = facts.get(GALLERY_OF_QUERY) is True
    query = _load_side(folder / "query.safetensors")
    return query, query if once else _load_side(folder / "gallery.safetensors")


def _load_side(file: Path) -> FeatureSet:
    shards = shards_beside(file)
    return FeatureShards.open(shards).whole() if not file.exists() and exists(shards) else FeatureSet.load(file)


def shards_beside(file: Path | str) -> str:
    """Return the folder of the shards of a file of features.

    Example:
        >>> shards_beside("features/query.safetensors")
        'features/query.shards'
    """
    return normalised(file).removesuffix(".safetensors") + SUFFIX


def _read_json(place: str, kind: type[Any]) -> Any:
    with local_copy(place) as file:
        content = read_json(file)
    with parse_errors(place):
        return typed(kind, content, "its content")
