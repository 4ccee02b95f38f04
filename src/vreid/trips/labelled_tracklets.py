"""Read trips.csv and truth.csv: the trip, or the vehicle, of each tracklet."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vreid.data.readers.common import decode, quoted
from vreid.data.recordings import utc_seconds
from vreid.errors import InputError

Float = NDArray[np.float64]

Identity = Literal["vehicle", "trip"]
IDENTITIES: dict[str, Identity] = {"vehicle": "vehicle", "trip": "trip"}
"""What a trip is compared with, by name."""


@dataclass(frozen=True, eq=False)
class LabelledTracklets:
    """N tracklets; `identity` is the vehicle or trip, `drive` the trip within which travel times are taken."""

    tracklet: list[str]
    camera: NDArray[np.object_]
    identity: NDArray[np.object_]
    drive: NDArray[np.object_]
    start: Float
    end: Float
    order: Float
    probability: Float  # of the link to the one before, NaN: unknown


def read_trip_names(trips_csv: Path | str) -> dict[str, str]:
    """Read the trip of each tracklet from trips.csv.

    Raises:
        InputError: a column is missing, or a row is broken.
    """
    table = read_columns(Path(trips_csv), ("trip", "tracklet"))
    return dict(zip(table["tracklet"], table["trip"], strict=True))


def read_trips(path: Path) -> LabelledTracklets:
    """Read trips.csv; the identity of a tracklet is its trip.

    Raises:
        InputError: a column is missing, a cell cannot be understood, or a tracklet is listed twice.
    """
    table = read_columns(path, ("trip", "order", "tracklet", "camera", "start", "end"))
    trip = np.array(table["trip"], dtype=object)
    return _table(path, table, trip, trip, read_numbers(path, "order", table))


def joined_trips(found: LabelledTracklets, vehicles_csv: Path) -> LabelledTracklets:
    """Return the tracklets with the vehicles of their trips as identities, in the order of time.

    A trip that is not listed is that of a vehicle with one trip.
    """
    table = read_columns(vehicles_csv, ("vehicle", "trip"))
    vehicle_of = {trip: f"vehicle {name}" for trip, name in zip(table["trip"], table["vehicle"], strict=True)}
    vehicles = np.array([vehicle_of.get(trip, f"trip {trip}") for trip in found.drive.tolist()], dtype=object)
    return replace(found, identity=vehicles, order=found.start)


def read_truth(path: Path, identity: Identity) -> LabelledTracklets:
    """Read truth.csv; the identity of a tracklet is its vehicle, or its trip.

    Raises:
        InputError: as `read_trips`.
    """
    drives = ("trip",) if identity == "trip" else ()
    table = read_columns(path, ("tracklet", "camera", "vehicle", "start", "end", *drives))
    drive = np.array(table.get("trip", table["vehicle"]), dtype=object)
    names = np.array(table[identity], dtype=object)
    return _table(path, table, names, drive, read_times(path, "start", table))


def _table(
    path: Path,
    table: Mapping[str, Sequence[str]],
    identity: NDArray[np.object_],
    drive: NDArray[np.object_],
    order: Float,
) -> LabelledTracklets:
    tracklets = list(table["tracklet"])
    line_of: dict[str, int] = {}
    for line, name in enumerate(tracklets, start=2):
        if line_of.setdefault(name, line) != line:
            raise InputError(
                f"{path}, line {line}: tracklet {quoted(name)} is already in line {line_of[name]}; remove one."
            )
    cameras = np.array(table["camera"], dtype=object)
    times = read_times(path, "start", table), read_times(path, "end", table)
    probability = np.full(len(tracklets), np.nan)
    if "probability" in table:
        given = {"probability": [text or "nan" for text in table["probability"]]}
        probability = read_numbers(path, "probability", given)
    return LabelledTracklets(tracklets, cameras, identity, drive, *times, order, probability)


def read_columns(path: Path, columns: Sequence[str]) -> dict[str, list[str]]:
    """Read a table with the given `columns` and others; return the cells of each column.

    Raises:
        InputError: a column is missing, or a line has too few or too many cells.
    """
    rows = list(csv.reader(io.StringIO(decode(path), newline="")))
    header = [name.strip() for name in rows[0]] if rows else []
    for column in columns:
        if column not in header:
            raise InputError(f"{path}: has no column {column}; give {','.join(columns)}.")
    for line, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise InputError(f"{path}, line {line}: has {len(row)} cells for {len(header)} columns; correct it.")
    return {name: [row[place].strip() for row in rows[1:]] for place, name in enumerate(header)}


def read_numbers(path: Path, column: str, table: Mapping[str, Sequence[str]]) -> Float:
    """Convert the cells of a column to numbers.

    Raises:
        InputError: a cell is no number.
    """
    return _converted(path, column, table, float, "no number")


def read_times(path: Path, column: str, table: Mapping[str, Sequence[str]]) -> Float:
    """Convert the cells of a column to UTC seconds.

    Raises:
        InputError: a cell is no time.
    """
    return _converted(path, column, table, utc_seconds, "neither UTC seconds nor an ISO 8601 time")


def _converted(
    path: Path, column: str, table: Mapping[str, Sequence[str]], convert: Callable[[str], float], what: str
) -> Float:
    values = []
    for line, text in enumerate(table[column], start=2):
        try:
            values.append(convert(text))
        except ValueError as error:
            raise InputError(f"{path}, line {line}: {column} {quoted(text)} is {what}; correct it.") from error
    return np.array(values, dtype=np.float64)
