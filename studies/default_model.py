"""Make the model that ships with the package: world, training, calibration, files and their figures.

    python studies/default_model.py [--out runs/default_model] [--validate FOLDER]

The world (`recipes/default.py: WORLD`) takes a quarter of an hour on one core, the two trainings one and a half hours;
all stages are kept, so a stopped run goes on. Thresholds and temperatures are calibrated on another simulated world.
FOLDER is a labelled data set of real images for which figures are printed (docs/results/default_model.md); nothing is
trained on it. The files go into src/vreid/models/bundled/.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vreid.console import echo
from vreid.data.dataset import Dataset, join
from vreid.data.loading import test_loader
from vreid.data.open import open_dataset
from vreid.data.records import Records
from vreid.data.seeds import generator
from vreid.diagnostics.slices import ALL
from vreid.inference.attribute_heads import NEAR, fit_angle_temperature, fit_class_temperature
from vreid.inference.embedder import Embedder, load_model
from vreid.inference.onnx_export import export_onnx
from vreid.models.reid_model import CLASSIFIERS
from vreid.models.weights import load_weights, save_half
from vreid.progress_bars import ProgressBars
from vreid.recipes.default import CHECK_SEED, CHECK_WORLD, WORLD, WORLD_SEED, default, refined
from vreid.retrieval_run import RetrievalRun
from vreid.simulator import Preset, simulate
from vreid.training.extract import TrainedModel, load_trained
from vreid.training.model_file import BUNDLED
from vreid.training.supervised import train
from vreid.workflow import extract

FALSE_MATCH, MISS, LEAVE_OUT = 0.01, 0.05, 0.5
HEAD_IMAGES = 6000
RIDGE = 1e-4
COMMON_TYPES = ("motorcycle", "bus", "truck")
"""Types of the simulator that sets with car, truck, bus and motorcycle know too; its others are cars there."""


def simulated(out: Path, preset: Preset, seed: int, bars: ProgressBars) -> tuple[Dataset, Dataset]:
    """Simulate a world; return its real-like and its synthetic data set."""
    simulate(out, preset=preset, seed=seed, progress=bars)
    return open_dataset(out / "AIC21_Track2_ReID", labels="auto"), open_dataset(out / "AIC21_Track2_ReID_Simulation")


def trained(data: Records, out: Path, bars: ProgressBars) -> Path:
    """Train twice, the second time from the weights of the first on larger images; return the model file."""
    first = train(default(), data, out=out / "first", resume=True, progress=bars)
    weights = load_weights(first)[0]
    return train(refined(), data, out=out / "refined", resume=True, progress=bars, initial_weights=weights)


def fit_heads(model: TrainedModel, images: Records) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Fit linear heads for colour, type and orientation on the pooled features of labelled simulated images.

    Logistic regression for the classes, least squares for sine and cosine of the orientation.

    Returns:
        Weights of the heads, and the facts "heads" and "labels" of the model file.
    """
    pooled_ND = pooled_features(model, images)
    weights: dict[str, Tensor] = {}
    heads, labels = {"orientation": 2}, {}
    for name in ("color", "vehicle_type"):
        column = getattr(images, name)
        classes = column.compact()
        labels[name] = [str(value) for value in classes.names]
        heads[name] = len(labels[name])
        known = torch.from_numpy(np.flatnonzero(column.known))
        target = torch.from_numpy(classes.codes.astype(np.int64))[known]
        weights |= logistic_regression(name, pooled_ND[known], target, heads[name])
    angle = np.radians(images.orientation.astype(np.float64))
    known = torch.from_numpy(np.flatnonzero(np.isfinite(angle)))
    target_N2 = torch.from_numpy(np.stack([np.sin(angle), np.cos(angle)], axis=1)).float()[known]
    ones = torch.ones(len(known), 1)
    design = torch.cat([pooled_ND[known], ones], dim=1)
    ridge = RIDGE * len(known) * torch.eye(design.shape[1])
    solution = torch.linalg.solve(design.T @ design + ridge, design.T @ target_N2)
    weights |= {"heads.orientation.weight": solution[:-1].T.contiguous(), "heads.orientation.bias": solution[-1]}
    return weights, {"heads": heads, "labels": labels}


