"""FeatureSet: N feature vectors and the records of the images they describe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vreid.data.records import Records
from vreid.errors import InputError
from vreid.files import parse_errors, read_json
from vreid.formats.facts import fact
from vreid.retrieval.storage import pack_records, read_arrays, unpack_records, write_arrays
from vreid.retrieval.tensors import on_host

FACTS = "features.json"
"""File beside the features of a folder; with it the folder is complete."""
GALLERY_OF_QUERY = "gallery is query"
"""Key of FACTS: every image is query and gallery, and query.safetensors holds the features of both."""

_ROWS = 64  # rows looked at together: their float64 copies stay in the cache
_UNIT_TOLERANCE = 1e-3

NormKind = Literal["unit", "raw"]


def as_numbers(values: ArrayLike, what: str) -> NDArray[np.float32]:
    """A float32 array of anything array-like, torch tensors of any device too.

    Raises:
        InputError: not real numbers in rows of equal length.
    """
    try:
        array = np.asarray(on_host(values))
        if np.iscomplexobj(array):
            raise TypeError("these are complex")
        return array.astype(np.float32, copy=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what}: must be numbers in rows of equal length ({error}).") from error


def as_features(values: ArrayLike, what: str = "features") -> NDArray[np.float32]:
    """(N, D) C-contiguous float32 of anything array-like.

    Raises:
        InputError: not numbers, or not two-dimensional with D >= 1.
    """
    features = np.ascontiguousarray(as_numbers(values, what))
    if features.ndim != 2 or features.shape[1] == 0:
        raise InputError(f"{what}: shape {features.shape} must be (images, dimensions); give one row per image.")
    return features


def norms(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N,) Euclidean norms, summed in float64 so that neither tiny nor huge features lose theirs."""
    out = np.empty(len(features), dtype=np.float64)
    for start in range(0, len(features), _ROWS):
        block = features[start : start + _ROWS].astype(np.float64)
        out[start : start + _ROWS] = np.sqrt(np.einsum("nd,nd->n", block, block))
    return out


def unit_rows(features: NDArray[np.float32], names: Sequence[Any] | NDArray[Any] | None = None) -> NDArray[np.float32]:
    """Rows divided by their Euclidean norm.

    Raises:
        InputError: a row has norm zero (or is not finite); it is named by `names`, else by its number.
    """
    norm = norms(features)
    wrong = ~((norm > 0) & np.isfinite(norm))
    if wrong.any():
        row = int(np.argmax(wrong))
        name = f"row {row + 1}" if names is None else f"{names[row]} (row {row + 1})"
        raise InputError(f"{name}: the feature has norm {norm[row]:g} and no direction; leave this image out.")
    out = np.empty_like(features)
    for start in range(0, len(features), _ROWS):
        block = slice(start, start + _ROWS)
        out[block] = features[block] / norm[block, None]
    return out


@dataclass(frozen=True)
class Norm:
    """Whether features are L2-normalised before they are compared.

    Attributes:
        kind: "unit" L2-normalises them; "raw" compares them at the length they have (StRDAN).
    """

    kind: NormKind = "unit"

    def __post_init__(self) -> None:
        if self.kind not in get_args(NormKind):
            raise InputError(f"norm: kind is {self.kind!r}; use one of {', '.join(get_args(NormKind))}.")


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """N features of D numbers and the N records they belong to; validated, immutable by convention.

    Attributes:
        features: (N, D) float32, C-contiguous (other kinds of numbers are converted).
        records: the N images.
        normalised: every row has Euclidean norm 1.
        views: which views of an image were added up ("original", "flip", "crop", "crop-flip";
            with "unit " before it where each was normalised first).
        model: hash of the weights that made them; "" when unknown.
        raw: extracted to be compared unnormalised: search takes them as they are. All others are L2-normalised first,
            unless the step `norm` of the post-processing says otherwise.

    Raises:
        InputError: NaN or infinity, unequal lengths, a norm that is not 1 where `normalised` is claimed, or features
            that are said to be both normalised and raw.

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
            raise InputError("FeatureSet: features are either raw or normalised; call normalise() to make them so.")
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
                self._reject(start + int(np.argmax(wrong)), "holds NaN or infinity; extract it again or leave it out")
        if self.normalised:
            off = np.abs(norms(features) - 1) > _UNIT_TOLERANCE
            if off.any():
                self._reject(int(np.argmax(off)), "is said to be normalised but its norm is not 1; call normalise()")

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
        """D, the length of one feature."""
        return int(self.features.shape[1])

    @property
    def made_by(self) -> str:
        """The model and the views that made the features, "" when the model is unknown."""
        return f"model {self.model[:16]}, views {'+'.join(self.views)}" if self.model else ""

    def normalise(self) -> FeatureSet:
        """The same features with Euclidean norm 1.

        Raises:
            InputError: a feature has norm zero; its image is named.
        """
        if self.normalised:
            return self
        return replace(self, features=unit_rows(self.features, self.records.path), normalised=True, raw=False)

    @classmethod
    def concat(cls, parts: Sequence[FeatureSet]) -> FeatureSet:
        """One FeatureSet after the other.

        Raises:
            InputError: no parts, or parts that differ in dimensions, normalisation, views or model.
        """
        if not parts:
            raise InputError("FeatureSet.concat: there is nothing to join; give at least one part.")
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
        """Write one .safetensors file, whole or not at all."""
        arrays = {"features": self.features, **pack_records("records", self.records)}
        facts = {name: getattr(self, name) for name in ("normalised", "views", "model", "raw")}
        write_arrays(path, "features", arrays, **facts)

    @classmethod
    def load(cls, path: Path | str) -> FeatureSet:
        """Inverse of `save`.

        Raises:
            InputError: absent, damaged, or not a file of features.
        """
        arrays, facts = read_arrays(path, "features")
        with parse_errors(path):
            return cls(
                arrays["features"],
                unpack_records("records", arrays),
                normalised=fact(facts, "normalised", bool),
                views=fact(facts, "views", tuple[str, ...]),
                model=fact(facts, "model", str),
                # files of before the fact: the features of a model that are not normalised come from `extract --raw`
                raw=facts.get("raw", bool(facts["model"]) and not facts["normalised"]),
            )


Sides = tuple[FeatureSet, FeatureSet]
"""Query and gallery features of one model."""


def load_sides(folder: Path | str) -> Sides:
    """Load query and gallery features from a folder that `vreid extract` has written.

    Where every image is query and gallery, their features are stored once and both are the same object.

    Raises:
        InputError: a file is absent or damaged.
    """
    folder, once = Path(folder), False
    if (folder / FACTS).is_file():
        facts = read_json(folder / FACTS)
        with parse_errors(folder / FACTS):
            once = facts.get(GALLERY_OF_QUERY) is True
    query = FeatureSet.load(folder / "query.safetensors")
    return query, query if once else FeatureSet.load(folder / "gallery.safetensors")
