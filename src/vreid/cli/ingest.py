"""Command ingest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vreid import names
from vreid.cli.extras import extra_of, require_extras
from vreid.cli.options import Device, Json, print_json
from vreid.console import echo
from vreid.formatting import plural

if TYPE_CHECKING:
    from vreid.progress import Progress
    from vreid.store.ingest import IngestReport
    from vreid.store.sources import Detect

_SHOWN = 20  # skipped things that are listed; the rest are counted


def ingest_command(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE...",
            help="Tracker output beside its video or frames, a table, a folder of crops, or a video (with --detector).",
        ),
    ],
    store: Annotated[str, typer.Option(help="Folder of the store, made if absent; or a Milvus URI.")],
    cameras: Annotated[
        Path | None,
        typer.Option(
            help="Table of the cameras: camera, start, frame_rate, offset, time_zone, latitude, longitude, heading; "
            "default: cameras.csv in or beside SOURCE."
        ),
    ] = None,
    camera: Annotated[str, typer.Option(help="Name of the camera, for sources of one camera.")] = "",
    start: Annotated[str, typer.Option(help="Time of the first frame: ISO 8601 or seconds since 1970.")] = "",
    frame_rate: Annotated[
        float | None, typer.Option(min=0.001, help="Frames per second; default: that of the source.")
    ] = None,
    offset: Annotated[float | None, typer.Option(help="Seconds to add to the times of the cameras.")] = None,
    time_zone: Annotated[str, typer.Option(help="Time zone of times without one, for example Europe/Berlin.")] = "",
    model: Annotated[
        str, typer.Option(help="MODEL of the features; default: that of the store, or the bundled one.")
    ] = "",
    crops: Annotated[int, typer.Option(min=1, max=20, help="Most crops to keep of a tracklet.")] = 4,
    detector: Annotated[
        str,
        typer.Option(
            help="Find the vehicles of videos without boxes: rfdetr[:SIZE], FILE.onnx, MODULE:FUNCTION, "
            "FILE.py:FUNCTION, or 'command: PROGRAM ARGUMENTS'. Boxes are linked into tracklets (extra `tracking`)."
        ),
    ] = "",
    confidence: Annotated[float, typer.Option(min=0, max=1, help="Least confidence of detected vehicles.")] = 0.3,
    classes: Annotated[
        Path | None, typer.Option(help="Class names of an ONNX detector that has none, one a line.")
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Detect in every n-th frame.")] = 1,
    blur_plates: Annotated[
        str,
        typer.Option(
            help=f"Blur licence plates in crops: {' or '.join(names.BLURS)} (regions that look like one, or the whole "
            "band where they are mounted); neither is a guarantee."
        ),
    ] = "",
    device: Device = "cpu",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what was understood, and store nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Store the tracklets of own cameras: choose crops, compute features, keep them searchable.

    Shows what was understood of each source before it starts. Resumable: the same command continues after an
    interruption, and adds nothing twice. Lines and frames that cannot be used are counted and listed.
    """
    from vreid.progress_bars import ProgressBars
    from vreid.store.ingest import IngestReport
    from vreid.store.sources import CameraOptions, read_source
    from vreid.store.store import Store

    options = CameraOptions(camera, start, frame_rate, offset, time_zone)
    report = IngestReport()
    with ProgressBars(quiet=as_json) as bars:
        detect = _detect(detector, confidence, classes, every, camera, report, bars) if detector else None
        read = [
            read_source(
                source,
                cameras=cameras,
                options=options,
                detect=detect,
                progress=bars,
                on_finding=report.on_finding,
            )
            for source in sources
        ]
        summaries = [camera for source in read for camera in source.summaries]
        notes = [note for source in read for note in source.notes]
        if not as_json:
            for line in (*summaries, *notes):
                bars.note(str(line))
        facts: dict[str, Any] = {
            "store": store,
            "sources": [summary.as_dict() for summary in summaries],
            "notes": notes,
        }
        if dry_run:
            facts |= {"dry_run": True, **report.as_dict(), "cameras": len(summaries)}
            facts["tracklets"] = sum(summary.tracklets for summary in summaries)
            print_json(facts) if as_json else echo("dry run: nothing was stored.")
            return
        require_extras(extra_of(model or "default"))
        with Store.open(store, model=model or None, create=True, device=device) as opened:
            opened.ingest(*read, report=report, crops=crops, blur_plates=blur_plates, progress=bars)
            facts |= report.as_dict()
    if as_json:
        print_json(facts)
        return
    for example in report.examples[:_SHOWN]:
        echo(f"skipped: {example}")
    if report.reasons:
        counted = ", ".join(f"{count:,} {reason}" for reason, count in report.reasons.most_common())
        echo(f"skipped {report.skipped:,}: {counted}")
    stored = f"{plural(report.tracklets, 'tracklet')} with {plural(report.crops, 'crop')}"
    if report.renamed:
        first, name = next(iter(report.renamed.items()))
        echo(
            f"other recordings have the names of {plural(len(report.renamed), 'tracklet')}, which are stored under "
            f"others: {first} as {name}. Put the start into the names of videos (north_2026-05-01_07-00-00.mp4)."
        )
    replaced = f", {report.replaced:,} replaced" if report.replaced else ""
    echo(f"{store}: {plural(len(report.cameras), 'camera')}, {stored}, {report.added:,} of them new{replaced}.")
    echo(f"next: vreid search {store} IMAGE")


def _detect(
    name: str, confidence: float, classes: Path | None, every: int, camera: str, report: IngestReport, bars: Progress
) -> Detect:
    from vreid.detection.detect import detect
    from vreid.detection.detectors import load_detector

    detector = load_detector(name, confidence=confidence, classes=classes)
    return lambda path: detect(
        path,
        detector,
        camera=camera or None,
        every=every,
        on_missing=lambda place: report.skip("frame that cannot be read", place),
        on_finding=report.on_finding,
        progress=bars,
    )
