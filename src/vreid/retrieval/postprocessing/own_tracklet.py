"""Neighbours in other cameras: who else may be this vehicle, one passage of a camera apart.

Pictures of one camera resemble each other whatever vehicle they show, so lists of nearest neighbours fill up with the
query's own camera. Among other cameras they say more. (The idea is that of camera-aware Jaccard distances: Chen et al.,
"CA-Jaccard", CVPR 2024.)

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
    """The `k` nearest gallery features of other cameras: squared distances and indices, both (N, K).

    Ascending, ties by gallery index. Codes are on one list; a negative one is no camera, so it differs from all. Where
    fewer than K are left, distances are +inf and indices -1.

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
    """A query is searched together with the rest of its own passage, found by its looks in its own camera.

    The gallery of AI City holds the tracklet that a query was taken from (its own camera, which camera verification
    removes later), and it shows the vehicle more often than the query does.

    Attributes:
        share: of the tracklet's feature in the query's; 0.5 counts both alike.
        ratio: largest squared distance to the nearest unit of the camera over that to the second nearest: above it, it
            is not clear that the passage is there, and the query stays as it is.
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
    """(Q, D) queries, L2-normalised, each mixed with the unit of its own camera that clearly is its own passage.

    Only directions matter. No label is used. A query whose camera is unknown, or holds fewer than two units, stays as
    it is: one unit alone leaves nothing to compare it with.

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
    """Mix each query with its own tracklet."""
    return replace(state, query_QD=join_own_tracklet(state.query_QD, state.unit_UD, *state.cameras, config))
