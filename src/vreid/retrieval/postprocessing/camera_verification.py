"""Camera verification: exclude gallery units of the query's own camera.

Shapes: Q queries, U units.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vreid.retrieval.distances import Distances
from vreid.retrieval.postprocessing.state import SearchState, joint_cameras
from vreid.retrieval.tiles import Source, Tiles


@dataclass(frozen=True, eq=False)
class Masked:
    """Distances with +inf where query and unit have the same known group (camera), or different ones (scene).

    Attributes:
        source: (Q, U) distances.
        query_group: (Q,) group codes; negative: unknown, not masked.
        unit_group: (U,) group codes, joint with `query_group`.
        same: True masks equal groups, False different ones.
    """

    source: Source
    query_group: NDArray[np.int32]
    unit_group: NDArray[np.int32]
    same: bool = True

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.source.shape

    def tiles(self) -> Tiles:
        """Yield the masked tiles of `source`."""

        def masked(of_source: tuple[int, NDArray[np.float32]]) -> tuple[int, NDArray[np.float32]]:
            start, tile = of_source
            group = self.query_group[start : start + len(tile), None]
            out = ((group == self.unit_group) == self.same) & (group >= 0) & (self.unit_group >= 0)
            return start, np.where(out, np.float32(np.inf), tile)

        return map(masked, self.source.tiles())


def exclude_same_camera(distances: Distances) -> Distances:
    """Exclude units of the query's own camera from the candidates (distance +inf).

    Raises:
        InputError: no query or no gallery image has a known camera.
    """
    query_camera, gallery_camera = joint_cameras(distances.query, distances.gallery)
    _, first_image = np.unique(distances.unit_of_image, return_index=True)
    source = Masked(distances.source, query_camera, gallery_camera[first_image])
    return replace(distances, source=source, steps=(*distances.steps, "other-cameras"))


def camera_verification_step(state: SearchState, _: bool) -> SearchState:
    """Exclude units of the query's own camera."""
    return replace(state, made=exclude_same_camera(state.distances))
