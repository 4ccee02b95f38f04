"""One extraction of features, resumable: finished parts, what they are parts of, and the file at the end; no torch."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.data.dataset import fingerprint
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.files import parse_errors, read_json, write_json
from vreid.progress import Progress
from vreid.retrieval.features import FeatureSet
from vreid.retrieval.storage import read_arrays, write_arrays

SHARD = 2048
"""Images per shard: the maximum loss of a killed extraction, for any batch size."""

Batches = Iterable[tuple[NDArray[np.integer], NDArray[np.float32]]]
"""Rows (B,) among those asked for, in their order, and their features (B, D)."""


class FeatureJob:
    """An extraction of the features of `records` by the model with the hash `model`.

    Args:
        records: N images.
        model: hash of the model.
        views: names of the views that are summed.
        normalise: L2-normalise the sums.
        out: a .safetensors file to write, or None. Finished shards lie in a folder beside it until then, so that an
            extraction killed at any moment goes on where it was.
        resume: take finished shards, or a finished file, if they are of the same model, images and settings; False
            starts again.
        crops: crops that views show.
        progress: listener, counts images.

    Attributes:
        precision: number type of the parts that exist; None without parts.

    Raises:
        InputError: `out` has another ending, or holds parts of another extraction.
    """

    def __init__(
        self,
        records: Records,
        *,
        model: str,
        views: tuple[str, ...],
        normalise: bool,
        out: Path | str | None,
        resume: bool,
        progress: Progress,
        crops: Records | None = None,
    ) -> None:
        if out is not None and Path(out).suffix != ".safetensors":
            raise InputError(f"{out}: the name of a file of features must end in .safetensors; rename it.")
        self.records, self.model, self.views, self.normalise = records, model, views, normalise
        self.out = None if out is None else Path(out)
        self.progress = progress
        self._finished = self.out is not None and self.out.exists() and resume
        self._shards: _Shards | None = None
        if self.out is not None and not self._finished:
            asked = {"model": model, "views": list(views), "images": fingerprint(records)}
            if crops is not None:
                asked["crops"] = fingerprint(crops)
            self._shards = _Shards(self.out, asked, resume)
        self.precision = None if self._shards is None else self._shards.precision

    def finished(self) -> FeatureSet | None:
        """Return the features in `out`, if it is to be resumed and is complete.

        Raises:
            InputError: it holds features of another model, other views or other images.
        """
        if not self._finished or self.out is None:
            return None
        found = _load(self.out, self.records, self.model, self.views, self.normalise)
        shutil.rmtree(_parts(self.out), ignore_errors=True)  # of a process killed right after it had finished
        return found

    def run(
        self, num_features: int, precision: str, note: str, batches: Callable[[NDArray[np.intp]], Batches]
    ) -> FeatureSet:
        """Extract what is missing by `batches`, which is given the missing rows of `records`.

        Args:
            num_features: D.
            precision: number type of the computation; parts of another are not mixed in.
            note: sentence for `progress` once the first shard is written.
            batches: makes the features of rows, in their order.
        """
        if self._shards is not None:
            self._shards.begin(precision)
        features = np.empty((len(self.records), num_features), dtype=np.float32)
        missing = np.arange(len(self.records))
        if self._shards is not None:
            missing = self._shards.read_into(features, self.progress)
        self.progress.start("extract", len(self.records), len(self.records) - len(missing))
        try:
            for rows, made in batches(missing):
                features[missing[rows]] = made
                if self._shards is not None and self._shards.write_up_to(int(missing[rows[-1]]) + 1, features) and note:
                    self.progress.note(note)  # not before: wrong input is answered with one sentence
                    note = ""
                self.progress.advance(len(rows))
        except InputError:
            if self._shards is not None:
                self._shards.abandon()
            raise
        finally:
            self.progress.finish()
        found = FeatureSet(features, self.records, views=self.views, model=self.model, raw=not self.normalise)
        found = found.normalise() if self.normalise else found
        if self.out is not None and self._shards is not None:
            found.save(self.out)
            self._shards.remove()
        return found


class _Shards:
    """Finished shards of an unfinished extraction: OUT.parts/job.json and one file per `SHARD` images.

    Raises:
        InputError: the folder holds shards of another extraction.
    """

    def __init__(self, out: Path, job: dict[str, Any], resume: bool) -> None:
        self.folder = _parts(out)
        self._alone = not out.parent.exists()  # the parent folder is created for these shards
        self._job = job
        self._pending: list[int] = []  # first rows of the shards to be written
        self.precision: str | None = None
        if not resume:
            self.remove()
        file = self.folder / "job.json"
        if file.exists():
            stored = read_json(file)
            with parse_errors(file):
                self.precision = stored.pop("precision", None)
            for key, value in job.items():
                if stored.get(key) != value:
                    raise self._other(key, stored.get(key), value)

    def begin(self, precision: str) -> None:
        """Record the inputs of the extraction, before the first shard is written."""
        if self.precision not in (None, precision):
            raise self._other("precision", self.precision, precision)
        write_json(self.folder / "job.json", {**self._job, "precision": precision})

    def read_into(self, features: NDArray[np.float32], progress: Progress) -> NDArray[np.intp]:
        """Copy finished shards into `features` (N, D); return the rows that are missing or damaged."""
        missing = np.ones(len(features), dtype=bool)
        for start in range(0, len(features), SHARD):
            rows = slice(start, start + SHARD)
            if self._path(start).exists():
                try:
                    features[rows] = self._read(start, features[rows].shape)
                    missing[rows] = False
                    continue
                except InputError as error:
                    progress.note(f"{error} Its images are extracted again.")
            self._pending.append(start)
        return np.flatnonzero(missing)

    def _read(self, start: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        with parse_errors(self._path(start)):
            found: NDArray[np.float32] = read_arrays(self._path(start), "shard")[0]["features"]
            if found.shape != shape:
                raise ValueError(f"{found.shape} instead of {shape}")
        return found

    def write_up_to(self, row: int, features: NDArray[np.float32]) -> int:
        """Write the shards that are complete up to `row`; return their number."""
        before = len(self._pending)
        while self._pending and min(self._pending[0] + SHARD, len(features)) <= row:
            start = self._pending.pop(0)
            write_arrays(self._path(start), "shard", {"features": features[start : start + SHARD]})
        return before - len(self._pending)

    def abandon(self) -> None:
        """Remove the folder if no shard is finished."""
        if not list(self.folder.glob("rows-*.safetensors")):
            self.remove()
            if self._alone:
                with suppress(OSError):
                    self.folder.parent.rmdir()

    def remove(self) -> None:
        """Remove all shards."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _other(self, what: str, there: object, asked: object) -> InputError:
        fix = "remove it or name another output file"
        return InputError(f"{self.folder}: was started with other {what} ({there}, now {asked}); {fix}.")

    def _path(self, start: int) -> Path:
        return self.folder / f"rows-{start:08d}.safetensors"


def _parts(out: Path) -> Path:
    return out.with_name(out.name + ".parts")


def _load(out: Path, records: Records, model: str, views: tuple[str, ...], normalised: bool) -> FeatureSet:
    found = FeatureSet.load(out)
    for what, there, asked in (
        ("a model", found.model[:12], model[:12]),
        ("views", "+".join(found.views), "+".join(views)),
        ("norm", "unit" if found.normalised else "raw", "unit" if normalised else "raw"),
    ):
        if there != asked:
            raise InputError(f"{out}: holds features of {what} {there}, not {asked}; remove the file or name another.")
    if found.records != records:
        raise InputError(f"{out}: holds features of other images; remove the file or name another.")
    return found
