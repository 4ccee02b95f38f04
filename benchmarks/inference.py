"""Benchmark the post-processing of DMT's ensemble at the size of CityFlowV2-ReID.

    python benchmarks/inference.py [--sets 16] [--dimensions 2048] [--profile] [--peer DIR]
    python benchmarks/inference.py --extraction
    python benchmarks/inference.py --embedder [--model MODEL.safetensors]
    python benchmarks/inference.py --engines [--networks default resnet50_ibn_a transreid] [--images 8]
    python benchmarks/inference.py --query [--tracklets 100000]

1,103 queries, 31,238 gallery images in 991 tracklets of 12 cameras. Every set of features (each model has two) is
processed with `camera-whitening=0.18:0.5, tracklets=weighted:raw, rerank=7:2:0.6`, whitened and plain; camera and
orientation biases are subtracted, images of the query's camera are removed, and all sets are fused and ranked.
Features are random vehicles, cameras and tracklets, generated outside of the timing.

"Bare products" are a lower bound: each camera's second-moment matrix, its Cholesky factor and the two triangular
solves for every feature (float64), and the query x gallery products for the weights of frames, whitened and plain,
and, except for biases, for the order of frames within tracklets (float32). CPU seconds of one thread; memory is the
peak beyond the features. `--peer` is a checkout as in `retrieval.py`: its re-ranking of the queries and tracklets of
one set is compared with ours.

`--extraction` measures the networks instead, each at the image size of its recipe on a few random images with one
thread, and multiplies: four views of every test image, each model twice (two sets of pseudo labels), and the bias
models once. The total is computed, not measured.

`--embedder` measures `vreid.load_model` in torch and in onnxruntime (float32 and int8) on one core: seconds from the
start of Python to the first feature, CPU milliseconds of one warm query image with both views (goal: 30), and images a
CPU second in batches. Without `--model` it is EfficientNet-Lite0 at 96 x 96 with random weights.

`--engines` measures images a CPU second of one batch in torch, onnxruntime and, where installed, OpenVINO, one thread,
from uint8 images of the network's size to raw features; beside it the least cosine to torch in float32. "default" is
the bundled model, other networks are those of recipes with random weights: their cosines show rounding, not accuracy,
in int8 too.

`--query` measures the way of one query image, an image file, to ten hits in a store of random tracklets: warm, one
thread, medians in milliseconds of CPU time and by the clock, with the parts and onnxruntime's bare `session.run`.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from retrieval import peak_memory, peer
from vreid.data.records import Records
from vreid.retrieval import SUBMISSION, FeatureSet, PostProcessing, rank, rerank
from vreid.retrieval.features import Sides, unit_rows
from vreid.retrieval.postprocessing.bias import Bias
from vreid.retrieval.postprocessing.pipeline import search_all
from vreid.retrieval.postprocessing.tracklet_features import mean_features, tracklet_units
from vreid.store.interface import Filter
from vreid.store.search import SearchConfig, search_tracklets

QUERIES, IMAGES, TRACKLETS, CAMERAS, VEHICLES = 1103, 31238, 991, 12, 333


def labels() -> tuple[Records, Records]:
    """Records of queries and gallery; every query shows a tracklet's vehicle in that tracklet's camera."""
    generator = np.random.default_rng(0)
    vehicle, camera = generator.integers(VEHICLES, size=TRACKLETS), generator.integers(CAMERAS, size=TRACKLETS)
    sides = []
    for name, of_image in (
        ("query", generator.integers(TRACKLETS, size=QUERIES)),
        ("gallery", np.r_[np.arange(TRACKLETS), np.sort(generator.integers(TRACKLETS, size=IMAGES - TRACKLETS))]),
    ):
        sides.append(
            Records.of(
                path=[f"{name}/{i}.jpg" for i in range(len(of_image))],
                identity=[str(vehicle[t]) for t in of_image],
                camera=[f"c{camera[t]:03}" for t in of_image],
                tracklet=[str(t) for t in of_image],
            )
        )
    return sides[0], sides[1]


def features(query: Records, gallery: Records, dimensions: int, seed: int) -> Sides:
    """One model's features of both sides."""
    generator = np.random.default_rng(seed)
    parts = {
        "identity": (VEHICLES, 1.0),
        "camera": (CAMERAS, 1.0),
        "tracklet": (TRACKLETS, 1.5),
    }
    drawn = {
        name: np.float32(scale) * generator.standard_normal((rows, dimensions), dtype=np.float32)
        for name, (rows, scale) in parts.items()
    }
    sides = []
    for records in (query, gallery):
        out = np.empty((len(records), dimensions), dtype=np.float32)
        for start in range(0, len(out), 1024):
            block = slice(start, start + 1024)
            some = 2 * generator.standard_normal((len(out[block]), dimensions), dtype=np.float32)
            for name, values in drawn.items():
                some += values[[int(v.lstrip("c")) % len(values) for v in getattr(records, name).values[block]]]
            out[block] = some / np.linalg.norm(some, axis=1, keepdims=True)
        sides.append(FeatureSet(out, records, normalised=True, model=f"{seed:x}"))
    return sides[0], sides[1]


