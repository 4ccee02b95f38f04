"""Write trips and what they amount to as tables (CSV, Parquet) and as lines on a map (GeoJSON)."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.files import atomic_write
from vreid.locks import locking
from vreid.trips.counts import coverage, origin_destination, route_shares, travel_times
from vreid.trips.solve import Trips

TRIP_COLUMNS = ("trip", "order", "tracklet", "camera", "start", "end", "probability")
"""Columns of trips.csv: one line a tracklet; `probability` of the link to the one before, empty for the first."""
VEHICLE_COLUMNS = ("vehicle", "trip", "probability")
"""Columns of vehicles.csv: trips of one vehicle, between which it parked, with the probability of that."""
OD_COLUMNS = ("from", "to", "count", "corrected", "low", "high")
TRAVEL_TIME_COLUMNS = ("from", "to", "hour", "count", "mean", "p15", "median", "p85")
ROUTE_COLUMNS = ("from", "to", "route", "count", "share")
_BLOCK = 1 << 17  # rows of a group in a Parquet file
COVERAGE_COLUMNS = ("camera", "tracklets", "linked", "begin", "end", "probability", "offset")


@locking("out")
def write_trips(trips: Trips, out: Path) -> list[Path]:
    """Write trips.csv, vehicles.csv, od.csv, travel_times.csv, routes.csv and coverage.csv into a folder.

    trips.parquet is added if pyarrow is installed, trips.geojson if the positions of at least two cameras are known.
    Lines are written as they are made, under temporary names. All files take their names together at the end; what is
    stopped before leaves the folder as it was.

    Returns:
        the files.

    Raises:
        InputError: a file cannot be written, or another process writes into the folder.
    """
    tables: dict[str, tuple[Sequence[str], Iterable[Sequence[Any]]]] = {
        "trips.csv": (TRIP_COLUMNS, trip_rows(trips)),
        "vehicles.csv": (VEHICLE_COLUMNS, _vehicle_rows(trips)),
        "od.csv": (
            OD_COLUMNS,
            (
                (one.origin, one.destination, one.count, *(f"{x:.2f}" for x in (one.corrected, one.low, one.high)))
                for one in origin_destination(trips)
            ),
        ),
        "travel_times.csv": (
            TRAVEL_TIME_COLUMNS,
            (
                (
                    one.origin,
                    one.destination,
                    "" if one.hour is None else one.hour,
                    one.count,
                    *(f"{value:.1f}" for value in (one.mean, one.p15, one.median, one.p85)),
                )
                for one in travel_times(trips)
            ),
        ),
        "routes.csv": (
            ROUTE_COLUMNS,
            (
                (one.origin, one.destination, " > ".join(one.route), one.count, f"{one.share:.4f}")
                for one in route_shares(trips)
            ),
        ),
        "coverage.csv": (
            COVERAGE_COLUMNS,
            (
                (
                    one.camera,
                    one.tracklets,
                    *(f"{value:.4f}" for value in (one.linked, one.begin, one.end)),
                    "" if math.isnan(one.probability) else f"{one.probability:.4f}",
                    f"{one.offset:.1f}",
                )
                for one in coverage(trips)
            ),
        ),
    }
    written = []
    with ExitStack() as files:

        def temporary(name: str) -> Path:
            written.append(out / name)
            return files.enter_context(atomic_write(out / name))

        for name, (columns, lines) in tables.items():
            _write_csv(temporary(name), columns, lines)
        if importlib.util.find_spec("pyarrow"):
            _write_parquet(temporary("trips.parquet"), trips)
        if len(trips.table.positions) > 1:
            _write_geojson(temporary("trips.geojson"), trips)
    return written


def trip_rows(trips: Trips) -> Iterator[tuple[Any, ...]]:
    """Yield the lines of trips.csv, by trip and order; times as the cameras' clocks gave them."""
    table, names = trips.table, trips.table.camera.names
    for row in np.lexsort((trips.order, trips.trip)):
        yield (
            int(trips.trip[row]),
            int(trips.order[row]),
            str(table.id[row]),
            str(names[table.camera.codes[row]]),
            f"{table.start[row]:.3f}",
            f"{table.end[row]:.3f}",
            f"{trips.probability[row]:.4f}" if trips.order[row] > 1 else "",
        )


def _vehicle_rows(trips: Trips) -> list[tuple[Any, ...]]:
    starts = np.flatnonzero(trips.order == 1)
    vehicle = trips.vehicle[starts]
    several = np.bincount(vehicle)[vehicle] > 1
    chosen = starts[several]
    chosen = chosen[np.lexsort((trips.trip[chosen], trips.vehicle[chosen]))]
    return [
        (
            int(trips.vehicle[row]),
            int(trips.trip[row]),
            f"{trips.probability[row]:.4f}" if trips.previous[row] >= 0 else "",
        )
        for row in chosen.tolist()
    ]


def trip_lines(trips: Trips) -> Iterator[dict[str, Any]]:
    """Yield the trips past two or more cameras with known positions as features of GeoJSON, which are lines.

    Properties of a line: trip, vehicle, cameras, start and end (seconds in UTC), and the smallest probability of its
    links.
    """
    table, names = trips.table, [str(name) for name in trips.table.camera.names]
    known = np.array([name in table.positions for name in names])
    order = np.lexsort((trips.order, trips.trip))
    starts = np.flatnonzero(trips.order[order] == 1)
    for begin, end in zip(starts, np.append(starts[1:], len(order)), strict=True):
        part = order[begin:end]
        rows = part[known[table.camera.codes[part]]].tolist()
        cameras = [names[table.camera.codes[row]] for row in rows]
        if len(set(cameras)) < 2:
            continue
        line = [[table.positions[name][1], table.positions[name][0]] for name in cameras]
        probability = [trips.probability[row] for row in rows if trips.order[row] > 1]
        yield {
            "type": "Feature",
            "geometry": {"type": "LineString", "coordinates": line},
            "properties": {
                "trip": int(trips.trip[rows[0]]),
                "vehicle": int(trips.vehicle[rows[0]]),
                "cameras": cameras,
                "start": round(float(table.start[rows[0]]), 3),
                "end": round(float(table.end[rows[-1]]), 3),
                "probability": round(float(min(probability)), 4),
            },
        }


def _write_geojson(path: Path, trips: Trips) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for number, line in enumerate(trip_lines(trips)):
            file.write(f"{',' * (number > 0)}\n{json.dumps(line)}")
        file.write("\n]}\n")


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def _write_parquet(path: Path, trips: Trips) -> None:
    import pyarrow
    import pyarrow.parquet

    table = trips.table
    order = np.lexsort((trips.order, trips.trip))
    names = [str(name) for name in table.camera.names]

    def columns(rows: NDArray[np.integer]) -> Any:
        probability = np.where(trips.order[rows] == 1, np.nan, trips.probability[rows])
        return pyarrow.table(
            {
                "trip": pyarrow.array(trips.trip[rows]),
                "order": pyarrow.array(trips.order[rows]),
                "tracklet": pyarrow.array([str(name) for name in table.id[rows]]),
                "camera": pyarrow.array([names[code] for code in table.camera.codes[rows]]),
                "start": pyarrow.array(table.start[rows]),
                "end": pyarrow.array(table.end[rows]),
                "probability": pyarrow.array(probability, from_pandas=True),
            }
        )

    schema = columns(order[:1]).schema
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for begin in range(0, len(order), _BLOCK):
            writer.write_table(columns(order[begin : begin + _BLOCK]))
