"""Detect vehicles in videos and folders of frames."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.data.findings import OnFinding, raise_finding
from vreid.data.images import read_image
from vreid.data.readers.box_lines import Box, read_boxes
from vreid.data.readers.common import Listing, images_in, numbered
from vreid.data.readers.tracker import FRAMES
from vreid.data.records import Records
from vreid.data.video import VIDEOS, read_frames, video_facts
from vreid.detection.detected_boxes import Detector
from vreid.detection.detectors import VEHICLES, CommandDetector
from vreid.errors import InputError
from vreid.progress import Progress, job


@dataclass
class _FoundBoxes:
    """Columns of the records found so far."""

    path: list[str] = field(default_factory=list)
    frame: list[int] = field(default_factory=list)
    box: list[tuple[float, ...]] = field(default_factory=list)
    track: list[int] = field(default_factory=list)
    vehicle_type: list[str] = field(default_factory=list)

    def add(self, path: str, frame: int, box: tuple[float, ...], track: int, vehicle_type: str) -> None:
        self.path.append(path)
        self.frame.append(frame)
        self.box.append(box)
        self.track.append(track)
        self.vehicle_type.append(vehicle_type)


def detect(
    path: Path | str,
    detector: Detector | CommandDetector,
    *,
    camera: str | None = None,
    every: int = 1,
    vehicles: Collection[str] = VEHICLES,
    on_missing: Callable[[str], None] | None = None,
    on_finding: OnFinding = raise_finding,
    progress: Progress | None = None,
) -> Records:
    """Detect the vehicles in a video or a folder of frames; they have no tracklets unless the detector tracks.

    Args:
        path: a video, or a folder with the frames as images (in it, or in its img1).
        detector: see `vreid.detection.detectors.load_detector`.
        camera: its name; None: the name of the file or folder.
        every: detect in every so many frames.
        vehicles: class names that are kept, where the detector names classes.
        on_missing: called with the place of each frame that cannot be read.
        on_finding: called with each line of a command's output that is wrong.
        progress: told of every frame.

    Raises:
        InputError: there is no such video or folder, or the detector fails or gives no boxes.
    """
    path = Path(path)
    video = path.is_file() and path.name.lower().endswith(VIDEOS)
    if not (video or path.is_dir()):
        raise InputError(f"{path}: is neither a video nor a folder of frames; check the name.")
    camera = camera or (path.stem if video else path.absolute().name)
    report = on_missing or (lambda place: None)
    files = {} if video else _frame_files(path)
    rows = _FoundBoxes()
    if isinstance(detector, CommandDetector):
        boxes = _run(detector, path, on_finding)
        first = min(1, *(box.frame for box in boxes)) if video and boxes else 0  # MOTChallenge counts from 1
        for box in boxes:
            frame = box.frame - first
            if video or frame in files:
                rows.add(str(path) if video else files[frame], frame, box.corners, box.track, box.vehicle_type)
            else:
                report(f"{path}, frame {frame}")
        return _records(rows, camera)
    total = len(range(0, video_facts(path).frames if video else len(files), every))
    with job(progress, f"detect vehicles in {path.name}", total) as listener:
        for file, frame, pixels in _read(path, files, every, report):
            for corners, track, name in _found(detector, pixels, f"{file}, frame {frame}"):
                if not name or name.split()[-1] in vehicles:
                    rows.add(file, frame, corners, track, name)
            listener.advance(1)
    return _records(rows, camera)


def _frame_files(folder: Path) -> dict[int, str]:
    """Path of each frame by its number."""
    place = folder / FRAMES if (folder / FRAMES).is_dir() else folder
    files = {number: f"{place}/{name}" for number, name in sorted(numbered(images_in(place), place).items())}
    if not files:
        raise InputError(f"{place}: holds no frames (000001.jpg and so on); give a video or a folder of frames.")
    return files


def _read(
    path: Path, files: dict[int, str], every: int, report: Callable[[str], None]
) -> Iterator[tuple[str, int, NDArray[np.uint8]]]:
    def missing(number: int) -> None:
        report(f"{path}, frame {number}")

    if not files:
        wanted = range(0, video_facts(path).frames, every)
        yield from ((str(path), number, frame) for number, frame in read_frames(path, wanted, on_missing=missing))
        return
    for number in list(files)[::every]:
        try:
            image = read_image(files[number])
        except InputError as error:
            report(str(error))
            continue
        yield files[number], number, np.asarray(image)


def _found(detector: Detector, pixels: NDArray[np.uint8], place: str) -> Iterator[tuple[tuple[float, ...], int, str]]:
    """Corners, track (-1: none) and class name of the boxes in a frame; empty boxes are left out."""
    try:
        found: Any = detector(pixels)
        boxes = np.asarray(found.xyxy, dtype=np.float64).reshape(-1, 4)
        tracks = np.full(len(boxes), -1) if getattr(found, "tracker_id", None) is None else found.tracker_id
        names = getattr(found, "data", {}).get("class_name", [""] * len(boxes))
        rows = list(zip(boxes.tolist(), map(int, tracks), map(str, names), strict=True))
    except InputError:
        raise
    except Exception as error:  # a program of the user's
        raise InputError(
            f"{place}: the detector failed ({type(error).__name__}: {error}); it must return boxes as "
            "supervision.Detections does."
        ) from error
    for corners, track, name in rows:
        if corners[2] > corners[0] and corners[3] > corners[1] and np.isfinite(corners).all():
            yield tuple(corners), track, name.lower()


def _run(detector: CommandDetector, path: Path, on_finding: OnFinding) -> list[Box]:
    """Run a program on a video and read the boxes that it prints."""
    given = [argument.replace("{}", str(path)) for argument in detector.arguments]
    command = given if any("{}" in argument for argument in detector.arguments) else [*given, str(path)]
    with tempfile.TemporaryDirectory() as folder:
        printed = Path(folder) / f"output of {Path(command[0]).name}.txt"
        try:
            with printed.open("wb") as output:
                done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        except OSError as error:
            raise InputError(f"--detector: {command[0]} cannot be run ({error.strerror}); check the name.") from error
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it says nothing"]
            raise InputError(f"--detector: {command[0]} ended with {done.returncode} on {path} ({said[-1]}).")
        return list(read_boxes(Listing(printed, on_finding), [], "mot"))


def _records(rows: _FoundBoxes, camera: str) -> Records:
    keys = [
        f"{camera}/{frame:06d}" + (f"/{track}" if track >= 0 else "#" + ",".join(f"{side:g}" for side in box))
        for frame, box, track in zip(rows.frame, rows.box, rows.track, strict=True)
    ]
    first: dict[str, int] = {}
    for row, key in enumerate(keys):
        first.setdefault(key, row)
    kept = sorted(first.values())  # a box that is given twice is one
    records = Records.of(
        path=[rows.path[row] for row in kept],
        image_key=[keys[row] for row in kept],
        camera=[camera] * len(kept),
        tracklet=[f"{camera}/{rows.track[row]}" if rows.track[row] >= 0 else None for row in kept],
        frame=[rows.frame[row] for row in kept],
        vehicle_type=[rows.vehicle_type[row] for row in kept],
        box=[rows.box[row] for row in kept] or None,
    )
    return records[np.argsort(records.frame, kind="stable")]
