"""The adaptation gate: decide without labels whether an adapted model is better; in doubt, keep the old one.

`vreid.adaptation.evidence` defines the measurements; docs/guides/adaptation.md lists limits and error rates.

Shapes: N images, D feature dimensions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vreid.adaptation.adapt_config import PseudoConfig
from vreid.adaptation.auto_settings import image_tracklets
from vreid.adaptation.clustering_features import prepare
from vreid.adaptation.evidence import (
    Change,
    UnlabelledSet,
    Values,
    dimensions,
    num_pairs,
    pair_agreement,
    views_as_tracklets,
)
from vreid.adaptation.pseudo import PseudoLabels, pseudo_labels
from vreid.data.records import Records
from vreid.retrieval.features import FeatureSet, unit_rows
from vreid.retrieval.postprocessing.ensemble import check_same_images

Decision = Literal["ACCEPT", "REJECT", "NOT ENOUGH EVIDENCE"]
ACCEPT: Decision = "ACCEPT"
REJECT: Decision = "REJECT"
UNKNOWN: Decision = "NOT ENOUGH EVIDENCE"

REFERENCE = PseudoConfig(
    "mean", own_share=0.1, renormalise=True, k1=20, k2=6, cosine_weight=0.0, eps=0.6, min_samples=6
)
"""Settings of the gate's own reference clusters."""
SINGLE_IMAGES = PseudoConfig("mean", own_share=1.0, k1=5, k2=1, cosine_weight=0.0, eps=0.7, min_samples=2)
"""Settings of the reference clusters for images without tracklets."""

MEANINGS = {
    "same cluster": "an image retrieves its cluster in other cameras",
    "own camera": "half a tracklet retrieves the other half within its camera",
    "round trip": "a tracklet leads to another camera and back to itself",
    "held-out tracklets": "half a held-out tracklet retrieves the other half within its camera",
    "two views": "an image is retrieved by its mirror image",
    "other cameras": "the nearest tracklets are from other cameras",
}
"""Description of each measurement, by name."""

GAIN, HELD_OUT = "same cluster", "held-out tracklets"
DECISIVE = (GAIN, "own camera", "round trip")
"""Decisive measurements: the first must improve, the others must not get worse; nor must held-out tracklets."""

AGREEMENT = "agreement of two pseudo-label sets"
"""Name of the agreement of the pseudo labels with the gate's reference clusters."""


@dataclass(frozen=True)
class Limits:
    """Thresholds of the gate, chosen on simulated validation worlds.

    Attributes:
        tracklets: smallest number of tracklets with two or more images, for every measurement.
        mixed: largest share of tracklets with images of several cameras.
        agreement: smallest agreement of the pseudo labels with the reference clusters, over cross-camera pairs.
        sense: smallest "own camera" of the old model; below it, the tracklets are unreliable.
        dimensions: smallest effective dimension of the adapted features, as a share of that of the old ones.
        loss: largest acceptable loss of a mean whose interval is below 0.
        gain: lower bound for the interval of "same cluster".
    """

    tracklets: int = 20
    mixed: float = 0.05
    agreement: float = 0.1
    sense: float = 0.3
    dimensions: float = 0.5
    loss: float = 0.01
    gain: float = 0.0


@dataclass(frozen=True)
class GateDecision:
    """Decision of the gate with its reason; the old model is kept unless the decision is ACCEPT.

    Attributes:
        decision: ACCEPT, REJECT or NOT ENOUGH EVIDENCE.
        reason: one sentence.
        changes: change of each measurement in `MEANINGS` that is available for these images.
        facts: further numbers: tracklets, images (if they replace tracklets), cameras, mixed, clusters, noise,
            dimensions, `AGREEMENT`.
    """

    decision: Decision
    reason: str
    changes: dict[str, Change]
    facts: dict[str, float]

    @property
    def accepted(self) -> bool:
        """Whether the adapted model replaces the old one."""
        return self.decision == ACCEPT

    @property
    def evidence(self) -> dict[str, Any]:
        """Changes and facts as JSON-serialisable values."""
        return {**{name: asdict(change) for name, change in self.changes.items()}, **self.facts}

    def as_dict(self) -> dict[str, Any]:
        """Decision, reason and evidence as JSON-serialisable values."""
        return {"decision": self.decision, "reason": self.reason, "evidence": self.evidence}

    @property
    def evidence_lines(self) -> tuple[str, ...]:
        """The evidence as sentences, decisive measurements first."""
        names = sorted(self.changes, key=lambda name: (*DECISIVE, HELD_OUT, *MEANINGS).index(name))
        lines = [f"{name}: {describe_change(name, self.changes[name])}." for name in names]
        if AGREEMENT in self.facts:
            lines.append(f"{AGREEMENT}: {100 * self.facts[AGREEMENT]:.0f} % of the cross-camera pairs of images.")
        return tuple(lines)


