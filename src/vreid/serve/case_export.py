"""Export of a case as CSV, JSON, GeoJSON or a self-contained page, and of all answers as labels."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from vreid.data.cameras import Camera
from vreid.serve.cases import VehicleCase
from vreid.serve.service import Service
from vreid.store.labelling import ANSWERS, COLUMNS, answered_pairs, splits
from vreid.store.search import iso_time, seconds_of

Format = Literal["csv", "json", "geojson", "html"]
"""Formats of a case."""
FORMATS: tuple[Format, ...] = get_args(Format)
TYPES: Mapping[Format, str] = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "geojson": "application/geo+json",
    "html": "text/html; charset=utf-8",
}
"""Content type of each."""
_WORDS = {True: "confirmed", False: "rejected", None: "open"}


@dataclass(frozen=True)
class Sighting:
    """A tracklet of a case.

    Attributes:
        tracklet, camera, start, end, color, vehicle_type: of the tracklet; times in ISO 8601 (UTC).
        latitude, longitude: of the camera, None unknown.
        decision: "confirmed", "rejected" or "open".
        compared_with, by, decided: of the decision.
        stored: whether the store still holds the tracklet.
    """

    tracklet: str
    camera: str
    start: str | None
    end: str | None
    color: str
    vehicle_type: str
    latitude: float | None
    longitude: float | None
    decision: str
    compared_with: str
    by: str
    decided: str | None
    stored: bool = True


def sightings_of(service: Service, case: VehicleCase) -> list[Sighting]:
    """Return the tracklets of a case in the order of time; those without a time come last."""
    latest = case.latest
    rows = service.store.vectors.fetch(list(latest))
    place = {str(name): row for row, name in enumerate(rows.id)}
    cameras = service.cameras()
    found = []
    for name, one in latest.items():
        row = place.get(name)
        camera = "" if row is None else str(rows.camera[row])
        where = cameras.get(camera, Camera(camera))
        found.append(
            Sighting(
                tracklet=name,
                camera=camera,
                start=None if row is None else iso_time(seconds_of(int(rows.start[row]))),
                end=None if row is None else iso_time(seconds_of(int(rows.end[row]))),
                color="" if row is None else str(rows.color[row]),
                vehicle_type="" if row is None else str(rows.vehicle_type[row]),
                latitude=where.latitude,
                longitude=where.longitude,
                decision=_WORDS[one.same],
                compared_with=one.other,
                by=one.by,
                decided=iso_time(one.time),
                stored=row is not None,
            )
        )
    return sorted(found, key=lambda one: (one.start is None, one.start or "", one.tracklet))


def export_case(service: Service, case: VehicleCase, form: Format) -> str:
    """Return a case in a format."""
    sightings = sightings_of(service, case)
    if form == "csv":
        return _csv(list(Sighting.__dataclass_fields__), (asdict(one) for one in sightings))
    if form == "json":
        about = {"number": case.number, "name": case.name, "note": case.note, "created": iso_time(case.created)}
        return json.dumps({**about, "sightings": [asdict(one) for one in sightings]}, indent=2, ensure_ascii=False)
    if form == "geojson":
        return json.dumps(geojson(case, sightings), indent=2, ensure_ascii=False)
    return _page(service, case, sightings)


def geojson(case: VehicleCase, sightings: Sequence[Sighting]) -> dict[str, Any]:
    """Return the confirmed sightings as points, and their order in time as a line (RFC 7946)."""
    placed = [one for one in sightings if one.decision == "confirmed" and None not in (one.latitude, one.longitude)]
    points = [(one.longitude, one.latitude) for one in placed]
    features = [
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": point}, "properties": asdict(one)}
        for point, one in zip(points, placed, strict=True)
    ]
    timed = [point for point, one in zip(points, placed, strict=True) if one.start]
    if len(timed) > 1:
        line = {"type": "LineString", "coordinates": timed}
        features.append({"type": "Feature", "geometry": line, "properties": {"case": case.number, "name": case.name}})
    return {"type": "FeatureCollection", "features": features}


def _csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: "" if value is None else value for name, value in row.items()} for row in rows)
    return text.getvalue()


def _page(service: Service, case: VehicleCase, sightings: Sequence[Sighting]) -> str:
    from vreid.serve.templating import render

    shown = [one for one in sightings if one.decision == "confirmed"]
    images = {}
    for one in shown:
        if one.stored:
            jpeg = service.crop(one.tracklet, 0)[1].jpeg
            images[one.tracklet] = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
    zone = service.store.time_zone
    return render("case_export.html", zone, case=case, sightings=shown, images=images)


def labels_csv(service: Service) -> str:
    """Return all answers about pairs as `vreid label --answers` takes them: first, second, answer."""
    vectors = service.store.vectors
    rows = []
    words = {True: "y", False: "n", None: "unsure"}
    for key, same in answered_pairs(vectors).items():
        ways = splits(key.removeprefix(ANSWERS))
        if len(ways) > 1:  # an id holds the separator: the store knows which
            ways = [pair for pair in ways if len(vectors.fetch(list(pair))) == 2] or ways
        rows.append(dict(zip(COLUMNS, (*ways[0], words[same]), strict=True)))
    return _csv(COLUMNS, rows)
