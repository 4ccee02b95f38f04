"""Benchmark the simulator in images per second: planning, rendering, JPEG, labels and processes included.

    PYTHONPATH=src python benchmarks/simulator.py [--workers 2] [--images 400] [PRESET ...]

Each preset is reduced to about `--images` images, with the same image size, cameras and mix of training, test and
synthetic identities. Two rates are printed: per wall-clock second with all workers, and per CPU second, which is more
stable on a shared machine. A reduced world has the same fixed costs (starting processes, building cameras and
bystanders) for fewer images, so full presets are slightly faster.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from vreid.simulator import PRESETS, Preset, simulate
from vreid.simulator.city.plan import plan_world


def cut_down(preset: Preset, images: int) -> Preset:
    """Reduce a preset to about `images` images, with fewer identities of each kind."""
    share = min(1.0, images / plan_world(preset, 0).pictures)
    return replace(
        preset,
        train_identities=max(1, round(preset.train_identities * share)),
        test_identities=max(1, round(preset.test_identities * share)),
        synthetic_identities=max(1, round(preset.synthetic_identities * share)),
    )


def cpu_seconds() -> float:
    """CPU seconds of this process and of its finished children."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", default=list(PRESETS), metavar="PRESET")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--images", type=int, default=400)
    arguments = parser.parse_args()
    print(f"{'preset':8} {'pixels':>6} {'images':>6} {'workers':>7} {'images/s':>9} {'images/CPU s':>13}")
    for name in arguments.presets:
        preset = cut_down(PRESETS[name], arguments.images)
        with tempfile.TemporaryDirectory() as folder:
            wall, cpu = time.perf_counter(), cpu_seconds()
            made = simulate(Path(folder) / name, preset=preset, seed=0, workers=arguments.workers)
            wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
        images = sum(made.counts[split] for split in ("train", "query", "gallery", "synthetic"))
        sizes = f"{name:8} {preset.longest_side:6} {images:6} {arguments.workers:7}"
        print(f"{sizes} {images / wall:9.1f} {images / cpu:13.1f}")


if __name__ == "__main__":
    main()
