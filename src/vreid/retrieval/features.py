"""FeatureSet: N feature vectors and the records of their images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vreid.data.records import Records
from vreid.errors import InputError
from vreid.files import parse_errors
from vreid.formats.facts import fact
from vreid.retrieval.storage import pack_records, read_arrays, unpack_records, write_arrays
from vreid.retrieval.tensors import on_host

FACTS = "features.json"
"""File next to the features in a folder; it is written last and marks the folder as complete."""
GALLERY_OF_QUERY = "gallery is query"
"""Key of FACTS: every image is query and gallery, and query.safetensors holds the features of both."""

_ROWS = 64  # rows per block: their float64 copies fit in the cache
_UNIT_TOLERANCE = 1e-3

NormKind = Literal["unit", "raw"]


def as_numbers(values: ArrayLike, what: str) -> NDArray[np.float32]:
    """Convert an array-like, or a torch tensor on any device, to a float32 array.

    Raises:
        InputError: values are not real numbers, or rows have different lengths.
    """
    try:
        array = np.asarray(on_host(values))
        if np.iscomplexobj(array):
            raise TypeError("these are complex")
        return array.astype(np.float32, copy=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what}: must be numbers in rows of equal length ({error}).") from error


def as_features(values: ArrayLike, what: str = "features") -> NDArray[np.float32]:
    """Convert an array-like to (N, D) C-contiguous float32.

    Raises:
        InputError: values are not numbers, or the shape is not (N, D) with D >= 1.
    """
    features = np.ascontiguousarray(as_numbers(values, what))
    if features.ndim != 2 or features.shape[1] == 0:
        raise InputError(f"{what}: shape is {features.shape}, not (images, dimensions); give one row per image.")
    return features


def norms(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute the Euclidean norms (N,), in float64 to avoid underflow and overflow."""
    out = np.empty(len(features), dtype=np.float64)
    for start in range(0, len(features), _ROWS):
        block = features[start : start + _ROWS].astype(np.float64)
        out[start : start + _ROWS] = np.sqrt(np.einsum("nd,nd->n", block, block))
    return out


def unit_rows(features: NDArray[np.float32], names: Sequence[Any] | NDArray[Any] | None = None) -> NDArray[np.float32]:
    """L2-normalise the rows.

    Raises:
        InputError: the norm of a row is zero or not finite; the message gives its name in `names` or its number.
    """
    norm = norms(features)
    wrong = ~((norm > 0) & np.isfinite(norm))
    if wrong.any():
        row = int(np.argmax(wrong))
        name = f"row {row + 1}" if names is None else f"{names[row]} (row {row + 1})"
        raise InputError(f"{name}: the feature has norm {norm[row]:g} and cannot be normalised; remove this image.")
    out = np.empty_like(features)
    for start in range(0, len(features), _ROWS):
        block = slice(start, start + _ROWS)
        out[block] = features[block] / norm[block, None]
    return out


