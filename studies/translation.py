"""Do translated pictures look more real, and are they still the same vehicles?

For a simulated world and a ReID model that was trained on both of its domains: trains a translation, translates the
synthetic pictures, and measures before and after
  * the AUC of classifiers that tell synthetic from real pictures, trained anew and alike, on vehicles that they have
    not seen: linear ones on a few statistics of colours, or of colours and gradients, and a small CNN on pixels after
    several numbers of steps (mean of its seeds; interval: seeds, and vehicles of the test, drawn anew);
  * the mAP of finding a vehicle's other pictures among all synthetic ones, one picture of each being the query.
A picture shows originals, their translations, and real pictures. Every stage keeps what it made.

    python studies/translation.py WORLD MODEL --out runs/translation
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.nn import functional

from vreid.configuration import plain_values
from vreid.console import ProgressBars
from vreid.data.augment import TestTransform
from vreid.data.images import read_image
from vreid.data.loading import test_loader
from vreid.data.open import open_dataset
from vreid.data.records import Records
from vreid.data.seeds import generator, seed_everything
from vreid.files import atomic_write, write_json
from vreid.recipes.spgan import translation
from vreid.retrieval import Metrics, evaluate_features
from vreid.training.extract import extract, load_model
from vreid.training.translate import HALF, train_translation
from vreid.training.translate_images import translate

SEEDS, BUDGETS, BATCH, SIDE = 5, (25, 50, 100), 64, 64
"""The CNN is trained so often, looked at after so many steps on so many pictures of so many pixels a side."""
BORDER = 8
"""Pixels of a picture's border, whose statistics are taken apart from those of the rest."""
DRAWS = 500
COLUMNS = 12
CELL = 96
LINEAR = {"linear, colours": False, "linear, colours and gradients": True}
"""The linear classifiers, and whether they see gradients."""
Halves = tuple[NDArray[np.bool_], NDArray[np.bool_]]
"""Which synthetic images, and which real ones, belong to the test."""


def small_cnn() -> nn.Module:
    """Four convolutions of stride 2, an average, a score: high is real."""
    widths = (3, 16, 32, 64, 64)
    parts: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        parts += [nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 1))


def pixels(records: Records) -> Tensor:
    """(N, 3, SIDE, SIDE) of all pictures."""
    transform = TestTransform(SIDE, SIDE, mean=HALF, std=HALF)
    return torch.cat([batch.images for batch in test_loader(records, transform)])