def gate_adaptation(
    before: FeatureSet,
    after: FeatureSet,
    pseudo: PseudoLabels,
    *,
    flipped: tuple[FeatureSet, FeatureSet] | None = None,
    limits: Limits | None = None,
    seed: int = 0,
) -> GateDecision:
    """Decide without labels whether the adapted model is better than the old one on the target's images.

    Args:
        before, after: features of the same N images by the old and by the adapted model.
        pseudo: the pseudo labels on which the adapted model was trained.
        flipped: features of the flipped images by both models; then both views are combined, "two views" is measured,
            and the two views of an image replace tracklets if none are known.
        limits: thresholds; None for the defaults.
        seed: seed of tracklet samples and confidence intervals.

    Raises:
        InputError: the features are not of the same images in the same order.
    """
    records = before.records
    check_same_images(records, after.records, "the adapted model")
    check_same_images(records, pseudo.records, "the pseudo labels")
    models = [(before, *flipped[:1]), (after, *flipped[1:])] if flipped else [(before,), (after,)]
    old, new = (unit_rows(np.sum([view.features for view in model], axis=0)) for model in models)
    views = [[unit_rows(view.features) for view in model] for model in models] if flipped else []
    labels, camera = reference_labels(old, records), records.camera.codes
    target, images = UnlabelledSet(records, seed=seed), 0
    if views and single_images(old, records):
        target, images = UnlabelledSet(views_as_tracklets(records), seed=seed), len(records)
        values = _of_images(target, views, np.tile(labels, 2))
    else:
        values = _of_tracklets(target, old, new, labels, pseudo)
        if views:
            values["two views"] = target.two_views(*views[0]), target.two_views(*views[1])
    changes = {name: Change.of(*both, seed=seed) for name, both in values.items()}
    facts: dict[str, float] = {
        "tracklets": 0 if images else target.tracklets,
        "images": images,
        "cameras": target.cameras,
        "mixed": target.mixed,
        "clusters": pseudo.clusters,
        "noise": pseudo.noise,
        AGREEMENT: pair_agreement(pseudo.labels, labels, camera) if num_pairs(labels, camera=camera) else np.nan,
        "dimensions": dimensions(new) / max(dimensions(old), 1.0),
    }
    return decide(
        {name: change for name, change in changes.items() if change is not None},
        {name: fact for name, fact in facts.items() if np.isfinite(fact)},
        limits or Limits(),
    )


def _of_tracklets(
    target: UnlabelledSet,
    old: NDArray[np.float32],
    new: NDArray[np.float32],
    labels: NDArray[np.int32],
    pseudo: PseudoLabels,
) -> dict[str, tuple[Values, Values]]:
    """Measure both models per tracklet, by name; `labels` (N,) are the reference clusters."""
    values = {
        "own camera": (target.own_camera(old), target.own_camera(new)),
        GAIN: (target.same_cluster(old, labels), target.same_cluster(new, labels)),
        "round trip": (target.round_trip(old), target.round_trip(new)),
        "other cameras": (target.other_cameras(old), target.other_cameras(new)),
    }
    learned = np.isin(np.arange(len(values["own camera"][0])), target.tracklet[pseudo.labels >= 0])
    one, other = values["own camera"]
    values[HELD_OUT] = np.where(learned, np.nan, one), np.where(learned, np.nan, other)
    return values


def _of_images(
    target: UnlabelledSet, views: list[list[NDArray[np.float32]]], labels: NDArray[np.int32]
) -> dict[str, tuple[Values, Values]]:
    """Measure both models per image from two views, by name; `labels` (2N,) are the reference clusters."""
    old, new = (np.concatenate(model) for model in views)
    return {
        GAIN: (target.same_cluster(old, labels), target.same_cluster(new, labels)),
        "round trip": (target.round_trip(old), target.round_trip(new)),
        "other cameras": (target.other_cameras(old), target.other_cameras(new)),
        "two views": (target.own_camera(old), target.own_camera(new)),
    }


