"""A store in a dictionary: what `vreid.store.interface.VectorStore` means, written as plainly as possible."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vreid.store.interface import NO_TIME, Filter, TrackletBatch


class PlainStore:
    def __init__(self) -> None:
        self.rows: dict[str, TrackletBatch] = {}  # of one row each

    def upsert(self, batch: TrackletBatch) -> None:
        for row in range(len(batch)):
            some = slice(row, row + 1)
            assert batch.crops is not None
            self.rows[batch.id[row]] = TrackletBatch(
                batch.id[some],
                batch.vector[some],
                batch.camera[some],
                batch.start[some],
                batch.end[some],
                batch.color[some],
                batch.vehicle_type[some],
                batch.facts[some],
                batch.crops[some],
            )

    def replace_vectors(self, ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
        for name, vector in zip(ids, vectors, strict=True):
            if name in self.rows:
                one = self.rows[name]
                self.rows[name] = TrackletBatch(
                    one.id,
                    vector[None],
                    one.camera,
                    one.start,
                    one.end,
                    one.color,
                    one.vehicle_type,
                    one.facts,
                    one.crops,
                )

    def delete(self, ids: Sequence[str]) -> int:
        return sum(self.rows.pop(name, None) is not None for name in ids)

    def selected(self, where: Filter | None) -> list[str]:
        return sorted(name for name, row in self.rows.items() if selects(where or Filter(), row))

    def by_time(self, where: Filter | None) -> list[str]:
        return sorted(self.selected(where), key=lambda name: (int(self.rows[name].start[0]), name))

    def search(self, query: NDArray[np.float32], k: int, where: Filter | None) -> list[tuple[str, float]]:
        """The k most similar of one query, in float64 rounded to float32; ties in the order of ids."""
        scored = []
        for name in self.selected(where):
            product = self.rows[name].vector[0].astype(np.float64) * query.astype(np.float64)
            scored.append((-float(np.float32(product.sum())), name))
        return [(name, -score) for score, name in sorted(scored)[:k]]


def selects(where: Filter, row: TrackletBatch) -> bool:
    camera, color, kind = row.camera[0], row.color[0], row.vehicle_type[0]
    start, end = int(row.start[0]), int(row.end[0])
    if where.cameras is not None and camera not in where.cameras:
        return False
    if where.not_cameras is not None and camera in where.not_cameras:
        return False
    if where.colors is not None and color not in where.colors:
        return False
    if where.vehicle_types is not None and kind not in where.vehicle_types:
        return False
    if where.start is None and where.end is None:
        return True
    if start == NO_TIME:
        return False
    first = start if where.start is None else max(start, where.start)
    last = end if where.end is None else min(end, where.end - 1)
    return first <= last
