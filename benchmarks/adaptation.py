"""Benchmark pseudo labels of 50,000 crops: time relative to the matrix product, and peak memory.

    python benchmarks/adaptation.py [--images 50000] [--dimensions 2048] [--preset v1]

Vehicles of about 70 images in tracklets of 16 and twelve cameras, queries without tracklet. The product is features
times their transpose in float32, 4,096 rows of it timed in the same run.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from vreid.adaptation.adapt_config import PRESETS
from vreid.adaptation.pseudo import pseudo_labels
from vreid.data.records import Labels, Records
from vreid.retrieval.features import FeatureSet

ROWS = 4096


def crops(images: int, dimensions: int) -> FeatureSet:
    """Generate features of noisy vehicles at twelve cameras."""
    generator = np.random.default_rng(0)
    passage = np.arange(images) // 16
    vehicle, camera = passage // 4, (passage % 4 * 3 + passage // 4) % 12
    features = 0.8 * generator.standard_normal((images, dimensions), dtype=np.float32)
    features += generator.standard_normal((vehicle.max() + 1, dimensions), dtype=np.float32)[vehicle]
    features += generator.standard_normal((12, dimensions), dtype=np.float32)[camera]
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    query = np.arange(images) % 16 == 15
    records = Records.of(
        path=[f"{i}.jpg" for i in range(images)],
        camera=Labels.of([f"c{c:02d}" for c in camera]),
        tracklet=Labels.of([f"t{p:05d}" for p in passage]),
        split=np.where(query, "query", "gallery").tolist(),
    )
    return FeatureSet(features, records)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--dimensions", type=int, default=2048)
    parser.add_argument("--preset", default="v1")
    asked = parser.parse_args()
    features = crops(asked.images, asked.dimensions)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    started = time.process_time()
    found = pseudo_labels(features, PRESETS[asked.preset].pseudo)
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    started, rows = time.process_time(), features.features[:ROWS]
    for start in range(0, asked.images, ROWS):
        rows @ features.features[start : start + ROWS].T
    product = (time.process_time() - started) * asked.images / ROWS
    shape = f"{asked.images:,} x {asked.dimensions:,} ({features.features.nbytes / 2**30:.2f} GiB)"
    print(f"{shape}, {asked.preset}: {found.clusters:,} clusters, {found.noise:.0%} in none")
    print(f"CPU {seconds:.0f} s, the bare product {product:.0f} s: {seconds / product:.2f} times")
    print(f"largest memory {peak:.2f} GiB, before the labels {before:.2f} GiB")


if __name__ == "__main__":
    main()
