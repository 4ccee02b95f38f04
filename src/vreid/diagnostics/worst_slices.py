"""Worst slices: mAP of every slice with intervals, and the slices that are significantly worse than the rest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vreid.data.protocols import Protocol
from vreid.diagnostics.diagnosis import BarChart, Part
from vreid.diagnostics.estimates import Estimate, means
from vreid.diagnostics.slices import MATCH_BINS, QUERY_BINS, match_scores
from vreid.errors import InputError
from vreid.retrieval.distances import Distances
from vreid.retrieval.evaluation.bootstrap import CONFIDENCE, resampled_means
from vreid.retrieval.evaluation.metrics import Metrics

FEWEST = 10
"""Minimum number of queries per slice; smaller slices are ignored."""
SHOWN = 6
"""Maximum number of slices shown per property, the worst ones."""
REPORTED = 3
"""Maximum number of worse slices that the sentence names."""

_Slice = tuple[NDArray[np.intp], NDArray[np.float64]]
"""Rows of queries and the average precision of each."""


def worst_slices(distances: Distances, metrics: Metrics, protocol: Protocol, *, seed: int = 0) -> Part:
    """Compare the mAP of slices by camera, colour, type, orientation, size, hour, camera pair and time gap.

    A slice is significantly worse if the 95 % interval of its difference to all other queries excludes zero after
    Bonferroni correction for the number of slices. The bootstrap draws vehicles, so the difference is paired for
    vehicles on both sides.

    Args:
        distances: distances after post-processing.
        metrics: metrics of the distances under `protocol`.
        protocol: the evaluation protocol.
        seed: random seed of the intervals.

    Raises:
        InputError: no property is known.
    """
    query = distances.query
    vehicles = query.identity.codes
    groups = {
        by: parts for by in (*QUERY_BINS, *MATCH_BINS) if len(parts := _parts(by, distances, metrics, protocol)) > 1
    }
    if not groups:
        raise InputError("slices: neither colours, types, orientations, sizes, times nor cameras are known.")
    evaluated = np.flatnonzero(metrics.relevant > 0)
    whole = means(metrics.average_precision[evaluated], vehicles[evaluated], seed=seed)[0]
    compared = sum(map(len, groups.values()))
    shown: dict[str, dict[str, Estimate]] = {}
    numbers: dict[str, Estimate] = {"all queries": whole}
    worse = []
    for by, parts in groups.items():
        found = {name: means(precision, vehicles[rows], seed=seed)[0] for name, (rows, precision) in parts.items()}
        for name, (rows, precision) in parts.items():
            everyone = parts if by in MATCH_BINS else {"": (evaluated, metrics.average_precision[evaluated])}
            drop = _below_the_rest(rows, precision, everyone, vehicles, compared, seed)
            if drop.high < 0:
                worse.append((drop.value, f"{by} {name}", found[name]))
        order = sorted(found, key=lambda name: found[name].value)
        kept = [name for name in found if name in order[:SHOWN]]
        title = by if len(kept) == len(found) else f"{by}, worst {SHOWN} of {len(found)}"
        shown[title] = {name: found[name] for name in kept}
        numbers |= {f"{by} {name}": number for name, number in found.items()}
    worse.sort(key=lambda slice_: slice_[0])
    reported = "; ".join(f"{name} {number} %" for _, name, number in worse[:REPORTED])
    more = f" and {len(worse) - REPORTED} more" if len(worse) > REPORTED else ""
    return Part(
        name="slices",
        sentence=f"mAP of all queries is {whole} %. "
        + (
            f"Significantly worse: {reported}{more}."
            if worse
            else f"None of {compared} slices is significantly worse than the rest."
        ),
        numbers=numbers,
        needs="identities, and the columns of the slices",
        limits=f"Slices of fewer than {FEWEST} queries are omitted. Slices by camera pair or time gap select matches: "
        "other matches of a query are removed from its list, so these values are lower than those of whole queries.",
        chart=BarChart(shown, "mAP in percent, with 95 % interval", line=whole.value),
    )


def _parts(by: str, distances: Distances, metrics: Metrics, protocol: Protocol) -> dict[str, _Slice]:
    try:
        if by in MATCH_BINS:
            found = match_scores(distances, protocol, by)
            made = {name: (rows[:, 0].astype(np.intp), rows[:, 1]) for name, rows in found.items()}
        else:
            names, codes = QUERY_BINS[by](distances.query)
            evaluated = metrics.relevant > 0
            rows = {name: np.flatnonzero((codes == code) & evaluated) for code, name in enumerate(names)}
            made = {name: (of_slice, metrics.average_precision[of_slice]) for name, of_slice in rows.items()}
    except InputError:  # the property is unknown, or an image needed for its size is missing
        return {}
    return {name: slice_ for name, slice_ in made.items() if len(slice_[0]) >= FEWEST}


def _below_the_rest(
    rows: NDArray[np.intp],
    precision: NDArray[np.float64],
    parts: dict[str, _Slice],
    vehicles: NDArray[np.int32],
    compared: int,
    seed: int,
) -> Estimate:
    """Mean of the slice minus the mean of all (row, value) pairs outside of it, with a corrected interval."""
    others = [(other_rows, values) for other_rows, values in parts.values() if other_rows is not rows]
    rest, values = (np.concatenate(columns) for columns in zip(*others, strict=True))
    if len(parts) == 1:  # all queries: remove those of the slice
        outside = ~np.isin(rest, rows)
        rest, values = rest[outside], values[outside]
    if not len(rest):
        return Estimate(0.0, 0.0, 0.0)
    both = np.concatenate([rows, rest])
    column = np.full((len(both), 2), np.nan)
    column[: len(rows), 0], column[len(rows) :, 1] = precision, values
    names, code = np.unique(vehicles[both], return_inverse=True)
    return _difference(column, code, len(names), compared, seed)


def _difference(
    columns_N2: NDArray[np.float64], vehicle: NDArray[np.intp], count: int, compared: int, seed: int
) -> Estimate:
    """Mean of the first column minus that of the second, with a Student interval from the bootstrap's spread.

    Percentiles as extreme as the correction requires would need thousands of draws. The degrees of freedom are those of
    the side with fewer vehicles.
    """
    from scipy.special import stdtrit

    there = ~np.isnan(columns_N2)
    total, number = np.zeros((2, count, 2))
    np.add.at(total, vehicle, np.where(there, columns_N2, 0))
    np.add.at(number, vehicle, there)
    sides = resampled_means(total, number, seed=seed)
    value = float(np.subtract(*(total.sum(axis=0) / number.sum(axis=0))))
    freedom = max(int((number > 0).sum(axis=0).min()) - 1, 1)
    reach = float(np.nanstd(sides[:, 0] - sides[:, 1]) * stdtrit(freedom, 1 - (1 - CONFIDENCE) / 2 / compared))
    return Estimate(value, value - reach, value + reach, int(there[:, 0].sum()))
