"""From sources to the store: choose the crops of each tracklet, compute their features, store them; resumable.

A tracklet that is stored already, from the same source with the same boxes, is not touched, so a second run adds
nothing twice and one that was interrupted continues where it was.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vreid.data.findings import Finding
from vreid.data.records import Records
from vreid.errors import named
from vreid.formatting import duration
from vreid.inference.embedder import Embedder
from vreid.progress import Progress, job
from vreid.store.centering import read_means
from vreid.store.interface import VectorStore
from vreid.store.plates import BLURS
from vreid.store.sources import ReadSource
from vreid.store.tracklet_rows import as_objects, embed_tracklets
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
        crops: their crops.
        skipped: boxes, frames, lines and tracklets that could not be used.
        reasons: how many of them, by reason.
        examples: some of them, a sentence each.
        renamed: tracklets whose id was taken by another source, old id -> new id.
    """

    cameras: set[str] = field(default_factory=set)
    tracklets: int = 0
    added: int = 0
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
    settings = f"crops={crops} blur={blur_plates}"
    records = with_tracklets(records)
    signatures = _signatures(records, settings)
    names = _ids(vectors, list(signatures), source, report)
    stored = dict(_facts(vectors, list(names.values())))
    there = {own for own, name in names.items() if stored.get(name, {}).get("signature") == signatures[own]}
    report.tracklets += len(there)
    report.crops += sum(int(stored[names[own]].get("crops", 0)) for own in there)
    listener.advance(len(there))
    chosen = tracklets_of(records, crops=crops, only=signatures.keys() - there, blur=blur, on_skip=report.skip)
    means = read_means(vectors)
    while batch := list(islice(chosen, BATCH)):
        rows = embed_tracklets(embedder, batch, means)
        listed = {"listed_in": source.name}
        facts = [
            {**facts, **listed, "signature": signatures[own]} for own, facts in zip(rows.id, rows.facts, strict=True)
        ]
        rows = replace(rows, id=as_objects([names[own] for own in rows.id]), facts=facts)
        vectors.upsert(rows)
        report.tracklets += len(rows)
        report.added += len(rows)
        report.crops += sum(len(of_row) for of_row in rows.crops or ())
        listener.advance(len(rows), f"{report.added:,} added")


def _signatures(records: Records, settings: str) -> dict[str, str]:
    """Hash of the boxes of each tracklet and of the settings that decide what is stored of it."""
    order = np.argsort(records.tracklet.codes, kind="stable")
    codes = records.tracklet.codes[order]
    out: dict[str, str] = {}
    for rows in np.split(order, np.flatnonzero(np.diff(codes)) + 1):
        digest = hashlib.sha256(settings.encode())
        for column in (records.frame, records.box, records.time):
            digest.update(np.ascontiguousarray(column[rows]).tobytes())
        digest.update("\n".join(Path(path).name for path in records.path[rows]).encode("utf-8", "surrogateescape"))
        out[str(records.tracklet.values[rows[0]])] = digest.hexdigest()[:16]
    return out


def _ids(vectors: VectorStore, own: Sequence[str], source: Path, report: IngestReport) -> dict[str, str]:
    """Id in the store of each tracklet: its own, or with the source's name where another source has it."""
    taken = {name for name, facts in _facts(vectors, own) if facts.get("listed_in") != source.name}
    named = {name: f"{name}@{source.stem}" if name in taken else name for name in own}
    report.renamed |= {name: new for name, new in named.items() if name != new}
    return named


def _facts(vectors: VectorStore, ids: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for start in range(0, len(ids), 1000):
        found = vectors.fetch(ids[start : start + 1000])
        yield from zip(found.id, found.facts, strict=True)
