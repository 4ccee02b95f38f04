"""Benchmark evaluation and ranking, as multiples of a lower bound measured in the same run.

    PYTHONPATH=src python benchmarks/retrieval_evaluation.py [--points 8000] [--dimensions 2048] [--peer DIR ...]

`--peer DIR` holds a compiled `rank_cy` module: the Cython evaluation of KaiyangZhou/deep-person-reid
(`torchreid/metrics/rank_cylib`) or of JDAI-CV/fast-reid (`fastreid/evaluation/rank_cylib`), built there with
`python setup.py build_ext --inplace` (newer Cython and numpy need `language_level=3` and setuptools in setup.py).

CPU seconds of one thread (ratios within one run are stable on a shared machine, times are not), and peak memory
allocated by Python and numpy beyond the inputs. The features are vehicles with camera offsets and tracklets, 3.4 % of
them queries, as in CityFlowV2-ReID.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    """Minimum CPU seconds of several runs."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def megabytes(work: Callable[[], object]) -> float:
    """Peak memory allocated while `work` runs, results included."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def peer(folder: Path) -> Callable[..., Any]:
    """`evaluate_cy` of the module that was built below `folder`."""
    file = next((found for found in sorted(folder.rglob("rank_cy*")) if found.suffix in (".so", ".pyd")), None)
    if file is None:
        raise SystemExit(f"--peer {folder}: holds no compiled rank_cy; build it there first.")
    spec = importlib.util.spec_from_file_location("rank_cy", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    evaluate_cy: Callable[..., Any] = module.evaluate_cy
    return evaluate_cy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=8000)
    parser.add_argument("--dimensions", type=int, default=2048)
    parser.add_argument("--peer", type=Path, nargs="+", default=[], metavar="DIR", help="with a compiled rank_cy")
    arguments = parser.parse_args()
    with threadpool_limits(1):
        measure(arguments.points, arguments.dimensions, {folder.name: peer(folder) for folder in arguments.peer})


def measure(points: int, dimensions: int, peers: dict[str, Callable[..., Any]]) -> None:
    """Print the table; `peers` by their names."""
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
    ours = evaluate(matrix, **labels)
    for name, evaluate_cy in peers.items():
        given = (matrix, *labels.values(), 50)
        values = evaluate_cy(*given)[1]
        assert abs(float(np.mean(values)) - ours.mAP) < 1e-5, f"{name} finds another mAP: {np.mean(values)}"
        floors[name] = seconds(lambda call=evaluate_cy, given=given: call(*given))  # type: ignore[misc]
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
        if what == "evaluate, from a matrix":
            print(
                "".join(f"{'':34} {'':8} {floors[name] / taken:7.1f} x quicker than {name}\n" for name in peers), end=""
            )


if __name__ == "__main__":
    main()
