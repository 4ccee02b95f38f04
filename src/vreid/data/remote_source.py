"""Open data sets on object storage: label files are downloaded, images are listed and read when they are needed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vreid.data.dataset import Dataset
from vreid.data.findings import Finding, OnFinding
from vreid.data.readers.common import IMAGE_SUFFIXES, OTHERS
from vreid.errors import InputError
from vreid.object_storage import below, local_copy, normalised, sizes

_TABLES = (".csv", ".tsv", ".txt")
_UNREAD = frozenset({*IMAGE_SUFFIXES, *OTHERS, ".ts"})


def open_remote(address: Path | str, read: Callable[[Path, OnFinding], Dataset], on_finding: OnFinding) -> Dataset:
    """Read a data set by a local folder of the same names, in which images are empty files.

    All families can be read whose labels are in names or label files; one that needs the size or the pixels of images,
    or a video, says that it cannot read them.

    Args:
        address: a folder, or a table whose images lie below its folder or have addresses of their own.
        read: reads the local folder or table.
        on_finding: as for all readers.

    Raises:
        InputError: there is nothing at the address, or as `read`.
    """
    whole = normalised(address)
    table = whole.lower().endswith(_TABLES)
    root, _, name = whole.rpartition("/") if table else (whole, "", "")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, root.rpartition("/")[2])

        def named(text: str) -> str:
            return text.replace(str(folder), root)

        def report(finding: Finding) -> None:
            on_finding(replace(finding, where=named(finding.where), message=named(finding.message)))

        for file in sizes(root):
            if ".." in Path(file).parts:
                raise InputError(f"{below(root, file)}: its name leads out of the folder; rename it.")
            place = folder / file
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.suffix.lower() in _UNREAD:
                place.touch()
                continue
            with local_copy(below(root, file)) as copy:
                place.write_bytes(copy.read_bytes())
        try:
            found = read(folder / name, report)
        except InputError as error:
            raise InputError(named(str(error))) from None
    train, query, gallery = (
        records.with_(path=[named(path) for path in records.path])
        for records in (found.train, found.query, found.gallery)
    )
    return replace(found, train=train, query=query, gallery=gallery, notes=tuple(map(named, found.notes)))
