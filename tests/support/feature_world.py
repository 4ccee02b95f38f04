"""A small world of features: vehicles with a pass in each of three cameras."""

from __future__ import annotations

import numpy as np

from vreid.data.records import Records
from vreid.retrieval import FeatureSet


def world(seed=0, vehicles=20, frames=5, dimensions=24):
    """Vehicles with a pass in each of three cameras that shift every feature: query = first frame of each pass."""
    generator = np.random.default_rng(seed)
    vehicle, camera, frame = (a.ravel() for a in np.meshgrid(range(vehicles), range(3), range(frames), indexing="ij"))
    look, shift = generator.normal(size=(vehicles, dimensions)), 1.5 * generator.normal(size=(3, dimensions))
    one_pass = 0.6 * generator.normal(size=(vehicles, 3, dimensions))
    noise = generator.normal(size=(len(vehicle), dimensions))
    values = look[vehicle] + shift[camera] + one_pass[vehicle, camera] + noise
    records = Records.of(
        path=[f"v{v}c{c}f{f}.jpg" for v, c, f in zip(vehicle, camera, frame, strict=True)],
        identity=[f"v{v}" for v in vehicle],
        camera=[f"c{c}" for c in camera],
        tracklet=[f"t{v}-{c}" for v, c in zip(vehicle, camera, strict=True)],
    )
    features = FeatureSet(values, records).normalise()
    return features[frame == 0], features[frame > 0]
