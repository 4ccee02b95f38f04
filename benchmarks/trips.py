"""Benchmark linking of tracklets into trips: CPU seconds and memory by number of tracklets, with fitted exponents.

    PYTHONPATH=src python benchmarks/trips.py [--tracklets 10000 100000] [--dimensions 64] [--longest-gap 900]
    PYTHONPATH=src python benchmarks/trips.py --cuts 15000

Traffic of equal density for a longer time: tracklets per second and camera do not change, so a time window holds as
many, and a linear method has the exponent 1. Features are vehicles with look-alikes and noise. Each number of tracklets
is a process of its own:

    bound    the matrix products alone: features of all pairs inside the longest gap, as often as vreid compares them
    link     link_trips
    write    the tables, without the page
    GB       peak of anonymous memory (what the process holds; mapped files not counted), sampled every 50 ms, and its
             value before linking, with the features in memory or, if they are large, in a file

With `--cuts N` nothing is timed: N tracklets are linked in windows with margins of several lengths, and links and
probabilities are compared with those of one window.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from vreid.progress import Progress
from vreid.trips.assignment import assign
from vreid.trips.confirmations import Confirmations
from vreid.trips.link_inference import PASSES, LinkInference
from vreid.trips.link_learning import Sample
from vreid.trips.solve import TripConfig, link_trips, linked_by_window, marginals_by_window
from vreid.trips.tables import TimedTracklets, joined_rows
from vreid.trips.time_windows import TimeWindow, time_windows
from vreid.trips.trip_tables import write_trips

CAMERAS = 20
PER_SECOND = 2.0
"""Tracklets per second of all cameras."""
PASS_BY = 4
"""Cameras of a trip."""
BLOCK = 512


def traffic(count: int, dimensions: int, seed: int = 0) -> tuple[TimedTracklets, np.ndarray]:
    """Return `count` tracklets of vehicles that pass four cameras in a row, and their vehicles."""
    rng = np.random.default_rng(seed)
    vehicles = count // PASS_BY
    group = normal(rng, 200, dimensions, 1.0)
    of_group = rng.integers(200, size=vehicles)
    first = rng.integers(CAMERAS, size=vehicles)
    step = rng.choice([-1, 1], size=vehicles)
    camera = (first[:, None] + step[:, None] * np.arange(PASS_BY)) % CAMERAS
    legs = 90 * np.exp(rng.normal(0, 0.2, (vehicles, PASS_BY)))
    start = (rng.uniform(0, count / PER_SECOND, vehicles)[:, None] + np.cumsum(legs, axis=1)).ravel()

    def vectors() -> Iterator[np.ndarray]:
        for begin in range(0, vehicles, BLOCK):
            look = group[of_group[begin : begin + BLOCK]]
            look = look + normal(rng, len(look), dimensions, 0.7)
            seen = np.repeat(look, PASS_BY, axis=0)
            yield seen + normal(rng, len(seen), dimensions, 0.8)

    table = TimedTracklets.of(
        id=[f"{number}" for number in range(len(start))],
        camera=[f"c{code:02d}" for code in camera.ravel()],
        start=start,
        end=start + 5,
        vector=joined_rows(vectors()),
    )
    return table, table.id.astype(np.int64) // PASS_BY


def normal(rng: np.random.Generator, count: int, dimensions: int, scale: float) -> np.ndarray:
    """Return (count, dimensions) numbers; the length of a row is about `scale`."""
    return rng.standard_normal((count, dimensions), dtype=np.float32) * np.float32(scale * dimensions**-0.5)


def products(table: TimedTracklets, longest_gap: float) -> float:
    """Return the CPU seconds of the similarities of all pairs inside the longest gap, for all passes."""
    begun = time.process_time()
    for start in range(0, len(table), BLOCK):
        rows = slice(start, min(start + BLOCK, len(table)))
        stop = np.searchsorted(table.start, table.end[rows][-1] + longest_gap, side="right")
        _ = table.vector[rows] @ table.vector[start:stop].T
    return PASSES * (time.process_time() - begun)


def anonymous_gb() -> float:
    """Return the memory that the process holds in GB, without mapped files."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1e6 for line in lines if line.startswith("RssAnon"))


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Measure in a thread; the list holds the peak in GB at the end."""
    peak, stop = [anonymous_gb()], threading.Event()

    def sample() -> None:
        while not stop.wait(0.05):
            peak[0] = max(peak[0], anonymous_gb())

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def measure(count: int, dimensions: int, longest_gap: float) -> dict[str, float]:
    """Return CPU seconds, memory in GB, precision and recall of the links."""
    table, vehicle = traffic(count, dimensions)
    bound, before, wall = products(table, longest_gap), anonymous_gb(), time.perf_counter()
    with peak_memory() as peak:
        begun = time.process_time()
        trips = link_trips(table, TripConfig(longest_gap=longest_gap))
        linked = time.process_time()
        with tempfile.TemporaryDirectory() as out:
            write_trips(trips, Path(out))
        written = time.process_time()
    order = np.lexsort((np.arange(len(table)), vehicle))
    truth = np.full(len(table), -1)
    same = vehicle[order[1:]] == vehicle[order[:-1]]
    truth[order[1:][same]] = order[:-1][same]
    right = int(((trips.previous == truth) & (truth >= 0)).sum())
    return {
        "bound": bound,
        "link": linked - begun,
        "write": written - linked,
        "wall": time.perf_counter() - wall,
        "gb": peak[0],
        "before": before,
        "precision": right / max(int((trips.previous >= 0).sum()), 1),
        "recall": right / int((truth >= 0).sum()),
    }


def cuts(count: int, dimensions: int, longest_gap: float) -> None:
    """Print how probabilities and links of five windows differ from those of one."""
    table, config = traffic(count, dimensions)[0], TripConfig(longest_gap=longest_gap)
    answers, everything = Confirmations.of(table, (), ()), slice(0, count)
    sample = Sample.of(table, config.learn_on)
    inference = LinkInference.learn(sample, answers.within(sample.rows), longest_gap, 0.0, config.candidates)

    def solved(windows: list[TimeWindow]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        links, odds = linked_by_window(inference, table, answers, windows, Progress())
        probability = marginals_by_window(links, odds, windows)
        successor = assign(links.first, links.second, probability - config.least_probability, count)
        return links.first.astype(np.int64) * count + links.second, probability, successor

    key, probability, successor = solved([TimeWindow(everything, everything)])
    print(f"{len(key):,} candidates, {(successor >= 0).sum():,} links in one window; in cores of {count // 5:,}:")
    print(f"{'margin':>7} {'not found':>10} {'> 0.001':>8} {'> 0.01':>8} {'> 0.1':>8} {'other links':>12}")
    for margin in (0.25, 0.5, 1.0, 1.5, 2.0):
        again, other, chosen = solved(time_windows(table, count // 5, longest_gap, margin * longest_gap))
        _, one, two = np.intersect1d(key, again, return_indices=True)
        change = np.abs(probability[one] - other[two])
        counts = [int((change > least).sum()) for least in (0.001, 0.01, 0.1)]
        print(
            f"{margin:7.2f} {len(key) - len(one):10,} {counts[0]:8,} {counts[1]:8,} {counts[2]:8,} "
            f"{(chosen != successor).sum():12,}"
        )


def exponent(counts: list[int], values: list[float]) -> float:
    """Return the slope of the logarithms."""
    return float(np.polyfit(np.log(counts), np.log(values), 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tracklets", type=int, nargs="+", default=[10_000, 30_000, 100_000, 300_000])
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--longest-gap", type=float, default=900.0)
    parser.add_argument("--alone", action="store_true", help="measure one number in this process and print JSON")
    parser.add_argument("--cuts", type=int, help="compare windows of this number of tracklets with one")
    arguments = parser.parse_args()
    if arguments.cuts:
        cuts(arguments.cuts, arguments.dimensions, arguments.longest_gap)
        return
    counts = sorted(arguments.tracklets)
    if arguments.alone:
        print(json.dumps(measure(counts[0], arguments.dimensions, arguments.longest_gap)))
        return
    print(
        f"{'tracklets':>10} {'bound s':>8} {'link s':>8} {'ratio':>6} {'us each':>8} {'write s':>8} {'wall s':>8} "
        f"{'GB':>6} {'before':>7} {'precision':>10} {'recall':>7}"
    )
    found = []
    for count in counts:
        command = [sys.executable, __file__, "--alone", "--tracklets", str(count)]
        command += ["--dimensions", str(arguments.dimensions), "--longest-gap", str(arguments.longest_gap)]
        one = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        found.append(one)
        print(
            f"{count:10,} {one['bound']:8.1f} {one['link']:8.1f} {one['link'] / one['bound']:6.1f} "
            f"{1e6 * one['link'] / count:8.0f} {one['write']:8.1f} {one['wall']:8.0f} {one['gb']:6.2f} "
            f"{one['before']:7.2f} {one['precision']:10.3f} {one['recall']:7.3f}",
            flush=True,
        )
    if len(found) > 1:
        of = {name: exponent(counts, [one[name] for one in found]) for name in ("link", "write", "gb")}
        print(f"exponent of time {of['link']:.2f} (writing {of['write']:.2f}), of memory {of['gb']:.2f}")


if __name__ == "__main__":
    main()
