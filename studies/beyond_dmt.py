"""Steps that DMT does not have, against DMT's own post-processing, on the same features.

Each folder holds the features of one simulated world (`vreid extract`). Values of the steps are chosen on the
validation worlds by the mean of mAP over worlds; then every chosen step, and all of them together, is judged once on
the confirmation worlds, with the gain over DMT and its interval by bootstrap over the vehicles of each world. mAP is
that of the protocol `ai-city` over the full list. Figures are of simulated pictures.

    python studies/beyond_dmt.py --validation features/100 ... --confirmation features/105 ... --out beyond_dmt.json
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.files import write_json
from vreid.retrieval.evaluation.evaluate import evaluate_distances
from vreid.retrieval.postprocessing.pipeline import PostProcessing
from vreid.retrieval_run import RetrievalRun

DMT = "dmt-paper"
CANDIDATES = {
    "own tracklet": [f"own-tracklet={share}:{ratio}" for share in (0.3, 0.5) for ratio in (0.7, 1)],
    "gallery expansion, any camera": [f"gallery-expansion={k}:1" for k in (1, 2, 3)],
    "gallery expansion, other cameras": [f"gallery-expansion={k}:1:other" for k in (1, 2, 3)],
    "query expansion, other cameras": [f"query-expansion={k}:1:other" for k in (1, 2)],
    "transit times": [f"transit-times={weight}" for weight in (0.02, 0.04, 0.08, 0.12)],
}
TOGETHER = {
    "without times": ("own tracklet", "gallery expansion, other cameras"),
    "all": ("own tracklet", "gallery expansion, other cameras", "transit times"),
}

Precision = NDArray[np.float64]


class World:
    """Features of one world, its vehicles, and the average precision of its queries under any steps."""

    def __init__(self, folder: Path) -> None:
        self.search = RetrievalRun.load(folder)
        self.vehicle = self.search.query.records.identity.codes
        self._made: dict[str, Precision] = {}

    def precision(self, steps: str) -> Precision:
        if steps not in self._made:
            distances = PostProcessing.parse(steps).apply(self.search.query, self.search.gallery)
            metrics = evaluate_distances(distances, self.search.protocol)
            self._made[steps] = np.where(metrics.relevant > 0, metrics.average_precision, np.nan)
        return self._made[steps]


def mean(worlds: Sequence[World], steps: str) -> float:
    return float(np.mean([np.nanmean(world.precision(steps)) for world in worlds]))


def gain(worlds: Sequence[World], steps: str, base: str = DMT) -> tuple[float, float, float]:
    """Mean over worlds of the change in mAP, and its 95 % interval: vehicles are drawn within each world."""
    generator = np.random.default_rng(0)
    changes, resampled = [], []
    for world in worlds:
        change = world.precision(steps) - world.precision(base)
        evaluated = ~np.isnan(change)
        _, vehicle = np.unique(world.vehicle[evaluated], return_inverse=True)
        total, count = np.bincount(vehicle, change[evaluated]), np.bincount(vehicle)
        picks = generator.integers(len(total), size=(2000, len(total)))
        changes.append(total.sum() / count.sum())
        resampled.append(total[picks].sum(axis=1) / count[picks].sum(axis=1))
    low, high = np.quantile(np.mean(resampled, axis=0), [0.025, 0.975])
    return float(np.mean(changes)), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--validation", type=Path, nargs="+", required=True, metavar="FEATURES")
    parser.add_argument("--confirmation", type=Path, nargs="+", required=True, metavar="FEATURES")
    parser.add_argument("--base", default=DMT, help="the post-processing to beat")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    validation, confirmation = (
        [World(folder) for folder in side] for side in (options.validation, options.confirmation)
    )
    base = options.base
    chosen = {
        name: max(grid, key=lambda step: mean(validation, f"{base}, {step}")) for name, grid in CANDIDATES.items()
    }
    rows = {**chosen, **{name: ", ".join(chosen[part] for part in parts) for name, parts in TOGETHER.items()}}
    found = []
    print(
        f"{base}: {100 * mean(validation, base):.1f} on {len(validation)} validation worlds, "
        f"{100 * mean(confirmation, base):.1f} on {len(confirmation)} confirmation worlds"
    )
    for name, steps in rows.items():
        row: dict[str, Any] = {
            "name": name,
            "steps": steps,
            "validation": 100 * mean(validation, f"{base}, {steps}"),
            "confirmation": 100 * mean(confirmation, f"{base}, {steps}"),
            "gain": [100 * value for value in gain(confirmation, f"{base}, {steps}", base)],
        }
        found.append(row)
        print(
            f"{name:34s} {row['validation']:5.1f} {row['confirmation']:5.1f}  gain {row['gain'][0]:+.1f} "
            f"({row['gain'][1]:+.1f} to {row['gain'][2]:+.1f})  {steps}"
        )
    if options.out:
        write_json(options.out, {"base": base, "rows": found})


if __name__ == "__main__":
    main()
