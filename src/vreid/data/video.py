"""Read video files with PyAV (extra `video`): facts, time stamps, and chosen frames as upright RGB.

Frames are numbered from 0 in the order in which they are shown, as OpenCV and FFmpeg count them. The number of a frame
follows from the time stamps of the container, so frames that cannot be decoded keep their numbers. Where time stamps
are missing, repeated or jump back, the frames that come out of the decoder are counted instead.
"""

from __future__ import annotations

import os
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vreid.errors import InputError
from vreid.files import reading

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

VIDEOS = (".avi", ".mp4", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg", ".ts", ".webm")
"""File name suffixes of videos, in lower case."""

_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpegts,mpeg,mpegvideo,m4v,h264,hevc,flv,asf,ogg,mxf,mjpeg,ivf,dav"
)
"""Containers that are opened: FFmpeg would also read text as a video, and playlists that name other files."""
_LONGEST_REORDERING = 64  # frames; codecs reorder up to 16, a larger distance is a jump of the time stamps
_UNEVEN = 0.1  # share of the usual interval by which the intervals of a constant frame rate may differ
_NO_START = datetime(2000, 1, 1).astimezone().timestamp()  # earlier dates come from recorders without a clock


@dataclass(frozen=True)
class VideoFacts:
    """What a video file says of itself.

    Attributes:
        frames: number of frames.
        frame_rate: mean number of frames a second.
        width, height: of the upright frame in pixels.
        start: creation time in the file in UTC seconds, None if there is none. Many recorders write the time at which
            the recording ended, or local time as UTC.
        variable: whether the intervals between frames differ by more than a tenth.
    """

    frames: int
    frame_rate: float
    width: int
    height: int
    start: float | None
    variable: bool


@dataclass(frozen=True, eq=False)
class _Index:
    """Frames and packets of a video stream. F frames, P packets; a packet holds a frame or is not shown.

    Attributes:
        seconds: (F,) of each frame since the first.
        stamps: (F,) ascending time stamps that identify the frames; None: they do not.
        number: (P,) of the packet's frame in presentation order, -1: not shown or unknown.
        key: (P,) whether decoding can start there.
    """

    seconds: NDArray[np.float64]
    stamps: NDArray[np.int64] | None
    number: NDArray[np.int64]
    key: NDArray[np.bool_]


def video_facts(path: Path | str) -> VideoFacts:
    """Return the facts of a video; the file is read once, one frame is decoded.

    Raises:
        InputError: the file is missing, no video, has no video stream, or holds no frame that can be decoded.
    """
    index = _index(path)
    seconds, everything = index.seconds, np.ones(len(index.number), bool)
    with _opened(path) as (container, stream):
        first = next(_decoded(container, stream, everything, everything), None)
        if first is None:
            raise InputError(f"{path}: none of its frames can be decoded; copy it again or convert it to MP4 (H.264).")
        height, width = _upright(first).shape[:2]
        rate = float(stream.average_rate or 0)
        start = _start(container, stream)
        tick = float(stream.time_base or 0)
    if len(seconds) > 1 and seconds[-1] > 0:
        rate = (len(seconds) - 1) / float(seconds[-1])
    intervals = np.diff(seconds)
    usual = np.median(intervals) if len(intervals) else 0.0
    variable = bool((np.abs(intervals - usual) > _UNEVEN * usual + tick).any())
    return VideoFacts(len(seconds), rate, width, height, start, variable)


def frame_times(path: Path | str) -> NDArray[np.float64]:
    """Return the time (F,) of each frame in seconds since the first, from the container's time stamps.

    Nothing is decoded. A file without usable time stamps gets those of its mean frame rate.

    Raises:
        InputError: the file is missing, no video, or has no video stream.
    """
    return _index(path).seconds


