"""What decides an adaptation: one frozen value, and the presets of DMT's two sets of pseudo labels.

Source: Luo et al., "An Empirical Study of Vehicle Re-Identification on the AI City Challenge", CVPRW 2021, section 3.3,
and the authors' released code, from which the paper's equations differ (see `docs/adaptation.md`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from vreid.errors import InputError, nearest_name


@dataclass(frozen=True)
class PseudoConfig:
    """How features become pseudo labels; None is decided by the data (`vreid.adaptation.settings`), with a reason.

    Attributes:
        camera: what is taken off each feature: its camera's second moment ("whitening", DMT's code), its camera's
            "mean" (Eq. 2), or nothing ("none").
        ridge: of the whitening, relative to the mean square: P_c = (X_c^T X_c + n_c ridge I)^-1.
        centred: X_c without its mean.
        alpha: how much of the camera's mean is taken off where `camera` is "mean".
        own_share: a of y <- a y + (1 - a) mean of its tracklet; 1 leaves tracklets out.
        renormalise: y is L2-normalised after that.
        k1, k2: neighbours of the k-reciprocal encoding, the image itself among them, and of its averaging.
        cosine_weight: share of the cosine distance beside the Jaccard distance.
        eps: largest distance of neighbours in DBSCAN.
        min_samples: how many neighbours, itself included, make the core of a cluster.
        scenes: images of two scene groups are never neighbours.
        scene_groups: cameras of each scene group; () takes the column `scene`.
        level: what is clustered: every "image", or every "tracklet" by the mean of its images, as one point.
        cannot_link: a cluster that holds two tracklets which one camera saw at the same time is divided.
    """

    camera: Literal["whitening", "mean", "none"] = "whitening"
    ridge: float = 0.0005
    centred: bool = False
    alpha: float = 1.0
    own_share: float = 0.3
    renormalise: bool = False
    k1: int | None = 30
    k2: int | None = 6
    cosine_weight: float = 0.1
    eps: float | None = 0.55
    min_samples: int | None = 10
    scenes: bool = False
    scene_groups: tuple[tuple[str, ...], ...] = ()
    level: Literal["image", "tracklet"] = "image"
    cannot_link: bool = False
