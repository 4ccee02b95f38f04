"""Which settings of adaptation help: pseudo labels against the truth, and the change of mAP.

Each world has a model trained on other cameras. `labels` clusters the test pictures by every setting of `LABELS` and
compares with the truth (pairs of images of two cameras); `tune` adapts by the settings of `TUNED` and measures mAP by
plain search: transductive (adapted to the very pictures that are searched), of all queries and of those at cameras that
training never saw, and inductive (adapted to the earlier part of the time, searched in the later, and, to tell too few
pictures from other times of the day, in the earlier too). Settings are chosen on the validation worlds 100 to 103; the
worlds 104 to 107 confirm. Truth is used for reporting alone. Runs are kept, so a stopped `tune` goes on.

    python studies/adaptation.py labels --lab LAB --out runs/adaptation --worlds 100 101 102 103
    python studies/adaptation.py tune --lab LAB --out runs/adaptation --worlds 104 105 106 107 --only auto
    python studies/adaptation.py table --out runs/adaptation

LAB/world/SEED is what `vreid simulate --preset smoke --seed SEED` writes, LAB/run/SEED a model trained on it
(`vreid train small`, 64 x 64 pixels, 14 epochs). Simulated data: says that the code works, not that it works on roads.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vreid.adaptation.adapt import FACTS, REJECTED, adapt, second_view, target_images
from vreid.adaptation.adapt_config import PRESETS, AdaptConfig
from vreid.adaptation.clustering_features import two_views
from vreid.adaptation.holdout import earlier
from vreid.adaptation.pseudo import pseudo_labels
from vreid.data.dataset import Dataset
from vreid.data.open import open_dataset
from vreid.data.records import Records
from vreid.files import read_json
from vreid.retrieval import Metrics, PostProcessing, evaluate_retrieval
from vreid.retrieval import interval as bootstrap
from vreid.retrieval.evaluation.ablation import difference
from vreid.retrieval.features import FeatureSet
from vreid.training.extract import extract, load_model

AUTO, V1, V2, PAPER = (PRESETS[name] for name in ("auto", "v1", "v2", "paper"))


def pseudo(config: AdaptConfig = AUTO, **changes: object) -> AdaptConfig:
    """A preset with other pseudo labels."""
    return replace(config, pseudo=replace(config.pseudo, **changes))  # type: ignore[arg-type]


LABELS: Mapping[str, AdaptConfig] = {
    "v1": V1,
    "v2": V2,
    "paper": PAPER,
    "auto": AUTO,
    "auto, cannot link off": pseudo(cannot_link="off"),
    "auto, cannot link (camera)": pseudo(cannot_link="camera"),
    "auto, tight 0.1": pseudo(tight=0.1),
    "auto, tight 0.2": pseudo(tight=0.2),
    "auto, by image": pseudo(level="image"),
    "auto, DMT's ridge": pseudo(ridge=0.0005),
    "auto, ridge 0.1": pseudo(ridge=0.1),
    "auto, centred": pseudo(centred=True),
    "auto, camera mean": pseudo(camera="mean"),
    "auto, no camera step": pseudo(camera="none"),
    "eps 0.40, k1 10": pseudo(eps=0.4, k1=10),
    "eps 0.55, k1 10": pseudo(eps=0.55, k1=10),
    "eps 0.70, k1 10": pseudo(eps=0.7, k1=10),
    "eps 0.85, k1 10": pseudo(eps=0.85, k1=10),
}
TUNED: Mapping[str, AdaptConfig] = {
    **{name: LABELS[name] for name in ("v1", "v2", "paper", "auto", "auto, cannot link (camera)", "eps 0.70, k1 10")},
    "auto, rate 0.0004": replace(AUTO, learning_rate=4e-4),
    "auto, rate 0.004": replace(AUTO, learning_rate=4e-3),
    "auto, rate 0.01": replace(AUTO, learning_rate=1e-2),
    "auto, plain classifier": replace(AUTO, classifier="plain"),
    "auto, label anew each epoch": replace(AUTO, recluster=1),
    "auto, tight 0.1": LABELS["auto, tight 0.1"],
    "auto, by image": LABELS["auto, by image"],
    "auto, EMA 0.99": replace(AUTO, ema=0.99),
    "auto, twice the visits": replace(AUTO, visits=2 * AUTO.visits),
}


def open_world(lab: Path, seed: int) -> Dataset:
    """The real side of a world, with the truth."""
    return open_dataset(lab / "world" / str(seed) / "AIC21_Track2_ReID", labels="auto")


def clustered_features(lab: Path, seed: int, target: Records, out: Path) -> FeatureSet:
    """Features of two views of the target, made once."""
    file = out / f"views-{seed}.safetensors"
    if not file.exists():
        trained = load_model(lab / "run" / str(seed))
        views = [
            extract(trained.model, target, transform=transform, views=("original",), normalise=False)
            for transform in (trained.transform, second_view(trained))
        ]
        two_views(*views).save(file)
    return FeatureSet.load(file)


def true_pairs(labels: NDArray[np.integer], records: Records) -> tuple[float, float]:
    """Precision and recall of the pairs of images of two cameras in one cluster."""
    camera, identity = records.camera.codes, records.identity.codes

    def pairs(*keys: NDArray[np.integer]) -> float:
        counts = np.unique(np.stack(keys), axis=1, return_counts=True)[1].astype(float)
        return float((counts * (counts - 1) / 2).sum())

    inside = labels >= 0
    if not inside.any():
        return float("nan"), 0.0
    linked = pairs(labels[inside]) - pairs(labels[inside], camera[inside])
    right = pairs(labels[inside], identity[inside]) - pairs(labels[inside], identity[inside], camera[inside])
    return right / linked if linked else float("nan"), right / (pairs(identity) - pairs(identity, camera))


def label_world(lab: Path, seed: int, out: Path, only: list[str]) -> None:
    """Pseudo labels of one world by every setting."""
    target = target_images(open_world(lab, seed))
    features = clustered_features(lab, seed, target, out)
    for name, config in LABELS.items():
        if only and name not in only:
            continue
        if config.pseudo.scenes and not target.scene.known.any():
            continue
        found = pseudo_labels(features, config.pseudo)
        precision, recall = true_pairs(found.labels, target)
        write(
            out / "labels.jsonl",
            world=seed,
            setting=name,
            clusters=found.clusters,
            noise=found.noise,
            precision=precision,
            recall=recall,
            k1=found.k1,
            eps=found.eps,
        )


def searched(model: Path, records: Records) -> FeatureSet:
    """Features of the records by a model."""
    trained = load_model(model)
    return extract(trained.model, records, transform=trained.transform)


def change(before: FeatureSet, after: FeatureSet, dataset: Dataset, chosen: NDArray[np.bool_]) -> dict[str, object]:
    """mAP of plain search among the chosen images by both models, and the 95 % interval of its change over vehicles.

    Also mAP of the queries at cameras that training never saw ("new"), among the same gallery.
    """
    query = chosen & (before.records.split.values == "query")
    new = query & ~np.isin(before.records.camera.values, dataset.train.camera.values)

    def metrics(features: FeatureSet, queries: NDArray[np.bool_]) -> Metrics:
        return evaluate_retrieval(features[queries], features[chosen & ~query], PostProcessing(), dataset.protocol)

    old, now = metrics(before, query), metrics(after, query)
    low, high = bootstrap(difference(now, old), "mAP")
    line: dict[str, object] = {"before": old.mAP, "after": now.mAP, "low": low, "high": high}
    return {**line, "new": [metrics(before, new).mAP, metrics(after, new).mAP]} if new.any() else line


def tune_world(lab: Path, seed: int, out: Path, only: list[str], share: float | None, gate: bool) -> None:
    """mAP before and after adaptation of one world by every setting; `share` of the time to adapt to, or all of it."""
    dataset = open_world(lab, seed)
    target = target_images(dataset)
    seen = np.ones(len(target), dtype=bool) if share is None else earlier(target, share)
    old = lab / "run" / str(seed)
    before = searched(old, target)
    for name, config in TUNED.items():
        if only and name not in only:
            continue
        run = out / "runs" / f"{seed} {name} {share or ''}".strip().replace(" ", "-")
        started = time.process_time()
        adapt(old, target[seen], config if gate else replace(config, gate=False), out=run, resume=True)
        seconds, facts = time.process_time() - started, read_json(run / FACTS)
        after = searched(run / REJECTED if (run / REJECTED).exists() else run, target)
        parts = {"": seen} if share is None else {"": ~seen, "earlier ": seen}
        lines = {part: change(before, after, dataset, chosen) for part, chosen in parts.items()}
        write(
            out / "tune.jsonl",
            world=seed,
            setting=name,
            inductive=share is not None,
            share=share or 1.0,
            **{part + key: value for part, line in lines.items() for key, value in line.items()},
            clusters=facts["clusters"],
            noise=facts["noise"],
            seconds=seconds,
            decision=facts.get("verdict", {}).get("decision", ""),
        )


def write(path: Path, **line: object) -> None:
    """One more line, also shown."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    print(json.dumps(line), flush=True)


