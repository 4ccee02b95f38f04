"""From tracklets with crops to rows of the store: features, colour, type and orientation."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vreid.data.records import object_array
from vreid.inference.attribute_heads import read_angles, read_classes
from vreid.inference.embedder import Embedder
from vreid.store.centering import tracklet_vector
from vreid.store.interface import StoredCrop, TrackletBatch
from vreid.store.tracklets import TrackletCrops

SURE = 0.5
"""Confidence from which the model's type counts."""
MOTORCYCLE = "motorcycle"


def embed_tracklets(
    embedder: Embedder, tracklets: Sequence[TrackletCrops], means: Mapping[str, NDArray[np.float32]]
) -> TrackletBatch:
    """Compute the rows of tracklets; every crop is decoded from the JPEG that is stored.

    So embedding the stored crops again gives the same features. The feature of a tracklet is the mean of its crops,
    weighted by their quality, minus the mean of its camera where `means` has one.

    Args:
        embedder: the model.
        tracklets: each with at least one crop.
        means: mean feature (D,) of a tracklet by camera.
    """
    images = [decode(crop.jpeg) for tracklet in tracklets for crop in tracklet.crops]
    features, outputs = embedder.describe(images)
    ends = np.cumsum([len(tracklet.crops) for tracklet in tracklets])
    rows = [slice(int(end) - len(tracklet.crops), int(end)) for tracklet, end in zip(tracklets, ends, strict=True)]
    weights = [np.array([crop.quality for crop in tracklet.crops]) for tracklet in tracklets]
    described = [
        attributes_of(embedder, {name: values[place] for name, values in outputs.items()}, weight)
        for place, weight in zip(rows, weights, strict=True)
    ]
    vectors = [
        tracklet_vector(features[place], weight, means.get(tracklet.camera))
        for tracklet, place, weight in zip(tracklets, rows, weights, strict=True)
    ]
    return TrackletBatch(
        id=object_array([tracklet.id for tracklet in tracklets]),
        vector=np.stack(vectors),
        camera=object_array([tracklet.camera for tracklet in tracklets]),
        start=np.array([tracklet.start for tracklet in tracklets], dtype=np.int64),
        end=np.array([tracklet.end for tracklet in tracklets], dtype=np.int64),
        color=object_array([found.get("color", "") for found in described]),
        vehicle_type=object_array(
            [type_of(found, tracklet.vehicle_type) for found, tracklet in zip(described, tracklets, strict=True)]
        ),
        facts=[
            {
                "source": Path(tracklet.source).name,
                "boxes": tracklet.boxes,
                "crops": len(tracklet.crops),
                "first_frame": tracklet.first_frame,
                "last_frame": tracklet.last_frame,
                "detected_as": tracklet.vehicle_type,
                **{name: value for name, value in found.items() if name != "color"},
            }
            for found, tracklet in zip(described, tracklets, strict=True)
        ],
        crops=[
            [
                StoredCrop(crop.jpeg, vector, crop.time, crop.frame, crop.box, crop.quality)
                for crop, vector in zip(tracklet.crops, features[place], strict=True)
            ]
            for tracklet, place in zip(tracklets, rows, strict=True)
        ],
    )


def decode(jpeg: bytes) -> Image.Image:
    """Decode a stored crop as RGB."""
    with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as image:
        return image.convert("RGB")


def attributes_of(
    embedder: Embedder, outputs: Mapping[str, NDArray[np.float32]], weights: NDArray[np.float64]
) -> dict[str, Any]:
    """Colour, type and orientation of a tracklet from the outputs (K, C) of its crops, each with a confidence.

    Outputs of classes are averaged over crops, by weights; the orientation is that of the first crop, the best.
    """
    facts = embedder.backend.facts
    weights = weights / weights.sum() if weights.sum() > 0 else np.full(len(weights), 1 / len(weights))
    found: dict[str, Any] = {}
    for name, values in outputs.items():
        temperature = facts.temperatures.get(name)
        if name == "orientation" and values.shape[1] == 2:
            (angle,) = read_angles(values[:1], temperature)
            found |= {"orientation": round(float(angle.value), 1), "orientation_confidence": round(angle.confidence, 3)}
        elif name in ("color", "vehicle_type") and name in facts.labels:
            mean = (weights @ values.astype(np.float64))[None].astype(np.float32)
            (best,) = read_classes(mean, facts.labels[name], temperature)
            found |= {name: str(best.value), f"{name}_confidence": round(best.confidence, 3)}
    return found


def type_of(found: Mapping[str, Any], detected: str) -> str:
    """Vehicle type of a tracklet: the model's, or the detector's class where the model is unsure or contradicts it.

    Detectors tell a motorcycle from a car at sizes at which the model does not.

    Example:
        >>> type_of({"vehicle_type": "van", "vehicle_type_confidence": 0.9}, "car")
        'van'
        >>> type_of({"vehicle_type": "van", "vehicle_type_confidence": 0.3}, "car")
        'car'
    """
    own = str(found.get("vehicle_type", ""))
    contradicts = bool(detected) and (own == MOTORCYCLE) != (detected == MOTORCYCLE)
    sure = found.get("vehicle_type_confidence", 0.0) >= SURE
    return own if sure and not contradicts else detected
