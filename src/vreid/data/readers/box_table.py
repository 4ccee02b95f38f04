"""Boxes on frames of videos or images, collected row by row, checked, and made a data set."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from vreid.data.dataset import Dataset
from vreid.data.findings import Finding, OnFinding, Origin
from vreid.data.protocols import CROSS_CAMERA
from vreid.data.readers.common import Listing, source_of
from vreid.data.readers.frames import boxes_outside
from vreid.data.records import Records
from vreid.data.vehicle_types import is_vehicle
from vreid.errors import InputError


class BoxTable:
    """Rows of boxes with file and line of each; wrong rows are reported and left out, other classes are counted.

    Args:
        on_finding: called with each wrong row.
        unit: what a row of the files is, for messages.
    """

    def __init__(self, on_finding: OnFinding, unit: str = "line") -> None:
        self._on_finding, self._unit = on_finding, unit
        self.notes: list[str] = []
        self.reported = 0
        self._columns: dict[str, list[object]] = defaultdict(list)
        self._files: list[str] = []
        self._lines: list[int] = []
        self._first: dict[str, str] = {}  # where each key was first
        self._others: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._lines)

    def listing(self, path: Path) -> Listing:
        """Return the listing of a file that is read into this table; its findings are counted."""
        return Listing(path, self.report, self._unit)

    def report(self, finding: Finding) -> None:
        """Report a finding."""
        self.reported += 1
        self._on_finding(finding)

    def add(
        self,
        listing: Listing,
        row: int,
        *,
        path: Path | str,
        frame: int,
        corners: Sequence[float],
        camera: str,
        track: str = "",
        prefix: str = "",
        time: float = math.nan,
        vehicle_type: str = "",
    ) -> None:
        """Add a box, or report why it is not used.

        Args:
            listing, row: where it is listed.
            path: video or image; `frame` is its number from 0 in a video.
            corners: x1, y1, x2, y2 in pixels.
            track: id, "": none.
            prefix: of the names of image and tracklet; the camera by default.
            vehicle_type: class, boxes of classes that are not vehicles are counted and left out.
        """
        if not is_vehicle(vehicle_type):
            self._others[vehicle_type.lower()] += 1
            return
        x1, y1, x2, y2 = (float(value) for value in np.asarray(corners, dtype=np.float32))
        if not math.isfinite(x1 + y1 + x2 + y2) or not (x2 > x1 and y2 > y1):
            shown = ", ".join(f"{value:g}" for value in corners)
            listing.wrong(row, f"box ({shown}) is empty or not finite", "correct it or remove it")
            return
        if not 0 <= frame < 2**63:
            listing.wrong(row, f"frame {frame} is no frame number", "number frames from 0")
            return
        prefix = prefix or camera
        name = f"/{track}" if track else f"#{x1:g},{y1:g},{x2:g},{y2:g}"
        key = f"{prefix}/{frame:06d}{name}"
        where = listing.where(row)
        if self._first.setdefault(key, where) != where:
            listing.wrong(
                row, f"this id or box is in its frame already ({self._first[key]})", "remove one", "duplicate entry"
            )
            return
        values = (str(path), key, camera, f"{prefix}/{track}" if track else "", frame, time, vehicle_type.lower())
        for column, value in zip(
            ("path", "image_key", "camera", "tracklet", "frame", "time", "vehicle_type"), values, strict=True
        ):
            self._columns[column].append(value)
        self._columns["box"].append((x1, y1, x2, y2))
        self._files.append(str(listing.path))
        self._lines.append(row)

    def dataset(self, name: str, folder: Path, *, holds: str, local_times: Collection[str] = ()) -> Dataset:
        """Return the boxes as query and gallery, each a query against all other cameras, in the order of time.

        Args:
            name: of the data set.
            folder: where it lies.
            holds: what was looked for, for the message where nothing was found.
            local_times: cameras whose times name no zone.

        Raises:
            InputError: no boxes and nothing reported.
        """
        if not self._lines and not self.reported and not self._others:
            raise InputError(f"{folder}: holds no boxes ({holds}); run the detector or tracker again.")
        records = Records.of(**self._columns) if self._lines else Records.of(path=[])  # type: ignore[arg-type]
        files, lines = np.array(self._files, dtype=object), np.array(self._lines, dtype=np.int64)
        order = np.lexsort((records.frame, np.unique(records.path, return_inverse=True)[1], records.camera.codes))
        outside: set[int] = set()
        for file in dict.fromkeys(self._files):
            rows = np.flatnonzero(files == file)
            wrong = boxes_outside(records.path[rows], records.box[rows], self.listing(Path(file)), lines[rows].tolist())
            outside |= {int(rows[place]) for place in wrong}
        order = np.array([row for row in order.tolist() if row not in outside], dtype=np.int64)
        records = records[order].with_(split=["gallery"] * len(order))
        notes = list(self.notes)
        if self._others:
            counts = ", ".join(f"{kind} ({count:,})" for kind, count in sorted(self._others.items()))
            notes.append(f"boxes of other classes than vehicles are not used: {counts}.")
        if records.camera.distinct == 1:
            notes.append("there is one camera only, so cross-camera search is not possible.")
        origin = Origin(files[order], lines[order], self._unit)
        return Dataset(
            name,
            records[:0],
            records,
            records,
            CROSS_CAMERA,
            source_of(folder),
            tuple(notes),
            {"query": origin, "gallery": origin},
            tuple(sorted(local_times)),
        )
