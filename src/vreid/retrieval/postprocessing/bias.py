"""Camera and orientation bias: what makes two images alike although it says nothing about the vehicle is taken off.

A camera model and an orientation model are trained on those labels instead of identities. Where their features are
near, so is the background, or the side that is seen, and the vehicle's distance is too small by some of it:
D <- D - weight * Dc, with Dc small for alike images, pushes those apart from the rest (DMT, Eq. 4; VOC-ReID).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from vreid.data.records import Records
from vreid.errors import InputError
from vreid.ranges import check_settings, in_range
from vreid.retrieval.features import FeatureSet, Sides, load_sides
from vreid.retrieval.postprocessing.ensemble import Weighted
from vreid.retrieval.postprocessing.prefix_cache import Prefix
from vreid.retrieval.postprocessing.state import SearchState

When = Literal["after", "before"]


@dataclass(frozen=True)
class Bias:
    """What the features of a camera model, or of an orientation model, take off the distances.

    Attributes:
        weight: DMT and VOC: 0.1 of the camera's distance; of the orientation's DMT 0.05, VOC 0.1.
        when: "after" re-ranking, re-ranked distances of the bias off re-ranked ones (DMT), or "before" it, squared
            distances of all pairs, so that neighbours change too (VOC). Without re-ranking both are the same.
        features: the model's features of the same images, query and gallery, or the folder that holds them (`vreid
            extract`). They take the same steps as the others.

    Raises:
        InputError: a weight that is no number above 0, an unknown time, or no features.
    """

    weight: float = in_range(0.1, above=0)
    when: When = "after"
    features: str | Path | Sides = ""

    def __post_init__(self) -> None:
        check_settings(self, "bias: ")
        if not self.features:
            raise InputError("bias: needs the features of a camera or orientation model; write WEIGHT:after:FOLDER.")

    def sides(self, query: Records, gallery: Records) -> Sides:
        """The model's features of exactly these images, in their order and with what is known of them here.

        Raises:
            InputError: the folder cannot be read, or lacks an image.
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
        raise InputError(f"bias: has no {side} feature of {missing}; extract it with the model of the bias too.")
    rows = np.array([place[key] for key in wanted.image_key])
    return replace(features, features=features.features[rows], records=wanted)


def bias_before_reranking_step(state: SearchState, bias: Bias, other: SearchState) -> SearchState:
    """Hand the bias's features to re-ranking, which subtracts their distances of all pairs."""
    return replace(state, biases=(*state.biases, (bias.weight, (other.query_QD, other.unit_UD))))


def bias_step(state: SearchState, bias: Bias, other: SearchState) -> SearchState:
    """Subtract the bias's distances; several biases add up before the sum is rounded to float32."""
    source = state.distances.source
    before = source if isinstance(source, Biased) else Biased((source,), (1.0,))
    taken = Biased((*before.sources, other.distances.source), (*before.weights, -bias.weight))
    return state.with_source(taken)


def same_steps_of_bias(before: Prefix, bias: Bias) -> Prefix:
    """The same actions on the features of the bias's model, without any bias."""
    return replace(before.without(Bias), model=bias.features)


class Biased(Weighted):
    """Distances less those of biases."""
