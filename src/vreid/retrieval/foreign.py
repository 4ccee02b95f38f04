"""Features in the files of other programs, joined with the records of the images that they describe.

A file holds one matrix for all images, or a query and a gallery matrix; .npz, .safetensors, .pt and .pth files name
their arrays, and the names in circulation are understood ("query_features", "qf", "g_pids", ...; capitals, "_" and a
plural's "s" do not matter). Files of pickled Python objects are never opened as such.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.data.records import Records
from vreid.data.spellings import plain_labels
from vreid.errors import InputError
from vreid.files import reading, verify_tensors
from vreid.retrieval.features import FeatureSet, norms

SUFFIXES = (".npy", ".npz", ".safetensors", ".pt", ".pth")

_SIDES = {"": ("",), "query": ("query", "probe", "q"), "gallery": ("gallery", "test", "g")}
_FIELDS = {
    "features": ("", "feature", "feat", "f", "embedding"),
    "identity": ("identity", "identitie", "id", "pid", "vid", "vehicleid", "label"),
    "camera": ("camera", "cameraid", "cam", "camid"),
    "tracklet": ("tracklet", "trackletid", "track", "trackid", "tid"),
    "path": ("path", "imagepath", "imgpath", "name", "imagename", "filename"),
    "split": ("split",),
}
_MEANING = {
    side_name + field_name: (side, field)
    for (side, side_names), (field, field_names) in product(_SIDES.items(), _FIELDS.items())
    for side_name, field_name in product(side_names, field_names)
} | {"arr0": ("", "features")}  # what numpy.savez calls an array without a name
_SPLITS = ("train", "query", "gallery")
_SAFETENSORS = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "<i1",
    "U8": "<u1",
}


def load_features(path: Path | str, records: Records | None = None) -> tuple[FeatureSet, FeatureSet]:
    """Query and gallery features from a .npy, .npz, .safetensors, .pt or .pth file of any program.

    One matrix (N, D): row i belongs to `records[i]`; `split` ("train", "query", "gallery") divides them, and without a
    split both sides are the whole. Two matrices: the k-th query row belongs to the k-th of the records with split
    "query", and so for the gallery. Without `records` the labels in the file are taken (identity, camera, tracklet,
    path, split; a negative identity is junk, any other negative number unknown), and images without a path are called
    by their rows: "query/000001". Numbers of any precision become float32; nothing is normalised.

    Args:
        path: the file.
        records: what is known of the images; the labels in the file are then left alone.

    Raises:
        InputError: not such a file; arrays that are missing or of a wrong shape; a feature that is NaN, infinite or
            zero (its row is named); or another number of rows than of records (both are named).

    Example:
        >>> query, gallery = load_features("features.npy", table)   # doctest: +SKIP
        >>> distances = PostProcessing(reranking=ReRanking(20, 6, 0.3)).apply(query, gallery)   # doctest: +SKIP
    """
    path = Path(path)
    found = _found(path, _read(path))
    names = {side: found[side, "features"][0] for side in _SIDES if (side, "features") in found}
    matrices = {side: _matrix(path, *found[side, "features"]) for side in names}
    if set(names) == {""}:
        whole = _join(path, names[""], matrices[""], _records(path, "", found, records, len(matrices[""])))
        return _divided(path, whole)
    if set(names) != {"query", "gallery"}:
        raise InputError(
            f"{path}: holds {', '.join(names.values())}; give one matrix for all images, or query and gallery features."
        )
    widths = {side: matrix.shape[1] for side, matrix in matrices.items()}
    if widths["query"] != widths["gallery"]:
        raise InputError(
            f"{path}: {names['query']} has {widths['query']:,} dimensions, {names['gallery']} {widths['gallery']:,}; "
            "extract both with the same model."
        )
    query, gallery = (
        _join(path, names[side], matrices[side], _records(path, side, found, records, len(matrices[side])), side)
        for side in ("query", "gallery")
    )
    return query, gallery


def _read(path: Path) -> Mapping[str, Any]:
    """The arrays of a file by name; one without names is called "features"."""
    readers = {".npy": _read_numpy, ".npz": _read_numpy, ".safetensors": _read_safetensors}
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: is no file of features; give one of {', '.join(SUFFIXES)}.")
    try:
        with reading(path), warnings.catch_warnings(action="ignore"):  # about pickles: refused or plain
            return readers.get(suffix, _read_torch)(path)
    except (InputError, ModuleNotFoundError):
        raise
    except Exception as error:  # what a parser says of a damaged or pickled file can be of any kind
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(
            f"{path}: cannot be read as {suffix} ({reason}); save plain arrays of numbers and text."
        ) from error


def _read_numpy(path: Path) -> Mapping[str, Any]:
    with open(path, "rb") as file:  # numpy itself leaves a damaged file open
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"features": loaded}
        # arrays that mean nothing here may be pickled
        return {name: loaded[name] if _plain(name) in _MEANING else None for name in loaded.files}


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors import deserialize

    verify_tensors(path)
    out: dict[str, Any] = {}
    for name, tensor in deserialize(path.read_bytes()):  # type: ignore[no-untyped-call]
        kind = tensor["dtype"]
        if kind == "BF16":  # the upper half of a float32, unknown to numpy
            values = (np.frombuffer(tensor["data"], dtype="<u2").astype(np.uint32) << 16).view(np.float32)
        elif kind in _SAFETENSORS:
            values = np.frombuffer(tensor["data"], dtype=_SAFETENSORS[kind])
        elif _plain(name) in _MEANING:
            raise ValueError(f"{name} holds numbers of kind {kind}")
        else:
            continue
        out[name] = values.reshape(tensor["shape"])
    return out


def _read_torch(path: Path) -> Mapping[str, Any]:
    import torch

    def plain(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return (value.float() if value.is_floating_point() else value).detach().numpy()

    loaded = torch.load(path, map_location="cpu", weights_only=True)
    arrays = loaded if isinstance(loaded, dict) else {"features": loaded}
    return {str(name): plain(value) for name, value in arrays.items()}


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower().removesuffix("s")


_Found = dict[tuple[str, str], tuple[str, Any]]
"""(side, field) -> (name in the file, values)."""


def _found(path: Path, arrays: Mapping[str, Any]) -> _Found:
    found: _Found = {}
    for name, values in arrays.items():
        meaning = _MEANING.get(_plain(name))
        if meaning in found:
            raise InputError(f"{path}: {found[meaning][0]} and {name} mean the same; leave one of them out.")
        if meaning is not None:
            found[meaning] = (name, values)
    if not any(field == "features" for _, field in found):
        held = ", ".join(list(arrays)[:5]) or "nothing"
        raise InputError(
            f"{path}: has no array called features, nor query_features and gallery_features (but {held}); name them so."
        )
    return found


def _array(values: Any) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError:  # rows of unequal length
        return np.array([values], dtype=object)


def _matrix(path: Path, name: str, values: Any) -> NDArray[np.float32]:
    """(N, D) float32 of what the file holds."""
    array = _array(values)
    if array.dtype.kind not in "fiu":
        raise InputError(f"{path}: {name} holds no rows of numbers; give a matrix (images, dimensions).")
    if array.ndim != 2 or not array.size:
        raise InputError(f"{path}: {name} has shape {array.shape}; it must be (images, dimensions), neither zero.")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused with its row
        return np.ascontiguousarray(array, dtype=np.float32)


def _records(path: Path, side: str, found: _Found, records: Records | None, count: int) -> Records:
    """What is known of one side's images: the given records of that split, or the labels in the file."""
    if records is not None:
        if not side:
            return records
        if not records.split.known.any():
            raise InputError(
                f"{path}: holds query and gallery features, but the records have no split; say which are which."
            )
        _check_splits(path, records)
        return records[records.split.values == side]
    columns = {
        field: _labels(path, name, field, values, count)
        for (of, field), (name, values) in found.items()
        if of == side and field != "features"
    }
    if not side and not columns:
        raise InputError(
            f"{path}: holds one matrix and no labels; give the records of its rows (--records: a table, one row an "
            "image)."
        )
    paths = columns.pop("path", None) or [f"{side or 'image'}/{row:06d}" for row in range(1, count + 1)]
    return Records.of(path=paths, **columns)


