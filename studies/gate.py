"""How often is the do-no-harm gate wrong? Adaptations good and spoilt, its verdicts, and the true change of mAP.

Each world has a trained model; it is adapted to the world's test pictures in several ways, some of them sabotaged, and
the gate judges every adaptation without labels. Then the labels tell the change of mAP (plain search, all queries;
within one point is neutral). The gate's limits are chosen on the validation worlds; the others confirm them. Features
of all models are kept, so a changed gate is judged again in seconds.

    python studies/gate.py --lab LAB --out runs/gate

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
from numpy.typing import NDArray

from vreid.adaptation.adapt import clustered, initial_weights, tuning
from vreid.adaptation.adapt_config import PRESETS, AdaptConfig
from vreid.adaptation.clustering_features import two_views, without_answers
from vreid.adaptation.gate import ACCEPT, REJECT, gate_adaptation
from vreid.adaptation.pseudo import PseudoLabels, cluster_means, pseudo_labels
from vreid.data.open import open_dataset
from vreid.data.protocols import MARKET
from vreid.data.records import Records
from vreid.data.seeds import generator
from vreid.files import write_json
from vreid.retrieval import PostProcessing, evaluate_retrieval
from vreid.retrieval.evaluation.proportions import rate_interval
from vreid.retrieval.features import FeatureSet, unit_rows
from vreid.retrieval.postprocessing.tracklet_features import units_of_codes
from vreid.training.extract import extract, load_model
from vreid.training.supervised import train

VALIDATION, CONFIRMATION = (100, 101, 102, 103), (104, 105, 106, 107)
NEUTRAL = 1.0
"""Points of mAP within which a change is neither harm nor good."""

Views = Sequence[FeatureSet]
"""Features of the same pictures in the original and in the mirror view, not normalised."""


@dataclass(frozen=True)
class Way:
    """One way to adapt, or to spoil it: `config` without its gate.

    `spoilt`: "labels", "pictures" or "cameras" are shuffled; "one camera" alone is learned from; "other world".
    """

    config: AdaptConfig
    spoilt: str = ""


SHORT = replace(PRESETS["auto"], visits=1.5, learning_rate=1e-2)
BOLD = replace(SHORT, learning_rate=4e-2)
"""Shorter than the presets, and faster: differences must show after a quarter of a minute on one core."""
BY_DATA = SHORT.pseudo
WAYS = {
    "auto": Way(PRESETS["auto"]),
    "short": Way(SHORT),
    "bold": Way(BOLD),
    "no camera step": Way(replace(SHORT, pseudo=replace(BY_DATA, camera="none"))),
    "tight": Way(replace(SHORT, pseudo=replace(BY_DATA, eps=0.3))),
    "labels shuffled": Way(BOLD, "labels"),
    "pictures shuffled": Way(BOLD, "pictures"),
    "cameras shuffled": Way(BOLD, "cameras"),
    "eps far too large": Way(replace(BOLD, pseudo=replace(BY_DATA, eps=0.89))),
    "eps far too small": Way(replace(BOLD, pseudo=replace(BY_DATA, eps=0.01))),
    "rate far too high": Way(replace(BOLD, learning_rate=0.5)),
    "too long": Way(replace(BOLD, visits=5 * BOLD.visits)),
    "one camera": Way(BOLD, "one camera"),
    "other world": Way(BOLD, "other world"),
}
CHOSEN: Mapping[int, tuple[str, ...]] = {
    0: (
        "short",
        "bold",
        "labels shuffled",
        "rate far too high",
        "other world",
        "eps far too large",
        "too long",
        "pictures shuffled",
        "auto",
    ),
    1: ("auto", "labels shuffled", "cameras shuffled", "tight", "one camera"),
    2: ("auto", "no camera step", "rate far too high"),
    3: ("short", "no camera step", "eps far too small"),
}
"""Ways by world number modulo 4, so that every way is tried in a validation and in a confirmation world."""


@dataclass(frozen=True, eq=False)
class Seen:
    """A world's N test pictures as an adaptation sees them: what is spoilt in the records is spoilt here.

    Attributes:
        order: (N,) row i shows picture order[i] of the world's own records.
        pseudo: the pseudo labels, and the records.
    """

    order: NDArray[np.intp]
    pseudo: PseudoLabels

    @classmethod
    def of(cls, way: Way, views: Views, random: np.random.Generator) -> Seen:
        """The pictures with `way.spoilt` done to them; `views` are their features by the model that is adapted."""
        records, order = views[0].records, np.arange(len(views[0]))
        if way.spoilt == "pictures":
            order = random.permutation(order)
            records = records.with_(path=records.path[order])
        if way.spoilt == "cameras":
            unit, first = units_of_codes(records.tracklet.codes)  # whole passages, or the gate would see it at once
            records = records.with_(camera=random.permutation(records.camera.values[first])[unit])
        pseudo = pseudo_labels(two_views(*moved(views, order, records)), way.config.pseudo)
        labels = pseudo.labels
        if way.spoilt == "labels":
            labels = random.permutation(labels)
        if way.spoilt == "one camera":
            labels = np.where(records.camera.codes == records.camera.codes.max(), labels, -1)
            labels[labels >= 0] = np.unique(labels[labels >= 0], return_inverse=True)[1]
        if labels is not pseudo.labels:
            features = np.sum([view.features for view in moved(views, order, records)], axis=0)
            pseudo = replace(pseudo, labels=labels, centres=cluster_means(unit_rows(features), labels))
        return cls(order, pseudo)


def moved(views: Views, order: NDArray[np.intp], records: Records) -> Views:
    """Features of rows `order`, said to be those of `records`."""
    return [replace(view, features=view.features[order], records=records) for view in views]


def target(lab: Path, world: int) -> tuple[Records, int]:
    """The test pictures of a world, queries first, and how many of them are queries."""
    data = open_dataset(lab / "world" / str(world) / "AIC21_Track2_ReID", labels="auto")
    return Records.concat([data.query, data.gallery]), len(data.query)


def both_views(model: Path, records: Records, out: Path) -> Views:
    """Features of the original and the mirror view, made once, with records as adaptation may see them."""
    if not (out / "flip.safetensors").exists():
        trained = load_model(model)
        for view in ("original", "flip"):
            extract(
                trained.model,
                without_answers(records),
                transform=trained.transform,
                views=(view,),
                workers=0,
                normalise=False,
                out=out / f"{view}.safetensors",
            )
    return [FeatureSet.load(out / f"{view}.safetensors") for view in ("original", "flip")]


def adapted(lab: Path, out: Path, world: int, name: str) -> tuple[Views, Views, Seen]:
    """Features of a world's test pictures by its model and by the adapted one, and what adaptation saw of them."""
    way, model, folder = WAYS[name], lab / "run" / str(world), out / str(world)
    after, run = folder / name.replace(" ", "-"), folder / "run"
    seen: list[Seen] = []
    for place in (world, world ^ 1) if way.spoilt == "other world" else (world,):
        views = both_views(model, target(lab, place)[0], folder / f"before-on-{place}")
        seen.append(Seen.of(way, views, generator(world, name)))
    pseudo = seen[-1].pseudo
    if not (after / "flip.safetensors").exists() and pseudo.clusters > 1:
        shutil.rmtree(run, ignore_errors=True)
        shutil.rmtree(after, ignore_errors=True)
        trained = load_model(model)
        model = train(
            tuning(way.config, trained, pseudo, way.config.epochs),
            clustered(pseudo),
            out=run,
            workers=0,
            initial_weights=initial_weights(trained.model, pseudo.centres),
        )
    before = both_views(lab / "run" / str(world), target(lab, world)[0], folder / f"before-on-{world}")
    return before, both_views(model, target(lab, world)[0], after), seen[0]


