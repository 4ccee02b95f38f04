"""Tables of detections in a video: CSV and JSON of supervision's sinks and of Ultralytics' results, and the like.

    north.mp4  north.csv      x_min,y_min,x_max,y_max,class_id,confidence,tracker_id,class_name,frame_index
    north.mp4  north.json     [{"x_min": 10.0, ..., "frame_index": 0}, ...], or one object a line (.jsonl)
    north.mp4  north.csv      name,class,confidence,box,track_id,frame_index with box {'x1': 10.0, ...} (Ultralytics)

A row is a box and needs the number of its frame, from 0, in a column such as frame_index, which the user of these
programs adds. The video is named in a column `video`, by the camera, by the name of the table, or is the only one
beside it. Further columns: camera, time (seconds since 1970 or ISO 8601).
"""

from __future__ import annotations

import ast
import csv
import io
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vreid.data.dataset import Dataset
from vreid.data.findings import OnFinding, raise_finding
from vreid.data.readers.box_table import BoxTable
from vreid.data.readers.common import Listing, decode, files_in, quoted, shown
from vreid.data.readers.detections import first_number, json_objects, start_of, track_id, video_of, videos_in
from vreid.data.recordings import recording_of, text_time
from vreid.data.spellings import whole_number
from vreid.errors import InputError

SUFFIXES = (".csv", ".json", ".jsonl", ".ndjson")

SPELLINGS: dict[str, tuple[str, ...]] = {
    "x1": ("x_min", "left", "x"),
    "y1": ("y_min", "top", "y"),
    "x2": ("x_max", "right"),
    "y2": ("y_max", "bottom"),
    "width": ("w",),
    "height": ("h",),
    "box": ("bbox", "xyxy"),
    "track": ("tracker_id", "track_id", "tracking_id", "tracklet", "object_id"),
    "class_name": ("name", "label", "vehicle_type", "type", "class"),
    "frame": ("frame_index", "frame_idx", "frame_number", "frame_no", "frame_num", "frame_id"),
    "time": ("timestamp", "datetime", "time_utc"),
    "camera": ("camera_id", "camera_name", "cam", "cam_id", "sensor_id"),
    "video": ("video_path", "video_file", "video_name", "source", "source_path", "source_name", "path", "file"),
}
"""Columns that are read, with other names for them; where a table has several of one line, the first counts."""
IMAGES = ("path", "image", "file", "filename", "file_path", "image_name", "image_path", "img", "img_path")
"""Columns of images, as in tables that `image_table` reads."""
DATED = 1e8
"""Times from here on (1973) are dates; smaller ones are seconds since an unknown start."""

Row = Mapping[str, Any]


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


_FIELD_OF = {_plain(name): field for field, names in SPELLINGS.items() for name in (field, *names)}
_RANK = {_plain(name): rank for names in SPELLINGS.items() for rank, name in enumerate((names[0], *names[1]))}


def find(source: Path) -> Path | None:
    """Return `source` if it is such a table, or a folder of videos with some; else None.

    Raises:
        InputError: it is a table of YOLOv5 without boxes.
    """
    if source.is_file():
        return source if _is_table(source) else None
    return source if videos_in(source) and _tables(source) else None


def _tables(folder: Path) -> list[Path]:
    return [folder / name for name in files_in(folder) if _is_table(folder / name)]


def _is_table(path: Path) -> bool:
    """Whether a file has columns of boxes and none of images."""
    if path.suffix.lower() not in SUFFIXES:
        return False
    start = start_of(path)
    if path.suffix.lower() == ".csv":
        header = next((line for line in start.splitlines() if line.strip()), "")
        names = {_plain(cell.strip(' "')) for cell in re.split("[,;\t]", header)}
        if {"imagename", "prediction", "confidence"} == names:
            raise InputError(f"{path}: holds classes without boxes (YOLOv5 --save-csv); run it with --save-txt.")
        if names & {_plain(name) for name in IMAGES}:
            return False
    else:
        names = {_plain(name) for name in re.findall(r'"([^"\\]{1,40})"\s*:', start)}
        if names & {"annotations", "imageid"}:  # COCO
            return False
    fields = {_FIELD_OF.get(name) for name in names}
    return ({"x1", "y1"} <= fields and ({"x2", "y2"} <= fields or {"width", "height"} <= fields)) or "box" in fields


def read_detection_tables(source: Path | str, *, on_finding: OnFinding = raise_finding) -> Dataset:
    """Read a table, or all tables beside videos in a folder.

    Args:
        source: the table or the folder.
        on_finding: called with each wrong row.

    Raises:
        InputError: there is no column for the frame, or which video is meant is not said.
    """
    source = Path(source)
    table = BoxTable(on_finding)
    local: set[str] = set()
    for path in [source] if source.is_file() else _tables(source):
        local |= _add(table, path)
    folder = source if source.is_dir() else source.parent
    return table.dataset(source.stem, folder, holds="tables of detections", local_times=local)


