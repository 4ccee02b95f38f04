"""Agreement of origin-destination counts with true ones: the GEH statistic."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vreid.trips.labelled_tracklets import read_columns, read_numbers

Float = NDArray[np.float64]

ACCEPTED = 5.0
"""GEH below which traffic engineers accept a modelled count."""
LEAST_COUNT = 20
"""Only cells with more trips than this have a GEH."""


@dataclass(frozen=True)
class CountAgreement:
    """Agreement of an origin-destination matrix with the truth.

    Attributes:
        cells: number of cells with more than `LEAST_COUNT` true trips.
        accepted: share of these whose corrected count has a GEH below `ACCEPTED`.
        accepted_raw: the same of the counts as they are.
        median_geh: median GEH of these cells' corrected counts.
        true_total, found_total: trips of all cells.
    """

    cells: int
    accepted: float
    accepted_raw: float
    median_geh: float
    true_total: float
    found_total: float


def geh(modelled: ArrayLike, counted: ArrayLike) -> Float:
    """Compute the GEH statistic sqrt(2 (m - c)^2 / (m + c)) of volumes, element by element; 0 where both are 0.

    It was made for hourly volumes; for the counts of a longer time it is stricter.

    Example:
        >>> geh([100, 0], [121, 0]).round(3).tolist()
        [1.998, 0.0]
    """
    m, c = np.broadcast_arrays(np.asarray(modelled, dtype=np.float64), np.asarray(counted, dtype=np.float64))
    result: Float = np.sqrt(np.divide(2 * (m - c) ** 2, m + c, out=np.zeros(m.shape), where=m + c > 0))
    return result


def evaluate_counts(od_csv: Path | str, truth_od_csv: Path | str) -> CountAgreement:
    """Compare an origin-destination matrix (from, to, count, corrected) with the true one (from, to, count).

    Raises:
        InputError: a column is missing, or a cell is no number.
    """
    found, truth = (read_columns(Path(path), ("from", "to", "count")) for path in (od_csv, truth_od_csv))
    raw, corrected = _cells(Path(od_csv), found, "count"), _cells(Path(od_csv), found, "corrected")
    true = _cells(Path(truth_od_csv), truth, "count")
    large = [cell for cell, count in true.items() if count > LEAST_COUNT]
    counts = np.array([true[cell] for cell in large])
    of_raw, of_corrected = (geh([table.get(cell, 0.0) for cell in large], counts) for table in (raw, corrected))
    return CountAgreement(
        cells=len(large),
        accepted=float((of_corrected < ACCEPTED).mean()) if large else math.nan,
        accepted_raw=float((of_raw < ACCEPTED).mean()) if large else math.nan,
        median_geh=float(np.median(of_corrected)) if large else math.nan,
        true_total=float(sum(true.values())),
        found_total=float(sum(corrected.values())),
    )


def _cells(path: Path, table: Mapping[str, Sequence[str]], column: str) -> dict[tuple[str, str], float]:
    values = read_numbers(path, column if column in table else "count", table)
    cells: dict[tuple[str, str], float] = defaultdict(float)
    for start, end, value in zip(table["from"], table["to"], values.tolist(), strict=True):
        cells[start, end] += value
    return dict(cells)
