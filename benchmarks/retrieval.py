"""Benchmark re-ranking and Jaccard graphs: time, memory and growth, compared with textbook and public code.

    python benchmarks/retrieval.py [--points 8000] [--dimensions 2048] [--textbook] [--peer DIR] [--growth]
    python benchmarks/retrieval.py --device cuda [--points 1000000]

Each job runs in a separate process, on one thread; seconds are CPU seconds. Ratios are to the bare float32 product of
the upper triangle of all pairs, which does not depend on other implementations, and to textbook neighbour lists in N x
N arrays (`tests/oracles/reranking_dense.py`). Memory is the peak beyond features and results. The features are
vehicles seen by four cameras, each with an offset, 3.4 % of them queries, as in CityFlowV2-ReID.

`--device` searches the 21 nearest neighbours of every point, and the farthest, among tensors on the device: wall-clock
seconds, device memory; a thousand rows are compared with the search on the CPU if both are small.

`--peer DIR` is a checkout of a public implementation; the first of these files in it is measured:
`python-version/re_ranking_ranklist.py` (zhunzhong07/person-re-ranking), `torchreid/utils/rerank.py`
(KaiyangZhou/deep-person-reid), `fastreid/evaluation/rerank.py` (JDAI-CV/fast-reid), each with a function
`re_ranking(q_g_dist, q_q_dist, g_g_dist)`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
PEERS = ("python-version/re_ranking_ranklist.py", "torchreid/utils/rerank.py", "fastreid/evaluation/rerank.py")
Features = NDArray[np.float32]


def make_features(
    points: int, dimensions: int, seed: int = 0
) -> tuple[Features, NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
    """(N, D) L2-normalised features, vehicles, cameras, and which are queries: points / 36 vehicles, four cameras."""
    generator = np.random.default_rng(seed)
    vehicles = max(points // 36, 2)
    vehicle, camera = np.arange(points) % vehicles, (np.arange(points) // vehicles) % 4
    centre, shift, passage = (
        scale * generator.standard_normal((rows, dimensions), dtype=np.float32)
        for rows, scale in ((vehicles, np.float32(1)), (4, np.float32(1)), (vehicles * 4, np.float32(1.5)))
    )
    features = np.empty((points, dimensions), dtype=np.float32)
    for start in range(0, points, 1024):
        v, c = vehicle[start : start + 1024], camera[start : start + 1024]
        block = centre[v] + shift[c] + passage[v * 4 + c]
        block += 2 * generator.standard_normal(block.shape, dtype=np.float32)
        features[start : start + 1024] = block / np.linalg.norm(block, axis=1, keepdims=True)
    is_query = np.zeros(points, dtype=bool)
    is_query[generator.choice(points, round(0.034 * points), replace=False)] = True
    return features, vehicle, camera, is_query


# --- jobs: each takes query and gallery features and returns its result -----------------------------------------------


def triangle(query: Features, gallery: Features) -> None:
    """The bare product: tiles of up to 1,600 x 1,600 of the upper triangle of all pairs."""
    room = np.empty(1600 * 1600, dtype=np.float32)
    blocks = [block for part in (query, gallery) for block in np.array_split(part, math.ceil(len(part) / 1600))]
    for i, one in enumerate(blocks):
        for other in blocks[i:]:
            np.matmul(one, other.T, out=room[: len(one) * len(other)].reshape(len(one), len(other)))


def rerank(query: Features, gallery: Features) -> Any:
    import vreid.retrieval

    return vreid.retrieval.postprocessing.reranking(query, gallery)


def rerank_float32(query: Features, gallery: Features) -> Any:
    from vreid.retrieval.nearest import neighbours

    neighbours.FEW_QUERIES = sys.maxsize
    return rerank(query, gallery)


def rerank_numpy(query: Features, gallery: Features) -> Any:
    from vreid.retrieval.nearest import core

    core.REVISION = -1
    core.compiled_core.cache_clear()
    return rerank(query, gallery)


def rerank_any_norm(query: Features, gallery: Features) -> Any:
    """Features as weighted tracklets have them: not of norm 1."""
    for part in (query, gallery):
        part *= np.random.default_rng(1).uniform(0.6, 1, size=(len(part), 1)).astype(np.float32)
    return rerank(query, gallery)


def rerank_top(query: Features, gallery: Features) -> Any:
    import vreid.retrieval

    return vreid.retrieval.rerank_top(query, gallery, 100)


def clusters(query: Features, gallery: Features) -> Any:
    import vreid.retrieval

    graph = vreid.retrieval.jaccard_graph(gallery, max_distance=0.6)
    return vreid.retrieval.clustering(graph, 0.6, 4)


def textbook_rerank(query: Features, gallery: Features) -> Any:
    from oracles import reranking_dense

    return reranking_dense.rerank(query, gallery)


def textbook_clusters(query: Features, gallery: Features) -> Any:
    from sklearn.cluster import DBSCAN

    from oracles import reranking_dense

    return DBSCAN(eps=0.6, min_samples=4, metric="precomputed").fit_predict(reranking_dense.jaccard_matrix(gallery))


def peer(query: Features, gallery: Features) -> Any:
    file = next(Path(os.environ["VREID_PEER"], name) for name in PEERS if Path(os.environ["VREID_PEER"], name).exists())
    spec = importlib.util.spec_from_file_location("peer", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def distances(a: Features, b: Features) -> Features:
        return np.sqrt(np.maximum(2 - 2 * a @ b.T, 0))

    return module.re_ranking(distances(query, gallery), distances(query, query), distances(gallery, gallery))


JOBS: dict[str, Callable[[Features, Features], Any]] = {
    "bare product, upper triangle": triangle,
    "rerank": rerank,
    "rerank, float32 products": rerank_float32,
    "rerank, numpy and scipy only": rerank_numpy,
    "rerank, features of any norm": rerank_any_norm,
    "rerank_top, first 100": rerank_top,
    "jaccard_graph + DBSCAN": clusters,
    "textbook re-ranking": textbook_rerank,
    "textbook Jaccard + DBSCAN": textbook_clusters,
    "peer's re-ranking": peer,
}
RIVALS = {"jaccard_graph + DBSCAN": "textbook Jaccard + DBSCAN"}  # otherwise it is the textbook's re-ranking
SLOW = ("textbook", "peer")


# --- measuring -------------------------------------------------------------------------------------------------------


def peak_memory(*, reset: bool = False) -> int:
    """Largest resident memory of this process in bytes since the last reset (Linux)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def child(job: str, folder: Path, repeats: int) -> None:
    """Run a job in this process and print its cost as JSON."""
    query, gallery = np.load(folder / "query.npy"), np.load(folder / "gallery.npy")
    work, small = JOBS[job], np.random.default_rng(0).standard_normal((300, 8), dtype=np.float32)
    work(small[:30].copy(), small[30:].copy())  # loads libraries
    seconds, megabytes = math.inf, math.nan
    before = peak_memory(reset=True)
    for repeat in range(repeats):
        start = time.process_time()
        result = work(query, gallery)
        seconds = min(seconds, time.process_time() - start)
        if repeat == 0:
            parts = result if isinstance(result, tuple) else (result,)
            held = sum(part.nbytes for part in parts if part is not None)
            megabytes = (peak_memory() - before - held) / 1e6
        del result
    json.dump({"seconds": seconds, "megabytes": max(0.0, megabytes)}, sys.stdout)


