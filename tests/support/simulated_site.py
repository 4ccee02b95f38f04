"""A site made of numbers: vehicles that pass cameras, with look-alikes, camera differences and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vreid.store.centering import subtract_mean
from vreid.store.interface import NO_TIME, StoredCrop, TrackletBatch
from vreid.store.relative_distance import TrackletTable

D = 32


@dataclass(frozen=True, eq=False)
class SimulatedSite:
    """Tracklets with their crops, and the truth.

    Attributes:
        batch: N tracklets, not centred.
        vehicle: (N,) which vehicle each shows.
    """

    batch: TrackletBatch
    vehicle: NDArray[np.intp]

    @property
    def table(self) -> TrackletTable:
        """The tracklets with centred vectors."""
        batch, vectors = self.batch, self.batch.vector.copy()
        names, camera = np.unique(batch.camera.astype(str), return_inverse=True)
        for code in range(camera.max() + 1):
            vectors[camera == code] = subtract_mean(vectors[camera == code], vectors[camera == code].mean(axis=0))
        return TrackletTable(batch.id, vectors, camera, batch.start / 1000, batch.end / 1000, tuple(map(str, names)))


def simulated_site(
    seed: int = 0,
    *,
    vehicles: int = 80,
    cameras: int = 4,
    stops: int = 3,
    noise: float = 0.8,
    horizon: float = 600.0,
    timed: bool = True,
    jpeg: bytes = b"jpeg",
) -> SimulatedSite:
    """Let `vehicles`, every third a look-alike of the one before, pass `stops` of `cameras` within `horizon` seconds.

    `noise` is the length of a tracklet's noise; that of a vehicle's own direction is 1, of a camera's mean 1.5.
    """
    rng = np.random.default_rng(seed)
    looks = rng.normal(size=(vehicles, D)) / np.sqrt(D)
    for copy in range(1, vehicles, 3):
        looks[copy] = looks[copy - 1] + 0.3 * looks[copy]
    means = 1.5 * rng.normal(size=(cameras, D)) / np.sqrt(D)
    rows = [(v, int(c), k) for v in range(vehicles) for k, c in enumerate(rng.permutation(cameras)[:stops])]
    departure = rng.uniform(0, horizon, vehicles)
    count = len(rows)
    start = np.array([round(1000 * (departure[v] + 40 * k)) for v, _, k in rows], dtype=np.int64)
    crops = []
    for v, c, _ in rows:
        look = looks[v] + means[c] + noise * rng.normal(size=D) / np.sqrt(D)
        pair = look + 0.3 * rng.normal(size=(2, D)) / np.sqrt(D)
        pair = (pair / np.linalg.norm(pair, axis=1, keepdims=True)).astype(np.float32)
        crops.append([StoredCrop(jpeg, pair[0], quality=0.9), StoredCrop(jpeg, pair[1], quality=0.5)])
    first = np.stack([pair[0].vector for pair in crops])
    ids = np.array([f"c{c}/{v:04d}" for v, c, _ in rows], dtype=object)
    order = np.argsort(ids)
    batch = TrackletBatch(
        id=ids[order],
        vector=first[order],
        camera=np.array([name.split("/")[0] for name in ids[order]], dtype=object),
        start=start[order] if timed else np.full(count, NO_TIME),
        end=start[order] + 3000 if timed else np.full(count, NO_TIME),
        color=np.full(count, "", dtype=object),
        vehicle_type=np.full(count, "", dtype=object),
        facts=[{} for _ in range(count)],
        crops=[crops[row] for row in order],
    )
    return SimulatedSite(batch, np.array([rows[row][0] for row in order]))
