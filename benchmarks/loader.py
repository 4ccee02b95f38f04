"""Benchmark reading, augmentation, loading and sampling, and records by the million.

    PYTHONPATH=src python benchmarks/loader.py [--size 128] [--workers 2]

Times are CPU seconds of one core with one process, wall-clock seconds with several. The images are generated: JPEG,
quality 90, twice the size of the input.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vreid.data.augment import TrainTransform
from vreid.data.images import read_image
from vreid.data.loading import train_loader
from vreid.data.readers.image_table import read_records
from vreid.data.records import Labels, Records
from vreid.data.sampling import PKSampler
from vreid.data.seeds import generator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128, help="height and width of the network's input, pixels")
    parser.add_argument("--workers", type=int, default=2, help="most worker processes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        records = make_pictures(Path(folder), options.size, count=960)
        one_core(records, options.size)
        loaders(records, options.size, options.workers)
        million(Path(folder))


def make_pictures(folder: Path, size: int, count: int) -> Records:
    paths = []
    for number in range(count):
        small = generator(number, "picture").integers(256, size=(size // 4, size // 4, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize((2 * size, 2 * size), Image.Resampling.BICUBIC)
        paths.append(folder / f"{number:04d}.jpg")
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=90)
        paths[-1].write_bytes(buffer.getvalue())
    return Records.of(path=paths, identity=[str(number // 12) for number in range(count)])


def one_core(records: Records, size: int) -> None:
    transform = TrainTransform(size, size, pad=max(round(size / 25), 1))
    some = list(records.path[:200])
    pictures = [read_image(path) for path in some]
    prepared = [transform.prepare(picture) for picture in pictures]
    batch = torch.stack(prepared[:64])
    erased = torch.tensor([transform.augment(p, generator(0, i)).erased for i, p in enumerate(prepared[:64])])
    print(f"one core, {size} x {size}, images a CPU second")
    rate("read", 200, lambda: [read_image(path) for path in some])
    rate("prepare (resize)", 200, lambda: [transform.prepare(picture) for picture in pictures])
    rate("augment", 200, lambda: [transform.augment(p, generator(0, i)) for i, p in enumerate(prepared)])
    rate("finish (normalise)", 64, lambda: transform.finish(batch, erased))


def rate(name: str, count: int, work: Callable[[], object], repeats: int = 5) -> None:
    work()
    started = time.process_time()
    for _ in range(repeats):
        work()
    print(f"  {name:<28}{repeats * count / (time.process_time() - started):>10,.0f}")


def loaders(records: Records, size: int, most_workers: int) -> None:
    transform = TrainTransform(size, size, pad=max(round(size / 25), 1))
    print("loader, P x K = 16 x 4, images a second (first epoch, later epochs)")
    for workers in range(most_workers + 1):
        for cache_bytes in (0, 1 << 30):
            sampler = PKSampler(records.identity.codes, 16, 4)
            loader = train_loader(records, transform, sampler, seed=0, workers=workers, cache_bytes=cache_bytes)
            speeds = []
            for epoch in range(3):
                loader.set_epoch(epoch)
                started = time.perf_counter()
                count = sum(len(batch.rows) for batch in loader)
                speeds.append(count / (time.perf_counter() - started))
            cached = "cache" if cache_bytes else "no cache"
            print(f"  {workers} workers, {cached:<17}{speeds[0]:>10,.0f}{max(speeds[1:]):>10,.0f}")


def million(folder: Path, count: int = 10**6) -> None:
    identity = Labels(
        np.array([f"{i:06d}" for i in range(50_000)], dtype=object),
        generator(0, "identity").integers(50_000, size=count, dtype=np.int32),
    )
    names = [f"{i:07d}.jpg" for i in range(count)]
    records = Records.of(path=names, identity=identity)
    order = generator(0, "order").permutation(count)
    print(f"{count:,} records, CPU seconds")
    seconds("index", lambda: records[order])
    seconds("concat of two halves", lambda: Records.concat([records[: count // 2], records[count // 2 :]]))
    seconds("to arrays and back", lambda: Records.from_arrays(records.to_arrays()))
    sampler = PKSampler(identity.codes, 16, 4, seed=0)
    seconds(f"P x K epoch of {len(sampler):,} batches", lambda: (sampler.set_epoch(sampler.epoch + 1), len(sampler)))
    few = records[: count // 10]
    few.write_csv(folder / "records.csv")
    seconds("read a table of a tenth", lambda: read_records(folder / "records.csv"))


def seconds(name: str, work: Callable[[], object]) -> None:
    started = time.process_time()
    work()
    print(f"  {name:<34}{time.process_time() - started:>8.2f}")


if __name__ == "__main__":
    main()
