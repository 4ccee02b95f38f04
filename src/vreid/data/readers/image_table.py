"""Custom data sets: a table with one row per image, CSV with commas, semicolons or tabs, UTF-8.

Only `path` is needed; it is an image, or a video with the number of the frame, from 0, in `frame`. Columns are those of
`Records.write_csv`; common aliases are accepted (`SPELLINGS`; capitals, blanks, "_" and "-" do not matter). Relative
paths start at the table's folder. Times are UTC seconds or ISO 8601, without a zone taken as UTC. Identity "-1" or
"junk" is junk, an empty cell (or "nan") is unknown, as are camera and tracklet "-1"; "1.0" is "1"
(`vreid.data.spellings`). A box is x1, y1, x2, y2, or left, top, width, height. Orientations are taken modulo 360.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from vreid.data.dataset import Dataset
from vreid.data.findings import OnFinding, Origin, raise_finding
from vreid.data.protocols import CROSS_CAMERA, MARKET
from vreid.data.readers.box_lines import describe_text
from vreid.data.readers.common import LONGEST_NAME, Listing, decode, degrees, files_in, quoted, shown, source_of
from vreid.data.readers.frames import boxes_outside
from vreid.data.records import BOX_COLUMNS, CSV_COLUMNS, LABEL_COLUMNS, Records
from vreid.data.spellings import NO_LABEL, plain_labels, whole_number
from vreid.data.video import VIDEOS
from vreid.errors import InputError
from vreid.object_storage import is_address

SUFFIXES = (".csv", ".tsv", ".txt")
TABLE = "images.csv"
"""Name of the table of images in a folder that has other tables too."""
NO_TABLES = re.compile(r"(cameras|clocks|truth.*)\.csv", re.IGNORECASE)
"""Names of files beside the data of a site that are no tables of images."""

SPELLINGS: dict[str, tuple[str, ...]] = {
    "image_key": ("key",),
    "path": ("image", "file", "filename", "file_path", "image_name", "image_path", "img", "img_path"),
    "identity": ("vehicle_id", "vid", "pid", "identity_id", "vehicle", "car_id", "object_id"),
    "camera": ("camera_id", "cam_id", "cam", "camera_name", "cid"),
    "tracklet": ("tracklet_id", "track", "track_id", "tid"),
    "frame": ("frame_id", "frame_number"),
    "time": ("timestamp", "datetime", "seconds", "time_utc"),
    "scene": ("site", "location"),
    "x1": ("xmin", "left", "x"),
    "y1": ("ymin", "top", "y"),
    "x2": ("xmax", "right"),
    "y2": ("ymax", "bottom"),
    "width": ("w",),
    "height": ("h",),
    "color": ("colour", "color_name", "colour_name"),
    "vehicle_type": ("type", "body_type", "vehicle_class", "class"),
    "split": ("subset", "set", "partition"),
}
SPLITS = {
    "train": "train",
    "training": "train",
    "query": "query",
    "probe": "query",
    "gallery": "gallery",
    "test": "gallery",
}


def _plain(header: str) -> str:
    return re.sub(r"[\s_-]", "", header).lower()


_FIELD_OF = {_plain(name): name for name in (*CSV_COLUMNS, "width", "height")} | {
    _plain(spelling): name for name, spellings in SPELLINGS.items() for spelling in spellings
}


def find(source: Path) -> Path | None:
    """Return `source` if it is a table or a folder with images.csv or exactly one CSV; else None.

    Raises:
        InputError: it is another file, or a list of numbers of a known kind that is no table.
    """
    if source.is_file() and source.suffix.lower() in VIDEOS:
        raise InputError(
            f"{source}: is a video without boxes; put those of a tracker beside it ({source.stem}.txt), or detect "
            "vehicles with vreid ingest --detector."
        )
    if source.is_file() and source.suffix.lower() not in SUFFIXES:
        raise InputError(f"{source}: is not a data set; give a folder or a table ({', '.join(SUFFIXES)}).")
    if source.is_file():
        return source if describe_text(source) is None else None
    return source if _table_in(source) is not None else None


def _table_in(folder: Path) -> str | None:
    """Return the name of the folder's table of images: images.csv, or the only CSV but cameras.csv and the truth."""
    tables = [name for name in files_in(folder) if name.lower().endswith(".csv") and not NO_TABLES.fullmatch(name)]
    return TABLE if TABLE in tables else tables[0] if len(tables) == 1 else None