def bare_products(sides: Sides) -> tuple[float, float]:
    """CPU seconds of the products of every set, and of the additional ones of sets whose frames are compared."""
    query, gallery = sides
    start = time.process_time()
    for camera in range(CAMERAS):
        name = f"c{camera:03}"
        images = gallery.features[gallery.records.camera.values == name].astype(np.float64)
        moment = images.T @ images
        moment[np.diag_indices_from(moment)] += len(images)
        factor = cho_factor(moment, lower=True, overwrite_a=True)
        for side in (query.features[query.records.camera.values == name].astype(np.float64), images):
            cho_solve(factor, side.T)
    whitening = time.process_time() - start
    start = time.process_time()
    for first in range(0, len(gallery), 4096):
        query.features @ gallery.features[first : first + 4096].T
    once = time.process_time() - start
    return whitening + 2 * once, once


def beside_peer(sides: Sides) -> None:
    """Print the cost of re-ranking the tracklets of one set, ours and a peer's."""
    query, gallery = sides
    units, count = tracklet_units(gallery.records)
    unit_UD = mean_features(gallery.features, units, count)
    seconds = {}
    for name, work in (("peer", peer), ("vreid", rerank)):
        work(query.features[:40, :64], unit_UD[:40, :64])  # loads libraries
        start = time.process_time()
        work(query.features, unit_UD)
        seconds[name] = time.process_time() - start
    print(
        f"re-ranking {len(query):,} x {count:,} tracklets, k1=20 k2=6: peer {seconds['peer']:.2f} CPU s, "
        f"vreid {seconds['vreid']:.2f}, {seconds['peer'] / seconds['vreid']:.1f} x"
    )


def extraction(count: int = 4) -> None:
    """Print images per CPU second of each network of the ensemble, and the total time."""
    import torch

    from small_variants import rate
    from vreid.models.reid_model import build_from
    from vreid.recipes import recipe
    from vreid.reproduce.tables.dmt import MODELS
    from vreid.training.precision import autocast, choose_precision

    torch.set_num_threads(1)
    place = torch.device("cpu")
    names = [name for name, *_ in MODELS.values()]
    sets = {name: 2 * names.count(name) for name in names} | {"camera_model": 1, "orientation_model": 1}
    rates: dict[tuple[str, int], float] = {}
    hours, images = 0.0, 4 * (QUERIES + IMAGES)
    print(f"one thread; {images:,} pictures ({QUERIES + IMAGES:,} images, four views) for each set")
    for name, times in sets.items():
        config = recipe(name)
        height, width = config.transform.height, config.transform.width
        network = config.model.backbone, height
        if network not in rates:
            model = build_from(config.model).to(memory_format=torch.channels_last).eval()
            precision = choose_precision("auto", place, model, training=False).dtype
            pictures = torch.randn(count, 3, height, width).contiguous(memory_format=torch.channels_last)
            with torch.inference_mode(), autocast(precision, place):
                rates[network] = rate(count, lambda model=model, pictures=pictures: model(pictures), 3)
        took = images / rates[network] / 3600
        hours += times * took
        print(f"{name:22} {height} x {width}  {rates[network]:6.2f} images/s  {took:5.1f} h  x {times}", flush=True)
    print(f"all {sum(sets.values())} sets: {hours:.0f} h of one thread, by multiplication")


