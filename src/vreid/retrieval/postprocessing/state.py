"""State of a search between two post-processing steps: features, and distances once a step has computed them.

Shapes: Q queries, G gallery images, U units (a unit is an image or a tracklet), D feature dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vreid.data.records import Records, joint_codes
from vreid.errors import InputError
from vreid.retrieval.distances import Distances, SquaredEuclidean, check_comparable
from vreid.retrieval.features import FeatureSet, Norm
from vreid.retrieval.tiles import Source

Codes = NDArray[np.int32]
Arrays = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Features of queries (Q, D) and units (U, D)."""


@dataclass(frozen=True, eq=False)
class SearchState:
    """Query and gallery after some of the steps.

    Attributes:
        images: plain search of the images with the original features, for records and the order within tracklets.
        query_QD: (Q, D) features of the queries.
        unit_UD: (U, D) features of the units.
        unit_of_image: (G,) unit of each gallery image.
        raw: features are compared unnormalised.
        frames: (Q, G) distances that order the images within a tracklet; None if units are images.
        biases: (weight, features of the bias model), subtracted by re-ranking.
        made: distances that replace those of the features; None if no step has computed any.
    """

    images: Distances
    query_QD: NDArray[np.float32]
    unit_UD: NDArray[np.float32]
    unit_of_image: NDArray[np.int32]
    raw: bool = False
    frames: Source | None = None
    biases: tuple[tuple[float, Arrays], ...] = ()
    made: Distances | None = None

    @property
    def distances(self) -> Distances:
        """Distances of queries to units after these steps."""
        if self.made is not None:
            return self.made
        source = SquaredEuclidean(self.query_QD, self.unit_UD)
        return replace(self.images, source=source, unit_of_image=self.unit_of_image, frames=self.frames)

    def with_source(self, source: Source) -> SearchState:
        """Return the same state with other (Q, U) distances."""
        return replace(self, made=replace(self.distances, source=source))

    @property
    def cameras(self) -> tuple[Codes, Codes]:
        """Joint camera codes of queries (Q,) and units (U,).

        Raises:
            InputError: as `joint_cameras`.
        """
        query_camera, gallery_camera = joint_cameras(self.images.query, self.images.gallery)
        return query_camera, gallery_camera[np.unique(self.unit_of_image, return_index=True)[1]]


def normalisation_step(query: FeatureSet, gallery: FeatureSet, norm: Norm) -> SearchState:
    """Build the initial state: features L2-normalised or raw.

    Raises:
        InputError: the sides cannot be compared, or a feature has norm zero.
    """
    check_comparable(query, gallery)
    raw = norm.kind == "raw"
    if not raw:
        query, gallery = query.normalise(), gallery.normalise()
    images = Distances.of(query, gallery)
    return SearchState(images, query.features, gallery.features, images.unit_of_image, raw)


def joint_cameras(query: Records, gallery: Records) -> tuple[Codes, Codes]:
    """Return joint camera codes of both sides, negative: unknown.

    Raises:
        InputError: no query or no gallery image has a known camera.
    """
    for name, records in (("query", query), ("gallery", gallery)):
        if not records.camera.known.any():
            raise InputError(f"no {name} image has a camera; give the column `camera`, or disable camera steps.")
    query_camera, gallery_camera = joint_codes(query.camera, gallery.camera)
    return query_camera, gallery_camera