def read_table(path: Path | str, *, require_images: bool = True, on_finding: OnFinding = raise_finding) -> Dataset:
    """Read a table as a data set.

    With a split column (train, query or probe, gallery or test) the rows are divided by it, evaluated as Market-1501.
    Without one, query and gallery are all images, each a query against all other cameras (cross-camera), and nothing is
    for training.

    Args:
        path: the table, or a folder with images.csv or one CSV, whose name is that of the data set then.
        require_images: raise if none of the images exists; set False if only features are used.
        on_finding: called with each wrong row.

    Raises:
        InputError: a row that cannot be understood, an unknown or missing split, or no image where the paths point.
    """
    path = Path(path)
    name = path.stem
    if path.is_dir():
        name, path = path.absolute().name, path / (_table_in(path) or TABLE)
    records, notes, origin, local = _read_divided(path, on_finding)
    first = list(dict.fromkeys(records.path))[:100]
    if require_images and first and not any(is_address(image) or os.path.exists(image) for image in first):
        raise InputError(
            f"{path}: its images do not exist, first {shown(first[0], 2000)}; correct the paths or move the table."
        )
    source = source_of(path.parent)
    if not records.split.known.any():
        everything = records.with_(split=["gallery"] * len(records))
        if not records.camera.known.any():
            notes = (*notes, "no image has a camera, so cross-camera search is not possible.")
        return Dataset(
            name,
            everything[:0],
            everything,
            everything,
            CROSS_CAMERA,
            source,
            notes,
            {"query": origin, "gallery": origin},
            local,
        )
    chosen = {split: records.split.values == split for split in ("train", "query", "gallery")}
    parts = {split: records[rows] for split, rows in chosen.items()}
    return Dataset(
        name,
        parts["train"],
        parts["query"],
        parts["gallery"],
        MARKET,
        source,
        notes,
        {split: replace(origin, rows=origin.rows[rows]) for split, rows in chosen.items()},
        local,
    )


def read_divided(path: Path, on_finding: OnFinding = raise_finding) -> tuple[Records, tuple[str, ...], Origin]:
    """Read a table's rows in their order as `read_rows`, each split named train, query or gallery; or none is known.

    Raises:
        InputError: as `read_rows`, or (through `on_finding`) a row whose split is none of them where others have one.
    """
    return _read_divided(path, on_finding)[:3]


def _read_divided(path: Path, on_finding: OnFinding) -> tuple[Records, tuple[str, ...], Origin, tuple[str, ...]]:
    records, notes, origin, local = _read(path, on_finding)
    if not records.split.known.any():
        return records, notes, origin, local
    values = np.array([SPLITS.get(value.lower(), "") for value in records.split.values], dtype=object)
    for row in np.flatnonzero(values == ""):
        Listing(path, on_finding).wrong(
            int(origin.rows[row]), f"split is {quoted(records.split.values[row])}", f"give one of {', '.join(SPLITS)}"
        )
    return records.with_(split=values), notes, origin, local


def read_records(path: Path | str) -> tuple[Records, tuple[str, ...]]:
    """Read a table's rows in their order, with notes on what was not understood; inverse of `Records.write_csv`.

    Raises:
        InputError: no rows, no path column, two columns that mean the same, or a cell that cannot be understood; file,
            line, column and fix are named.
    """
    return read_rows(path)[:2]


def read_rows(
    path: Path | str, on_finding: OnFinding = raise_finding, *, within_split: bool = False
) -> tuple[Records, tuple[str, ...], Origin]:
    """Like `read_rows`, and the line of each row; reported rows are skipped.

    With `within_split` a file name without a folder is a key within its split: "000001.jpg" is "query/000001.jpg".
    """
    return _read(path, on_finding, within_split=within_split)[:3]


