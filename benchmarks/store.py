"""Benchmark the stores of tracklets: search without and with filters, writing, reopening, disk.

    PYTHONPATH=src OMP_NUM_THREADS=1 taskset -c 1 python benchmarks/store.py [--rows 100000] [--dimensions 512]

Milliseconds of one thread for `--repeats` different queries, 100 results each: median and 95th percentile by the clock,
and median of CPU time, which other work on the machine disturbs less.
Features: vehicles of ten tracklets each, 50 cameras, 30 days. Filters: "0.4 %" is five cameras and one day, "20 %" all
cameras but one and six days. In the same run, where installed: FAISS (`faiss-cpu`, flat index, the filter as a bitmap
made from arrays in memory) and Milvus Lite through vreid's engine (`milvus-lite`). "Product" is the bare product of all
features with a query, row by row: no exact search that reads all of them is quicker. "Hits" is the whole of a search
by `vreid search` for a tracklet of the store: ten hits with the competitors on which decisions are taken.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vreid.names import RERANKINGS
from vreid.store.engines import open_vectors
from vreid.store.interface import Filter, StoredCrop, TrackletBatch, VectorStore
from vreid.store.search import Query, SearchConfig, SearchResult, search_tracklets

DAY = 86_400_000
K = 100
BATCH = 500
FILTERS = {
    "all": None,
    "0.4 %": Filter(cameras=frozenset(f"c{number}" for number in range(5)), start=3 * DAY, end=4 * DAY),
    "20 %": Filter(not_cameras=frozenset({"c7"}), start=3 * DAY, end=9 * DAY),
}


class World:
    """Features (N, D) of vehicles with camera and time, and queries near them."""

    def __init__(self, rows: int, dimensions: int, repeats: int) -> None:
        rng = np.random.default_rng(0)
        vehicles = _unit(rng.standard_normal((max(rows // 10, 1), dimensions), dtype=np.float32))
        vehicle = rng.integers(0, len(vehicles), rows)
        noise = rng.standard_normal((rows, dimensions), dtype=np.float32) / float(np.sqrt(dimensions))
        self.vectors = _unit(vehicles[vehicle] + noise)
        self.camera = rng.integers(0, 50, rows)
        self.start = rng.integers(0, 30 * DAY, rows)
        self.end = self.start + 5000
        drawn = rng.integers(0, rows, repeats)
        self.queries = _unit(
            self.vectors[drawn]
            + rng.standard_normal((repeats, dimensions), dtype=np.float32) / float(np.sqrt(dimensions))
        )

    def batches(self, jpeg: bytes) -> Iterator[TrackletBatch]:
        for begin in range(0, len(self.vectors), BATCH):
            rows = range(begin, min(begin + BATCH, len(self.vectors)))
            cameras = [f"c{self.camera[row]}" for row in rows]
            some = slice(begin, begin + BATCH)
            yield TrackletBatch(
                _texts([f"{camera}/{row}" for camera, row in zip(cameras, rows, strict=True)]),
                self.vectors[some],
                _texts(cameras),
                self.start[some],
                self.end[some],
                _texts(["red"] * len(rows)),
                _texts(["car"] * len(rows)),
                [{"boxes": 12}] * len(rows),
                [[StoredCrop(jpeg, vector)] for vector in self.vectors[some]],
            )

    def mask(self, where: Filter | None) -> NDArray[np.bool_]:
        """What a filter of this file selects, for FAISS."""
        mask = np.ones(len(self.vectors), bool)
        if where is None:
            return mask
        if where.cameras:
            mask &= self.camera < 5
        if where.not_cameras:
            mask &= self.camera != 7
        assert where.start is not None and where.end is not None
        return mask & (self.start < where.end) & (self.end >= where.start)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _texts(values: list[str]) -> NDArray[np.object_]:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def milliseconds(work: Callable[[int], object], repeats: int) -> tuple[float, float, float]:
    """Median, 95th percentile and median CPU time of `work(0)`, `work(1)`, ..., after one that does not count."""
    work(0)
    spent = []
    for number in range(repeats):
        start = time.perf_counter(), time.process_time()
        work(number)
        spent.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    wall, cpu = 1000 * np.array(spent).T
    return float(np.median(wall)), float(np.percentile(wall, 95)), float(np.median(cpu))


def show(name: str, what: str, spent: tuple[float, float, float]) -> None:
    median, late, cpu = spent
    print(f"{name:12} {what:24} {median:9.2f} ms median {late:9.2f} p95 {cpu:9.2f} CPU", flush=True)


def search_one(engine: VectorStore, asked: TrackletBatch, row: int, order: str) -> SearchResult:
    """Search as `vreid search` does: other cameras, competitors of the 30 nearest, decisions, ten hits."""
    query = Query(
        asked.id[row], asked.vector[row], asked.id[row], asked.camera[row], int(asked.start[row]), int(asked.end[row])
    )
    return search_tracklets(engine, query, Filter(), SearchConfig(reranking=order), None)


def measure_engine(name: str, address: str, world: World, jpeg: bytes, repeats: int) -> None:
    dimensions, rows = world.vectors.shape[1], len(world.vectors)
    engine: VectorStore
    with closing(open_vectors(address, dimensions=dimensions, model="benchmark", create=True)) as engine:
        start = time.perf_counter()
        for batch in world.batches(jpeg):
            engine.upsert(batch)
        seconds = time.perf_counter() - start
        print(f"{name:12} {'upsert, 500 at a time':24} {rows / seconds:9,.0f} tracklets/s", flush=True)
    start = time.perf_counter()
    with closing(open_vectors(address)) as engine:
        engine.search(world.queries[:1], K)
        print(f"{name:12} {'reopen and first search':24} {time.perf_counter() - start:9.2f} s")
        for what, where in FILTERS.items():
            spent = milliseconds(lambda n, where=where: engine.search(world.queries[n : n + 1], K, where), repeats)
            show(name, f"search, {what}", spent)
        many = np.resize(world.queries, (100, dimensions))
        show(name, "search, 100 queries", milliseconds(lambda _: engine.search(many, K), 3))
        (hits,) = engine.search(world.queries[:1], K)
        show(name, "fetch 100", milliseconds(lambda _: engine.fetch(list(hits.id)), repeats))
        asked = engine.fetch([name for name in engine.search(world.queries[:1], repeats)[0].id])
        for order in RERANKINGS:
            spent = milliseconds(lambda n, order=order: search_one(engine, asked, n % len(asked), order), repeats)
            show(name, f"hits, order: {order}", spent)
        size = engine.info().size
        if size >= 0:
            print(f"{name:12} {'on disk':24} {size / 1e6:9,.0f} MB, of which crops {rows * len(jpeg) / 1e6:,.0f}")


def measure_faiss(world: World, repeats: int) -> None:
    import faiss

    faiss.omp_set_num_threads(1)
    start = time.perf_counter()
    index = faiss.IndexFlatIP(world.vectors.shape[1])
    index.add(world.vectors)
    print(f"{'faiss':12} {'add, in memory':24} {len(world.vectors) / (time.perf_counter() - start):9,.0f} tracklets/s")
    for what, where in FILTERS.items():

        def search(number: int, where: Filter | None = where) -> object:
            query = world.queries[number : number + 1]
            if where is None:
                return index.search(query, K)
            bits = faiss.IDSelectorBitmap(np.packbits(world.mask(where), bitorder="little"))
            return index.search(query, K, params=faiss.SearchParameters(sel=bits))

        show("faiss", f"search, {what}", milliseconds(search, repeats))
    many = np.resize(world.queries, (100, world.vectors.shape[1]))
    show("faiss", "search, 100 queries", milliseconds(lambda _: index.search(many, K), 3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--folder", type=Path, help="work here (default: a temporary folder)")
    chosen = parser.parse_args()
    world = World(chosen.rows, chosen.dimensions, chosen.repeats)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((128, 128)).save(file, "JPEG")
    jpeg = file.getvalue()
    shares = ", ".join(f"{what}: {100 * world.mask(where).mean():.2f} % of rows" for what, where in FILTERS.items())
    print(f"{chosen.rows:,} tracklets, {chosen.dimensions} dimensions, crops of {len(jpeg):,} bytes; {shares}")
    show("product", "all", milliseconds(lambda n: np.vecdot(world.vectors, world.queries[n]), chosen.repeats))
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        measure_engine("sqlite", f"{folder}/store", world, jpeg, chosen.repeats)
        if importlib.util.find_spec("faiss"):
            measure_faiss(world, chosen.repeats)
        else:
            print("faiss        not installed (pip install faiss-cpu)")
        if importlib.util.find_spec("milvus_lite") and importlib.util.find_spec("pymilvus"):
            measure_engine("milvus-lite", f"{folder}/lite.db", world, jpeg, min(chosen.repeats, 20))
        else:
            print("milvus-lite  not installed (pip install pymilvus milvus-lite)")
    show("product", "all, again", milliseconds(lambda n: np.vecdot(world.vectors, world.queries[n]), chosen.repeats))


if __name__ == "__main__":
    main()
