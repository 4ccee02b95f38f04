"""Tracklets with their best crops, from the boxes of any reader: each image or video is decoded once."""

from __future__ import annotations

import io
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vreid.data.images import cut, image_size, read_image
from vreid.data.records import Records
from vreid.data.video import VIDEOS, read_frames, video_facts
from vreid.errors import InputError
from vreid.store.crop_selection import (
    SMALLEST,
    CropCandidate,
    best_crops,
    choose_frames,
    exposure_and_sharpness,
    geometry_quality,
    view_of,
    visible_shares,
)
from vreid.store.interface import LARGEST_JPEG, NO_TIME

LONGEST_SIDE = 320
"""Longest side of a stored crop in pixels."""

_MARGIN = 0.03  # of the box's width and height on each side: models are trained on boxes that are not tight
_CANDIDATES = 3  # crops that are looked at for one that is kept
_QUALITIES = (92, 85, 75, 60, 45, 30)
_EXAMPLES = 3

OnSkip = Callable[[str, str], None]
"""Called with the reason and the file, frame or tracklet of everything that is skipped."""


@dataclass(frozen=True, eq=False)
class TrackletCrop:
    """A crop of a tracklet.

    Attributes:
        jpeg: the image, at most `LARGEST_JPEG` bytes, longest side `LONGEST_SIDE`.
        frame: number in the source, -1 unknown.
        time: UTC milliseconds, or NO_TIME.
        box: x1, y1, x2, y2 in pixels of the frame as the source gave it; None: the source was a crop.
        quality: in [0, 1], see `vreid.store.crop_selection`.
    """

    jpeg: bytes
    frame: int
    time: int
    box: tuple[float, float, float, float] | None
    quality: float


@dataclass(frozen=True, eq=False)
class TrackletCrops:
    """A tracklet and its best crops.

    Attributes:
        id: "camera/track".
        camera: "" unknown.
        start, end: UTC milliseconds of the first and last box, or NO_TIME for both.
        first_frame, last_frame: numbers in the source, -1 unknown.
        boxes: how many.
        vehicle_type: the most frequent one of its boxes, "" unknown.
        source: file of the best crop.
        crops: best first, at least one.
    """

    id: str
    camera: str
    start: int
    end: int
    first_frame: int
    last_frame: int
    boxes: int
    vehicle_type: str
    source: str
    crops: tuple[TrackletCrop, ...]


@dataclass
class Skipped:
    """What was skipped: the number and the first few examples by reason. Called as `OnSkip`."""

    count: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def __call__(self, reason: str, what: str) -> None:
        """Count `what` under `reason`."""
        self.count[reason] += 1
        if len(self.examples[reason]) < _EXAMPLES:
            self.examples[reason].append(what)


def with_tracklets(records: Records) -> Records:
    """Name the rows without a tracklet: each is one of its own, "camera/name of the image" or "camera/frame"."""
    names = records.tracklet.values.copy()
    taken = set(names.tolist())
    repeated: Counter[str] = Counter()
    for row in np.flatnonzero(~records.tracklet.known):
        camera, path = str(records.camera.values[row]), Path(records.path[row])
        video = path.suffix.lower() in VIDEOS
        name = f"{path.stem}-{records.frame[row]}" if video else path.stem
        name = base = f"{camera}/{name}" if camera else name
        while name in taken:
            repeated[base] += 1
            name = f"{base}-{repeated[base] + 1}"
        taken.add(name)
        names[row] = name
    return records.with_(tracklet=names)


