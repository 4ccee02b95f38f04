"""One extraction of features in shards, resumable, whatever library and process computes them; no torch.

Several processes of torchrun (see `vreid.training.distributed`) take the batches in turn, and each gets all features,
the same to the last bit as in one process, which the same batches give. The first process writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vreid.data.crops import crops_of
from vreid.data.dataset import fingerprint
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.files import parse_errors
from vreid.object_storage import exists, is_address, local_copy, remove, written
from vreid.progress import Progress, job
from vreid.ranges import check_number
from vreid.retrieval import feature_shards
from vreid.retrieval.feature_shards import FeatureShards, shards_beside
from vreid.retrieval.features import FeatureSet
from vreid.training.distributed import ProcessGroup
from vreid.training.views import VIEWS

Rows = NDArray[np.intp]
"""Rows (B,) of the records that make one batch."""


@dataclass(frozen=True)
class ExtractionSettings:
    """How the feature of an image is made: that of its views, summed.

    Attributes:
        views: names in `vreid.training.views.VIEWS`.
        unit_views: L2-normalise the feature of each view before the sum.
        normalise: L2-normalise the sum.
        batch_size: images that go through the network at once; affects only speed, memory and rounding.

    Raises:
        InputError: the batch size is below 1.
    """

    views: tuple[str, ...] = ("original", "flip")
    unit_views: bool = False
    normalise: bool = True
    batch_size: int = 64

    def __post_init__(self) -> None:
        check_number("batch size", self.batch_size, least=1, whole=True)

    @property
    def names(self) -> tuple[str, ...]:
        """The views as `FeatureSet.views` has them."""
        return tuple(f"unit {view}" if self.unit_views else view for view in self.views)

    @property
    def kinds(self) -> list[bool]:
        """Whether the images (False), their crops (True) or both are read."""
        return sorted({VIEWS[view].cropped for view in self.views})


class Extractor(Protocol):
    """A model that computes features in batches.

    Attributes:
        hash: of weights and preprocessing.
        num_features: D.
    """

    hash: str
    num_features: int

    def precision(self, stored: str | None) -> tuple[str, str]:
        """Return the number type of the computation and a sentence about it ("": nothing to say).

        Args:
            stored: number type of the shards that are there already.
        """

    def features(
        self, shown: Mapping[bool, Records], batches: Sequence[Rows], settings: ExtractionSettings, precision: str
    ) -> Iterable[NDArray[np.float32]]:
        """Yield the features (B, D) of each batch, summed over the views and not normalised.

        Args:
            shown: the images (False) and their crops (True), of which `settings.kinds` are read.
            batches: rows of each batch.
            settings: the views.
            precision: number type of the computation.
        """


def batches_of(shards: Sequence[slice], batch_size: int) -> list[Rows]:
    """Divide the rows of shards into batches; none reaches from one shard into the next.

    So the batches of a shard, and with them the bits of its features, do not depend on which shards are computed by
    the same process.

    Example:
        >>> [rows.tolist() for rows in batches_of([slice(0, 5), slice(8, 10)], 3)]
        [[0, 1, 2], [3, 4], [8, 9]]
    """
    return [
        np.arange(start, min(start + batch_size, shard.stop))
        for shard in shards
        for start in range(shard.start, shard.stop, batch_size)
    ]


def computed(
    extractor: Extractor,
    shown: Mapping[bool, Records],
    shards: Sequence[slice],
    settings: ExtractionSettings,
    precision: str,
    progress: Progress,
) -> Iterator[tuple[slice, FeatureSet]]:
    """Compute shards one after the other, by all processes together; yield the rows of each and its features.

    Args:
        extractor: the model.
        shown: the images (False), whose records the features get, and their crops (True), if views show these.
        shards: rows of each shard.
        settings: views and batch size.
        precision: number type of the computation.
        progress: is advanced by the images of each batch.

    Raises:
        InputError: an image cannot be read, or its feature is not finite or has norm zero.
    """
    batches = batches_of(shards, settings.batch_size)
    world = ProcessGroup.current()
    own = extractor.features(shown, world.turn.of(batches), settings, precision)
    made = zip(batches, world.in_turn(own), strict=True)
    for shard in shards:
        features = np.empty((shard.stop - shard.start, extractor.num_features), dtype=np.float32)
        done = shard.start
        while done < shard.stop:
            rows, part = next(made)
            features[rows - shard.start] = part
            done += len(rows)
            progress.advance(len(rows))
        found = FeatureSet(
            features,
            shown[False][shard].compact(),
            views=settings.names,
            model=extractor.hash,
            raw=not settings.normalise,
        )
        yield shard, found.normalise() if settings.normalise else found


def fill(
    store: FeatureShards,
    starts: Sequence[int],
    extractor: Extractor,
    shown: Mapping[bool, Records],
    settings: ExtractionSettings,
    progress: Progress,
    *,
    offset: int = 0,
    note: str = "",
) -> dict[int, str]:
    """Compute and write the shards that are not there yet, or are damaged; return the hash of each by its first image.

    Any number of processes may fill one folder at once.

    Args:
        store: the folder, of which `begin` was called.
        starts: first images of the shards.
        extractor: the model.
        shown: see `computed`; of the images from `offset` on.
        settings: views and batch size.
        progress: listener, counts images.
        offset: the first image in `shown`.
        note: sentence for `progress` once the first shard is written.

    Raises:
        InputError: as `computed`; or a shard cannot be written.
    """
    world = ProcessGroup.current()
    hashes = world.agree(lambda: written_shards(store, starts, progress))
    missing = [store.rows(start) for start in starts if start not in hashes]
    rows = [slice(one.start - offset, one.stop - offset) for one in missing]
    assert store.precision is not None
    with job(progress, "extract", _images(store, starts), _images(store, hashes)):
        for shard, features in computed(extractor, shown, rows, settings, store.precision, progress):
            start = shard.start + offset
            hashes[start] = store.write(start, features) if world.first else ""
            if note:
                progress.note(note)  # not before: wrong input is answered with one sentence
                note = ""
    return hashes


def written_shards(store: FeatureShards, starts: Sequence[int], progress: Progress) -> dict[int, str]:
    """Return the hash of each shard that is there and whole; damaged ones are noted."""
    found = {}
    for start in starts:
        try:
            if (hash_ := store.hash_of(start)) is not None:
                found[start] = hash_
        except InputError as error:
            progress.note(f"{error} Its images are extracted again.")
    return found


def _images(store: FeatureShards, starts: Iterable[int]) -> int:
    return sum(rows.stop - rows.start for rows in map(store.rows, starts))


@dataclass(frozen=True)
class ShardTask:
    """Some consecutive shards of an extraction, with all that a process needs to compute them but the model.

    Attributes:
        folder: where the shards are written; `begin` was called.
        job: what they are of; see `FeatureShards`.
        starts: their first images.
        shown: the images from `starts[0]` on (False), and their crops (True).
        settings: views and batch size.
    """

    folder: str
    job: Mapping[str, object]
    starts: range
    shown: Mapping[bool, Records]
    settings: ExtractionSettings

    def run(self, extractor: Extractor) -> dict[int, str]:
        """Compute the shards that are not written yet; return the hash of each.

        Raises:
            InputError: the extractor is another model; or as `fill`.
        """
        if extractor.hash != self.job["model"]:
            raise InputError(
                f"a worker computes with model {extractor.hash[:12]} instead of {str(self.job['model'])[:12]}; install "
                "the same version of vehicle-reid and of its packages everywhere."
            )
        store = FeatureShards(self.folder, self.job)
        return fill(store, self.starts, extractor, self.shown, self.settings, Progress(), offset=self.starts[0])


class WorkerPool(Protocol):
    """Processes that compute shards, each with an extractor of the same model."""

    def begin(self, folder: str, job: Mapping[str, object]) -> str:
        """Record in one process what is computed, as `FeatureJob.begin`, before the first task."""

    def run(self, tasks: Iterable[ShardTask]) -> Iterable[Mapping[int, str]]:
        """Yield what `ShardTask.run` returns, in any order; a task whose process dies is given to another one.

        Raises:
            InputError: as `ShardTask.run`; or processes die again and again.
        """


SHARDS_PER_TASK = 8
"""Most shards of a task: enough that starting its loaders does not count."""


def begin(store: FeatureShards, extractor: Extractor) -> str:
    """Record what is computed; return a sentence about the number type.

    Raises:
        InputError: shards that are there were computed in another number type.
    """
    precision, note = extractor.precision(store.precision)
    store.begin(precision, extractor.num_features)
    return note


class FeatureJob:
    """An extraction of the features of `records`.

    Args:
        records: N images.
        extractor: the model.
        settings: views and batch size.
        out: a .safetensors file to write, or None. Finished shards lie in a folder beside it, so that an extraction
            killed at any moment goes on where it was.
        resume: take finished shards, or a finished file, if they are of the same model, images and settings; False
            starts again.
        progress: listener, counts images.
        crops: crops that views show, of all records; matched by `image_key`.

    Attributes:
        shown: the images (False) and their crops (True).

    Raises:
        InputError: `out` has another ending; or an image has no crop.
    """

    def __init__(
        self,
        records: Records,
        extractor: Extractor,
        settings: ExtractionSettings | None = None,
        *,
        out: Path | str | None = None,
        resume: bool = True,
        progress: Progress | None = None,
        crops: Records | None = None,
    ) -> None:
        if out is not None and not str(out).endswith(".safetensors"):
            raise InputError(f"{out}: the name of a file of features must end in .safetensors; rename it.")
        self.extractor, self.settings = extractor, settings or ExtractionSettings()
        self.out, self.resume, self.progress = out, resume, progress or Progress()
        self.shown = {False: records}
        if True in self.settings.kinds and crops is not None:
            self.shown[True] = crops_of(records, crops)
        self._alone = out is not None and not is_address(out) and not Path(out).parent.exists()  # made for the shards

    @cached_property
    def store(self) -> FeatureShards:
        """The folder of the shards.

        Raises:
            InputError: there is no `out`, or the folder holds shards of another extraction.
        """
        if self.out is None:
            raise InputError("extract: shards need an output; name one.")
        folder = shards_beside(self.out)
        if not self.resume and ProcessGroup.current().first:
            remove(folder)
        job = {
            "count": len(self.shown[False]),
            "model": self.extractor.hash,
            "views": list(self.settings.names),
            "norm": "unit" if self.settings.normalise else "raw",
            "images": fingerprint(self.shown[False]),
            **({"crops": fingerprint(self.shown[True])} if True in self.shown else {}),
        }
        return FeatureShards(folder, job)

    def run(self, pool: WorkerPool | None = None) -> FeatureSet:
        """Return the features of all images, and write them to `out`.

        Args:
            pool: the processes that compute what is missing; None: this one.

        Raises:
            InputError: `out` or its shards are of another extraction; or as `fill` and `WorkerPool.run`.
        """
        if self.out is None:
            return self._in_memory()
        world, out = ProcessGroup.current(), self.out
        if world.agree(lambda: self.resume and exists(out)):
            found = self._load(out)
            if world.first:
                remove(shards_beside(out))  # of a process killed right after it had finished
            return found
        self._complete(pool)
        found = self.store.whole(self.shown[False])
        world.wait()  # until all have read the shards
        if world.first:
            with written(out) as file:
                found.save(file)
            self.store.remove()
        world.wait()
        return found

    def run_sharded(self, pool: WorkerPool | None = None) -> FeatureShards:
        """Write the features of all images in shards beside `out`, without holding them in memory.

        Args and raises: as `run`; and an `InputError` if there is a file `out`, which readers prefer to shards.
        """
        world, out = ProcessGroup.current(), self.out
        if world.agree(lambda: out is not None and exists(out)):
            raise InputError(f"{out}: would be read instead of the shards; remove it or name another output.")
        if not world.agree(lambda: self.store.complete and self.resume):
            hashes = self._complete(pool)
            if world.first:
                self.store.finish(hashes)
            world.wait()
        return FeatureShards.open(self.store.folder)

    def _complete(self, pool: WorkerPool | None) -> dict[int, str]:
        """Compute all shards that are missing; return the hash of each, which the first process knows."""
        world = ProcessGroup.current()
        try:
            if pool is not None:
                return self._by_workers(pool)
            note = world.agree(lambda: begin(self.store, self.extractor))
            how = self.extractor, self.shown, self.settings, self.progress
            hashes = fill(self.store, self.store.starts, *how, note=note)
        except InputError:
            if world.first:
                self._abandon()
            raise
        world.wait()  # until all shards are written
        return hashes

    def _by_workers(self, pool: WorkerPool) -> dict[int, str]:
        store = self.store
        note = pool.begin(store.folder, store.job)
        store.refresh()
        hashes: dict[int, str] = {}
        with job(self.progress, "extract", store.count):
            for made in pool.run(self.tasks()):
                hashes |= made
                self.progress.advance(_images(store, made))
                self.progress.note(note) if note else None
                note = ""
        return hashes

    def tasks(self) -> Iterator[ShardTask]:
        """Yield all shards as tasks, some shards each; those that are written are skipped where a task runs."""
        starts = self.store.starts
        size = max(1, min(SHARDS_PER_TASK, len(starts) // 64))
        for first in range(0, len(starts), size):
            some = starts[first : first + size]
            rows = slice(some[0], self.store.rows(some[-1]).stop)
            shown = {cropped: records[rows].compact() for cropped, records in self.shown.items()}
            yield ShardTask(self.store.folder, self.store.job, some, shown, self.settings)

    def _abandon(self) -> None:
        """Remove the folder of an extraction that failed before its first shard."""
        if self.store.abandon() and self._alone:
            with suppress(OSError):
                Path(str(self.out)).parent.rmdir()

    def _in_memory(self) -> FeatureSet:
        records, unit = self.shown[False], self.settings.normalise
        size = feature_shards.SHARD
        shards = [slice(start, min(start + size, len(records))) for start in range(0, len(records), size)]
        precision, note = self.extractor.precision(None)
        features = np.empty((len(records), self.extractor.num_features), dtype=np.float32)
        with job(self.progress, "extract", len(records)):
            for rows, part in computed(self.extractor, self.shown, shards, self.settings, precision, self.progress):
                features[rows] = part.features
            self.progress.note(note) if note and shards else None
        return FeatureSet(features, records, unit, self.settings.names, self.extractor.hash, raw=not unit)

    def _load(self, out: Path | str) -> FeatureSet:
        with local_copy(out) as file, parse_errors(out):
            found = FeatureSet.load(file)
        for what, there, asked in (
            ("a model", found.model[:12], self.extractor.hash[:12]),
            ("views", "+".join(found.views), "+".join(self.settings.names)),
            ("norm", "unit" if found.normalised else "raw", "unit" if self.settings.normalise else "raw"),
        ):
            if there != asked:
                raise InputError(
                    f"{out}: holds features of {what} {there}, not {asked}; remove the file or name another."
                )
        if found.records != self.shown[False]:
            raise InputError(f"{out}: holds features of other images; remove the file or name another.")
        return found
