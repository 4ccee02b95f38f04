"""How well do boxes that nobody labelled fit? The simulator knows the true ones.

In a world whose given boxes are four times as loose as usual, the crop model is trained on the real originals; its
boxes are compared with the true ones there and, with the same model, in further simulated folders. Beside them stand
the given box (the whole picture) and a trim of 8 % on every side, which needs no model. Figures are of simulated
pictures. Every stage keeps what it made, so a stopped run goes on.

    python studies/crop_boxes.py --out runs/crops/100 --seed 100 --sheet docs/pictures/crops.jpg
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vreid.console import ProgressBars
from vreid.data.images import read_image
from vreid.data.loading import test_loader
from vreid.data.open import open_dataset
from vreid.data.records import Records
from vreid.files import atomic_write
from vreid.recipes import recipe
from vreid.retrieval.evaluation.bootstrap import mean_interval
from vreid.simulator import PRESETS, simulate
from vreid.training.crop import CROP_CONFIGS, find_boxes, heat_maps
from vreid.training.extract import load_model
from vreid.training.supervised import train

LOOSE = replace(
    PRESETS["smoke"],
    name="loose",
    looseness=4.0,
    train_identities=200,
    test_identities=20,
    synthetic_identities=0,
    test_frames=(2, 3),
)
TRIMS = (0.04, 0.08)
"""Shares of the picture that a trim takes off every side: the best of 2, 4, ..., 16 % in both worlds of seed 100 (in
sum), and in the loose one.
"""
COLOURS = {"true": (60, 220, 60), "voc": (255, 60, 60), "even": (255, 220, 0)}


@dataclass(frozen=True, eq=False)
class Truth:
    """The real images of a simulated folder, their sizes (N, 2) and true boxes (N, 4) in pixels of the pictures."""

    records: Records
    sizes: NDArray[np.float64]
    boxes: NDArray[np.float64]

    @classmethod
    def of(cls, world: Path) -> Truth:
        with open(world / "ground_truth.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        records = Records.of(
            path=[world / row["path"] for row in rows],
            image_key=[row["image_key"] for row in rows],
            identity=[row["identity"] for row in rows],
        )
        sizes = [Image.open(path).size for path in records.path]
        boxes = [[float(row[f"crop_{corner}"]) for corner in ("x1", "y1", "x2", "y2")] for row in rows]
        return cls(records, np.array(sizes, dtype=np.float64), np.array(boxes))

    def trimmed(self, share: float) -> NDArray[np.float64]:
        """The pictures without `share` of them on every side."""
        return np.concatenate([self.sizes * share, self.sizes * (1 - share)], axis=1)


def overlap(boxes: NDArray[np.float64], true: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Intersection over union, and the share of the true box that is kept, (N,) each."""
    sides = np.minimum(boxes[:, 2:], true[:, 2:]) - np.maximum(boxes[:, :2], true[:, :2])
    both = np.clip(sides, 0, None).prod(axis=1)
    area, true_area = ((corners[:, 2:] - corners[:, :2]).prod(axis=1) for corners in (boxes, true))
    return both / (area + true_area - both), both / true_area


def compare(name: str, model: Path, truth: Truth, bars: ProgressBars) -> dict[str, NDArray[np.float64]]:
    """Print a table of how the boxes fit; return those that were found, by configuration."""
    found = {
        key: find_boxes(model, truth.records, config, progress=bars).box.astype(np.float64)
        for key, config in CROP_CONFIGS.items()
    }
    vehicles = truth.records.identity.codes
    given, _ = overlap(truth.trimmed(0), truth.boxes)
    print(f"{name}: {len(given):,} pictures of {truth.records.identity.distinct} vehicles")
    trims = {f"trim {share:.0%}": truth.trimmed(share) for share in TRIMS}
    for key, boxes in {"given": truth.trimmed(0), **trims, **found}.items():
        fit, kept = overlap(boxes, truth.boxes)
        mean, gain = (
            mean_interval(np.bincount(vehicles, values), np.bincount(vehicles)) for values in (fit, fit - given)
        )
        print(
            f"  {key:8} IoU {fit.mean():.3f} ({mean[0]:.3f} to {mean[1]:.3f}), more than given by "
            f"{(fit - given).mean():+.3f} ({gain[0]:+.3f} to {gain[1]:+.3f}), better in {(fit > given).mean():.0%}; "
            f"of the vehicle kept {kept.mean():.3f}, under 0.8 in {(kept < 0.8).mean():.1%}"
        )
    sides = np.tile(truth.sizes, 2)
    for key, boxes in found.items():
        follow = [
            np.corrcoef(boxes[:, edge] / sides[:, edge], truth.boxes[:, edge] / sides[:, edge])[0, 1]
            for edge in range(4)
        ]
        print(f"  {key:8} correlation with the true left, top, right, bottom:", ", ".join(f"{r:.2f}" for r in follow))
    return found


def sheet(path: Path, model: Path, truth: Truth, found: dict[str, NDArray[np.float64]], count: int = 12) -> None:
    """Pictures drawn at random with their heat (border kept) beneath, boxes in both: true, voc and even."""
    side, gap = 160, 6
    chosen = np.sort(np.random.default_rng(0).choice(len(truth.records), count, replace=False))
    trained = load_model(model)
    batch = next(iter(test_loader(truth.records[chosen], trained.transform, batch_size=count)))
    heat = heat_maps(trained, batch.images, replace(CROP_CONFIGS["even"], border=0.0))
    columns = count // 2
    page = Image.new("RGB", (columns * (side + gap) + gap, 4 * (side + gap) + gap), "white")
    for number, row in enumerate(chosen):
        original = read_image(truth.records.path[row])
        scale = side / max(original.size)
        size = (max(1, round(original.width * scale)), max(1, round(original.height * scale)))
        shown = original.resize(size, Image.Resampling.BICUBIC)
        warm = Image.fromarray((255 * heat[number] / heat[number].max()).astype(np.uint8)).resize(size)
        glow = Image.merge("RGB", (warm, Image.new("L", size), warm.point(lambda value: 255 - value)))
        place = (gap + number % columns * (side + gap), gap + number // columns * 2 * (side + gap))
        for offset, picture in enumerate((shown.copy(), Image.blend(shown, glow, 0.5))):
            pen = ImageDraw.Draw(picture)
            for name, boxes in {"true": truth.boxes, **found}.items():
                x1, y1, x2, y2 = boxes[row] * scale
                pen.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=COLOURS[name], width=2)
            page.paste(picture, (place[0], place[1] + offset * (side + gap)))
    with atomic_write(path) as temporary:
        page.save(temporary, format="JPEG", quality=88)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/crops"))
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--also", type=Path, nargs="*", default=[], metavar="WORLD", help="further simulated folders")
    parser.add_argument("--sheet", type=Path, help="a .jpg of pictures, heat and boxes")
    options = parser.parse_args()
    with ProgressBars() as bars:
        loose = simulate(options.out / "world", preset=LOOSE, seed=options.seed, progress=bars)
        images = open_dataset(loose.path).train
        model = train(recipe("crop_model_small"), images, out=options.out / "run", resume=True, progress=bars)
        truth = Truth.of(loose.path)
        found = compare(f"loose world {options.seed}", model, truth, bars)
        if options.sheet:
            sheet(options.sheet, model, truth, found)
        for world in options.also:
            compare(str(world), model, Truth.of(world), bars)


if __name__ == "__main__":
    main()
