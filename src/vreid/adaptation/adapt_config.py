"""Configuration of an adaptation, with presets for DMT's two sets of pseudo labels.

Source: Luo et al., "An Empirical Study of Vehicle Re-Identification on the AI City Challenge", CVPRW 2021, section 3.3,
and the authors' released code, which differs from the paper's equations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from vreid.errors import named
from vreid.ranges import check_number, check_settings, in_range

CameraStep = Literal["whitening", "mean", "none"]
CannotLink = Literal["off", "time", "camera"]


@dataclass(frozen=True)
class PseudoConfig:
    """Settings of pseudo labels; None is chosen from the data (`vreid.adaptation.auto_settings`) and reported.

    Attributes:
        camera: camera normalisation of features: "whitening" by the camera's second moment (DMT's code), subtraction
            of the camera's "mean" (Eq. 2), or "none".
        ridge: ridge of the whitening: P_c = (X_c^T X_c + n_c ridge I)^-1.
        centred: subtract the mean from X_c.
        alpha: factor of the camera's mean if `camera` is "mean".
        own_share: a in y <- a y + (1 - a) mean of its tracklet; 1 ignores tracklets.
        renormalise: L2-normalise y afterwards.
        level: unit of clustering: each "image", or each "tracklet" by the mean of its images.
        k1, k2: neighbours of the k-reciprocal encoding, the point itself among them, and of its averaging.
        cosine_weight: weight of the cosine distance; the Jaccard distance has the rest.
        eps: largest distance of neighbours in DBSCAN.
        min_samples: number of neighbours, itself included, of a core point of DBSCAN.
        scenes: images of two scene groups are never neighbours.
        scene_groups: cameras of each scene group (see `SceneGroups`); () takes the column `scene`, or, where it is not
            known, the labels of source images.
        cannot_link: cannot-link constraints: no cluster may hold two tracklets of one camera that overlap in "time", or
            any two of one "camera" (if no vehicle returns); a cluster that does is split at its longest links.
        tight: replace a cluster by its parts if it splits when eps is smaller by this amount; 0 disables the check.
    """

    camera: CameraStep = "whitening"
    ridge: float | None = in_range(0.0005, least=1e-12, most=1e12)
    centred: bool = False
    alpha: float = in_range(1.0, least=-1e6, most=1e6)
    own_share: float = in_range(0.3, least=0, most=1)
    renormalise: bool = False
    level: Literal["image", "tracklet"] | None = "image"
    k1: int | None = in_range(30, least=2, most=10_000)
    k2: int | None = in_range(6, least=1, most=10_000)
    cosine_weight: float = in_range(0.1, least=0, most=0.99)
    eps: float | None = in_range(0.55, least=1e-6, most=0.999999)
    min_samples: int | None = in_range(10, least=1, most=1_000_000)
    scenes: bool = False
    scene_groups: tuple[tuple[str, ...], ...] = ()
    cannot_link: CannotLink = "off"
    tight: float = in_range(0.0, least=0, most=0.99)

    def __post_init__(self) -> None:
        check_settings(self, "pseudo.")
        if self.eps is not None:
            check_number("pseudo.eps", self.eps, least=1e-6, most=round(0.999999 - self.cosine_weight, 6))


@dataclass(frozen=True)
class AdaptConfig:
    """Settings of an adaptation, besides the model and the images.

    Attributes:
        preset: name of the preset that the settings are based on.
        pseudo: settings of pseudo labels.
        epochs: epochs of fine-tuning.
        recluster: interval of re-clustering in epochs; 0: cluster once, at the beginning.
        visits: average number of times that a clustered image is used in fine-tuning, if `iterations` is None.
        iterations: batches per epoch.
        num_identities, num_instances: P and K of a batch; K = None is chosen from the sizes of the clusters. P is at
            most the number of clusters.
        learning_rate: constant rate of SGD, doubled for biases and the classifier; None: inversely proportional to the
            number of batches, DMT's 0.0004 for its 900.
        classifier: rows of the new classifier: mean per cluster of the "clustered" features (DMT) or of the model's
            unprocessed features ("plain").
        new_cameras: add an embedding (SIE), initialised with the mean, for cameras without one; off: they take the mean
            in training too.
        replay: use labelled source images for half of each batch; needs a source.
        ema: decay of an exponential moving average of the weights, which becomes the model; 0: the last weights.
        held_out: share of tracklets (or of images without one) excluded from training, as evidence for the gate.
        repeats: largest number of adaptations in a row, each from the model of the one before; the first that the gate
            does not accept is dropped and ends them.
        most_images: number of images trained on in all of them; one adaptation may exceed it.
        gate: keep the adapted model only if label-free evidence supports it.
        seed: seed of batches and augmentation.
    """

    preset: str = "v1"
    pseudo: PseudoConfig = field(default_factory=PseudoConfig)
    epochs: int = in_range(3, least=1, most=100_000)
    recluster: int = in_range(0, least=0, most=100_000)
    visits: float = in_range(8.0, least=0.01, most=1e6)
    iterations: int | None = in_range(300, least=1, most=1_000_000)
    num_identities: int = in_range(12, least=2, most=10_000)
    num_instances: int | None = in_range(8, least=2, most=10_000)
    learning_rate: float | None = in_range(4e-4, least=1e-12, most=1e30)
    classifier: Literal["clustered", "plain"] = "clustered"
    new_cameras: bool = False
    replay: bool = False
    ema: float = in_range(0.0, least=0, most=0.999999)
    held_out: float = in_range(0.0, least=0, most=0.9)
    repeats: int = in_range(1, least=1, most=1000)
    most_images: float = in_range(24_000, least=1, most=1e12)
    gate: bool = True
    seed: int = in_range(1234, least=0, most=2**63 - 1)

    def __post_init__(self) -> None:
        check_settings(self)


def _presets() -> dict[str, AdaptConfig]:
    v1 = AdaptConfig()
    v2 = replace(v1, preset="v2", pseudo=replace(v1.pseudo, own_share=0.1, scenes=True))
    paper = replace(v1, preset="paper", pseudo=replace(v1.pseudo, camera="mean", own_share=0.0005))
    by_data = replace(
        v1.pseudo, ridge=None, level=None, k1=None, k2=None, eps=None, min_samples=None, cannot_link="time"
    )
    auto = replace(v1, preset="auto", pseudo=by_data, iterations=None, num_instances=None, learning_rate=None)
    auto = replace(auto, repeats=8)
    return {config.preset: config for config in (auto, v1, v2, paper)}


PRESETS: Mapping[str, AdaptConfig] = _presets()
"""Presets by name: "v1" and "v2" are the two sets of pseudo labels of DMT's code, "paper" is Eq. 2 and 3 as printed
(camera mean, beta = 0.0005, no whitening), "auto" chooses settings from the data."""


def preset_named(name: str) -> AdaptConfig:
    """Return the preset `name`.

    Raises:
        InputError: there is none.
    """
    return named("preset", PRESETS, name)
