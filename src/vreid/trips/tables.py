"""TimedTracklets: the tracklets of a site that are linked into trips.

Shapes: N tracklets, D feature dimensions.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vreid.data.cameras import Camera, with_times
from vreid.data.records import Labels, joint_codes
from vreid.errors import InputError
from vreid.files import writing
from vreid.formatting import plural
from vreid.retrieval.feature_shards import load_sides
from vreid.retrieval.features import FeatureSet, unit_rows

if TYPE_CHECKING:
    from vreid.store.interface import TrackletBatch

Position = tuple[float, float]
"""Latitude and longitude of a camera in degrees (WGS 84)."""

_MILLISECONDS = 1000.0
_BLOCK = 8192  # tracklets whose features are copied at a time
IN_MEMORY = 1 << 27
"""Bytes of features that `joined_rows` keeps in memory."""


def joined_rows(blocks: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Join blocks of rows (n, D) into one array (N, D), which cannot be written.

    Up to 128 MB are kept in memory. More goes to a file in the folder of temporary files (TMPDIR), of which the system
    keeps in memory what it has room for; the file has no name, so it is gone when the process ends, however it ends.

    Raises:
        InputError: the file cannot be written.
    """
    kept: list[NDArray[np.float32]] = []
    size, count = 0, 0
    with ExitStack() as stack:
        file: IO[bytes] | None = None
        for block in blocks:
            kept.append(np.ascontiguousarray(block))
            count, size = count + len(block), size + block.nbytes
            if size > IN_MEMORY:
                folder = tempfile.gettempdir()
                with writing(folder):
                    if file is None:
                        file = stack.enter_context(tempfile.TemporaryFile(prefix="vreid-"))
                    for one in kept:
                        file.write(one.data)
                width, kept = block.shape[1], []
        if file is None:
            joined = np.concatenate(kept) if kept else np.empty((0, 0), dtype=np.float32)
            joined.flags.writeable = False
            return joined
        with writing(folder):
            file.flush()
        return np.asarray(np.memmap(file, dtype=np.float32, mode="r", shape=(count, width)))


