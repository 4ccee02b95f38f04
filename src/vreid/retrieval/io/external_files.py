"""Readers of other programs' feature files: files in, named arrays out (interpreted by `vreid.retrieval.io.external`).

An unnamed matrix is named "features", its paths "path". Formats are detected from the contents; no pickled object is
built, and sizes are checked before memory is allocated.
"""

from __future__ import annotations

import csv
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.errors import InputError
from vreid.files import reading, verify_tensors
from vreid.formats.kinds import check_size, described_type, kind_of, not_wanted
from vreid.formats.numpy_files import read_npy, read_npz
from vreid.formats.torch_files import Inert, load_torch
from vreid.retrieval.tensors import is_tensor, on_host

SUFFIXES = (".npy", ".npz", ".safetensors", ".pt", ".pth", ".mat", ".csv", ".parquet")

_FIX = "save one row per image as .npy, .npz or .safetensors"
_LONGEST_LINE = 1 << 22  # characters: 100,000 numbers
_NUMBERED = re.compile(r"(f|x|v|d|e|dim|feat|features?|emb|embeddings?|component|col|column|)[\s_.-]?(\d{1,6})", re.I)
_SAFETENSORS = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1"},
    **{"U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "<u1", "BOOL": "?"},
}

Wanted = Callable[[str], bool]
"""Whether an array name is recognised; other arrays are not read."""


def read_named(path: Path, wanted: Wanted, side_of: Callable[[str], str | None]) -> dict[str, Any]:
    """Read the arrays and lists of a file by name.

    Args:
        path: the file.
        wanted: which names are recognised.
        side_of: "query" or "gallery" for a name that means a whole side, else None.

    Raises:
        InputError: the file is damaged, has an implausible size, or has a format or type that holds no features.
    """
    kind = kind_of(path)
    if kind == "npy":
        return {"features": read_npy(path)}
    if kind == "npz":
        return dict(read_npz(path, wanted))
    if kind == "safetensors":
        return _read_safetensors(path, wanted)
    if kind in ("torch", "torch-old"):
        return _Arranger(path, wanted, side_of).arranged(load_torch(path, kind))
    if kind == "mat":
        return _read_mat(path, wanted)
    if kind == "parquet":
        return _columns(path, _read_parquet(path), wanted)
    if kind == "text":
        return _columns(path, _read_text(path, wanted), wanted)
    raise not_wanted(path, kind, "a file of features", _FIX)


def _read_safetensors(path: Path, wanted: Wanted) -> dict[str, Any]:
    from safetensors import SafetensorError, deserialize

    verify_tensors(path)
    out: dict[str, Any] = {}
    try:
        with reading(path):
            tensors = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except (SafetensorError, ValueError) as error:
        raise InputError(f"{path}: is not a complete safetensors file; save it again.") from error
    for name, tensor in tensors:
        kind = tensor["dtype"]
        if kind == "BF16":  # the upper half of a float32, unknown to numpy
            values = (np.frombuffer(tensor["data"], dtype="<u2").astype(np.uint32) << 16).view(np.float32)
        elif kind in _SAFETENSORS:
            values = np.frombuffer(tensor["data"], dtype=_SAFETENSORS[kind])
        elif wanted(name):
            raise InputError(f"{path}: {name} holds numbers of type {kind}; save them as float32 or float16.")
        else:
            values = np.empty(0, dtype=np.float32)
            tensor = {"shape": [0]}
        out[name] = values.reshape(tensor["shape"])
    return out


