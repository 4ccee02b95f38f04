"""Camera and orientation bias: what makes two images alike although it says nothing about the vehicle is taken off.

A camera model and an orientation model are trained on those labels instead of identities. Where their features are
near, so is the background, or the side that is seen, and the vehicle's distance is too small by some of it:
D <- D - weight * Dc, with Dc small for alike images, pushes those apart from the rest (DMT, Eq. 4; VOC-ReID).

Shapes: Q queries, U units, N = Q + U points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vreid.data.records import Records
from vreid.errors import InputError
from vreid.ranges import check_settings, in_range
from vreid.retrieval.distances import Source, SquaredEuclidean
from vreid.retrieval.features import FeatureSet, as_features, load_sides
from vreid.retrieval.nearest.points import Points, exact_distances
from vreid.retrieval.postprocessing.ensemble import Weighted
from vreid.retrieval.postprocessing.jaccard import Encoding, convention_of
from vreid.retrieval.postprocessing.reranking import ReRanked, ReRanking

When = Literal["after", "before"]
Sides = tuple[FeatureSet, FeatureSet]
"""Query and gallery features."""


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


def rerank_with_biases(
    features: tuple[NDArray[np.float32], NDArray[np.float32]],
    biases: Sequence[tuple[float, tuple[NDArray[np.float32], NDArray[np.float32]]]],
    config: ReRanking,
) -> Source:
    """(Q, U) re-ranked distances, where all pairs of N points are at squared distance d - sum of weight * d_bias.

    Otherwise as `rerank`, by a convention that divides by the row's maximum. Such differences are no distances of any
    features (they can be below 0), so neighbours come from full rows of float32 distances. Memory: a copy of the
    features, tiles of rows, O(N k).

    Args:
        features: (Q, D) and (U, D).
        biases: (weight, ((Q, D'), (U, D'))) of each.
        config: constants of the re-ranking.

    Raises:
        InputError: unequal numbers of rows, another convention, or as `rerank`.
    """
    given = [(1.0, features), *((-weight, sides) for weight, sides in biases)]
    parts = [(factor, (as_features(q), as_features(u))) for factor, (q, u) in given]
    queries = len(features[0])
    points = [(factor, Points.of("re-ranking", query_features=q, gallery_features=u)) for factor, (q, u) in parts]
    if any(len(q) != queries or len(u) != len(features[1]) for _, (q, u) in parts):
        raise InputError("re-ranking: features of a bias are of other images; give one for each query and unit.")
    count = queries + len(features[1])
    convention = convention_of("re-ranking", config.neighbours, count, config.k1, config.k2)
    if not convention.row_maximum:
        raise InputError(
            f"re-ranking: with a bias before it, neighbours {config.neighbours} are not defined; take zhong, or a bias "
            "after re-ranking."
        )
    factors = tuple(factor for factor, _ in parts)
    stacked = [np.concatenate(sides) for _, sides in parts]
    everything = Weighted(tuple(SquaredEuclidean(s, s) for s in stacked), factors)
    original = Weighted(tuple(SquaredEuclidean(*sides) for _, sides in parts), factors)

    def squared_distances(row: NDArray[np.intp], column: NDArray[np.integer]) -> NDArray[np.float32]:
        each = (factor * of.unit**2 * exact_distances(of, row, of, column).astype(np.float64) for factor, of in points)
        return np.asarray(sum(each), dtype=np.float32)

    encoding = Encoding.from_rows(everything, squared_distances, config.k1, config.k2, convention)
    return ReRanked.from_encoding(original, encoding, config, convention)