def _read(
    path: Path | str, on_finding: OnFinding, *, within_split: bool = False
) -> tuple[Records, tuple[str, ...], Origin, tuple[str, ...]]:
    """As `read_rows`, and the cameras whose times name no zone."""
    path = Path(path)
    listing = Listing(path, on_finding)
    rows, lines, columns, notes = _rows(listing)
    cells = _Cells(listing, lines, {name: [row[place] for row in rows] for name, place in columns.items()})
    del rows  # a tenth of the memory of reading a table
    cells.reject_nameless()
    out: dict[str, Any] = {
        "path": cells.texts["path"],
        "box": _boxes(cells),
        "frame": cells.frames(),
        "time": cells.times(),
        "orientation": cells.numbers("orientation"),
        **{name: cells.labels(name) for name in LABEL_COLUMNS if name in cells.texts},
    }
    for name, default in (("domain", "real"), ("variant", "original")):
        out[name] = [value or default for value in out.get(name, [""] * len(lines))]
    # Many rows share a frame when boxes are given, and then the frame's name alone is no key.
    out["image_key"] = cells.texts.get("image_key") or [
        name if out["box"] is None or math.isnan(box[0]) else f"{name}#{box[0]:g},{box[1]:g},{box[2]:g},{box[3]:g}"
        for name, box in zip(_with_frames(out["path"], out["frame"]), out["box"] or [()] * len(lines), strict=True)
    ]
    if within_split and "split" in out:
        splits = [SPLITS.get(split.lower(), split) for split in out["split"]]
        keys = zip(splits, out["image_key"], strict=True)
        out["image_key"] = [key if re.search(r"[/\\]", key) else f"{split}/{key}" for split, key in keys]
    cells.reject_repeated(out["image_key"], out["variant"])
    out["path"] = [name if is_address(name) else os.path.join(path.parent, name) for name in out["path"]]
    if out["box"] is not None:
        nowhere = [math.nan] * 4  # report each fault once
        boxes = [nowhere if row in cells.wrong else box for row, box in enumerate(out["box"])]
        cells.wrong |= boxes_outside(out["path"], boxes, listing, lines)
    if cells.wrong:
        kept = [row for row in range(len(lines)) if row not in cells.wrong]
        out = {name: values if values is None else [values[row] for row in kept] for name, values in out.items()}
        lines = [lines[row] for row in kept]
    if out["orientation"] is not None:
        out["orientation"] = degrees(out["orientation"])
    if out["box"] == []:
        out["box"] = None
    return Records.of(**out), notes, listing.origin(lines), tuple(sorted(cells.local))


def _rows(listing: Listing) -> tuple[list[list[str]], list[int], dict[str, int], tuple[str, ...]]:
    """Return the cells of each row, the line each ends in, the place of each column, and notes."""
    path = listing.path
    text = decode(path)
    header, _, _ = text.partition("\n")
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows, lines = [], []
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append([sys.intern(cell.strip()) for cell in row])  # names recur in most columns
                lines.append(reader.line_num)
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: is not valid CSV ({error}); save the table again."
        ) from error
    if len(rows) < 2:
        raise InputError(f"{path}: has no rows; give a line with the column names and one line for each image.")
    names, first = rows.pop(0), lines.pop(0)
    columns: dict[str, int] = {}
    ignored = []
    for place, name in enumerate(names):
        field = _FIELD_OF.get(_plain(name))
        if field is None:
            ignored.append(name)
        elif field in columns:
            raise InputError(
                f"{path}, line {first}: columns {quoted(names[columns[field]])} and {quoted(name)} both mean {field}; "
                "remove one."
            )
        else:
            columns[field] = place
    if "path" not in columns:
        raise InputError(
            f"{path}, line {first}: has no column path (but {', '.join(map(shown, names[:20]))}); "
            "name that of the image files so."
        )
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(names):
            listing.wrong(
                line,
                f"the number of cells is {len(row)} but there are {len(names)} columns",
                f"quote cells that hold {delimiter!r}",
            )
    kept = [place for place, row in enumerate(rows) if len(row) == len(names)]
    notes = (f"columns {', '.join(map(shown, ignored[:20]))} of {path.name} are not used.",) if ignored else ()
    return [rows[place] for place in kept], [lines[place] for place in kept], columns, notes


