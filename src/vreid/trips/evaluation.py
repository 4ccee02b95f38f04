"""Evaluate trips against the truth: IDF1, HOTA and CLEAR of tracklets, links, travel times, origin-destination counts.

A tracklet counts as one detection that is found where it is (its own camera and time), so only its identity can be
wrong: the trip of trips.csv against the vehicle of truth.csv. Boxes are evaluated in `tracking_metrics`.

Shapes: N tracklets, V vehicles.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vreid.errors import InputError
from vreid.formatting import plural
from vreid.retrieval.evaluation.bootstrap import RESAMPLES, percentile_interval, resample
from vreid.trips.count_agreement import ACCEPTED, LEAST_COUNT, CountAgreement, evaluate_counts
from vreid.trips.labelled_tracklets import Identity, LabelledTracklets, joined_trips, read_trips, read_truth
from vreid.trips.tracking_metrics import assign_identities, several_cameras
from vreid.trips.travel_time_agreement import LEAST_TRAVEL_TIMES, TravelTimeAgreement, evaluate_travel_times

Float = NDArray[np.float64]
Ints = NDArray[np.int64]

Weight = Literal["tracklet", "duration"]


@dataclass(frozen=True)
class MetricEstimate:
    """A value with its 95 % bootstrap interval over vehicles."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class TravelTimeError:
    """Median travel time in seconds of a camera pair, by the trips and in truth."""

    start: str
    end: str
    found: float
    true: float
    found_count: int
    true_count: int

    @property
    def error(self) -> float:
        """Relative error of the median."""
        return self.found / self.true - 1


@dataclass(frozen=True)
class TripMetrics:
    """Metrics of trips; estimates are shares from 0 to 1.

    Attributes:
        tracklets, vehicles, trips: numbers that are evaluated.
        idf1, idp, idr: F1, precision and recall of tracklets in the right trip, one trip a vehicle.
        hota, deta, assa: HOTA of tracklets, with its detection and association accuracy.
        mota: CLEAR's accuracy; `switches`: changes of trip along a vehicle's tracklets.
        link_precision, link_recall: share of links that join consecutive tracklets of a vehicle, and of these that are
            links.
        travel_times: medians by camera pair.
        by_hour: agreement of the medians by camera pair and hour, None without tables of both.
        counts: agreement of the origin-destination matrix, None without one.
        link_probability, link_right: (L,) of the links that trips.csv gives a probability: that, and whether they join
            consecutive tracklets of a vehicle, for a reliability diagram.
        sums: per vehicle, what the estimates are computed of.
        outside: the same of tracklets that the truth does not know.
    """

    tracklets: int
    vehicles: int
    trips: int
    idf1: MetricEstimate
    idp: MetricEstimate
    idr: MetricEstimate
    hota: MetricEstimate
    deta: MetricEstimate
    assa: MetricEstimate
    mota: float
    switches: int
    link_precision: MetricEstimate
    link_recall: MetricEstimate
    travel_times: tuple[TravelTimeError, ...]
    by_hour: TravelTimeAgreement | None
    counts: CountAgreement | None
    link_probability: Float = field(repr=False)
    link_right: NDArray[np.bool_] = field(repr=False)
    sums: dict[str, Float] = field(repr=False)
    outside: Float = field(repr=False)

    @property
    def travel_time_error(self) -> float:
        """Median over camera pairs of the absolute relative error of the median travel time; NaN without pairs."""
        errors = [abs(one.error) for one in self.travel_times]
        return float(np.median(errors)) if errors else math.nan

    def plain(self) -> dict[str, Any]:
        """Return numbers, lists and dicts of everything but the arrays, as for JSON; None for NaN."""
        from dataclasses import asdict, fields

        values = {one.name: getattr(self, one.name) for one in fields(self) if one.repr}
        out: dict[str, Any] = {
            name: asdict(value) if isinstance(value, (MetricEstimate, CountAgreement, TravelTimeAgreement)) else value
            for name, value in values.items()
        }
        out["travel_times"] = [asdict(one) | {"error": one.error} for one in self.travel_times]
        for name in ("by_hour", "counts"):
            out[name] = out[name] and {key: _known(value) for key, value in out[name].items()}
        return out | {"travel_time_error": _known(self.travel_time_error)}

    def __str__(self) -> str:
        lines = [
            f"IDF1 {self.idf1}, IDP {self.idp}, IDR {self.idr}",
            f"HOTA {self.hota}, DetA {self.deta}, AssA {self.assa}; MOTA {self.mota:.3f}, {self.switches} switches",
            f"links: precision {self.link_precision}, recall {self.link_recall}",
        ]
        if self.travel_times:
            pairs = plural(len(self.travel_times), "pair of cameras", "pairs of cameras")
            lines.append(f"travel times: median error {100 * self.travel_time_error:.1f} % ({pairs})")
        if self.by_hour and self.by_hour.found:
            of = f"{self.by_hour.found} of {self.by_hour.cells} pairs and hours"
            lines.append(f"travel times by hour: median error {100 * self.by_hour.error:.1f} % ({of})")
        if self.counts and self.counts.cells:
            corrected, raw = (100 * share for share in (self.counts.accepted, self.counts.accepted_raw))
            of = f"{plural(self.counts.cells, 'cell')} of more than {LEAST_COUNT} trips"
            lines.append(f"counts: GEH < {ACCEPTED:.0f} in {corrected:.0f} % of {of} (raw counts: {raw:.0f} %)")
        return "\n".join(lines)