def _labels(path: Path, name: str, field: str, values: Any, count: int) -> list[str]:
    array = _array(values).reshape(-1)
    if len(array) != count:
        raise InputError(f"{path}: {name} has {len(array):,} values for {count:,} features; give one for each.")
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    if array.dtype.kind not in "fiuU":
        raise InputError(f"{path}: {name} holds neither whole numbers nor text; give one label for each image.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"{path}: {name} holds NaN or infinity; give one label for each image.")
    texts = [str(value).strip() for value in array.tolist()]
    if field == "path":
        return texts
    labels, wrong = plain_labels(texts, field)
    if array.dtype.kind == "f" and not wrong:  # a column of fractions alone would pass for names
        wrong = [(row, "is not a whole number") for row, value in enumerate(array.tolist()) if value != int(value)]
    for row, fault in wrong:
        raise InputError(f"{path}: {name}, row {row + 1}: {texts[row]} {fault}; save whole numbers or text.")
    return labels


def _join(path: Path, name: str, matrix: NDArray[np.float32], records: Records, side: str = "") -> FeatureSet:
    if len(matrix) != len(records):
        counts = [f"{np.count_nonzero(records.split.values == split):,} {split}" for split in _SPLITS]
        divided = f" ({', '.join(counts)})" if records.split.known.any() and not side else ""
        raise InputError(
            f"{path}: {name} has {len(matrix):,} rows for {len(records):,} {side or 'image'} records{divided}; "
            "give one row for each, in the same order."
        )
    for wrong, what in (
        (~np.isfinite(matrix).all(axis=1), "holds NaN or infinity (in float32)"),
        (norms(matrix) == 0, "is zero and has no direction"),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise InputError(
                f"{path}: {name}, row {row + 1} ({records.path[row]}): the feature {what}; extract it again or leave "
                "it out."
            )
    return FeatureSet(matrix, records)


def _divided(path: Path, whole: FeatureSet) -> tuple[FeatureSet, FeatureSet]:
    if not whole.records.split.known.any():
        return whole, whole
    _check_splits(path, whole.records)
    return whole[whole.records.split.values == "query"], whole[whole.records.split.values == "gallery"]


def _check_splits(path: Path, records: Records) -> None:
    """Refuse a split that is none of `_SPLITS`, and records without a query or a gallery."""
    values = records.split.values
    wrong = ~np.isin(values.astype(str), _SPLITS)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            f"{path}: split of {records.path[row]} (record {row + 1}) is {values[row]!r}; give {', '.join(_SPLITS)}."
        )
    for side in ("query", "gallery"):
        if side not in values:
            raise InputError(f"{path}: no record has split {side}; name its images so, or give no split at all.")
