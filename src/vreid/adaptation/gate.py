"""The do-no-harm gate: does an adapted model find vehicles better? Decided without labels, in favour of the old one.

What the numbers mean stands in `vreid.adaptation.evidence`; the limits, and how often they err, in docs/adaptation.md.

Shapes: N images, D feature dimensions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vreid.adaptation.evidence import Change, Target, dimensions, pair_agreement
from vreid.adaptation.pseudo import PseudoLabels
from vreid.data.records import Records
from vreid.retrieval.cameras import subtract_camera_mean
from vreid.retrieval.cluster import cluster
from vreid.retrieval.ensemble import check_same_images
from vreid.retrieval.features import FeatureSet, unit_rows
from vreid.retrieval.jaccard import jaccard_graph
from vreid.retrieval.tracklets import mean_features, units_of_codes

Decision = Literal["ACCEPT", "REJECT", "NOT ENOUGH EVIDENCE"]
ACCEPT: Decision = "ACCEPT"
REJECT: Decision = "REJECT"
UNKNOWN: Decision = "NOT ENOUGH EVIDENCE"

K1, K2, EPS, MIN_SAMPLES, OWN_SHARE = 20, 6, 0.6, 6, 0.1
"""Settings of the clusters that the gate makes for itself."""

MEANINGS = {
    "own camera": "half a tracklet finds the other half among the images of its camera",
    "same cluster": "an image finds those of its cluster in other cameras",
    "round trip": "a tracklet leads to another camera and back",
    "two views": "an image is found by its mirror image",
    "other cameras": "other cameras have their share among the nearest tracklets",
}
"""The changes of a verdict by name: what each is the success of."""


@dataclass(frozen=True)
class Limits:
    """What the gate asks for; chosen on simulated validation worlds.

    Attributes:
        tracklets: fewer of two images or more say nothing.
        agreement: of the pseudo labels with clusters that the gate makes for itself, by pairs in two cameras.
        dimensions: of the adapted features, as a share of the old ones.
        loss: a mean that falls by more, its interval lying below 0, is harm.
        gain: what the interval of "same cluster" must lie above.
    """

    tracklets: int = 20
    agreement: float = 0.1
    dimensions: float = 0.5
    loss: float = 0.01
    gain: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """ACCEPT, REJECT or NOT ENOUGH EVIDENCE, and why; on anything but ACCEPT the old model stays.

    Attributes:
        decision: one of the three.
        reason: one sentence.
        changes: what became of each number in `MEANINGS` that could be had of these pictures.
        facts: plain numbers: tracklets, cameras, clusters, noise, agreement, dimensions.
    """

    decision: Decision
    reason: str
    changes: dict[str, Change]
    facts: dict[str, float]

    @property
    def accepted(self) -> bool:
        """Whether the adapted model takes the old one's place."""
        return self.decision == ACCEPT

    @property
    def evidence(self) -> dict[str, Any]:
        """Changes and facts as plain values for JSON."""
        return {**{name: asdict(change) for name, change in self.changes.items()}, **self.facts}


def judge_adaptation(
    before: FeatureSet,
    after: FeatureSet,
    pseudo: PseudoLabels,
    *,
    flipped: tuple[FeatureSet, FeatureSet] | None = None,
    limits: Limits | None = None,
    seed: int = 0,
) -> Verdict:
    """Whether the model of `after` is better than that of `before` on the target's pictures, without their labels.

    Args:
        before, after: features of the same N images by the old and by the adapted model.
        pseudo: what the adapted model learned from.
        flipped: features of the mirror images by both models; searches are then those of both views together, and
            "two views" is among the evidence.
        limits: what it takes.
        seed: of drawn tracklets and intervals.

    Raises:
        InputError: the features are not of the same images in the same order.
    """
    records = before.records
    check_same_images(records, after.records, "the adapted model")
    check_same_images(records, pseudo.records, "the pseudo labels")
    models = [(before, *flipped[:1]), (after, *flipped[1:])] if flipped else [(before,), (after,)]
    old, new = (unit_rows(np.sum([view.features for view in model], axis=0)) for model in models)
    target, labels = Target(records, seed=seed), reference_labels(old, records)
    values = {
        "own camera": (target.own_camera(old), target.own_camera(new)),
        "same cluster": (target.same_cluster(old, labels), target.same_cluster(new, labels)),
        "round trip": (target.round_trip(old), target.round_trip(new)),
        "other cameras": (target.other_cameras(old), target.other_cameras(new)),
    }
    if flipped:
        one, other = ([unit_rows(view.features) for view in model] for model in models)
        values["two views"] = target.two_views(*one), target.two_views(*other)
    changes = {name: Change.of(*both, seed=seed) for name, both in values.items()}
    facts = {
        "tracklets": target.tracklets,
        "cameras": target.cameras,
        "clusters": pseudo.clusters,
        "noise": pseudo.noise,
        "agreement": pair_agreement(pseudo.labels, labels, records.camera.codes),
        "dimensions": dimensions(new) / max(dimensions(old), 1.0),
    }
    return decide({name: change for name, change in changes.items() if change is not None}, facts, limits or Limits())


