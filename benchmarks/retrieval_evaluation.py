"""What evaluation and ranking cost, as multiples of the work nobody can avoid, in the same run.

    PYTHONPATH=src python benchmarks/retrieval_evaluation.py [--points 8000] [--dimensions 2048]

CPU seconds of one thread (timings of a shared machine move; their ratios in one run move little), and the peak of
memory that Python and numpy asked for beyond what went in. The features are vehicles with camera shifts and tracklets,
3.4 % of them queries, as in CityFlowV2-ReID.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits  # comes with scikit-learn

from retrieval import make_features
from vreid.data.records import Records
from vreid.retrieval import MARKET, Distances, FeatureSet, evaluate, evaluate_distances, rank


def feature_sets(points: int, dimensions: int) -> tuple[FeatureSet, FeatureSet]:
    """Query and gallery of `retrieval.make_features` with their records."""
    features, vehicle, camera, is_query = make_features(points, dimensions)
    records = Records.of(
        path=[f"{i}.jpg" for i in range(points)],
        identity=[str(v) for v in vehicle],
        camera=[f"c{c}" for c in camera],
    )
    everything = FeatureSet(features, records, normalised=True)
    return everything[is_query], everything[~is_query]


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Least CPU seconds of several runs."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def megabytes(work: Callable[[], object]) -> float:
    """Peak of memory asked for while `work` runs, results included."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=8000)
    parser.add_argument("--dimensions", type=int, default=2048)
    arguments = parser.parse_args()
    with threadpool_limits(1):
        measure(arguments.points, arguments.dimensions)


def measure(points: int, dimensions: int) -> None:
    """Print the table."""
    query, gallery = feature_sets(points, dimensions)
    q, g = query.features, gallery.features
    labels = {
        "query_identity": query.records.identity.codes,
        "gallery_identity": gallery.records.identity.codes,
        "query_camera": query.records.camera.codes,
        "gallery_camera": gallery.records.camera.codes,
    }

    matrix = Distances.of(query, gallery).matrix()
    distances = Distances.of(query, gallery)
    floors = {
        "bare product, query x gallery": seconds(lambda: q @ g.T),
        "argsort of every row": seconds(lambda: np.argsort(matrix, axis=1)),
    }
    print(f"{len(q):,} queries x {len(g):,} gallery images, {dimensions} dimensions, one thread")
    print(f"{'':34} {'CPU s':>8} {'ratio':>7}   {'of':30} {'MB':>7}")
    for what, floor in floors.items():
        print(f"{what:34} {floor:8.3f}")
    rows: list[tuple[str, Callable[[], object], str, int]] = [
        ("evaluate, from a matrix", lambda: evaluate(matrix, **labels), "argsort of every row", 3),
        ("evaluate, from features", lambda: evaluate_distances(distances, MARKET), "bare product, query x gallery", 3),
        ("rank, first 100", lambda: rank(distances, MARKET, 100), "bare product, query x gallery", 3),
    ]
    for what, work, floor_name, repeats in rows:
        taken = seconds(work, repeats)
        print(f"{what:34} {taken:8.3f} {taken / floors[floor_name]:7.2f}   {floor_name:30} {megabytes(work):7.0f}")


if __name__ == "__main__":
    main()
