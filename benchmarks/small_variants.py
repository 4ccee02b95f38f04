"""Speed of the small variants: `PYTHONPATH=src python benchmarks/small_variants.py`.

Images per CPU second on one thread, for a whole training step and for extraction of both views, with random images in
memory (loading adds about five percent, see training.py). The minutes are those of a whole stage-1 run of the recipe on
a world of preset smoke (see IMAGES) on one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from vreid.models import BACKBONES, build
from vreid.recipes import recipe
from vreid.training.objective import Objective
from vreid.training.optimiser import build_optimiser
from vreid.training.precision import autocast, choose_precision
from vreid.training.targets import POSITIVES
from vreid.training.train_config import TrainConfig

IMAGES = {"camera_small": 1718, "orientation_small": 1200}
"""Training images that a recipe uses of a world of preset smoke: real ones, synthetic ones, otherwise both."""
BOTH = 2918
DEVICE = torch.device("cpu")


def small_variants() -> dict[str, TrainConfig]:
    """Return the recipes by name, `small` once for each small backbone."""
    small = recipe("small")
    backbones = [name for name in BACKBONES if name.endswith("_small")]
    found = {f"small, {name}": replace(small, model=replace(small.model, backbone=name)) for name in backbones}
    return found | {name: recipe(name) for name in ("camera_small", "orientation_small", "strdan_small")}


def rate(count: int, work: Callable[[], object], rounds: int) -> float:
    """Measure images per CPU second: the median of `rounds` after one warm-up round."""
    seconds = []
    for _ in range(rounds + 1):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return count / statistics.median(seconds[1:])


def steps(config: TrainConfig, rounds: int) -> tuple[float, float]:
    """Measure images per CPU second in training and in extraction."""
    count = config.num_identities * config.num_instances
    classes = torch.arange(count) // config.num_instances
    heads = {name: 6 for name in config.heads}
    options = replace(config.model.transreid, image_size=(config.transform.height, config.transform.width))
    transreid = options if config.model.backbone.startswith("transreid") else None
    model = build(config.model.backbone, 300, neck=config.model.neck, heads=heads, transreid=transreid)
    learned = nn.ModuleDict({"model": model.to(memory_format=torch.channels_last).train()})
    objective, optimiser = Objective(config.losses, config.target), build_optimiser(learned, config.optimiser)
    images = torch.randn(count, 3, config.transform.height, config.transform.width)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = {POSITIVES: classes, config.target: classes, **{name: classes % 6 for name in heads}}

    precision = {
        training: choose_precision(config.precision, DEVICE, model, training=training).dtype
        for training in (True, False)
    }

    def step() -> None:
        with autocast(precision[True], DEVICE):
            terms: dict[str, Tensor] = objective(model(images), labels)
        torch.stack(list(terms.values())).sum().backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    def extraction() -> None:
        with torch.inference_mode(), autocast(precision[False], DEVICE):
            model(images), model(images.flip(-1))

    trained = rate(count, step, rounds)
    model.eval()
    return trained, rate(count, extraction, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", type=int, help="side of square images, instead of the recipe's size")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("images per CPU second (one thread); minutes of a whole stage-1 run on a world of preset smoke")
    for name, config in small_variants().items():
        if options.side:
            config = replace(config, transform=replace(config.transform, height=options.side, width=options.side))
        trained, extracted = steps(config, options.rounds)
        size = f"{config.transform.height} x {config.transform.width}"
        minutes = config.epochs * IMAGES.get(name, BOTH) / trained / 60
        print(f"{name:32s} {size:>9s}  train {trained:5.0f}  extract {extracted:5.0f}  {minutes:4.1f} min", flush=True)


if __name__ == "__main__":
    main()
