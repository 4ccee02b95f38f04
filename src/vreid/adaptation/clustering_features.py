"""Features for clustering: mean of two views, camera normalisation, tracklet mean.

Source: DMT's code (methods: section 8, steps 1 to 3). Shapes: N images, D feature dimensions.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vreid.adaptation.adapt_config import PseudoConfig
from vreid.data.records import UNKNOWN, Labels, Records
from vreid.errors import InputError
from vreid.retrieval.features import FeatureSet
from vreid.retrieval.postprocessing.camera_statistics import camera_wise, whitener
from vreid.retrieval.postprocessing.tracklet_features import mean_features, units_of_codes

SECOND_VIEW = "flip+shift"
"""Name of the second view: flipped and shifted at random by up to the padding of training."""
RIDGE = 2.0
"""Ridge of the whitening times D, if it is chosen from the data: the mean square of a dimension of L2-normalised
features is 1 / D (DMT's 0.0005 is 1.0 for 2,048 dimensions; fewer images per camera need a larger ridge)."""


def two_views(original: FeatureSet, shifted: FeatureSet) -> FeatureSet:
    """Average the L2-normalised features of two views of the same images, without renormalising.

    Raises:
        InputError: the views are of different images.
    """
    if original.records != shifted.records:
        raise InputError("The two views are of different images; extract both from the same images.")
    mean = (original.normalise().features + shifted.normalise().features) / 2
    return replace(
        original, features=mean.astype(np.float32), normalised=False, raw=False, views=(*original.views, SECOND_VIEW)
    )


def without_answers(records: Records) -> Records:
    """Remove the identities, and the tracklets of queries, which adaptation must not use.

    The tracklet of a query is part of the answer to the search, so it is not known beforehand.
    """
    tracklet = np.where(records.split.values == "query", UNKNOWN, records.tracklet.codes).astype(np.int32)
    return replace(
        records,
        identity=Labels.constant(None, len(records)),
        tracklet=Labels(records.tracklet.names, tracklet),
    )


def prepare(features: FeatureSet, config: PseudoConfig) -> NDArray[np.float32]:
    """Compute the features y (N, D) for clustering: steps 2 and 3 of DMT's adaptation.

    Images without a camera, or from a camera with a single image, are normalised by the mean of all images. An image
    without a tracklet keeps its own feature.

    Raises:
        InputError: camera normalisation is enabled, but no image has a camera.
    """
    records, mixed = features.records, features.features
    if config.camera != "none":
        if not records.camera.known.any():
            raise InputError("No image has a camera; give the column `camera`, or set pseudo.camera=none.")
        ridge = config.ridge or RIDGE / mixed.shape[1]
        solver = whitener(ridge, centred=config.centred) if config.camera == "whitening" else None
        alpha = 1.0 if config.camera == "whitening" else config.alpha
        (mixed,) = camera_wise([(mixed, records.camera.codes)], alpha=alpha, solver=solver)
    if config.own_share < 1:
        unit, first = units_of_codes(records.tracklet.codes)
        means = mean_features(mixed, unit, len(first), renormalise=False)
        mixed = np.float32(config.own_share) * mixed + np.float32(1 - config.own_share) * means[unit]
    if config.renormalise:
        mixed = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    return np.ascontiguousarray(mixed, dtype=np.float32)
