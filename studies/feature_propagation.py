"""Re-ranking by feature propagation (GCR), beside and in place of k-reciprocal re-ranking, on the same features.

Zhang et al., "Graph Convolution Based Efficient Re-Ranking for Visual Retrieval", arXiv 2306.08792: features of queries
and units become sums over their nearest, S_ij = exp(cos_ij / beta), normalised by the sums of rows and columns; once
over neighbours of any camera (k1), once over those of other cameras (k2), mixed by a scale; a few rounds. Its other
half, whitening camera by camera, is DMT's inter-camera fusion and part of the base here. Dense N x N arrays, as in the
authors' code. Values are chosen on the validation worlds, one after the other, then judged once on the confirmation
worlds, as in `beyond_dmt.py`. Figures are of simulated pictures.

    python studies/feature_propagation.py --validation features/100 ... --confirmation features/104 ...
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beyond_dmt import DMT, World, gain, mean
from vreid.retrieval.postprocessing.pipeline import PostProcessing, Searched
from vreid.retrieval.postprocessing.reranking import ReRanked

ROWS = {
    "propagated, then re-ranked": "camera-whitening=0.18:0.5, tracklets=weighted:raw, rerank=7:2:0.6, other-cameras",
    "propagated instead": "camera-whitening=0.18:0.5, tracklets=weighted:raw, other-cameras",
}
Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Propagation:
    """The authors' parameters; the defaults are those of their video data set, fewer rounds."""

    k1: int = 15
    k2: int = 3
    beta: float = 0.2
    scale: float = 0.3
    rounds: int = 1

    def __call__(self, features_ND: Matrix, camera_N: NDArray[np.int32]) -> Matrix:
        features_ND = features_ND / np.linalg.norm(features_ND, axis=1, keepdims=True)
        for _ in range(self.rounds):
            cosine_NN = features_ND @ features_ND.T
            elsewhere_NN = np.where(camera_N[:, None] == camera_N, np.float32(-2), cosine_NN)
            np.fill_diagonal(elsewhere_NN, 1)
            spread = [self._spread(cosine_NN, self.k1), self._spread(elsewhere_NN, self.k2)]
            features_ND = ((1 - self.scale) * spread[0] + self.scale * spread[1]) @ features_ND
            features_ND /= np.linalg.norm(features_ND, axis=1, keepdims=True)
        return features_ND

    def _spread(self, cosine_NN: Matrix, neighbours: int) -> Matrix:
        """Weights of the nearest (and of the feature itself), normalised symmetrically."""
        least = np.partition(cosine_NN, -neighbours, axis=1)[:, -neighbours, None]
        weight_NN = np.where(cosine_NN >= least, np.exp(cosine_NN / np.float32(self.beta)), 0)
        np.fill_diagonal(weight_NN, np.exp(1 / self.beta))
        rows, columns = weight_NN.sum(axis=1, keepdims=True), weight_NN.sum(axis=0)
        return np.asarray(weight_NN / np.sqrt(rows * columns), dtype=np.float32)


class Propagated(Searched):
    """A search whose features are propagated after all steps of features, before distances."""

    def __init__(self, plain: Searched, propagation: Propagation) -> None:
        super().__init__(plain.query, plain.gallery)
        self._made = {key: made for key, made in plain._made.items() if not isinstance(made, ReRanked)}
        self._propagation = propagation

    def _units(self, post: PostProcessing) -> tuple[Matrix, Matrix, NDArray[np.int32]]:
        query_QD, unit_UD, units = super()._units(post)
        both = self._propagation(np.concatenate([query_QD, unit_UD]), np.concatenate(self._unit_cameras(units)))
        return both[: len(query_QD)], both[len(query_QD) :], units


class PropagatedWorld(World):
    """A world whose features are propagated, but for DMT as it is."""

    def __init__(self, world: World, propagation: Propagation) -> None:
        self._made = {DMT: world.precision(DMT)}
        self.search, self.vehicle = world.search, world.vehicle
        self.searched = Propagated(world.searched, propagation)


GRID = {
    "k1": (2, 4, 8, 15),
    "k2": (2, 3, 6),
    "beta": (0.1, 0.2, 0.4),
    "scale": (0.0, 0.3, 0.7, 1.0),
    "rounds": (1, 2, 3),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--validation", nargs="+", type=Path, required=True, metavar="FEATURES")
    parser.add_argument("--confirmation", nargs="+", type=Path, required=True, metavar="FEATURES")
    options = parser.parse_args()
    validation, confirmation = (
        [World(folder) for folder in side] for side in (options.validation, options.confirmation)
    )
    print(
        f"{DMT}: {100 * mean(validation, DMT):.1f} on validation, {100 * mean(confirmation, DMT):.1f} on confirmation"
    )
    for name, steps in ROWS.items():

        @cache
        def validated(propagation: Propagation, steps: str = steps) -> float:
            return mean([PropagatedWorld(world, propagation) for world in validation], steps)

        chosen = Propagation()
        for field, values in GRID.items():
            tried: list[dict[str, Any]] = [{field: value} for value in values]
            chosen = max((replace(chosen, **step) for step in tried), key=validated)
        confirmed = [PropagatedWorld(world, chosen) for world in confirmation]
        change, low, high = (100 * value for value in gain(confirmed, steps))
        print(
            f"{name}: {100 * validated(chosen):.1f} on validation, {100 * mean(confirmed, steps):.1f} on "
            f"confirmation, gain {change:+.1f} ({low:+.1f} to {high:+.1f}); {chosen}",
            flush=True,
        )


if __name__ == "__main__":
    main()