def tracklets_of(
    records: Records,
    *,
    crops: int = 4,
    only: Collection[str] | None = None,
    on_skip: OnSkip | None = None,
    blur: Callable[[Image.Image], Image.Image] | None = None,
) -> Iterator[TrackletCrops]:
    """Yield the tracklets of `records` with their best crops, each as soon as its last frame has been read.

    Each video is read once, in the order of frames; of images, each is decoded once for all its boxes. Memory is
    bounded by the JPEG images of the tracklets that are in view at one time.

    Args:
        records: boxes in images or videos, or crops; rows without a tracklet become tracklets of one box.
        crops: number of crops of a tracklet.
        only: tracklets that are wanted; the boxes of the others still hide what is behind them. None: all.
        on_skip: called with each frame, box and tracklet that cannot be used; nothing that one holds stops the others.
        blur: applied to each crop before it is stored.
    """
    skip = on_skip or (lambda reason, what: None)
    records = with_tracklets(records)
    wanted = records.tracklet.values
    if only is not None:  # files without a wanted tracklet are not even opened
        used = set(records.path[[name in only for name in wanted]])
        records = records[[path in used for path in records.path]]
        wanted = records.tracklet.values
    boxes, sizes = _boxes_and_sizes(records, skip)
    quality = _geometry(records, boxes, sizes, skip)
    rows_of = [rows for rows in _by_tracklet(records) if only is None or wanted[rows[0]] in only]
    chosen = [rows[choose_frames(boxes[rows], quality[rows], crops * _CANDIDATES)] for rows in rows_of]
    for rows, few in zip(rows_of, chosen, strict=True):
        if not len(few):
            skip(f"tracklet without a readable box of at least {SMALLEST} pixels", _place(records, rows[0]))
    tracklet_of = {int(row): number for number, few in enumerate(chosen) for row in few}
    waiting = [len(few) for few in chosen]
    looked_at: dict[int, list[CropCandidate]] = defaultdict(list)
    for row, image in _images(records, np.array(list(tracklet_of), dtype=np.intp), skip):
        number = tracklet_of[row]
        rows = rows_of[number]
        waiting[number] -= 1
        if image is not None:
            box = None if np.isnan(records.box[row, 0]) else boxes[row]
            crop = image if box is None else _cut(image, box)
            if crop is None:
                skip("box outside its frame", _place(records, row))
            else:
                crop = crop if blur is None else blur(crop)
                view = view_of(boxes[row], sizes[row], float((rows == row).argmax()) / len(rows))
                exposure, sharpness = exposure_and_sharpness(crop)
                worth = float(quality[row]) * exposure
                looked_at[number].append(CropCandidate(encode_crop(crop), row, worth, sharpness, view))
        if waiting[number]:
            continue
        if found := best_crops(looked_at.pop(number, []), crops):
            yield _tracklet(records, rows, found)
        else:
            skip("tracklet without a readable image", _place(records, rows[0]))


def encode_crop(image: Image.Image) -> bytes:
    """Encode a crop as JPEG of at most `LARGEST_JPEG` bytes, its longest side at most `LONGEST_SIDE`."""
    side = LONGEST_SIDE
    while True:
        small = image.copy()
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        for quality in _QUALITIES:
            buffer = io.BytesIO()
            small.save(buffer, "JPEG", quality=quality)
            if buffer.tell() <= LARGEST_JPEG:
                return buffer.getvalue()
        side = side * 3 // 4


def _by_tracklet(records: Records) -> list[NDArray[np.intp]]:
    """Rows of each tracklet in the order of frames."""
    codes = records.tracklet.codes
    order = np.lexsort((np.arange(len(records)), records.frame, codes))
    return [rows for rows in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1) if len(rows)]


