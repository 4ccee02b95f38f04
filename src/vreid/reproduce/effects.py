"""Effects: the paired difference between a row and the row that the paper compares it with, and its direction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vreid.errors import InputError
from vreid.reproduce.result_lines import Line
from vreid.retrieval.evaluation.bootstrap import mean_interval

Direction = Literal["holds", "reversed", "not resolved"]
RESAMPLES = 2000


@dataclass(frozen=True)
class Effect:
    """Difference between a row and another, in percentage points.

    Attributes:
        against: name of the other row.
        metric: the compared metric.
        change: mean difference over all queries of all seeds.
        interval: 95 % interval of the change, paired bootstrap over vehicles.
        paper: the paper's difference; None if the paper lacks one of the figures.
        pairs: number of seeds that both rows have.
    """

    against: str
    metric: str
    change: float
    interval: tuple[float, float]
    paper: float | None
    pairs: int

    @property
    def direction(self) -> Direction | None:
        """Whether the paper's direction *holds*, is *reversed*, or is *not resolved* (the interval contains zero).

        None if the paper gives no difference.
        """
        if not self.paper:
            return None
        low, high = self.interval
        if low <= 0 <= high:
            return "not resolved"
        return "holds" if (low > 0) == (self.paper > 0) else "reversed"


def effect(against: str, metric: str, pairs: Sequence[tuple[Line, Line]], paper: float | None) -> Effect | None:
    """What the first line of each pair has more than the second, seeds stacked; None without pairs.

    The bootstrap draws vehicles with all their queries, the same on both sides; vehicles of different worlds differ.

    Args:
        against: name of the second row.
        metric: a key of the lines' queries.
        pairs: lines of two rows of the same queries, one pair a seed.
        paper: the paper's change in points.

    Raises:
        InputError: lines with different queries.

    Example:
        >>> effect("plain", "mAP", [(better, plain)], paper=10.2).direction        # doctest: +SKIP
        'holds'
    """
    totals, counts = [], []
    for one, other in pairs:
        if one.queries["identity"] != other.queries["identity"]:
            raise InputError(
                f"Rows {one.name!r} and {other.name!r} have different queries; compare rows of one data set."
            )
        change = _values(one.queries, metric) - _values(other.queries, metric)
        evaluated = ~np.isnan(change)
        _, vehicle = np.unique(np.asarray(one.queries["identity"])[evaluated], return_inverse=True)
        totals.append(np.bincount(vehicle, change[evaluated]))
        counts.append(np.bincount(vehicle))
    if not totals or not sum(map(len, totals)):
        return None
    total, count = np.concatenate(totals), np.concatenate(counts)
    low, high = mean_interval(total, count, resamples=RESAMPLES)
    mean = float(total.sum() / count.sum())
    return Effect(against, metric, 100 * mean, (100 * float(low), 100 * float(high)), paper, len(pairs))


def _values(queries: Mapping[str, Sequence[float | None]], metric: str) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in queries[metric]], dtype=np.float64)
