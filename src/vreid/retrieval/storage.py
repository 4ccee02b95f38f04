"""One file format for features, distances and rankings: safetensors with one JSON header that says what it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.data.records import Records
from vreid.errors import InputError
from vreid.files import replacing

_HEADER = "vreid"  # a single metadata key: safetensors does not promise an order for several, and bytes must repeat


def write_arrays(path: Path | str, kind: str, arrays: Mapping[str, NDArray[Any]], **facts: Any) -> None:
    """Write named arrays and JSON-able facts to one safetensors file, whole or not at all.

    Raises:
        InputError: the name does not end in .safetensors, or the file cannot be written.
    """
    from safetensors.numpy import save_file

    _check_suffix(path, kind)
    header = {_HEADER: json.dumps({"kind": kind, **facts}, sort_keys=True)}
    with replacing(path) as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, str(temporary), header)


def read_arrays(path: Path | str, kind: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the arrays and the facts of a file that `write_arrays` made for the same `kind`.

    Raises:
        InputError: absent, damaged, or a file of another kind.
    """
    from safetensors import SafetensorError, safe_open

    _check_suffix(path, kind)
    try:
        with safe_open(str(path), framework="numpy") as file:
            facts = json.loads((file.metadata() or {}).get(_HEADER, "{}"))
            if facts.get("kind") != kind:
                found = facts.get("kind", "something else")
                raise InputError(f"{path}: holds {found}, not {kind}; name the file with the {kind}.")
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 (not a dict)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the name.") from error
    except (SafetensorError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: is not a whole safetensors file ({error}); make it again.") from error


def pack_records(name: str, records: Records) -> dict[str, NDArray[Any]]:
    """Arrays of `records` under "name." for a file that holds more than one Records."""
    return {f"{name}.{key}": array for key, array in records.to_arrays().items()}


def unpack_records(name: str, arrays: Mapping[str, NDArray[Any]]) -> Records:
    """Inverse of `pack_records`."""
    prefix = f"{name}."
    return Records.from_arrays({k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)})


def _check_suffix(path: Path | str, kind: str) -> None:
    if Path(path).suffix != ".safetensors":
        raise InputError(f"{path}: a file of {kind} ends in .safetensors; rename it.")
