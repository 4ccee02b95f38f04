"""Evaluate models trained on simulated images only on real crops of two cameras.

Two models are trained from random weights on simulated worlds that differ only in whether they contain motorcycles,
and are evaluated on real crops from two cameras. Every image is a query against all images of the other camera
(protocol cross-camera); each camera has one image per vehicle, so mAP is the mean reciprocal rank. Nothing may be
chosen with these labels: worlds, recipe and rows are fixed below. Finished stages are stored, so an interrupted run
continues.

    python studies/real_pictures.py FOLDER --out runs/real_pictures

FOLDER holds a table with path, identity, camera and type (motorcycle, or any other word for four wheels).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vreid.data.dataset import join
from vreid.data.open import open_dataset
from vreid.data.records import Records
from vreid.diagnostics.baselines import hsv_histogram, pixels, random_vectors
from vreid.diagnostics.slices import ALL as ALL_CAMERAS
from vreid.files import write_json
from vreid.progress_bars import ProgressBars
from vreid.recipes import recipe
from vreid.retrieval import FeatureSet, PostProcessing, interval
from vreid.retrieval.postprocessing.camera_statistics import CameraMean
from vreid.retrieval_run import RetrievalRun
from vreid.simulator import PRESETS, simulate
from vreid.simulator.city.presets import Preset, Scene
from vreid.training.supervised import train
from vreid.workflow import extract

FOUR_WHEELERS, ALL = "four-wheelers", "all"
WORLD = replace(
    PRESETS["demo"],
    name="real_pictures",
    scenes=(Scene("day_a", 6), Scene("day_b", 6), Scene("day_c", 6), Scene("day_d", 6)),
    label_new_scene=True,
    train_identities=1000,
    synthetic_identities=600,
    models=40,
    bystanders=24,
)
"""All light there is, and as many vehicles as two cores render and learn in half an hour."""
WORLDS = {
    "without motorcycles": WORLD,
    "with motorcycles": replace(WORLD, motorcycle_share=0.5),
}
POSTS = {"plain": PostProcessing(), "camera mean": PostProcessing(camera_mean=CameraMean())}


def trained(out: Path, world: Preset, seed: int, overrides: dict[str, str], bars: ProgressBars) -> Path:
    """Simulate `world`, train on its images of both domains, return the run folder."""
    simulate(out / "data", preset=world, seed=seed, progress=bars)
    real = open_dataset(out / "data" / "AIC21_Track2_ReID")
    data = join(real, open_dataset(out / "data" / "AIC21_Track2_ReID_Simulation"))
    train(recipe("small_random", overrides), data.train, out=out / "run", resume=True, progress=bars)
    return out / "run"


def without_motorcycles(search: RetrievalRun) -> RetrievalRun:
    """The same search among four-wheelers only."""

    def four_wheelers(features: FeatureSet) -> FeatureSet:
        return features[features.records.vehicle_type.values != "motorcycle"]

    return replace(search, query=four_wheelers(search.query), gallery=four_wheelers(search.gallery))


def evaluated(search: RetrievalRun) -> dict[str, dict[str, dict[str, float]]]:
    """mAP with its 95 % bootstrap interval, and rank-1, for each post-processing and part of the images."""
    lines: dict[str, dict[str, dict[str, float]]] = {}
    for part, some in ((FOUR_WHEELERS, without_motorcycles(search)), (ALL, search)):
        for name, post in POSTS.items():
            metrics = some.evaluate(post)[ALL_CAMERAS]
            low, high = interval(metrics, "mAP")
            lines.setdefault(name, {})[part] = {
                "mAP": metrics.mAP,
                "low": low,
                "high": high,
                "rank1": metrics.rank1,
                "queries": metrics.num_queries,
            }
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/real_pictures"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=WORLDS, help="train this one only, and judge nothing")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="change the recipe")
    options = parser.parse_args()
    overrides = dict(pair.split("=", 1) for pair in options.set)
    runs: dict[str, Path] = {}
    with ProgressBars() as bars:
        for name, world in WORLDS.items():
            if options.only in (None, name):
                folder = options.out / f"seed{options.seed}-{name.replace(' ', '-')}"
                runs[name] = trained(folder, world, options.seed, overrides, bars)
        if options.only:
            return
        real = open_dataset(options.folder)
        searches = {name: extract(run, real, run.parent / "real", progress=bars) for name, run in runs.items()}
    makers: dict[str, Callable[[Records], FeatureSet]] = {
        "chance": random_vectors,
        "32 x 32 pixels": pixels,
        "HSV histogram": hsv_histogram,
    }
    plain = next(iter(searches.values()))
    searches = {name: plain.with_features(make) for name, make in makers.items()} | {
        f"simulated {name}": search for name, search in searches.items()
    }
    found = {name: evaluated(search) for name, search in searches.items()}
    write_json(options.out / "results.json", {"seed": options.seed, "settings": overrides, "rows": found})
    table = Table(title=f"mAP in percent (95 % interval) on real pictures; protocol {real.protocol.name}")
    for column in ("", "", *(f"{part}{what}" for part in (FOUR_WHEELERS, ALL) for what in ("", ", rank-1"))):
        table.add_column(column)
    for name, posts in found.items():
        for post, parts in posts.items():
            cells = [
                cell
                for part in parts.values()
                for cell in (
                    f"{100 * part['mAP']:.1f} ({100 * part['low']:.1f} to {100 * part['high']:.1f})",
                    f"{100 * part['rank1']:.1f}",
                )
            ]
            table.add_row(name, post, *cells)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
