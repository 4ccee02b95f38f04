"""Records: labels and metadata of N images, one column per attribute; shared by all parts of vreid.

Text attributes are `Labels`: strings with integer codes beside them. An *unknown* label is missing (a test image
of a challenge); a *junk* identity marks an image that the data set excludes from evaluation. Missing numbers are NaN,
a missing frame is -1.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vreid.errors import InputError
from vreid.files import atomic_write
from vreid.formatting import plural

UNKNOWN = -1
"""Code of an unknown label."""
JUNK = -2
"""Code of an identity that its data set declares to be junk: such an image counts neither as a hit nor as a miss."""

JUNK_NAME = "junk"


@dataclass(frozen=True, eq=False)
class Labels:
    """One text column: `codes` (N,) int32 into `names` (sorted, distinct), or UNKNOWN, or JUNK.

    Example:
        >>> colors = Labels.of(["red", "blue", "", "red"])
        >>> colors.names.tolist(), colors.codes.tolist()
        (['blue', 'red'], [1, 0, -1, 1])
    """

    names: NDArray[np.object_]
    codes: NDArray[np.int32]

    @classmethod
    def of(cls, values: Iterable[str | None], *, junk: str | None = None) -> Labels:
        """Build from strings; None and "" are unknown, the string `junk` (if any) is junk."""
        listed = ["" if value is None else str(value) for value in values]
        names = sorted(set(listed) - {"", junk})
        code_of = {name: code for code, name in enumerate(names)}
        if junk is not None:
            code_of[junk] = JUNK
        code_of[""] = UNKNOWN
        codes = np.fromiter((code_of[value] for value in listed), dtype=np.int32, count=len(listed))
        return cls(object_array(names), codes)

    @classmethod
    def constant(cls, value: str | None, count: int) -> Labels:
        """`count` times the same value (None: unknown)."""
        if value is None:
            return cls(object_array([]), np.full(count, UNKNOWN, dtype=np.int32))
        return cls(object_array([value]), np.zeros(count, dtype=np.int32))

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: Any) -> Labels:
        return Labels(self.names, self.codes[index])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Labels) and bool(np.array_equal(self.values, other.values))

    @cached_property
    def values(self) -> NDArray[np.object_]:
        """(N,) strings: the name, "" where unknown, "junk" where junk."""
        return np.append(self.names, [JUNK_NAME, ""]).astype(object)[self.codes]

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """(N,) whether there is a label that is neither unknown nor junk."""
        return self.codes >= 0

    @property
    def distinct(self) -> int:
        """How many different names occur (`names` may hold some that no longer do)."""
        return int(np.count_nonzero(np.bincount(self.codes[self.known])))

    def compact(self) -> Labels:
        """The same values with only those names that occur, so that codes run from 0 without gaps."""
        present, inverse = np.unique(self.codes[self.known], return_inverse=True)
        codes = self.codes.copy()
        codes[self.known] = inverse.astype(np.int32)
        return Labels(self.names[present], codes)


def object_array(values: Sequence[str]) -> NDArray[np.object_]:
    """Array (N,) of texts; NumPy alone would make one of fixed width."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def joint_codes(*columns: Labels) -> tuple[NDArray[np.int32], ...]:
    """Codes of several columns on one common list of names, so that equal codes mean equal strings.

    Example:
        >>> joint_codes(Labels.of(["b", "a"]), Labels.of(["c", "b"]))[1].tolist()
        [2, 1]
    """
    names = sorted(set().union(*(set(column.names.tolist()) for column in columns)))
    code_of = {name: code for code, name in enumerate(names)}
    out = []
    for column in columns:
        table = np.array([*(code_of[name] for name in column.names), JUNK, UNKNOWN], dtype=np.int32)
        out.append(table[column.codes])
    return tuple(out)