def _boxes_and_sizes(records: Records, skip: OnSkip) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Boxes (N, 4), those of crops are the whole image; width and height (N, 2) of the images, NaN: unreadable."""
    paths, code = np.unique(records.path, return_inverse=True)
    sizes = np.array([_size(str(path), skip) for path in paths], dtype=np.float64).reshape(-1, 2)[code]
    whole = np.concatenate([np.zeros_like(sizes), sizes], axis=1)
    return np.where(np.isnan(records.box[:, :1]), whole, records.box.astype(np.float64)), sizes


def _size(path: str, skip: OnSkip) -> tuple[float, float]:
    try:
        if _is_video(path):
            facts = video_facts(path)
            return facts.width, facts.height
        size = image_size(path)
        return size if size is not None else read_image(path).size  # the reader says what is wrong
    except InputError as error:
        skip("file that cannot be read", str(error))
        return np.nan, np.nan


def _is_video(path: str) -> bool:
    return path.lower().endswith(VIDEOS)


def _geometry(
    records: Records, boxes: NDArray[np.float64], sizes: NDArray[np.float64], skip: OnSkip
) -> NDArray[np.float64]:
    """(N,) quality of each box by its geometry and that of the others in its frame, 0: cannot be used."""
    readable, framed = ~np.isnan(sizes[:, 0]), ~np.isnan(records.box[:, 0])
    _, path = np.unique(records.path, return_inverse=True)
    video = np.array([_is_video(name) for name in records.path], dtype=bool)
    frame = np.where(video, records.frame, 0)
    inside = np.minimum(boxes[:, 2:], sizes) - np.maximum(boxes[:, :2], 0)
    outside = readable & framed & (inside.min(axis=1) <= 0)
    unnumbered = video & (records.frame < 0)
    for wrong, reason in ((outside, "box outside its frame"), (unnumbered, "box of a video without a frame number")):
        for row in np.flatnonzero(wrong):
            skip(reason, _place(records, row))
    visible = np.ones(len(records))
    order = np.lexsort((frame, path))
    changes = (np.diff(path[order]) != 0) | (np.diff(frame[order]) != 0)
    for rows in np.split(order, np.flatnonzero(changes) + 1):
        if len(rows) > 1:
            visible[rows] = visible_shares(boxes[rows])
    quality = geometry_quality(boxes, visible, np.where(framed[:, None], sizes, np.inf))
    return np.where(readable & ~outside & ~unnumbered, quality, 0)


def _images(records: Records, rows: NDArray[np.intp], skip: OnSkip) -> Iterator[tuple[int, Image.Image | None]]:
    """Yield each of `rows` with its image or frame, None if it cannot be read; each is decoded once.

    Crops come by tracklet, frames by camera and number, then videos, so that few tracklets are open at a time.
    """
    video = np.array([_is_video(str(records.path[row])) for row in rows], dtype=bool)
    crop = np.isnan(records.box[rows, 0]) & ~video
    _, path = np.unique(records.path, return_inverse=True)
    group = np.where(video, path[rows], np.where(crop, records.tracklet.codes[rows], records.camera.codes[rows]))
    frame = records.frame[rows]
    order = np.lexsort((path[rows], frame, group, video, ~crop))
    rows, video = rows[order], video[order]
    yield from _image_files(records, rows[~video], skip)
    for of_video in np.split(rows[video], np.flatnonzero(np.diff(path[rows[video]])) + 1):
        if len(of_video):
            yield from _video_frames(records, of_video, skip)


def _image_files(records: Records, rows: NDArray[np.intp], skip: OnSkip) -> Iterator[tuple[int, Image.Image | None]]:
    path, image = "", None
    for row in rows:
        if records.path[row] != path:
            path, image = records.path[row], None
            try:
                image = read_image(path)
            except InputError as error:
                skip("image that cannot be read", str(error))
        yield int(row), image


def _video_frames(records: Records, rows: NDArray[np.intp], skip: OnSkip) -> Iterator[tuple[int, Image.Image | None]]:
    """The rows of one video, in the order of frames."""
    path = str(records.path[rows[0]])
    waiting = deque(int(row) for row in rows)

    def missing(number: int) -> None:
        skip("frame that cannot be decoded", f"{path}, frame {number}")

    for number, pixels in read_frames(path, np.unique(records.frame[rows]).tolist(), on_missing=missing):
        image = Image.fromarray(pixels)
        while waiting and records.frame[waiting[0]] <= number:
            row = waiting.popleft()
            yield row, image if records.frame[row] == number else None
    for row in waiting:
        yield row, None


def _cut(image: Image.Image, box: NDArray[np.float64]) -> Image.Image | None:
    """The part of a frame in the box and its margin; None if they lie outside of it."""
    margin = _MARGIN * np.tile(box[2:] - box[:2], 2) * (-1, -1, 1, 1)
    try:
        return cut(image, (box + margin).tolist(), "")
    except InputError:
        return None


def _tracklet(records: Records, rows: NDArray[np.intp], found: Sequence[CropCandidate]) -> TrackletCrops:
    times, frames = records.time[rows], records.frame[rows]
    times, frames = times[~np.isnan(times)], frames[frames >= 0]
    types = Counter(kind for kind in records.vehicle_type.values[rows] if kind)
    return TrackletCrops(
        id=str(records.tracklet.values[rows[0]]),
        camera=str(records.camera.values[rows[0]]),
        start=_milliseconds(times.min()) if len(times) else NO_TIME,
        end=_milliseconds(times.max()) if len(times) else NO_TIME,
        first_frame=int(frames.min()) if len(frames) else -1,
        last_frame=int(frames.max()) if len(frames) else -1,
        boxes=len(rows),
        vehicle_type=types.most_common(1)[0][0] if types else "",
        source=str(records.path[found[0].row]),
        crops=tuple(_crop(records, candidate) for candidate in found),
    )


def _crop(records: Records, candidate: CropCandidate) -> TrackletCrop:
    row = candidate.row
    x1, y1, x2, y2 = (float(corner) for corner in records.box[row])
    time = float(records.time[row])
    return TrackletCrop(
        candidate.jpeg,
        int(records.frame[row]),
        NO_TIME if np.isnan(time) else _milliseconds(time),
        None if np.isnan(x1) else (x1, y1, x2, y2),
        candidate.quality,
    )


def _milliseconds(seconds: float) -> int:
    return round(float(seconds) * 1000)


def _place(records: Records, row: np.integer[Any] | int) -> str:
    """Name a row in a message: its tracklet, file and frame."""
    frame = f", frame {records.frame[row]}" if records.frame[row] >= 0 else ""
    return f"{records.path[row]}{frame}, tracklet {records.tracklet.values[row]}"
