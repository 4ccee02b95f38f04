"""The search service under load: clients beside a writing ingest, on a store of made-up tracklets.

    python benchmarks/serve.py [--tracklets 100000] [--clients 50] [--minutes 5]

Makes a store of random features with 20 cameras, starts `vreid serve` in a process of its own, and lets clients work
like users: a search, eight crops, a page of the wall of a camera, with pauses of two seconds on average. Meanwhile 12
tracklets a second are stored. Prints for each kind of request how many there were and how long they took, errors, the
service's processor time and its memory about every minute; and the bare float32 product of a query with
all features, before and after: no exact search that reads all of them is quicker. Exits 1 if a request fails.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from vreid import Store
from vreid.data.cameras import Camera
from vreid.errors import InputError
from vreid.inference.embedder import load_model
from vreid.serve.client import ServiceClient
from vreid.store.engines import open_vectors
from vreid.store.interface import StoredCrop, TrackletBatch
from vreid.store.store import store_exists

CAMERAS = 20
COLORS = ("black", "white", "red", "blue")
TYPES = ("sedan", "van", "truck")
DAY = 86_400_000
START = 1_700_000_000_000
SAMPLE = 5000  # tracklets that clients ask for
LIMITS = ("requests_per_minute=10000000", "searches_per_minute=10000000", "busy_seconds=60")


def batch(rng: np.random.Generator, first: int, count: int, dimensions: int, jpeg: bytes) -> TrackletBatch:
    """Made-up tracklets: vehicles in clusters, spread over a day."""
    vectors = rng.normal(size=(count, dimensions)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    camera = rng.integers(CAMERAS, size=count)
    start = START + rng.integers(DAY, size=count)
    texts = [f"cam{one:02d}/{first + row}" for row, one in enumerate(camera)]
    return TrackletBatch(
        id=np.array(texts, dtype=object),
        vector=vectors,
        camera=np.array([f"cam{one:02d}" for one in camera], dtype=object),
        start=start,
        end=start + 4000,
        color=np.array([COLORS[row % len(COLORS)] for row in range(count)], dtype=object),
        vehicle_type=np.array([TYPES[row % len(TYPES)] for row in range(count)], dtype=object),
        facts=[{"crops": 1, "boxes": 12} for _ in range(count)],
        crops=[[StoredCrop(jpeg, vector)] for vector in vectors],
    )


def fill(folder: Path, tracklets: int, jpeg: bytes) -> None:
    model = load_model()
    vectors = open_vectors(folder, dimensions=model.dimensions, model=model.made_by, create=True)
    for number in range(CAMERAS):
        one = Camera(f"cam{number:02d}", latitude=50 + number / 100, longitude=8.0)
        vectors.put_document(f"camera/{one.name}", asdict(one))
    rng = np.random.default_rng(0)
    for first in range(0, tracklets, 2000):
        vectors.upsert(batch(rng, first, min(2000, tracklets - first), model.dimensions, jpeg))
    vectors.close()


@contextmanager
def served(folder: Path) -> Iterator[tuple[int, str]]:
    """A service on any free port: its process id and address."""
    line = [sys.executable, "-m", "vreid", "serve", str(folder), "--port", "0"]
    line += [word for limit in LIMITS for word in ("--set", limit)]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        assert process.stdout is not None
        yield process.pid, process.stdout.readline().partition(": ")[2].strip()
    finally:
        process.terminate()
        process.wait()


def processor_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        used = file.read().rpartition(")")[2].split()[11:13]  # in user and in system mode
    return sum(map(int, used)) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> float:
    """Resident memory of a process in MB."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def work(
    url: str, ids: list[str], seed: int, until: float, pause: float, times: dict[str, list[float]], errors: list[str]
) -> None:
    """One client."""
    draw = random.Random(seed)
    client = ServiceClient(url)

    def timed(kind: str, path: str, **options: object) -> bytes:
        time.sleep(draw.expovariate(1 / pause) if pause and kind != "crop" else 0)
        began = time.perf_counter()
        try:
            content = client.request("GET", path, **options)
        except InputError as error:
            errors.append(f"{kind}: {error}")
            return b""
        times[kind].append(time.perf_counter() - began)
        return content

    while time.monotonic() < until:
        name = draw.choice(ids)
        timed("search", "/search", tracklet=name, top=20)
        for one in draw.sample(ids, 8):
            timed("crop", f"/crops/0/{one}")
        timed("wall", "/tracklets", camera=[name.partition("/")[0]], limit=24, order="time")