def evaluate_trips(
    trips_csv: Path | str,
    truth_csv: Path | str,
    *,
    identity: Identity = "vehicle",
    weight: Weight = "tracklet",
    cityflow: bool = True,
    vehicles_csv: Path | str | None = None,
    od_csv: Path | str | None = None,
    truth_od_csv: Path | str | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> TripMetrics:
    """Evaluate trips against the truth.

    Args:
        trips_csv: a line a tracklet: trip, order, tracklet, camera, start, end.
        truth_csv: a line a tracklet: tracklet, camera, vehicle (and trip), start, end.
        identity: what a trip should be: everything of a vehicle ("vehicle"), or one drive of it between two places
            where it parks ("trip").
        weight: tracklets count once, or by their duration, which stands for their frames.
        cityflow: only vehicles at two cameras or more count, and only trips past two or more, as in CityFlow.
        vehicles_csv: vehicle and trip of each line, which joins the trips of a vehicle between which it parked, for
            `identity` "vehicle"; unlisted trips are vehicles. None: vehicles.csv beside the trips, if it exists.
        od_csv, truth_od_csv: origin-destination matrices (from, to, count, corrected); None: od.csv beside the trips
            and truth_od.csv beside the truth, if both exist. Likewise travel_times.csv and truth_travel_times.csv.
        seed, resamples: of the bootstrap over vehicles.

    Raises:
        InputError: a column is missing, a tracklet is listed twice, or nothing is left to evaluate.
    """
    found, truth = read_trips(Path(trips_csv)), read_truth(Path(truth_csv), identity)
    beside = Path(trips_csv).with_name("vehicles.csv")
    if identity == "vehicle" and (vehicles_csv is not None or beside.is_file()):
        found = joined_trips(found, Path(vehicles_csv or beside))
    row_of = {name: row for row, name in enumerate(truth.tracklet)}
    found_rows = np.array([row_of.get(name, -1) for name in found.tracklet], dtype=np.int64)
    true_kept = np.ones(len(truth.tracklet), dtype=np.bool_)
    found_kept = np.ones(len(found.tracklet), dtype=np.bool_)
    if cityflow:
        true_kept = several_cameras(truth.identity, truth.camera)
        found_kept = several_cameras(found.identity, found.camera)
    if not true_kept.any():
        raise InputError(f"{truth_csv}: no {identity} is seen by two cameras or more; evaluate with cityflow off.")

    sides = _Sides.of(truth, found, found_rows, true_kept, found_kept, weight)
    sums, outside = sides.sums()
    switches = sides.switches()
    _, second, right = sides.links()
    probability = found.probability[second]
    known = np.isfinite(probability)
    drawn = _Bootstrap(sums, outside, seed, resamples)
    misses = int((true_kept & ~sides.true_found).sum())
    false_positives = int((found_kept & ~sides.found_true).sum())

    def beside_both(name: str) -> tuple[Path, Path] | tuple[None, None]:
        tables = Path(trips_csv).with_name(name), Path(truth_csv).with_name(f"truth_{name}")
        return tables if all(path.is_file() for path in tables) else (None, None)

    if od_csv is None and truth_od_csv is None:
        od_csv, truth_od_csv = beside_both("od.csv")
    counts = None if od_csv is None or truth_od_csv is None else evaluate_counts(od_csv, truth_od_csv)
    times, true_times = beside_both("travel_times.csv")
    by_hour = None if times is None or true_times is None else evaluate_travel_times(times, true_times)
    return TripMetrics(
        tracklets=int(true_kept.sum()),
        vehicles=len(set(truth.identity[true_kept])),
        trips=len(set(found.identity[found_kept])),
        idf1=drawn.estimate(_idf1),
        idp=drawn.estimate(lambda s: _share(s[IDTP], s[FOUND])),
        idr=drawn.estimate(lambda s: _share(s[IDTP], s[TRUE])),
        hota=drawn.estimate(lambda s: math.sqrt(_deta(s) * _share(s[ASSOCIATION], s[BOTH]))),
        deta=drawn.estimate(_deta),
        assa=drawn.estimate(lambda s: _share(s[ASSOCIATION], s[BOTH])),
        mota=1 - (misses + false_positives + switches) / int(true_kept.sum()),
        switches=switches,
        link_precision=drawn.estimate(lambda s: _share(s[RIGHT_LINKS], s[LINKS])),
        link_recall=drawn.estimate(lambda s: _share(s[RIGHT_LINKS], s[TRUE_LINKS])),
        travel_times=_travel_times(truth, found),
        by_hour=by_hour,
        counts=counts,
        link_probability=probability[known],
        link_right=right[known],
        sums=sums,
        outside=outside,
    )


def idf1_difference(
    one: TripMetrics, other: TripMetrics, *, seed: int = 0, resamples: int = RESAMPLES
) -> MetricEstimate:
    """Estimate by how much the IDF1 of `one` exceeds that of `other`, resampling the vehicles of both alike.

    Raises:
        InputError: the two were evaluated against different truths.
    """
    if list(one.sums) != list(other.sums):
        raise InputError("the trips were evaluated against different vehicles; compare results of one truth.")
    first, second = (np.stack(list(metrics.sums.values())) for metrics in (one, other))
    drawn = [
        _idf1(first[picks].sum(axis=0) + one.outside) - _idf1(second[picks].sum(axis=0) + other.outside)
        for picks in resample(len(first), seed=seed, resamples=resamples)
    ]
    low, high = percentile_interval(np.array(drawn)).tolist()
    return MetricEstimate(one.idf1.value - other.idf1.value, low, high)


TRUE, FOUND, IDTP, BOTH, ASSOCIATION, TRUE_LINKS, LINKS, RIGHT_LINKS = range(8)
"""Columns of `TripMetrics.sums`."""


@dataclass(frozen=True, eq=False)
class _Sides:
    """True and found tracklets by rows of the truth, or -1 for found ones that the truth does not know."""

    truth: LabelledTracklets
    found: LabelledTracklets
    found_rows: Ints  # (M,) row of the truth of each found tracklet
    true_kept: NDArray[np.bool_]  # (N,)
    found_kept: NDArray[np.bool_]  # (M,)
    true_found: NDArray[np.bool_]  # (N,) kept and found
    found_true: NDArray[np.bool_]  # (M,)
    weight: Float  # (N,)
    found_weight: Float  # (M,)

    @classmethod
    def of(
        cls,
        truth: LabelledTracklets,
        found: LabelledTracklets,
        found_rows: Ints,
        true_kept: NDArray[np.bool_],
        found_kept: NDArray[np.bool_],
        weight: Weight,
    ) -> _Sides:
        true_found = np.zeros(len(truth.tracklet), dtype=np.bool_)
        true_found[found_rows[found_kept & (found_rows >= 0)]] = True
        known = found_rows >= 0
        found_true = found_kept & known
        found_true[known] &= true_kept[found_rows[known]]
        lasting = weight == "duration"
        weights = truth.end - truth.start if lasting else np.ones(len(truth.tracklet))
        found_weights = found.end - found.start if lasting else np.ones(len(found.tracklet))
        found_weights = np.where(known, weights[found_rows], found_weights)  # the same tracklet lasts equally long
        return cls(
            truth, found, found_rows, true_kept, found_kept, true_found & true_kept, found_true, weights, found_weights
        )

    def sums(self) -> tuple[dict[str, Float], Float]:
        """Return sums (8,) by vehicle, and those of tracklets unknown to the truth."""
        names, vehicle = np.unique(self.truth.identity.astype(str), return_inverse=True)
        trips, trip = np.unique(self.found.identity.astype(str), return_inverse=True)
        vehicle, trip = vehicle.ravel(), trip.ravel()
        owner = np.where(self.found_rows >= 0, vehicle[self.found_rows], len(names))  # the last: unknown to the truth
        table = np.zeros((len(names) + 1, 8))
        np.add.at(table[:, TRUE], vehicle[self.true_kept], self.weight[self.true_kept])
        np.add.at(table[:, FOUND], owner[self.found_kept], self.found_weight[self.found_kept])

        both = self.found_true
        cells, place = np.unique(np.stack([owner[both], trip[both]]), axis=1, return_inverse=True)
        shared = np.bincount(place.ravel(), self.found_weight[both], minlength=cells.shape[1]).astype(np.float64)
        of_trip = np.bincount(trip[self.found_kept], self.found_weight[self.found_kept], minlength=len(trips))
        np.add.at(table[:, BOTH], cells[0], shared)
        jaccard = shared / (table[cells[0], TRUE] + of_trip[cells[1]] - shared)
        np.add.at(table[:, ASSOCIATION], cells[0], shared * jaccard)
        assigned = assign_identities(cells[0], cells[1], shared, len(names))
        right = assigned[cells[0]] == cells[1]
        table[cells[0][right], IDTP] = shared[right]
        first, _, joins = self.links()
        np.add.at(table[:, TRUE_LINKS], owner[self.true_links()[0]], 1)
        np.add.at(table[:, LINKS], owner[first], 1)
        np.add.at(table[:, RIGHT_LINKS], owner[first[joins]], 1)
        return dict(zip(names.tolist(), table[:-1], strict=True)), table[-1]

    def links(self) -> tuple[Ints, Ints, NDArray[np.bool_]]:
        """Return the tracklets (L,) that the links of trips.csv join, and whether a true link joins them."""
        trip = _codes(self.found.identity)
        in_trip = np.lexsort((self.found.order, trip))
        linked = trip[in_trip[1:]] == trip[in_trip[:-1]]
        first, second = in_trip[:-1][linked], in_trip[1:][linked]
        before, after = self.true_links()
        successor = np.full(len(trip), -1, dtype=np.int64)
        successor[before] = after
        return first, second, successor[first] == second

    def true_links(self) -> tuple[Ints, Ints]:
        """Return the pairs of consecutive tracklets of a vehicle, of those in trips.csv, by their true starts.

        Tracklets of one camera that overlap in time are parts of one pass; they have an order as well.
        """
        order, owner = self._in_order(np.flatnonzero(self.found_rows >= 0))
        same = owner[1:] == owner[:-1]
        return order[:-1][same], order[1:][same]

    def switches(self) -> int:
        """Return how often the trip changes along the tracklets of a vehicle."""
        order, owner = self._in_order(np.flatnonzero(self.found_true))
        trip = _codes(self.found.identity)[order]
        return int(((owner[1:] == owner[:-1]) & (trip[1:] != trip[:-1])).sum())

    def _in_order(self, known: Ints) -> tuple[Ints, Ints]:
        """Return found tracklets of the truth in the order of vehicle and true time, and their vehicles."""
        rows = self.found_rows[known]
        owner = _codes(self.truth.identity)[rows]
        order = np.lexsort((self.truth.end[rows], self.truth.start[rows], owner))
        return known[order], owner[order]


def _codes(names: NDArray[np.object_]) -> Ints:
    return np.unique(names.astype(str), return_inverse=True)[1].ravel().astype(np.int64)


@dataclass(frozen=True, eq=False)
class _Bootstrap:
    """Sums over the vehicles, and over those of each resample."""

    total: Float
    resampled: Float

    def __init__(self, sums: Mapping[str, Float], outside: Float, seed: int, resamples: int) -> None:
        table = np.stack(list(sums.values()))
        drawn = [table[picks].sum(axis=0) for picks in resample(len(table), seed=seed, resamples=resamples)]
        object.__setattr__(self, "total", table.sum(axis=0) + outside)
        object.__setattr__(self, "resampled", np.stack(drawn) + outside)

    def estimate(self, of: Callable[[Float], float]) -> MetricEstimate:
        """Return a function of sums with its interval; resamples in which it is 0 of 0 are left out."""
        drawn = percentile_interval(np.array([of(row) for row in self.resampled]))
        value, low, high = np.nan_to_num([of(self.total), *drawn]).tolist()
        return MetricEstimate(value, low, high)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan


def _idf1(sums: Float) -> float:
    return _share(2 * sums[IDTP], sums[TRUE] + sums[FOUND])


def _deta(sums: Float) -> float:
    return _share(sums[BOTH], sums[TRUE] + sums[FOUND] - sums[BOTH])


def _travel_times(truth: LabelledTracklets, found: LabelledTracklets) -> tuple[TravelTimeError, ...]:
    """Compare the medians of the camera pairs with enough true travel times, from middle to middle of two tracklets."""
    true, by_trips = _seconds(truth), _seconds(found)
    rows = []
    for pair, seconds in sorted(true.items()):
        if len(seconds) >= LEAST_TRAVEL_TIMES and pair in by_trips:
            medians = float(np.median(by_trips[pair])), float(np.median(seconds))
            rows.append(TravelTimeError(*pair, *medians, len(by_trips[pair]), len(seconds)))
    return tuple(rows)


def _seconds(table: LabelledTracklets) -> dict[tuple[str, str], list[float]]:
    """Return the travel times between consecutive tracklets of a drive at two cameras, by camera pair."""
    drive = np.unique(table.drive.astype(str), return_inverse=True)[1].ravel()
    order = np.lexsort((table.order, drive))
    middle = (table.start + table.end) / 2
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for one, two in zip(order[:-1].tolist(), order[1:].tolist(), strict=True):
        if drive[one] == drive[two] and table.camera[one] != table.camera[two]:
            times[str(table.camera[one]), str(table.camera[two])].append(float(middle[two] - middle[one]))
    return dict(times)
