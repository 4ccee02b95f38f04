"""Camera means of a store: what is subtracted from features so that tracklets of different cameras are comparable.

The raw feature of a tracklet is the unit mean of its crops' features, weighted by their quality; the stored vector is
the unit difference between it and the mean raw feature of its camera. Crops keep their own features, so vectors can
always be computed anew. Means live in documents "camera_mean/NAME".

Means are shrunk towards the mean of all cameras and fitted for cameras that grew by more than half since the last fit.
A document marked "pending" is written before the vectors change and completed after them, so a fit that was killed is
repeated by the next one.

Shapes: N tracklets, M crops, D dimensions.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.files import parse_errors
from vreid.formats.facts import fact
from vreid.retrieval.features import unit_rows
from vreid.store.interface import Filter, VectorStore

MEAN = "camera_mean/"
"""Prefix of the documents of camera means."""
PRIOR = 5.0
"""Shrinkage: the mean of all cameras counts as this many tracklets of each camera."""
GROWTH = 1.5
"""A camera is fitted again when it holds more than this many times the tracklets of its last fit."""

_VANISHED = 1e-3  # length of a difference below which it is rounding noise, not a direction


def tracklet_vector(
    features: NDArray[np.float32], weights: NDArray[np.floating], mean: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """Return the unit mean of crop features (M, D) by weights (M,), minus the camera's mean, of unit length again.

    Equal weights where all are 0; a tracklet that equals its camera's mean keeps its own direction.
    """
    weights = weights if weights.sum() > 0 else np.ones(len(features))
    raw = unit_rows((weights @ features)[None].astype(np.float32))
    vector: NDArray[np.float32] = (raw if mean is None else subtract_mean(raw, mean))[0]
    return vector


def subtract_mean(raw_ND: NDArray[np.float32], mean_D: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the unit differences (N, D) between unit features and a mean; a feature that equals it is unchanged."""
    centred_ND = raw_ND - mean_D
    gone = np.linalg.norm(centred_ND, axis=1, keepdims=True) <= _VANISHED
    return unit_rows(np.where(gone, raw_ND, centred_ND).astype(np.float32))


def shrink(mean_D: NDArray[np.float64], count: int, overall_D: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the mean of `count` tracklets of a camera, shrunk towards the mean of all cameras.

    Example:
        >>> shrink(np.array([1.0, 0.0]), 5, np.array([0.0, 1.0])).tolist()
        [0.5, 0.5]
    """
    share = count / (count + PRIOR)
    return (share * mean_D + (1 - share) * overall_D).astype(np.float32)


def decode_mean(document: Any) -> NDArray[np.float32]:
    """Return the mean (D,) of a document "camera_mean/NAME".

    Raises:
        InputError: the document is damaged.
    """
    with parse_errors("camera mean"):
        return np.frombuffer(base64.b64decode(fact(document, "mean", str)), dtype="<f4").astype(np.float32)


def read_means(vectors: VectorStore) -> dict[str, NDArray[np.float32]]:
    """Return the mean (D,) of each camera of a store that has one."""
    return {key.removeprefix(MEAN): decode_mean(value) for key, value in vectors.documents(MEAN).items()}


def global_mean(means: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32] | None:
    """Return the mean (D,) over cameras, for images of an unknown camera; None if no camera has one."""
    return np.mean(list(means.values()), axis=0) if means else None


def refit_means(vectors: VectorStore, *, everything: bool = False, limit: int = 500) -> tuple[str, ...]:
    """Fit the means of cameras that grew and replace the vectors of their tracklets; return these cameras.

    Memory: a mean per camera and `limit` tracklets with their crops. Killed at any moment, the next call completes it;
    repeated, it changes nothing.

    Args:
        vectors: the store, open for writing.
        everything: fit all cameras, for example after their crops were embedded by another model.
        limit: number of tracklets that are read at once.

    Raises:
        InputError: a document is damaged, or the engine fails.
    """
    known = vectors.documents(MEAN)
    fitted = {key.removeprefix(MEAN): fact(value, "count", int) for key, value in known.items()}
    pending = {key.removeprefix(MEAN) for key, value in known.items() if fact(value, "pending", bool, False)}
    counts: dict[str, int] = {}
    for batch in vectors.scan():
        for camera in batch.camera:
            counts[camera] = counts.get(camera, 0) + 1
    for gone in fitted.keys() - counts.keys():
        vectors.delete_document(MEAN + gone)
    grown = [
        camera
        for camera, count in sorted(counts.items())
        if everything or camera in pending or count > GROWTH * fitted.get(camera, 0)
    ]
    if not grown:
        return ()
    sums = {camera: np.zeros(vectors.dimensions) for camera in grown}
    for _, cameras, raw_ND in _raw_features(vectors, grown, limit):
        for camera in set(cameras):
            sums[camera] += raw_ND[cameras == camera].sum(axis=0, dtype=np.float64)
    means = {camera: total / counts[camera] for camera, total in sums.items()}
    means |= {camera: decode_mean(known[MEAN + camera]).astype(np.float64) for camera in counts if camera not in sums}
    overall_D = np.sum([counts[camera] * mean_D for camera, mean_D in means.items()], axis=0) / sum(counts.values())
    for camera in grown:
        _replace(vectors, camera, shrink(means[camera], counts[camera], overall_D), counts[camera], limit)
    return tuple(grown)


def _replace(vectors: VectorStore, camera: str, mean_D: NDArray[np.float32], count: int, limit: int) -> None:
    document: dict[str, Any] = {"mean": base64.b64encode(mean_D.astype("<f4").tobytes()).decode(), "count": count}
    vectors.put_document(MEAN + camera, {**document, "pending": True})
    for ids, _, raw_ND in _raw_features(vectors, [camera], limit):
        vectors.replace_vectors(list(ids), subtract_mean(raw_ND, mean_D))
    vectors.put_document(MEAN + camera, document)


def _raw_features(
    vectors: VectorStore, cameras: list[str], limit: int
) -> Iterator[tuple[NDArray[np.object_], NDArray[np.object_], NDArray[np.float32]]]:
    """Yield ids, cameras and raw features (n, D) of the tracklets of `cameras`."""
    for batch in vectors.scan(Filter(cameras=frozenset(cameras)), limit=limit, crops=True):
        raw = [
            tracklet_vector(np.stack([crop.vector for crop in crops]), np.array([crop.quality for crop in crops]), None)
            for crops in batch.crops or ()
        ]
        if raw:
            yield batch.id, batch.camera, np.stack(raw)
