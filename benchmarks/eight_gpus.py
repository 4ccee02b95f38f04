"""Estimate hours and GB of DMT's Table 6 on eight GPUs: `PYTHONPATH=src python benchmarks/eight_gpus.py`.

Nothing is measured. Multiply-adds of every network are counted on one image; a GPU is assumed to train
R50-IBN-a at 256 x 256 with `--rate` images a second and all other networks at the same multiply-adds a second. Images
are those of the real data sets (docs/guides/tables.md); the order of stages is that of `vreid table` under torchrun.
"""

from __future__ import annotations

import argparse
import heapq
from dataclasses import replace
from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from vreid.models.reid_model import build_from
from vreid.models.spgan import Discriminator, SiameseNet
from vreid.recipes import recipe
from vreid.recipes.spgan import translation
from vreid.reproduce.schedule import available, longest_first, tasks_of
from vreid.reproduce.stages import Adapted, Crops, Features, Model, SimulatedWorld, Stage, Translations
from vreid.reproduce.tables import TABLES
from vreid.reproduce.tables.scales import scale_named
from vreid.training.train_config import TrainConfig
from vreid.training.translate import TranslateConfig

IMAGES = {"real": 52_717, "crop": 52_717, "synthetic": 192_150, "translated": 192_150}
TEST, CLASSES = 32_341, 1_802
CROPPED = 85_058
TUNED = 3 * 300 * 96
"""Images that stage 2 learns from: 3 epochs of 300 batches of 12 x 8."""
FORWARD = 3
"""Training takes as long as so many forward passes."""


def forward_of(network: torch.nn.Module, side: int) -> float:
    """Multiply-adds of one image of side x side."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network.eval()(torch.zeros(1, 3, side, side))
    return counter.get_total_flops() / 2


def network_of(config: TrainConfig) -> torch.nn.Module:
    """The network of a recipe."""
    return build_from(config.model, CLASSES, {})


@cache
def forward_in(config: TrainConfig) -> float:
    """Multiply-adds of one image of a recipe's size."""
    return forward_of(network_of(config), config.transform.height)


def work(stage: Stage) -> float:
    """Multiply-adds of a stage, but for clustering, ranking and reading."""
    if isinstance(stage, Model):
        config = stage.training
        images = sum(IMAGES[part] for part in stage.parts) * config.epochs
        return FORWARD * images * forward_in(config)
    if isinstance(stage, Translations):
        return pair_of(stage.config) * IMAGES["real"] * stage.config.epochs + IMAGES["synthetic"] * forward_of(
            stage.config.generator(), stage.config.size
        )
    if isinstance(stage, Adapted):
        return forward_in(stage.model.training) * (2 * TEST + FORWARD * TUNED)
    if isinstance(stage, Crops):
        return CROPPED * forward_in(stage.model.training)
    if isinstance(stage, Features):
        return TEST * len(stage.views) * forward_in(stage.first_model.training)
    return 0.0


def pair_of(config: TranslateConfig) -> float:
    """Multiply-adds of a step of SPGAN for one image of each domain."""
    judge = Discriminator(config.filters, config.patch_layers)
    siamese = SiameseNet(config.size, config.filters, config.metric_stages)
    generator, judged, embedded = (forward_of(network, config.size) for network in (config.generator(), judge, siamese))
    share = 1 / config.generator_every  # six translations and two verdicts are learned from, else two are made
    moved = FORWARD * (6 * generator + 2 * judged + 4 * embedded) * share + 2 * generator * (1 - share)
    return moved + FORWARD * (4 * judged + 4 * embedded)


def describe(stage: Stage) -> str:
    """Name a stage by its network and what it is for."""
    if isinstance(stage, Model):
        config = stage.training
        return f"model {config.recipe}, {config.transform.height} x {config.transform.height}, {'+'.join(stage.parts)}"
    if isinstance(stage, Adapted):
        return f"stage 2, {stage.model.training.recipe}"
    if isinstance(stage, Features):
        return f"features, {stage.first_model.training.recipe}"
    return stage.kind


def scheduled(tasks: list[Stage], hours: dict[Stage, float], gpus: int) -> list[tuple[float, int]]:
    """Time and number of busy GPUs after each end of a stage, from the start on."""
    left, running, now = longest_first(tasks, hours.__getitem__), list[tuple[float, int, Stage]](), 0.0
    busy = list[tuple[float, int]]()
    while left or running:
        missing = {task for task in (*left, *(task for *_, task in running)) if task.complete}
        for task in available(left, missing)[: gpus - len(running)]:
            left.remove(task)
            heapq.heappush(running, (now + hours[task], len(left), task))
        busy.append((now, len(running)))
        now = heapq.heappop(running)[0]
    return [*busy, (now, 0)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=500, help="assumed images/s of training R50-IBN-a at 256 x 256")
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--tables", nargs="+", default=["dmt.6"])
    asked = parser.parse_args()
    base = recipe("resnet50_ibn_a")
    per_second = asked.rate * FORWARD * forward_in(base)
    scale = replace(
        scale_named("gpu"),
        data=lambda layout: SimulatedWorld("city", 1, layout),
        training=recipe,
        cropping=replace(scale_named("gpu").cropping, training=recipe("crop_model")),
        translation=translation("spgan"),
        camera=replace(scale_named("gpu").camera, training=recipe("camera_model")),
        orientation=replace(scale_named("gpu").orientation, training=recipe("orientation_model")),
        seeds=1,
    )
    rows = [row for name in asked.tables for row in TABLES[name].seeded(scale, 1)]
    tasks = tasks_of([row.evaluated for row in rows], lambda stage: False)
    hours = {task: work(task) / per_second / 3600 for task in tasks}
    for task, value in sorted(hours.items(), key=lambda item: -item[1]):
        if value >= 0.05:
            size = ""
            if isinstance(task, Model):
                weights = sum(weight.numel() for weight in network_of(task.training).parameters()) * 4 / 1e9
                size = f"; weights {weights:.2f} GB, run folder {weights * 5:.1f} GB (two checkpoints with momentum)"
            print(f"{value:7.1f} h  {describe(task)}{size}")
    print(f"{sum(hours.values()):7.1f} GPU hours in {len(tasks)} stages and rows")
    busy = scheduled(tasks, hours, asked.gpus)
    print(f"{busy[-1][0]:7.1f} h on {asked.gpus} GPUs; busy GPUs from each hour on:")
    by_time = {f"{begun:.1f}": count for begun, count in busy}  # the last of each tenth of an hour
    print("       ", ", ".join(f"{count} from {begun}" for begun, count in by_time.items()))


if __name__ == "__main__":
    main()
