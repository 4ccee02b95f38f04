"""How often is the do-no-harm gate wrong about changed features? Hundreds of changes in seconds; nothing is trained.

Stand-ins for adaptations, good and bad. Pseudo labels, some spoilt as in `gate.py`, give a linear map (whitening inside
clusters, as a network does that learns to tell clusters apart) or pull images towards the mean of their cluster (as one
that learns them by heart); other changes add noise, widen the camera gap or drop directions.

    python experiments/gate_linear.py --lab LAB --out runs/gate_linear

LAB/features/SEED is what `vreid extract` writes of LAB/world/SEED; see `gate.py`.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gate import CONFIRMATION, NEUTRAL, VALIDATION, WAYS, Seen, mean_precision, shares
from vreid.adaptation.features import without_answers
from vreid.adaptation.gate import judge_adaptation
from vreid.data.seeds import generator
from vreid.files import write_json
from vreid.retrieval.features import FeatureSet, unit_rows

Features = NDArray[np.float64]
LEARNED = [name for name, way in WAYS.items() if way.spoilt != "other world" and name not in {
    "auto", "short", "rate far too high", "too long"}]  # fmt: skip
"""Ways whose pseudo labels differ."""


def inside(features_ND: Features, labels: NDArray[np.integer], ridge: float) -> Features:
    """Features whitened by the covariance inside clusters plus `ridge` times its mean variance."""
    use = labels >= 0
    count = np.bincount(labels[use])
    means_CD = np.zeros((len(count), features_ND.shape[1]))
    np.add.at(means_CD, labels[use], features_ND[use])
    centred_ND = features_ND[use] - (means_CD / count[:, None])[labels[use]]
    covariance_DD = centred_ND.T @ centred_ND / len(centred_ND)
    values, vectors = np.linalg.eigh(covariance_DD + ridge * np.trace(covariance_DD) / len(covariance_DD) * np.eye(
        len(covariance_DD)))  # fmt: skip
    return np.asarray(features_ND @ (vectors / np.sqrt(values)) @ vectors.T)


def pulled(features_ND: Features, labels: NDArray[np.integer], share: float) -> Features:
    """Features moved by `share` towards the mean of their cluster."""
    out = features_ND.copy()
    for number in range(labels.max() + 1):
        members = labels == number
        out[members] += share * (features_ND[members].mean(axis=0) - features_ND[members])
    return out


def changes(before: FeatureSet, world: int) -> Iterator[tuple[str, Features, Seen]]:
    """Name, changed features of the world's pictures, and what adaptation saw of them."""
    features_ND = before.features.astype(np.float64)
    for name in LEARNED:
        seen = Seen.of(WAYS[name], [before, before], generator(world, name))
        labels = np.empty(len(before), dtype=np.int32)
        labels[seen.order] = seen.pseudo.labels
        if seen.pseudo.clusters > 1:
            for ridge in (1.0, 0.1):
                yield f"{name}, whitened inside, ridge {ridge:g}", inside(features_ND, labels, ridge), seen
            yield f"{name}, pulled together", pulled(features_ND, labels, 0.5), seen
    seen = Seen.of(WAYS["short"], [before, before], generator(world))
    camera = before.records.camera.codes
    gap_ND = np.stack([features_ND[camera == code].mean(axis=0) for code in range(camera.max() + 1)])[camera]
    gap_ND -= features_ND.mean(axis=0)
    random = generator(world, "noise")
    for share in (-1.0, -0.5, 0.1, 0.3, 1.0):
        yield f"camera gap {share:+g}", features_ND + share * gap_ND, seen
    for share in (0.2, 0.5, 0.8, 1.0):
        noise_ND = random.normal(size=features_ND.shape) / np.sqrt(features_ND.shape[1])
        yield f"noise {share:g}", features_ND + share * noise_ND, seen
    centred_ND = features_ND - features_ND.mean(axis=0)
    vectors_DD = np.linalg.eigh(centred_ND.T @ centred_ND)[1]
    for kept in (4, 16, 32):
        yield f"{kept} directions kept", centred_ND @ vectors_DD[:, -kept:], seen
    for gone in (1, 3):
        yield f"{gone} strongest directions dropped", centred_ND @ vectors_DD[:, :-gone], seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lab", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/gate_linear"))
    parser.add_argument("--worlds", type=int, nargs="+", default=[*VALIDATION, *CONFIRMATION])
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for world in options.worlds:
        query, gallery = (FeatureSet.load(options.lab / "features" / str(world) / f"{side}.safetensors")
                          for side in ("query", "gallery"))  # fmt: skip
        known = FeatureSet.concat([query, gallery])
        before = replace(known, records=without_answers(known.records))
        level = mean_precision([known], known.records, len(query))
        for name, changed_ND, seen in changes(before, world):
            after = replace(known, features=unit_rows(changed_ND.astype(np.float32)))
            change = mean_precision([after], known.records, len(query)) - level
            old, new = (replace(one, features=one.features[seen.order], records=seen.pseudo.records)
                        for one in (before, after))  # fmt: skip
            verdict = judge_adaptation(old, new, seen.pseudo)
            rows.append({"world": world, "way": name, "change": change, "decision": verdict.decision,
                         "reason": verdict.reason, **verdict.evidence})  # fmt: skip
        write_json(options.out / f"{world}.json", [row for row in rows if row["world"] == world])
    for title, worlds in (("validation", VALIDATION), ("confirmation", CONFIRMATION)):
        part = [row for row in rows if row["world"] in worlds]
        kinds = Counter("harm" if row["change"] < -NEUTRAL else "good" if row["change"] > NEUTRAL else "neutral"
                        for row in part)  # fmt: skip
        print(f"{title}: {len(part)} changes ({dict(kinds)}); {'; '.join(shares(part))}")


if __name__ == "__main__":
    main()
