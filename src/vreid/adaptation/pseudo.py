"""Pseudo labels of unlabelled images: k-reciprocal Jaccard distances, DBSCAN, cannot-link constraints.

All distances are sparse: memory grows with the number of neighbours, not with the square of N. Source: DMT's code
(methods: section 8, steps 2 to 8). Shapes: N images, D feature dimensions, U points that are clustered, C clusters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vreid.adaptation.adapt_config import PseudoConfig
from vreid.adaptation.auto_settings import Candidate, candidates, choose, image_tracklets, structure
from vreid.adaptation.cannot_link import divide
from vreid.adaptation.clustering_features import prepare, without_answers
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.retrieval.clustering import cluster
from vreid.retrieval.features import FeatureSet
from vreid.retrieval.postprocessing.jaccard import jaccard_graph
from vreid.retrieval.postprocessing.scene_groups import SceneGroups
from vreid.retrieval.postprocessing.tracklet_features import mean_features, units_of_codes

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """Clusters of images, used as identities in training.

    Attributes:
        labels: (N,) int32 clusters from 0 without gaps; -1 is noise, which is not used in training.
        eps, min_samples, k1: settings of DBSCAN and of the k-reciprocal encoding.
        reasons: one sentence for each setting chosen from the data, and warnings.
        records: the N images, without identities and without tracklets of queries.
        centres: (C, D) float32 mean of the processed features of each cluster.

    Raises:
        InputError: the labels do not fit the records, or have gaps.
    """

    labels: NDArray[np.int32]
    eps: float
    min_samples: int
    k1: int
    reasons: tuple[str, ...]
    records: Records
    centres: NDArray[np.float32]

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", np.ascontiguousarray(self.labels, dtype=np.int32))
        if self.labels.shape != (len(self.records),):
            raise InputError(f"PseudoLabels: {len(self.labels):,} labels for {len(self.records):,} images.")
        if len(np.unique(self.labels[self.labels >= 0])) != self.clusters:
            raise InputError("PseudoLabels: clusters must be numbered from 0 without gaps.")

    @property
    def clusters(self) -> int:
        """C, the number of clusters."""
        return int(self.labels.max(initial=-1)) + 1

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """(C,) number of images of each cluster."""
        return np.bincount(self.labels[self.labels >= 0], minlength=self.clusters)

    @property
    def noise(self) -> float:
        """Share of the images without a cluster."""
        return float((self.labels < 0).mean()) if len(self.labels) else 0.0


def pseudo_labels(
    features: FeatureSet, config: PseudoConfig | None = None, *, held_out: NDArray[np.bool_] | None = None
) -> PseudoLabels:
    """Cluster the images of `features`; identities, and tracklets of queries, are not used.

    Args:
        features: N images, usually of two views, not normalised (see `two_views`).
        config: the settings; those that are None are chosen from the data.
        held_out: (N,) images that are used in clustering but labelled as noise (see
            `vreid.adaptation.holdout.hold_out`).

    Raises:
        InputError: there are too few images, no cameras for camera normalisation, or no scene groups.

    Example:
        >>> from vreid.adaptation.adapt_config import PRESETS
        >>> found = pseudo_labels(features, PRESETS["auto"].pseudo)                            # doctest: +SKIP
        >>> found.clusters, found.reasons                                                      # doctest: +SKIP
    """
    records = without_answers(features.records)
    features = replace(features, records=records)
    config, reasons = structure(features, config or PseudoConfig())
    prepared_ND = prepare(features, config)
    unit, first = _points(records, config)
    points_UD = prepared_ND if len(first) == len(records) else mean_features(prepared_ND, unit, len(first))
    scene = None
    if config.scenes:
        groups = SceneGroups(config.scene_groups)
        scene, _ = groups.of(records, records)
        reasons += (groups.describe(records, records),)
    chosen = config.k1 and config.eps and config.min_samples
    tracklet = None if chosen else image_tracklets(points_UD, records)
    found = []
    for k1, k2, several_eps, min_samples in candidates(len(first), tracklet, config):
        graph = _graph(points_UD, k1, k2, max(several_eps), config.cosine_weight)
        if scene is not None:
            graph = _within(graph, scene[first])
        found += [
            Candidate(k1, eps, min_samples, cluster(_up_to(graph, eps), eps, min_samples)[unit], graph)
            for eps in several_eps
        ]
    best = found[0]
    if len(found) > 1:
        best, why = choose(found, records.camera.codes, tracklet)
        reasons += (why,)
    graph = _up_to(best.graph, best.eps)
    point_labels = best.labels[first]
    if config.tight:
        eps = best.eps - config.tight
        tight = cluster(_up_to(graph, eps), eps, best.min_samples) if eps > 0 else np.full_like(point_labels, -1)
        point_labels = consensus(point_labels, tight)
    if config.cannot_link != "off":
        point_labels, split = divide(point_labels, graph, records[first], config.cannot_link, best.min_samples, records)
        reasons += split
    image_labels = point_labels[unit]
    labels = _renumbered(image_labels if held_out is None else np.where(held_out, -1, image_labels))
    return PseudoLabels(
        labels, best.eps, best.min_samples, best.k1, reasons, records, cluster_means(prepared_ND, labels)
    )


def cluster_means(features_ND: NDArray[np.float32], labels: NDArray[np.integer]) -> NDArray[np.float32]:
    """Compute the mean feature (C, D) of each cluster, without noise.

    Example:
        >>> cluster_means(np.float32([[1, 0], [3, 0], [9, 9]]), np.array([0, 0, -1])).tolist()
        [[2.0, 0.0]]
    """
    known = labels >= 0
    return mean_features(
        features_ND[known], labels[known].astype(np.int32), int(labels.max(initial=-1)) + 1, renormalise=False
    )


def consensus(loose: NDArray[np.integer], tight: NDArray[np.integer]) -> NDArray[np.int64]:
    """Combine two clusterings: replace a loose cluster by its tight clusters if it contains two or more.

    Example:
        >>> consensus(np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, -1, 1, 2, -1])).tolist()
        [0, 0, 0, 3, 4, -1]
    """
    labels = loose.astype(np.int64)
    for number in range(int(loose.max(initial=-1)) + 1):
        members = np.flatnonzero(loose == number)
        parts = tight[members]
        if len(np.unique(parts[parts >= 0])) > 1:
            labels[members] = np.where(parts < 0, -1, parts + loose.max() + 1)
    return labels


def _points(records: Records, config: PseudoConfig) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """Return the point of each image (N,) int32 and the first image of each point (U,)."""
    if config.level == "tracklet":
        return units_of_codes(records.tracklet.codes)
    everyone = np.arange(len(records))
    return everyone.astype(np.int32), everyone


def _graph(points_UD: NDArray[np.float32], k1: int, k2: int, eps: float, cosine_weight: float) -> csr_array[Any]:
    return jaccard_graph(points_UD, k1=k1, k2=k2, max_distance=eps, cosine_weight=cosine_weight)


def _up_to(graph: csr_array[Any], eps: float) -> csr_array[Any]:
    return _kept(graph, graph.data <= np.float32(eps))


def _within(graph: csr_array[Any], group: NDArray[np.int32]) -> csr_array[Any]:
    """Keep pairs within a scene group, or with a point of no group (v2 adds 10 to the other distances)."""
    rows = group[np.repeat(np.arange(graph.shape[0]), np.diff(graph.indptr))]
    columns = group[graph.indices]
    return _kept(graph, (rows == columns) | (rows < 0) | (columns < 0))


def _kept(graph: csr_array[Any], keep: NDArray[np.bool_]) -> csr_array[Any]:
    from scipy import sparse

    indptr = np.concatenate([[0], np.cumsum(keep)])[graph.indptr]
    return sparse.csr_array((graph.data[keep], graph.indices[keep], indptr), shape=graph.shape)


def _renumbered(labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """Renumber clusters from 0 without gaps, in order of their first image."""
    known = np.flatnonzero(labels >= 0)
    _, first, number = np.unique(labels[known], return_index=True, return_inverse=True)
    place = np.empty(len(first), dtype=np.int32)
    place[np.argsort(first)] = np.arange(len(first))
    out = np.full(len(labels), -1, dtype=np.int32)
    out[known] = place[number]
    return out
