"""The page of trips: flows, origin-destination matrix, travel times, routes, coverage, links in doubt.

Shapes: N tracklets, E links, C cameras.
"""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vreid.files import write_text
from vreid.formatting import clock
from vreid.report.template import fill
from vreid.trips.counts import (
    TravelTimes,
    coverage,
    ends_of_trips,
    origin_destination,
    route_shares,
    travel_times,
    weighted_quantiles,
)
from vreid.trips.solve import Trips
from vreid.trips.trip_figures import (
    Drives,
    camera_order,
    flow_map,
    places_on_map,
    time_space_diagram,
    travel_time_figure,
)

if TYPE_CHECKING:
    from vreid.store.interface import VectorStore
    from vreid.trips.evaluation import TripMetrics

TEMPLATE = "trips.html"
_DATED = 1e8  # smaller times are seconds since an unknown start
_MATRIX = 40  # cameras of the matrix
_FIGURES = 9  # of travel times
_DIAGRAM = 30  # cameras of the time-space diagram
_LINES = 140  # trips of it
_WINDOW = 18  # median trips that follow each other in it
_ROWS = 300  # of each table
_DOUBTFUL = 18  # links
_DOUBT = (0.1, 0.9)  # probabilities of links in doubt
_SIDE = 160  # height of a crop


@dataclass(frozen=True)
class DoubtfulLink:
    """A possible link whose probability is near a half.

    Attributes:
        first, second: ids of the tracklets, the earlier first.
        cameras, times: of both; the time is the middle of the tracklet, by the camera's clock.
        seconds: between them, by the corrected clocks.
        probability: of the link.
        made: whether the link is part of a trip.
        trip: number of the trip of the second tracklet.
    """

    first: str
    second: str
    cameras: tuple[str, str]
    times: tuple[float, float]
    seconds: float
    probability: float
    made: bool
    trip: int

    def answer(self, word: str) -> str:
        """Line of a file of answers; `word` is yes or no."""
        file = io.StringIO()
        csv.writer(file, lineterminator="").writerow((self.first, self.second, word))
        return file.getvalue()


def doubtful_links(trips: Trips, most: int = _DOUBTFUL) -> list[DoubtfulLink]:
    """Return the links whose probability is nearest to a half, at most one to and one from a tracklet."""
    table, links, probability = trips.table, trips.links, trips.link_probability
    chosen = np.flatnonzero((probability >= _DOUBT[0]) & (probability <= _DOUBT[1]))
    chosen = chosen[np.lexsort((links.second[chosen], links.first[chosen], np.abs(probability[chosen] - 0.5)))]
    cameras, seen = table.camera.values, (table.start + table.end) / 2
    middle = trips.corrected.mean(axis=1)
    found: list[DoubtfulLink] = []
    used: tuple[set[int], set[int]] = set(), set()
    for link in chosen.tolist():
        first, second = int(links.first[link]), int(links.second[link])
        if first in used[0] or second in used[1]:
            continue
        used[0].add(first)
        used[1].add(second)
        found.append(
            DoubtfulLink(
                str(table.id[first]),
                str(table.id[second]),
                (str(cameras[first]), str(cameras[second])),
                (float(seen[first]), float(seen[second])),
                float(middle[second] - middle[first]),
                float(probability[link]),
                bool(trips.previous[second] == first),
                int(trips.trip[second]),
            )
        )
        if len(found) == most:
            break
    return found


def crop_images(vectors: VectorStore, ids: Sequence[str]) -> dict[str, str]:
    """Return the best crop of each tracklet as a data URI; those without one, or a damaged one, are absent."""
    from vreid.store.tracklet_rows import decode

    found = vectors.fetch(list(dict.fromkeys(ids)), crops=True)
    images = {}
    for name, crops in zip(found.id, found.crops or (), strict=True):
        if not crops:
            continue
        try:
            image = decode(crops[0].jpeg)
        except (OSError, ValueError):  # the page shows that it has no image
            continue
        image.thumbnail((2 * _SIDE, _SIDE))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=82)
        images[str(name)] = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
    return images


def write_trip_page(
    trips: Trips,
    path: Path,
    *,
    images: Mapping[str, str] | None = None,
    source: str = "STORE",
    metrics: TripMetrics | None = None,
) -> None:
    """Write the page; it loads nothing from elsewhere.

    Args:
        trips: linked tracklets.
        path: of the page.
        images: address of an image of each tracklet of `doubtful_links`.
        source: as `vreid trips` was given it.
        metrics: evaluation against the truth, if that is known.

    Raises:
        InputError: `path` cannot be written.
    """
    values = trip_values(trips)
    write_text(path, trip_page(values, images=images, source=source, out=str(path.parent), metrics=metrics))


