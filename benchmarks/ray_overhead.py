"""Overhead of extraction on Ray over extraction in one process: one actor with one CPU and thread against one process.

    make test-ray                                              # makes .venv-ray
    OMP_NUM_THREADS=1 PYTHONPATH=src .venv-ray/bin/python benchmarks/ray_overhead.py

Both compute the same shards of the same images with the same model, in turns. CPU seconds are those of the process that
computes and of the driver; starting Ray and loading the model in the actor are stated apart, as they do not grow with
the images.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vreid.data.records import Records
from vreid.inference.extraction import extractor_of
from vreid.inference.ray_pool import RayPool
from vreid.inference.shard_workers import ModelCopy, ShardWorker
from vreid.retrieval import feature_shards
from vreid.training.feature_job import FeatureJob, ShardTask


@dataclass(frozen=True)
class TimedWorker(ShardWorker):
    """Adds the CPU seconds of each task to a file."""

    notes: str = ""
    shard: int = feature_shards.SHARD

    def begin(self, folder: str, job: Mapping[str, object]) -> str:
        feature_shards.SHARD = self.shard
        return super().begin(folder, job)

    def run(self, task: ShardTask) -> dict[int, str]:
        feature_shards.SHARD = self.shard
        began = time.process_time()
        done = super().run(task)
        with open(self.notes, "a") as file:
            file.write(f"{time.process_time() - began}\n")
        return done


def drawn(folder: Path, count: int) -> Records:
    rng = np.random.default_rng(0)
    paths = [folder / f"{number:05d}.jpg" for number in range(count)]
    for path in paths:
        blocks = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        blocks.resize((240, 180)).save(path, quality=90)
    return Records.of(path=paths)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--shard", type=int, default=256, help="images a shard; smaller ones cost more")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", default="default")
    asked = parser.parse_args()
    if importlib.util.find_spec("ray") is None:
        print("ray is not installed: make test-ray makes an environment with it")
        return
    feature_shards.SHARD = asked.shard
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        records = drawn(folder, asked.images)
        extractor = extractor_of(asked.model, "cpu")
        notes = folder / "cpu.txt"
        worker = TimedWorker(ModelCopy.of(asked.model), "cpu", notes=str(notes), shard=asked.shard)
        began = time.perf_counter()
        with RayPool(worker, count=1) as pool:
            FeatureJob(records[:1], extractor, out=folder / "first.safetensors").run(pool)
            print(f"Ray and the model started in {time.perf_counter() - began:.1f} s by the clock")
            rows = []
            for number in range(asked.repeats):
                began, cpu = time.perf_counter(), time.process_time()
                alone = FeatureJob(records, extractor, out=folder / f"alone{number}.safetensors").run()
                local = time.process_time() - cpu, time.perf_counter() - began
                notes.write_text("")
                began, cpu = time.perf_counter(), time.process_time()
                found = FeatureJob(records, extractor, out=folder / f"ray{number}.safetensors").run(pool)
                driver, clock = time.process_time() - cpu, time.perf_counter() - began
                actor = sum(map(float, notes.read_text().split()))
                assert found.features.tobytes() == alone.features.tobytes(), "the features differ"
                rows.append((*local, actor, driver, clock))
                print(
                    f"local {local[0]:.2f} CPU s, {local[1]:.1f} s by the clock; Ray: actor {actor:.2f}, driver "
                    f"{driver:.2f} CPU s, {clock:.1f} by the clock; CPU ratio {(actor + driver) / local[0]:.3f}, "
                    f"clock {clock / local[1]:.3f}; load {os.getloadavg()[0]:.0f}"
                )
        ratios = [(actor + driver) / cpu for cpu, _, actor, driver, _ in rows]
        clocks = [clock / wall for _, wall, _, _, clock in rows]
        print(f"median ratio: CPU {np.median(ratios):.3f}, clock {np.median(clocks):.3f}; features equal to the bit")


if __name__ == "__main__":
    sys.exit(main())
