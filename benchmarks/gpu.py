"""Measure vreid on one GPU in less than eight minutes and write one JSON file.

    PYTHONPATH=src python benchmarks/gpu.py --out results/gpu.json
    PYTHONPATH=src python benchmarks/gpu.py --toy --out toy.json

Sections, each with a budget; one whose budget does not fit into the time that is left is skipped, and the file says so:
  limits          products in bfloat16 and float32, copies on the device and to it: what other figures are divided by
  tests           the tests with the mark `gpu`
  training        R50-IBN-a and TransReID with their recipes, loader included: images a second, share of the product
  extraction      R50-IBN-a, two views: images a second, from files and of a ready batch
  search          re-ranking and the Jaccard graph of 32,341 points, then of as many as fit, up to 1,000,000
  post-processing DMT's 16 sets of features (on the CPU: the only section that needs no GPU)

Images and features are generated, so the figures say how quickly the code runs and nothing of how well it finds
vehicles. `--toy` runs all sections but the tests at a size of seconds on a CPU; so does the script without options
where torch finds no GPU.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))  # before numpy; others here set it to 1

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

import inference
from loader import make_pictures
from retrieval import make_features
from vreid.data.records import Records
from vreid.environment import environment_facts
from vreid.files import write_json
from vreid.models.reid_model import build_from
from vreid.models.transreid import TransReIDOptions
from vreid.recipes import recipe
from vreid.retrieval import SUBMISSION, FeatureSet, PostProcessing, cluster, jaccard_graph, rank, rerank, rerank_top
from vreid.retrieval.features import Sides
from vreid.retrieval.nearest import nearest
from vreid.retrieval.postprocessing.bias import Bias
from vreid.retrieval.postprocessing.pipeline import search_all
from vreid.training.extract import extract
from vreid.training.precision import autocast, choose_precision
from vreid.training.supervised import train
from vreid.training.train_config import TrainConfig

ROOT = Path(__file__).parents[1]
TESTS = ("tests/test_training_on_a_device.py", "tests/test_features_on_a_device.py")
CITYFLOW, LARGE = 32_341, 1_000_000
FORWARD_AND_BACKWARD = 3  # a training step has about three times the operations of the forward pass

Figures = dict[str, Any]


@dataclass
class Bench:
    """What all sections share.

    Attributes:
        device: where they run.
        toy: a size of seconds on a CPU.
        ends: when to stop, in seconds of `time.perf_counter`.
        folder: for files.
        sections: figures so far, by section.
    """

    device: torch.device
    toy: bool
    ends: float
    folder: Path
    sections: dict[str, Figures] = field(default_factory=dict)

    @property
    def left(self) -> float:
        return self.ends - time.perf_counter()

    def size(self, full: int, toy: int) -> int:
        return toy if self.toy else full

    def seconds(self, work: Callable[[], object]) -> float:
        """Wall-clock seconds of `work`, the device's queue included."""
        self.synchronise()
        start = time.perf_counter()
        work()
        self.synchronise()
        return time.perf_counter() - start

    def best(self, work: Callable[[], object], repeats: int = 3) -> float:
        work()  # loads kernels
        return min(self.seconds(work) for _ in range(repeats))

    def synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def gigabytes(self) -> float | None:
        """Peak memory of the device since the last call."""
        if self.device.type != "cuda":
            return None
        peak = torch.cuda.max_memory_allocated(self.device) / 1e9
        torch.cuda.reset_peak_memory_stats(self.device)
        return round(peak, 2)

    def limit(self, name: str) -> float:
        return float(self.sections["limits"][name]) if name in self.sections.get("limits", {}) else math.nan


