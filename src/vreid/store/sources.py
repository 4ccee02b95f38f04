"""What `vreid ingest` is given: tracker output, tables, images or videos, read as boxes with cameras and times."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vreid.data.cameras import Camera, is_zone, read_cameras, with_times
from vreid.data.dataset import Dataset
from vreid.data.findings import Finding
from vreid.data.open import open_dataset
from vreid.data.readers.box_lines import describe_text
from vreid.data.readers.common import files_in, folders_in
from vreid.data.readers.families import recognise
from vreid.data.readers.sequence import sequence_rate
from vreid.data.recordings import utc_seconds
from vreid.data.records import Records
from vreid.data.video import VIDEOS, video_facts
from vreid.errors import InputError
from vreid.formatting import clock, plural
from vreid.progress import Progress

CAMERAS = "cameras.csv"
"""Table of the cameras that is used without being named, in a source's folder or beside a source's file."""

Detect = Callable[[Path], Records]
"""Finds the vehicles of a video or of a folder of frames, with tracklets."""


@dataclass(frozen=True)
class CameraOptions:
    """What the user says of all cameras of the sources; cameras.csv says it for each.

    Attributes:
        name: of the only camera of the sources, in place of the name that they give it.
        start: UTC seconds or ISO 8601 of the first frame.
        frame_rate: frames a second.
        offset: seconds to add to the times.
        time_zone: IANA name; times without a zone are in it.
    """

    name: str = ""
    start: str = ""
    frame_rate: float | None = None
    offset: float | None = None
    time_zone: str = ""


@dataclass(frozen=True)
class CameraSummary:
    """What was understood of one camera of a source.

    Attributes:
        camera: its name.
        source: where its boxes are listed, or its images.
        images: "video", "frames" or "crops".
        tracklets, boxes: how many; boxes without a tracklet count as one each.
        frame_rate: frames a second, None: unknown.
        start, end: UTC seconds of the first and last box, None: unknown.
        time_zone: of the camera, "UTC" unless given.
    """

    camera: str
    source: str
    images: str
    tracklets: int
    boxes: int
    frame_rate: float | None
    start: float | None
    end: float | None
    time_zone: str

    def __str__(self) -> str:
        rate = f"{self.frame_rate:g} frames a second" if self.frame_rate else "frame rate unknown"
        times = f"{_moment(self.start)} to {_moment(self.end)} UTC" if self.start is not None else "times unknown"
        zone = f" (time zone {self.time_zone})" if self.time_zone != "UTC" else ""
        return (
            f"camera {self.camera}: {self.images}, {plural(self.tracklets, 'tracklet')}, "
            f"{plural(self.boxes, 'box', 'boxes')}, {rate}, {times}{zone}; from {self.source}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dict(self.__dict__)


@dataclass(frozen=True, eq=False)
class ReadSource:
    """One source as it was read.

    Attributes:
        path: as given.
        records: one row a box, with times where they are known.
        cameras: what is known of each camera by name, from cameras.csv and options.
        summaries: a camera each.
        notes: sentences on what was not understood or assumed.
    """

    path: Path
    records: Records
    cameras: Mapping[str, Camera]
    summaries: tuple[CameraSummary, ...]
    notes: tuple[str, ...]


def read_source(
    source: Path | str,
    *,
    cameras: Path | None = None,
    options: CameraOptions | None = None,
    detect: Detect | None = None,
    progress: Progress | None = None,
    on_finding: Callable[[Finding], None],
) -> ReadSource:
    """Read one source and the times of its cameras.

    Args:
        source: anything that `open_dataset` reads, or a video; a video, or a folder of frames, without boxes needs
            `detect`.
        cameras: table of the cameras; None: `CAMERAS` in the source's folder or beside it, if there is one.
        options: what the user says of the cameras.
        detect: finds the vehicles.
        progress: listener of linking.
        on_finding: called with each wrong line.

    Raises:
        InputError: nothing is there, it is of no known kind, it holds no boxes, or the options do not fit it.
    """
    path, options = Path(source), options or CameraOptions()
    notes: list[str] = []
    findings: list[Finding] = []

    def found(finding: Finding) -> None:
        findings.append(finding)
        on_finding(finding)

    local: Collection[str] = ()
    if options.offset is not None and not math.isfinite(options.offset):
        raise InputError(f"--offset {options.offset}: is no number of seconds.")
    if options.time_zone and not is_zone(options.time_zone):
        raise InputError(f"--time-zone {options.time_zone}: is unknown; write an IANA name such as Europe/Berlin.")
    if detect is not None:
        records = detect(path)
    else:
        dataset = _open(path, found)
        notes += dataset.notes
        records, local = _all_images(dataset), dataset.local_times
    if not len(records):
        if findings:
            more = f" ({len(findings):,} problems; list them with `vreid check {path}`)" if len(findings) > 1 else ""
            raise InputError(f"{path}: holds no boxes that can be used{more}. {findings[0]}")
        raise InputError(f"{path}: holds no boxes of vehicles; run the tracker again, or name another source.")
    notes += _unused_videos(records, path)
    records = _with_cameras(records, path, options)
    table = cameras or _beside(path)
    known = read_cameras(table) if table else {}
    if table and not cameras:
        notes.append(f"cameras are described by {table}.")
    described = {name: _described(name, known, options) for name in _names(records)}
    unused = sorted(known.keys() - described.keys())
    if known and not known.keys() & described.keys():
        raise InputError(
            f"{table}: describes {', '.join(unused[:5])}, but the cameras of {path} are "
            f"{', '.join(sorted(described)[:5])}; give both the same names, or --camera NAME."
        )
    records = _linked(records, path, notes, progress)
    if options.name and local:
        local = [options.name]  # the only camera, renamed
    records = with_times(records, described, notes.append, local=local)
    return ReadSource(path, records, described, tuple(_summaries(records, described, path)), tuple(notes))


def _unused_videos(records: Records, path: Path) -> list[str]:
    """A note on the videos in the folder of a source for which it has no boxes."""
    used = {os.path.abspath(name) for name in set(records.path.tolist())}
    folders = {str(path.absolute())} | {os.path.dirname(name) for name in used if name.lower().endswith(VIDEOS)}
    if not path.is_dir():
        return []
    videos = sorted(str(one) for folder in folders for one in Path(folder).iterdir() if one.suffix.lower() in VIDEOS)
    unused = [os.path.relpath(video, path) for video in videos if video not in used]
    if not unused:
        return []
    more = ", ..." if len(unused) > 5 else ""
    return [f"no boxes were read for {plural(len(unused), 'video')}: {', '.join(unused[:5])}{more}."]


def _open(path: Path, on_finding: Callable[[Finding], None]) -> Dataset:
    try:
        return open_dataset(path, on_finding=on_finding)
    except InputError:
        _explain(path)
        raise


def _explain(path: Path) -> None:
    """Say what a source that could not be read lacks, if it is a video or a folder of no known format.

    Raises:
        InputError: it is one.
    """
    detector = "run a tracker first, or find vehicles with --detector (`vreid ingest --help`)"
    if path.is_file() and path.suffix.lower() in VIDEOS:
        raise InputError(
            f"{path}: is a video, but there are no boxes beside it ({path.stem}.txt of a tracker); {detector}."
        )
    if not path.is_dir() or recognise(path) is not None:
        return
    names = files_in(path)
    videos = [name for name in names if name.lower().endswith(VIDEOS)]
    if videos:
        raise InputError(
            f"{path}: holds {plural(len(videos), 'video')} without boxes ({Path(videos[0]).stem}.txt of a tracker "
            f"beside {videos[0]}); {detector} in {path}/*{Path(videos[0]).suffix}."
        )
    for name in [name for name in names if name.lower().endswith(".txt")][:20]:
        describe_text(path / name)
    if not names and not folders_in(path):
        raise InputError(f"{path}: is empty; name a folder of videos with their boxes, or of images.")


def _all_images(dataset: Dataset) -> Records:
    """All images of a data set, each once."""
    parts = [dataset.train]
    if dataset.query != dataset.gallery:
        keys = set(dataset.gallery.image_key.tolist())  # VeRi-776 has its queries in the gallery, too
        parts.append(dataset.query[[key not in keys for key in dataset.query.image_key.tolist()]])
    parts.append(dataset.gallery)
    return Records.concat([part for part in parts if len(part)])


def _linked(records: Records, path: Path, notes: list[str], progress: Progress | None) -> Records:
    """The records with tracklets for boxes in frames.

    Cameras without any are linked; where a tracker has run, the boxes that it has not followed are left out.
    """
    loose = ~records.tracklet.known & ~np.isnan(records.box[:, 0])
    tracked = np.isin(records.camera.codes, np.unique(records.camera.codes[records.tracklet.known]))
    if (ignored := loose & tracked).any():
        notes.append(f"{plural(int(ignored.sum()), 'box', 'boxes')} of {path} without a track id are not used.")
        records, loose = records[~ignored], loose[~ignored]
    if loose.any():
        from vreid.detection.linking import link_boxes

        records, single = link_boxes(records, progress=progress)
        notes.append(f"boxes of {path} were linked into tracklets; {single:,} that follow no other are not used.")
    return records


def _names(records: Records) -> list[str]:
    return sorted(set(records.camera.values.tolist()) - {""})


def _with_cameras(records: Records, path: Path, options: CameraOptions) -> Records:
    """The records with a camera each: that of the options, or that of the source, or the source's name."""
    names = _names(records)
    if options.name and len(names) > 1:
        raise InputError(
            f"--camera {options.name}: {path} has several cameras ({', '.join(names[:5])}); omit --camera, or ingest "
            "one camera at a time."
        )
    if names and not options.name:
        if not records.camera.known.all():
            missing = int((~records.camera.known).sum())
            raise InputError(
                f"{path}: {plural(missing, 'box', 'boxes')} of {len(records):,} are of no known camera, first "
                f"{records.path[int(np.argmin(records.camera.known))]}; name their camera in the source."
            )
        return records
    if not names and not options.name and path.is_dir():
        raise InputError(f"{path}: does not say which camera it is of; give --camera NAME.")
    name = options.name or path.name.partition(".")[0]
    old = names[0] if names else ""
    renamed = [
        "" if not text else f"{name}/{text.removeprefix(old + '/') if old else text}"
        for text in records.tracklet.values
    ]
    return records.with_(camera=[name] * len(records), tracklet=renamed)


