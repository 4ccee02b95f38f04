"""Shared by the readers of detections in videos: JSON objects with their lines, ids, videos by name, frame numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vreid.data.readers.common import Listing, files_in
from vreid.data.recordings import recording_of
from vreid.data.spellings import NO_LABEL, whole_number
from vreid.data.video import VIDEOS, frame_times
from vreid.errors import InputError
from vreid.files import reading

SNIFFED = 1 << 16
"""Bytes at the start of a file by which its format is told."""
_BETWEEN = re.compile(r"[\s,\[\]]*")


def start_of(path: Path) -> str:
    """Return the text at the start of a file."""
    with reading(path), open(path, "rb") as file:
        return file.read(SNIFFED).decode("utf-8-sig", "replace")


def json_objects(listing: Listing) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line (from 1) and contents of each object of a JSON array, or of a file with one after the other.

    What is no object is reported, and reading goes on with the next line.

    Raises:
        InputError: the file cannot be read or is no UTF-8.
    """
    with reading(listing.path):
        data = listing.path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{listing.path}, line {line}: is not UTF-8 text; save the file as UTF-8.") from error
    decoder, place, line, counted = json.JSONDecoder(), 0, 1, 0
    while True:
        match = _BETWEEN.match(text, place)
        place = match.end() if match else place
        if place >= len(text):
            return
        line, counted = line + text.count("\n", counted, place), place
        fault = "is no JSON object"
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            value, fault = None, f"is not valid JSON ({str(error).partition(':')[0]})"
            place = text.find("\n", place) + 1 or len(text)
        if isinstance(value, dict):
            yield line, value
        else:
            listing.wrong(line, fault, "write one JSON object a line")


def track_id(value: object) -> str:
    """Return the id of a track as text; "" for none: empty, -1, nan, or 2^64 - 1.

    Raises:
        ValueError: a number that lost digits; the text is a clause.

    Example:
        >>> track_id(7.0), track_id("car-7"), track_id(-1), track_id(18446744073709551615), track_id(None)
        ('7', 'car-7', '', '', '')
    """
    text = "" if value is None else str(value).strip()
    if not text or text.lower() in NO_LABEL:
        return ""
    try:
        number = whole_number(text)
    except ValueError as error:
        if "lost digits" in str(error):
            raise
        return text
    return str(number) if number >= 0 else ""


def videos_in(folder: Path) -> list[Path]:
    """The videos in a folder by name."""
    return [folder / name for name in files_in(folder) if name.lower().endswith(VIDEOS)]


def video_of(table: Path, *, named: str = "", camera: str = "") -> Path:
    """Return the video to which boxes in `table` belong.

    Args:
        table: the file of boxes; its videos lie beside it.
        named: path or name of the video where the boxes give it.
        camera: of the boxes, where they give it.

    Raises:
        InputError: there is none, or which of several is not said.
    """
    if named:
        place = table.parent / named
        place = place if place.is_file() else table.parent / re.split(r"[/\\]", named)[-1]
        if place.is_file():
            return place
        raise InputError(f"{table}: its video {named} does not exist; put it beside the table or correct the name.")
    videos = videos_in(table.parent)
    if camera:
        of_camera = [video for video in videos if camera in (video.stem, recording_of(video).camera)]
        if len(of_camera) == 1:
            return of_camera[0]
        if of_camera or len(videos) > 1:
            found = "there are several" if of_camera else "there is none"
            raise InputError(
                f"{table}: of the videos of camera {camera}, {found} beside it; name the video {camera}{VIDEOS[1]}, or "
                "add a column video with the name of the file."
            )
    same = [video for video in videos if video.stem == table.stem]
    if same or len(videos) == 1:
        return (same or videos)[0]
    if not videos:
        raise InputError(f"{table}: its video is not beside it; put it there as {table.stem}{VIDEOS[1]}.")
    raise InputError(
        f"{table}: does not say to which of {len(videos)} videos its boxes belong; name it like its video "
        f"({videos[0].stem}{table.suffix}), or add a column video."
    )


def first_number(frames: Sequence[int], video: Path, column: str) -> tuple[int, str]:
    """Return the number of the first frame of a video as `frames` count, 0 or 1, and a note where it is not certain.

    They count from 0 if 0 occurs or the column is an index, from 1 if they reach the number of frames.
    """
    if 0 in frames or re.sub(r"[\s_-]", "", column).lower() in ("frameindex", "frameidx"):
        return 0, ""
    count = len(frame_times(video))
    if max(frames, default=0) == count:
        return 1, ""
    return 0, (
        f"frames of {video.name} in column {column} are taken to count from 0, although none is 0; if they count from "
        "1, subtract 1 and name the column frame_index."
    )
