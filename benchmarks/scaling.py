"""Checks the sizes of docs/guides/scaling.md: features on disk, a flat scan by shards, and indexes of FAISS.

    PYTHONPATH=src OMP_NUM_THREADS=1 python benchmarks/scaling.py --points 100000 1000000 10000000
    python benchmarks/scaling.py --points 100000 --index        # in an environment with faiss-cpu

Drawn vectors: bytes and seconds do not depend on their values, and say nothing about recall on roads.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vreid.retrieval import nearest, nearest_in_shards
from vreid.store.sizing import INDEXES

BLOCK = 1 << 17
"""Rows of a shard of the scan."""


def drawn(file: Path, points: int, dimensions: int) -> NDArray[np.float32]:
    """Write unit vectors (N, D) a block at a time and return the memory-mapped array."""
    rng = np.random.default_rng(0)
    array = np.lib.format.open_memmap(file, "w+", np.float32, (points, dimensions))
    for start in range(0, points, BLOCK):
        block = rng.standard_normal((min(BLOCK, points - start), dimensions), dtype=np.float32)
        array[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    array.flush()
    return np.load(file, mmap_mode="r")


def blocks(array: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    return (array[start : start + BLOCK] for start in range(0, len(array), BLOCK))


def scan(points: int, dimensions: int, queries: int, folder: Path) -> None:
    array = drawn(folder / "features.npy", points, dimensions)
    rng = np.random.default_rng(1)
    query = rng.standard_normal((queries, dimensions), dtype=np.float32)
    began, wall = time.process_time(), time.perf_counter()
    for block in blocks(array):
        np.argpartition(-(query @ block.T), 100, axis=1)
    bare, bare_wall = time.process_time() - began, time.perf_counter() - wall
    began, wall = time.process_time(), time.perf_counter()
    _, found = nearest_in_shards(query, blocks(array), 100)
    cpu, seconds = time.process_time() - began, time.perf_counter() - wall
    if points <= 1_000_000:
        assert np.array_equal(found, nearest(query, array, 100)[1]), "the merge is not exact"
    size = (folder / "features.npy").stat().st_size
    print(
        f"{points:>11,} x {dimensions}: {size / points:.1f} bytes a row; {1000 * cpu / queries:.1f} CPU ms a query "
        f"({1e9 * cpu / queries / points / dimensions:.3f} ns a number), {1000 * seconds / queries:.1f} by the clock; "
        f"product and selection alone {1000 * bare / queries:.1f} CPU ms, {1000 * bare_wall / queries:.1f} by the clock"
    )


def index_sizes(points: int, dimensions: int) -> None:
    import faiss  # type: ignore[import-not-found]

    rng = np.random.default_rng(0)
    features = rng.standard_normal((points, dimensions), dtype=np.float32)
    lists = max(1, round(points**0.5))
    for name, factory in (
        ("flat", "Flat"),
        ("ivf-flat", f"IVF{lists},Flat"),
        ("ivf-pq", f"IVF{lists},PQ{dimensions // 8}"),
        ("hnsw", "HNSW16,Flat"),
    ):
        index = faiss.index_factory(dimensions, factory)
        began = time.process_time()
        index.train(features[: 40 * lists])
        index.add(features)
        size = len(faiss.serialize_index(index)) / points
        expected = INDEXES[name].bytes_per_vector(points, dimensions)
        print(
            f"{points:>11,} x {dimensions}: {name:9} {size:8.1f} bytes a vector, formula {expected:8.1f} "
            f"({size / expected:.2f}), made in {time.process_time() - began:.1f} CPU s"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, nargs="+", default=[100_000])
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--queries", type=int, default=8)
    parser.add_argument("--index", action="store_true", help="measure indexes of FAISS instead of the scan")
    asked = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', '')}")
    for points in asked.points:
        if asked.index:
            index_sizes(points, asked.dimensions)
            continue
        with tempfile.TemporaryDirectory() as folder:
            scan(points, asked.dimensions, asked.queries, Path(folder))


if __name__ == "__main__":
    main()
