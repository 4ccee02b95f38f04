"""Agreement of travel times by pair of cameras and hour with true ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vreid.trips.labelled_tracklets import read_columns, read_numbers

LEAST_TRAVEL_TIMES = 10
"""Least true travel times of a pair of cameras (and hour) whose medians are compared."""


@dataclass(frozen=True)
class TravelTimeAgreement:
    """Agreement of median travel times by pair of cameras and hour of departure with the truth.

    Attributes:
        cells: pairs and hours with `LEAST_TRAVEL_TIMES` true travel times or more.
        found: how many of these have a travel time.
        error: median of the absolute relative errors of their medians; NaN without any.
    """

    cells: int
    found: int
    error: float


def evaluate_travel_times(travel_times_csv: Path | str, truth_csv: Path | str) -> TravelTimeAgreement:
    """Compare travel times (from, to, hour, count, median) with true ones; rows without an hour are left out.

    Raises:
        InputError: a column is missing, or a cell is no number.
    """
    found, true = (_medians(Path(path)) for path in (travel_times_csv, truth_csv))
    large = [cell for cell, (count, _) in true.items() if count >= LEAST_TRAVEL_TIMES]
    errors = [abs(found[cell][1] / true[cell][1] - 1) for cell in large if cell in found]
    return TravelTimeAgreement(len(large), len(errors), float(np.median(errors)) if errors else math.nan)


def _medians(path: Path) -> dict[tuple[str, str, str], tuple[float, float]]:
    """Return count and median by pair and hour."""
    table = read_columns(path, ("from", "to", "hour", "count", "median"))
    numbers = (read_numbers(path, name, table).tolist() for name in ("count", "median"))
    rows = zip(table["from"], table["to"], table["hour"], *numbers, strict=True)
    return {(start, end, hour): (count, median) for start, end, hour, count, median in rows if hour}
