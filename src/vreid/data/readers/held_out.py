"""Splits that `vreid data split` writes: split.csv with the images, split.json with protocol and source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vreid.data.dataset import Dataset
from vreid.data.findings import OnFinding, raise_finding
from vreid.data.protocols import PROTOCOLS
from vreid.data.readers.image_table import read_table
from vreid.errors import InputError
from vreid.files import read_json

TABLE, METADATA = "split.csv", "split.json"


def find(folder: Path) -> Path | None:
    """Return `folder` if it was written by `write_split`, else None."""
    return folder if (folder / METADATA).is_file() and (folder / TABLE).is_file() else None


def read_split(folder: Path, *, on_finding: OnFinding = raise_finding) -> Dataset:
    """Read a split written by `write_split`.

    Raises:
        InputError: a file that is broken, or images that are no longer where they were.
    """
    metadata = read_json(folder / METADATA)
    kinds: Mapping[str, type] = {"name": str, "protocol": str, "source": dict, "notes": list}
    if not isinstance(metadata, dict) or any(not isinstance(metadata.get(key), kind) for key, kind in kinds.items()):
        raise InputError(f"{folder / METADATA}: lacks one of {', '.join(kinds)}; make the split again.")
    if metadata["protocol"] not in PROTOCOLS:
        raise InputError(f"{folder / METADATA}: protocol {metadata['protocol']!r} is unknown; make the split again.")
    read = read_table(folder / TABLE, on_finding=on_finding)
    reported: dict[str, Any] = {
        "name": metadata["name"],
        "protocol": PROTOCOLS[metadata["protocol"]],
        "source": metadata["source"],
    }
    return replace(read, **reported, notes=(*metadata["notes"], *read.notes))
