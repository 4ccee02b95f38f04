"""Is the simulator's new scenario a domain gap, and not lost information?

Two worlds with byte-equal tests: in one no training picture comes from the new cameras, in the other some do (of
further vehicles). A gap shows as a lower plain mAP at the new cameras in the first; that the information is there shows
as about equal plain mAP in the second. Figures are of simulated pictures. Every stage keeps what it made, so a stopped
run goes on.

    python studies/new_scenario.py --out runs/new_scenario --seeds 0 1
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from vreid.console import ProgressBars
from vreid.data.dataset import join
from vreid.data.open import open_dataset
from vreid.diagnostics.slices import NEW, SEEN
from vreid.files import write_json
from vreid.recipes import recipe
from vreid.retrieval import PostProcessing, interval
from vreid.retrieval_run import RetrievalRun
from vreid.simulator import PRESETS, simulate
from vreid.training.supervised import train
from vreid.workflow import extract

GAP, KEPT = 10.0, 5.0
"""Points of plain mAP: what the gap must at least be, and what must at most be missing once labels are there."""


def prepare(
    out: Path, preset: str, seed: int, labelled: bool, overrides: dict[str, str], bars: ProgressBars
) -> RetrievalRun:
    """Simulate, train and extract one side of the comparison."""
    world = replace(PRESETS[preset], label_new_scene=labelled)
    simulate(out / "data", preset=world, seed=seed, progress=bars)
    real = open_dataset(out / "data" / "AIC21_Track2_ReID", labels="auto")
    data = join(real, open_dataset(out / "data" / "AIC21_Track2_ReID_Simulation"))
    train(recipe("small_random", overrides), data.train, out=out / "run", resume=True, progress=bars)
    search = extract(out / "run", real, out / "features", progress=bars)
    # Which cameras are new is the same question in both worlds: those of the preset's new scene.
    return replace(search, trained_cameras=world.seen_cameras)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/new_scenario"))
    parser.add_argument("--preset", default="demo")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="change the recipe")
    options = parser.parse_args()
    overrides = dict(pair.split("=", 1) for pair in options.set)
    results = []
    with ProgressBars() as bars:
        for seed in options.seeds:
            line: dict[str, float] = {"seed": seed}
            for name, labelled in (("without labels", False), ("with labels", True)):
                folder = options.out / f"seed{seed}-{name.replace(' ', '-')}"
                search = prepare(folder, options.preset, seed, labelled, overrides, bars)
                for part, metrics in search.evaluate(PostProcessing()).items():
                    if part in (SEEN, NEW):
                        low, high = (100 * value for value in interval(metrics, "mAP"))
                        line[f"{name}, {part}"] = 100 * metrics.mAP
                        print(f"seed {seed}, {name}, {part}: plain mAP {100 * metrics.mAP:.1f} ({low:.1f}-{high:.1f})")
            results.append(line)
    means = {key: float(np.mean([line[key] for line in results])) for key in results[0] if key != "seed"}
    gap = means[f"without labels, {SEEN}"] - means[f"without labels, {NEW}"]
    missing = means[f"with labels, {SEEN}"] - means[f"with labels, {NEW}"]
    enough, few = ("" if gap >= GAP else "NOT "), ("" if missing <= KEPT else "NOT ")
    print(f"Mean of {len(results)} worlds, plain mAP at the new cameras below that at the seen ones:")
    print(f"  without labels from the new cameras {gap:.1f} points, {enough}at least {GAP:g};")
    print(f"  with labels from them {missing:.1f} points, {few}at most {KEPT:g}.")
    found = {"preset": options.preset, "settings": overrides, "worlds": results, "gap": gap, "missing": missing}
    write_json(options.out / "results.json", found)
    raise SystemExit(0 if gap >= GAP and missing <= KEPT else 1)


if __name__ == "__main__":
    main()