def measure(job: str, folder: Path, repeats: int) -> tuple[float, float]:
    """CPU seconds and megabytes of a job in a fresh process."""
    paths = [ROOT / "src", ROOT / "tests", ROOT / "benchmarks"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, paths))}
    command = [sys.executable, __file__, "--child", job, str(folder), "--repeats", str(repeats)]
    out = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)
    return out["seconds"], out["megabytes"]


def write_features(folder: Path, points: int, dimensions: int) -> None:
    features, _, _, is_query = make_features(points, dimensions)
    np.save(folder / "query.npy", features[is_query])
    np.save(folder / "gallery.npy", features[~is_query])


def table(points: int, dimensions: int, jobs: list[str], repeats: int) -> None:
    """Print a row for each job."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_features(folder, points, dimensions)
        print(f"{points:,} points x {dimensions:,}, k1=20 k2=6 (graph: k1=30), one thread")
        print(f"{'':32}{'CPU s':>9}{'/ product':>11}{'textbook /':>12}{'peer /':>9}{'extra MB':>10}")
        taken: dict[str, float] = {}
        for job in sorted(jobs, key=lambda job: not (job.startswith(SLOW) or job.startswith("bare"))):
            seconds, megabytes = measure(job, folder, 1 if job.startswith(SLOW) else repeats)
            taken[job] = seconds
            cells = f"{seconds / taken['bare product, upper triangle']:11.2f}"
            for rival, width in ((RIVALS.get(job, "textbook re-ranking"), 12), ("peer's re-ranking", 9)):
                fair = rival in taken and job.startswith(("rerank", "jaccard")) and not (job in RIVALS and width == 9)
                cells += f"{taken[rival] / seconds:{width}.1f}" if fair else " " * width
            print(f"{job:32}{seconds:9.2f}{cells}{megabytes:10.0f}", flush=True)


def growth(points: int, dimensions: int) -> None:
    """Print the exponents with which seconds and memory grow from a quarter of the points to all."""
    measured = []
    for count in (points // 4, points // 2, points):
        with tempfile.TemporaryDirectory() as name:
            write_features(Path(name), count, dimensions)
            measured.append((count, *measure("jaccard_graph + DBSCAN", Path(name), 1)))
            print("{:9,} points: {:7.2f} CPU s, {:6.0f} MB".format(*measured[-1]), flush=True)
    (n, seconds, megabytes), (m, more_seconds, more_megabytes) = measured[0], measured[-1]
    ratio = math.log(m / n)
    time_power, memory_power = math.log(more_seconds / seconds) / ratio, math.log(more_megabytes / megabytes) / ratio
    print(f"exponents: seconds {time_power:.2f}, memory {memory_power:.2f}")


def on_device(points: int, dimensions: int, device: str) -> None:
    """Print the cost of neighbours of random points on a device, and of the bare product of all pairs."""
    import torch

    from vreid.retrieval.nearest import Points, neighbour_lists

    is_gpu = torch.device(device).type == "cuda"
    generator = torch.Generator(device).manual_seed(0)
    features = torch.randn(points, dimensions, generator=generator, device=device)
    features += 2 * features[torch.arange(points, device=device) % max(points // 36, 2)]  # vehicles
    features /= features.norm(dim=1, keepdim=True)

    def clock(work: Callable[[], Any]) -> tuple[float, Any]:
        if is_gpu:
            torch.cuda.synchronize()
        start = time.perf_counter()
        result = work()
        if is_gpu:
            torch.cuda.synchronize()
        return time.perf_counter() - start, result

    def product() -> None:
        rows = max(1, min(4096, (1 << 27) // points))
        tile = torch.empty(rows, points, device=device)
        for start in range(0, points, rows):
            block = features[start : start + rows]
            torch.mm(block, features.T, out=tile[: len(block)])

    found = Points.of("benchmark", features=features)
    held = replace(found, device=torch.device(device))
    bare, _ = clock(product)
    if is_gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds, lists = clock(lambda: neighbour_lists(held, 21, farthest=True))
    megabytes = torch.cuda.max_memory_allocated() / 1e6 if is_gpu else math.nan
    print(f"{points:,} points x {dimensions:,} on {torch.cuda.get_device_name() if is_gpu else device}")
    print(f"bare product of all pairs {bare:9.2f} s")
    print(f"neighbours, farthest      {seconds:9.2f} s, {seconds / bare:.2f} x; peak {megabytes:,.0f} MB, features too")
    if points <= 40_000:
        some, host = np.arange(0, points, max(1, points // 1000)), replace(found, device=None)
        same = neighbour_lists(host, 21, farthest=True)
        equal = (lists.index[some] == same.index[some]).all() and np.array_equal(lists.farthest, same.farthest)
        print(f"equal to the processor's: {equal}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=8000)
    parser.add_argument("--dimensions", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=3, help="runs of a job, of which the quickest counts")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, help="only these")
    parser.add_argument("--textbook", action="store_true", help="measure the textbook's way too (slow, N x N memory)")
    parser.add_argument("--peer", type=Path, metavar="DIR", help="a checkout of a public implementation")
    parser.add_argument("--growth", action="store_true", help="how seconds and memory grow with the number of points")
    parser.add_argument("--device", help="measure neighbours of tensors there (cuda, or cpu to try it)")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child[0], Path(arguments.child[1]), arguments.repeats)
    elif arguments.device:
        sys.path.insert(0, str(ROOT / "src"))
        on_device(arguments.points, arguments.dimensions, arguments.device)
    elif arguments.growth:
        growth(arguments.points, arguments.dimensions)
    else:
        jobs = arguments.jobs or [job for job in JOBS if not job.startswith(SLOW)]
        jobs += [job for job in JOBS if arguments.textbook and job.startswith("textbook")]
        if arguments.peer:
            os.environ["VREID_PEER"] = str(arguments.peer.resolve())
            jobs.append("peer's re-ranking")
        if "bare product, upper triangle" not in jobs:
            jobs.insert(0, "bare product, upper triangle")
        table(arguments.points, arguments.dimensions, jobs, arguments.repeats)


if __name__ == "__main__":
    main()
