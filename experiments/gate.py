"""How often is the do-no-harm gate wrong? Adaptations good and spoilt, its verdicts, and the true change of mAP.

Each world has a trained model; it is adapted to the world's test pictures in several ways, some of them sabotaged, and
the gate judges every adaptation without labels. Then the labels tell the change of mAP (plain search, all queries;
within one point is neutral). The gate's limits are chosen on the validation worlds; the others confirm them. Features
of all models are kept, so a changed gate is judged again in seconds.

    python experiments/gate.py --lab LAB --out runs/gate

LAB/world/SEED is what `vreid simulate --preset smoke --seed SEED` writes, LAB/run/SEED a model trained on it.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vreid.adaptation.gate import ACCEPT, K1, MIN_SAMPLES, REJECT, judge_adaptation, reference_labels
from vreid.adaptation.pseudo import PseudoLabels
from vreid.data.dataset import open_dataset
from vreid.data.records import Records
from vreid.data.seeds import generator
from vreid.files import read_json, write_json
from vreid.recipes import recipe
from vreid.retrieval import PostProcessing, judge
from vreid.retrieval.features import FeatureSet, unit_rows
from vreid.retrieval.protocols import MARKET
from vreid.retrieval.shares import rate_interval
from vreid.retrieval.tracklets import mean_features
from vreid.training.extract import extract, load_model
from vreid.training.supervised import train

VALIDATION, CONFIRMATION = (100, 101, 102, 103), (104, 105, 106, 107)
NEUTRAL = 1.0
"""Points of mAP within which a change is neither harm nor good."""
BATCHES = 120
SIZES = ("height", "width", "pad")
NO_CENTRES = np.empty((0, 0), dtype=np.float32)

Views = Sequence[FeatureSet]
"""Features of the same pictures in the original and in the mirror view, not normalised."""


@dataclass(frozen=True)
class Way:
    """One way to adapt, or to spoil it.

    Attributes:
        eps: of DBSCAN.
        camera: whether each camera's mean is taken off the features that are clustered.
        spoilt: "labels", "pictures" or "cameras" are shuffled; "one camera" alone is learned from; "other world".
        rate: learning rate.
        batches: of fine-tuning.
    """

    eps: float = 0.6
    camera: bool = True
    spoilt: str = ""
    rate: float = 5e-4
    batches: int = BATCHES

    def __str__(self) -> str:
        return f"{self.eps:g}-{self.camera:d}-{self.spoilt.replace(' ', '-')}-{self.rate:g}-{self.batches}"


WAYS = {
    "standard": Way(),
    "tight": Way(eps=0.35),
    "no camera step": Way(camera=False),
    "gentle": Way(rate=1e-4),
    "labels shuffled": Way(spoilt="labels"),
    "pictures shuffled": Way(spoilt="pictures"),
    "cameras shuffled": Way(spoilt="cameras"),
    "eps far too large": Way(eps=0.97),
    "eps far too small": Way(eps=0.02),
    "rate far too high": Way(rate=2e-2),
    "too long": Way(batches=4 * BATCHES),
    "one camera": Way(spoilt="one camera"),
    "other world": Way(spoilt="other world"),
}
CHOSEN: Mapping[int, tuple[str, ...]] = {
    0: ("standard", "labels shuffled", "eps far too large", "other world", "no camera step"),
    1: ("standard", "cameras shuffled", "rate far too high", "tight", "one camera"),
    2: ("standard", "labels shuffled", "too long", "pictures shuffled", "gentle"),
    3: ("standard", "rate far too high", "eps far too small", "one camera", "no camera step", "pictures shuffled"),
}
"""Ways by world number modulo 4, so that every way is tried in a validation and in a confirmation world."""


@dataclass(frozen=True, eq=False)
class Seen:
    """A world's N test pictures as an adaptation sees them: what is spoilt in the records is spoilt here.

    Attributes:
        records: queries first.
        order: (N,) row i shows picture order[i] of the world's own records.
        labels: (N,) the pseudo labels, -1 for none.
    """

    records: Records
    order: NDArray[np.intp]
    labels: NDArray[np.int32]

    @classmethod
    def of(cls, way: Way, records: Records, views: Views, random: np.random.Generator) -> Seen:
        """The pictures with `way.spoilt` done to them; `views` are their features by the model that is adapted."""
        order = np.arange(len(records))
        if way.spoilt == "pictures":
            order = random.permutation(order)
            records = records.with_(path=records.path[order])
        if way.spoilt == "cameras":
            records = records.with_(camera=random.permutation(records.camera.values))
        features = unit_rows(np.sum([view.features[order] for view in views], axis=0))
        labels = reference_labels(features, records, eps=way.eps, camera_means=way.camera)
        if way.spoilt == "labels":
            labels = random.permutation(labels)
        if way.spoilt == "one camera":
            labels = np.where(records.camera.codes == records.camera.codes.max(), labels, -1)
        labels[labels >= 0] = np.unique(labels[labels >= 0], return_inverse=True)[1]
        return cls(records, order, labels.astype(np.int32))

    def features(self, views: Views) -> Views:
        """Features of the world's own records, as they belong to these."""
        return [replace(view, features=view.features[self.order], records=self.records) for view in views]


def target(lab: Path, world: int) -> tuple[Records, int]:
    """The test pictures of a world, queries first, and how many of them are queries."""
    data = open_dataset(lab / "world" / str(world) / "AIC21_Track2_ReID", labels="auto")
    return Records.concat([data.query, data.gallery]), len(data.query)


