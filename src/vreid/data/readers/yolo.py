"""Ultralytics (YOLO) labels: one text file per image or frame of a video, boxes relative to the image size.

    images/cam1_1.jpg   labels/cam1_1.txt        class cx cy w h [confidence] [id], a box a line
    images/val/...      labels/val/...           the same in sub-folders
    cam1/images/...     cam1/labels/...          or a folder a camera
    predict/cam1_1.jpg  predict/labels/...       or the images beside `labels`
    cam1.mp4            labels/cam1_1.txt        the first frame of a video beside `labels` (or beside the text files)

A camera is its folder, or what stands before the number of the frame in the image's name: cam1_1.jpg is frame 1 of
camera cam1. A tracklet is named by camera and id, "cam1/17"; vehicles are unknown, and all classes are read.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vreid.data.dataset import Dataset
from vreid.data.findings import Finding, OnFinding, Origin, raise_finding
from vreid.data.protocols import CROSS_CAMERA
from vreid.data.readers.common import (
    Listing,
    files_in,
    first_image,
    folders_in,
    images_in,
    passed_over,
    quoted,
    read_lines,
    shown,
    source_of,
)
from vreid.data.readers.detections import videos_in
from vreid.data.readers.frames import frame_size
from vreid.data.recordings import recording_of
from vreid.data.records import Records
from vreid.data.spellings import whole_number
from vreid.errors import InputError

LABELS, IMAGES = "labels", "images"
NO_CAMERAS = frozenset({"", "frame", "frames", "img", "image", "im", "pic", "photo", "f"})
"""Prefixes of frame names that do not name a camera."""
SPLITS = frozenset({"train", "val", "valid", "test"})
"""Sub-folders of `images` that name a split, not a camera."""

_SLACK = 0.01  # tolerance for boxes that cross the image border
_MEANING = "class cx cy w h [confidence] [id], the box relative to the image size"


class _Place(NamedTuple):
    images: Path
    labels: Path
    camera: str  # "": in the names


class _FrameName(NamedTuple):
    camera: str  # stem of the video, "": no name of a frame
    frame: int


class _Detection(NamedTuple):
    line: int
    kind: int
    shares: tuple[float, float, float, float]
    more: tuple[str, ...]  # confidence, id


def find(folder: Path) -> Path | None:
    """Return `folder` if it holds images and `labels` with a text file an image, or folders a camera that do."""
    return folder if folder.is_dir() and _places(folder) else None


def _places(folder: Path) -> list[_Place]:
    own = _place(folder, "")
    if own:
        return own
    return [place for name in folders_in(folder)[:1000] for place in _place(folder / name, name)]


def _place(folder: Path, camera: str) -> list[_Place]:
    labels = folder / LABELS
    if not labels.is_dir():
        stems = {video.stem for video in videos_in(folder)}
        framed = any(_in_video(name[:-4]).camera in stems for name in (_texts(folder) if stems else []))
        return [_Place(folder, folder, camera)] if framed else []
    images = folder / IMAGES if (folder / IMAGES).is_dir() else folder
    out = [_Place(images, labels, camera)] if (first_image(images) or videos_in(images)) and _texts(labels) else []
    for name in folders_in(labels):
        if (images / name).is_dir() and first_image(images / name) and _texts(labels / name):
            out.append(_Place(images / name, labels / name, camera or ("" if name.lower() in SPLITS else name)))
    return out


def _texts(folder: Path) -> list[str]:
    return [name for name in files_in(folder) if name.lower().endswith(".txt") and name != "classes.txt"]


def read_yolo(folder: Path | str, *, on_finding: OnFinding = raise_finding) -> Dataset:
    """Read the boxes of all images in the order of their names.

    Image keys are "cam1_1/17", where there is no id "cam1_1#cx,cy,w,h". Query and gallery are all boxes, each a query
    against all other cameras (cross-camera).

    Args:
        folder: the one with `labels` in it, or with folders of cameras.
        on_finding: called with each wrong line and each label file without an image.

    Raises:
        InputError: no boxes.
    """
    from vreid.data.images import image_size

    folder = Path(folder)
    notes: list[str] = []
    columns: dict[str, list[object]] = {
        name: [] for name in ("path", "image_key", "camera", "tracklet", "frame", "box")
    }
    files: list[str] = []
    lines: list[int] = []
    classes: Counter[int] = Counter()
    reported = without = named = 0

    def counted(finding: Finding) -> None:
        nonlocal reported
        reported += 1
        on_finding(finding)

    for place in _places(folder):
        file_names = images_in(place.images)
        image_of = {name.rpartition(".")[0]: name for name in file_names}
        videos = {video.stem: video for video in videos_in(place.images)}
        sizes = {stem: frame_size(video) for stem, video in videos.items()}
        notes += [] if videos else passed_over(place.images)
        texts = _texts(place.labels)
        if videos and place.labels == place.images:  # other text files may lie there
            texts = [name for name in texts if _in_video(name[:-4]).camera in videos]
        boxes = {name: _boxes(Listing(place.labels / name, counted)) for name in texts}
        sixth = _sixth([box for listed in boxes.values() for box in listed])
        without += len(image_of.keys() - {name.rpartition(".")[0] for name in boxes})
        counted_from = {stem: 0 if f"{stem}_0.txt" in boxes else 1 for stem in videos}
        base = "" if place.labels == folder / LABELS else place.images.relative_to(folder).as_posix() + "/"
        for name, listed in boxes.items():
            listing, stem = Listing(place.labels / name, counted), name.rpartition(".")[0]
            image, video = place.images / image_of.get(stem, stem), _in_video(stem)
            of_video = stem not in image_of and video.camera in videos
            size = image_size(image) if stem in image_of else sizes.get(video.camera)
            if size is None:
                what = "cannot be read" if stem in image_of or of_video else f"is not in {place.images.name}"
                if listed:
                    finding = f"its image {shown(image_of.get(stem, stem))} {what}, so its boxes are not used"
                    counted(Finding("label file without image", str(listing.path), finding, "put the image there"))
                continue
            camera, frame = _named(stem)
            named += bool(camera) and not place.camera and not of_video
            camera = prefix = place.camera or camera
            key_of_image = f"{base}{stem}"
            if of_video:
                image, frame = videos[video.camera], video.frame - counted_from[video.camera]
                recording = recording_of(image)
                camera = place.camera or recording.camera
                prefix = place.camera or recording.prefix
                key_of_image = f"{prefix}/{frame:06d}"
            seen: dict[str, int] = {}
            for box in listed:
                track = _track(box, sixth, listing)
                if track is None:
                    continue
                key = f"/{track}" if track >= 0 else "#" + ",".join(f"{share:g}" for share in box.shares)
                if seen.setdefault(key, box.line) != box.line:
                    listing.wrong(
                        box.line, f"this id or box is already in line {seen[key]}", "remove one", "duplicate entry"
                    )
                    continue
                classes[box.kind] += 1
                cx, cy, w, h = (share * side for share, side in zip(box.shares, size * 2, strict=True))
                columns["path"].append(image)
                columns["image_key"].append(f"{key_of_image}{key}")
                columns["camera"].append(camera)
                columns["tracklet"].append((f"{prefix}/{track}" if prefix else str(track)) if track >= 0 else "")
                columns["frame"].append(frame)
                columns["box"].append((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2))
                files.append(str(listing.path))
                lines.append(box.line)
    if not files and not reported:
        raise InputError(f"{folder}: {LABELS} holds no boxes; write a line for each: {_MEANING}.")
    records = Records.of(**{**columns, "box": columns["box"] or None}, split=["gallery"] * len(files))  # type: ignore[arg-type]
    counts = ", ".join(f"{kind} ({count:,} boxes)" for kind, count in sorted(classes.items()))
    notes += [f"boxes of all classes are read: {counts}."] if len(classes) > 1 else []
    notes += [f"images without a file in {LABELS}, which hold no boxes: {without:,}."] if without else []
    notes += ["cameras and frames are taken from the image names: cam1_2.jpg is frame 2 of cam1."] if named else []
    if not records.camera.known.any():
        notes.append("no image has a camera, so cross-camera search is not possible.")
    elif records.camera.distinct == 1:
        notes.append("there is one camera only, so cross-camera search is not possible.")
    origin = Origin(np.array(files, dtype=object), np.array(lines, dtype=np.int64))
    return Dataset(
        folder.absolute().name,
        records[:0],
        records,
        records,
        CROSS_CAMERA,
        source_of(folder),
        tuple(notes),
        {"query": origin, "gallery": origin},
    )


def _in_video(stem: str) -> _FrameName:
    """Video and frame in the name of a text file, "cam1_12"."""
    match = re.fullmatch(r"(.+)_([0-9]{1,18})", stem)
    return _FrameName(match[1], int(match[2])) if match else _FrameName("", -1)


def _named(stem: str) -> tuple[str, int]:
    """Camera and frame in the name of an image; "" and -1 where there are none."""
    match = re.fullmatch(r"(.*?)[\s_.-]*([0-9]{1,18})", stem)
    if match is None:
        return "", -1
    return ("" if match[1].lower() in NO_CAMERAS else match[1]), int(match[2])


def _boxes(listing: Listing) -> list[_Detection]:
    """Read the boxes of an image; wrong lines are reported and skipped."""
    out = []
    for line, text in read_lines(listing.path):
        words = re.split(r"[,\s]+", text)
        try:
            kind, shares = whole_number(words[0]), tuple(float(word) for word in words[1:5])
            numbers = [float(word) for word in words]
        except ValueError:
            listing.wrong(line, f"is {quoted(text)}", f"write {_MEANING}")
            continue
        if len(words) > 7:
            listing.wrong(
                line, f"has {len(words)} numbers: a polygon or a rotated box", f"export axis-aligned boxes: {_MEANING}"
            )
        elif len(words) < 5 or not np.isfinite(numbers).all() or kind < 0:
            listing.wrong(line, f"is {quoted(text)}", f"write {_MEANING}")
        elif not all(-_SLACK <= share <= 1 + _SLACK for share in shares):
            listing.wrong(
                line, f"is {quoted(text)}, but box coordinates must be relative to the image size", f"write {_MEANING}"
            )
        elif not (shares[2] > 0 and shares[3] > 0):
            listing.wrong(line, f"gives a box of {shares[2]:g} x {shares[3]:g}", "correct it")
        else:
            out.append(_Detection(line, kind, shares, tuple(words[5:])))  # type: ignore[arg-type]
    return out


def _sixth(boxes: list[_Detection]) -> str:
    """Decide whether the sixth of six numbers is an id (all integers) or a confidence."""
    sixth = [float(box.more[0]) for box in boxes if len(box.more) == 1]
    return "id" if all(value == int(value) for value in sixth) else "confidence"


def _track(box: _Detection, sixth: str, listing: Listing) -> int | None:
    """Return the id of a box, -1 if it has none; None and a finding if invalid."""
    if not box.more or (len(box.more) == 1 and sixth == "confidence" and 0 <= float(box.more[0]) <= 1):
        return -1
    text = box.more[-1]
    try:
        return max(whole_number(text), -1)
    except ValueError as error:
        listing.wrong(box.line, f"id {shown(text)} {error}", "write the id with all its digits")
        return None