def reference_labels(
    features_ND: NDArray[np.float32], records: Records, *, eps: float = EPS, camera_means: bool = True
) -> NDArray[np.int64]:
    """(N,) clusters of images by the gate's own settings, -1 for none; what the adaptation was told does not matter.

    Camera means off, images pulled towards their tracklet's mean, k-reciprocal Jaccard distance, DBSCAN.
    """
    if not records.camera.known.any() or len(records) <= K1:
        return np.full(len(records), -1, dtype=np.int64)
    made = FeatureSet(features_ND, records, normalised=True)
    if camera_means:
        _, made = subtract_camera_mean(made, made)
    units, first = units_of_codes(records.tracklet.codes)
    means_UD = mean_features(made.features, units, len(first), renormalise=False)
    mixed_ND = unit_rows(OWN_SHARE * made.features + (1 - OWN_SHARE) * means_UD[units])
    return cluster(jaccard_graph(mixed_ND, k1=K1, k2=K2, max_distance=eps), eps, MIN_SAMPLES)


def decide(changes: dict[str, Change], facts: dict[str, float], limits: Limits) -> Verdict:
    """The rule: what speaks against the adapted model, then what is missing, then what speaks for it."""

    def verdict(decision: Decision, reason: str) -> Verdict:
        return Verdict(decision, reason, changes, facts)

    if facts["clusters"] < 2:
        return verdict(REJECT, "The pseudo labels are fewer than two clusters, so nothing could be learned from them.")
    if facts["agreement"] < limits.agreement:
        return verdict(
            REJECT,
            "The pseudo labels are not what the features say: of the pairs of images in two cameras that they put "
            f"together only {100 * facts['agreement']:.0f} % are those of clusters made anew.",
        )
    if facts["dimensions"] < limits.dimensions:
        return verdict(
            REJECT,
            f"The features have collapsed: they use {100 * facts['dimensions']:.0f} % of the directions that the old "
            "ones use.",
        )
    for name in ("own camera", "same cluster", "round trip"):
        if name in changes and changes[name].high < 0 and changes[name].change < -limits.loss:
            return verdict(REJECT, f"Vehicles are found less well: {told(name, changes[name])}.")
    if facts["cameras"] < 2:
        return verdict(UNKNOWN, "There is one camera only: nothing says whether vehicles are found again at another.")
    if facts["tracklets"] < limits.tracklets:
        return verdict(
            UNKNOWN,
            f"There are {facts['tracklets']:.0f} tracklets of two images or more, and {limits.tracklets} are needed: "
            "too few pairs of images are known to show the same vehicle.",
        )
    if "same cluster" not in changes or changes["same cluster"].low <= limits.gain:
        return verdict(UNKNOWN, "No gain")
    return verdict(ACCEPT, f"Vehicles are found better: {told('same cluster', changes['same cluster'])}.")


def told(name: str, change: Change) -> str:
    """One number of a verdict in words, in percent."""
    before, after, low, high = (100 * value for value in (change.before, change.after, change.low, change.high))
    return f"{MEANINGS[name]} in {after:.1f} %, before {before:.1f} % (change {low:+.1f} to {high:+.1f})"
