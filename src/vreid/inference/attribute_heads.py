"""From the outputs of attribute heads to colour, type and orientation with a calibrated confidence.

Source of temperature scaling: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import i0e, log_softmax, softmax

from vreid.errors import InputError

NEAR = 30
"""The confidence of an angle is the probability that it is right within so many degrees."""
_TEMPERATURES = (0.01, 100.0)


@dataclass(frozen=True)
class Attribute:
    """What a model says of one attribute of an image.

    Attributes:
        value: the class, or degrees (0 faces the camera, counter-clockwise from above).
        confidence: probability that it is right; of degrees, that they are right within `NEAR`.
        calibrated: whether the model file has a temperature for it; without one, networks are too sure.
    """

    value: str | float
    confidence: float
    calibrated: bool

    def __str__(self) -> str:
        value = self.value if isinstance(self.value, str) else f"{self.value:.0f} degrees"
        return f"{value} ({100 * self.confidence:.0f} %)"


def read_classes(outputs: NDArray[np.float32], names: Sequence[str], temperature: float | None) -> list[Attribute]:
    """The likeliest of the classes `names` for each row of logits (N, K)."""
    shares = softmax(outputs.astype(np.float64) / (temperature or 1.0), axis=1)
    best = shares.argmax(axis=1)
    calibrated = temperature is not None
    return [Attribute(names[k], float(row[k]), calibrated) for row, k in zip(shares, best, strict=True)]


def read_angles(outputs: NDArray[np.float32], temperature: float | None) -> list[Attribute]:
    """The angle of each row (N, 2) of sine and cosine; errors follow a von Mises distribution.

    Its concentration is the length of the row over the temperature.
    """
    degrees = np.degrees(np.arctan2(outputs[:, 0], outputs[:, 1])) % 360
    concentration = np.hypot(outputs[:, 0], outputs[:, 1]).astype(np.float64) / (temperature or 1.0)
    errors = np.radians(np.arange(-180, 180) + 0.5)
    density = np.exp(concentration[:, None] * (np.cos(errors) - 1))
    near = density[:, np.abs(errors) < np.radians(NEAR)].sum(axis=1) / density.sum(axis=1)
    calibrated = temperature is not None
    return [Attribute(float(angle), float(share), calibrated) for angle, share in zip(degrees, near, strict=True)]


def fit_class_temperature(outputs: NDArray[np.float32], classes: NDArray[np.integer]) -> float:
    """The temperature that makes the classes (N,) of held-out images likeliest, given their logits (N, K).

    Raises:
        InputError: there are no images.
    """
    logits = _enough(outputs)

    def loss(log_temperature: float) -> float:
        scores = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(scores[np.arange(len(classes)), classes].mean())

    return _least(loss)


def fit_angle_temperature(outputs: NDArray[np.float32], degrees: NDArray[np.floating]) -> float:
    """The temperature that makes the angles (N,) of held-out images likeliest, given sine and cosine (N, 2).

    Raises:
        InputError: there are no images.
    """
    vectors = _enough(outputs)
    error = np.arctan2(vectors[:, 0], vectors[:, 1]) - np.radians(degrees)
    length = np.hypot(vectors[:, 0], vectors[:, 1])

    def loss(log_temperature: float) -> float:
        concentration = length / np.exp(log_temperature)
        return -float((concentration * (np.cos(error) - 1) - np.log(i0e(concentration))).mean())

    return _least(loss)


def _enough(outputs: NDArray[np.float32]) -> NDArray[np.float64]:
    if not len(outputs):
        raise InputError("A temperature needs labelled images; give a data set with labels of the attribute.")
    return outputs.astype(np.float64)


def _least(loss: Callable[[float], float]) -> float:
    from scipy.optimize import minimize_scalar  # takes half a second, and reading outputs does not need it

    low, high = _TEMPERATURES
    found = minimize_scalar(loss, bounds=(math.log(low), math.log(high)), method="bounded")
    return float(np.exp(found.x))