COLD = """
import sys, time
import numpy as np, vreid
model = vreid.load_model(sys.argv[1], backend=sys.argv[2])
model.embed(np.zeros((120, 160, 3), np.uint8))
"""


def embedder(model: str | None) -> None:
    """Print what one image and many cost in torch and in onnxruntime, warm and from the start of Python."""
    import subprocess
    import sys
    from dataclasses import asdict

    import torch

    import vreid
    from vreid.data.augment import TestTransform
    from vreid.errors import InputError
    from vreid.inference.onnx_export import export_onnx
    from vreid.models import ModelConfig, build_from, save_weights

    torch.set_num_threads(1)
    images = list(np.random.default_rng(0).integers(0, 256, (64, 180, 240, 3), dtype=np.uint8))
    with TemporaryDirectory() as folder:
        file = Path(model or f"{folder}/random.safetensors")
        if model is None:
            torch.manual_seed(0)
            config = ModelConfig("tf_efficientnet_lite0")
            transform = TestTransform(96, 96, mean=(0.5,) * 3, std=(0.5,) * 3)
            facts = {"kind": "model", "model": asdict(config), "num_identities": None, "transform": asdict(transform)}
            save_weights(file, build_from(config).state_dict(), facts)
        forms = [("torch", file, "torch")]
        for name, int8 in (("onnxruntime", False), ("onnxruntime, int8", True)):
            try:
                forms.append(
                    (name, export_onnx(file, Path(folder) / f"{len(forms)}.onnx", int8=int8).path, "onnxruntime")
                )
            except InputError as error:
                print(f"{name}: {error}")
        print(f"{'':18} {'MB':>6} {'cold s':>7} {'query ms':>9} {'images/s':>9}")
        for name, path, backend in forms:
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", COLD, str(path), backend], check=True)
            cold = time.perf_counter() - start
            loaded = vreid.load_model(path, backend=backend)  # type: ignore[arg-type]
            loaded.embed(images[:2])
            times = []
            for image in images[:20]:
                start = time.process_time()
                loaded.embed(image)
                times.append(time.process_time() - start)
            start = time.process_time()
            loaded.embed(images)
            many = len(images) / (time.process_time() - start)
            size = path.stat().st_size / 1e6
            print(f"{name:18} {size:6.1f} {cold:7.1f} {1000 * float(np.median(times)):9.1f} {many:9.0f}", flush=True)


def random_model(name: str, folder: Path) -> Path:
    """Write the network of a recipe with random weights."""
    from dataclasses import asdict

    import torch

    from vreid.models import build_from, save_weights
    from vreid.recipes import recipe

    torch.manual_seed(0)
    config, file = recipe(name), folder / f"{name}.safetensors"
    transform = {"height": config.transform.height, "width": config.transform.width}
    facts = {"kind": "model", "model": {**asdict(config.model), "weights": ""}, "num_identities": None}
    save_weights(file, build_from(config.model).state_dict(), {**facts, "transform": transform})
    return file


