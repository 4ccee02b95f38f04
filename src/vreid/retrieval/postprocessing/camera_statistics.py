"""What the camera does to a feature, and how to take it out again: mean, whitening, verification.

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
from vreid.data.records import Records, joint_codes
from vreid.errors import InputError
from vreid.ranges import check_settings, in_range
from vreid.retrieval.distances import Distances, Source, Tiles, check_comparable
from vreid.retrieval.features import FeatureSet

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


def joint_cameras(query: Records, gallery: Records) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Camera codes of both sides on one list, negative where unknown.

    Raises:
        InputError: no query or no gallery image has a known camera, so a camera step could do nothing.
    """
    for name, records in (("query", query), ("gallery", gallery)):
        if not records.camera.known.any():
            raise InputError(f"no {name} image has a camera; give the column `camera`, or switch camera steps off.")
    query_camera, gallery_camera = joint_codes(query.camera, gallery.camera)
    return query_camera, gallery_camera


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


def whitener(ridge: float, *, centred: bool = False) -> Callable[[NDArray[np.float64]], _Solve]:
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
    solver: Callable[[NDArray[np.float64]], _Solve] | None,
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
    solver: Callable[[NDArray[np.float64]], _Solve] | None = None,
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


@dataclass(frozen=True, eq=False)
class Masked:
    """Another source with +inf where query and unit have the same known group (camera), or two different ones (scene).

    Attributes:
        source: (Q, U) distances.
        query_group: (Q,) codes, negative = unknown, which masks nothing.
        unit_group: (U,) codes on the same list.
        same: whether equal groups are masked, or unequal ones.
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
        """The tiles of `source`, masked."""

        def masked(of_source: tuple[int, NDArray[np.float32]]) -> tuple[int, NDArray[np.float32]]:
            start, tile = of_source
            group = self.query_group[start : start + len(tile), None]
            out = ((group == self.unit_group) == self.same) & (group >= 0) & (self.unit_group >= 0)
            return start, np.where(out, np.float32(np.inf), tile)

        return map(masked, self.source.tiles())


def exclude_same_camera(distances: Distances) -> Distances:
    """Camera verification: units of the query's own camera are no candidates any more (removed, not pushed back).

    Raises:
        InputError: no query or no gallery image has a known camera.
    """
    query_camera, gallery_camera = joint_cameras(distances.query, distances.gallery)
    _, first_image = np.unique(distances.unit_of_image, return_index=True)
    source = Masked(distances.source, query_camera, gallery_camera[first_image])
    return replace(distances, source=source, steps=(*distances.steps, "other-cameras"))