def one_a_passage(records: Records, world: int) -> NDArray[np.intp]:
    """Images of which no two are of one passage, one of each drawn; vehicles are looked at, since queries have none."""
    passage = np.stack([records.identity.codes, records.camera.codes, records.tracklet.codes])
    order = generator(world, "one a passage").permutation(len(records))
    return np.sort(order[np.unique(passage[:, order], axis=1, return_index=True)[1]])


def forgotten(features: FeatureSet) -> FeatureSet:
    """The same images without tracklets."""
    bare = features.records.with_(tracklet=[""] * len(features))
    return replace(features, records=without_answers(bare))


def restricted(pseudo: PseudoLabels, chosen: NDArray[np.bool_], records: Records) -> PseudoLabels:
    """The pseudo labels of the chosen images; clusters without any are gone."""
    left = pseudo.labels[chosen]
    left[left >= 0] = np.unique(left[left >= 0], return_inverse=True)[1]
    return replace(pseudo, labels=left, records=records)


def mean_precision(views: Views, records: Records, num_queries: int) -> float:
    """True mAP in percent: plain search for every query among the gallery, own camera's images of it removed.

    `num_queries` of 0: each image is searched for among all.
    """
    both = FeatureSet(np.sum([view.features for view in views], axis=0), records).normalise()
    if not num_queries:
        return 100 * evaluate_retrieval(both, both, PostProcessing(), MARKET).mAP
    return 100 * evaluate_retrieval(both[:num_queries], both[num_queries:], PostProcessing(), MARKET).mAP


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
    parser.add_argument("--pictures", action="store_true", help="judge by one picture of a passage, no tracklets")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for world in options.worlds:
        for name in CHOSEN[world % 4]:
            if options.only in name:
                before, after, seen = adapted(options.lab, options.out, world, name)
                truth, pseudo = target(options.lab, world), seen.pseudo
                old, new = (moved(views, seen.order, pseudo.records) for views in (before, after))
                if options.pictures:
                    chosen = one_a_passage(truth[0], world)
                    truth = truth[0][chosen], 0
                    before, after = ([view[chosen] for view in views] for views in (before, after))
                    rows_left = np.isin(seen.order, chosen)
                    old, new = ([forgotten(view[rows_left]) for view in views] for views in (old, new))
                    pseudo = restricted(pseudo, rows_left, old[0].records)
                decision = gate_adaptation(old[0], new[0], pseudo, flipped=(old[1], new[1]))
                change = mean_precision(after, *truth) - mean_precision(before, *truth)
                rows.append(
                    {
                        "world": world,
                        "way": name,
                        "change": change,
                        "decision": decision.decision,
                        "reason": decision.reason,
                        **decision.evidence,
                    }
                )
                numbers = " ".join(f"{key} {found.change:+.3f}" for key, found in decision.changes.items())
                facts = " ".join(f"{key} {found:.2f}" for key, found in decision.facts.items())
                print(f"| {world} | {name} | {change:+.1f} | {decision.decision} | {numbers} {facts}", flush=True)
    for title, worlds in (("validation", VALIDATION), ("confirmation", CONFIRMATION)):
        part = [row for row in rows if row["world"] in worlds]
        print(f"{title}: {len(part)} adaptations; {'; '.join(shares(part))}")
    write_json(options.out / "results.json", rows)


if __name__ == "__main__":
    main()
