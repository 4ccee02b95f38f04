"""Camera and orientation bias: correct distances for similarity due to the camera or the orientation.

A camera model and an orientation model are trained on these labels instead of identities. If their features are close,
two images share the background or the visible side of the vehicle, which makes their distance too small. The correction
is D <- D - weight * Dc, where Dc is the distance of the bias model (DMT, Eq. 4; VOC-ReID).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from vreid.data.records import Records
from vreid.errors import InputError
from vreid.ranges import check_settings, in_range
from vreid.retrieval.feature_shards import load_sides
from vreid.retrieval.features import FeatureSet, Sides
from vreid.retrieval.postprocessing.ensemble import Weighted
from vreid.retrieval.postprocessing.prefix_cache import Prefix
from vreid.retrieval.postprocessing.state import SearchState

When = Literal["after", "before"]


@dataclass(frozen=True)
class Bias:
    """Bias correction by the features of a camera model or an orientation model.

    Attributes:
        weight: weight of the bias distance; camera: 0.1 in DMT and VOC; orientation: 0.05 in DMT, 0.1 in VOC.
        when: "after" re-ranking: subtract re-ranked distances of the bias from re-ranked distances (DMT); "before":
            subtract squared distances of all pairs, which also changes neighbours (VOC). Equal without re-ranking.
        features: query and gallery features of the bias model for the same images, or their folder (`vreid extract`).
            The same steps are applied to them.

    Raises:
        InputError: the weight is not above 0, `when` is unknown, or there are no features.
    """

    weight: float = in_range(0.1, above=0)
    when: When = "after"
    features: str | Path | Sides = ""

    def __post_init__(self) -> None:
        check_settings(self, "bias: ")
        if not self.features:
            raise InputError("bias: needs the features of a camera or orientation model; write WEIGHT:after:FOLDER.")

    def sides(self, query: Records, gallery: Records) -> Sides:
        """Return the bias model's features of these images, in their order and with these records.

        Raises:
            InputError: the folder cannot be read, or an image is missing.
        """
        if isinstance(self.features, tuple):
            found = self.features
        else:
            folder = Path(self.features)
            found = load_sides(folder)
        return _in_order(found[0], query, "query"), _in_order(found[1], gallery, "gallery")


def _in_order(features: FeatureSet, wanted: Records, side: str) -> FeatureSet:
    place = {key: row for row, key in enumerate(features.records.image_key)}
    missing = next((key for key in wanted.image_key if key not in place), None)
    if missing is not None:
        raise InputError(f"bias: the {side} feature of {missing} is missing; extract it with the bias model too.")
    rows = np.array([place[key] for key in wanted.image_key])
    return replace(features, features=features.features[rows], records=wanted)


def bias_before_reranking_step(state: SearchState, bias: Bias, other: SearchState) -> SearchState:
    """Pass the features of the bias model to re-ranking, which subtracts their distances of all pairs."""
    return replace(state, biases=(*state.biases, (bias.weight, (other.query_QD, other.unit_UD))))


def bias_step(state: SearchState, bias: Bias, other: SearchState) -> SearchState:
    """Subtract the distances of the bias model; several biases are summed before rounding to float32."""
    source = state.distances.source
    before = source if isinstance(source, Biased) else Biased((source,), (1.0,))
    taken = Biased((*before.sources, other.distances.source), (*before.weights, -bias.weight))
    return state.with_source(taken)


def same_steps_of_bias(before: Prefix, bias: Bias) -> Prefix:
    """Return the same actions on the features of the bias model, without any bias."""
    return replace(before.without(Bias), model=bias.features)


class Biased(Weighted):
    """Distances minus weighted distances of bias models."""