def trip_page(
    values: Mapping[str, Any],
    *,
    images: Mapping[str, str] | None = None,
    source: str = "STORE",
    out: str = "DIR",
    metrics: TripMetrics | None = None,
    service: Mapping[str, Any] | None = None,
) -> str:
    """Return the page as text.

    Args:
        values: of `trip_values`.
        images, source, metrics: see `write_trip_page`.
        out: as `vreid trips` was given it.
        service: what a page of `vreid serve` shows besides: `user`, `form_token`, `may_decide`, `running`, `stale` and
            `error`. Its policy is then that of the answer's header.
    """
    policy = {"security": ""} if service else {}
    more = {"images": images or {}, "source": source, "out": out, "metrics": metrics, "service": service}
    return fill(TEMPLATE, **values, **more, **policy)


def trip_values(trips: Trips) -> dict[str, Any]:
    """Return what the page shows of trips, with the figures drawn."""
    from markupsafe import Markup

    table = trips.table
    names = [str(name) for name in table.camera.names]
    drives, flow = _drives(trips)
    times = travel_times(trips)
    pairs = _pairs(times)
    found = origin_destination(trips)
    seen = coverage(trips)
    circle = sum(name in table.positions for name in names) < 2
    places = places_on_map([names[code] for code in camera_order(flow)] if circle else names, table.positions)
    flows = {(names[a], names[b]): int(flow[a, b]) for a, b in np.argwhere(flow > 0).tolist()}
    routes = route_shares(trips)
    total = {(one.origin, one.destination): round(one.count / one.share) for one in routes}
    routes.sort(key=lambda one: (-total[one.origin, one.destination], one.origin, one.destination, -one.count))
    doubts = doubtful_links(trips)
    made = trips.linked
    return {
        "trips": trips,
        "facts": _facts(trips, drives),
        "links": int(made.sum()),
        "mean_probability": float(trips.probability[made].mean()) if made.any() else float("nan"),
        "flow_map": Markup(flow_map(places, flows, {one.camera: one.tracklets for one in seen}, circle=circle))
        if flows
        else "",
        "circle": circle,
        "unplaced": [name for name in names if name not in places],
        "od": found,
        "matrix": _matrix(found),
        "pairs": pairs[:_ROWS],
        "figures": [
            (day, Markup(travel_time_figure(drives[day.origin, day.destination], day, hours, name=f"times-{number}")))
            for number, (day, hours) in enumerate(pairs[:_FIGURES])
        ],
        "diagram": _diagram(trips, flow),
        "routes": routes,
        "coverage": seen,
        "doubtful": doubts,
        "rows": _trip_lines(trips),
        "limit": _ROWS,
    }


def _drives(trips: Trips) -> tuple[dict[tuple[str, str], Drives], NDArray[np.float64]]:
    """Return the drives of each pair of cameras, and their number (C, C)."""
    table = trips.table
    second = np.flatnonzero(trips.linked)
    first = trips.previous[second]
    camera = table.camera.codes.astype(np.int64)
    moved = camera[first] != camera[second]
    first, second = first[moved], second[moved]
    middle = trips.corrected.mean(axis=1)
    departure = middle[first] / 3600
    if middle.min() > _DATED:
        departure = departure % 24
    pair = camera[first] * table.cameras + camera[second]
    flow = np.bincount(pair, minlength=table.cameras**2).reshape(table.cameras, table.cameras).astype(np.float64)
    found = {}
    by_pair = np.argsort(pair, kind="stable")
    for rows in np.split(by_pair, np.flatnonzero(np.diff(pair[by_pair])) + 1):
        if not len(rows):
            break
        a, b = (str(table.camera.names[place]) for place in divmod(int(pair[rows[0]]), table.cameras))
        seconds = middle[second[rows]] - middle[first[rows]]
        found[a, b] = Drives(departure[rows], seconds, trips.probability[second[rows]])
    return found, flow


def _pairs(times: Sequence[TravelTimes]) -> list[tuple[TravelTimes, list[TravelTimes]]]:
    """Return each pair's travel times of the day and by hour, the pair with the most drives first."""
    pairs: list[tuple[TravelTimes, list[TravelTimes]]] = []
    for one in times:
        if one.hour is None:
            pairs.append((one, []))
        else:
            pairs[-1][1].append(one)
    return sorted(pairs, key=lambda pair: -pair[0].count)