def engine_runs(source: Path | str, images: NDArray[np.uint8], folder: Path) -> dict[str, Callable[[], Any]]:
    """Functions that compute the raw features of `images` (N, H, W, 3) in each engine that is installed."""
    import copy

    import onnxruntime

    from vreid.inference.onnx_backend import IMAGES, NECK
    from vreid.inference.onnx_graph import make_graph
    from vreid.inference.quantisation import quantise
    from vreid.inference.torch_backend import TorchBackend
    from vreid.training.extract import load_trained

    runs: dict[str, Callable[[], Any]] = {}
    for precision in ("float32", "bfloat16"):
        backend = TorchBackend(load_trained(source), precision=precision)  # type: ignore[arg-type]
        runs[f"torch, {precision}"] = lambda backend=backend: backend.run(images).features
    graph = make_graph(load_trained(source))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for form, model in {"float32": graph, "int8": quantise(copy.deepcopy(graph), list(images))}.items():
        (folder / f"{form}.onnx").write_bytes(model.SerializeToString())
        session = onnxruntime.InferenceSession(f"{folder}/{form}.onnx", options, ["CPUExecutionProvider"])
        runs[f"onnxruntime, {form}"] = lambda session=session: session.run([NECK], {IMAGES: images})[0]
    if find_spec("openvino"):
        import openvino

        for precision, file, hint in (
            ("float32", "float32", "f32"),
            ("bfloat16", "float32", "bf16"),
            ("int8", "int8", "f32"),
        ):
            settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": 1}
            compiled = openvino.Core().compile_model(f"{folder}/{file}.onnx", "CPU", settings)
            runs[f"OpenVINO, {precision}"] = lambda compiled=compiled: compiled(images)[compiled.output(NECK)]
    return runs


def engines(networks: list[str], count: int, repeats: int = 3) -> None:
    """Print images per CPU second of each engine, and how far its features are from torch's in float32."""
    import torch
    from PIL import Image

    from vreid.inference.parity import simulated_images
    from vreid.training.extract import load_trained

    torch.set_num_threads(1)
    print(f"{'network':16} {'images':>9}  {'engine':22} {'images/s':>8} {'/ torch':>8} {'cosine':>9}")
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in networks:
            source = name if name == "default" else random_model(name, folder)
            transform = load_trained(source).transform
            size = transform.width, transform.height
            pictures = [Image.fromarray(image).resize(size) for image in simulated_images(count)]
            images = np.stack([np.asarray(picture) for picture in pictures])
            torch_rate, torch_features = 0.0, np.empty(0)
            for engine, run in engine_runs(source, images, folder).items():
                found = unit_rows(np.asarray(run(), dtype=np.float32))
                seconds = []
                for _ in range(repeats):
                    start = time.process_time()
                    run()
                    seconds.append(time.process_time() - start)
                rate = count / min(seconds)
                if not torch_rate:
                    torch_rate, torch_features = rate, found
                cosine = float(np.einsum("nd,nd->n", found, torch_features).min())
                row = f"{name:16} {size[1]:4} x{size[0]:4}  {engine:22} {rate:8.2f} {rate / torch_rate:8.2f}"
                print(f"{row} {cosine:9.6f}", flush=True)