def two_views(model: Path, records: Records, out: Path) -> Views:
    """Features of the original and the mirror view, made once."""
    if not (out / "flip.safetensors").exists():
        trained = load_model(model)
        for view in ("original", "flip"):
            extract(trained.model, records, transform=trained.transform, views=(view,), normalise=False, workers=0,
                    out=out / f"{view}.safetensors")  # fmt: skip
    return [FeatureSet.load(out / f"{view}.safetensors") for view in ("original", "flip")]


def fine_tune(model: Path, seen: Seen, views: Views, way: Way, out: Path) -> Path:
    """Train on the pseudo labels from a classifier of cluster means; the path of the new model."""
    centres = mean_features(
        np.sum([view.features for view in seen.features(views)], axis=0)[seen.labels >= 0],
        seen.labels[seen.labels >= 0],
        int(seen.labels.max()) + 1,
    )
    start = load_model(model).model.state_dict() | {"classifier.weight": torch.from_numpy(centres)}
    size = {f"transform.{name}": str(read_json(model / "config.json")["transform"][name]) for name in SIZES}
    people = min(12, len(centres))
    config = recipe("small", {**size, "epochs": "1", "iterations": str(way.batches), "num_identities": str(people),
                              "schedule.warmup_epochs": "0", "optimiser.learning_rate": str(way.rate)})  # fmt: skip
    names = ["" if label < 0 else f"{label:06d}" for label in seen.labels]
    return train(config, seen.records.with_(identity=names), out=out, start=start, workers=0)


def adapted(lab: Path, out: Path, world: int, way: Way) -> tuple[Views, Views, Seen]:
    """Features of a world's test pictures by its model and by the adapted one, and what adaptation saw of them."""
    places = (world, world ^ 1) if way.spoilt == "other world" else (world,)
    model = lab / "run" / str(world)
    sights = []
    for place in places:
        records = target(lab, place)[0]
        before = two_views(model, records, out / f"{world}-on-{place}")
        sights.append((before, Seen.of(way, records, before, generator(world, way.spoilt))))
    folder = out / f"{world}-{way}"
    if not (folder / "flip.safetensors").exists() and sights[-1][1].labels.max() > 0:
        model = fine_tune(model, sights[-1][1], sights[-1][0], way, folder / "run")
    before, seen = sights[0]
    after = two_views(model, target(lab, world)[0], folder)
    shutil.rmtree(folder / "run", ignore_errors=True)
    return before, after, seen


def mean_precision(views: Views, num_queries: int) -> float:
    """True mAP in percent: plain search for every query among the gallery, own camera's images of it removed."""
    both = replace(views[0], features=np.sum([view.features for view in views], axis=0)).normalise()
    return 100 * judge(both[:num_queries], both[num_queries:], PostProcessing(), MARKET).mAP


def shares(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """How often harm was accepted and good rejected, with exact 95 % intervals (one verdict counts once)."""
    out = []
    for name, of, wrong in (
        ("harm accepted", [row for row in rows if row["change"] < -NEUTRAL], ACCEPT),
        ("good rejected", [row for row in rows if row["change"] > NEUTRAL], REJECT),
        ("good not accepted", [row for row in rows if row["change"] > NEUTRAL], None),
    ):
        hits = np.array([row["decision"] == wrong if wrong else row["decision"] != ACCEPT for row in of], dtype=bool)
        if len(hits):
            low, high = rate_interval(hits, np.arange(len(hits)))
            out.append(f"{name} {hits.sum()} of {len(hits)} ({100 * low:.0f}-{100 * high:.0f} %)")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lab", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/gate"))
    parser.add_argument("--worlds", type=int, nargs="+", default=[*VALIDATION, *CONFIRMATION])
    parser.add_argument("--only", default="", help="ways whose name holds this")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for world in options.worlds:
        for name in CHOSEN[world % 4]:
            if options.only in name:
                before, after, seen = adapted(options.lab, options.out, world, WAYS[name])
                pseudo = PseudoLabels(seen.labels, WAYS[name].eps, MIN_SAMPLES, K1, (), seen.records, NO_CENTRES)
                (old, old_flip), (new, new_flip) = seen.features(before), seen.features(after)
                verdict = judge_adaptation(old, new, pseudo, flipped=(old_flip, new_flip))
                queries = target(options.lab, world)[1]
                change = mean_precision(after, queries) - mean_precision(before, queries)
                rows.append(
                    {
                        "world": world,
                        "way": name,
                        "change": change,
                        "decision": verdict.decision,
                        "reason": verdict.reason,
                        **verdict.evidence,
                    }
                )
                numbers = " ".join(f"{key} {found.change:+.3f}" for key, found in verdict.changes.items())
                facts = " ".join(f"{key} {found:.2f}" for key, found in verdict.facts.items())
                print(f"| {world} | {name} | {change:+.1f} | {verdict.decision} | {numbers} {facts}", flush=True)
    for title, worlds in (("validation", VALIDATION), ("confirmation", CONFIRMATION)):
        part = [row for row in rows if row["world"] in worlds]
        print(f"{title}: {len(part)} adaptations; {'; '.join(shares(part))}")
    write_json(options.out / "results.json", rows)


if __name__ == "__main__":
    main()
