"""Choice of clustering settings from unlabelled data, with a reason for each.

Two tracklets of one camera nearly always show different vehicles. A clustering that links a share v of all pairs of
tracklets of one camera therefore links about the same share of pairs of different vehicles across cameras. So about v
times all cross-camera pairs are linked wrongly; eps and k1 maximise the right pairs minus `PRICE` times the wrong
ones. If no tracklets are known, eps is the valley between near and far neighbours.

Shapes: N images, U points that are clustered.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.adaptation.adapt_config import PseudoConfig
from vreid.adaptation.clustering_features import RIDGE
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.retrieval.features import FeatureSet
from vreid.retrieval.nearest import nearest

EPS = tuple(round(0.3 + 0.05 * step, 2) for step in range(11))
"""Candidates of eps if it is chosen from the data."""
NEIGHBOURS = (5, 7, 10, 15)
"""Candidates for the number of tracklets in a k-reciprocal list if k1 is chosen from the data."""
PRICE = 2.0
"""Cost of a wrong pair in right pairs."""
DEFAULT_K1 = 30
"""DMT's k1, used if the number of images per vehicle is unknown."""
_SAMPLE = 2000  # images whose nearest neighbour is computed


@dataclass(frozen=True, eq=False)
class Candidate:
    """A clustering: its settings, labels (N,) of the images, and the neighbour graph of the points."""

    k1: int
    eps: float
    min_samples: int
    labels: NDArray[np.integer]
    graph: Any


@dataclass(frozen=True)
class Evidence:
    """Counts of image pairs from different tracklets in one cluster.

    Attributes:
        linked: pairs from two cameras.
        confused: share of all pairs from two tracklets of one camera that are in one cluster.
        wrong: estimated number of `linked` pairs that show two vehicles, assuming the same share across cameras.
    """

    linked: float
    confused: float
    wrong: float

    @property
    def gain(self) -> float:
        """Right pairs minus `PRICE` times the wrong ones."""
        return self.linked - (1 + PRICE) * self.wrong


def structure(features: FeatureSet, config: PseudoConfig) -> tuple[PseudoConfig, tuple[str, ...]]:
    """Choose the clustering level; return the settings, and reasons and warnings about the data."""
    reasons, records, dimensions = [], features.records, features.features.shape[1]
    if config.level is None:
        gallery = records.split.values != "query"
        share = float(records.tracklet.known[gallery].mean()) if gallery.any() else 0.0
        by_tracklet = share >= 0.5
        config = replace(config, level="tracklet" if by_tracklet else "image")
        what = "each tracklet is one point" if by_tracklet else "each image is one point"
        reasons.append(f"level {config.level}: {share:.0%} of the images have a tracklet, so {what}.")
    if config.ridge is None and config.camera == "whitening":
        reasons.append(
            f"ridge {RIDGE / dimensions:.2g}: {RIDGE:g} times the mean square of one of {dimensions} dimensions."
        )
    if records.camera.distinct == 1:
        reasons.append("All images are of one camera: there are no cross-camera pairs to learn from.")
    return config, tuple(reasons)


def image_tracklets(points_UD: NDArray[np.float32], records: Records) -> NDArray[np.int32] | None:
    """Return the tracklet of each image (N,), negative if unknown; None if it cannot be determined.

    Without known tracklets, each image counts as one, unless nearest neighbours are from the same camera far more often
    than by chance: then there are several images per tracklet, and the grouping is unknown.
    """
    if records.tracklet.known.any():
        return records.tracklet.codes
    camera = records.camera.codes
    if records.camera.distinct < 2:
        return None
    sample = np.unique(np.linspace(0, len(points_UD) - 1, _SAMPLE).astype(np.intp))
    _, index = nearest(points_UD[sample], points_UD, 2)
    other = np.where(index[:, 0] == sample, index[:, 1], index[:, 0])
    chance = float(((np.bincount(camera[camera >= 0]) / max((camera >= 0).sum(), 1)) ** 2).sum())
    own = float((camera[sample] == camera[other])[camera[sample] >= 0].mean())
    return np.arange(len(records), dtype=np.int32) if own < (1 + chance) / 2 else None


