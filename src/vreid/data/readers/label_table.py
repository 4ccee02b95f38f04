"""Separate label tables: labels for test images that are distributed without them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.data.dataset import LabelSource
from vreid.data.findings import OnFinding, Origin
from vreid.data.readers.common import Listing, companion, shown
from vreid.data.readers.image_table import SPLITS, read_rows
from vreid.data.readers.list_files import key_of
from vreid.data.records import LABEL_COLUMNS, UNKNOWN, Records

GROUND_TRUTH = "ground_truth.csv"

_JOINED = ("identity", "camera", "tracklet", "frame", "time", "scene", "box", "color", "vehicle_type", "orientation")


def with_labels(
    splits: Mapping[str, Records], folder: Path, labels: LabelSource, notes: list[str], on_finding: OnFinding
) -> dict[str, Records]:
    """Fill in labels from a table by `image_key`; known identities and cameras must agree.

    Args:
        splits: Records by name of the split.
        folder: the data set's own.
        labels: None (no labels), a table as `Records.write_csv` writes it, or "auto": ground_truth.csv in
            `folder` or beside it, if there is one.
        notes: the source of the labels and images without a row are appended.
        on_finding: called with rows that contradict the data set (not used), and with a table none of whose rows is an
            image of it.

    An image is found by its key or by split and file name, with or without extension: "query/000001" and
    "image_query/000001.jpg" are one.

    Raises:
        InputError: the table cannot be read.
    """
    table = _place(folder, labels)
    if table is None:
        return dict(splits)
    truth, _, origin = read_rows(table, on_finding, within_split=True)
    listing, row_of = Listing(table, on_finding), _rows_by_name(truth)
    rows = {split: _rows_of(records, row_of) for split, records in splits.items()}
    used = np.concatenate([found[found >= 0] for found in rows.values()])
    images = [records for records in splits.values() if len(records)]
    if not len(used) and len(truth) and images:
        image = images[-1]
        listing.wrong(
            int(origin.rows[0]),
            f"{shown(truth.image_key[0])} is no image of the data set, whose images are called like "
            f"{image.image_key[0]} ({Path(image.path[0]).parent.name}/{Path(image.path[0]).name}), and no other row "
            "is one either",
            "name them so in the column image_key or path, or leave the table out (--labels none)",
        )
        return dict(splits)
    unused = np.setdiff1d(np.arange(len(truth)), used)
    if len(unused):
        first = f"{shown(truth.image_key[unused[0]])} in line {origin.rows[unused[0]]}"
        notes.append(f"rows of {table.name} that are no image of the data set: {len(unused):,}, first {first}.")
    filled = {
        split: _filled(records, rows[split], truth, origin, notes, listing, split) for split, records in splits.items()
    }
    notes.append(f"labels of the test images come from {table.name}; they are not part of the data set.")
    return filled


def _place(folder: Path, labels: LabelSource) -> Path | None:
    if labels is None or isinstance(labels, Path):
        return labels
    return companion(folder, GROUND_TRUTH)


def _rows_by_name(truth: Records) -> dict[str, int]:
    """Index rows by every name an image may have: its key, and split and file name of key and path."""
    out: dict[str, int] = {}
    for names in (truth.image_key, map(_name, truth.image_key), map(_name, truth.path)):
        for row, name in enumerate(names):
            out.setdefault(name, row)
    return out


def _rows_of(records: Records, row_of: Mapping[str, int]) -> NDArray[np.intp]:
    """Row of each image, -1 where there is none."""
    keys = records.image_key.tolist()
    return np.array([row_of.get(key, row_of.get(_name(key), -1)) for key in keys], dtype=np.intp)


def _name(path: str) -> str:
    """Split and file name, without extension: "image_query/000001.jpg" is "query/000001", "test/..." "gallery/..."."""
    folder, _, file = key_of(path.replace("\\", "/")).rpartition("/")
    folder = folder.rpartition("/")[2].lower().removeprefix("image_")
    return f"{SPLITS.get(folder, folder)}/{file}"


def _filled(
    records: Records,
    rows: NDArray[np.intp],
    truth: Records,
    origin: Origin,
    notes: list[str],
    table: Listing,
    split: str,
) -> Records:
    known = rows >= 0
    if not known.all() and (split != "train" or known.any()):  # a table of the test need not hold training images
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
            reported = theirs >= 0 if column == "frame" else ~np.isnan(theirs.reshape(len(rows), -1)).any(axis=1)
            reported = agreed & reported
            columns[column] = np.where(reported[:, None] if ours.ndim == 2 else reported, theirs, ours)
    made = Records.of(path=records.path.tolist(), **columns)
    return replace(records, **{column: getattr(made, column) for column in columns})
