"""Your own images in a table: one row an image, CSV with commas, semicolons or tabs, UTF-8.

Only `path` is needed. Columns are those of `Records.write_csv`; the field's other spellings are understood as well
(`SPELLINGS`; capitals, blanks, "_" and "-" do not matter). Relative paths start at the table's folder. Times are UTC
seconds or ISO 8601, without a zone taken as UTC. Identity "-1" or "junk" is junk, an empty cell is unknown. A box is
x1, y1, x2, y2, or left, top, width, height. Orientations are taken modulo 360.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from vreid.data.dataset import Dataset
from vreid.data.readers.common import decode, degrees, source_of
from vreid.data.records import BOX_COLUMNS, CSV_COLUMNS, LABEL_COLUMNS, Records
from vreid.errors import InputError
from vreid.retrieval.protocols import CROSS_CAMERA, MARKET

SUFFIXES = (".csv", ".tsv", ".txt")

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
SPLITS = {"train": "train", "training": "train", "query": "query", "probe": "query", "gallery": "gallery",
          "test": "gallery"}  # fmt: skip


def _plain(header: str) -> str:
    return re.sub(r"[\s_-]", "", header).lower()


_FIELD_OF = {_plain(name): name for name in (*CSV_COLUMNS, "width", "height")} | {
    _plain(spelling): name for name, spellings in SPELLINGS.items() for spelling in spellings
}


def read_table(path: Path | str) -> Dataset:
    """Read a table as a data set.

    With a split column (train, query or probe, gallery or test) the rows are divided by it and judged as Market-1501.
    Without one, query and gallery are all images, each a query against all other cameras (cross-camera), and nothing is
    for training.

    Raises:
        InputError: a row that cannot be understood, an unknown or missing split, or no picture where the paths point.
    """
    path = Path(path)
    records, notes = read_records(path)
    first = list(dict.fromkeys(records.path))[:100]
    if not any(os.path.exists(picture) for picture in first):
        raise InputError(f"{path}: its pictures are not there, first {first[0]}; correct the paths or move the table.")
    name, source = path.stem, source_of(path.parent)
    if not records.split.known.any():
        everything = records.with_(split=["gallery"] * len(records))
        if not records.camera.known.any():
            notes = (*notes, "no image has a camera, so nothing can be searched across cameras.")
        return Dataset(name, everything[:0], everything, everything, CROSS_CAMERA, source, notes)
    values = [SPLITS.get(value.lower(), "") for value in records.split.values]
    if "" in values:
        row = values.index("")
        raise InputError(
            f"{path}, image {records.image_key[row]}: split is {records.split.values[row]!r}; "
            f"give one of {', '.join(SPLITS)}."
        )
    records = records.with_(split=values)
    parts = {split: records[records.split.values == split] for split in ("train", "query", "gallery")}
    return Dataset(name, parts["train"], parts["query"], parts["gallery"], MARKET, source=source, notes=notes)


def read_records(path: Path | str) -> tuple[Records, tuple[str, ...]]:
    """Read a table's rows in their order, with notes on what was not understood; inverse of `Records.write_csv`.

    Raises:
        InputError: no rows, no path column, two columns that mean the same, or a cell that cannot be understood; file,
            line, column and mend are named.
    """
    path = Path(path)
    rows, lines, columns, notes = _rows(path)
    texts = {name: [row[place] for row in rows] for name, place in columns.items()}
    cells = _Cells(path, lines, texts)
    boxes = _boxes(cells)
    # Many rows share a frame when boxes are given, and then the frame's name alone is no key.
    keys = texts.get("image_key") or [
        name if boxes is None or math.isnan(box[0]) else f"{name}#{box[0]:g},{box[1]:g},{box[2]:g},{box[3]:g}"
        for name, box in zip(cells.required("path"), boxes if boxes is not None else [()] * len(rows), strict=True)
    ]
    _refuse_repeated(path, lines, keys, texts.get("variant", [""] * len(rows)))
    out: dict[str, Any] = {name: texts[name] for name in LABEL_COLUMNS if name in texts}
    for name, default in (("domain", "real"), ("variant", "original")):
        if name in out:
            out[name] = [value or default for value in out[name]]
    if "identity" in out:
        out["identity"] = ["junk" if value == "-1" else value for value in out["identity"]]
    orientation = cells.numbers("orientation")
    records = Records.of(
        path=[os.path.join(path.parent, name) for name in cells.required("path")],
        image_key=keys,
        frame=cells.frames(),
        time=cells.times(),
        box=boxes,
        orientation=None if orientation is None else degrees(orientation),
        **out,
    )
    return records, notes


def _rows(path: Path) -> tuple[list[list[str]], list[int], dict[str, int], tuple[str, ...]]:
    """Return the cells of each row, the line each ends in, the place of each column, and notes."""
    text = decode(path)
    header, _, _ = text.partition("\n")
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows, lines = [], []
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append([cell.strip() for cell in row])
                lines.append(reader.line_num)
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: is no CSV ({error}); save the table again.") from error
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
                f"{path}, line {first}: columns {names[columns[field]]!r} and {name!r} both mean {field}; remove one."
            )
        else:
            columns[field] = place
    if "path" not in columns:
        raise InputError(
            f"{path}, line {first}: has no column path (but {', '.join(names)}); name that of the picture files so."
        )
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(names):
            raise InputError(
                f"{path}, line {line}: the number of cells is {len(row)} but there are {len(names)} columns; "
                f"quote cells that hold {delimiter!r}."
            )
    notes = (f"columns {', '.join(ignored)} of {path.name} are not used.",) if ignored else ()
    return rows, lines, columns, notes


class _Cells:
    """The cells of a table by column, and where they are, for the sentence about a wrong one."""

    def __init__(self, path: Path, lines: Sequence[int], texts: dict[str, list[str]]) -> None:
        self.path, self.lines, self.texts = path, lines, texts

    def wrong(self, row: int, column: str, reason: str) -> InputError:
        return InputError(f"{self.path}, line {self.lines[row]}: {column} {self.texts[column][row]!r} {reason}.")

    def required(self, column: str) -> list[str]:
        for row, text in enumerate(self.texts[column]):
            if not text or "\0" in text:
                raise self.wrong(row, column, "is no file name; fill it in or remove the line")
        return self.texts[column]

    def numbers(self, column: str) -> list[float] | None:
        """Finite numbers, NaN where the cell is empty; None if there is no such column."""
        if column not in self.texts:
            return None
        out = []
        for row, text in enumerate(self.texts[column]):
            try:
                value = float(text) if text else math.nan
            except ValueError:
                raise self.wrong(row, column, "is not a number; correct it or leave it empty") from None
            if math.isinf(value):
                raise self.wrong(row, column, "is infinite; correct it or leave it empty")
            out.append(value)
        return out

    def frames(self) -> list[int] | None:
        values = self.numbers("frame")
        if values is None:
            return None
        for row, value in enumerate(values):
            if not math.isnan(value) and (value != int(value) or not -1 <= value < 2**53):
                raise self.wrong(row, "frame", "is no frame number; give a whole number from 0, or leave it empty")
        return [-1 if math.isnan(value) else int(value) for value in values]

    def times(self) -> list[float] | None:
        if "time" not in self.texts:
            return None
        out = []
        for row, text in enumerate(self.texts["time"]):
            try:
                out.append(_seconds(text))
            except (ValueError, OverflowError):
                mend = "is neither seconds nor ISO 8601; write it as 2026-05-01T12:00:00Z"
                raise self.wrong(row, "time", mend) from None
        return out


def _seconds(text: str) -> float:
    try:
        value = float(text) if text else math.nan
    except ValueError:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if math.isinf(value):
        raise ValueError
    return value


def _boxes(cells: _Cells) -> list[list[float]] | None:
    given = {name: values for name in (*BOX_COLUMNS, "width", "height") if (values := cells.numbers(name)) is not None}
    if not given:
        return None
    needed = BOX_COLUMNS if "x2" in given or "y2" in given else ("x1", "y1", "width", "height")
    lacking = [name for name in needed if name not in given]
    if lacking:
        if set(given) <= {"width", "height"}:
            return None  # of the picture, not of a box
        raise InputError(f"{cells.path}: a box needs {', '.join(needed)}, but there is no column {lacking[0]}; add it.")
    boxes = []
    for row, box in enumerate(zip(*(given[name] for name in needed), strict=True)):
        unknown = [math.isnan(value) for value in box]
        if any(unknown) and not all(unknown):
            raise cells.wrong(row, needed[unknown.index(True)], "is empty, but not the rest of its box; give all four")
        x1, y1, x2, y2 = box
        if needed[2] == "width":
            x2, y2 = x1 + x2, y1 + y2
        if not unknown[0] and not (np.float32(x2) > np.float32(x1) and np.float32(y2) > np.float32(y1)):
            raise cells.wrong(row, needed[2], f"makes box ({x1:g}, {y1:g}, {x2:g}, {y2:g}) empty; correct it")
        boxes.append([x1, y1, x2, y2])
    return boxes


def _refuse_repeated(path: Path, lines: Sequence[int], keys: Sequence[str], variants: Sequence[str]) -> None:
    line_of: dict[tuple[str, str], int] = {}
    for line, key in zip(lines, zip(keys, variants, strict=True), strict=True):
        if line_of.setdefault(key, line) != line:
            raise InputError(f"{path}, line {line}: image {key[0]!r} is already in line {line_of[key]}; remove one.")
