"""Command search."""

from __future__ import annotations

import csv
import io
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from vreid import names
from vreid.cli.options import Json, print_json, print_table
from vreid.cli.store import StoreAddress
from vreid.console import echo
from vreid.data.recordings import utc_seconds
from vreid.errors import InputError
from vreid.formatting import plural

if TYPE_CHECKING:
    from vreid.store.search import SearchResult
    from vreid.store.store import Store


def search_command(
    store: StoreAddress,
    query: Annotated[str, typer.Argument(metavar="IMAGE|TRACKLET", help="Image of a vehicle, or a tracklet's id.")],
    camera: Annotated[list[str] | None, typer.Option(help="Only hits of this camera; repeatable.")] = None,
    not_camera: Annotated[list[str] | None, typer.Option(help="No hits of this camera; repeatable.")] = None,
    from_: Annotated[str, typer.Option("--from", help="Hits in view at or after this time: ISO 8601.")] = "",
    to: Annotated[str, typer.Option("--to", help="Hits in view before this time: ISO 8601.")] = "",
    color: Annotated[list[str] | None, typer.Option(help="Only hits of this colour; repeatable.")] = None,
    type_: Annotated[list[str] | None, typer.Option("--type", help="Only hits of this type; repeatable.")] = None,
    top: Annotated[int, typer.Option(min=1, max=10_000, help="Most hits.")] = 10,
    same_camera: Annotated[
        bool, typer.Option("--same-camera", help="Also hits in the camera of the query tracklet.")
    ] = False,
    box: Annotated[str, typer.Option(metavar="X1,Y1,X2,Y2", help="The vehicle in IMAGE, in pixels.")] = "",
    query_camera: Annotated[str, typer.Option(help="Camera that took IMAGE, if it is one of the store's.")] = "",
    query_time: Annotated[str, typer.Option(help="Time at which IMAGE was taken: ISO 8601.")] = "",
    travel_times: Annotated[
        bool,
        typer.Option(help="Order hits also by plausible times between cameras, once `calibrate` has learned them."),
    ] = True,
    rerank: Annotated[
        str, typer.Option(help=f"Order of the hits: by {', '.join(names.RERANKINGS)} (plain) distance.")
    ] = "relative",
    crops: Annotated[Path | None, typer.Option(help="Folder to write the best crop of each hit to.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a self-contained page with the crops.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of text.")] = False,
    as_json: Json = False,
) -> None:
    """Search where else a vehicle was seen: camera, time, distance, and MATCH, UNCERTAIN or NO MATCH.

    Times without a zone are in the time zone of the store's cameras, if they share one, else in UTC.
    """
    from vreid.store.store import Store

    if as_csv and as_json:
        raise InputError("--csv and --json: choose one.")
    with Store.open(store, read_only=True) as opened:
        zone = opened.time_zone
        result = opened.search(
            query,
            box=_box(box),
            camera_of_query=query_camera,
            time_of_query=_seconds(query_time, "--query-time", zone),
            travel_times=travel_times,
            cameras=camera or (),
            not_cameras=not_camera or (),
            start=_seconds(from_, "--from", zone),
            end=_seconds(to, "--to", zone),
            colors=color or (),
            vehicle_types=type_ or (),
            top=top,
            same_camera=same_camera,
            reranking=rerank,
        )
        files = _write_crops(opened, result, crops) if crops else {}
        size = len(opened)
        if html:
            from vreid.store.search_page import write_search_page

            write_search_page(opened, result, html, query=query, box=_box(box))
    if as_json:
        facts = result.as_dict()
        for hit in facts["hits"]:
            hit["crop"] = files.get(hit["tracklet"], hit["crop"])
        print_json(facts)
    elif as_csv:
        echo(_csv(result, files).rstrip("\n"))
    else:
        _print(result, zone, html, size)


def _box(text: str) -> list[float] | None:
    if not text:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 4:
        raise InputError(f"--box {text}: is not a box; write X1,Y1,X2,Y2 in pixels.")
    return numbers


def _seconds(text: str, option: str, zone: str) -> float | None:
    if not text:
        return None
    try:
        return utc_seconds(text, zone)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{option} {text}: {error}; write it as 2026-05-01T12:00:00.") from error


def _write_crops(store: Store, result: SearchResult, folder: Path) -> dict[str, str]:
    """Write the best crop of each hit; return its file by tracklet."""
    from vreid.files import atomic_write

    files = {}
    for rank, hit in enumerate(result.hits, start=1):
        name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in hit.tracklet)
        path = folder / f"{rank:03d}_{name[:100]}.jpg"
        with atomic_write(path) as file:
            file.write_bytes(store.crop(hit.crop).jpeg)
        files[hit.tracklet] = str(path)
    return files


def _csv(result: SearchResult, files: dict[str, str]) -> str:
    columns = (
        "rank",
        "tracklet",
        "camera",
        "start",
        "end",
        "distance",
        "relative_distance",
        "decision",
        "color",
        "vehicle_type",
        "crop",
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for rank, hit in enumerate(result.hits, start=1):
        facts = {**hit.as_dict(), "rank": rank, "crop": files.get(hit.tracklet, hit.crop)}
        writer.writerow(["" if facts[name] is None else facts[name] for name in columns])
    return text.getvalue()


def _print(result: SearchResult, zone: str, html: Path | None, size: int) -> None:
    from rich import box
    from rich.table import Table

    table = Table(
        "", "tracklet", "camera", f"seen ({zone})", "until", "distance", "relative", "decision", box=box.SIMPLE_HEAD
    )
    table.columns[1].overflow = "fold"
    table.add_column("color")
    table.add_column("type")
    for rank, hit in enumerate(result.hits, start=1):
        cells = (hit.tracklet, _local(hit.start, zone), _local(hit.end, zone, date=False))
        table.add_row(
            str(rank),
            *cells,
            f"{hit.distance:.3f}",
            _number(hit.relative_distance),
            hit.decision,
            hit.color,
            hit.vehicle_type,
        )
    if result.hits:
        print_table(table, width=140)
    else:
        echo(
            "no tracklet is left by the filters." if size else "the store is empty; add tracklets with `vreid ingest`."
        )
    echo(f"{plural(result.candidates, 'tracklet')} searched." + (f" {result.threshold}" if result.threshold else ""))
    for note in result.notes:
        echo(note)
    if html:
        echo(f"{html}: written")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _local(seconds: float | None, zone: str, *, date: bool = True) -> str:
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds, ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S")
