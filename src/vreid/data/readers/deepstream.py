"""DeepStream: KITTI-style dumps, a file a frame, and JSON messages of nvmsgconv, beside the video.

    kitti/00_000_000012.txt   one line a box (gie-kitti-output-dir, kitti-track-output-dir): app, stream, frame from 0
                              car 0.0 0 0.0 left top right bottom 0.0 ... confidence; with tracks: car 4873... 0.0 0 ...
    north.mp4                 in that folder or above it; of several streams, 00_000.mp4 is the first
    messages.json             minimal schema, one message a frame: {"id": 12, "@timestamp": ..., "sensorId": "north",
                              "objects": ["4873...|left|top|right|bottom|car|#|...", ...]}
                              full schema, one message a box: {"@timestamp": ..., "sensor": {"id": "north"}, "object":
                              {"id": "4873...", "vehicle": {...}, "bbox": {"topleftx": ...}}}, without frame numbers

Boxes are in pixels of nvstreammux, whose width and height must be those of the video. Time stamps are those of writing:
they are used where they run as fast as the video.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from vreid.data.dataset import Dataset
from vreid.data.findings import OnFinding, raise_finding
from vreid.data.readers.box_table import BoxTable
from vreid.data.readers.common import Listing, files_in, quoted, read_lines
from vreid.data.readers.detections import json_objects, start_of, track_id, video_of, videos_in
from vreid.data.recordings import recording_of, utc_seconds
from vreid.data.spellings import whole_number
from vreid.data.video import frame_times, video_facts
from vreid.errors import InputError

MESSAGES = (".json", ".jsonl", ".ndjson", ".txt", ".log")
_DUMP = re.compile(r"(\d{2}_\d{3})_(\d{6,})\.txt")
_KITTI = "type [id] truncated occluded alpha left top right bottom and seven or eight more numbers"
_FRACTION = re.compile(r"\d+\.\d+")
_NUMBERS = (14, 15)  # truncated, occluded, alpha, four corners, seven of the 3-D box, confidence in newer versions
_NO_CLASS = frozenset({"bbox", "location", "coordinate", "pose", "embedding", "mask", "segmentation"})
_TOLERANCE = 0.1


class _StreamBox(NamedTuple):
    line: int
    camera: str
    frame: int  # -1: not said
    time: float
    track: object
    corners: tuple[float, ...]
    kind: str


def find(source: Path) -> Path | None:
    """Return `source` if it is a file of messages, or a folder of dumps or of such files; else None."""
    if source.is_file():
        return source if _is_messages(source) else None
    return source if _dumps(source) or _messages(source) else None


def _dumps(folder: Path) -> list[Path]:
    return [folder / name for name in files_in(folder) if _DUMP.fullmatch(name)]


def _messages(folder: Path) -> list[Path]:
    if not videos_in(folder):
        return []
    return [folder / name for name in files_in(folder) if _is_messages(folder / name)]


def _is_messages(path: Path) -> bool:
    if path.suffix.lower() not in MESSAGES:
        return False
    start = start_of(path)
    return start.lstrip()[:1] in ("{", "[") and all(
        re.search(rf'"{name}"\s*:', start) for name in ("@timestamp", "objects?", "sensor(Id)?")
    )


def read_deepstream(source: Path | str, *, on_finding: OnFinding = raise_finding) -> Dataset:
    """Read dumps of a folder, or messages.

    Args:
        source: the folder or the file of messages.
        on_finding: called with each wrong line.

    Raises:
        InputError: no boxes, no video, or which video is meant or on which frame a box lies is not said.
    """
    source = Path(source)
    table = BoxTable(on_finding)
    dumps = _dumps(source) if source.is_dir() else []
    if dumps:
        _add_dumps(table, source, dumps)
    else:
        for path in [source] if source.is_file() else _messages(source):
            _add_messages(table, path)
    folder = source if source.is_dir() else source.parent
    return table.dataset(source.stem, folder, holds="KITTI-style dumps or JSON messages")


def _add_dumps(table: BoxTable, folder: Path, dumps: list[Path]) -> None:
    streams = sorted({path.name.rpartition("_")[0] for path in dumps})
    videos = videos_in(folder) or videos_in(folder.absolute().parent)
    of_stream = {video.stem: video for video in videos}
    if len(streams) == len(videos) == 1:
        of_stream = {streams[0]: videos[0]}
    lacking = [stream for stream in streams if stream not in of_stream]
    if lacking:
        raise InputError(
            f"{folder}: holds boxes of {len(streams)} streams beside {len(videos)} videos, and none is that of stream "
            f"{lacking[0]}; name its video {lacking[0]}.mp4, or put each stream into a folder with its video."
        )
    for path in dumps:
        stream, _, frame = path.stem.rpartition("_")
        listing = table.listing(path)
        for line, text in read_lines(path):
            words = text.split()
            try:
                truncated = next(place for place, word in enumerate(words) if _FRACTION.fullmatch(word))
                before, after = words[:truncated], [float(word) for word in words[truncated:]]
                if len(after) not in _NUMBERS or not before:
                    raise ValueError
            except (ValueError, StopIteration):
                listing.wrong(line, f"is {quoted(text)}", f"write {_KITTI}")
                continue
            track = before.pop() if len(before) > 1 and re.fullmatch(r"-?\d+", before[-1]) else None
            video = of_stream[stream]
            found = _StreamBox(line, "", int(frame), math.nan, track, tuple(after[3:7]), " ".join(before))
            _add(table, listing, found, video)


def _add_messages(table: BoxTable, path: Path) -> None:
    listing = table.listing(path)
    of_camera: dict[str, list[_StreamBox]] = defaultdict(list)
    for line, message in json_objects(listing):
        try:
            for found in _detections(line, message, listing):
                of_camera[found.camera].append(found)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            reason = f"lacks {error}" if isinstance(error, KeyError) else f"is not understood ({error})"
            listing.wrong(line, f"the message {reason}", "write messages of nvmsgconv")
    for camera, detections in of_camera.items():
        video = video_of(path, camera="" if len(of_camera) == 1 and len(videos_in(path.parent)) == 1 else camera)
        timed = _timed(table, path, detections, video)
        for one in detections:
            frame, time = timed(one)
            if frame < 0:
                listing.wrong(one.line, f"its time lies outside {video.name}", "check the start in the video's name")
                continue
            _add(table, listing, one._replace(frame=frame, time=time), video)


def _detections(line: int, message: dict[str, Any], listing: Listing) -> Iterator[_StreamBox]:
    try:
        time = utc_seconds(str(message["@timestamp"]))
    except ValueError as error:
        raise ValueError(f"{quoted(str(message['@timestamp']))} {error}") from error
    if "object" in message:
        one, sensor = message["object"], message["sensor"]
        names = [name for name, value in one.items() if isinstance(value, dict) and name not in _NO_CLASS]
        kind = names[0] if names else ""
        kind = str(one[kind].get("type") or kind) if kind.lower() == "vehicle" else kind
        box = {name.lower(): float(value) for name, value in one["bbox"].items()}
        corners = tuple(box[name] for name in ("topleftx", "toplefty", "bottomrightx", "bottomrighty"))
        yield _StreamBox(line, str(sensor["id"]), -1, time, one["id"], corners, kind)
        return
    frame = whole_number(str(message["id"]))
    for text in message["objects"]:
        parts = str(text).split("|")
        try:
            left, top, right, bottom = map(float, parts[1:5])
            kind = parts[5] if len(parts) > 5 else ""
            yield _StreamBox(line, str(message["sensorId"]), frame, time, parts[0], (left, top, right, bottom), kind)
        except ValueError:
            listing.wrong(line, f"object {quoted(str(text))} is no box", "write id|left|top|right|bottom|type")


def _timed(
    table: BoxTable, path: Path, found: list[_StreamBox], video: Path
) -> Callable[[_StreamBox], tuple[int, float]]:
    """Return a function that gives frame and time of a detection.

    Raises:
        InputError: there are no frame numbers, and the start of the video is not known.
    """
    if found[0].frame < 0:
        name = recording_of(video)
        if not name.start:
            raise InputError(
                f"{path}: is of the full schema, which has no frame numbers; write the minimal one (payload-type=1 of "
                f"nvmsgconv), or put the UTC start of the video into its name ({name.camera}_2026-05-01_07-00-00.mp4)."
            )
        start, times = utc_seconds(name.start), frame_times(video)

        def by_time(one: _StreamBox) -> tuple[int, float]:
            place = int(abs(times - (one.time - start)).argmin())
            return (place if abs(times[place] - (one.time - start)) < 1 else -1), one.time

        return by_time
    first, last = min(found, key=lambda one: one.frame), max(found, key=lambda one: one.frame)
    taken = (last.frame - first.frame) / video_facts(video).frame_rate
    runs = abs(last.time - first.time - taken) <= max(_TOLERANCE * taken, 1.0)
    if not runs:
        table.notes.append(
            f"time stamps of {path.name} cover {last.time - first.time:.1f} s of writing for {taken:.1f} s of "
            f"{video.name} and are not used; give the start of the video in cameras.csv."
        )
    return lambda one: (one.frame, one.time if runs else math.nan)


def _add(table: BoxTable, listing: Listing, found: _StreamBox, video: Path) -> None:
    recording = recording_of(video)
    camera = found.camera or recording.camera
    try:
        track = track_id(found.track)
    except ValueError as error:
        listing.wrong(found.line, f"id {quoted(str(found.track))} {error}", "write it with all digits")
        return
    table.add(
        listing,
        found.line,
        path=video,
        frame=found.frame,
        corners=found.corners,
        camera=camera,
        track=track,
        prefix=recording.prefix if camera == recording.camera else camera,
        time=found.time,
        vehicle_type=found.kind,
    )
