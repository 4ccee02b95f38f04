"""Query expansion with the query's own tracklet, and nearest neighbours restricted to other cameras.

Images of one camera are similar whatever vehicle they show, so nearest-neighbour lists are dominated by the query's own
camera; restricted to other cameras they are more informative. (The idea is that of camera-aware Jaccard distances: Chen
et al., "CA-Jaccard", CVPR 2024.)

Shapes: N features, G gallery features, D feature dimensions, K neighbours, Q queries, U units.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vreid.data.protocols import Groups
from vreid.ranges import check_settings, in_range
from vreid.retrieval.features import unit_rows
from vreid.retrieval.nearest import nearest
from vreid.retrieval.postprocessing.state import Codes, SearchState


def nearest_elsewhere(
    features_ND: NDArray[np.float32],
    gallery_GD: NDArray[np.float32],
    camera_N: Codes,
    camera_G: Codes,
    k: int,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Find the `k` nearest gallery features of other cameras: squared distances and indices, both (N, K).

    Neighbours ascend by distance, ties by gallery index. Camera codes are joint; a negative code is an unknown camera,
    which differs from all. If fewer than K neighbours exist, distances are +inf and indices -1.

    Raises:
        InputError: as `nearest`.

    Example:
        >>> one = np.array([[1.0, 0.0]], np.float32)
        >>> two = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
        >>> nearest_elsewhere(one, two, np.array([7], np.int32), np.array([7, 8], np.int32), k=2)[1].tolist()
        [[1, -1]]
    """
    k = min(k, len(gallery_GD))
    distances_NK = np.full((len(features_ND), k), np.inf, dtype=np.float32)
    indices_NK = np.full((len(features_ND), k), -1, dtype=np.int32)
    for camera in np.unique(camera_N):
        rows = np.flatnonzero(camera_N == camera)
        others = np.flatnonzero((camera_G != camera) | (camera_G < 0)).astype(np.int32)
        if len(others):
            found, place = nearest(features_ND[rows], gallery_GD[others], k)
            distances_NK[rows, : found.shape[1]] = found
            indices_NK[rows, : found.shape[1]] = others[place]
    return distances_NK, indices_NK


@dataclass(frozen=True)
class OwnTracklet:
    """Expansion of each query with its own tracklet, found by similarity within its camera.

    The gallery of AI City contains the tracklet from which a query was taken (in the query's camera, which camera
    verification excludes later); it has more images of the vehicle than the query.

    Attributes:
        share: weight of the tracklet's feature in the mixture; 0.5: equal weights.
        ratio: maximum ratio of the squared distances to the nearest and the second nearest unit of the camera; above
            it the match is ambiguous, and the query is unchanged.
    """

    share: float = in_range(0.5, above=0, most=1)
    ratio: float = in_range(0.7, above=0, most=1)

    def __post_init__(self) -> None:
        check_settings(self, "own tracklet: ")


def join_own_tracklet(
    query_QD: NDArray[np.float32],
    unit_UD: NDArray[np.float32],
    camera_Q: Codes,
    camera_U: Codes,
    config: OwnTracklet | None = None,
) -> NDArray[np.float32]:
    """Average each query with its own tracklet, the unambiguous nearest unit of its camera; L2-normalised (Q, D).

    Features are L2-normalised first, and no label is used. A query is unchanged if its camera is unknown or has fewer
    than two units, because the ratio needs two.

    Example:
        >>> query, units = [[1.0, 0.0]], [[0.8, 0.6], [-1.0, 0.0], [1.0, 0.0]]
        >>> sides = np.array(query, np.float32), np.array(units, np.float32)
        >>> print(join_own_tracklet(*sides, np.array([0], np.int32), np.array([0, 0, 1], np.int32)).round(3))
        [[0.949 0.316]]
    """
    config = config or OwnTracklet()
    queries, units = unit_rows(query_QD), unit_rows(unit_UD)
    joined = queries.copy()
    of_camera = Groups(camera_U)
    for camera in np.unique(camera_Q[camera_Q >= 0]):
        rows, here = np.flatnonzero(camera_Q == camera), of_camera[camera]
        if len(here) < 2:
            continue
        found, place = nearest(queries[rows], units[here], 2)
        clear = found[:, 0] < config.ratio * found[:, 1]
        chosen = rows[clear]
        own = units[here[place[clear, 0]]]
        joined[chosen] = np.float32(1 - config.share) * queries[chosen] + np.float32(config.share) * own
    return unit_rows(joined)


def own_tracklet_step(state: SearchState, config: OwnTracklet) -> SearchState:
    """Average each query with its own tracklet."""
    return replace(state, query_QD=join_own_tracklet(state.query_QD, state.unit_UD, *state.cameras, config))