def read_frames(
    path: Path | str, wanted: Iterable[int], *, on_missing: Callable[[int], None] | None = None
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield the frames of these numbers as (number, upright RGB array (H, W, 3)), in one pass over the file.

    Only the groups of pictures that hold a wanted frame are decoded, in these only what the wanted frames need, and
    only wanted frames are converted. One frame is held at a time.

    Args:
        path: the video.
        wanted: ascending frame numbers.
        on_missing: called with the number of each wanted frame that does not exist or cannot be decoded.

    Raises:
        InputError: the file is missing, no video, or has no video stream. A damaged stream is no error: what can be
            decoded is.
    """
    rest = deque(int(number) for number in wanted)
    if any(low >= high for low, high in pairwise((-1, *rest))):
        raise ValueError("wanted: frame numbers must ascend from 0")
    report = on_missing or (lambda number: None)
    index = _index(path)
    beyond: deque[int] = deque()
    while index.stamps is not None and rest and rest[-1] >= len(index.stamps):
        beyond.appendleft(rest.pop())
    everything = np.ones(len(index.number), bool)
    shown = everything if index.stamps is None else np.isin(index.number, np.fromiter(rest, np.int64))
    needed = everything if index.stamps is None else _packets_for(index, shown)
    # A second time without skipping where a frame does not come after the key frame before it (gradual refresh).
    for feed in (everything,) if np.trim_zeros(needed, "b").all() else (needed, everything):
        with _opened(path) as (container, stream):
            for number, frame in _numbered(index, _decoded(container, stream, feed, shown)):
                if rest and rest[0] < number and feed is not everything:
                    break
                while rest and rest[0] < number:
                    report(rest.popleft())
                if rest and rest[0] == number:
                    yield rest.popleft(), _upright(frame)
                if not rest:
                    break
        if not rest:
            break
    for number in (*rest, *beyond):
        report(number)


def _numbered(index: _Index, frames: Iterator[VideoFrame]) -> Iterator[tuple[int, VideoFrame]]:
    """Number decoded frames by their time stamps, or count them."""
    if index.stamps is None:
        yield from enumerate(frames)
        return
    for frame in frames:
        number = int(np.searchsorted(index.stamps, frame.pts)) if frame.pts is not None else len(index.stamps)
        if number < len(index.stamps) and index.stamps[number] == frame.pts:
            yield number, frame


def _packets_for(index: _Index, shown: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(P,) packets to decode for the packets `shown`: from the last key frame that is shown no later, to the packet.

    Pictures that are stored after a key frame and shown before it may refer to the group before (open groups).
    """
    keys = np.flatnonzero(index.key & (index.number >= 0))
    keys = keys[np.argsort(index.number[keys])]
    places = np.flatnonzero(shown)
    before = np.searchsorted(index.number[keys], index.number[places], side="right") - 1
    starts = np.where(before >= 0, keys[before] if len(keys) else 0, 0)
    change = np.zeros(len(shown) + 1, np.int64)
    np.add.at(change, np.minimum(starts, places), 1)
    np.add.at(change, places + 1, -1)
    return np.cumsum(change[:-1]) > 0


def _decoded(
    container: InputContainer,
    stream: VideoStream,
    feed: NDArray[np.bool_],
    shown: NDArray[np.bool_],
) -> Iterator[VideoFrame]:
    """Decode the packets `feed` (P,) in their order, of others than `shown` (P,) only those that others refer to.

    Packets that cannot be decoded are left out.
    """
    from av import FFmpegError

    stream.thread_type = "AUTO"
    decoder = stream.codec_context
    fed = False
    for place, packet in enumerate(_packets(container, stream)):
        if not (place < len(feed) and feed[place]):
            if fed:  # what the decoder still holds comes before the gap
                yield from _drained(decoder)
            fed = False
            continue
        fed = True
        decoder.skip_frame = "DEFAULT" if shown[place] else "NONREF"
        try:
            yield from packet.decode()
        except FFmpegError:
            continue
    yield from _drained(decoder)


def _drained(decoder: Any) -> Iterator[VideoFrame]:
    from av import FFmpegError

    with suppress(FFmpegError):
        yield from decoder.decode(None)
    decoder.flush_buffers()


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Any]:
    """The packets of the stream, up to the place where the file cannot be read on."""
    from av import FFmpegError

    with suppress(FFmpegError):
        while True:
            try:
                yield from (packet for packet in container.demux(stream) if packet.size)
                return
            except IndexError:  # PyAV's, at a packet of a stream that begins in the middle of the file
                continue


