"""How often is the do-no-harm gate wrong about changed features? Hundreds of changes in seconds; nothing is trained.

Stand-ins for adaptations, good and bad. Pseudo labels, some spoilt as in `gate.py`, give a linear map (whitening inside
clusters, as a network does that learns to tell clusters apart) or pull images towards the mean of their cluster (as one
that learns them by heart); other changes add noise, widen the camera gap or drop directions.

    python studies/gate_linear.py --lab LAB --out runs/gate_linear

With --pictures the targets are one picture of each passage and no tracklets, in two views; every query is searched for
among all.

LAB/features/SEED is what `vreid extract` writes of LAB/world/SEED; see `gate.py`.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gate import (
    CONFIRMATION,
    NEUTRAL,
    VALIDATION,
    WAYS,
    Seen,
    Views,
    both_views,
    forgotten,
    mean_precision,
    moved,
    one_a_passage,
    shares,
    target,
)
from vreid.adaptation.clustering_features import without_answers
from vreid.adaptation.gate import gate_adaptation
from vreid.data.records import Records
from vreid.data.seeds import generator
from vreid.files import write_json
from vreid.retrieval.features import FeatureSet, unit_rows

Features = NDArray[np.float64]
LEARNED = [
    name
    for name, way in WAYS.items()
    if way.spoilt != "other world" and name not in {"auto", "short", "rate far too high", "too long"}
]
"""Ways whose pseudo labels differ."""


def inside(features_ND: Features, labels: NDArray[np.integer], ridge: float) -> Features:
    """(D, D) map that whitens by the covariance inside clusters plus `ridge` times its mean variance."""
    use = labels >= 0
    count = np.bincount(labels[use])
    means_CD = np.zeros((len(count), features_ND.shape[1]))
    np.add.at(means_CD, labels[use], features_ND[use])
    centred_ND = features_ND[use] - (means_CD / count[:, None])[labels[use]]
    covariance_DD = centred_ND.T @ centred_ND / len(centred_ND)
    values, vectors = np.linalg.eigh(
        covariance_DD + ridge * np.trace(covariance_DD) / len(covariance_DD) * np.eye(len(covariance_DD))
    )
    return np.asarray((vectors / np.sqrt(values)) @ vectors.T)


def pulled(features_ND: Features, labels: NDArray[np.integer], share: float) -> Features:
    """Features moved by `share` towards the mean of their cluster."""
    out = features_ND.copy()
    for number in range(labels.max() + 1):
        members = labels == number
        out[members] += share * (features_ND[members].mean(axis=0) - features_ND[members])
    return out


Change = Callable[[Features], Features]
"""What a change makes of one view (N, D) of the pictures; of every view the same."""


def changes(views: Views, world: int) -> Iterator[tuple[str, Change, Seen]]:
    """Name, change of the features of the world's pictures, and what adaptation saw of them."""
    features_ND: Features = np.stack([view.features for view in views]).mean(axis=0, dtype=np.float64)
    both = [views[0], views[-1]]
    for name in LEARNED:
        seen = Seen.of(WAYS[name], both, generator(world, name))
        labels = np.empty(len(features_ND), dtype=np.int32)
        labels[seen.order] = seen.pseudo.labels
        if seen.pseudo.clusters > 1 and seen.pseudo.sizes.max() > 1:
            for ridge in (1.0, 0.1):
                map_DD = inside(features_ND, labels, ridge)
                yield f"{name}, whitened inside, ridge {ridge:g}", times(map_DD), seen
            yield f"{name}, pulled together", plus(pulled(features_ND, labels, 0.5) - features_ND), seen
    seen = Seen.of(WAYS["short"], both, generator(world))
    camera = views[0].records.camera.codes
    gap_ND = np.stack([features_ND[camera == code].mean(axis=0) for code in range(camera.max() + 1)])[camera]
    gap_ND -= features_ND.mean(axis=0)
    random = generator(world, "noise")
    for share in (-1.0, -0.5, 0.1, 0.3, 1.0):
        yield f"camera gap {share:+g}", plus(share * gap_ND), seen
    for share in (0.2, 0.5, 0.8, 1.0):
        noise_ND = random.normal(size=features_ND.shape) / np.sqrt(features_ND.shape[1])
        yield f"noise {share:g}", plus(share * noise_ND), seen
    mean_D = features_ND.mean(axis=0)
    vectors_DD = np.linalg.eigh((features_ND - mean_D).T @ (features_ND - mean_D))[1]
    for kept in (4, 16, 32):
        yield f"{kept} directions kept", times(vectors_DD[:, -kept:], mean_D), seen
    for gone in (1, 3):
        yield f"{gone} strongest directions dropped", times(vectors_DD[:, :-gone], mean_D), seen


def plus(offset_ND: Features) -> Change:
    """Adds to each picture's features."""
    return lambda view_ND: view_ND + offset_ND


def times(map_DE: Features, centre_D: Features | float = 0.0) -> Change:
    """Maps what is left when the centre is taken off."""
    return lambda view_ND: (view_ND - centre_D) @ map_DE


def searches(lab: Path, world: int, out: Path) -> tuple[Views, Records, int]:
    """Features of the world's query and gallery pictures, the truth about them, and how many are queries."""
    query, gallery = (
        FeatureSet.load(lab / "features" / str(world) / f"{side}.safetensors") for side in ("query", "gallery")
    )
    known = FeatureSet.concat([query, gallery])
    return [replace(known, records=without_answers(known.records))], known.records, len(query)


def pictures(lab: Path, world: int, out: Path) -> tuple[Views, Records, int]:
    """The same of one picture of each passage, tracklets forgotten; 0: every picture is a query."""
    records = target(lab, world)[0]
    records = records[one_a_passage(records, world)]
    views = both_views(lab / "run" / str(world), records, out / str(world))
    return [forgotten(view.normalise()) for view in views], records, 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lab", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/gate_linear"))
    parser.add_argument("--worlds", type=int, nargs="+", default=[*VALIDATION, *CONFIRMATION])
    parser.add_argument("--pictures", action="store_true", help="one picture of a passage, no tracklets")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for world in options.worlds:
        before, truth, num_queries = (pictures if options.pictures else searches)(options.lab, world, options.out)
        level = mean_precision(before, truth, num_queries)
        for name, changed, seen in changes(before, world):
            after = [
                replace(view, features=unit_rows(changed(view.features.astype(np.float64)).astype(np.float32)))
                for view in before
            ]
            change = mean_precision(after, truth, num_queries) - level
            old, new = (moved(views, seen.order, seen.pseudo.records) for views in (before, after))
            flipped = (old[1], new[1]) if options.pictures else None
            decision = gate_adaptation(old[0], new[0], seen.pseudo, flipped=flipped)
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
        write_json(options.out / f"{world}.json", [row for row in rows if row["world"] == world])
    for title, worlds in (("validation", VALIDATION), ("confirmation", CONFIRMATION)):
        part = [row for row in rows if row["world"] in worlds]
        kinds = Counter(
            "harm" if row["change"] < -NEUTRAL else "good" if row["change"] > NEUTRAL else "neutral" for row in part
        )
        print(f"{title}: {len(part)} changes ({dict(kinds)}); {'; '.join(shares(part))}")


if __name__ == "__main__":
    main()