def candidates(
    count: int, tracklet: NDArray[np.int32] | None, config: PseudoConfig
) -> list[tuple[int, int, tuple[float, ...], int]]:
    """List the settings (k1, k2, several eps, min_samples) to try for `count` points; one if all are given.

    Raises:
        InputError: there are too few points.
    """
    if count < 3:
        raise InputError(f"There are {count} images or tracklets to cluster; adaptation needs at least 3.")
    size = 1
    if config.level == "image" and tracklet is not None:
        sizes = np.bincount(tracklet[tracklet >= 0])
        size = max(1, round(float(np.median(sizes[sizes > 0]))))
    if config.k1:
        several = [config.k1]
    elif tracklet is None:
        several = [min(DEFAULT_K1, max(3, count // 10))]
    else:
        several = sorted({min(k * size, count - 1) for k in NEIGHBOURS})
    min_samples = config.min_samples or (4 if tracklet is None else 2 if size == 1 else min(max(size, 4), 10))
    eps = (config.eps,) if config.eps else EPS
    return [(k1, config.k2 or max(1, min(6, round(k1 / 5))), eps, min_samples) for k1 in several]


def evidence(
    labels: NDArray[np.integer], camera: NDArray[np.integer], tracklet: NDArray[np.integer]
) -> Evidence | None:
    """Evaluate a clustering of N images by tracklets of one camera; None if there are no such pairs.

    Example:
        >>> labels, camera, tracklet = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), np.arange(4)
        >>> evidence(labels, camera, tracklet)  # two pairs of two cameras are linked, none of one camera
        Evidence(linked=2.0, confused=0.0, wrong=0.0)
    """
    use = (camera >= 0) & (tracklet >= 0)
    label, camera, tracklet = labels[use], camera[use], tracklet[use]
    same_camera = _pairs(camera) - _pairs(tracklet)
    two_cameras = _pairs(np.zeros_like(camera)) - _pairs(camera)
    if not same_camera or not two_cameras:
        return None
    inside = label >= 0
    label, camera, tracklet = label[inside], camera[inside], tracklet[inside]
    of_one = _pairs(label, camera)
    confused = (of_one - _pairs(label, tracklet)) / same_camera
    return Evidence(_pairs(label) - of_one, confused, confused * two_cameras)


def choose(
    found: list[Candidate], camera: NDArray[np.integer], tracklet: NDArray[np.integer] | None
) -> tuple[Candidate, str]:
    """Return the best of several candidates, and the reason."""
    seen = [None if tracklet is None else evidence(one.labels, camera, tracklet) for one in found]
    gains = [one.gain for one in seen if one is not None]
    if not gains:
        eps = valley(found[0].graph, found[0].min_samples)
        best = min(found, key=lambda one: abs(one.eps - eps))
        return best, (
            f"k1 {best.k1}, eps {best.eps:g}: the valley between near and far neighbours is at {eps:.2f}; no camera "
            "has two known tracklets, which would be better evidence."
        )
    number = int(np.argmax(gains))
    best, chosen = found[number], seen[number]
    assert chosen is not None  # either all or none are None
    if not gains[number] > 0:
        return best, (
            f"k1 {best.k1}, eps {best.eps:g}: no setting links enough cross-camera pairs of images for the pairs of "
            "tracklets of one camera that it wrongly links."
        )
    return best, (
        f"k1 {best.k1}, eps {best.eps:g}: links {chosen.linked:,.0f} cross-camera pairs of images and, wrongly, "
        f"{chosen.confused:.2%} of the pairs from two tracklets of one camera."
    )


def valley(graph: Any, min_samples: int) -> float:
    """Compute the threshold between near and far neighbours by Otsu's method on the core distances of U points.

    Args:
        graph: (U, U) sparse distances up to the largest eps.
        min_samples: see `PseudoConfig`; the core distance is that of this neighbour, itself included.
    """
    offsets, far = graph.indptr, float(graph.data.max(initial=EPS[0]))
    reach = np.full(graph.shape[0], far)
    for point, (start, stop) in enumerate(pairwise(offsets)):
        if stop - start >= min_samples:
            reach[point] = np.partition(graph.data[start:stop], min_samples - 1)[min_samples - 1]
    cuts = np.array(EPS)
    low = reach[:, None] <= cuts
    share = low.mean(axis=0)
    near = (reach[:, None] * low).sum(axis=0) / np.maximum(low.sum(axis=0), 1)
    beyond = (reach[:, None] * ~low).sum(axis=0) / np.maximum((~low).sum(axis=0), 1)
    between = share * (1 - share) * (beyond - near) ** 2
    return float(cuts[int(np.argmax(between))])


def _pairs(*keys: NDArray[np.integer]) -> float:
    """Count the pairs that agree in all keys."""
    if not len(keys[0]):
        return 0.0
    counts = np.unique(np.stack(keys), axis=1, return_counts=True)[1].astype(np.float64)
    return float((counts * (counts - 1) / 2).sum())
