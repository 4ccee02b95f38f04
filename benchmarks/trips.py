"""Benchmark linking of tracklets into trips: CPU seconds and memory by number of tracklets, with fitted exponents.

    PYTHONPATH=src python benchmarks/trips.py [--tracklets 10000 100000] [--dimensions 64] [--longest-gap 900]

Traffic of equal density for a longer time: tracklets per second and camera do not change, so a time window holds as
many, and a linear method has the exponent 1. Features are vehicles with look-alikes and noise.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from vreid.trips.solve import TripConfig, link_trips
from vreid.trips.tables import TimedTracklets

CAMERAS = 20
PER_SECOND = 2.0
"""Tracklets per second of all cameras."""
PASSES = 4
"""Cameras of a trip."""


def traffic(count: int, dimensions: int, seed: int = 0) -> tuple[TimedTracklets, np.ndarray]:
    """Return `count` tracklets of vehicles that pass four cameras in a row, and their vehicles."""
    rng = np.random.default_rng(seed)
    vehicles = count // PASSES
    scale = dimensions**-0.5
    group = rng.normal(0, scale, (200, dimensions))
    look = group[rng.integers(200, size=vehicles)] + rng.normal(0, 0.7 * scale, (vehicles, dimensions))
    first = rng.integers(CAMERAS, size=vehicles)
    step = rng.choice([-1, 1], size=vehicles)
    camera = (first[:, None] + step[:, None] * np.arange(PASSES)) % CAMERAS
    legs = 90 * np.exp(rng.normal(0, 0.2, (vehicles, PASSES)))
    start = rng.uniform(0, count / PER_SECOND, vehicles)[:, None] + np.cumsum(legs, axis=1)
    vehicle = np.repeat(np.arange(vehicles), PASSES)
    vector = (look[vehicle] + rng.normal(0, 0.8 * scale, (len(vehicle), dimensions))).astype(np.float32)
    table = TimedTracklets.of(
        id=[f"{number}" for number in range(len(vehicle))],
        camera=[f"c{code:02d}" for code in camera.ravel()],
        start=start.ravel(),
        end=start.ravel() + 5,
        vector=vector,
    )
    return table, vehicle[table.id.astype(np.int64)]


def measure(count: int, dimensions: int, longest_gap: float) -> tuple[float, float, float, float]:
    """Return CPU seconds, peak memory of the process in GB, precision and recall of the links."""
    table, vehicle = traffic(count, dimensions)
    begun = time.process_time()
    trips = link_trips(table, TripConfig(longest_gap=longest_gap))
    seconds = time.process_time() - begun
    order = np.lexsort((np.arange(len(table)), vehicle))
    truth = np.full(len(table), -1)
    same = vehicle[order[1:]] == vehicle[order[:-1]]
    truth[order[1:][same]] = order[:-1][same]
    right = ((trips.previous == truth) & (truth >= 0)).sum()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return seconds, memory, right / max((trips.previous >= 0).sum(), 1), right / (truth >= 0).sum()


def exponent(counts: list[int], values: list[float]) -> float:
    """Return the slope of the logarithms."""
    return float(np.polyfit(np.log(counts), np.log(values), 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tracklets", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--longest-gap", type=float, default=900.0)
    arguments = parser.parse_args()
    print(f"{'tracklets':>10} {'CPU s':>8} {'us each':>8} {'GB':>6} {'precision':>10} {'recall':>7}")
    seconds, memories = [], []
    for count in sorted(arguments.tracklets):
        taken, memory, precision, recall = measure(count, arguments.dimensions, arguments.longest_gap)
        print(f"{count:10,} {taken:8.1f} {1e6 * taken / count:8.0f} {memory:6.2f} {precision:10.3f} {recall:7.3f}")
        seconds.append(taken)
        memories.append(memory)
    if len(seconds) > 1:
        counts = sorted(arguments.tracklets)
        print(f"exponent of time {exponent(counts, seconds):.2f}, of memory {exponent(counts, memories):.2f}")


if __name__ == "__main__":
    main()
