"""File format of features, distances and rankings: safetensors with a JSON header that names the kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.data.records import Records
from vreid.errors import InputError
from vreid.files import read_tensors, write_tensors


def write_arrays(path: Path | str, kind: str, arrays: Mapping[str, NDArray[Any]], **facts: Any) -> None:
    """Write named arrays and JSON-serialisable facts atomically to one safetensors file.

    Raises:
        InputError: the name does not end in .safetensors, or the file cannot be written.
    """
    _check_suffix(path, kind)
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_tensors(path, contiguous, {"kind": kind, **facts}, "numpy")


def read_arrays(path: Path | str, kind: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the arrays and facts of a file written by `write_arrays` with the same `kind`.

    Raises:
        InputError: the file is missing, damaged, or of another kind.
    """
    _check_suffix(path, kind)
    arrays, facts = read_tensors(path, "numpy")
    if facts.get("kind") != kind:
        raise InputError(
            f"{path}: holds {facts.get('kind', 'something else')}, not {kind}; give the file of the {kind}."
        )
    return arrays, facts


def pack_records(name: str, records: Records) -> dict[str, NDArray[Any]]:
    """Return the arrays of `records` with the prefix "name.", for a file with several Records."""
    return {f"{name}.{key}": array for key, array in records.to_arrays().items()}


def unpack_records(name: str, arrays: Mapping[str, NDArray[Any]]) -> Records:
    """Restore the records packed by `pack_records`."""
    prefix = f"{name}."
    return Records.from_arrays({k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)})


def _check_suffix(path: Path | str, kind: str) -> None:
    if Path(path).suffix != ".safetensors":
        raise InputError(f"{path}: the name of a file of {kind} must end in .safetensors; rename it.")