class _Cells:
    """The cells of a table by column, where they are, and which rows (from 0) cannot be used."""

    def __init__(self, listing: Listing, lines: Sequence[int], texts: dict[str, list[str]]) -> None:
        self.listing, self.lines, self.texts = listing, lines, texts
        self.wrong: set[int] = set()
        self.local: set[str] = set()  # cameras whose times name no zone
        self.unreadable: set[tuple[int, str]] = set()  # cells that are not numbers, already reported

    def on_finding(self, row: int, column: str, message: str, fix: str, check: str = "label") -> None:
        self.listing.wrong(self.lines[row], f"{column} {quoted(self.texts[column][row])} {message}", fix, check)

    def reject_nameless(self) -> None:
        for row, text in enumerate(self.texts["path"]):
            if not text or len(text) > LONGEST_NAME:
                self.wrong.add(row)
                self.on_finding(row, "path", "is no file name", "fill it in or remove the line")

    def reject_repeated(self, keys: Sequence[str], variants: Sequence[str]) -> None:
        row_of: dict[tuple[str, str], int] = {}
        for row, key in enumerate(zip(keys, variants, strict=True)):
            if row not in self.wrong and row_of.setdefault(key, row) != row:
                self.wrong.add(row)
                message = f"image {quoted(key[0])} is already in line {self.lines[row_of[key]]}"
                self.listing.wrong(self.lines[row], message, "remove one", "duplicate entry")

    def numbers(self, column: str) -> list[float] | None:
        """Finite numbers, NaN where the cell is empty or wrong; None if there is no such column."""
        if column not in self.texts:
            return None
        out = []
        for row, text in enumerate(self.texts[column]):
            try:
                value = float(text) if text else math.nan
            except ValueError:
                value = math.nan
                self.unreadable.add((row, column))
                self.on_finding(row, column, "is not a number", "correct it or leave it empty")
            if math.isinf(value):
                value = math.nan
                self.unreadable.add((row, column))
                self.on_finding(row, column, "is infinite", "correct it or leave it empty")
            out.append(value)
        return out

    def labels(self, column: str) -> list[str]:
        """Labels normalised by `plain_labels`; invalid numbers are reported and become unknown."""
        labels, wrong = plain_labels(self.texts[column], column)
        for row, fault in wrong:
            self.on_finding(row, column, fault, "write it with all digits and without a decimal point")
        return labels

    def frames(self) -> list[int] | None:
        if "frame" not in self.texts:
            return None
        out = []
        for row, text in enumerate(self.texts["frame"]):
            frame, fault = -1, ""
            try:
                frame = whole_number(text) if text and text.lower() not in NO_LABEL else -1
            except ValueError as error:
                fault = str(error)
            if not -1 <= frame < 2**63:
                frame, fault = -1, "is no frame number"
            if fault:
                self.on_finding(row, "frame", fault, "give a whole number from 0, or leave it empty")
            out.append(frame)
        return out

    def times(self) -> list[float] | None:
        if "time" not in self.texts:
            return None
        out = []
        for row, text in enumerate(self.texts["time"]):
            try:
                out.append(seconds(text))
                if _names_no_zone(text):
                    self.local.add(self.texts["camera"][row] if "camera" in self.texts else "")
            except (ValueError, OverflowError):
                out.append(math.nan)
                self.on_finding(row, "time", "is neither seconds nor ISO 8601", "write it as 2026-05-01T12:00:00Z")
        return out


def seconds(text: str) -> float:
    """UTC seconds of a cell: a number, or ISO 8601, without a zone taken as UTC; NaN if it is empty.

    Raises:
        ValueError, OverflowError: it is neither.
    """
    try:
        value = float(text) if text else math.nan
    except ValueError:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if math.isinf(value):
        raise ValueError
    return value


def _names_no_zone(text: str) -> bool:
    """Whether the text of a time is a date, but names no zone."""
    try:
        float(text or "nan")
    except ValueError:
        return datetime.fromisoformat(text).tzinfo is None
    return False


def _with_frames(paths: list[str], frames: list[int] | None) -> list[str]:
    """Names of images; "north.mp4/000012" for a frame of a video."""
    numbers = frames or [-1] * len(paths)
    return [
        f"{path}/{frame:06d}" if frame >= 0 and path.lower().endswith(VIDEOS) else path
        for path, frame in zip(paths, numbers, strict=True)
    ]


def _boxes(cells: _Cells) -> list[list[float]] | None:
    given = {name: values for name in (*BOX_COLUMNS, "width", "height") if (values := cells.numbers(name)) is not None}
    if not given:
        return None
    needed = BOX_COLUMNS if "x2" in given or "y2" in given else ("x1", "y1", "width", "height")
    lacking = [name for name in needed if name not in given]
    if lacking:
        if set(given) <= {"width", "height"}:
            return None  # of the image, not of a box
        raise InputError(
            f"{cells.listing.path}: a box needs {', '.join(needed)}, but there is no column {lacking[0]}; add it."
        )
    boxes = []
    for row, box in enumerate(zip(*(given[name] for name in needed), strict=True)):
        x1, y1, x2, y2 = box
        if needed[2] == "width":
            x2, y2 = x1 + x2, y1 + y2
        unknown = [math.isnan(value) for value in box]
        if cells.unreadable and any((row, column) in cells.unreadable for column in needed):
            cells.wrong.add(row)
        elif any(unknown) and not all(unknown):
            column = needed[unknown.index(True)]
            cells.on_finding(row, column, "is empty, but not the rest of its box", "give all four")
            cells.wrong.add(row)
        elif not unknown[0] and not (np.float32(x2) > np.float32(x1) and np.float32(y2) > np.float32(y1)):
            cells.on_finding(row, needed[2], f"gives an empty box ({x1:g}, {y1:g}, {x2:g}, {y2:g})", "correct it")
            cells.wrong.add(row)
        boxes.append([x1, y1, x2, y2])
    return boxes
