"""Safe readers of .npy and .npz files: no pickles, and memory bounded by the file size."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from vreid.errors import InputError
from vreid.files import reading
from vreid.formats.kinds import check_size

_FIX = "save plain arrays of numbers and text"


def read_npy(path: Path | str) -> NDArray[Any]:
    """Read the array of a .npy file.

    Raises:
        InputError: the file is damaged, holds Python objects, or its size differs from its header.
    """
    with reading(path), open(path, "rb") as file:
        return _array(file, Path(path).stat().st_size, f"{path}")


def read_npz(path: Path | str, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, NDArray[Any] | None]:
    """Read the arrays of a .npz file by name; None for those not `wanted`, which are not opened.

    Raises:
        InputError: the file is damaged, has an implausible size, or a wanted array holds Python objects.
    """
    with reading(path):
        try:
            with zipfile.ZipFile(path) as archive:
                entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
                check_size(path, sum(entry.file_size for name, entry in entries.items() if wanted(name)))
                out: dict[str, NDArray[Any] | None] = {}
                for name, entry in entries.items():
                    out[name] = None
                    if wanted(name):
                        with archive.open(entry) as file:
                            out[name] = _array(file, entry.file_size, f"{path}, {name}")
                return out
        except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError) as error:
            raise InputError(f"{path}: is a damaged or encrypted .npz file; save it again.") from error


def _array(file: IO[bytes], size: int, where: str) -> NDArray[Any]:
    """Read the array in `file` of `size` bytes; its header must declare exactly the bytes that follow."""
    try:
        version = npy.read_magic(file)
        header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
        if header is None:  # version 3.0 is only for field names in other encodings
            raise ValueError
        shape, by_columns, dtype = header(file)
        if dtype.hasobject:
            raise InputError(f"{where}: holds Python objects; {_FIX}.")
        count = math.prod(shape)
        if file.tell() + count * dtype.itemsize != size or (count and not dtype.itemsize):
            raise InputError(f"{where}: is cut short or damaged (its header declares shape {shape}); save it again.")
        data = bytearray(file.read())
        if len(data) != count * dtype.itemsize:
            raise ValueError
        values = np.frombuffer(data, dtype=dtype)
        return values.reshape(shape[::-1]).T if by_columns else values.reshape(shape)
    except InputError:
        raise
    except Exception as error:  # the header is a Python literal; damage to it raises almost any exception
        raise InputError(f"{where}: is damaged or not a NumPy array of numbers or text; {_FIX}.") from error