def single_images(features_ND: NDArray[np.float32], records: Records) -> bool:
    """Whether no tracklet is known and each image counts as one by its unit-length feature (see `image_tracklets`)."""
    if records.tracklet.known.any() or not records.camera.known.any():
        return False
    return image_tracklets(prepare(FeatureSet(features_ND, records), SINGLE_IMAGES), records) is not None


def reference_labels(features_ND: NDArray[np.float32], records: Records) -> NDArray[np.int32]:
    """Cluster unit-length features with fixed settings, independent of the run's: labels (N,), -1 for noise."""
    config = REFERENCE if records.tracklet.known.any() else SINGLE_IMAGES
    if not records.camera.known.any() or len(records) <= (config.k1 or 0):
        return np.full(len(records), -1, dtype=np.int32)
    return pseudo_labels(FeatureSet(features_ND, records), config).labels


def decide(changes: dict[str, Change], facts: dict[str, float], limits: Limits) -> GateDecision:
    """Decide from the evidence: check its reliability, then losses, then missing evidence, then gains."""

    def decision(decision: Decision, reason: str) -> GateDecision:
        if images:
            reason = f"{reason[:-1]}; no tracklets are known, so two views of each image were used instead."
        return GateDecision(decision, reason, changes, facts)

    images = facts.get("images", 0)
    decisive = tuple(name for name in DECISIVE if name != "own camera" or not images)
    if facts["clusters"] < 2:
        return decision(REJECT, "The pseudo labels have fewer than two clusters, so the model could not be trained.")
    known = {name: change for name, change in changes.items() if change.tracklets >= limits.tracklets}
    if facts["mixed"] > limits.mixed:
        return decision(
            UNKNOWN,
            f"{100 * facts['mixed']:.0f} % of the tracklets have images of several cameras; check the columns tracklet "
            "and camera.",
        )
    if "own camera" in known and known["own camera"].before < limits.sense:
        return decision(
            UNKNOWN,
            "Images of a tracklet are hardly more similar than other images of its camera, so the column tracklet is "
            f"unreliable: {describe_change('own camera', known['own camera'])}.",
        )
    if facts["dimensions"] < limits.dimensions:
        return decision(
            REJECT,
            "The features have collapsed: their effective dimension is "
            f"{100 * facts['dimensions']:.0f} % of that of the old model.",
        )
    for name in (*decisive, HELD_OUT):
        change = known.get(name)
        if change and change.high < 0 and change.change < -limits.loss:
            return decision(REJECT, f"Retrieval is worse: {describe_change(name, change)}.")
    if facts["cameras"] < 2:
        return decision(UNKNOWN, "There is only one camera, so cross-camera retrieval cannot be measured.")
    if max(facts["tracklets"], images) < limits.tracklets:
        return decision(
            UNKNOWN,
            f"There are {facts['tracklets']:.0f} tracklets with two or more images; at least {limits.tracklets} are "
            "needed.",
        )
    for name in decisive:
        if name not in known:
            return decision(
                UNKNOWN, f"Fewer than {limits.tracklets} tracklets show how often {MEANINGS[name]} ({name!r})."
            )
    if facts.get(AGREEMENT, 1.0) < limits.agreement:
        return decision(
            UNKNOWN,
            "The pseudo labels do not agree with the features: only "
            f"{100 * facts[AGREEMENT]:.0f} % of cross-camera pairs are common to them and the reference clusters.",
        )
    for name in decisive:
        change = known[name]
        least = limits.gain if name == GAIN else -limits.loss
        if change.low <= least:
            return decision(
                UNKNOWN,
                f"The change is not significant, or too small: {describe_change(name, change)}; the lower end of its "
                f"interval must be above {100 * least:+.1f}.",
            )
    return decision(ACCEPT, f"Retrieval is better: {describe_change(GAIN, known[GAIN])}.")


def describe_change(name: str, change: Change) -> str:
    """Format a measurement as text, in percent."""
    before, after, low, high = (100 * value for value in (change.before, change.after, change.low, change.high))
    return f"{MEANINGS[name]} with {after:.1f} %, before {before:.1f} % (change {low:+.1f} to {high:+.1f})"
