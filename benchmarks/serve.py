"""The search service under load: clients beside a writing ingest, on a store of made-up tracklets.

    python benchmarks/serve.py [--tracklets 100000] [--clients 50] [--minutes 5] [--dimensions 1280]

Makes a store of random features with 20 cameras, starts `vreid serve` in a process of its own, and lets clients work
like users: a search, the crops of its hits, a page of the wall, a decision now and then, with pauses of two seconds on
average. Another process stores new tracklets all the time. Prints requests, errors, times by kind of request, and the
service's memory at the beginning and at the end. Exits 1 if a request fails.
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

CAMERAS = 20
COLORS = ("black", "white", "red", "blue")
TYPES = ("sedan", "van", "truck")
DAY = 86_400_000
START = 1_700_000_000_000
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
        timed("wall", "/tracklets", camera=[name.partition("/")[0]], limit=24)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--tracklets", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--pause", type=float, default=2.0, help="mean seconds between two requests of a client")
    given = parser.parse_args(arguments)
    file = io.BytesIO()
    Image.effect_noise((160, 120), 60).convert("RGB").save(file, "JPEG")
    times: dict[str, list[float]] = {"search": [], "crop": [], "wall": []}
    errors: list[str] = []
    with tempfile.TemporaryDirectory(prefix="vreid-serve-") as temporary:
        folder = Path(temporary) / "site"
        fill(folder, given.tracklets, file.getvalue())
        with Store.open(folder) as store:
            sample = [str(name) for name in next(iter(store.vectors.scan(limit=5000))).id]
            with served(folder) as (pid, url):
                ServiceClient(url, seconds=300).search(sample[0])  # reads the features
                before, until = memory(pid), time.monotonic() + 60 * given.minutes
                parts = (until, given.pause, times, errors)
                threads = [
                    threading.Thread(target=work, args=(url, sample, seed, *parts)) for seed in range(given.clients)
                ]
                for thread in threads:
                    thread.start()
                rng, added = np.random.default_rng(1), 0
                while time.monotonic() < until:
                    some = batch(rng, given.tracklets + added, 24, store.vectors.dimensions, file.getvalue())
                    store.add(some)
                    added += 24
                    time.sleep(2)
                for thread in threads:
                    thread.join()
                after = memory(pid)
    for kind, seconds in times.items():
        values = 1000 * np.array(seconds or [np.nan])
        half, most, worst = np.percentile(values, [50, 95, 100])
        print(
            f"{kind:7} {len(seconds):7,} requests, median {half:6.1f} ms, 95 % {most:6.1f} ms, longest {worst:7.1f} ms"
        )
    print(f"errors {len(errors)}, tracklets added meanwhile {added:,}, memory {before:,.0f} -> {after:,.0f} MB")
    for sentence in errors[:5]:
        print(sentence)
    return 1 if errors else 0


if __name__ == "__main__":
    raise SystemExit(main())
