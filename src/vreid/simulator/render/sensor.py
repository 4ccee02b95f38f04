"""Camera sensor model: lens blur, tone curve, colour, noise and sharpening."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d, uniform_filter1d

from vreid.simulator.render.camera import Sensor

Float = NDArray[np.float32]
HAZE = (0.72, 0.74, 0.77)


@lru_cache(maxsize=64)
def _kernel(sigma: float) -> Float:
    radius = max(1, int(np.ceil(2.6 * sigma)))
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel: Float = (taps / taps.sum()).astype(np.float32)
    return kernel


def blurred(image: Float, sigma: float) -> Float:
    """Return a (C, H, W) image blurred by a Gaussian of `sigma` pixels (below 0.2: unchanged)."""
    if sigma < 0.2:
        return image
    kernel = _kernel(round(float(sigma), 3))
    rows: Float = correlate1d(image, kernel, axis=1, mode="nearest")
    both: Float = correlate1d(rows, kernel, axis=2, mode="nearest")
    return both


def develop(
    light: Float,
    sensor: Sensor,
    rng: np.random.Generator,
    *,
    pixels: float,
    exposure: float = 1.0,
    glare: float = 0.0,
    rain: float = 0.0,
) -> NDArray[np.uint8]:
    """Return the (H, W, 3) uint8 image of (3, H, W) linear light; `pixels` is the preset's size over 128."""
    x = toned(light, sensor, rng, pixels=pixels, exposure=exposure, glare=glare, rain=rain)
    if sensor.noise:
        x += grain(sensor, rng, x.shape[1], x.shape[2])
    return levels(sharpened(x, sensor, pixels))


def toned(
    light: Float,
    sensor: Sensor,
    rng: np.random.Generator,
    *,
    pixels: float,
    exposure: float = 1.0,
    glare: float = 0.0,
    rain: float = 0.0,
) -> Float:
    """Return linear light (3, H, W) after lens, tone curve and colour, about 0 to 1; arguments as `develop`."""
    x = light * _channels(sensor.balance)
    if glare:
        bright = np.clip(x - 1.6, 0, 6)
        if bright.any():
            x = x + blurred(bright, 5.0 * pixels) * np.float32(glare)
    if rain:
        x = x + _streaks(rng, x.shape[1], x.shape[2], pixels) * np.float32(rain)
    x = blurred(x, sensor.blur * pixels) * np.float32(sensor.exposure * exposure)
    x = x * (1 + x * np.float32(1 / 9)) / (1 + x * np.float32(0.62))  # shoulder: white at about 3
    x = np.clip(x, np.float32(1e-5), 1)
    x = x ** (_channels(sensor.bend) / np.float32(sensor.gamma))
    x = (x - np.float32(0.5)) * np.float32(sensor.contrast) + np.float32(0.5)
    grey = (x[0] + x[1] + x[2]) * np.float32(1 / 3)
    x = grey + (x - grey) * np.float32(sensor.saturation)
    if sensor.haze:
        x += (_channels(HAZE) - x) * np.float32(sensor.haze)
    tone: Float = x
    return tone


def grain(sensor: Sensor, rng: np.random.Generator, height: int, width: int) -> Float:
    """Draw the sensor noise (3, H, W) of one image."""
    fine = rng.standard_normal((3, height, width), np.float32)
    noise: Float = (fine * np.float32(0.5) + blurred(fine, 0.8) * np.float32(1.3)) * np.float32(sensor.noise)
    return noise


def sharpened(x: Float, sensor: Sensor, pixels: float) -> Float:
    """Return `x` (3, H, W) after the camera's sharpening, which is linear."""
    if sensor.sharpen:
        sharp: Float = x + (x - blurred(x, 0.9 * pixels)) * np.float32(sensor.sharpen)
        return sharp
    return x


def levels(x: Float) -> NDArray[np.uint8]:
    """Return `x` (3, H, W), 0 to 1, as an (H, W, 3) uint8 image."""
    rounded = (np.clip(x, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8)
    return np.ascontiguousarray(rounded.transpose(1, 2, 0))


def _streaks(rng: np.random.Generator, height: int, width: int, pixels: float) -> Float:
    """Return (H, W): faint upright rain streaks."""
    drops = (rng.random((height, width), np.float32) < 0.003 / pixels).astype(np.float32)
    return uniform_filter1d(drops, max(3, round(9 * pixels)), axis=0, mode="constant") * np.float32(1.6)


def _channels(values: tuple[float, float, float]) -> Float:
    return np.asarray(values, np.float32)[:, None, None]