def _index(path: Path | str) -> _Index:
    with reading(path) as file:
        facts = os.stat(file)
        if not facts.st_size:
            raise InputError(f"{path}: is empty (0 bytes); copy it again.")
    return _index_of(os.path.abspath(path), facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=2)  # facts, times and frames of a video are asked for one after the other
def _index_of(path: str, changed: int, size: int) -> _Index:
    """Read the packets of a video; `changed` and `size` tell versions of the file apart."""
    stamps, stored, keys, shown = array("q"), array("q"), array("b"), array("b")
    none = -(2**63)
    with _opened(path) as (container, stream):
        for packet in _packets(container, stream):
            stamps.append(none if packet.pts is None else packet.pts)
            stored.append(none if packet.dts is None else packet.dts)
            keys.append(packet.is_keyframe)
            shown.append(not packet.is_discard)
        tick = float(stream.time_base or 0)
        rate = float(stream.average_rate or stream.guessed_rate or 25)
    visible = np.frombuffer(shown, np.int8).astype(bool)
    presented, decoded = (np.frombuffer(column, np.int64)[visible] for column in (stamps, stored))
    order = np.argsort(presented, kind="stable")
    ascending = presented[order]
    number = np.full(len(visible), -1, np.int64)
    key = np.frombuffer(keys, np.int8).astype(bool)
    usable = bool((ascending != none).all() and (np.diff(ascending) > 0).all())
    if usable and (np.abs(order - np.arange(len(order))) <= _LONGEST_REORDERING).all():
        number[np.flatnonzero(visible)[order]] = np.arange(len(order))
        return _Index((ascending - ascending[:1]) * tick, ascending, number, key)
    if (decoded != none).all() and (np.diff(decoded) > 0).all():
        return _Index((decoded - decoded[:1]) * tick, None, number, key)
    return _Index(np.arange(len(order)) / rate, None, number, key)


@contextmanager
def _opened(path: Path | str) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a video: its container and its first video stream that is not a cover picture."""
    import av

    with reading(path):  # errors of the system, with its words
        Path(path).open("rb").close()
    try:
        container = av.open(
            f"file:{path}",
            options={"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"},
            metadata_errors="replace",
        )
    except av.FFmpegError as error:
        raise InputError(
            f"{path}: is not a video that can be read ({error.strerror}); copy it again or convert it to MP4."
        ) from error
    with container:
        streams = [one for one in container.streams.video if not one.disposition & one.disposition.attached_pic]
        if not streams:
            raise InputError(f"{path}: has no video stream; give the file with the images.")
        stream = streams[0]
        if stream.codec_context is None:
            raise InputError(
                f"{path}: this PyAV has no decoder for its codec; convert it: "
                f"ffmpeg -i {Path(path).name} -c:v libx264 converted.mp4"
            )
        yield container, stream


def _upright(frame: VideoFrame) -> NDArray[np.uint8]:
    """Convert to RGB, turned as the container says (quarter turns)."""
    turned = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90) % 4)
    return np.ascontiguousarray(turned)


def _start(container: InputContainer, stream: VideoStream) -> float | None:
    """UTC seconds of the creation time; the one with a time zone is better known."""
    for tags in (container.metadata, stream.metadata):
        for tag in ("com.apple.quicktime.creationdate", "creation_time"):
            try:
                moment = datetime.fromisoformat(tags[tag])
            except (KeyError, ValueError):
                continue
            if moment.tzinfo is not None and moment.timestamp() > _NO_START:
                return moment.timestamp()
    return None