def bare_product(tracklets: int, dimensions: int, repeats: int = 21) -> float:
    """Median milliseconds of the product of (N, D) float32 features with a query, in one thread."""
    features = np.ones((tracklets, dimensions), np.float32)
    spent = []
    for _ in range(repeats):
        began = time.perf_counter()
        np.vecdot(features, features[0])
        spent.append(time.perf_counter() - began)
    return 1000 * float(np.median(spent))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--tracklets", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--pause", type=float, default=2.0, help="mean seconds between two requests of a client")
    parser.add_argument("--store", type=Path, help="use this store of an earlier run, or make it and keep it")
    given = parser.parse_args(arguments)
    file = io.BytesIO()
    Image.effect_noise((160, 120), 60).convert("RGB").save(file, "JPEG")
    times: dict[str, list[float]] = {"search": [], "crop": [], "wall": []}
    errors: list[str] = []
    with tempfile.TemporaryDirectory(prefix="vreid-serve-") as temporary:
        folder = given.store or Path(temporary) / "site"
        if not store_exists(folder):
            fill(folder, given.tracklets, file.getvalue())
        with Store.open(folder) as store:
            size = len(store), store.vectors.dimensions
            product = bare_product(*size)
            print(f"{size[0]:,} tracklets, {size[1]:,} dimensions, {given.clients} clients, {given.minutes:g} minutes")
            ids = [str(name) for some in store.scan() for name in some.id]
            sample = random.Random(0).sample(ids, min(len(ids), SAMPLE))
            with served(folder) as (pid, url):
                ServiceClient(url, seconds=300).search(sample[0])  # reads the features
                memories, used = [memory(pid)], processor_seconds(pid)
                until = time.monotonic() + 60 * given.minutes
                parts = (until, given.pause, times, errors)
                threads = [
                    threading.Thread(target=work, args=(url, sample, seed, *parts)) for seed in range(given.clients)
                ]
                for thread in threads:
                    thread.start()
                rng, added = np.random.default_rng(1), 0
                while time.monotonic() < until:
                    some = batch(rng, size[0] + added, 24, store.vectors.dimensions, file.getvalue())
                    store.add(some)
                    added += 24
                    if added // 24 % 30 == 0:
                        memories.append(memory(pid))
                    time.sleep(2)
                for thread in threads:
                    thread.join()
                used, load = processor_seconds(pid) - used, os.getloadavg()[0]
            again = bare_product(*size)
    medians = {}
    for kind, seconds in times.items():
        values = 1000 * np.array(seconds or [np.nan])
        medians[kind], most, worst = np.percentile(values, [50, 95, 100])
        print(
            f"{kind:7} {len(seconds):7,} requests, median {medians[kind]:6.1f} ms, p95 {most:6.1f} ms, longest "
            f"{worst:7.1f} ms"
        )
    print(f"product {product:6.1f} ms before, {again:6.1f} ms after; median search / product before:", end=" ")
    print(f"{medians['search'] / product:.1f}")
    print(f"errors {len(errors)}, tracklets added meanwhile {added:,}")
    print(f"memory in MB, about every minute: {', '.join(f'{one:,.0f}' for one in memories)}")
    share = used / (60 * given.minutes)
    print(f"service: {share:.2f} cores on average; load average of the machine at the end {load:.1f}")
    for sentence in errors[:5]:
        print(sentence)
    return 1 if errors else 0


if __name__ == "__main__":
    raise SystemExit(main())
