"""Load features from files of other programs and match them with the records of their images.

A file holds one matrix for all images, a query and a gallery matrix, or one vector per path. Common array names are
recognised ("query_features", "qf", "g_pids", ...; case, "_" and a plural "s" are ignored). The file formats are read by
`vreid.retrieval.io.external_files`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.data.records import Records
from vreid.data.spellings import largest_exact, plain_labels
from vreid.errors import InputError
from vreid.formats.kinds import check_size
from vreid.retrieval.features import FeatureSet, norms
from vreid.retrieval.io.external_files import SUFFIXES as SUFFIXES
from vreid.retrieval.io.external_files import read_named

SIDE_NAMES = {"": ("",), "query": ("query", "probe", "q"), "gallery": ("gallery", "test", "g")}
FIELD_NAMES = {
    "features": ("", "feature", "feat", "f", "embedding", "emb", "vector", "descriptor"),
    "identity": ("identity", "identitie", "id", "pid", "vid", "vehicleid", "label"),
    "camera": ("camera", "cameraid", "cam", "camid"),
    "tracklet": ("tracklet", "trackletid", "track", "trackid", "tid"),
    "path": ("path", "imagepath", "imgpath", "name", "imagename", "filename", "file", "filepath"),
    "split": ("split",),
}
MEANINGS_OF_NAMES = {
    side_name + field_name: (side, field)
    for (side, side_names), (field, field_names) in product(SIDE_NAMES.items(), FIELD_NAMES.items())
    for side_name, field_name in product(side_names, field_names)
} | {"arr0": ("", "features")}  # default name of numpy.savez
"""Side and field of every recognised array name."""
_SPLITS = ("train", "query", "gallery")


def load_features(path: Path | str, records: Records | None = None) -> tuple[FeatureSet, FeatureSet]:
    """Load query and gallery features from a .npy, .npz, .safetensors, .pt, .mat, .csv or .parquet file.

    One matrix (N, D): row i belongs to `records[i]`; `split` ("train", "query", "gallery") divides them, and without
    splits every image is query and gallery. Two matrices: the k-th query row belongs to the k-th record with split
    "query", and likewise for the gallery. If the file names the path of each feature, features are matched to `records`
    by path instead, in any order. Without `records`, labels are taken from the file (identity, camera, tracklet, path,
    split; a negative identity is junk, other negative numbers are unknown), and images without a path are named by
    row: "query/000001". Values are converted to float32 and not normalised.

    Args:
        path: the file; its format is detected from its contents.
        records: records of the images. Identities in the file are only checked against them.

    Raises:
        InputError: the file has another format; an array is missing or has a wrong shape; a feature is NaN, infinite or
            zero; the numbers of rows and records differ; an image has no feature; or identities contradict the records.

    Example:
        >>> query, gallery = load_features("features.npy", table)   # doctest: +SKIP
        >>> distances = PostProcessing(reranking=ReRanking(20, 6, 0.3)).apply(query, gallery)   # doctest: +SKIP
    """
    path = Path(path)
    found = _found(path, read_named(path, lambda name: _plain(name) in MEANINGS_OF_NAMES, _side))
    names = {side: found[side, "features"][0] for side in SIDE_NAMES if (side, "features") in found}
    matrices = {side: _matrix(path, *found[side, "features"]) for side in names}
    if set(names) == {""}:
        return _divided(path, _side_of(path, "", names[""], matrices[""], found, records))
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
        _side_of(path, side, names[side], matrices[side], found, records) for side in ("query", "gallery")
    )
    return query, gallery


def _side_of(
    path: Path, side: str, name: str, matrix: NDArray[np.float32], found: _Found, records: Records | None
) -> FeatureSet:
    """Match the features of one side ("": of all images) with their records."""
    own = _records(path, side, found, records, len(matrix))
    if records is not None:
        order = _order(path, side, name, found, own, len(matrix))
        if order is not None:
            own, matrix = own[order >= 0], matrix[order[order >= 0]]
        elif len(matrix) == len(own):
            _check_identities(path, side, found, own)
    return _join(path, name, matrix, own, side)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower().removesuffix("s")


_Found = dict[tuple[str, str], tuple[str, Any]]
"""(side, field) -> (name in the file, values)."""


def _found(path: Path, arrays: Mapping[str, Any]) -> _Found:
    found: _Found = {}
    for name, values in arrays.items():
        meaning = MEANINGS_OF_NAMES.get(_plain(name))
        if meaning in found:
            raise InputError(f"{path}: {found[meaning][0]} and {name} have the same meaning; remove one of them.")
        if meaning is not None:
            found[meaning] = (name, values)
    if not any(field == "features" for _, field in found):
        held = ", ".join(list(arrays)[:5]) or "nothing"
        raise InputError(
            f"{path}: has no array named features, or query_features and gallery_features (found {held}); rename its "
            "arrays."
        )
    return found


def _side(name: str) -> str | None:
    """Return the side if a name means a whole side: "query", "probe", "gallery", "test"."""
    side, field = MEANINGS_OF_NAMES.get(_plain(name), ("", ""))
    return side if side and field == "features" and _plain(name) in SIDE_NAMES[side] else None


def _order(path: Path, side: str, name: str, found: _Found, records: Records, count: int) -> NDArray[np.intp] | None:
    """Return the row of each record's feature (-1: a training image without one); None if rows are in record order.

    Paths are equal if their last parts are equal, with or without the file name suffix.

    Raises:
        InputError: a query or gallery image has no feature.
    """
    column, given = found.get((side, "path")), True
    if column is None:  # "ids" may identify vehicles or images
        column, given = found.get((side, "identity")), False
    if column is None:
        return None
    values = _array(column[1]).reshape(-1)
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    if len(values) != count or (not given and values.dtype.kind not in "UO"):
        return None
    paths = [str(value).strip() for value in values.tolist()]
    if len(set(paths)) < len(paths):  # for example paths of frames with several vehicles
        return None
    best: NDArray[np.intp] = np.full(len(records), -1, dtype=np.intp)
    for form in _FORMS:
        rows = {form(one): row for row, one in enumerate(paths)}
        if len(rows) < len(paths):
            continue  # ambiguous: two paths have the same form
        for names in (records.image_key, records.path):
            wanted = [form(str(one)) for one in names]
            if len(set(wanted)) == len(wanted):
                order = np.array([rows.get(one, -1) for one in wanted], dtype=np.intp)
                best = order if (order >= 0).sum() > (best >= 0).sum() else best
    lacking = np.flatnonzero((best < 0) & (records.split.values != "train"))
    if not len(lacking):
        return best
    if not given:
        return None
    first = int(lacking[0])
    example = "" if (best >= 0).any() else f" (the file has {paths[0]!r})"
    raise InputError(
        f"{path}: {name} has no feature for {len(lacking):,} of {len(records):,} images, first {records.path[first]} "
        f"(row {first + 1}){example}; extract these too, or use the paths of the table."
    )


def _tail(parts: int) -> Callable[[str], str]:
    return lambda text: "/".join(text.replace("\\", "/").split("/")[-parts:])


_FORMS: tuple[Callable[[str], str], ...] = (
    lambda text: text,
    os.path.normpath,
    *(_tail(parts) for parts in (4, 3, 2, 1)),
    lambda text: os.path.splitext(_tail(2)(text))[0],
    lambda text: os.path.splitext(_tail(1)(text))[0],
)
"""Normal forms for comparing paths, the strictest first."""


def _check_identities(path: Path, side: str, found: _Found, records: Records) -> None:
    """Check that identities in the file group the rows like those of the records; otherwise the order differs.

    Raises:
        InputError: two rows contradict the records.
    """
    if (side, "identity") not in found:
        return
    name, values = found[side, "identity"]
    try:
        labels = _labels(path, name, "identity", values, len(records))
    except InputError:
        return  # the array does not hold identities; those of the records are used
    theirs: dict[str, tuple[str, int]] = {}
    ours: dict[str, tuple[str, int]] = {}
    for row, (label, own) in enumerate(zip(labels, records.identity.values.tolist(), strict=True)):
        if records.identity.codes[row] < 0 or label in ("", "junk"):
            continue
        for seen, key, other in ((theirs, label, own), (ours, own, label)):
            before = seen.setdefault(key, (other, row))
            if before[0] != other:
                raise InputError(
                    f"{path}: {name} of rows {before[1] + 1} and {row + 1} contradict the table, where they are "
                    f"{records.identity.values[before[1]]} and {own}; sort the table like the file, or remove {name} "
                    "if it has another meaning."
                )


def _array(values: Any) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError:  # rows of unequal length
        return np.array([values], dtype=object)


def _matrix(path: Path, name: str, values: Any) -> NDArray[np.float32]:
    """Convert the values of an array in the file to (N, D) float32."""
    array = _array(values)
    if array.dtype.kind not in "fiu":
        kinds = {"c": "complex numbers", "b": "truth values", "U": "text", "S": "text"}
        held = kinds.get(array.dtype.kind, "other objects")
        raise InputError(f"{path}: {name} holds {held}, not numbers; give a matrix (images, dimensions).")
    check_size(path, 4 * array.size)
    if array.ndim == 4 and array.shape[2:] == (1, 1):  # pooled maps
        array = array[:, :, 0, 0]
    if array.ndim != 2 or not array.size:
        raise InputError(f"{path}: {name} has shape {array.shape}; give (images, dimensions), neither of them zero.")
    with np.errstate(over="ignore"):  # values beyond float32 become infinite and are reported with their row
        return np.ascontiguousarray(array, dtype=np.float32)


def _records(path: Path, side: str, found: _Found, records: Records | None, count: int) -> Records:
    """Return the records of one side: the given records of that split, or records from the labels in the file."""
    if records is not None:
        if not side:
            return records
        if not records.split.known.any():
            raise InputError(
                f"{path}: holds query and gallery features, but the records have no split; give the column `split`."
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
            f"{path}: holds one matrix and no labels; give the records of its rows (--records: a table with one row "
            "per image)."
        )
    paths = columns.pop("path", None) or [f"{side or 'image'}/{row:06d}" for row in range(1, count + 1)]
    return Records.of(path=paths, **columns)


def _labels(path: Path, name: str, field: str, values: Any, count: int) -> list[str]:
    array = _array(values).reshape(-1)
    if len(array) != count:
        raise InputError(f"{path}: {name} has {len(array):,} values for {count:,} features; give one per feature.")
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    if array.dtype.kind not in "fiuU":
        raise InputError(f"{path}: {name} holds neither whole numbers nor text; give one label per image.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"{path}: {name} contains NaN or infinity; give one label per image.")
    texts = [str(value).strip() for value in array.tolist()]
    if field == "path":
        return texts
    labels, wrong = plain_labels(texts, field)
    if array.dtype.kind == "f" and not wrong:  # a column of fractions only would pass as names
        wrong = [(row, "is not a whole number") for row, value in enumerate(array.tolist()) if value != int(value)]
    if array.dtype.kind == "f" and not wrong:
        large = np.flatnonzero(np.abs(array) > largest_exact(array))
        wrong = [(int(row), f"is rounded ({array.dtype}) and may have lost digits") for row in large[:1]]
    for row, fault in wrong:
        raise InputError(f"{path}: {name}, row {row + 1}: {texts[row][:60]} {fault}; save whole numbers or text.")
    return labels


def _join(path: Path, name: str, matrix: NDArray[np.float32], records: Records, side: str = "") -> FeatureSet:
    if len(matrix) != len(records):
        turned = matrix.shape[1] == len(records)
        fix = (
            "it seems to be transposed: give one row, not one column, per image"
            if turned
            else "give one row per image, in the same order"
        )
        counts = [f"{np.count_nonzero(records.split.values == split):,} {split}" for split in _SPLITS]
        divided = f" ({', '.join(counts)})" if records.split.known.any() and not side else ""
        raise InputError(
            f"{path}: {name} has {len(matrix):,} rows for {len(records):,} {side or 'image'} records{divided}; {fix}."
        )
    for wrong, what in (
        (~np.isfinite(matrix).all(axis=1), "contains NaN or infinity (in float32)"),
        (norms(matrix) == 0, "is zero and cannot be normalised"),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise InputError(
                f"{path}: {name}, row {row + 1} ({records.path[row]}): the feature {what}; extract it again or remove "
                "it."
            )
    return FeatureSet(matrix, records)


def _divided(path: Path, whole: FeatureSet) -> tuple[FeatureSet, FeatureSet]:
    if not whole.records.split.known.any():
        return whole, whole
    _check_splits(path, whole.records)
    return whole[whole.records.split.values == "query"], whole[whole.records.split.values == "gallery"]


def _check_splits(path: Path, records: Records) -> None:
    """Raise for a split that is not in `_SPLITS`, and for records without a query or a gallery."""
    values = records.split.values
    wrong = ~np.isin(values.astype(str), _SPLITS)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            f"{path}: split of {records.path[row]} (record {row + 1}) is {values[row]!r}; use one of "
            f"{', '.join(_SPLITS)}."
        )
    for side in ("query", "gallery"):
        if side not in values:
            raise InputError(f"{path}: no record has split {side}; set it for the {side} images, or give no splits.")
