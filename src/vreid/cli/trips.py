"""Command trips."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vreid.cli.extras import EXTRAS, missing_extras
from vreid.cli.options import Json, parse_settings, print_json
from vreid.console import echo
from vreid.errors import InputError, named

if TYPE_CHECKING:
    from vreid.data.cameras import Camera
    from vreid.trips.confirmations import Pair
    from vreid.trips.evaluation import TripMetrics
    from vreid.trips.solve import Trips
    from vreid.trips.tables import TimedTracklets


def trips_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A store (folder, or http://HOST:19530?collection=NAME), or a folder written by `vreid extract`.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the tables and of trips.html.")],
    cameras: Annotated[
        Path | None,
        typer.Option(
            help="Table of the cameras (cameras.csv): positions for maps; start and offset of features without times."
        ),
    ] = None,
    confirmed: Annotated[
        Path | None,
        typer.Option(
            help="CSV with the columns first, second, same (yes or no): pairs of tracklets that are, or are not, "
            "successive passes of one vehicle. Answers that a store holds count as well."
        ),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            help="Evaluate against the vehicle of each tracklet: CSV with tracklet, camera, vehicle, start, end (and "
            "trip). truth_od.csv and truth_travel_times.csv beside it are used too."
        ),
    ] = None,
    identity: Annotated[
        str,
        typer.Option(
            help="With --truth, what a trip should be: all of a vehicle (vehicle), or one drive of it (trip)."
        ),
    ] = "vehicle",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a setting: longest_gap and longest_stop (seconds), least_probability, overlap, ...",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Link the tracklets of a network of cameras into trips, and count origins, destinations and travel times.

    No labels and no layout of the network are needed: transit times, clock offsets and the probability of each link are
    learned from the tracklets.
    """
    from vreid.configuration import with_overrides
    from vreid.progress_bars import ProgressBars
    from vreid.trips.confirmations import read_confirmations
    from vreid.trips.counts import origin_destination
    from vreid.trips.evaluation import evaluate_trips
    from vreid.trips.labelled_tracklets import IDENTITIES
    from vreid.trips.solve import TripConfig, link_trips
    from vreid.trips.trip_tables import write_trips

    wanted = named("identity", IDENTITIES, identity)
    config = with_overrides(TripConfig(), parse_settings(set_))
    answers = read_confirmations(confirmed) if confirmed else ([], [])
    table = _read(source, cameras)
    stored = _stored_answers(source, table) if not _is_features(source) else ([], [])
    with ProgressBars(quiet=as_json) as bars:
        trips = link_trips(
            table, config, confirmed=answers[0] + stored[0], rejected=answers[1] + stored[1], progress=bars
        )
    written = write_trips(trips, out)
    metrics = evaluate_trips(out / "trips.csv", truth, identity=wanted) if truth else None
    missing = [module for module in EXTRAS["report"] if find_spec(module) is None]
    if not missing:
        written.append(_write_page(trips, out / "trips.html", source, metrics))
    linked = int(trips.linked.sum())
    found = origin_destination(trips)
    offsets = {str(name): float(trips.offsets[code]) for code, name in enumerate(table.camera.names)}
    offsets = {name: offset for name, offset in offsets.items() if offset}
    counts = {
        "out": str(out),
        "tracklets": len(table),
        "cameras": table.cameras,
        "trips": len(trips),
        "vehicles": int(trips.vehicle.max()),
        "links": linked,
        "expected_links": round(trips.expected_links, 1),
        "mean_probability": round(float(trips.probability[trips.linked].mean()), 4) if linked else None,
        "od": [
            {
                "from": one.origin,
                "to": one.destination,
                "count": one.count,
                "corrected": round(one.corrected, 2),
                "low": round(one.low, 2),
                "high": round(one.high, 2),
            }
            for one in found
        ],
        "clock_offsets": offsets,
        "warnings": list(trips.warnings),
        "files": [path.name for path in written],
    }
    if as_json:
        print_json(counts | ({"evaluation": {"identity": identity, **metrics.plain()}} if metrics else {}))
        return
    echo(f"{table}\n{trips}; {counts['expected_links']:,} links are expected")
    for warning in trips.warnings:
        echo(f"WARNING: {warning}")
    for name, offset in offsets.items():
        echo(f"The clock of camera {name} is {offset:+.0f} s ahead; its times were corrected.")
    echo(f"{out}: {', '.join(path.name for path in written)}")
    if missing:
        echo(f"trips.html was not written: {missing_extras(missing)}")
    if metrics:
        echo(f"evaluation, one trip for each {identity}:\n{metrics}")


def _read(source: str, cameras: Path | None) -> TimedTracklets:
    """Read the tracklets of a store or of a folder of features."""
    from vreid.data.cameras import read_cameras
    from vreid.trips.tables import read_features

    known = read_cameras(cameras) if cameras else {}
    if _is_features(source):
        return read_features(source, _positions(known), known)
    if Path(source).is_file():
        raise InputError(f"{source}: is a file; give a store, or a folder written by `vreid extract`.")
    return _read_store(source, known)


def _is_features(source: str) -> bool:
    from vreid.retrieval.features import FACTS

    return (Path(source) / FACTS).is_file() or (Path(source) / "query.safetensors").is_file()


def _read_store(source: str, known: dict[str, Camera]) -> TimedTracklets:
    from vreid.data.cameras import Camera
    from vreid.store.engines import open_vectors
    from vreid.trips.tables import table_of_batches

    with closing(open_vectors(source, read_only=True)) as engine:
        stored = engine.documents("camera/")
        found = {name: Camera(**facts) for name, facts in ((key.partition("/")[2], stored[key]) for key in stored)}
        return table_of_batches(engine.scan(), _positions({**found, **known}))


def _stored_answers(source: str, table: TimedTracklets) -> tuple[list[Pair], list[Pair]]:
    from vreid.store.engines import open_vectors
    from vreid.trips.link_answers import link_answers

    with closing(open_vectors(source, read_only=True)) as engine:
        return link_answers(engine, table.row_of)


def _write_page(trips: Trips, path: Path, source: str, metrics: TripMetrics | None) -> Path:
    from vreid.store.engines import open_vectors
    from vreid.trips.trip_page import crop_images, doubtful_links, write_trip_page

    images: Mapping[str, str] = {}
    if not _is_features(source):
        asked = [name for link in doubtful_links(trips) for name in (link.first, link.second)]
        with closing(open_vectors(source, read_only=True)) as engine:
            images = crop_images(engine, asked)
    write_trip_page(trips, path, images=images, source=source, metrics=metrics)
    return path


def _positions(cameras: dict[str, Camera]) -> dict[str, tuple[float, float]]:
    return {
        name: (one.latitude, one.longitude)
        for name, one in cameras.items()
        if one.latitude is not None and one.longitude is not None
    }