def one_query(tracklets: int, repeats: int = 30) -> None:
    """Print what the way of an image file to ten hits costs in a store of random tracklets, and its parts."""
    import io

    from PIL import Image

    from serve import fill
    from vreid import Store
    from vreid.data.images import read_image
    from vreid.inference.embedder import load_model
    from vreid.inference.parity import simulated_images

    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        crop = io.BytesIO()
        Image.effect_noise((160, 120), 60).convert("RGB").save(crop, "JPEG")
        fill(folder / "site", tracklets, crop.getvalue())
        paths = [folder / f"{number}.jpg" for number in range(8)]
        for path, image in zip(paths, simulated_images(len(paths)), strict=True):
            Image.fromarray(image).resize((240, 180)).save(path, quality=90)
        model = load_model(backend="onnxruntime")
        facts = model.backend.facts
        resized = [facts.resize(read_image(path))[None] for path in paths]
        with Store.open(folder / "site") as store:
            features = [store.query(path) for path in paths]
            works: dict[str, Callable[[int], object]] = {
                "read and decode the file (240 x 180)": lambda place: read_image(paths[place]),
                "session.run, one image": lambda place: model.backend.run(resized[place]),
                "embed: both views of a file": lambda place: model.embed(paths[place]),
                "query: features and heads of a file": lambda place: store.query(paths[place]),
                "search of a query that is made": lambda place: search_tracklets(
                    store.vectors, features[place], Filter(), SearchConfig(top=10), store.threshold()
                ),
                "Store.search of a file": lambda place: store.search(paths[place], top=10),
            }
            bare = 0.0
            print(f"{tracklets:,} tracklets of {model.dimensions} dimensions, {facts.height} x {facts.width} pixels")
            print(f"{'':38} {'CPU ms':>7} {'clock ms':>9} {'/ 2 runs':>9}")
            for name, work in works.items():
                work(0)
                spent = []
                for number in range(repeats):
                    clock, cpu = time.perf_counter(), time.process_time()
                    work(number % len(paths))
                    spent.append((time.process_time() - cpu, time.perf_counter() - clock))
                cpu, clock = 1000 * np.median(spent, axis=0)
                bare = 2 * cpu if name.startswith("session") else bare
                ratio = f"{cpu / bare:9.2f}" if bare else ""
                print(f"{name:38} {cpu:7.1f} {clock:9.1f} {ratio}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=16)
    parser.add_argument("--dimensions", type=int, default=2048)
    parser.add_argument("--profile", action="store_true", help="also say where the seconds go")
    parser.add_argument("--peer", metavar="DIR", help="checkout of a public implementation of re-ranking")
    parser.add_argument("--extraction", action="store_true", help="measure the networks instead")
    parser.add_argument("--embedder", action="store_true", help="measure images in memory instead")
    parser.add_argument("--engines", action="store_true", help="measure torch, onnxruntime and OpenVINO instead")
    parser.add_argument("--networks", nargs="+", default=["default", "resnet50_ibn_a", "transreid"])
    parser.add_argument("--images", type=int, default=8, help="with --engines: size of the batch")
    parser.add_argument("--query", action="store_true", help="measure one query image in a store instead")
    parser.add_argument("--tracklets", type=int, default=100_000, help="with --query: size of the store")
    parser.add_argument("--model", help="with --embedder: a .safetensors file")
    arguments = parser.parse_args()
    if arguments.engines:
        return engines(arguments.networks, arguments.images)
    if arguments.query:
        return one_query(arguments.tracklets)
    if arguments.embedder:
        return embedder(arguments.model)
    if arguments.extraction:
        return extraction()
    query, gallery = labels()
    sets = [features(query, gallery, arguments.dimensions, seed) for seed in range(arguments.sets + 2)]
    *members, camera, orientation = sets
    biases = {"camera_bias": Bias(0.1, "after", camera), "orientation_bias": Bias(0.05, "after", orientation)}
    post = PostProcessing(**{**vars(PostProcessing.parse("dmt")), **biases})
    of_each, of_frames = bare_products(members[0])
    products = of_each * len(sets) + of_frames * len(members)
    if arguments.peer:
        os.environ["VREID_PEER"] = arguments.peer
        beside_peer(members[0])
    profile = cProfile.Profile(time.process_time)
    before, start = peak_memory(reset=True), time.process_time()
    if arguments.profile:
        profile.enable()
    ranking = rank(search_all(members, post), SUBMISSION, 100)
    profile.disable()
    seconds, megabytes = time.process_time() - start, (peak_memory() - before) / 1e6
    print(
        f"{len(members)} sets and 2 biases, each {QUERIES:,} x {IMAGES:,} features of {arguments.dimensions} dimensions"
    )
    print(f"bare products {products:8.1f} CPU s")
    print(f"everything    {seconds:8.1f} CPU s, {seconds / products:.2f} x, {megabytes:,.0f} MB beyond the features")
    print(f"{ranking}")
    if arguments.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(14)


if __name__ == "__main__":
    main()
