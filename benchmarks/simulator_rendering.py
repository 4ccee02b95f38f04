# ruff: noqa: E402 (the thread counts must be set before numpy is imported)
"""Benchmark the renderer in images per CPU second on one thread: `python benchmarks/simulator_rendering.py`.

Vehicles are built once per eight images, as in a city; car models repeat, cameras are cached. CPU seconds of this
process are counted, which is more stable than wall-clock time on a shared machine.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import argparse
import time

import numpy as np

from vreid.simulator.render.camera import SCENARIOS, sample_camera
from vreid.simulator.render.scene import CameraView, Placed
from vreid.simulator.render.synthetic import shoot_synthetic
from vreid.simulator.vehicle.vehicles import COLORS, TYPES, Vehicle, VehicleSpec, build_vehicle

PICTURES_A_VEHICLE = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vehicles", type=int, default=33)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256])
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    views = [CameraView(sample_camera(rng, scenario)) for scenario in SCENARIOS for _ in range(2)]
    specs = [
        VehicleSpec(TYPES[k % len(TYPES)], COLORS[k % len(COLORS)], int(rng.integers(5)), k)
        for k in range(options.vehicles)
    ]
    for size in options.sizes:
        film(views, [build_vehicle(spec) for spec in specs], size, seed=1)  # warm: every tile has been looked at
        start = time.process_time()
        vehicles = [build_vehicle(spec) for spec in specs]
        built = time.process_time()
        count, pixels = film(views, vehicles, size, seed=1)
        end = time.process_time()
        print(
            f"{size:4d} px: {count / (end - built):5.1f} pictures a CPU second, {count / (end - start):5.1f} with the"
        )
        print(
            f"         building of their vehicles ({1e3 * (built - start) / len(specs):.0f} ms each); "
            f"{pixels / count:.0f} pixels a picture, 4 samples a pixel"
        )
        start = time.process_time()
        for vehicle in vehicles:
            shoot_synthetic(vehicle, rng, longest_side=size)
        print(f"         synthetic: {len(vehicles) / (time.process_time() - start):.1f} pictures a CPU second")


def film(views: list[CameraView], vehicles: list[Vehicle], size: int, seed: int) -> tuple[int, int]:
    """Shoot every vehicle on eight cameras, a third of them with another vehicle near; images and pixels."""
    rng = np.random.default_rng(seed)
    count = pixels = 0
    for number, vehicle in enumerate(vehicles):
        shots = 0
        while shots < PICTURES_A_VEHICLE:
            view = views[int(rng.integers(len(views)))]
            lane = view.camera.lanes[int(rng.integers(len(view.camera.lanes)))]
            s = float(rng.uniform(0, lane.length))
            other = Placed(vehicles[number - 1], *lane.pose(s + 10))
            others = [other] if rng.random() < 1 / 3 else []
            shot = view.shoot(Placed(vehicle, *lane.pose(s)), others, rng, longest_side=size)
            if shot is not None:
                shots, count, pixels = shots + 1, count + 1, pixels + shot.image.shape[0] * shot.image.shape[1]
    return count, pixels


if __name__ == "__main__":
    main()
