"""Query expansion and database-side augmentation: average each feature with its nearest gallery features.

Sources: Chum et al., "Total Recall", ICCV 2007: plain average (alpha = 0). Radenovic et al., "Fine-tuning CNN Image
Retrieval with No Human Annotation", TPAMI 2019, section 3.5: weights cos ** alpha, which reduce the influence of far
neighbours. Arandjelovic and Zisserman, "Three things everyone should know to improve object retrieval", CVPR 2012,
section 5: augmentation of the gallery. Neighbours can be restricted to other cameras, which add another view of the
vehicle instead of the same background.

Shapes: N features, G gallery features, D feature dimensions, K neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vreid.ranges import check_settings, in_range
from vreid.retrieval.features import as_features, unit_rows
from vreid.retrieval.nearest import nearest
from vreid.retrieval.postprocessing.own_tracklet import nearest_elsewhere
from vreid.retrieval.postprocessing.state import Codes, SearchState

Cameras = Literal["any", "other"]


@dataclass(frozen=True)
class Expansion:
    """Settings of query expansion and database-side augmentation.

    Attributes:
        neighbours: number of nearest gallery features (K).
        alpha: exponent of the weights cos ** alpha of neighbours with a positive cosine (others: 0); 0 is the plain
            average of the feature and its K neighbours.
        cameras: neighbours of "any" camera, or only of cameras "other" than that of the feature.
    """

    neighbours: int = in_range(5, least=1)
    alpha: float = in_range(3.0, least=0)
    cameras: Cameras = "any"

    def __post_init__(self) -> None:
        check_settings(self, "expansion: ")


def expand_queries(
    query_features: ArrayLike,
    gallery_features: ArrayLike,
    *,
    neighbours: int = 5,
    alpha: float = 3.0,
    cameras: tuple[Codes, Codes] | None = None,
) -> NDArray[np.float32]:
    """Add to each query its nearest gallery features, weighted by cos ** alpha, and L2-normalise: (Q, D).

    Args:
        query_features: (Q, D); normalised first.
        gallery_features: (G, D); normalised first.
        neighbours: see `Expansion`.
        alpha: see `Expansion`.
        cameras: joint camera codes of both sides, negative: unknown; restricts neighbours to other cameras.

    Raises:
        InputError: a setting is out of range, a side is empty, a feature contains NaN or has norm zero, or dimensions
            differ.

    Example:
        >>> print(expand_queries([[1.0, 0.0]], [[0.0, 1.0], [-1.0, 0.0]], neighbours=1, alpha=0).round(3))
        [[0.707 0.707]]
    """
    query, gallery = (unit_rows(as_features(side)) for side in (query_features, gallery_features))
    return _expanded(query, gallery, Expansion(neighbours, alpha), cameras, itself=True)


def augment_gallery(
    gallery_features: ArrayLike, *, neighbours: int = 5, alpha: float = 3.0, camera: Codes | None = None
) -> NDArray[np.float32]:
    """Add to each gallery feature its nearest others and L2-normalise (database-side augmentation): (G, D).

    Raises:
        InputError: as `expand_queries`.
    """
    gallery = unit_rows(as_features(gallery_features))
    cameras = None if camera is None else (camera, camera)
    return _expanded(gallery, gallery, Expansion(neighbours, alpha), cameras, itself=False)


def _expanded(
    features_ND: NDArray[np.float32],
    gallery_GD: NDArray[np.float32],
    config: Expansion,
    cameras: tuple[Codes, Codes] | None,
    *,
    itself: bool,
) -> NDArray[np.float32]:
    """Add the nearest gallery features to `features_ND`; without `itself`, a feature is not its own neighbour."""
    found = min(config.neighbours + (cameras is None and not itself), len(gallery_GD))
    if cameras is None:
        distances_NK, indices_NK = nearest(features_ND, gallery_GD, found)
    else:
        distances_NK, indices_NK = nearest_elsewhere(features_ND, gallery_GD, *cameras, found)
    cosine_NK = np.clip(1 - distances_NK / 2, 0, 1)
    weights_NK = np.where(indices_NK < 0, 0, cosine_NK**config.alpha)
    if not itself:  # if it is not among its neighbours, these all equal it, and one more changes nothing
        weights_NK[indices_NK == np.arange(len(features_ND))[:, None]] = 0
    out = features_ND.copy()
    for column in range(found):
        out += weights_NK[:, column, None].astype(np.float32) * gallery_GD[indices_NK[:, column]]
    return unit_rows(out)


def gallery_expansion_step(state: SearchState, config: Expansion) -> SearchState:
    """Average the features of units with their nearest units."""
    camera = state.cameras[1] if config.cameras == "other" else None
    unit_UD = augment_gallery(state.unit_UD, neighbours=config.neighbours, alpha=config.alpha, camera=camera)
    return replace(state, unit_UD=unit_UD)


def query_expansion_step(state: SearchState, config: Expansion) -> SearchState:
    """Average the features of queries with their nearest units."""
    sides = state.query_QD, state.unit_UD
    cameras = state.cameras if config.cameras == "other" else None
    query_QD = expand_queries(*sides, neighbours=config.neighbours, alpha=config.alpha, cameras=cameras)
    return replace(state, query_QD=query_QD)
