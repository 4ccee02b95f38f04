"""Copy, thin out and verify stores of any engine."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np

from vreid.errors import InputError
from vreid.progress import Progress, job
from vreid.store.interface import NO_TIME, UNIT_TOLERANCE, Filter, StoredCrop, TrackletBatch, VectorStore
from vreid.store.labelling import forget_pairs

COPY = "unfinished copy"
"""Key of the document that a copy keeps in its target until it is complete."""

_COPIED = 200  # tracklets of a transaction: with four crops each some 20 MB
_DELETED = 1000  # tracklets of a transaction
_UNITS = {"h": 3600, "d": 86_400, "w": 7 * 86_400}


def copy_store(source: VectorStore, target: VectorStore, progress: Progress | None = None) -> int:
    """Copy tracklets, crops and documents to an empty store; an interrupted copy continues where it stopped.

    Returns:
        Number of tracklets copied by this call.

    Raises:
        InputError: the target holds tracklets of something else, or features of another model.
    """
    if (source.dimensions, source.model) != (target.dimensions, target.model):
        raise InputError("the target holds features of another model; copy to an empty store.")
    begun = source.info()
    marker = target.get_document(COPY)
    if marker is None and target.count():
        raise InputError(f"{target.info().uri}: holds tracklets already; copy to an empty store.")
    if marker is not None and marker["source"] != begun.uri:
        raise InputError(
            f"{target.info().uri}: holds an unfinished copy of {marker['source']}; finish that copy first."
        )
    after = marker["after"] if marker else ""
    done = target.count() if after else 0
    copied = 0
    with job(progress, "copying", begun.tracklets, min(done, begun.tracklets)) as listener:
        target.put_document(COPY, {"source": begun.uri, "after": after})
        for batch in source.scan(after=after, limit=_COPIED, crops=True):
            target.upsert(batch)
            target.put_document(COPY, {"source": begun.uri, "after": str(batch.id[-1])})
            copied += len(batch)
            listener.advance(len(batch))
        for key, value in source.documents().items():
            if key != COPY:
                target.put_document(key, value)
        target.delete_document(COPY)
    return copied


@dataclass(frozen=True)
class Pruned:
    """What `prune` has deleted, or would delete.

    Attributes:
        tracklets, crops: how many.
        without_time: tracklets that stay because their time is unknown.
        bytes: given back to the disk, -1 unknown.
    """

    tracklets: int
    crops: int
    without_time: int
    bytes: int = 0


def prune(
    engine: VectorStore,
    older_than: float,
    *,
    cameras: Collection[str] = (),
    dry_run: bool = False,
    now: float | None = None,
    progress: Progress | None = None,
) -> Pruned:
    """Delete tracklets, with their crops, that ended more than `older_than` seconds ago.

    Args:
        engine: the store.
        older_than: seconds.
        cameras: of these only; empty: of all.
        dry_run: count and delete nothing.
        now: seconds since 1970 (UTC); None: the clock.
        progress: listener.

    Answers about deleted tracklets go with them.

    Raises:
        InputError: a camera is neither described in the store nor has it tracklets.
    """
    for camera in cameras:
        described = engine.get_document(f"camera/{camera}") is not None
        if not described and not engine.count(Filter(cameras=frozenset({camera}))):
            raise InputError(f"camera {camera!r}: is not in {engine.info().uri}; check its name.")
    limit = int(((time.time() if now is None else now) - older_than) * 1000)
    only = frozenset(cameras) or None
    old: list[str] = []
    for batch in engine.scan(Filter(cameras=only, end=limit)):
        old += [str(name) for name, end in zip(batch.id, batch.end, strict=True) if end < limit]
    without_time = engine.count(Filter(cameras=only)) - engine.count(Filter(cameras=only, start=NO_TIME + 1))
    crops = (
        sum(len(some) for part in _parts(old) for some in engine.fetch(part, crops=True).crops or ()) if dry_run else 0
    )
    if dry_run:
        return Pruned(len(old), crops, without_time)
    before = engine.info().crops
    with job(progress, "deleting", len(old)) as listener:
        for part in _parts(old):
            engine.delete(ids=part)
            listener.advance(len(part))
    forget_pairs(engine, old)
    return Pruned(len(old), before - engine.info().crops, without_time, engine.compact() if old else 0)


def _parts(ids: list[str]) -> Iterator[list[str]]:
    for begin in range(0, len(ids), _DELETED):
        yield ids[begin : begin + _DELETED]


def seconds_of(text: str) -> float:
    """Parse a period such as 30d, 12h or 2w.

    Example:
        >>> seconds_of("12h")
        43200.0
    """
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)([hdw])", text.strip())
    if found is None:
        raise InputError(f"{text!r} is not a period; give a number with h, d or w, for example 30d.")
    return float(found[1]) * _UNITS[found[2]]


def verify(engine: VectorStore, progress: Progress | None = None) -> list[str]:
    """Read everything and return what is wrong, a sentence each: the engine's structure, features, times, crops."""
    problems: list[str] = []
    _collect(problems, engine.problems)
    with job(progress, "verifying", engine.info().tracklets) as listener:

        def rows() -> Iterator[str]:
            for batch in engine.scan(limit=_COPIED):
                yield from _of_rows(batch)
                yield from _of_crops(engine, [str(name) for name in batch.id])
                listener.advance(len(batch))

        _collect(problems, rows)

    def documents() -> Iterator[str]:
        if engine.documents().get(COPY) is not None:
            yield "an unfinished copy: run `vreid store copy` again with the same source"

    _collect(problems, documents)
    return list(dict.fromkeys(problems))


def _collect(problems: list[str], find: Callable[[], Iterator[str]]) -> None:
    """Add what `find` finds; what the engine cannot read is a problem too."""
    try:
        problems.extend(find())
    except (InputError, ValueError) as error:
        problems.append(str(error))


def _of_rows(batch: TrackletBatch) -> Iterator[str]:
    lengths = np.linalg.norm(batch.vector, axis=1)
    for row, name in enumerate(batch.id):
        if not abs(lengths[row] - 1) < UNIT_TOLERANCE:
            yield f"{name}: its feature is not a finite vector of unit length"
        start, end = int(batch.start[row]), int(batch.end[row])
        if start > end or (start == NO_TIME) != (end == NO_TIME):
            yield f"{name}: starts at {start} and ends at {end} ms"


def _of_crops(engine: VectorStore, ids: list[str]) -> Iterator[str]:
    try:
        found = engine.fetch(ids, crops=True)
    except InputError as error:  # one of them: look at each
        if len(ids) == 1:
            yield str(error)
        else:
            for name in ids:
                yield from _of_crops(engine, [name])
        return
    for name, crops in zip(found.id, found.crops or (), strict=True):
        if not crops:
            yield f"{name}: has no crop"
        for number, crop in enumerate(crops, start=1):
            for what in _of_crop(crop):
                yield f"{name}, crop {number}: {what}"


def _of_crop(crop: StoredCrop) -> Iterator[str]:
    from PIL import Image

    if not abs(float(np.linalg.norm(crop.vector)) - 1) < UNIT_TOLERANCE:
        yield "its feature is not a finite vector of unit length"
    try:
        with Image.open(io.BytesIO(crop.jpeg), formats=["JPEG"]) as image:
            image.load()
    except (OSError, ValueError, SyntaxError) as error:
        yield f"cannot be decoded ({error})"