@dataclass(frozen=True, eq=False)
class TimedTracklets:
    """N tracklets in the order of their starts (then ends, cameras, ids); build with `TimedTracklets.of`.

    Attributes:
        id: (N,) distinct texts.
        camera: the camera of each, known and without gaps in its codes.
        start, end: (N,) seconds in UTC of the first and last frame.
        vector: (N, D) features of unit length, centred by camera.
        positions: latitude and longitude of the cameras whose position is known.
    """

    id: NDArray[np.object_]
    camera: Labels
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    vector: NDArray[np.float32]
    positions: dict[str, Position] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        *,
        id: Iterable[str],
        camera: Iterable[str] | Labels,
        start: Any,
        end: Any,
        vector: Any,
        positions: dict[str, Position] | None = None,
    ) -> TimedTracklets:
        """Validate and sort tracklets that are given in any order.

        Raises:
            InputError: no tracklets, repeated ids, unknown cameras or times, an end before its start, or a feature
                without direction.
        """
        names = np.array(list(id), dtype=object)
        cameras = (camera if isinstance(camera, Labels) else Labels.of(camera)).compact()
        starts, ends = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
        vectors: NDArray[np.float32] = np.asarray(vector, dtype=np.float32)
        lengths = {len(names), len(cameras), len(starts), len(ends), len(vectors)}
        if len(lengths) != 1 or vectors.ndim != 2:
            raise InputError(f"tracklets: columns have lengths {sorted(lengths)}; give one value per tracklet.")
        if not len(names):
            raise InputError("trips: there are no tracklets; ingest videos or extract features first.")
        order = np.lexsort((names.astype(str), cameras.codes, ends, starts))
        names, cameras, starts, ends = names[order], cameras[order], starts[order], ends[order]
        _reject(names, ~np.isfinite(starts) | ~np.isfinite(ends), "has no time", TIMES)
        _reject(names, ~cameras.known, "has no camera", "give every tracklet its camera")
        _reject(names, ends < starts, "ends before it starts", "correct its times")
        seen, counts = np.unique(names.astype(str), return_counts=True)
        if (counts > 1).any():
            raise InputError(f"tracklet {str(seen[np.argmax(counts > 1)])!r} is given twice; rename one.")
        blocks = (slice(at, at + _BLOCK) for at in range(0, len(order), _BLOCK))
        vectors = joined_rows(unit_rows(vectors[order[rows]], names[rows]) for rows in blocks)
        return cls(names, cameras, starts, ends, vectors, dict(positions or {}))

    def __len__(self) -> int:
        return len(self.id)

    def __repr__(self) -> str:
        hours = (self.end.max() - self.start[0]) / 3600
        return f"TimedTracklets: {plural(len(self), 'tracklet')}, {plural(self.cameras, 'camera')}, {hours:.1f} h"

    def __getitem__(self, rows: slice | NDArray[np.integer]) -> TimedTracklets:
        """Select tracklets in ascending order; the codes of cameras do not change."""
        columns = {one.name: getattr(self, one.name)[rows] for one in fields(self) if one.name != "positions"}
        return TimedTracklets(**columns, positions=self.positions)

    @property
    def cameras(self) -> int:
        """Number of cameras, C."""
        return len(self.camera.names)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The row of each id."""
        return {str(name): row for row, name in enumerate(self.id)}


TIMES = "give start times in cameras.csv, or a table with the column `time` in seconds"
"""The fix for tracklets without times."""


def _reject(names: NDArray[np.object_], wrong: NDArray[np.bool_], what: str, fix: str) -> None:
    if wrong.any():
        others = int(wrong.sum()) - 1
        more = f" (and {others:,} more)" if others else ""
        raise InputError(f"tracklet {names[np.argmax(wrong)]}{more} {what}; {fix}.")


def table_of_features(features: FeatureSet, positions: dict[str, Position] | None = None) -> TimedTracklets:
    """Pool images into tracklets: the mean feature, minus the mean of its camera, and the first and last time.

    Images without a tracklet label are tracklets of their own, named by their path.

    Raises:
        InputError: as `TimedTracklets.of`.
    """
    records = features.records
    unit = features.normalise().features
    alone = ~records.tracklet.known
    names = records.tracklet.values.copy()
    names[alone] = records.image_key[alone]
    cameras = records.camera.values
    keys, group = np.unique(np.array([f"{c}\0{n}" for c, n in zip(cameras, names, strict=True)]), return_inverse=True)
    first = np.full(len(keys), len(unit))
    np.minimum.at(first, group, np.arange(len(unit)))
    start, end = np.full(len(keys), np.inf), np.full(len(keys), -np.inf)
    np.fmin.at(start, group, records.time)
    np.fmax.at(end, group, records.time)
    total = np.zeros((len(keys), features.dimensions), dtype=np.float32)
    np.add.at(total, group, unit)
    return TimedTracklets.of(
        id=[str(name) for name in names[first]],
        camera=records.camera[first],
        start=start,
        end=end,
        vector=centre(unit_rows(total, names[first]), records.camera.codes[first]),
        positions=positions,
    )


def centre(vector: NDArray[np.float32], camera: NDArray[np.int32]) -> NDArray[np.float32]:
    """Subtract the mean of each camera with more than one tracklet from (N, D) features."""
    out = vector.copy()
    for code in np.unique(camera):
        rows = camera == code
        if rows.sum() > 1:
            out[rows] -= vector[rows].mean(axis=0)
    return out


def read_features(
    path: Path | str, positions: dict[str, Position] | None = None, cameras: Mapping[str, Camera] | None = None
) -> TimedTracklets:
    """Read the tracklets of a folder written by `vreid extract`; an image that is query and gallery counts once.

    Args:
        path: the folder.
        positions: of cameras.
        cameras: by name; they give times by the number of the frame, and offsets of clocks (`with_times`).

    Raises:
        InputError: a file is missing or damaged, or as `table_of_features`.
    """
    query, gallery = load_sides(path)
    both = query if query is gallery else FeatureSet.concat([query, gallery])
    both = both[np.unique(joint_codes(Labels.of(both.records.image_key.tolist()))[0], return_index=True)[1]]
    if cameras:
        both = replace(both, records=with_times(both.records, cameras))
    return table_of_features(both, positions)


def table_of_batches(batches: Iterable[TrackletBatch], positions: dict[str, Position] | None = None) -> TimedTracklets:
    """Collect the tracklets of a store's scan; their features are never all in memory, see `joined_rows`.

    Raises:
        InputError: as `TimedTracklets.of`.
    """
    from vreid.store.interface import NO_TIME

    columns: list[TrackletBatch] = []

    def vectors() -> Iterator[NDArray[np.float32]]:
        for batch in batches:
            columns.append(replace(batch, vector=batch.vector[:0], facts=()))
            yield batch.vector

    vector = joined_rows(vectors())
    if not columns:
        raise InputError("trips: the store is empty; ingest videos first with `vreid ingest`.")
    times = {
        name: np.concatenate([getattr(batch, name) for batch in columns]).astype(np.float64)
        for name in ("start", "end")
    }
    unknown = times["start"] == NO_TIME
    for values in times.values():
        values /= _MILLISECONDS
        values[unknown] = np.nan
    return TimedTracklets.of(
        id=np.concatenate([batch.id for batch in columns]),
        camera=[str(name) for batch in columns for name in batch.camera],
        vector=vector,
        positions=positions,
        **times,
    )
