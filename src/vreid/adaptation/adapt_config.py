"""What decides an adaptation: one frozen value, and the presets of DMT's two sets of pseudo labels.

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
    """How features become pseudo labels; None is decided by the data (`vreid.adaptation.auto_settings`), with a reason.

    Attributes:
        camera: what is taken off each feature: its camera's second moment ("whitening", DMT's code), its camera's
            "mean" (Eq. 2), or nothing ("none").
        ridge: of the whitening: P_c = (X_c^T X_c + n_c ridge I)^-1.
        centred: X_c without its mean.
        alpha: how much of the camera's mean is taken off where `camera` is "mean".
        own_share: a of y <- a y + (1 - a) mean of its tracklet; 1 leaves tracklets out.
        renormalise: y is L2-normalised after that.
        level: what is clustered: every "image", or every "tracklet" by the mean of its images, as one point.
        k1, k2: neighbours of the k-reciprocal encoding, the point itself among them, and of its averaging.
        cosine_weight: share of the cosine distance beside the Jaccard distance.
        eps: largest distance of neighbours in DBSCAN.
        min_samples: how many neighbours, itself included, make the core of a cluster.
        scenes: images of two scene groups are never neighbours.
        scene_groups: cameras of each scene group (see `SceneGroups`); () takes the column `scene`, or, where it is not
            known, the labels of source images.
        cannot_link: no cluster holds two tracklets of one camera that overlap in "time", or two of one "camera" at all
            (no vehicle passes it twice); a cluster that does is divided at its weakest links.
        tight: a cluster that falls apart under an eps so much smaller is replaced by its parts; 0 asks nothing.
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
    """Everything that decides an adaptation besides the model and the images; plain values, so `asdict` is its hash.

    Attributes:
        preset: the name of the settings that it began with.
        pseudo: how features become pseudo labels.
        epochs: of fine-tuning.
        recluster: epochs after which the labels are made anew with the model as it is then; 0: once, at the beginning.
        visits: how often a clustered image is seen in fine-tuning, where `iterations` is None.
        iterations: batches of an epoch.
        num_identities, num_instances: P and K of a batch; K of None follows from the sizes of the clusters. P is at
            most the number of clusters.
        learning_rate: of SGD, constant, twice that for biases and the classifier; None: the fewer batches the higher,
            DMT's 0.0004 for its 900.
        classifier: rows of the new classifier are means of the "clustered" features of each cluster (DMT), or of the
            model's own ("plain").
        new_cameras: cameras without an embedding (SIE) get one of their own, which starts as the mean of the trained
            ones; off: they take that mean in training, too.
        replay: half of each batch are labelled source images, where a source is given.
        ema: the model is the running mean of the weights with this decay; 0: the last weights.
        held_out: share of the tracklets (an image without one is one) that no batch shows: evidence for the gate.
        gate: the adapted model is kept only if label-free evidence speaks for it.
        seed: of batches and augmentation.
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
    return {config.preset: config for config in (auto, v1, v2, paper)}


PRESETS: Mapping[str, AdaptConfig] = _presets()
"""By name: "v1" and "v2" are DMT's two sets of pseudo labels as its code makes them, "paper" is Eq. 2 and 3 as printed
(the camera's mean, beta = 0.0005, no whitening), "auto" follows the data."""


def preset_named(name: str) -> AdaptConfig:
    """The preset of that name.

    Raises:
        InputError: there is none.
    """
    return named("preset", PRESETS, name)