def _facts(trips: Trips, drives: Mapping[tuple[str, str], Drives]) -> dict[str, Any]:
    """Return what the first sentences of the page say."""
    table = trips.table
    first, last, several = ends_of_trips(trips)
    seconds = trips.corrected[last, 1] - trips.corrected[first, 0]
    length = np.bincount(trips.trip)[1:]
    parked = [name for name, offset in zip(table.camera.names, trips.offsets, strict=True) if offset]
    busiest = max(drives, key=lambda pair: len(drives[pair].seconds), default=None)
    return {
        "start": clock(float(table.start[0]), date=True),
        "end": clock(float(table.end.max()), date=True),
        "hours": (float(table.end.max()) - float(table.start[0])) / 3600,
        "several": int(several.sum()),
        "alone": int((length == 1).sum()),
        "cameras_per_trip": float(length[several].mean()) if several.any() else 0.0,
        "median_seconds": float(np.median(seconds[several])) if several.any() else 0.0,
        "vehicles": int(trips.vehicle.max()),
        "offset_cameras": [str(name) for name in parked],
        "busiest": busiest,
        "busiest_median": weighted_quantiles(drives[busiest].seconds, drives[busiest].probability, (0.5,))[0]
        if busiest
        else 0.0,
        "expected": trips.expected_links,
    }


def _matrix(found: Sequence[Any]) -> dict[str, Any]:
    """Return the cameras of the matrix, the busiest ones, and its cells by origin and destination."""
    total: dict[str, float] = {}
    for one in found:
        for name in (one.origin, one.destination):
            total[name] = total.get(name, 0) + one.corrected
    kept = sorted(sorted(total, key=lambda name: (-total[name], name))[:_MATRIX])
    most = max((one.corrected for one in found), default=1.0) or 1.0
    cells = {(one.origin, one.destination): (one, one.corrected / most) for one in found}
    return {"cameras": kept, "cells": cells, "left_out": len(total) - len(kept)}


def _diagram(trips: Trips, flow: NDArray[np.float64]) -> dict[str, Any]:
    """Return the time-space diagram of the busiest window in which trips can be told apart, and what it shows."""
    from markupsafe import Markup

    if not flow.any():
        return {}
    table = trips.table
    busy = np.argsort(-(flow.sum(axis=0) + flow.sum(axis=1)), kind="stable")[:_DIAGRAM]
    busy = busy[(flow.sum(axis=0) + flow.sum(axis=1))[busy] > 0]
    order = busy[camera_order(flow[np.ix_(busy, busy)])]
    place = np.full(table.cameras, -1)
    place[order] = np.arange(len(order))
    middle = trips.corrected.mean(axis=1)
    rows = np.lexsort((trips.order, trips.trip))
    lines = []
    for part in np.split(rows, np.flatnonzero(trips.order[rows] == 1)[1:]):
        part = part[place[table.camera.codes[part]] >= 0]
        if len(set(table.camera.codes[part].tolist())) > 1:
            lines.append((middle[part], place[table.camera.codes[part]]))
    if not lines:
        return {}
    starts, ends = (np.array([times[at] for times, _ in lines]) for at in (0, -1))
    length = max(float(np.median(ends - starts)) * _WINDOW, 600.0)
    begun = np.sort(starts)
    inside = np.searchsorted(begun, begun + length, side="left") - np.arange(len(begun))
    window = begun[int(np.argmax(inside))]
    if ends.max() - starts.min() < 1.3 * length:
        window, length = starts.min(), float(ends.max() - starts.min())
    chosen = np.flatnonzero((ends >= window) & (starts <= window + length))
    sample = chosen[np.unique(np.linspace(0, len(chosen) - 1, min(_LINES, len(chosen))).astype(int))]
    names = [str(table.camera.names[code]) for code in order]
    svg = time_space_diagram([lines[row] for row in sample], names, (window - 5, window + length + 5))
    span = f"{clock(float(window))} to {clock(float(window + length))}"
    return {"svg": Markup(svg), "shown": len(sample), "inside": len(chosen), "all": len(lines), "span": span}


def _trip_lines(trips: Trips) -> list[dict[str, Any]]:
    """Return the first trips past two tracklets or more with their tracklets and the probability of each link."""
    table = trips.table
    cameras = table.camera.values
    length = np.bincount(trips.trip)
    rows = np.lexsort((trips.order, trips.trip))
    rows = rows[length[trips.trip[rows]] > 1]
    starts = np.flatnonzero(trips.order[rows] == 1)
    found = []
    for part in np.split(rows, starts[1:])[:_ROWS]:
        if not len(part):
            break
        stops: list[dict[str, Any]] = [
            {
                "camera": str(cameras[row]),
                "tracklet": str(table.id[row]),
                "probability": None if trips.order[row] == 1 else float(trips.probability[row]),
            }
            for row in part.tolist()
        ]
        found.append(
            {
                "trip": int(trips.trip[part[0]]),
                "start": clock(float(table.start[part[0]]), date=True),
                "seconds": float(trips.corrected[part[-1], 1] - trips.corrected[part[0], 0]),
                "stops": stops,
            }
        )
    return found
