"""Settings that follow from the data, each with its reason: no label is looked at.

The evidence: one camera's passages (tracklets) are of different vehicles, but for the rare one that returns. A
clustering that puts a share v of all pairs of passages of one camera into one cluster puts about the same share of
pairs of different vehicles of two cameras there too. So of X linked pairs of two cameras about v times all such pairs
are wrong, and eps and k1 are those that link the most right pairs beyond `PRICE` times the wrong ones.

Shapes: N images, U points that are clustered.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.adaptation.config import PseudoConfig
from vreid.adaptation.features import RIDGE
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.retrieval.features import FeatureSet
from vreid.retrieval.tracklets import units_of_codes

EPS = tuple(round(0.3 + 0.05 * step, 2) for step in range(11))
"""Looked at where eps follows from the data."""
NEIGHBOURS = (5, 7, 10, 15)
"""Passages in a k-reciprocal list, looked at where k1 follows from the data."""
PRICE = 2.0
"""Right pairs that one wrong pair must bring, at least, to be worth it."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """One clustering: its settings, (N,) labels of the images, and the graph of the points it was made from."""

    k1: int
    eps: float
    min_samples: int
    labels: NDArray[np.integer]
    graph: Any


@dataclass(frozen=True)
class Evidence:
    """Pairs of images of two passages that share a cluster.

    Attributes:
        linked: of two cameras.
        wrong: how many of these are of two vehicles, judged by the pairs of one camera.
    """

    linked: float
    wrong: float

    @property
    def gain(self) -> float:
        """Right pairs less `PRICE` times the wrong ones."""
        return self.linked - (1 + PRICE) * self.wrong


def structure(features: FeatureSet, config: PseudoConfig) -> tuple[PseudoConfig, tuple[str, ...]]:
    """`config` with the level decided, and why."""
    reasons, records, dimensions = [], features.records, features.features.shape[1]
    if config.level is None:
        share = float(records.tracklet.known[records.split.values != "query"].mean()) if len(records) else 0.0
        by_tracklet = share >= 0.5
        config = replace(config, level="tracklet" if by_tracklet else "image")
        what = "a tracklet is one point" if by_tracklet else "images are clustered one by one"
        reasons.append(f"level {config.level}: {share:.0%} of the images have a tracklet, so {what}.")
    if config.ridge is None and config.camera == "whitening":
        reasons.append(
            f"ridge {RIDGE / dimensions:.2g}: {RIDGE:g} times the mean square of one of {dimensions} dimensions."
        )
    return config, tuple(reasons)


def candidates(
    points_UD: NDArray[np.float32], unit: NDArray[np.intp], records: Records, config: PseudoConfig
) -> list[tuple[int, int, tuple[float, ...], int]]:
    """(k1, k2, several eps, min_samples) to look at; one if nothing is left to the data."""
    count = len(points_UD)
    if count < 3:
        raise InputError(f"There are {count} images or tracklets to cluster; adaptation needs at least 3.")
    images, several = _images_of_a_passage(records, config)
    many = [config.k1] if config.k1 else sorted({min(k * images, count - 1) for k in NEIGHBOURS})
    min_samples = config.min_samples or (2 if images == 1 and not several else min(max(images, 4), 10))
    return [
        (k1, config.k2 or max(1, min(6, round(k1 / 5))), (config.eps,) if config.eps else EPS, min_samples)
        for k1 in many
    ]


def _images_of_a_passage(records: Records, config: PseudoConfig) -> tuple[int, bool]:
    """How many points a passage is, and whether several although no tracklet says so."""
    known = records.tracklet.known
    if config.level == "tracklet" or not known.any():
        return 1, False
    sizes = np.bincount(records.tracklet.codes[known])
    return max(1, round(float(np.median(sizes[sizes > 0])))), False


def evidence(labels: NDArray[np.integer], records: Records) -> Evidence | None:
    """What the passages of one camera say of a clustering; None where they can say nothing.

    Where no image has a tracklet each counts as a passage of its own.
    """
    use = records.camera.known & (records.tracklet.known | (not records.tracklet.known.any()))
    label, camera = labels[use], records.camera.codes[use]
    passage, _ = units_of_codes(records.tracklet.codes[use])
    same_camera = _pairs(camera) - _pairs(passage)
    two_cameras = len(label) * (len(label) - 1) / 2 - _pairs(camera)
    if not same_camera or not two_cameras:
        return None
    inside = label >= 0
    label, camera, passage = label[inside], camera[inside], passage[inside]
    of_one = _pairs(label, camera)
    mistaken = of_one - _pairs(label, passage)
    return Evidence(_pairs(label) - of_one, mistaken * two_cameras / same_camera)


def _pairs(*keys: NDArray[np.integer]) -> float:
    """How many pairs agree in all keys."""
    if not len(keys[0]):
        return 0.0
    counts = np.unique(np.stack(keys), axis=1, return_counts=True)[1].astype(np.float64)
    return float((counts * (counts - 1) / 2).sum())


def choose(found: list[Candidate], records: Records, config: PseudoConfig) -> tuple[Candidate, tuple[str, ...]]:
    """The best of the candidates, and why it is that."""
    if len(found) == 1:
        return found[0], ()
    seen = [evidence(candidate.labels, records) for candidate in found]
    gains = [one.gain if one else 0.0 for one in seen]
    best = int(np.argmax(gains))
    chosen, told = found[best], seen[best]
    assert told is not None
    reason = f"k1 {chosen.k1}, eps {chosen.eps:g}: of {told.linked:,.0f} pairs of two cameras in one cluster about {told.wrong:,.0f} are wrong."
    return chosen, (reason,)
