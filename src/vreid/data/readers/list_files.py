"""Plain-text image lists: one image per line, its name and labels separated by blanks."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from vreid.data.findings import Origin
from vreid.data.readers.common import (
    IMAGE_SUFFIXES,
    LONGEST_NAME,
    ImagesAbsent,
    Listing,
    files_in,
    quoted,
    read_lines,
    shown,
)
from vreid.errors import InputError


def read_list(listing: Listing, *columns: str) -> tuple[tuple[list[str], ...], Origin]:
    """Read a list into columns; return them with the origin of each row.

    Args:
        listing: the file.
        columns: names of the columns, the image name first. Lines with another number of words and duplicate images
            (with or without extension) are reported and skipped.
    """
    rows, numbers, line_of = [], [], dict[str, int]()
    for number, text in read_lines(listing.path):
        words = text.split()
        if len(words) != len(columns) or len(words[0]) > LONGEST_NAME:
            listing.wrong(number, f"is {quoted(text)}", f"write {', '.join(columns)} with blanks between")
            continue
        known = line_of.setdefault(key_of(words[0]), number)
        if known != number:
            listing.wrong(
                number, f"image {shown(words[0])} is already in line {known}", "remove one", "duplicate entry"
            )
        else:
            rows.append(words)
            numbers.append(number)
    return tuple([row[place] for row in rows] for place in range(len(columns))), listing.origin(numbers)


def image_file_name(name: str) -> str:
    """Return the file name of a listed image, adding ".jpg" if it has no extension."""
    return name if name.lower().endswith(IMAGE_SUFFIXES) else f"{name}.jpg"


def key_of(name: str) -> str:
    """The name without its extension."""
    return name.rpartition(".")[0] if name.lower().endswith(IMAGE_SUFFIXES) else name


def raise_if_absent(paths: Sequence[str], listed: Path) -> None:
    """Check that some of the first hundred images exist; checking 400,000 in 40,000 folders may take minutes.

    Raises:
        ImagesAbsent: none of them exists.
    """
    if len(paths) and not any(os.path.exists(path) for path in paths[:100]):
        raise ImagesAbsent(f"{listed}: its images do not exist, first {shown(paths[0], 2000)}; unpack the images.")


def list_sizes(folder: Path, pattern: str, aliases: Mapping[str, str]) -> dict[str, str]:
    """Return the test lists in `folder`: name or alias -> size, sizes first in ascending order.

    Args:
        folder: where the lists are.
        pattern: of their names, with the size as its only group.
        aliases: other words for sizes.
    """
    found = [match[1] for name in files_in(folder) if (match := re.fullmatch(pattern, name))]
    sizes = {size: size for size in sorted(found, key=int)}
    return sizes | {word: size for word, size in aliases.items() if size in sizes}


def chosen_list(found: Mapping[str, str], wanted: str | None, place: Path, notes: list[str]) -> str | None:
    """Choose a test list: the one called `wanted`, or the smallest, with a note.

    Raises:
        InputError: there is no such list.
    """
    sizes = list(dict.fromkeys(found.values()))
    if wanted is not None:
        if wanted not in found:
            raise InputError(f"{place}: has no test list {wanted!r}; it has {', '.join(found) or 'none'}.")
        return found[wanted]
    if len(sizes) > 1:
        notes.append(f"test list {sizes[0]} of {', '.join(sizes)} is read; choose another by FOLDER@{sizes[-1]}.")
    return sizes[0] if sizes else None