def halves(records: Records, name: str) -> NDArray[np.bool_]:
    """(N,) whether an image belongs to the test half of the vehicles: the same half whatever the variant."""
    names = np.unique(records.identity.values.astype(str))
    tested = generator(0, "translation", name).permutation(names)[: len(names) // 2]
    return np.isin(records.identity.values.astype(str), tested)


def cnn_scores(made: Tensor, real: Tensor, test: Halves, seed: int) -> list[NDArray[np.float64]]:
    """For each budget the scores of the test images, made ones first, by a CNN trained on the others."""
    seed_everything(seed)
    model, rng = small_cnn(), generator(seed, "classifier")
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    pools = [np.flatnonzero(~mask) for mask in test]
    labels = torch.cat([torch.zeros(BATCH // 2), torch.ones(BATCH // 2)])
    found = []
    for step in range(1, max(BUDGETS) + 1):
        images = torch.cat([side[rng.choice(pool, BATCH // 2)] for side, pool in zip((made, real), pools, strict=True)])
        images = torch.where(torch.from_numpy(rng.random((BATCH, 1, 1, 1)) < 0.5), images.flip(-1), images)
        optimiser.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(model.train()(images)[:, 0], labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step in BUDGETS:
            with torch.inference_mode():
                found.append(model.eval()(torch.cat([made[test[0]], real[test[1]]]))[:, 0].double().numpy())
    return found


def statistics(images: Tensor, *, gradients: bool) -> NDArray[np.float64]:
    """Of border and inside: mean and spread of the three colours and of saturation; the mean (log) gradient."""
    inside = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    inside[BORDER:-BORDER, BORDER:-BORDER] = True
    saturation, grey = images.amax(1, keepdim=True) - images.amin(1, keepdim=True), images.mean(1)
    layers, columns = torch.cat([images, saturation], 1), []
    for region in (inside, ~inside):
        columns += [layers[:, :, region].mean(-1), layers[:, :, region].std(-1)]
        if gradients:
            steps = (grey.diff(dim=1)[:, :, 1:].abs() + grey.diff(dim=2)[:, 1:].abs())[:, region[1:, 1:]]
            columns += [steps.mean(1, keepdim=True), (steps + 0.01).log().mean(1, keepdim=True)]
    return torch.cat(columns, 1).double().numpy()


def linear_scores(made: Tensor, real: Tensor, test: Halves, *, gradients: bool) -> NDArray[np.float64]:
    """Scores of the test images, made ones first, by Fisher's linear discriminant of the others."""
    sides = [statistics(side, gradients=gradients) for side in (made, real)]
    known = [side[~mask] for side, mask in zip(sides, test, strict=True)]
    within = sum(np.cov(side, rowvar=False) for side in known)
    direction = np.linalg.solve(within, known[1].mean(axis=0) - known[0].mean(axis=0))
    return np.concatenate([side[mask] @ direction for side, mask in zip(sides, test, strict=True)])


def evaluated(made: Tensor, real: Tensor, test: Halves) -> dict[str, NDArray[np.float64]]:
    """By classifier its scores (training, image) of the test images, made ones first."""
    found = {name: linear_scores(made, real, test, gradients=seen)[None] for name, seen in LINEAR.items()}
    trained = zip(*[cnn_scores(made, real, test, seed) for seed in range(SEEDS)], strict=True)
    return found | {f"CNN, {steps} steps": np.stack(each) for steps, each in zip(BUDGETS, trained, strict=True)}


def auc(made: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    """The chance that a real picture scores above a made one (ties: one half)."""
    ranks = rankdata(np.concatenate([made, true]))[len(made) :]
    return float((ranks.sum() - len(true) * (len(true) + 1) / 2) / (len(made) * len(true)))


def drawn(identities: NDArray[np.str_], rng: np.random.Generator) -> NDArray[np.intp]:
    """Rows of as many vehicles as there are, drawn with replacement."""
    names, codes = np.unique(identities, return_inverse=True)
    rows = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    return np.concatenate([rows[code] for code in rng.integers(len(names), size=len(names))])


def tell_apart(before: Records, after: Records, real: Records) -> dict[str, dict[str, list[float]]]:
    """By classifier the AUC before, after and their difference: the mean over its trainings and its interval."""
    test = (halves(before, "synthetic"), halves(real, "real"))
    true, count = pixels(real), int(test[0].sum())
    tables = [evaluated(pixels(made), true, test) for made in (before, after)]
    names = [records.identity.values[mask].astype(str) for records, mask in zip((before, real), test, strict=True)]
    found = {}
    for name in tables[0]:
        pair, rng = [table[name] for table in tables], generator(0, "translation", "bootstrap")
        draws = [(np.arange(len(pair[0])), np.arange(count), count + np.arange(len(names[1])))]
        draws += [
            (rng.integers(len(pair[0]), size=len(pair[0])), drawn(names[0], rng), count + drawn(names[1], rng))
            for _ in range(DRAWS)
        ]
        values = np.array(
            [
                [np.mean([auc(row[made], row[shown]) for row in scores[trainings]]) for scores in pair]
                for trainings, made, shown in draws
            ]
        )
        columns = {"before": values[:, 0], "after": values[:, 1], "fall": values[:, 0] - values[:, 1]}
        found[name] = {when: [float(column[0]), *_interval(column[1:])] for when, column in columns.items()}
    return found


def _interval(values: NDArray[np.float64]) -> list[float]:
    return [float(value) for value in np.quantile(values, (0.025, 0.975))]


def identity_search(model: Path, records: Records) -> Metrics:
    """One picture of each vehicle looks for the others."""
    trained = load_model(model)
    features = extract(trained.model, records, transform=trained.transform).features
    names = records.identity.values.astype(str)
    query = np.isin(np.arange(len(records)), np.unique(names, return_index=True)[1])
    return evaluate_features(
        features[query],
        features[~query],
        query_identity=names[query],
        gallery_identity=names[~query],
        query_camera=np.zeros(query.sum(), int),
        gallery_camera=np.ones((~query).sum(), int),
    )


def sheet(before: Records, after: Records, real: Records, out: Path) -> None:
    """Two blocks of originals above their translations, and two rows of real pictures."""
    rng = generator(0, "translation", "sheet")
    rows, others = (
        rng.choice(len(before), 2 * COLUMNS, replace=False),
        rng.choice(len(real), 2 * COLUMNS, replace=False),
    )
    lines = [
        before[rows[:COLUMNS]],
        after[rows[:COLUMNS]],
        before[rows[COLUMNS:]],
        after[rows[COLUMNS:]],
        real[others[:COLUMNS]],
        real[others[COLUMNS:]],
    ]
    page = Image.new("RGB", (COLUMNS * CELL, len(lines) * CELL), "white")
    for top, line in enumerate(lines):
        for left, path in enumerate(line.path):
            picture = read_image(path)
            picture.thumbnail((CELL - 2, CELL - 2), Image.Resampling.BICUBIC)
            page.paste(picture, (left * CELL, top * CELL + (CELL - picture.height) // 2))
    with atomic_write(out) as temporary:
        page.save(temporary, "JPEG", quality=88)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", type=Path, help="folder of `vreid simulate`")
    parser.add_argument("model", type=Path, help="run of `vreid train` on both domains of this world")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", default="spgan_small")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="change the recipe")
    options = parser.parse_args()
    config = translation(options.recipe, dict(pair.split("=", 1) for pair in options.set))
    before = open_dataset(options.world / "AIC21_Track2_ReID_Simulation").train
    real = open_dataset(options.world / "AIC21_Track2_ReID").train
    with ProgressBars() as bars:
        run = train_translation(config, before, real, out=options.out / "run", resume=True, progress=bars)
        after = translate(run, before, options.out / "translated", progress=bars)
    sheet(before, after, real, options.out / "sheet.jpg")
    found: dict[str, Any] = {"config": plain_values(config), "auc": tell_apart(before, after, real)}
    searches = [identity_search(options.model, records) for records in (before, after)]
    ratios = [np.asarray(search.average_precision) for search in searches]
    picks = generator(0, "translation", "ratio").integers(len(ratios[0]), size=(DRAWS, len(ratios[0])))
    kept = searches[1].mAP / searches[0].mAP
    ends = _interval(ratios[1][picks].mean(axis=1) / ratios[0][picks].mean(axis=1))
    found |= {"mAP": [search.mAP for search in searches], "kept": [kept, *ends]}
    write_json(options.out / "results.json", found)
    for name, values in found["auc"].items():
        reported = ", ".join(
            f"{when} {value:.3f} ({low:.3f} to {high:.3f})" for when, (value, low, high) in values.items()
        )
        print(f"AUC of real against synthetic, {name}: {reported}")
    print(
        f"identity mAP: {100 * searches[0].mAP:.1f} before, {100 * searches[1].mAP:.1f} after; "
        f"{100 * kept:.1f} % is kept ({100 * ends[0]:.1f} to {100 * ends[1]:.1f})"
    )


if __name__ == "__main__":
    main()
