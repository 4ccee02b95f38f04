"""Export of the store's tracklets as Arrow and Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vreid.errors import InputError
from vreid.files import atomic_write
from vreid.inference.backend import installed
from vreid.store.interface import NO_TIME, TrackletBatch

if TYPE_CHECKING:
    import pyarrow


def arrow_table(batches: Iterator[TrackletBatch], dimensions: int, *, vectors: bool = True) -> pyarrow.Table:
    """Return tracklets as one table; times are timestamps in UTC, null where unknown.

    Raises:
        InputError: pyarrow is not installed.
    """
    pa = _pyarrow()
    schema = _schema(pa, dimensions, vectors)
    return pa.Table.from_batches([_batch(pa, batch, schema) for batch in batches], schema)


def write_parquet(batches: Iterator[TrackletBatch], dimensions: int, path: Path, *, vectors: bool = True) -> Path:
    """Write tracklets as Parquet, a batch at a time.

    Raises:
        InputError: pyarrow is not installed, or `path` cannot be written.
    """
    pa = _pyarrow()
    import pyarrow.parquet

    schema = _schema(pa, dimensions, vectors)
    with atomic_write(path) as file, pyarrow.parquet.ParquetWriter(str(file), schema) as writer:
        for batch in batches:
            writer.write_batch(_batch(pa, batch, schema))
    return path


def _pyarrow() -> Any:
    if not installed("pyarrow"):
        raise InputError("this needs pyarrow: pip install 'vehicle-reid[parquet]'.")
    import pyarrow

    return pyarrow


def _schema(pa: Any, dimensions: int, vectors: bool) -> Any:
    moment = pa.timestamp("ms", "UTC")
    fields = [
        ("id", pa.string()),
        ("camera", pa.string()),
        ("start", moment),
        ("end", moment),
        ("color", pa.string()),
        ("vehicle_type", pa.string()),
        ("facts", pa.string()),
    ]
    return pa.schema([*fields, *([("vector", pa.list_(pa.float32(), dimensions))] if vectors else [])])


def _batch(pa: Any, batch: TrackletBatch, schema: Any) -> Any:
    columns: dict[str, Any] = {
        "id": batch.id.tolist(),
        "camera": batch.camera.tolist(),
        "start": [None if time == NO_TIME else int(time) for time in batch.start],
        "end": [None if time == NO_TIME else int(time) for time in batch.end],
        "color": [text or None for text in batch.color],
        "vehicle_type": [text or None for text in batch.vehicle_type],
        "facts": [json.dumps(facts) for facts in batch.facts],
    }
    arrays = [pa.array(columns[field.name], field.type) for field in schema if field.name != "vector"]
    if "vector" in schema.names:
        flat = pa.array(np.ascontiguousarray(batch.vector, dtype=np.float32).reshape(-1))
        arrays.append(pa.FixedSizeListArray.from_arrays(flat, batch.vector.shape[1]))
    return pa.record_batch(arrays, schema)
