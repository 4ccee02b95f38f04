"""From sources to the store: choose the crops of each tracklet, compute their features, store them; resumable.

A tracklet that is stored already, with the same boxes and settings, is not touched, so a second run adds nothing twice
and one that was interrupted continues where it was. A tracklet whose boxes or times have been corrected since is
replaced. Another recording under the same names (the next day's folder, or new videos in the same folder) does not
replace anything: its tracklets get names of their own.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vreid.data.findings import Finding
from vreid.data.records import Records, object_array
from vreid.errors import named
from vreid.formatting import duration
from vreid.inference.embedder import Embedder
from vreid.progress import Progress, job
from vreid.store.centering import read_means
from vreid.store.interface import NO_TIME, VectorStore
from vreid.store.plates import BLURS
from vreid.store.sources import ReadSource
from vreid.store.tracklet_rows import embed_tracklets
from vreid.store.tracklets import tracklets_of, with_tracklets

BATCH = 24
"""Tracklets that are embedded and stored at once: what a kill may cost."""
EXAMPLES = 3
"""Examples that are kept of each reason for which something is skipped."""


@dataclass
class IngestReport:
    """What became of the sources.

    Attributes:
        cameras: names of the cameras.
        tracklets: tracklets of the sources that the store holds now.
        added: those among them that it did not hold before.
        replaced: those among them whose boxes, times or settings have changed since they were stored.
        crops: their crops.
        skipped: boxes, frames, lines and tracklets that could not be used.
        reasons: how many of them, by reason.
        examples: some of them, a sentence each.
        renamed: tracklets whose id was taken by another recording, old id -> new id.
    """

    cameras: set[str] = field(default_factory=set)
    tracklets: int = 0
    added: int = 0
    replaced: int = 0
    crops: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)

    @property
    def skipped(self) -> int:
        """How many were skipped, for whatever reason."""
        return self.reasons.total()

    def skip(self, reason: str, what: str) -> None:
        """Count something that cannot be used; the first few of each reason are kept as examples."""
        if self.reasons[reason] < EXAMPLES:
            self.examples.append(f"{what} ({reason})" if reason not in what else what)
        self.reasons[reason] += 1

    def on_finding(self, finding: Finding) -> None:
        """Count a wrong line that a reader reports."""
        self.skip(finding.check, str(finding))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: counts, and the reasons of what was skipped."""
        return {
            "cameras": len(self.cameras),
            "tracklets": self.tracklets,
            "added": self.added,
            "replaced": self.replaced,
            "crops": self.crops,
            "skipped": self.skipped,
            "reasons": dict(self.reasons),
            "examples": self.examples,
            "renamed": self.renamed,
        }


def ingest_sources(
    vectors: VectorStore,
    embedder: Embedder,
    sources: Sequence[ReadSource],
    report: IngestReport,
    *,
    crops: int = 4,
    blur_plates: str = "",
    progress: Progress | None = None,
) -> IngestReport:
    """Store the tracklets of sources that are not stored yet.

    Args:
        vectors: the store, open for writing.
        embedder: its model.
        sources: as read by `read_source`.
        report: counts go there; what readers reported may be in it already.
        crops: most crops of a tracklet.
        blur_plates: name in `vreid.store.plates.BLURS`, "": crops stay as they are.
        progress: listener, counts tracklets.
    """
    _announce(embedder, sources, crops, progress or Progress())
    for source in sources:
        report.cameras |= source.cameras.keys()
        for camera in source.cameras.values():
            vectors.put_document(f"camera/{camera.name}", asdict(camera))
        with job(progress, source.path.name, sum(camera.tracklets for camera in source.summaries)) as listener:
            for name in source.cameras:
                own = source.records[source.records.camera.values == name]
                _ingest_camera(vectors, embedder, own, source.path, report, crops, blur_plates, listener)
    return report


def _announce(embedder: Embedder, sources: Sequence[ReadSource], crops: int, progress: Progress) -> None:
    """Say how long it will take if that is more than a minute, from the time of a small batch."""
    count = crops * sum(camera.tracklets for source in sources for camera in source.summaries)
    if count < 500:
        return
    size = embedder.backend.facts
    images = [Image.new("RGB", (size.width, size.height))] * 8
    embedder.describe(images)  # the first pass of a network takes longer
    started = time.perf_counter()
    embedder.describe(images)
    seconds = (time.perf_counter() - started) / len(images) * count
    if seconds > 60:
        progress.note(f"at most {count:,} crops go through the model: about {duration(seconds)}, and decoding.")


