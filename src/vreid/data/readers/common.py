"""Shared by the readers: XML label files, image lists, file names, angles."""

from __future__ import annotations

import codecs
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vreid.data.findings import Finding, OnFinding, Origin, raise_finding
from vreid.errors import InputError
from vreid.files import read_json, read_lines_bounded, system_error

WRAPPERS = ("AIC20_track2", "AIC21")
"""Wrapper folders: they hold nothing but the data set's folder."""
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")
OTHERS = frozenset(
    {
        *(".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".psd", ".svg", ".eps", ".pdf", ".ppm", ".pgm", ".tga"),
        *(".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".exr", ".hdr", ".ico", ".pcx"),
        *(".avi", ".mp4", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg", ".webm", ".zip", ".tar", ".gz", ".7z", ".rar"),
    }
)
"""Extensions of image and video formats that are not read."""
NO_FOLDERS = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"})
"""Folders created by operating systems."""

LONGEST_NAME = 1000
"""Maximum length of a path in a list; longer ones mean a missing quotation mark or line end."""

_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")
_LINE_END = re.compile(r"\r\n|\n|\r")  # str.splitlines knows more of them than editors count
_CAMERA = re.compile(r"c?(\d{1,9})", re.IGNORECASE)


@dataclass(frozen=True)
class Listing:
    """A label file or list being read, the unit of its rows, and the callback for findings."""

    path: Path
    on_finding: OnFinding = raise_finding
    unit: str = "line"

    def where(self, row: int) -> str:
        """File and row (1-based)."""
        return f"{self.path}, {self.unit} {row}"

    def wrong(self, row: int, message: str, fix: str, check: str = "label") -> None:
        """Report a wrong row; the caller continues without the row or the value."""
        self.on_finding(Finding(check, self.where(row), message, fix))

    def origin(self, rows: ArrayLike) -> Origin:
        """Return the `Origin` of the images: one row number each (1-based, 0: not listed)."""
        return Origin(str(self.path), np.asarray(rows, dtype=np.int64), self.unit)


def quoted(text: str, limit: int = 60) -> str:
    """Quote `text` from a file for a message: on one line, shortened to `limit` characters."""
    return repr(text if len(text) <= limit else f"{text[: limit - 3]}...")


def shown(text: str, limit: int = 60) -> str:
    """Like `quoted`, without quotes, for names."""
    return quoted(text, limit)[1:-1]


def decode(path: Path, *fallbacks: str) -> str:
    """Decode a text file: UTF-16 with byte-order mark, UTF-8 with or without one, else a fallback encoding.

    Raises:
        InputError: the file cannot be read or decoded; the sentence names the line.
    """
    data = read_lines_bounded(path)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        fallbacks = ("utf-16",)
    else:
        fallbacks = ("utf-8-sig", *fallbacks)
    for encoding in fallbacks:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError as error:
            wrong = error
            continue
        if "\0" in text:  # no valid name or number has one, and C libraries stop reading names there
            line = text.count("\n", 0, text.index("\0")) + 1
            raise InputError(f"{path}, line {line}: holds a NUL character; save the file as plain text.")
        return text
    line = data.count(b"\n", 0, wrong.start) + 1
    raise InputError(f"{path}, line {line}: is not {' or '.join(fallbacks)} text; save the file as UTF-8.") from wrong


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Return number (1-based) and text, stripped of blanks, of each line that is not empty."""
    lines = enumerate(_LINE_END.split(decode(path, "gb18030")), start=1)
    return [(number, stripped) for number, text in lines if (stripped := text.strip())]


def read_items(path: Path) -> list[dict[str, str]]:
    """Return the attributes of each `Item` of a label file `TrainingImages / Items / Item`, stripped of blanks.

    Distributed files declare gb2312, which the XML parser rejects, so the declaration is dropped and the bytes are
    decoded here. `Items number=...` is not read: it may be "-".

    Raises:
        InputError: no such file, broken XML, or no Item in it.
    """
    # A mark at the very start is part of no document; a declaration elsewhere is broken XML and reported as such.
    text = _DECLARATION.sub("", decode(path, "gb18030"), count=1)
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise InputError(f"{path}, line {error.position[0]}: broken XML ({error}); unpack it again.") from error
    items = [{name: value.strip() for name, value in item.attrib.items()} for item in root.iter("Item")]
    if not items:
        raise InputError(f"{path}: holds no Item; list the images as <Item imageName=... />.")
    return items


def attribute(item: dict[str, str], name: str, listing: Listing, number: int) -> str | None:
    """Return an attribute of Item `number` (1-based); None and a finding if absent."""
    value = item.get(name)
    if not value:
        listing.wrong(number, f"has no {name}", "add it or remove the Item")
        return None
    return value


def camera_name(text: str | None, listing: Listing, number: int, name: str = "cameraID") -> str | None:
    """Return "c001" for "c001", "c1", "1" and "001"; None and a finding for anything else but None."""
    if text is None:
        return None
    match = _CAMERA.fullmatch(text)
    if match is None:
        listing.wrong(number, f"{name} {quoted(text)} is not like c001", "correct it")
        return None
    return f"c{int(match[1]):03d}"


def images_in(folder: Path) -> list[str]:
    """Names of the image files in a folder in natural order ("img2" before "img10"); hidden files are left out."""
    return sorted(_images_in(folder), key=natural)


def _images_in(folder: Path) -> list[str]:
    return [entry.name for entry in _entries(folder) if entry.name.lower().endswith(IMAGE_SUFFIXES) and entry.is_file()]


def numbered(names: Sequence[str], folder: Path) -> dict[int, str]:
    """Map frame numbers to file names: "000001.jpg", "frame_0001.png" and "cam1_1.jpg" are frame 1.

    Of several numbers in a name, the last one that distinguishes the frames counts; names without a number are skipped.

    Raises:
        InputError: two frames have one number.
    """
    found = [(groups[::-1], name) for name in names if (groups := re.findall("[0-9]+", name.rpartition(".")[0]))]
    depth = min((len(groups) for groups, _ in found), default=0)
    for place in range(depth):
        out = {int(groups[place][-18:]): name for groups, name in found}
        if len(out) == len(found):
            return out
    if not found:
        return {}
    first: dict[int, str] = {}
    for groups, name in found:
        if (other := first.setdefault(int(groups[0][-18:]), name)) != name:
            raise InputError(f"{folder}: {other} and {name} have one frame number; name frames 000001.jpg and so on.")
    return first


def files_in(folder: Path) -> list[str]:
    """Names of the files in a folder in natural order, without hidden ones; none where there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted((entry.name for entry in _entries(folder) if entry.is_file()), key=natural)


def first_image(folder: Path) -> str | None:
    """Return the name of any image among the first entries of `folder`; None if there is none or no such folder."""
    if not folder.is_dir():
        return None
    with os.scandir(folder) as entries:
        return next(
            (e.name for e in entries if e.name.lower().endswith(IMAGE_SUFFIXES) and not e.name.startswith(".")), None
        )


def find_below(folder: Path, places: Iterable[str], holds: Callable[[Path], object]) -> Path | None:
    """Return the first of `places` below `folder` that `holds` the data set, or None."""
    return next((place for place in (folder / name for name in places) if holds(place)), None)


def folders_in(folder: Path) -> list[str]:
    """Names of the sub-folders in natural order, without hidden ones and `NO_FOLDERS`."""
    names = (entry.name for entry in _entries(folder) if entry.is_dir())
    return sorted((name for name in names if name.lower() not in NO_FOLDERS), key=natural)


def passed_over(*folders: Path) -> list[str]:
    """Count the files in `folders` in image and video formats that are not read."""
    found = [folder / name for folder in folders for name in files_in(folder) if _suffix(name) in OTHERS]
    if not found:
        return []
    kinds = ", ".join(sorted({_suffix(path.name) for path in found}))
    files = "1 file is no image" if len(found) == 1 else f"{len(found):,} files are no images"
    return [f"{files} that can be read ({kinds}), first {shown(str(found[0]), 2000)}; convert to JPEG or PNG."]


def _suffix(name: str) -> str:
    return "".join(name.lower().rpartition(".")[1:])


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise system_error(folder, "listed", error) from error


def natural(name: str) -> tuple[tuple[tuple[int, str], ...], str]:
    """Sort key that compares digits as numbers; the name itself decides between "1" and "01"."""
    parts = re.split(r"([0-9]+)", name)
    numbers = (part.lstrip("0") if place % 2 else part for place, part in enumerate(parts))
    return tuple((len(part) if place % 2 else 0, part) for place, part in enumerate(numbers)), name


def degrees(values: ArrayLike) -> NDArray[np.float32]:
    """Reduce angles to float32 in [0, 360), including values that round to 360."""
    turned = np.mod(np.asarray(values, dtype=np.float64), 360).astype(np.float32)
    turned[turned >= 360] = 0
    return turned


def source_of(folder: Path) -> dict[str, str | int]:
    """Return the scalar values of the simulator.json that belongs to a data set, if there is one."""
    path = companion(folder, "simulator.json")
    if path is None:
        return {}
    reported = read_json(path)
    if not isinstance(reported, dict):
        raise InputError(f"{path}: should hold a JSON object; simulate the data again.")
    found = {str(key): value for key, value in reported.items() if isinstance(value, (str, int))}
    if isinstance(reported.get("preset"), dict) and isinstance(reported["preset"].get("name"), str):
        found["preset"] = reported["preset"]["name"]
    return found


def companion(folder: Path, name: str) -> Path | None:
    """Find the file `name` that belongs to the data set in `folder`: inside, beside it, or beside its `WRAPPERS`."""
    places = [folder, folder.absolute().parent]
    if places[-1].name in WRAPPERS:
        places.append(places[-1].parent)
    return next((place / name for place in places if (place / name).is_file()), None)


class ImagesAbsent(InputError):
    """None of the listed images exists."""


Part = TypeVar("Part")


def read_splits(
    read: Callable[[str], Part], splits: Iterable[str], empty: Part, count: Callable[[Part], int], notes: list[str]
) -> dict[str, Part]:
    """Read all splits; either the training images or the test images may be absent.

    Args:
        read: reads a split, "train", "query" or "gallery"; raises `ImagesAbsent` where none of its images is there.
        splits: their names.
        empty: value of a skipped split.
        count: number of images of a split that was read.
        notes: skipped splits are appended.

    Raises:
        ImagesAbsent: no images, or only some of the test images exist.
    """
    out: dict[str, Part] = {}
    absent: dict[str, ImagesAbsent] = {}
    for split in splits:
        try:
            out[split] = read(split)
        except ImagesAbsent as error:
            out[split], absent[split] = empty, error
    there = {split for split, part in out.items() if count(part)}
    if absent and not (there and (absent.keys() == {"train"} or there == {"train"})):
        raise next(iter(absent.values()))
    left = "training" if "train" in absent else "the test"
    notes += [f"{left} is skipped: {error}" for error in list(absent.values())[:1]]
    return out


def compare_with_folder(listed: Sequence[str], folder: Path, labels: Path) -> tuple[list[str], list[str]]:
    """Compare names in a label file with the images in their folder.

    Returns:
        images that are in the folder but not listed, and notes about both kinds of difference.

    Raises:
        ImagesAbsent: no image is there.
        InputError: there are some, but not one of those listed.
    """
    there = set(_images_in(folder)) if folder.is_dir() else set()
    missing = sorted(set(listed) - there)
    unlisted = sorted(there - set(listed), key=natural)
    if listed and len(missing) == len(set(listed)):
        kind = InputError if there else ImagesAbsent
        raise kind(f"{folder}: has none of the {len(missing):,} images in {labels.name}; unpack the images.")
    notes = []
    if missing:
        counted = f"{len(missing):,} of {len(set(listed)):,}"
        notes.append(f"missing in {folder.name}: {counted} images in {labels.name}, first {shown(missing[0])}.")
    if unlisted:
        counted = f"{len(unlisted):,} of {len(there):,}"
        notes.append(f"not listed in {labels.name}: {counted} images in {folder.name}, first {shown(unlisted[0])}.")
    return unlisted, notes