def _add(table: BoxTable, path: Path) -> set[str]:
    """Add the boxes of one table; return the cameras whose times name no zone."""
    listing = table.listing(path)
    rows = list(_csv_rows(listing) if path.suffix.lower() == ".csv" else json_objects(listing))
    named = {name for _, row in rows[:1000] for name in row}
    columns: dict[str, str] = {}
    for name in sorted(named, key=lambda name: _RANK.get(_plain(name), 0)):
        columns.setdefault(_FIELD_OF.get(_plain(name), name), name)
    if rows and "frame" not in columns:
        raise InputError(
            f"{path}: has no column with the number of the frame (but {', '.join(map(shown, sorted(named)[:20]))}); "
            "add frame_index, which counts from 0 (Ultralytics and supervision do not write it by themselves)."
        )
    videos: dict[tuple[str, str], Path] = {}
    parsed: list[tuple[int, Path, int, Row]] = []
    for line, row in rows:
        key = str(row.get(columns.get("video", ""), "") or ""), str(row.get(columns.get("camera", ""), "") or "")
        if key not in videos:
            videos[key] = video_of(path, named=key[0], camera=key[1])
        try:
            frame = whole_number(str(row.get(columns["frame"])))
        except ValueError as error:
            text = str(row.get(columns["frame"]))
            listing.wrong(line, f"{columns['frame']} {quoted(text)} {error}", "give a whole number from 0")
            continue
        parsed.append((line, videos[key], frame, row))
    first: dict[Path, int] = {}
    for video in dict.fromkeys(videos.values()):
        frames = [frame for _, of, frame, _ in parsed if of == video]
        first[video], note = first_number(frames, video, columns["frame"])
        table.notes += [note] if note else []
    local, relative = set(), 0
    for line, video, frame, row in parsed:
        given = {field: row.get(name) for field, name in columns.items()}
        corners = _corners(given, listing, line)
        if corners is None:
            continue
        try:
            track = track_id(given.get("track"))
        except ValueError as error:
            listing.wrong(line, f"{columns['track']} {quoted(str(given['track']))} {error}", "write it with all digits")
            continue
        recording = recording_of(video)
        camera = str(given.get("camera") or "") or recording.camera
        time, zoneless = _time(given.get("time"), listing, line)
        if abs(time) < DATED:
            time, relative = math.nan, relative + 1
        elif zoneless:
            local.add(camera)
        table.add(
            listing,
            line,
            path=video,
            frame=frame - first[video],
            corners=corners,
            camera=camera,
            track=track,
            prefix=recording.prefix if camera == recording.camera else camera,
            time=time,
            vehicle_type=_class_name(given.get("class_name")),
        )
    if relative:
        table.notes.append(
            f"{relative:,} times in {path.name} are seconds since an unknown start and not used; give the start of the "
            "video in cameras.csv."
        )
    return local


def _csv_rows(listing: Listing) -> Iterator[tuple[int, Row]]:
    """Line and cells by column name of each row; rows of another length are reported."""
    text = decode(listing.path)
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header: list[str] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = [cell.strip() for cell in cells]
            elif len(cells) != len(header):
                message = f"the number of cells is {len(cells)} but there are {len(header)} columns"
                listing.wrong(reader.line_num, message, f"quote cells that hold {delimiter!r}")
            else:
                yield reader.line_num, {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    except csv.Error as error:
        raise InputError(
            f"{listing.path}, line {reader.line_num}: is not valid CSV ({error}); save it again."
        ) from error


def _corners(given: Row, listing: Listing, line: int) -> tuple[float, float, float, float] | None:
    box = given.get("box")
    if isinstance(box, str) and len(box) < 1000:
        try:
            box = ast.literal_eval(box)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            box = None
    if isinstance(box, dict):
        given = {**given, **{_FIELD_OF.get(_plain(str(name)), ""): value for name, value in box.items()}}
    elif isinstance(box, (list, tuple)) and len(box) == 4:
        given = {**given, **dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))}
    try:
        x1, y1 = float(given["x1"]), float(given["y1"])
        if given.get("x2") is not None:
            return x1, y1, float(given["x2"]), float(given["y2"])
        return x1, y1, x1 + float(given["width"]), y1 + float(given["height"])
    except (KeyError, TypeError, ValueError, OverflowError):
        listing.wrong(line, "has no box of four numbers", "give x_min, y_min, x_max and y_max in pixels")
        return None


def _time(value: Any, listing: Listing, line: int) -> tuple[float, bool]:
    """UTC seconds, NaN if unknown; and whether the text is a date that names no zone."""
    text = "" if value is None else str(value).strip()
    if not text:
        return math.nan, False
    try:
        return text_time(text)
    except (ValueError, OverflowError) as error:
        listing.wrong(line, f"time {quoted(text)} {error}", "correct it or leave it empty")
        return math.nan, False


def _class_name(value: Any) -> str:
    """The name of a class; "" for a number, which names none."""
    text = "" if value is None else str(value).strip()
    return "" if re.fullmatch(r"-?\d+(\.0)?", text) else text
