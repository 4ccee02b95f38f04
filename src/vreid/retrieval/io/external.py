"""Features in the files of other programs, joined with the records of the images that they describe.

A file holds one matrix for all images, or a query and a gallery matrix, or a vector for each path. Arrays have names,
and those in circulation are understood ("query_features", "qf", "g_pids", ...; capitals, "_" and a plural's "s" do not
matter). How files are read is in `vreid.retrieval.io.external_files`.
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
} | {"arr0": ("", "features")}  # what numpy.savez calls an array without a name
"""Side and field of every array name that is understood."""
_SPLITS = ("train", "query", "gallery")


def load_features(path: Path | str, records: Records | None = None) -> tuple[FeatureSet, FeatureSet]:
    """Query and gallery features from a file of any program: .npy, .npz, .safetensors, .pt, .mat, .csv, .parquet.

    One matrix (N, D): row i belongs to `records[i]`; `split` ("train", "query", "gallery") divides them, and without a
    split both sides are the whole. Two matrices: the k-th query row belongs to the k-th of the records with split
    "query", and so for the gallery. Where the file names the path of each feature, features are matched to `records` by
    path instead, in any order. Without `records` the labels in the file are taken (identity, camera, tracklet, path,
    split; a negative identity is junk, any other negative number unknown), and images without a path are called by
    their rows: "query/000001". Numbers of any precision become float32; nothing is normalised.

    Args:
        path: the file; what it is follows from its contents.
        records: what is known of the images. Identities in the file are compared with theirs, and are then left alone.

    Raises:
        InputError: not such a file (what it is instead is named); arrays that are missing or of a wrong shape; a
            feature that is NaN, infinite or zero (its row is named); another number of rows than of records (both are
            named); images without a feature; or identities that contradict those of the records.

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
    """The features of one side ("": of all images), joined with their records."""
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
            raise InputError(f"{path}: {found[meaning][0]} and {name} mean the same; leave one of them out.")
        if meaning is not None:
            found[meaning] = (name, values)
    if not any(field == "features" for _, field in found):
        held = ", ".join(list(arrays)[:5]) or "nothing"
        raise InputError(
            f"{path}: has no array called features, nor query_features and gallery_features (but {held}); name them so."
        )
    return found


def _side(name: str) -> str | None:
    """The side that a name means as a whole: "query", "probe", "gallery", "test"."""
    side, field = MEANINGS_OF_NAMES.get(_plain(name), ("", ""))
    return side if side and field == "features" and _plain(name) in SIDE_NAMES[side] else None


def _order(path: Path, side: str, name: str, found: _Found, records: Records, count: int) -> NDArray[np.intp] | None:
    """(len(records),) row of each record's feature, -1 for a training image without one; None: rows are in order.

    Paths are the same where one ends like the other, with or without the ending of the file's name.

    Raises:
        InputError: an image of query or gallery has no feature.
    """
    column, given = found.get((side, "path")), True
    if column is None:  # "ids" may be those of vehicles or of images
        column, given = found.get((side, "identity")), False
    if column is None:
        return None
    values = _array(column[1]).reshape(-1)
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    if len(values) != count or (not given and values.dtype.kind not in "UO"):
        return None
    paths = [str(value).strip() for value in values.tolist()]
    if len(set(paths)) < len(paths):  # of frames, say, that show several vehicles
        return None
    best: NDArray[np.intp] = np.full(len(records), -1, dtype=np.intp)
    for form in _FORMS:
        rows = {form(one): row for row, one in enumerate(paths)}
        if len(rows) < len(paths):
            continue  # two features would be one
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
        f"{path}: {name} has no feature of {len(lacking):,} of {len(records):,} images, first {records.path[first]} "
        f"(row {first + 1}){example}; extract these too, or write the paths as in the table."
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
"""Forms in which two spellings of one path are the same, the strictest first."""


def _check_identities(path: Path, side: str, found: _Found, records: Records) -> None:
    """Refuse identities in the file that group the rows otherwise than those of the records: the order differs.

    Raises:
        InputError: naming the first row that contradicts another.
    """
    if (side, "identity") not in found:
        return
    name, values = found[side, "identity"]
    try:
        labels = _labels(path, name, "identity", values, len(records))
    except InputError:
        return  # no identities; the records have them
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
                    f"{records.identity.values[before[1]]} and {own}: rows are in another order; sort the table like "
                    f"the file, or remove {name} if it means something else."
                )


def _array(values: Any) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError:  # rows of unequal length
        return np.array([values], dtype=object)


def _matrix(path: Path, name: str, values: Any) -> NDArray[np.float32]:
    """(N, D) float32 of what the file holds."""
    array = _array(values)
    if array.dtype.kind not in "fiu":
        kinds = {"c": "complex numbers", "b": "truth values", "U": "text", "S": "text"}
        held = kinds.get(array.dtype.kind, "other objects")
        raise InputError(f"{path}: {name} holds {held}, no rows of numbers; give a matrix (images, dimensions).")
    check_size(path, 4 * array.size)
    if array.ndim == 4 and array.shape[2:] == (1, 1):  # pooled maps
        array = array[:, :, 0, 0]
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
            "it seems transposed: give one row, not one column, for each"
            if turned
            else "give one row for each, in the same order"
        )
        counts = [f"{np.count_nonzero(records.split.values == split):,} {split}" for split in _SPLITS]
        divided = f" ({', '.join(counts)})" if records.split.known.any() and not side else ""
        raise InputError(
            f"{path}: {name} has {len(matrix):,} rows for {len(records):,} {side or 'image'} records{divided}; {fix}."
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
