"""Baseline features: a colour histogram, raw pixels and random vectors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vreid.data.images import read_image
from vreid.data.records import Records
from vreid.progress import Progress, job
from vreid.retrieval.features import FeatureSet

BINS = (12, 5, 5)
"""Bins of hue, saturation and value."""
CENTRE = 0.6
"""Share of width and height of the central crop, which reduces the influence of the road."""


def hsv_histogram(records: Records, progress: Progress | None = None) -> FeatureSet:
    """Compute the square root of the 3-D HSV histogram of each image's central crop: (N, 300) unit-norm features.

    Because of the square root, Euclidean distances are Hellinger distances of the histograms.

    Raises:
        InputError: an image cannot be read.
    """
    features = np.empty((len(records), int(np.prod(BINS))), dtype=np.float32)
    with job(progress, "histogram", len(records)) as listener:
        for row, image in enumerate(_images(records)):
            width, height = image.size
            dx, dy = width * (1 - CENTRE) / 2, height * (1 - CENTRE) / 2
            centre = image.crop((round(dx), round(dy), max(round(width - dx), 1), max(round(height - dy), 1)))
            features[row] = _histogram(np.asarray(centre.convert("HSV")).reshape(-1, 3))
            listener.advance(1)
    return FeatureSet(features, records, model="hsv_histogram").normalise()


def pixels(records: Records, *, side: int = 32) -> FeatureSet:
    """Resize each image to `side` x `side` RGB pixels and subtract their mean: (N, 3 side^2) unit-norm features.

    Raises:
        InputError: an image cannot be read.
    """
    features = np.empty((len(records), 3 * side * side), dtype=np.float32)
    for row, image in enumerate(_images(records)):
        values = np.asarray(image.resize((side, side)), dtype=np.float32).ravel()
        features[row] = values - values.mean()
    features[~features.any(axis=1)] = 1  # a uniform grey image needs a direction too
    return FeatureSet(features, records, model="pixels").normalise()


def _images(records: Records) -> Iterator[Image.Image]:
    for path, box in zip(records.path, records.box, strict=True):
        yield read_image(path, box=None if np.isnan(box[0]) else box)


def _histogram(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    place = np.zeros(len(pixels), dtype=np.intp)
    for channel, bins in enumerate(BINS):
        place = place * bins + pixels[:, channel].astype(np.intp) * bins // 256
    return np.sqrt(np.bincount(place, minlength=int(np.prod(BINS))) / len(pixels)).astype(np.float32)


def random_vectors(records: Records, *, seed: int = 0, dimensions: int = 64) -> FeatureSet:
    """Draw random unit vectors, the chance level."""
    features = np.random.default_rng(seed).normal(size=(len(records), dimensions))
    return FeatureSet(features.astype(np.float32), records, model="random_vectors").normalise()
