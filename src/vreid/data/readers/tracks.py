"""Track files: one tracklet per line, its image names separated by blanks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vreid.data.findings import OnFinding
from vreid.data.readers.common import Listing, quoted, read_lines


@dataclass(frozen=True)
class TrackFile:
    """What a track file says.

    Attributes:
        name: of the file.
        line_of: line (from 0, empty ones counted) of each image.
        names: of the tracklets by line, where the file names them.
        empty: how many lines between others are empty.
    """

    name: str
    line_of: dict[str, int]
    names: dict[int, str]
    empty: int

    def __str__(self) -> str:
        empty = f" and {self.empty:,} empty lines" if self.empty else ""
        return f"{len(self.line_of):,} images in {len(set(self.line_of.values())):,} tracklets{empty}"


def read_tracks(
    path: Path, key_of: Callable[[str], str | None], on_finding: OnFinding, *, named: bool = False
) -> TrackFile:
    """Read a track file.

    Args:
        path: the file.
        key_of: image key of a name; None where it is no such name.
        on_finding: called with invalid names and images listed in two tracklets (the first is kept).
        named: a line starts with the name of its tracklet; one that starts with an image has none.
    """
    listing = Listing(path, on_finding)
    line_of: dict[str, int] = {}
    names: dict[int, str] = {}
    lines = read_lines(path)
    for number, text in lines:
        for place, token in enumerate(text.split()):
            key = key_of(token)
            if key is None and named and place == 0:
                names[number - 1] = token
            elif key is None:
                listing.wrong(number, f"{quoted(token)} is not an image name or number", "correct it")
            elif line_of.setdefault(key, number - 1) != number - 1:
                listing.wrong(
                    number,
                    f"image {token} is already in line {line_of[key] + 1}",
                    "an image belongs to one tracklet; remove it from the other",
                    "duplicate entry",
                )
    return TrackFile(path.name, line_of, names, (lines[-1][0] - len(lines)) if lines else 0)


def tracklets(
    found: Sequence[TrackFile], keys: Sequence[str], name: str, listed: str, notes: list[str]
) -> list[str | None]:
    """Assign tracklet names: those of the file, else `name` and line number ("test_00000" for the first).

    A tracklet is named by its line with empty ones counted, so that its name leads back to the file. Files in
    circulation have such lines; they make no tracklet, and a note counts them. Of several files the one counts that
    holds more images, then the one with fewer empty lines, then the first.

    Args:
        found: the track files of one split.
        keys: of its images.
        name: what files call the split.
        listed: the file that lists the images.
        notes: differing files and images without a counterpart are appended.
    """
    if not found:
        notes.append(f"there is no {name}_track.txt, so the tracklets of image_{name} are unknown.")
        return [None] * len(keys)
    chosen = max(found, key=lambda tracks: (len(tracks.line_of), -tracks.empty))
    for other in found:
        if other.line_of != chosen.line_of:
            notes.append(f"{other.name} and {chosen.name} differ ({other}; {chosen}); {chosen.name} is used.")
    if chosen.empty:
        notes.append(
            f"empty lines in {chosen.name}: {chosen.empty:,}; they are not tracklets but count in the line-based names."
        )
    line_of = chosen.line_of
    unlisted, untracked = line_of.keys() - set(keys), set(keys) - line_of.keys()
    if unlisted:
        counted = f"{len(unlisted):,} of {len(line_of):,} images in {chosen.name}, first {_bare(min(unlisted))}"
        notes.append(f"not listed in {listed}: {counted}.")
    if untracked:
        counted = f"{len(untracked):,} of {len(keys):,} images in image_{name}, first {_bare(min(untracked))}"
        notes.append(f"in no line of {chosen.name}: {counted}.")
    return [chosen.names.get(line_of[key], f"{name}_{line_of[key]:05d}") if key in line_of else None for key in keys]


def _bare(key: str) -> str:
    return key.rpartition("/")[2]