class _Arranger:
    """Convert the contents of a PyTorch file to named arrays."""

    def __init__(self, path: Path, wanted: Wanted, side_of: Callable[[str], str | None]) -> None:
        self.path, self.wanted, self.side_of = path, wanted, side_of

    def arranged(self, value: Any) -> dict[str, Any]:
        """Return the arrays of `value` by name."""
        if _is_array(value):
            return {"features": self.array(value)}
        if isinstance(value, dict) and value:
            return self.of_dictionary(value)
        if isinstance(value, (list, tuple)) and value:
            return self.of_list(value)
        raise self.unusable(value)

    def unusable(self, value: Any) -> InputError:
        held = f"an object of class {value.name}" if isinstance(value, Inert) else described_type(value)
        return InputError(f"{self.path}: holds {held}, not features; {_FIX}.")

    def array(self, value: Any) -> NDArray[Any]:
        if is_tensor(value) and (value.is_meta or value.is_quantized or "strided" not in str(value.layout)):
            raise InputError(f"{self.path}: holds a tensor that is sparse, quantised or without values; {_FIX}.")
        array: NDArray[Any] = np.asarray(on_host(value))
        return array

    def rows(self, vectors: Sequence[Any], names: Sequence[Any]) -> NDArray[Any]:
        """Stack N vectors of equal length to (N, D).

        Raises:
            InputError: one has another length, or is not a vector.
        """
        made: list[NDArray[Any]] = []
        for name, vector in zip(names, vectors, strict=True):
            array = self.array(vector) if _is_array(vector) else np.asarray(vector)
            if array.dtype.kind not in "fiuc" or not array.size or array.size != max(array.shape, default=0):
                raise InputError(f"{self.path}: the feature of {name} is not a vector of numbers; {_FIX}.")
            if made and len(made[0]) != array.size:
                raise InputError(
                    f"{self.path}: the feature of {name} has {array.size:,} dimensions, that of {names[0]} "
                    f"{len(made[0]):,}; extract all with the same model."
                )
            made.append(array.reshape(-1))
        return np.stack(made)

    def of_list(self, items: Sequence[Any]) -> dict[str, Any]:
        if all(isinstance(item, dict) for item in items) and all(item.keys() == items[0].keys() for item in items):
            return self.of_dictionary({key: [item[key] for item in items] for key in items[0]})
        if all(isinstance(item, (list, tuple)) and len(item) == 2 and isinstance(item[0], str) for item in items):
            return self.by_path([item[0] for item in items], [item[1] for item in items])
        if all(_is_vector(item) for item in items):
            return {"features": self.rows(items, [f"row {row}" for row in range(1, len(items) + 1)])}
        if all(_is_array(item) for item in items):
            matrices = [item for item in items if len(item.shape) == 2]
            if len(matrices) == len(items):
                if len(items) == 2:
                    raise InputError(
                        f"{self.path}: holds a {type(items).__name__} of two matrices, which may be query and gallery "
                        "or two parts of one; name them query_features and gallery_features, or concatenate them."
                    )
                if len({matrix.shape[1] for matrix in matrices}) == 1:
                    return {"features": np.concatenate([self.array(matrix) for matrix in matrices])}
            labels = [item for item in items if len(item.shape) == 1]
            alone = len(matrices) == 1 and len(labels) + 1 == len(items)
            if alone and all(item.shape[0] == matrices[0].shape[0] for item in labels):
                return {"features": self.array(matrices[0])}  # the other arrays are unnamed labels of unknown meaning
        kinds = ", ".join(dict.fromkeys(described_type(item) for item in items[:3]))
        raise InputError(f"{self.path}: holds a {type(items).__name__} of {kinds}{', ...' * (len(items) > 3)}; {_FIX}.")

    def by_path(self, paths: Sequence[Any], vectors: Sequence[Any], prefix: str = "") -> dict[str, Any]:
        if not all(isinstance(path, str) for path in paths):
            raise InputError(
                f"{self.path}: its features are named by {described_type(paths[0])} ({str(paths[0])[:40]}), not by "
                "image paths; use paths as names, or save one matrix in the order of the table."
            )
        return {f"{prefix}features": self.rows(vectors, paths), f"{prefix}path": list(paths)}

    def of_dictionary(self, items: Mapping[Any, Any]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        if not any(self.wanted(str(name)) for name in items):
            if all(_is_vector(value) for value in items.values()):
                return self.by_path(list(items), list(items.values()))
            inner = [value for value in items.values() if isinstance(value, dict) and value]
            if len(inner) == 1 and (len(items) == 1 or not any(map(_is_array, items.values()))):
                return self.of_dictionary(inner[0])  # a wrapper
        for name, value in items.items():
            text = str(name)
            if not self.wanted(text):
                out[text] = None
            elif isinstance(value, dict) and value:
                side = self.side_of(text)
                prefix = "" if side is None else f"{side}_"
                if side is not None and any(self.wanted(str(key)) for key in value):
                    out.update({f"{side}_{key}": self.named(item) for key, item in value.items()})
                else:
                    out.update(self.by_path(list(value), list(value.values()), prefix))
            else:
                out[text] = self.named(value)
        return out

    def named(self, value: Any) -> Any:
        if _is_array(value):
            return self.array(value)
        if isinstance(value, (list, tuple)) and value and all(_is_array(item) and item.shape for item in value):
            if all(map(_is_vector, value)):
                return self.rows(value, [f"row {row}" for row in range(1, len(value) + 1)])
            if all(len(item.shape) == 2 and item.shape[1] == value[0].shape[1] for item in value):
                return np.concatenate([self.array(item) for item in value])
        if isinstance(value, (list, tuple)):
            return [
                self.array(item).reshape(-1)[0] if _is_array(item) and item.shape in ((), (1,)) else item
                for item in value
            ]
        return value


def _is_array(value: Any) -> bool:
    return is_tensor(value) or isinstance(value, np.ndarray)


def _is_vector(value: Any) -> bool:
    """Whether `value` is the feature of one image: a vector, or a matrix with one row."""
    if _is_array(value):
        return len(value.shape) == 1 or (
            len(value.shape) > 1 and value.shape[0] == 1 and value.shape.count(1) >= len(value.shape) - 1
        )
    return isinstance(value, (list, tuple)) and len(value) > 1 and all(isinstance(item, (int, float)) for item in value)


def _read_mat(path: Path, wanted: Wanted) -> dict[str, Any]:
    from scipy.io import loadmat, whosmat

    with reading(path):
        check_size(path, _unpacked_size(path))
        try:
            names = [name for name, *_ in whosmat(str(path))]
            loaded = loadmat(str(path), variable_names=[name for name in names if wanted(name)])
        except Exception as error:  # a damaged file can raise any exception
            raise InputError(f"{path}: is a damaged MATLAB file; save it again with save(..., '-v7').") from error
    out: dict[str, Any] = {}
    for name in names:
        value = loaded.get(name)
        if isinstance(value, np.ndarray) and value.dtype.kind == "O":  # a cell array of texts
            cells = [cell.item() if isinstance(cell, np.ndarray) and cell.size == 1 else cell for cell in value.ravel()]
            value = cells if all(isinstance(cell, (str, int, float)) for cell in cells) else None
        out[name] = value.tolist() if isinstance(value, np.ndarray) and value.dtype.kind == "U" else value
    return out


def _unpacked_size(path: Path) -> int:
    """Count the uncompressed bytes of a MATLAB file's variables without keeping them; stop at an implausible size."""
    total = 0
    size = path.stat().st_size
    with open(path, "rb") as file:
        header = file.read(128)
        order = ">" if header[126:128] == b"MI" else "<"
        while len(tag := file.read(8)) == 8:
            kind, left = struct.unpack(f"{order}II", tag)
            if kind != 15:  # not compressed
                total += min(left, size)
                file.seek(left, 1)
                continue
            unpack = zlib.decompressobj()
            while left > 0 and (piece := file.read(min(left, 1 << 16))):
                left -= len(piece)
                while piece:
                    try:
                        total += len(unpack.decompress(piece, 1 << 20))
                    except zlib.error:
                        return total  # damaged; the reader reports it
                    check_size(path, total)
                    piece = unpack.unconsumed_tail
    return total


def _read_parquet(path: Path) -> dict[str, Any]:
    try:
        import pyarrow.parquet as parquet
    except ModuleNotFoundError as error:
        raise InputError(
            f"{path}: is a Parquet table, which needs pyarrow; install vehicle-reid[parquet], or save it as "
            ".csv or .npz."
        ) from error
    with reading(path):
        try:
            file = parquet.ParquetFile(str(path))
            groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
            check_size(
                path, sum(max(group.total_byte_size, 4 * group.num_rows * group.num_columns) for group in groups)
            )
            table = file.read()
        except InputError:
            raise
        except Exception as error:  # a damaged file can raise any exception
            raise InputError(f"{path}: is a damaged Parquet table; save it again.") from error
    return {str(name): table.column(name).to_pylist() for name in table.column_names}


def _read_text(path: Path, wanted: Wanted) -> dict[str, Any]:
    """Read the columns of a text table, with or without header; separators are commas, semicolons, tabs or spaces."""
    with reading(path), open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        lines = _bounded(path, file)
        first = next((line for line in lines if line.strip()), "")
        delimiter = max(",;\t", key=first.count)
        if delimiter not in first:
            rows = [first.split(), *(line.split() for line in lines)]
        else:
            csv.field_size_limit(_LONGEST_LINE)
            try:
                rows = [next(csv.reader([first], delimiter=delimiter)), *csv.reader(lines, delimiter=delimiter)]
            except csv.Error as error:
                raise InputError(f"{path}: is not a table of features ({error}); {_FIX}.") from error
    rows = [[cell.strip() for cell in row] for row in rows if row]
    names = _header(rows, wanted)
    if names is None:
        texts = [place for place, cell in enumerate(rows[0]) if _number(cell) is None]
        names = ["path" if place in texts else f"f{place}" for place in range(len(rows[0]))]
    else:
        rows = rows[1:]
    for number, row in enumerate(rows, start=1):
        if len(row) != len(names):
            raise InputError(f"{path}, row {number}: has {len(row):,} cells for {len(names):,} columns; save it again.")
    return {(name or f"column {place + 1}"): [row[place] for row in rows] for place, name in enumerate(names)}


def _bounded(path: Path, file: Any) -> Iterator[str]:
    number = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        if len(line) == _LONGEST_LINE:
            raise InputError(f"{path}, line {number}: is longer than {_LONGEST_LINE:,} characters; {_FIX}.")
        yield line


def _header(rows: list[list[str]], wanted: Wanted) -> list[str] | None:
    """Return the column names if the first line is a header."""
    first = rows[0]
    numbers = [_number(cell) for cell in first]
    if all(number is not None for number in numbers):
        return first if numbers == list(range(len(first))) and len(first) > 1 else None
    if any(wanted(cell) or cell.lower() == "split" for cell in first):
        return first
    plain = [number for number in numbers if number is not None]
    if plain and plain != [*range(int(plain[0]), int(plain[0]) + len(plain))] and numbers.count(None) == 1:
        return None  # a path and its numbers
    return first


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _columns(path: Path, columns: dict[str, Any], wanted: Wanted) -> dict[str, Any]:
    """Return the named arrays of a table; features are numbered columns (f0, f1, ...) or one column of lists."""
    numbered = _dimensions(path, columns)
    out: dict[str, Any] = {name: values for name, values in columns.items() if name not in numbered}
    if numbered:
        matrix = np.empty((len(columns[numbered[0]]), len(numbered)), dtype=np.float64)
        for place, name in enumerate(numbered):
            for row, cell in enumerate(columns[name]):
                value = _number(cell) if isinstance(cell, str) else cell
                if not isinstance(value, (int, float)):
                    raise InputError(f"{path}, row {row + 1}: {name} is {str(cell)[:40]!r}, not a number; correct it.")
                matrix[row, place] = value
        out = {name: values for name, values in out.items() if not wanted(name) or not _is_features(values)}
        return {"features": matrix, **out}
    for name, values in out.items():
        if wanted(name) and _is_features(values):
            out[name] = np.stack(_lists(path, name, values))
            return out
    raise InputError(
        f"{path}: has no feature columns (found {', '.join(map(repr, list(columns)[:5]))}); name them f0, f1, ..., or "
        "use one column named feature with all numbers of an image."
    )


def _dimensions(path: Path, columns: Mapping[str, Any]) -> list[str]:
    """Return the names of the columns of single dimensions: the largest group of numbered names with one prefix."""
    groups: dict[str, dict[int, str]] = {}
    for name in columns:
        if found := _NUMBERED.fullmatch(name):
            groups.setdefault(found[1].lower(), {})[int(found[2])] = name
    if {"y1", "y2"} & {name.lower() for name in columns}:
        groups.pop("x", None)  # corners of boxes
    chosen = max(groups.values(), key=len, default={})
    if chosen:
        lacking = sorted(set(range(min(chosen), max(chosen))) - set(chosen))
        if min(chosen) > 1 or lacking:
            last = chosen[max(chosen)]
            raise InputError(
                f"{path}: column number {0 if min(chosen) > 1 else lacking[0]} is missing before {last}; save all "
                "dimensions."
            )
    return list(chosen.values())


def _is_features(values: Any) -> bool:
    first = values[0] if values else None
    return isinstance(first, list) or (isinstance(first, str) and re.match(r"(tensor|array)?\(?\[", first) is not None)


def _lists(path: Path, name: str, values: Sequence[Any]) -> list[NDArray[np.float64]]:
    """Parse the numbers of each image from lists, or from text like "[0.1, 0.2]" or "[0.1 0.2]"."""
    made: list[NDArray[np.float64]] = []
    for row, value in enumerate(values, start=1):
        text = str(value)
        if "..." in text:
            raise InputError(
                f"{path}, row {row}: {name} was abbreviated with ... when written ({text[:40]!r}); write all numbers."
            )
        if isinstance(value, str):
            inside = re.sub(r"^(tensor|array)?\(?\[+|\]+(, *dtype=[\w.]+)?\)?$", "", text)
            value = re.split(r"[,\s]+", inside.strip())
        try:
            numbers = np.array([float(item) for item in value], dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{path}, row {row}: {name} is not a list of numbers ({text[:40]!r}); correct it."
            ) from error
        if made and len(made[0]) != len(numbers):
            raise InputError(
                f"{path}, row {row}: {name} has {len(numbers):,} numbers, row 1 {len(made[0]):,}; correct it."
            )
        made.append(numbers)
    return made
