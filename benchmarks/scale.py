"""Benchmark `vreid check`, `extract` and `evaluate` at up to a million images: CPU seconds and peak memory.

    python benchmarks/scale.py [--images 10000 100000] [--jobs check boxes extract evaluate] [--folder DIR]

Each command runs in a process of its own; its CPU seconds (all threads) and its peak memory are those that Linux
counts, the start of Python included. Between two sizes the table says how both grow: the exponent of seconds and of
memory beyond a run on 100 images, and the bytes that an image adds.

* `check`: a table of N image files of 24 x 24 pixels, all different, 1 % queries, 100 cameras.
* `boxes`: MOTChallenge output of two cameras, frames of 1920 x 1080 pixels with 20 boxes each; a third of them look
  like a box at the other camera. Beside it, the seconds in which Pillow decodes every frame once.
* `extract`: the files of `check` with a small random network at 32 x 32, one view.
* `evaluate`: N features of 128 dimensions, 100 queries.

The files are made once in `--folder` and stay there; without it they are temporary. A million files take 4 GB.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from PIL import Image

from vreid.data.protocols import MARKET
from vreid.data.records import Records
from vreid.retrieval import FeatureSet
from vreid.retrieval_run import RetrievalRun

SMALLEST = 100
SIDE = 24
CAMERAS = 100
DIMENSIONS, QUERIES = 128, 100
FRAME, BOXES = (1920, 1080), 20


def labels(count: int) -> dict[str, list[str]]:
    """Ten images of each vehicle, each at another camera."""
    return {
        "identity": [f"v{image // 10}" for image in range(count)],
        "camera": [f"c{(image * 7 + image // 10) % CAMERAS:03}" for image in range(count)],
        "split": ["query" if image % 100 == 0 else "gallery" for image in range(count)],
    }


def files(folder: Path, count: int) -> Path:
    """Write `count` image files, 1,000 a folder, and their table."""
    table = folder / f"files-{count}.csv"
    paths = [f"files/{image // 1000:04}/{image:07}.jpg" for image in range(count)]
    if not table.is_file():
        for start in range(0, count, 1000):
            if (folder / paths[min(start + 1000, count) - 1]).is_file():
                continue
            (folder / paths[start]).parent.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng(start)
            coarse = rng.integers(0, 256, (1000, 4, 4, 3), dtype=np.uint8)
            for path, levels in zip(paths[start : start + 1000], coarse, strict=False):
                image = Image.fromarray(levels).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
                image.save(folder / path, quality=85)
        Records.of(path=[str(folder / path) for path in paths], **labels(count)).write_csv(table)
    return table


def frames(folder: Path, count: int) -> Path:
    """Write MOTChallenge output of two cameras with `count` boxes."""
    source = folder / f"boxes-{count}"
    each = max(count // (2 * BOXES), 1)
    for camera in range(2):
        at = source / f"c{camera + 1:03}"
        if (at / "gt" / "gt.txt").is_file():
            continue
        (at / "img1").mkdir(parents=True, exist_ok=True)
        (at / "gt").mkdir(exist_ok=True)
        (at / "seqinfo.ini").write_text(
            f"[Sequence]\nname={at.name}\nimDir=img1\nframeRate=10\nseqLength={each}\n"
            f"imWidth={FRAME[0]}\nimHeight={FRAME[1]}\nimExt=.jpg\n"
        )
        ground = np.random.default_rng(9).integers(60, 200, (12, 20, 3), dtype=np.uint8)
        street = Image.fromarray(ground).resize(FRAME, Image.Resampling.BICUBIC)
        lines = []
        for number in range(each):
            frame = street.copy()
            for place in range(BOXES):
                shared = place % 3 == 0  # the same vehicle, in the same place, at both cameras
                vehicle = np.random.default_rng((place, number // 10, 0 if shared else camera + 1))
                look = vehicle.integers(0, 256, (6, 8, 3), dtype=np.uint8)
                x, y, width = 380 * (place % 5) + 3 * (number % 10), 260 * (place // 5), 150 + 5 * place
                frame.paste(Image.fromarray(look).resize((width, 180), Image.Resampling.BICUBIC), (x, y))
                lines.append(f"{number + 1},{number // 10 * BOXES + place + 1},{x},{y},{width},180,1,1,1")
            frame.save(at / "img1" / f"{number + 1:06}.jpg", quality=90)
        (at / "gt" / "gt.txt").write_text("\n".join(lines) + "\n")
    return source


def network(folder: Path) -> Path:
    """Write a small random model."""
    import torch

    from vreid.data.augment import TestTransform
    from vreid.models import ModelConfig, build_from, save_weights

    file = folder / "random.safetensors"
    if not file.is_file():
        torch.manual_seed(0)
        config = ModelConfig("resnet10_ibn_a_tiny")
        facts = {"kind": "model", "model": asdict(config), "num_identities": None}
        save_weights(file, build_from(config).state_dict(), {**facts, "transform": asdict(TestTransform(32, 32))})
    return file


def features(folder: Path, count: int) -> Path:
    """Write random features of vehicles, 100 queries and `count` gallery images."""
    out = folder / f"features-{count}"
    if not out.is_dir():
        rng = np.random.default_rng(0)
        vehicles = rng.standard_normal((count // 10 + 1, DIMENSIONS), dtype=np.float32)
        named, sides = labels(count), []
        for rows in (rng.choice(count, QUERIES, replace=False), np.arange(count)):
            made = vehicles[rows // 10] + rng.standard_normal((len(rows), DIMENSIONS), dtype=np.float32)
            records = Records.of(
                path=[f"files/{row // 1000:04}/{row:07}.jpg" for row in rows],
                **{column: [named[column][row] for row in rows] for column in ("identity", "camera")},
            )
            sides.append(FeatureSet(made, records).normalise())
        RetrievalRun(sides[0], sides[1], MARKET).save(out)
    return out


def check_line(folder: Path, count: int) -> list[str]:
    return ["check", str(files(folder, count)), "--json"]


def boxes_line(folder: Path, count: int) -> list[str]:
    return ["check", str(frames(folder, count)), "--json"]


def extract_line(folder: Path, count: int) -> list[str]:
    out = tempfile.mkdtemp(dir=folder)
    return [
        "extract",
        str(network(folder)),
        str(files(folder, count)),
        "--out",
        f"{out}/features",
        "--views",
        "original",
    ]


def evaluate_line(folder: Path, count: int) -> list[str]:
    return ["evaluate", str(features(folder, count)), "--json"]


JOBS: dict[str, Callable[[Path, int], list[str]]] = {
    "check": check_line,
    "boxes": boxes_line,
    "extract": extract_line,
    "evaluate": evaluate_line,
}


MEASURED = """
import atexit, sys
from pathlib import Path
out = Path(sys.argv.pop(1))
atexit.register(lambda: out.write_text(Path("/proc/self/status").read_text()))
from vreid.cli import main
main()
"""


def cost(line: list[str]) -> tuple[float, float]:
    """Run a command of vreid; return its CPU seconds and its peak memory in bytes (Linux)."""
    with tempfile.NamedTemporaryFile() as status, tempfile.TemporaryFile() as output:
        process = subprocess.Popen([sys.executable, "-c", MEASURED, status.name, *line], stdout=output, stderr=output)
        _, code, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(code)
        if process.returncode not in (0, 1):
            output.seek(0)
            sys.exit(output.read().decode(errors="replace"))
        # not usage.ru_maxrss: that of a new process begins with its parent's
        peak = int(Path(status.name).read_text().partition("VmHWM:")[2].split()[0]) * 1024
    return usage.ru_utime + usage.ru_stime, peak


def decoding(source: Path) -> float:
    """CPU seconds in which Pillow decodes every frame once."""
    start = time.process_time()
    for path in source.rglob("*.jpg"):
        with Image.open(path) as image:
            image.load()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--folder", type=Path, help="where the files are made and kept")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        for job in arguments.jobs:
            print(
                f"{job:9} {'images':>10} {'CPU s':>8} {'MB':>7} {'exponents: s':>13} {'MB':>5} {'bytes an image':>15}"
            )
            start_s, start_bytes = cost(JOBS[job](folder, SMALLEST))
            print(f"{'':9} {SMALLEST:10,} {start_s:8.2f} {start_bytes / 1e6:7.0f}", flush=True)
            before: tuple[int, float, float] | None = None
            for count in sorted(arguments.images):
                seconds, peak = cost(JOBS[job](folder, count))
                row = f"{'':9} {count:10,} {seconds:8.2f} {peak / 1e6:7.0f}"
                if before is not None:
                    ratio = math.log(count / before[0])
                    grown = [
                        math.log(max(now - start, 1e-9) / max(then - start, 1e-9)) / ratio
                        for now, then, start in ((seconds, before[1], start_s), (peak, before[2], start_bytes))
                    ]
                    row += f" {grown[0]:13.2f} {grown[1]:5.2f} {(peak - before[2]) / (count - before[0]):15,.0f}"
                if job == "boxes":
                    row += f"   decoding alone {decoding(folder / f'boxes-{count}'):.2f} s"
                print(row, flush=True)
                before = count, seconds, peak


if __name__ == "__main__":
    main()