def _ingest_camera(
    vectors: VectorStore,
    embedder: Embedder,
    records: Records,
    source: Path,
    report: IngestReport,
    crops: int,
    blur_plates: str,
    listener: Progress,
) -> None:
    blur = named("way to blur plates", BLURS, blur_plates) if blur_plates else None
    records = with_tracklets(records)
    source = source.absolute()
    passes = _passes(records, f"crops={crops} blur={blur_plates}", str(source))
    names, stored = _names(vectors, passes, source.stem)
    report.renamed |= {own: name for own, name in names.items() if own != name}
    there = {own for own, name in names.items() if stored.get(name, {}).get("signature") == passes[own].signature}
    report.tracklets += len(there)
    report.crops += sum(int(stored[names[own]].get("crops", 0)) for own in there)
    listener.advance(len(there))
    chosen = tracklets_of(records, crops=crops, only=passes.keys() - there, blur=blur, on_skip=report.skip)
    means = read_means(vectors)
    while batch := list(islice(chosen, BATCH)):
        rows = embed_tracklets(embedder, batch, means)
        facts = [{**facts, **passes[own].facts()} for own, facts in zip(rows.id, rows.facts, strict=True)]
        rows = replace(rows, id=object_array([names[own] for own in rows.id]), facts=facts)
        vectors.upsert(rows)
        new = sum(name not in stored for name in rows.id)
        report.tracklets += len(rows)
        report.added += new
        report.replaced += len(rows) - new
        report.crops += sum(len(of_row) for of_row in rows.crops or ())
        listener.advance(len(rows), f"{report.added:,} added")


@dataclass(frozen=True)
class _Pass:
    """What tells whether a tracklet is one that is stored already.

    Attributes:
        recording: hash of its boxes, frames and files, and of the files' sizes.
        signature: hash of the recording, the times and the settings: of all that decides what is stored.
        listed_in: absolute path of the source.
        start, end: UTC seconds, NaN unknown.
    """

    recording: str
    signature: str
    listed_in: str
    start: float
    end: float

    def facts(self) -> dict[str, Any]:
        return {"recording": self.recording, "signature": self.signature, "listed_in": self.listed_in}

    def is_stored_as(self, facts: Mapping[str, Any], start: int, end: int) -> bool:
        """Whether a row of the store is of this pass, perhaps with other boxes or times.

        Of one source, other boxes in another interval of time are those of another recording under the same name.
        """
        if facts.get("recording") == self.recording:
            return True
        apart = start != NO_TIME and (1000 * self.start > end or 1000 * self.end < start)
        return facts.get("listed_in") == self.listed_in and not apart


def _passes(records: Records, settings: str, source: str) -> dict[str, _Pass]:
    """The tracklets of one camera by name."""
    order = np.argsort(records.tracklet.codes, kind="stable")
    codes = records.tracklet.codes[order]
    files = {path: f"{Path(path).name} {_size(path)}" for path in dict.fromkeys(records.path.tolist())}
    out: dict[str, _Pass] = {}
    for rows in np.split(order, np.flatnonzero(np.diff(codes)) + 1):
        boxes = hashlib.sha256("\n".join(files[path] for path in records.path[rows]).encode("utf-8", "surrogateescape"))
        for column in (records.frame, records.box):
            boxes.update(np.ascontiguousarray(column[rows]).tobytes())
        recording, times = boxes.hexdigest()[:16], records.time[rows]
        whole = hashlib.sha256(f"{recording} {settings}".encode() + np.ascontiguousarray(times).tobytes())
        known = times[~np.isnan(times)]
        start, end = (float(known.min()), float(known.max())) if len(known) else (math.nan, math.nan)
        name = str(records.tracklet.values[rows[0]])
        out[name] = _Pass(recording, whole.hexdigest()[:16], source, start, end)
    return out


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return -1


def _names(
    vectors: VectorStore, passes: Mapping[str, _Pass], suffix: str
) -> tuple[dict[str, str], dict[str, Mapping[str, Any]]]:
    """Name in the store of each tracklet, and the facts of the rows that are stored under these names.

    It is the tracklet's own, or with `suffix` and a number where another recording has it.
    """
    names: dict[str, str] = {}
    stored: dict[str, Mapping[str, Any]] = {}
    waiting = {own: own for own in passes}
    number = 0
    while waiting:
        found = _rows(vectors, list(waiting.values()))
        names |= {own: name for own, name in waiting.items() if name not in found}
        for own, name in waiting.items():
            if name in found and passes[own].is_stored_as(*found[name]):
                names[own], stored[name] = name, found[name][0]
        number += 1
        more = f"-{number}" if number > 1 else ""
        waiting = {own: f"{own}@{suffix}{more}" for own in waiting if own not in names}
    return names, stored


def _rows(vectors: VectorStore, ids: Sequence[str]) -> dict[str, tuple[Mapping[str, Any], int, int]]:
    """Facts, start and end of those tracklets that are stored, by id."""
    out: dict[str, tuple[Mapping[str, Any], int, int]] = {}
    for first in range(0, len(ids), 1000):
        found = vectors.fetch(ids[first : first + 1000])
        for row, name in enumerate(found.id):
            out[str(name)] = found.facts[row], int(found.start[row]), int(found.end[row])
    return out
