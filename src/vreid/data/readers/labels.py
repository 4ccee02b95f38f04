"""Labels that come separately: a table of what is known of images that their data set distributes without labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vreid.data.dataset import LabelSource
from vreid.data.findings import Origin, Tell
from vreid.data.readers.common import Listing, companion, shown
from vreid.data.readers.table import read_rows
from vreid.data.records import LABEL_COLUMNS, UNKNOWN, Records

GROUND_TRUTH = "ground_truth.csv"

_JOINED = ("identity", "camera", "tracklet", "frame", "time", "scene", "box", "color", "vehicle_type", "orientation")


def with_labels(
    splits: Mapping[str, Records], folder: Path, labels: LabelSource, notes: list[str], tell: Tell
) -> dict[str, Records]:
    """Fill in by `image_key` what a table knows; what it says of a known vehicle or camera must agree.

    Args:
        splits: Records by name of the split.
        folder: the data set's own.
        labels: None (nothing is known), a table as `Records.write_csv` writes it, or "auto": ground_truth.csv in
            `folder` or beside it, if there is one.
        notes: told here: where the labels come from, and images without a row.
        tell: told here: rows that contradict the data set; they are not used.

    Raises:
        InputError: the table cannot be read.
    """
    table = _place(folder, labels)
    if table is None:
        return dict(splits)
    truth, _, origin = read_rows(table, tell)
    filled = {split: _filled(records, truth, origin, notes, Listing(table, tell)) for split, records in splits.items()}
    notes.append(f"labels of the test images come from {table.name}; they are not part of the data set.")
    return filled


def _place(folder: Path, labels: LabelSource) -> Path | None:
    if labels is None or isinstance(labels, Path):
        return labels
    return companion(folder, GROUND_TRUTH)


def _filled(records: Records, truth: Records, origin: Origin, notes: list[str], table: Listing) -> Records:
    row_of = {key: row for row, key in enumerate(truth.image_key)}
    rows = np.array([row_of.get(key, -1) for key in records.image_key], dtype=np.intp)
    known = rows >= 0
    if not known.all():
        first = records.image_key[int(np.argmin(known))]
        notes.append(
            f"{table.path.name} has no row for {int((~known).sum()):,} of {len(rows):,} images, first {first}."
        )
    if not known.any():
        return records
    agreed = known.copy()
    for column in ("identity", "camera"):
        ours, theirs = getattr(records, column), getattr(truth, column)[rows]
        for image in np.flatnonzero(known & ours.known & theirs.known & (ours.values != theirs.values)):
            table.wrong(
                int(origin.rows[rows[image]]),
                f"{column} of {records.image_key[image]} is {shown(theirs.values[image])} but the label file says "
                f"{ours.values[image]}",
                "give the table of this data set",
            )
            agreed[image] = False
    columns: dict[str, Any] = {}
    for column in _JOINED:
        ours, theirs = getattr(records, column), getattr(truth, column)[rows]
        if column in LABEL_COLUMNS:
            columns[column] = np.where(agreed & (theirs.codes != UNKNOWN), theirs.values, ours.values)
        else:
            told = theirs >= 0 if column == "frame" else ~np.isnan(theirs.reshape(len(rows), -1)).any(axis=1)
            told = agreed & told
            columns[column] = np.where(told[:, None] if ours.ndim == 2 else told, theirs, ours)
    made = Records.of(path=records.path.tolist(), **columns)
    return replace(records, **{column: getattr(made, column) for column in columns})
