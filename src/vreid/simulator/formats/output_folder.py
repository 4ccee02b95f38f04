"""Folders that the simulator writes: complete or absent, reused if they hold the same simulation."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vreid.errors import InputError
from vreid.files import parse_errors, read_json, write_json, writing
from vreid.locks import LOCK, locked
from vreid.progress import Progress

Write = Callable[[Path, int | None, Progress | None], tuple[dict[str, int], dict[str, str]]]
"""Writes a simulation into a folder with a number of processes; returns counts, and the SHA-256 of each file."""

SUMMARY = "simulator.json"
"""Metadata file, written last: it marks a complete folder."""
_UNFINISHED = ".unfinished"
_BEFORE_LAYOUTS = {"layout": "cityflow"}
_ADVICE = "choose another folder or remove this one"


def find_simulation(
    out: Path, wanted: Mapping[str, Any], missing: Callable[[dict[str, int]], str | None]
) -> tuple[dict[str, int], str] | None:
    """Return counts and content hash of the simulation in `out` if it is the wanted one, None if `out` is absent.

    Args:
        out: the folder.
        wanted: values that its summary must have.
        missing: function of the counts that returns a sentence on absent files, None if there are none.

    Raises:
        InputError: the folder holds something else, or is incomplete.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not (out / SUMMARY).is_file():
        raise InputError(f"{out}: exists and holds no simulation; {_ADVICE}.")
    summary = read_json(out / SUMMARY)
    for name, value in wanted.items():
        if not isinstance(summary, dict) or (_BEFORE_LAYOUTS | summary).get(name) != value:
            raise InputError(f"{out}: holds another simulation (its {name} differs); {_ADVICE}.")
    with parse_errors(out / SUMMARY):
        counts, content_hash = dict(summary["counts"]), str(summary["content_hash"])
    wrong = missing(counts)
    if wrong is not None:
        raise InputError(f"{wrong}; {_ADVICE}.")
    return counts, content_hash


def write_summary(folder: Path, made_by: Mapping[str, Any], counts: dict[str, int], digests: Mapping[str, str]) -> str:
    """Write the summary of a complete folder; return the hash of its contents.

    Args:
        folder: the folder.
        made_by: simulator version, seed, layout and preset.
        counts: of what it holds.
        digests: SHA-256 of each file, by name.
    """
    listing = "".join(f"{name} {digest}\n" for name, digest in sorted(digests.items()))
    content_hash = hashlib.sha256(listing.encode()).hexdigest()[:16]
    write_json(folder / SUMMARY, {**made_by, "counts": counts, "content_hash": content_hash})
    return content_hash


@contextmanager
def folder_in_the_making(out: Path) -> Iterator[Path]:
    """Yield the folder OUT.partial, which becomes `out` in one rename on success and is removed on any error.

    Leftovers of a killed run, recognised by a marker file, are removed first. A link to a folder is followed.
    """
    absolute = Path(os.path.realpath(out))
    folder = absolute.with_name(absolute.name + ".partial")
    mark = folder / _UNFINISHED
    with writing(out):
        if absolute.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    with locked(folder, shown=out), writing(out):
        left = [entry for entry in folder.iterdir() if entry.name != LOCK]
        if left and not mark.exists():
            raise InputError(f"{folder}: exists and was not created by a simulation; rename or remove it.")
        for entry in left:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        if absolute.exists():
            absolute.rmdir()
        try:
            mark.touch()
            yield folder
            mark.unlink()
            folder.rename(absolute)
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # on success it is no longer there