def connected_cameras(records: Records) -> list[tuple[str, ...]]:
    """Return the connected components of cameras that share vehicles, in the order of their names.

    Images without a known camera or identity are ignored; if none has both, there are no groups.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    both = records[records.identity.known & records.camera.known]
    identity, camera = both.identity.compact(), both.camera.compact()
    size = (len(identity.names) + len(camera.names),) * 2
    if not len(both):
        return []
    seen = coo_array((np.ones(len(both)), (identity.codes, len(identity.names) + camera.codes)), shape=size)
    groups = connected_components(seen, directed=False)[1][len(identity.names) :]
    return sorted(tuple(sorted(map(str, camera.names[groups == group]))) for group in np.unique(groups))


LABEL_COLUMNS = ("identity", "camera", "tracklet", "scene", "domain", "variant", "color", "vehicle_type", "split")
BOX_COLUMNS = ("x1", "y1", "x2", "y2")
CSV_COLUMNS = (
    "image_key",
    "path",
    "identity",
    "camera",
    "tracklet",
    "frame",
    "time",
    "scene",
    "domain",
    "variant",
    *BOX_COLUMNS,
    "color",
    "vehicle_type",
    "orientation",
    "split",
)


@dataclass(frozen=True, eq=False)
class Records:
    """N images, one column per attribute; immutable, validated, indexable like an array.

    Columns:
        image_key: (N,) stable, distinct names; an original, its crop and its translation are told apart by `variant`.
        path: (N,) where the image lies, or the video whose frame it is, as the reader was given it.
        identity, camera, tracklet, scene: `Labels`; a tracklet is unique over all cameras.
        frame: (N,) int64, -1 unknown; in a video from 0, in the order of showing.
        time: (N,) float64, UTC seconds, NaN unknown.
        domain: "real" or "synthetic". variant: "original", "crop" or "translated".
        box: (N, 4) float32, x1 y1 x2 y2, half-open: the part of the image at `path` (a full frame, say) that shows
            the vehicle, in its pixels; NaN: the whole image.
        color, vehicle_type: `Labels`.
        orientation: (N,) float32 degrees in [0, 360), 0 = facing the camera, counter-clockwise from above; NaN unknown.
        split: "train", "query", "gallery" or whatever the source says.

    Example:
        >>> records = Records.of(path=["a.jpg", "b.jpg"], identity=["7", "7"], camera=["c1", "c2"])
        >>> records
        Records: 2 images, 1 identity, 2 cameras, 0 tracklets
        >>> records[records.camera.values == "c2"].path.tolist()
        ['b.jpg']
    """

    image_key: NDArray[np.object_]
    path: NDArray[np.object_]
    identity: Labels
    camera: Labels
    tracklet: Labels
    frame: NDArray[np.int64]
    time: NDArray[np.float64]
    scene: Labels
    domain: Labels
    variant: Labels
    box: NDArray[np.float32]
    color: Labels
    vehicle_type: Labels
    orientation: NDArray[np.float32]
    split: Labels

    def __post_init__(self) -> None:
        count = len(self.path)
        for field in fields(self):
            column = getattr(self, field.name)
            if len(column) != count:
                raise InputError(
                    f"Records: column {field.name} has {len(column)} values for {count} images; give one per image."
                )
        if self.box.shape != (count, 4):
            raise InputError(f"Records: box has shape {self.box.shape}; it must be ({count}, 4): x1, y1, x2, y2.")
        with np.errstate(invalid="ignore"):
            self._reject(
                (self.box[:, 2] <= self.box[:, 0]) | (self.box[:, 3] <= self.box[:, 1]),
                "box",
                "is empty; x2 must be greater than x1 and y2 greater than y1",
            )
            self._reject(
                (self.orientation < 0) | (self.orientation >= 360),
                "orientation",
                "lies outside [0, 360) degrees; take it modulo 360",
            )
        self._reject(np.isinf(self.time), "time", "is infinite; give UTC seconds or leave it empty")

    def _reject(self, wrong: NDArray[np.bool_], column: str, fix: str) -> None:
        if wrong.any():
            row = int(np.argmax(wrong))
            value = getattr(self, column)[row]
            raise InputError(f"{self.path[row]} (image {row + 1}): {column} {value} {fix}.")

    @classmethod
    def of(cls, *, path: Sequence[str | Path], **columns: Any) -> Records:
        """Build from plain lists or arrays by column name; every column but `path` may be left out.

        Text columns take strings (None or "": unknown; identity "junk": junk) or ready `Labels`. Without `image_key`
        the path is the key.

        Raises:
            InputError: unknown column, unequal lengths, repeated image_key, or a value out of its range.
        """
        count = len(path)
        wrong = sorted(set(columns) - {field.name for field in fields(cls)})
        if wrong:
            raise InputError(f"Records: there is no column {wrong[0]!r}; columns are {', '.join(CSV_COLUMNS)}.")
        paths = object_array([str(p) for p in path])
        given = {name: value for name, value in columns.items() if value is not None}
        keys = object_array([str(k) for k in given.pop("image_key", paths)])
        out: dict[str, Any] = {"path": paths, "image_key": keys}
        for name in LABEL_COLUMNS:
            default = {"domain": "real", "variant": "original"}.get(name)
            value = given.pop(name, None)
            if isinstance(value, Labels):
                out[name] = value
            elif value is None:
                out[name] = Labels.constant(default, count)
            else:
                out[name] = Labels.of(value, junk=JUNK_NAME if name == "identity" else None)
        for name, kind, default_number in (
            ("frame", np.int64, -1),
            ("time", np.float64, np.nan),
            ("orientation", np.float32, np.nan),
        ):
            out[name] = _numbers(given.pop(name, None), (count,), kind, default_number, name)
        out["box"] = _numbers(given.pop("box", None), (count, 4), np.float32, np.nan, "box")
        records = cls(**out)
        if len(set(zip(keys.tolist(), records.variant.codes.tolist(), strict=True))) != count:
            seen: set[tuple[str, int]] = set()
            for row, pair in enumerate(zip(keys.tolist(), records.variant.codes.tolist(), strict=True)):
                if pair in seen:
                    raise InputError(
                        f"{paths[row]} (image {row + 1}): image_key {pair[0]!r} occurs twice; keys must be distinct."
                    )
                seen.add(pair)
        return records

    @classmethod
    def concat(cls, parts: Sequence[Records]) -> Records:
        """One Records after the other; labels are joined by name (equal names in two parts mean the same thing)."""
        if not parts:
            return cls.of(path=[])
        columns: dict[str, Any] = {}
        for field in fields(cls):
            values = [getattr(part, field.name) for part in parts]
            if isinstance(values[0], Labels):
                codes = joint_codes(*values)
                names = sorted(set().union(*(set(value.names.tolist()) for value in values)))
                columns[field.name] = Labels(object_array(names), np.concatenate(codes))
            else:
                columns[field.name] = np.concatenate(values)
        return cls(**columns)

    def __len__(self) -> int:
        return len(self.path)

    def __getitem__(self, index: Any) -> Records:
        if isinstance(index, (int, np.integer)):
            index = [int(index)]
        return Records(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Records) or len(self) != len(other):
            return False
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            same = mine == theirs if isinstance(mine, Labels) else _equal(mine, theirs)
            if not same:
                return False
        return True

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        parts = [plural(len(self), "image")]
        for column, one, many in (
            ("identity", "identity", "identities"),
            ("camera", "camera", "cameras"),
            ("tracklet", "tracklet", "tracklets"),
        ):
            parts.append(plural(getattr(self, column).distinct, one, many))
        unknown = int((self.identity.codes == UNKNOWN).sum())
        junk = int((self.identity.codes == JUNK).sum())
        if unknown:
            parts.append(f"{unknown:,} without identity")
        if junk:
            parts.append(f"{junk:,} junk")
        return "Records: " + ", ".join(parts)

    def with_(self, **columns: Any) -> Records:
        """The same images with some columns replaced (strings or `Labels` for text columns)."""
        made = Records.of(
            path=columns.pop("path", self.path),
            image_key=columns.pop("image_key", self.image_key),
            **{"variant": self.variant, **columns},
        )
        return replace(self, **{name: getattr(made, name) for name in (*columns, "path", "image_key")})

    def compact(self) -> Records:
        """The same images with only those names of labels that occur, as a small part of many records needs them."""
        return replace(self, **{name: getattr(self, name).compact() for name in LABEL_COLUMNS})

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Plain numeric arrays that `from_arrays` turns back into equal Records (text as UTF-8 bytes)."""
        out: dict[str, NDArray[Any]] = {}
        for field in fields(self):
            column = getattr(self, field.name)
            if isinstance(column, Labels):
                out[f"{field.name}.codes"] = column.codes
                out[f"{field.name}.names"] = _pack(column.names)
            elif column.dtype == object:
                out[field.name] = _pack(column)
            else:
                out[field.name] = column
        return out

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Records:
        """Inverse of `to_arrays`.

        Raises:
            InputError: a column is missing or damaged.
        """
        columns: dict[str, Any] = {}
        kinds = {"frame": np.int64, "time": np.float64}
        try:
            for field in fields(cls):
                if field.name in LABEL_COLUMNS:
                    columns[field.name] = _labels(arrays, field.name)
                elif field.name in ("image_key", "path"):
                    columns[field.name] = _unpack(arrays[field.name])
                else:
                    columns[field.name] = arrays[field.name].astype(kinds.get(field.name, np.float32), copy=False)
        except KeyError as error:
            raise InputError(f"Records: column {error.args[0]} is missing; make the file again.") from error
        return cls(**columns)

    def write_table(self, path: Path | str) -> None:
        """Write a table that `open_dataset` reads, from any working directory: its paths start at its own folder."""
        start = os.path.realpath(Path(path).parent)
        places = [os.path.relpath(os.path.abspath(image), start) for image in self.path]
        self.with_(path=places).write_csv(path)

    def write_csv(self, path: Path | str) -> None:
        """Write a table with the columns `CSV_COLUMNS` (unknown values empty), whole or not at all."""
        text = {name: getattr(self, name).values for name in LABEL_COLUMNS}
        with (
            atomic_write(path) as temporary,
            # file names that are no UTF-8 keep their bytes
            open(temporary, "w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(CSV_COLUMNS)
            for i in range(len(self)):
                writer.writerow(
                    [
                        self.image_key[i],
                        self.path[i],
                        text["identity"][i],
                        text["camera"][i],
                        text["tracklet"][i],
                        self.frame[i] if self.frame[i] >= 0 else "",
                        _cell(self.time[i]),
                        text["scene"][i],
                        text["domain"][i],
                        text["variant"][i],
                        *(_cell(v) for v in self.box[i]),
                        text["color"][i],
                        text["vehicle_type"][i],
                        _cell(self.orientation[i]),
                        text["split"][i],
                    ]
                )


def _cell(value: float) -> str:
    return "" if np.isnan(value) else str(value)


def _numbers(value: ArrayLike | None, shape: tuple[int, ...], kind: Any, default: float, name: str) -> NDArray[Any]:
    if value is None:
        return np.full(shape, default, dtype=kind)
    try:
        return np.asarray(value, dtype=kind)
    except (TypeError, ValueError) as error:
        raise InputError(f"Records: column {name} must hold numbers ({error}).") from error


def _equal(left: NDArray[Any], right: NDArray[Any]) -> bool:
    numeric = left.dtype.kind == "f"
    return bool(np.array_equal(left, right, equal_nan=numeric))


def _pack(values: NDArray[np.object_]) -> NDArray[np.uint8]:
    for value in values:
        if "\0" in value:
            raise InputError(f"{value!r}: a name must not hold a NUL character; rename it.")
    text = "\0".join(values.tolist()) + ("\0" if len(values) else "")
    return np.frombuffer(text.encode("utf-8", "surrogateescape"), dtype=np.uint8)


def _unpack(packed: NDArray[np.uint8]) -> NDArray[np.object_]:
    text = packed.tobytes().decode("utf-8", "surrogateescape")
    return object_array(text.split("\0")[:-1])


def _labels(arrays: Mapping[str, NDArray[Any]], column: str) -> Labels:
    names, codes = _unpack(arrays[f"{column}.names"]), arrays[f"{column}.codes"].astype(np.int32, copy=False)
    if codes.ndim != 1 or ((codes < JUNK) | (codes >= len(names))).any():
        raise InputError(f"Records: column {column} is damaged; make the file again.")
    return Labels(names, codes)