def logistic_regression(name: str, features_ND: Tensor, target_N: Tensor, classes: int) -> dict[str, Tensor]:
    """Fit a linear layer by L-BFGS with weight decay; return its weights under the names of the head."""
    layer = torch.nn.Linear(features_ND.shape[1], classes)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    optimiser = torch.optim.LBFGS(layer.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimiser.zero_grad()
        value = torch.nn.functional.cross_entropy(layer(features_ND), target_N) + RIDGE * layer.weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value.item()

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return {f"heads.{name}.weight": layer.weight.detach(), f"heads.{name}.bias": layer.bias.detach()}


@torch.inference_mode()
def pooled_features(model: TrainedModel, images: Records) -> Tensor:
    """Compute the features before the neck (N, D), which heads take."""
    network = model.model.eval()
    batches = test_loader(images, model.transform)
    return torch.cat([network.pool(network.backbone(batch.images)).float() for batch in batches])


def temperatures(model: Embedder, images: Records, labels: dict[str, list[str]]) -> dict[str, float]:
    """Fit the temperatures of the heads on held-out simulated images."""
    outputs, found = model.head_outputs([Path(path) for path in images.path]), {}
    for name in ("color", "vehicle_type"):
        number = {label: place for place, label in enumerate(labels[name])}
        values = getattr(images, name).values
        known = np.array([value in number for value in values])
        classes = np.array([number[value] for value in values[known]])
        found[name] = fit_class_temperature(outputs[name][known], classes)
        right = float((outputs[name][known].argmax(axis=1) == classes).mean())
        echo(f"{name}: {100 * right:.1f} % right on {known.sum():,} held-out simulated images")
    found["orientation"] = fit_angle_temperature(outputs["orientation"], images.orientation)
    predicted = np.degrees(np.arctan2(outputs["orientation"][:, 0], outputs["orientation"][:, 1]))
    error = np.abs((predicted - images.orientation + 180) % 360 - 180)
    echo(f"orientation: median error {np.median(error):.0f} degrees, {100 * (error < NEAR).mean():.0f} % within {NEAR}")
    return found


def mean_average_precision(run: RetrievalRun) -> str:
    """Format mAP of plain search and with the camera mean subtracted, for all vehicles and for four-wheelers."""
    four = replace(
        run,
        query=run.query[run.query.records.vehicle_type.values != "motorcycle"],
        gallery=run.gallery[run.gallery.records.vehicle_type.values != "motorcycle"],
    )
    cells = []
    for post in ("", "camera-mean"):
        values = [part.evaluate(post)[ALL].mAP for part in (run, four)]
        cells.append(f"{post or 'plain'} {values[0]:.3f} / {values[1]:.3f}")
    return ", ".join(cells)


def type_accuracy(model: Embedder, images: Records) -> float:
    """Return the share of images whose predicted type means the same as their label."""
    predicted = [str(one["vehicle_type"].value) for one in model.attributes([Path(path) for path in images.path])]
    words = np.array([value if value in COMMON_TYPES else "car" for value in predicted])
    return float((words == images.vehicle_type.values).mean())


def sample(images: Records, count: int) -> Records:
    """Return at most `count` images, drawn at random."""
    drawn = generator(0, "sample").permutation(len(images))[:count]
    return images[np.sort(drawn)]


def write_model(run: Path, path: Path, heads: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write the trained model in half precision, with these heads and without the classifier of the identities."""
    state, stored = load_weights(run)
    state = {name: value for name, value in state.items() if not name.startswith(("heads.", *CLASSIFIERS))}
    save_half(path, {**state, **heads}, {**stored, "num_identities": None, **facts})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/default_model"))
    parser.add_argument("--into", type=Path, default=BUNDLED)
    parser.add_argument("--validate", metavar="FOLDER", help="labelled real images, for figures only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with ProgressBars() as bars:
        real, synthetic = simulated(options.out / "world", WORLD, WORLD_SEED, bars)
        data = join(real, synthetic).train
        run = trained(data, options.out, bars)
        files = {suffix: options.into / f"default.{suffix}" for suffix in ("safetensors", "onnx", "md")}
        weights = files["safetensors"]
        heads, facts = fit_heads(load_trained(run), sample(data, HEAD_IMAGES))
        facts |= {"licence": "Apache-2.0", "card": files["md"].read_text()}
        write_model(run, weights, heads, facts)
        check, others = simulated(options.out / "check", CHECK_WORLD, CHECK_SEED, bars)
        model = load_model(weights, backend="torch")
        held_out = Records.concat([check.query, check.gallery, others.train])
        facts["temperatures"] = temperatures(model, sample(held_out, HEAD_IMAGES // 4), facts["labels"])
        found = extract(weights, check, options.out / "check_features", progress=bars)
        threshold = found.calibrate(fpir=FALSE_MATCH, miss_rate=MISS, leave_out=LEAVE_OUT)
        facts["threshold"] = threshold.as_dict()
        write_model(run, weights, heads, facts)
        exported = export_onnx(weights, files["onnx"], graph_only=True)
        echo(f"{exported}\n{threshold}\nsimulated, new cameras included: {mean_average_precision(found)}")
        if options.validate:
            known = open_dataset(options.validate)
            shown = extract(weights, known, options.out / "validation_features", progress=bars)
            echo(f"{options.validate}: {mean_average_precision(shown)}")
            echo(f"types right: {100 * type_accuracy(model, known.gallery):.1f} %")
    for file in files.values():
        echo(f"{file}: {file.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