def limits(bench: Bench) -> Figures:
    side, device = bench.size(8192, 256), bench.device
    found: Figures = {}
    for name, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        values = torch.randn(side, side, device=device).to(dtype)
        found[f"{name} TFLOP/s"] = 2 * side**3 / bench.best(lambda values=values: values @ values) / 1e12
    count = bench.size(1 << 30, 1 << 20)
    source = torch.ones(count, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    found["copy GB/s"] = 2 * count / bench.best(lambda: target.copy_(source)) / 1e9  # read and written
    host = torch.ones(count, dtype=torch.uint8)
    host = host.pin_memory() if device.type == "cuda" else host
    found["host to device GB/s"] = count / bench.best(lambda: target.copy_(host, non_blocking=True)) / 1e9
    return found


def tests(bench: Bench) -> Figures:
    if bench.device.type != "cuda":
        return {"skipped": "no GPU"}
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", *TESTS]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=min(150, bench.left), check=False)
    return {"exit code": ended.returncode, "output": ended.stdout.splitlines()[-20:]}


def network_config(bench: Bench, name: str) -> TrainConfig:
    """The recipe, at toy size with a small network and small images."""
    config = recipe(name)
    if not bench.toy:
        return config
    small = {"resnet50_ibn_a": "resnet10_ibn_a_tiny", "transreid": "transreid_small"}[name]
    options = TransReIDOptions(image_size=(32, 32)) if name == "transreid" else TransReIDOptions()
    return replace(
        config,
        model=replace(config.model, backbone=small, transreid=options, weights=""),
        transform=replace(config.transform, height=32, width=32, pad=2),
        num_identities=4,
        num_instances=2,
    )


def images(bench: Bench, config: TrainConfig) -> Records:
    """Generated images of the network's size, as many as a few batches need; made once."""
    folder = bench.folder / f"images_{config.transform.height}"
    if folder.exists():
        return Records.of(path=sorted(folder.glob("*.jpg")), identity=[f"{n // 12}" for n in range(_count(bench))])
    folder.mkdir()
    return make_pictures(folder, config.transform.height, _count(bench))


def _count(bench: Bench) -> int:
    return bench.size(768, 96)


def training(bench: Bench, name: str) -> Figures:
    config = replace(network_config(bench, name), epochs=1, iterations=bench.size(60, 4))
    config = replace(config, model=replace(config.model, weights=""))
    run = bench.folder / name
    train(config, images(bench, config), out=run, device=str(bench.device), log_steps=bench.size(10, 1))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    speeds = sorted(line["images_per_second"] for line in lines if line["event"] == "step")
    speed = speeds[len(speeds) // 2]
    side = config.transform.height
    model = build_from(config.model)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.eval()(torch.zeros(1, 3, side, side))
    teraflops = FORWARD_AND_BACKWARD * counter.get_total_flops() * speed / 1e12
    environment = json.loads((run / "environment.json").read_text())
    kind = "bfloat16" if environment["precision"].startswith("bfloat16") else "float32"
    return {
        "images/s with loader": speed,
        "batch": config.num_identities * config.num_instances,
        "image": side,
        "precision": environment["precision"],
        "TFLOP/s": teraflops,
        "share of the bare product": teraflops / bench.limit(f"{kind} TFLOP/s"),
        "peak GB": bench.gigabytes(),
    }


def extraction(bench: Bench) -> Figures:
    config = network_config(bench, "resnet50_ibn_a")
    records, transform, batch = images(bench, config), config.transform.test(), bench.size(256, 16)
    model = build_from(replace(config.model, weights="")).eval()

    def from_files(times: int) -> None:
        repeated = records[np.tile(np.arange(len(records)), times)]
        extract(model, repeated, transform=transform, batch_size=batch, device=str(bench.device))

    from_files(1)  # starts the device
    times = bench.size(16, 1)
    files = bench.seconds(lambda: from_files(times))
    dtype = choose_precision("auto", bench.device, model, training=False).dtype
    ready = torch.randn(batch, 3, transform.height, transform.width, device=bench.device)
    ready = ready.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), autocast(dtype, bench.device):
        network = bench.best(lambda: model(ready))
    speed, views = times * len(records) / files, 2
    return {
        "images/s from files, 2 views": speed,
        "images/s of the network, 1 view": batch / network,
        "share of the network": speed * views / (batch / network),
        "precision": dtype,
        "peak GB": bench.gigabytes(),
    }


def search(bench: Bench, points: int) -> Figures:
    """Re-ranking and Jaccard graph of points that lie on the device, and the bare product of all pairs."""
    dimensions = bench.size(2048, 32)
    if points > bench.size(CITYFLOW, 400):
        features, is_query = _random_features(bench, points, dimensions), None
    else:
        made, _, _, is_query = make_features(points, dimensions)
        features = torch.from_numpy(made).to(bench.device)
    rows = max(1, min(4096, (1 << 27) // points))

    def product() -> None:
        tile = torch.empty(rows, points, device=bench.device)
        for start in range(0, points, rows):
            block = features[start : start + rows]
            torch.mm(block, features.T, out=tile[: len(block)])

    found: Figures = {"points": points, "dimensions": dimensions, "bare product s": bench.seconds(product)}
    bench.gigabytes()
    small = features[:100]
    cluster(jaccard_graph(small, max_distance=0.6), 0.6, 4)  # loads libraries
    graphs = []
    found["Jaccard graph s"] = bench.seconds(lambda: graphs.append(jaccard_graph(features, max_distance=0.6)))
    found["clustering s"] = bench.seconds(lambda: cluster(graphs.pop(), 0.6, 4))
    found["Jaccard graph / bare product"] = found["Jaccard graph s"] / found["bare product s"]
    found["peak GB"] = bench.gigabytes()
    if is_query is not None:
        chosen = torch.from_numpy(is_query).to(bench.device)
        query, gallery = features[chosen], features[~chosen]
        found["re-ranking s"] = bench.seconds(lambda: rerank(query, gallery))
        some = slice(0, 50)
        same = nearest(query[some].cpu(), gallery.cpu(), 21)[1] == nearest(query[some], gallery, 21)[1].cpu()
        found["neighbours equal to the CPU's"] = bool(same.all())
    elif bench.left > found["Jaccard graph s"] * 1.3:
        split = round(0.034 * points)
        found["re-ranking, first 100, s"] = bench.seconds(
            lambda: rerank_top(features[:split], features[split:], bench.size(100, 10))
        )
    else:
        found["re-ranking"] = f"skipped: {bench.left:.0f} s were left"
    return found


def _random_features(bench: Bench, points: int, dimensions: int) -> torch.Tensor:
    """Vehicles of 36 points each, made on the device a block at a time."""
    generator = torch.Generator(bench.device).manual_seed(0)
    centres = torch.randn(points // 36 + 1, dimensions, generator=generator, device=bench.device)
    features = torch.empty(points, dimensions, device=bench.device)
    for start in range(0, points, 65_536):
        block = features[start : start + 65_536]
        block.normal_(generator=generator)
        block += 0.6 * centres[torch.arange(start, start + len(block), device=bench.device) % len(centres)]
        block /= block.norm(dim=1, keepdim=True)
    return features


def large_search(bench: Bench) -> Figures:
    """As many points as the time that is left allows, up to a million; the time grows with their square."""
    small = bench.sections["search"]
    if "Jaccard graph s" not in small:
        return {"skipped": "the smaller search has no result"}
    if bench.toy:
        return search(bench, 800)
    each = (small["Jaccard graph s"] + small["bare product s"]) / small["points"] ** 2
    fits = math.isqrt(int(0.6 * bench.left / each))
    points = min(LARGE, fits // 50_000 * 50_000)
    return search(bench, points) if points > CITYFLOW else {"skipped": f"only {fits:,} points fit the time left"}


def post_processing(bench: Bench) -> Figures:
    sets, dimensions = bench.size(16, 2), bench.size(2048, 16)
    if bench.toy:
        inference.QUERIES, inference.IMAGES, inference.TRACKLETS, inference.VEHICLES = 40, 600, 60, 20
    query, gallery = inference.labels()
    first = inference.features(query, gallery, dimensions, seed=0)
    members = [_turned(first, number) for number in range(sets + 2)]
    *members, camera, orientation = members
    biases = {"camera_bias": Bias(0.1, "after", camera), "orientation_bias": Bias(0.05, "after", orientation)}
    post = PostProcessing(**{**vars(PostProcessing.parse("dmt")), **biases})
    seconds = bench.seconds(lambda: rank(search_all(members, post), SUBMISSION, 100))
    return {"sets": sets, "dimensions": dimensions, "threads": os.environ["OMP_NUM_THREADS"], "s": seconds}


def _turned(sides: Sides, number: int) -> Sides:
    """Another model's features at the price of a copy: the same with their dimensions turned."""
    query, gallery = (
        FeatureSet(np.roll(side.features, number, axis=1), side.records, normalised=True, model=f"{number:x}")
        for side in sides
    )
    return query, gallery


def sections(bench: Bench) -> Iterable[tuple[str, float, Callable[[], Figures]]]:
    """Name, budget in seconds and work of each section; the last takes the time that is left."""
    yield "limits", 15, lambda: limits(bench)
    yield "tests", 100, lambda: tests(bench)
    yield "training resnet50_ibn_a", 45, lambda: training(bench, "resnet50_ibn_a")
    yield "training transreid", 45, lambda: training(bench, "transreid")
    yield "extraction resnet50_ibn_a", 30, lambda: extraction(bench)
    yield "search", 20, lambda: search(bench, bench.size(CITYFLOW, 400))
    yield "post-processing of DMT", 75, lambda: post_processing(bench)
    yield "search, large", 30, lambda: large_search(bench)


def measure(bench: Bench) -> None:
    """Run the sections; one that fails or does not fit is noted, and the next begins."""
    for name, budget, work in sections(bench):
        start = time.perf_counter()
        if bench.left < budget:
            bench.sections[name] = {"skipped": f"{bench.left:.0f} s were left, it needs up to {budget:.0f}"}
        else:
            try:
                bench.sections[name] = work()
            except Exception as error:
                bench.sections[name] = {"error": f"{type(error).__name__}: {error}"}
        figures = {"seconds": time.perf_counter() - start, **bench.sections[name]}
        bench.sections[name] = {key: _rounded(value) for key, value in figures.items()}
        print(f"{name}: {bench.sections[name]}", flush=True)


def _rounded(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return float(f"{value:.4g}") if math.isfinite(value) else None


def machine(device: torch.device) -> Figures:
    facts: Figures = {**environment_facts(), "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {"gpu": properties.name, "gpu memory GB": round(properties.total_memory / 1e9, 1)}
        facts |= {"compute capability": f"{properties.major}.{properties.minor}"}
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="the JSON file to write")
    parser.add_argument("--seconds", type=float, default=460, help="time for everything")
    parser.add_argument("--toy", action="store_true", help="a size of seconds on a CPU")
    options = parser.parse_args()
    if not (options.toy or torch.cuda.is_available()):
        if options.out:
            parser.error("torch finds no GPU; add --toy to try the script on the CPU.")
        print("torch finds no GPU; toy sizes on the CPU show only that the script runs.")
        options.toy = True
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(
            torch.device("cpu" if options.toy else "cuda"), options.toy, start + options.seconds, Path(folder)
        )
        measure(bench)
    result = {
        "command": f"python benchmarks/gpu.py {' '.join(sys.argv[1:])}",
        "toy": options.toy,
        "machine": machine(bench.device),
        "seconds": round(time.perf_counter() - start, 1),
        "sections": bench.sections,
    }
    if options.out:
        write_json(options.out, result)
    if failed := [name for name, figures in bench.sections.items() if "error" in figures]:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
