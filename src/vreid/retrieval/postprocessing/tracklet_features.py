"""Tracklet features: search whole tracklets, each by one feature of its frames.

Shapes: Q queries, G gallery images, U units (tracklets, and single images without one), D feature dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vreid.data.records import Records
from vreid.errors import InputError
from vreid.ranges import check_settings, in_range
from vreid.retrieval.distances import SquaredEuclidean
from vreid.retrieval.features import NormKind, unit_rows
from vreid.retrieval.postprocessing.state import SearchState
from vreid.retrieval.tiles import Tiles

TrackletFeature = Literal["mean", "weighted", "per-query"]


@dataclass(frozen=True)
class Tracklets:
    """Settings of tracklet features.

    Attributes:
        feature: "mean" (DMT 2020); "weighted" towards frames similar to the queries near the tracklet (DMT; uses all
            queries jointly); "per-query": the same weighting by the compared query only, for deployment, where queries
            come one by one.
        norm: "unit" L2-normalises tracklet features; "raw" does not (DMT's code, for both kinds).
        threshold: squared distance below which a query is near a tracklet; not used by "per-query".
        epsilon: the weight of a frame is 1 / (distance + epsilon).
    """

    feature: TrackletFeature = "mean"
    norm: NormKind = "unit"
    threshold: float = in_range(0.6, least=0)
    epsilon: float = in_range(0.01, above=0)

    def __post_init__(self) -> None:
        check_settings(self, "tracklets: ")


def tracklet_units(records: Records, side: str = "gallery") -> tuple[NDArray[np.int32], int]:
    """Return the unit of each image (G,), numbered in order of first appearance, and the number of units U.

    Images of a tracklet share a unit; an image without a tracklet is its own unit.

    Raises:
        InputError: no image has a tracklet, or a tracklet has images of two cameras.

    Example:
        >>> records = Records.of(path=["a", "b", "c"], tracklet=["t7", "", "t7"])
        >>> tracklet_units(records)[0].tolist()
        [0, 1, 0]
    """
    if len(records) and not records.tracklet.known.any():
        raise InputError(f"no {side} image has a tracklet; give the column `tracklet`, or disable tracklets.")
    units, first = units_of_codes(records.tracklet.codes)
    camera = records.camera.codes
    mixed = camera != camera[first][units]
    if mixed.any():
        row = int(np.argmax(mixed))
        raise InputError(
            f"{records.path[row]} (image {row + 1}): tracklet {records.tracklet.values[row]} has images of more than "
            "one camera; give each camera's part its own name."
        )
    return units, len(first)


def units_of_codes(codes: NDArray[np.integer]) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """Return the unit of each image (G,), numbered in order of first appearance, and the first image of each unit (U,).

    Images with the same code share a unit; an image with a negative code is its own unit.
    """
    codes = codes.astype(np.int64)
    single = codes < 0
    codes[single] = codes.max(initial=0) + 1 + np.arange(np.count_nonzero(single))
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    number = np.empty(len(first), dtype=np.int32)
    number[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return number[inverse], np.sort(first)


def mean_features(
    features_GD: NDArray[np.float32], unit_of_image: NDArray[np.int32], num_units: int, *, renormalise: bool = True
) -> NDArray[np.float32]:
    """Compute the mean feature (U, D) of each unit (DMT 2020), L2-normalised if `renormalise`.

    Raises:
        InputError: the norm of a mean to be normalised is zero.
    """
    counts = np.bincount(unit_of_image, minlength=num_units)
    weights = (1 / counts[unit_of_image]).astype(np.float32)
    return _weighted_sum(features_GD, unit_of_image, num_units, weights, renormalise)


def weighted_features(
    query_QD: NDArray[np.float32],
    features_GD: NDArray[np.float32],
    unit_of_image: NDArray[np.int32],
    num_units: int,
    *,
    threshold: float = 0.6,
    epsilon: float = 0.01,
    renormalise: bool = False,
) -> NDArray[np.float32]:
    """Compute features (U, D) weighted towards frames similar to the queries near the tracklet (DMT section 3.4, code).

    With d the squared Euclidean distance of unit-length features, the near queries of a unit are those whose nearest
    frame has d below `threshold`, or otherwise the nearest query; the weight of a frame is
    1 / (mean d to them + epsilon), normalised to sum 1. All queries are used jointly, so the result is transductive;
    DMT's code does not normalise it.
    """
    order = np.argsort(unit_of_image, kind="stable")
    starts = np.searchsorted(unit_of_image[order], np.arange(num_units + 1))
    weights = np.empty(len(features_GD), dtype=np.float32)
    for first, last in unit_spans(starts, 1024):
        images = order[starts[first] : starts[last]]
        distances_GQ = np.concatenate([tile for _, tile in SquaredEuclidean(features_GD[images], query_QD).tiles()])
        for unit in range(first, last):
            frames = slice(starts[unit] - starts[first], starts[unit + 1] - starts[first])
            nearest_Q = distances_GQ[frames].min(axis=0)
            near = nearest_Q < threshold
            if not near.any():
                near = nearest_Q == nearest_Q.min()
            inverse = 1 / (distances_GQ[frames][:, near].mean(axis=1) + np.float32(epsilon))
            weights[images[frames]] = inverse / inverse.sum()
    return _weighted_sum(features_GD, unit_of_image, num_units, weights, renormalise)


@dataclass(frozen=True, eq=False)
class PerQuery:
    """Squared distances of queries to tracklets whose features are weighted for each query.

    With d_j the squared distance of the query to frame j, the feature of a tracklet is the sum of
    1 / (d_j + epsilon) f_j, with weights normalised to sum 1: `weighted_features` for a single query. Rows are
    independent of other queries.

    Attributes:
        query_QD: (Q, D) float32.
        frames_GD: (G, D) float32.
        unit_of_image: (G,) unit of each frame.
        num_units: U.
        epsilon: see `Tracklets`.
        renormalise: whether tracklet features are L2-normalised.
    """

    query_QD: NDArray[np.float32]
    frames_GD: NDArray[np.float32]
    unit_of_image: NDArray[np.int32]
    num_units: int
    epsilon: float = 0.01
    renormalise: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """Queries and units."""
        return len(self.query_QD), self.num_units

    def tiles(self) -> Tiles:
        """Yield row tiles of the same size as those of the distances to frames."""
        order = np.argsort(self.unit_of_image, kind="stable")
        frames_GD = self.frames_GD[order]
        starts = np.searchsorted(self.unit_of_image[order], np.arange(self.num_units + 1))

        def weighted(to_frames: tuple[int, NDArray[np.float32]]) -> tuple[int, NDArray[np.float32]]:
            start, distances = to_frames
            query = self.query_QD[start : start + len(distances)]
            tile = np.empty((len(query), self.num_units), dtype=np.float32)
            for unit, (first, last) in enumerate(pairwise(starts)):
                inverse = 1 / (distances[:, first:last] + np.float32(self.epsilon))
                inverse /= inverse.sum(axis=1, keepdims=True)
                feature = np.asarray(inverse @ frames_GD[first:last], dtype=np.float32)
                if self.renormalise:
                    feature = unit_rows(feature)
                feature -= query
                tile[:, unit] = np.einsum("qd,qd->q", feature, feature)
            return start, tile

        return map(weighted, SquaredEuclidean(self.query_QD, frames_GD).tiles())


def tracklet_step(state: SearchState, config: Tracklets) -> SearchState:
    """Replace images by tracklets as the units of the search.

    Frames within a tracklet, all of one camera, are ordered by the original features, so that the output of a camera
    step for all images can be freed.

    Raises:
        InputError: as `tracklet_units`, or a mean has norm zero.
    """
    query_QD, image_GD = state.query_QD, state.unit_UD
    units, count = tracklet_units(state.images.gallery)
    unit = config.norm == "unit"
    if config.feature == "weighted":
        constants = {"threshold": config.threshold, "epsilon": config.epsilon}
        unit_UD = weighted_features(query_QD, image_GD, units, count, **constants, renormalise=unit)
    else:
        unit_UD = mean_features(image_GD, units, count, renormalise=unit)
    state = replace(state, unit_UD=unit_UD, unit_of_image=units, frames=state.images.source)
    if config.feature == "per-query":
        return state.with_source(PerQuery(query_QD, image_GD, units, count, config.epsilon, renormalise=unit))
    return state


def unit_spans(starts: NDArray[np.intp], images: int) -> list[tuple[int, int]]:
    """Return spans of whole units with about `images` images each, for one matrix product per span."""
    edges = [0]
    for unit in range(1, len(starts)):
        if starts[unit] - starts[edges[-1]] >= images or unit == len(starts) - 1:
            edges.append(unit)
    return list(pairwise(edges))


def _weighted_sum(
    features_GD: NDArray[np.float32],
    unit_of_image: NDArray[np.int32],
    num_units: int,
    weights: NDArray[np.float32],
    renormalise: bool,
) -> NDArray[np.float32]:
    from scipy import sparse

    shape = (num_units, len(features_GD))
    average = sparse.csr_array((weights, (unit_of_image, np.arange(len(features_GD)))), shape=shape)
    units_UD = np.ascontiguousarray(average @ features_GD, dtype=np.float32)
    return unit_rows(units_UD) if renormalise else units_UD