@dataclass(frozen=True)
class Norm:
    """Normalisation of features before comparison.

    Attributes:
        kind: "unit": L2-normalised; "raw": not normalised (StRDAN).
    """

    kind: NormKind = "unit"

    def __post_init__(self) -> None:
        if self.kind not in get_args(NormKind):
            raise InputError(f"norm: kind is {self.kind!r}; use one of {', '.join(get_args(NormKind))}.")


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """N features of D dimensions with the N records of their images; validated, immutable by convention.

    Attributes:
        features: (N, D) float32, C-contiguous (other types are converted).
        records: the N images.
        normalised: every row has Euclidean norm 1.
        views: views of an image whose features were summed ("original", "flip", "crop", "crop-flip"; with the prefix
            "unit " if each was normalised first).
        model: hash of the model's weights; "" if unknown.
        raw: the features are to be compared unnormalised. Others are L2-normalised before a search, unless the step
            `norm` of the post-processing is set.

    Raises:
        InputError: a value is NaN or infinite, lengths differ, `normalised` is set but a norm is not 1, or both
            `normalised` and `raw` are set.

    Example:
        >>> records = Records.of(path=["a.jpg", "b.jpg"])
        >>> FeatureSet([[3.0, 4.0], [0.0, 2.0]], records).normalise().features.round(1).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 1.0]]
    """

    features: NDArray[np.float32]
    records: Records
    normalised: bool = False
    views: tuple[str, ...] = ("original",)
    model: str = ""
    raw: bool = False

    def __post_init__(self) -> None:
        if self.raw and self.normalised:
            raise InputError("FeatureSet: raw and normalised are both set; set one of them.")
        features = as_features(self.features, "FeatureSet")
        object.__setattr__(self, "features", features)
        object.__setattr__(self, "views", tuple(self.views))
        if len(features) != len(self.records):
            raise InputError(
                f"FeatureSet: {len(features):,} features for {len(self.records):,} records; give one row per image."
            )
        for start in range(0, len(features), _ROWS):
            wrong = ~np.isfinite(features[start : start + _ROWS]).all(axis=1)
            if wrong.any():
                self._reject(start + int(np.argmax(wrong)), "contains NaN or infinity; extract it again or remove it")
        if self.normalised:
            off = np.abs(norms(features) - 1) > _UNIT_TOLERANCE
            if off.any():
                self._reject(int(np.argmax(off)), "does not have norm 1, but normalised is set; call normalise()")

    def _reject(self, row: int, what: str) -> None:
        raise InputError(f"{self.records.path[row]} (row {row + 1}): the feature {what}.")

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: Any) -> FeatureSet:
        if isinstance(index, (int, np.integer)):
            index = [int(index)]
        return replace(self, features=self.features[index], records=self.records[index])

    def __repr__(self) -> str:
        parts = [f"{len(self):,} x {self.dimensions}", "normalised" if self.normalised else "not normalised"]
        parts += ["compared raw"] if self.raw else []
        parts.append("views " + "+".join(self.views))
        parts += [f"model {self.model[:12]}"] if self.model else []
        return f"FeatureSet: {', '.join(parts)}; {self.records!r}"

    @property
    def dimensions(self) -> int:
        """D, the number of feature dimensions."""
        return int(self.features.shape[1])

    @property
    def made_by(self) -> str:
        """Description of model and views; "" if the model is unknown."""
        return f"model {self.model[:16]}, views {'+'.join(self.views)}" if self.model else ""

    def normalise(self) -> FeatureSet:
        """L2-normalise the features.

        Raises:
            InputError: a feature has norm zero.
        """
        if self.normalised:
            return self
        return replace(self, features=unit_rows(self.features, self.records.path), normalised=True, raw=False)

    @classmethod
    def concat(cls, parts: Sequence[FeatureSet]) -> FeatureSet:
        """Concatenate feature sets.

        Raises:
            InputError: there are no parts, or their dimensions, normalisation, views or models differ.
        """
        if not parts:
            raise InputError("FeatureSet.concat: there are no parts; give at least one.")
        first = parts[0]
        for number, part in enumerate(parts[1:], start=2):
            for what in ("dimensions", "normalised", "raw", "views", "model"):
                if getattr(part, what) != getattr(first, what):
                    raise InputError(
                        f"FeatureSet.concat: {what} is {getattr(first, what)!r} in part 1 but {getattr(part, what)!r} "
                        f"in part {number}; extract both in the same way."
                    )
        return replace(
            first,
            features=np.concatenate([part.features for part in parts]),
            records=Records.concat([part.records for part in parts]),
        )

    def save(self, path: Path | str) -> None:
        """Write the features and records atomically to one .safetensors file."""
        arrays = {"features": self.features, **pack_records("records", self.records)}
        facts = {name: getattr(self, name) for name in ("normalised", "views", "model", "raw")}
        write_arrays(path, "features", arrays, **facts)

    @classmethod
    def load(cls, path: Path | str) -> FeatureSet:
        """Load features written by `save`.

        Raises:
            InputError: the file is missing, damaged, or not a file of features.
        """
        arrays, facts = read_arrays(path, "features")
        with parse_errors(path):
            return cls(
                arrays["features"],
                unpack_records("records", arrays),
                normalised=fact(facts, "normalised", bool),
                views=fact(facts, "views", tuple[str, ...]),
                model=fact(facts, "model", str),
                # older files have no "raw": features of a model that are not normalised come from `extract --raw`
                raw=facts.get("raw", bool(facts["model"]) and not facts["normalised"]),
            )


Sides = tuple[FeatureSet, FeatureSet]
"""Query and gallery features of one model."""
