"""Place of the invented cities on the earth."""

from __future__ import annotations

import math

ORIGIN = 50.0, 8.0
"""Latitude and longitude in degrees of a city map's origin."""
METRES_PER_DEGREE = 111_320.0
"""Metres per degree of latitude."""


def latitude_longitude(x: float, y: float) -> tuple[float, float]:
    """Return latitude and longitude in degrees of a place `x` metres east and `y` metres north of the map's origin."""
    latitude, longitude = ORIGIN
    across = METRES_PER_DEGREE * math.cos(math.radians(latitude))
    return latitude + y / METRES_PER_DEGREE, longitude + x / across