def interval(values: list[float]) -> str:
    """Mean with its 95 % interval over worlds (Student's t)."""
    from scipy.stats import t

    numbers = np.array(values)
    numbers = numbers[~np.isnan(numbers)]
    if len(numbers) < 2:
        return f"{numbers.mean():.2f}" if len(numbers) else ""
    half = t.ppf(0.975, len(numbers) - 1) * numbers.std(ddof=1) / len(numbers) ** 0.5
    return f"{numbers.mean():.2f} ± {half:.2f}"


def table(out: Path) -> None:
    """Markdown tables of what was measured, by setting and part."""
    for name, columns in (
        ("labels", ("clusters", "noise", "precision", "recall")),
        ("tune", ("clusters", "noise", "change of mAP", "seconds")),
    ):
        file = out / f"{name}.jsonl"
        if not file.exists():
            continue
        lines = {
            (line["world"], line["setting"], line.get("inductive", False) and line.get("share", 0.5)): line
            for line in map(json.loads, file.read_text().splitlines())
        }
        print(f"\n| worlds | setting | {' | '.join(columns)} |\n|---|---|{'---|' * len(columns)}")
        for worlds in (range(100, 104), range(104, 108)):
            for setting, inductive in dict.fromkeys((key[1], key[2]) for key in lines):
                these = [v for k, v in lines.items() if k[0] in worlds and k[1:] == (setting, inductive)]
                if not these:
                    continue
                for line in these:
                    line["change of mAP"] = 100 * (line.get("after", 0) - line.get("before", 0))
                cells = " | ".join(interval([line[column] for line in these]) for column in columns)
                part = f"{worlds[0]}-{worlds[-1]} ({len(these)}{f', inductive {inductive:g}' if inductive else ''})"
                print(f"| {part} | {setting} | {cells} |")


def main() -> None:
    """See the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("labels", "tune", "table"))
    parser.add_argument("--lab", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--worlds", type=int, nargs="+", default=[])
    parser.add_argument("--only", nargs="+", default=[], help="settings by name")
    parser.add_argument("--before", type=float, help="adapt to this earlier share, test on the rest")
    parser.add_argument("--no-gate", action="store_true", help="save the time of its verdict")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    for seed in chosen.worlds:
        if chosen.what == "labels":
            label_world(chosen.lab, seed, chosen.out, chosen.only)
        else:
            tune_world(chosen.lab, seed, chosen.out, chosen.only, chosen.before, not chosen.no_gate)
    if chosen.what == "table":
        table(chosen.out)


if __name__ == "__main__":
    main()