def _described(name: str, known: Mapping[str, Camera], options: CameraOptions) -> Camera:
    """What is known of a camera: its line in cameras.csv, else the options."""
    camera = known.get(name, Camera(name))
    if options.offset is not None and not math.isfinite(options.offset):
        raise InputError(f"--offset {options.offset}: is no number of seconds.")
    if options.time_zone and not camera.zone:
        camera = replace(camera, zone=options.time_zone)
    if options.start and camera.start is None:
        camera = replace(camera, start=_start(options.start, camera.zone))
    if options.frame_rate and camera.frame_rate is None:
        camera = replace(camera, frame_rate=options.frame_rate)
    if options.offset is not None and not camera.offset:
        camera = replace(camera, offset=options.offset)
    return camera


def _start(text: str, zone: str) -> float:
    try:
        return utc_seconds(text, zone)
    except (ValueError, OverflowError) as error:
        raise InputError(f"--start {text}: {error}; write it as 2026-05-01T07:00:00.") from error


def _beside(path: Path) -> Path | None:
    folder = path if path.is_dir() else path.parent
    return folder / CAMERAS if (folder / CAMERAS).is_file() else None


def _summaries(records: Records, cameras: Mapping[str, Camera], path: Path) -> list[CameraSummary]:
    out = []
    for name, camera in cameras.items():
        own = records[records.camera.values == name]
        first = str(own.path[0])
        video = first.lower().endswith(VIDEOS)
        whole = bool(np.isnan(own.box[:, 0]).all())
        rate = video_facts(first).frame_rate if video else camera.frame_rate or sequence_rate(Path(first).parent)
        known = own.time[~np.isnan(own.time)]
        without = int((~own.tracklet.known).sum())
        out.append(
            CameraSummary(
                name,
                str(path),
                "video" if video else "crops" if whole else "frames",
                own.tracklet.distinct + without,
                len(own),
                rate,
                float(known.min()) if len(known) else None,
                float(known.max()) if len(known) else None,
                camera.zone or "UTC",
            )
        )
    return out


def _moment(seconds: float | None) -> str:
    return "" if seconds is None else clock(seconds, date=True)
