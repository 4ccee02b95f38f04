"""Camera mean subtraction and camera whitening: remove the influence of the camera on features.

Statistics are computed on the gallery only. Images of a camera with no or too few gallery images use the mean of the
whole gallery, so queries of a new camera are supported.

Shapes: N images, D feature dimensions, C cameras.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vreid.data.protocols import Groups
from vreid.ranges import check_settings, in_range
from vreid.retrieval.distances import check_comparable
from vreid.retrieval.features import FeatureSet
from vreid.retrieval.postprocessing.ensemble import ensemble
from vreid.retrieval.postprocessing.prefix_cache import Prefix
from vreid.retrieval.postprocessing.state import SearchState, joint_cameras

_VANISHED = 1e-6  # relative norm below which a centred feature is rounding noise, not a direction


@dataclass(frozen=True)
class CameraMean:
    """Camera mean subtraction, f - alpha * mean of its camera, then L2-normalised (DMT, Eq. 2).

    Attributes:
        alpha: factor of the mean.
        min_images: cameras with fewer gallery images use the mean of the whole gallery.
    """

    alpha: float = in_range(1.0)
    min_images: int = 2

    def __post_init__(self) -> None:
        check_settings(self, "camera mean: ")


@dataclass(frozen=True)
class CameraWhitening:
    """Inter-camera fusion: P_c (f - m_c) with P_c = (X_c^T X_c + n_c * ridge * I)^-1, X_c not centred (DMT code).

    Attributes:
        ridge: 0.18 in the paper; 0.09 to 0.22 for single models.
        share: weight of distances of whitened features in the mean with those of unwhitened ones; all following steps
            up to re-ranking are applied to both (DMT's code: 0.5). 1 uses only whitened features.
        min_images: for cameras with fewer gallery images, the mean of the gallery is subtracted without whitening.
    """

    ridge: float = in_range(0.18, above=0)
    share: float = in_range(1.0, above=0, most=1)
    min_images: int = 2

    def __post_init__(self) -> None:
        check_settings(self, "camera whitening: ")


def subtract_camera_mean(
    query: FeatureSet, gallery: FeatureSet, config: CameraMean | None = None, *, normalise: bool = True
) -> tuple[FeatureSet, FeatureSet]:
    """Subtract the camera mean, computed on the gallery, from both sides; L2-normalise if `normalise`.

    If features are normalised, a feature equal to its camera mean is returned unchanged, because the difference has no
    direction.

    Raises:
        InputError: the sides cannot be compared, or no image has a camera.
    """
    config = config or CameraMean()
    return _per_camera(query, gallery, config.min_images, config.alpha, None, normalise=normalise)


def whiten_cameras(
    query: FeatureSet, gallery: FeatureSet, config: CameraWhitening | None = None
) -> tuple[FeatureSet, FeatureSet]:
    """Whiten both sides per camera (fitted on the gallery by Cholesky decomposition in float64) and L2-normalise.

    Raises:
        InputError: the sides cannot be compared, or no image has a camera.
    """
    config = config or CameraWhitening()
    return _per_camera(query, gallery, config.min_images, 1.0, whitener(config.ridge))


_Solve = Callable[[NDArray[np.float64]], NDArray[np.float64]]
Solver = Callable[[NDArray[np.float64]], _Solve]
"""Function from features (n, D) of one camera to the function that whitens features of that camera."""


def whitener(ridge: float, *, centred: bool = False) -> Solver:
    """Build the solver for whitening in `camera_wise`: features X (n, D) of a camera -> y: (X^T X + n ridge I) y = f.

    The solution is correct up to a factor, which L2 normalisation removes. `centred` subtracts the mean from X first.
    """

    def solver(images_ND: NDArray[np.float64]) -> _Solve:
        from scipy.linalg import cho_factor, cho_solve

        # divided by n, so that numbers stay near 1
        moment_DD = images_ND.T @ images_ND / len(images_ND)
        if centred:
            mean_D = images_ND.mean(axis=0)
            moment_DD -= np.outer(mean_D, mean_D)
        moment_DD[np.diag_indices_from(moment_DD)] += ridge
        factor = cho_factor(moment_DD, lower=True, overwrite_a=True)
        return lambda centred_ND: np.asarray(cho_solve(factor, centred_ND.T).T)

    return solver


def _per_camera(
    query: FeatureSet,
    gallery: FeatureSet,
    min_images: int,
    alpha: float,
    solver: Solver | None,
    *,
    normalise: bool = True,
) -> tuple[FeatureSet, FeatureSet]:
    check_comparable(query, gallery)
    cameras = joint_cameras(query.records, gallery.records)
    sides = list(zip((query.features, gallery.features), cameras, strict=True))
    made = camera_wise(sides, min_images, alpha, solver, normalise=normalise)
    out = [
        replace(side, features=features, normalised=normalise, raw=side.raw and not normalise)
        for side, features in zip((query, gallery), made, strict=True)
    ]
    return out[0], out[1]


def camera_wise(
    sides: Sequence[tuple[NDArray[np.float32], NDArray[np.integer]]],
    min_images: int = 2,
    alpha: float = 1.0,
    solver: Solver | None = None,
    *,
    normalise: bool = True,
) -> list[NDArray[np.float32]]:
    """Subtract alpha * camera mean from the features of all sides, apply the camera's solver, and L2-normalise.

    Args:
        sides: (features (n, D), camera codes (n,), negative: unknown); statistics are computed on the last side.
        min_images: cameras with fewer images in it use the mean of all images and no solver.
        alpha: factor of the mean.
        solver: see `whitener`; None only subtracts the mean.
        normalise: whether the result is L2-normalised.
    """
    features = sides[-1][0]
    groups = [Groups(camera) for _, camera in sides]
    overall_D = features.mean(axis=0, dtype=np.float64)
    outputs = [np.empty_like(side) for side, _ in sides]
    for camera in np.unique(np.concatenate([camera for _, camera in sides])):
        members = groups[-1][camera]
        fitted = camera >= 0 and len(members) >= max(min_images, 1)
        images_ND = features[members].astype(np.float64) if fitted else None
        mean_D = overall_D if images_ND is None else images_ND.mean(axis=0)
        solve = None if solver is None or images_ND is None else solver(images_ND)
        for (side, _), group, output in zip(sides, groups, outputs, strict=True):
            rows = group[camera]
            if len(rows):
                original_ND = side[rows].astype(np.float64)
                centred_ND = original_ND - alpha * mean_D
                gone = _length(centred_ND) <= _VANISHED * _length(original_ND)
                if solve is not None:
                    centred_ND = solve(centred_ND)
                if not normalise:
                    output[rows] = centred_ND
                    continue
                kept_ND = np.where(gone, original_ND, centred_ND)
                output[rows] = kept_ND / np.maximum(_length(kept_ND), np.finfo(np.float64).tiny)
    return outputs


def _length(features_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(features_ND, axis=1, keepdims=True))


def camera_mean_step(state: SearchState, config: CameraMean) -> SearchState:
    """Subtract the camera mean from the features of all images."""
    return _of_images(state, config.min_images, config.alpha, normalise=not state.raw)


def camera_whitening_step(state: SearchState, config: CameraWhitening) -> SearchState:
    """Whiten the features of all images; `mean_with_plain_step` averages with unwhitened features."""
    return _of_images(state, config.min_images, solver=whitener(config.ridge))


def _of_images(
    state: SearchState, min_images: int, alpha: float = 1.0, solver: Solver | None = None, *, normalise: bool = True
) -> SearchState:
    sides = zip((state.query_QD, state.unit_UD), state.cameras, strict=True)
    query_QD, unit_UD = camera_wise(list(sides), min_images, alpha, solver, normalise=normalise)
    return replace(state, query_QD=query_QD, unit_UD=unit_UD)


def mean_with_plain_step(state: SearchState, share: float, plain: SearchState) -> SearchState:
    """Average the distances of whitened features, with weight `share`, and of unwhitened features."""
    return replace(state, made=ensemble((state.distances, plain.distances), (share, 1 - share)))


def without_whitening(whitened: Prefix, _: float) -> Prefix:
    """Return the actions of the unwhitened side of `mean_with_plain_step`."""
    return whitened.without(CameraWhitening)
