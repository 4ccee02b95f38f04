"""Camera mean subtraction and camera whitening: remove what a camera does to features.

Everything is fitted on the gallery alone. A camera the gallery does not hold, or holds too few images of, is treated
with the statistics of the whole gallery's mean: nothing crashes because a query comes from a new camera.

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
        alpha: how much of the mean is taken off.
        min_images: a camera with fewer gallery images takes the mean of the whole gallery.
    """

    alpha: float = in_range(1.0)
    min_images: int = 2

    def __post_init__(self) -> None:
        check_settings(self, "camera mean: ")


@dataclass(frozen=True)
class CameraWhitening:
    """Inter-camera fusion: P_c (f - m_c) with P_c = (X_c^T X_c + n_c * ridge * I)^-1, X_c not centred (DMT code).

    Attributes:
        ridge: the paper's 0.18; per model from 0.09 to 0.22.
        share: weight of the distances of whitened features in the mean with those of features that are not (all steps
            that follow up to re-ranking run on both; DMT's code: 0.5); 1 takes the whitened ones alone.
        min_images: a camera with fewer gallery images has the gallery's mean taken off and is not whitened.
    """

    ridge: float = in_range(0.18, above=0)
    share: float = in_range(1.0, above=0, most=1)
    min_images: int = 2

    def __post_init__(self) -> None:
        check_settings(self, "camera whitening: ")


def subtract_camera_mean(
    query: FeatureSet, gallery: FeatureSet, config: CameraMean | None = None, *, normalise: bool = True
) -> tuple[FeatureSet, FeatureSet]:
    """Both sides without their camera's mean (fitted on the gallery), L2-normalised unless told otherwise.

    A feature that equals its camera's mean has no direction left afterwards; where features are normalised, it keeps
    the one it had.

    Raises:
        InputError: sides that cannot be compared, or no cameras.
    """
    config = config or CameraMean()
    return _per_camera(query, gallery, config.min_images, config.alpha, None, normalise=normalise)


def whiten_cameras(
    query: FeatureSet, gallery: FeatureSet, config: CameraWhitening | None = None
) -> tuple[FeatureSet, FeatureSet]:
    """Both sides whitened camera by camera (fitted on the gallery; Cholesky in float64), L2-normalised.

    Raises:
        InputError: sides that cannot be compared, or no cameras.
    """
    config = config or CameraWhitening()
    return _per_camera(query, gallery, config.min_images, 1.0, whitener(config.ridge))


_Solve = Callable[[NDArray[np.float64]], NDArray[np.float64]]
Solver = Callable[[NDArray[np.float64]], _Solve]
"""Images (n, D) of one camera to what whitens features of that camera."""


def whitener(ridge: float, *, centred: bool = False) -> Solver:
    """What `camera_wise` needs to whiten: images (n, D) of a camera -> solver of (X^T X + n ridge I) y = f, up to a
    factor that the L2 norm takes out; `centred`: X without its mean.
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
    """Features of all sides after alpha * mean of their camera and `solver(images of the camera)`, L2-normalised.

    Args:
        sides: (features (n, D), camera codes (n,), negative where unknown); statistics are those of the last side.
        min_images: a camera with fewer images there has the mean of all taken off, and no solver.
        alpha: how much of the mean.
        solver: see `whitener`; None subtracts the mean alone.
        normalise: False leaves them as they come out.
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
    """Whiten the features of all images; `mean_with_plain_step` mixes in those that are not."""
    return _of_images(state, config.min_images, solver=whitener(config.ridge))


def _of_images(
    state: SearchState, min_images: int, alpha: float = 1.0, solver: Solver | None = None, *, normalise: bool = True
) -> SearchState:
    sides = zip((state.query_QD, state.unit_UD), state.cameras, strict=True)
    query_QD, unit_UD = camera_wise(list(sides), min_images, alpha, solver, normalise=normalise)
    return replace(state, query_QD=query_QD, unit_UD=unit_UD)


def mean_with_plain_step(state: SearchState, share: float, plain: SearchState) -> SearchState:
    """Average the distances of whitened features, weight `share`, with those of features that are not whitened."""
    return replace(state, made=ensemble((state.distances, plain.distances), (share, 1 - share)))


def without_whitening(whitened: Prefix, _: float) -> Prefix:
    """The actions that make the plain side of `mean_with_plain_step`."""
    return whitened.without(CameraWhitening)
