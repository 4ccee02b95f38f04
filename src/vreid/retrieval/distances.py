"""Distance matrices (query x unit), computed a block of query rows at a time.

The distance is the squared Euclidean distance of the features: 2 - 2 cos for L2-normalised features, from 0 (same
direction) to 4 (opposite). A post-processing step may replace it (re-ranking gives values in [0, 1]). Smaller is more
similar; +inf means "not a candidate".

Shapes: Q queries, G gallery images, U units (a unit is an image or a whole tracklet), D feature dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vreid.data.records import Records
from vreid.data.spellings import check_spellings
from vreid.errors import InputError
from vreid.retrieval.features import FeatureSet, as_numbers, norms
from vreid.retrieval.nearest import Points, exact_distances
from vreid.retrieval.storage import pack_records, read_arrays, unpack_records, write_arrays
from vreid.retrieval.tiles import Matrix, Source, Tiles, in_blocks, strips, tile_rows

_SAMPLE = 1024  # about so many units are sampled to estimate their centre
_LONG = 1.01  # squared norm up to which features count as normalised; the error of their distances is 1e-7
_NEAR = np.float32(2.0**-8)  # squared distances below this share of the squared norms are computed in float64
_FAR = 16  # features are centred if their squared distance to the origin is more than this multiple of their spread
_INSIDE_TRACKLET = np.float32(1e-6)
_LARGEST_SQUARE = float(np.finfo(np.float32).max) / 8


@dataclass(frozen=True, eq=False)
class SquaredEuclidean:
    """Squared Euclidean distances |a|^2 + |b|^2 - 2ab, clamped at 0 and computed lazily.

    Against cancellation in float32, features far from the origin are centred first, and for features longer than 1,
    pairs much nearer to each other than to the origin are computed in float64. The tile size depends only on the
    number of units, because the last bits of a matrix product depend on its shape; results therefore do not depend on
    the caller's block size.

    Attributes:
        query_QD: (Q, D) float32.
        unit_UD: (U, D) float32.
        squares: (Q,) and (U,) float64 squared norms, if already computed.
        products_QU: (Q, U) float32 dot products, if already computed; not used for features far from the origin.
    """

    query_QD: NDArray[np.float32]
    unit_UD: NDArray[np.float32]
    squares: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    products_QU: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if self.query_QD.shape[1] != self.unit_UD.shape[1]:
            raise InputError(
                f"query features have {self.query_QD.shape[1]} dimensions, gallery features {self.unit_UD.shape[1]}; "
                "extract both with the same model."
            )
        if self._squares[0].max(initial=0) + self._squares[1].max(initial=0) > _LARGEST_SQUARE:
            raise InputError("features are too large for float32 distances; call normalise() first.")

    @cached_property
    def _squares(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if self.squares is not None:
            return self.squares
        query = norms(self.query_QD) ** 2
        return query, query if self.unit_UD is self.query_QD else norms(self.unit_UD) ** 2

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.query_QD), len(self.unit_UD)

    def tiles(self) -> Tiles:
        """Yield row tiles of at most 512 rows and about 64 MiB; each is a new array that the caller may modify."""
        rows, columns = self.shape
        query_QD, unit_UD, products_QU, squares = self.query_QD, self.unit_UD, self.products_QU, self._squares
        centre_D = _far_centre(unit_UD)
        if centre_D is not None:
            query_QD, products_QU = _moved(query_QD, centre_D), None
            unit_UD = query_QD if self.unit_UD is self.query_QD else _moved(unit_UD, centre_D)
            squares = norms(query_QD) ** 2, norms(unit_UD) ** 2
        query_squares, unit_squares = (each.astype(np.float32) for each in squares)
        exact = None
        if max(each.max(initial=0) for each in squares) > _LONG:
            exact = Points((query_QD,), squares[0]), Points((unit_UD,), squares[1])
        height = tile_rows(columns)

        def made(start: int) -> tuple[int, NDArray[np.float32]]:
            block = slice(start, start + height)
            tile: NDArray[np.float32]
            if products_QU is None:
                tile = np.matmul(query_QD[block] * np.float32(-2), unit_UD.T)
            else:
                tile = np.multiply(products_QU[block], -2, dtype=np.float32)
            for strip in strips(tile):
                part = tile[strip]
                part += unit_squares
                part += query_squares[block][strip, None]
                np.maximum(part, 0, out=part)
                if exact is not None:
                    sums = unit_squares + query_squares[block][strip, None]
                    row, column = np.nonzero(part < _NEAR * sums)
                    part[row, column] = exact_distances(exact[0], row + start + strip.start, exact[1], column)
            return start, tile

        return map(made, range(0, rows, height))


def _far_centre(features_UD: NDArray[np.float32]) -> NDArray[np.float64] | None:
    """Return the mean (D,) of a sample of the features if it is far from the origin relative to their spread."""
    some = features_UD[:: max(1, len(features_UD) // _SAMPLE)].astype(np.float64)
    centre_D = some.mean(axis=0)
    spread = np.square(some - centre_D).sum() / len(some)
    return centre_D if centre_D @ centre_D > _FAR * spread else None


def _moved(features_ND: NDArray[np.float32], centre_D: NDArray[np.float64]) -> NDArray[np.float32]:
    """Subtract `centre_D` from the features (N, D) with a single rounding."""
    out = np.empty_like(features_ND)
    for rows in strips(features_ND):
        out[rows] = features_ND[rows] - centre_D
    return out


def _covers(unit_of_image: NDArray[np.integer], units: int) -> bool:
    """Whether the units of the images are 0 .. units - 1, each of them at least once."""
    if unit_of_image.min() != 0 or unit_of_image.max() != units - 1:
        return False
    return bool(np.bincount(unit_of_image, minlength=units).all())


@dataclass(frozen=True, eq=False)
class Distances:
    """Distances from Q queries to U units, with the records needed to rank the G gallery images.

    Attributes:
        query: Q records.
        gallery: G records.
        source: computes the (Q, U) float32 distances; +inf: not a candidate.
        unit_of_image: (G,) int32 unit of each gallery image; 0, 1, ... if units are images.
        frames: computes (Q, G) image distances that order the images within a tracklet; None: by gallery index.
        steps: post-processing steps, in order.
        reranked: whether re-ranking is one of them.
        transductive: whether other queries or statistics of the test images were used.
        features: model and views of the features; "" if unknown.
        notes: sentences about the effect of the steps on these images.

    Raises:
        InputError: a side is empty, shapes do not match, or a camera or identity is spelt in two ways.

    Example:
        >>> records = Records.of(path=["a.jpg", "b.jpg"])
        >>> features = FeatureSet([[1.0, 0.0], [0.0, 1.0]], records, normalised=True)
        >>> Distances.of(features, features).matrix().tolist()
        [[0.0, 2.0], [2.0, 0.0]]
    """

    query: Records
    gallery: Records
    source: Source
    unit_of_image: NDArray[np.int32]
    frames: Source | None = None
    steps: tuple[str, ...] = ()
    reranked: bool = False
    transductive: bool = False
    features: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.query) or not len(self.gallery):
            empty = "query" if not len(self.query) else "gallery"
            raise InputError(f"Distances: the {empty} holds no images; give at least one.")
        rows, units = self.source.shape
        if rows != len(self.query):
            raise InputError(f"Distances: {rows:,} rows for {len(self.query):,} queries; give one row per query.")
        object.__setattr__(self, "unit_of_image", np.asarray(self.unit_of_image, dtype=np.int32))
        if self.unit_of_image.shape != (len(self.gallery),):
            raise InputError(
                f"Distances: unit_of_image has shape {self.unit_of_image.shape} for {len(self.gallery):,} gallery "
                "images; give one unit per image."
            )
        if not _covers(self.unit_of_image, units):
            raise InputError(f"Distances: every one of the {units:,} units needs at least one gallery image.")
        if self.frames is not None and self.frames.shape != (rows, len(self.gallery)):
            raise InputError(f"Distances: frames have shape {self.frames.shape}, not ({rows}, {len(self.gallery)}).")
        check_spellings(self.query, self.gallery)

    @classmethod
    def of(cls, query: FeatureSet, gallery: FeatureSet) -> Distances:
        """Build the distances of plain search: squared Euclidean, image to image, computed lazily.

        Raises:
            InputError: a side is empty, or dimensions, normalisation or model differ.
        """
        check_comparable(query, gallery)
        source = SquaredEuclidean(query.features, gallery.features)
        return cls(query.records, gallery.records, source, _identity_map(len(gallery)), features=query.made_by)

    @classmethod
    def from_matrix(cls, values: ArrayLike, query: Records, gallery: Records) -> Distances:
        """Wrap a given distance matrix (Q, G), image to image; smaller is more similar.

        Raises:
            InputError: it is not numeric, has a wrong shape, or contains NaN.
        """
        matrix = as_matrix(values)
        if matrix.shape != (len(query), len(gallery)):
            raise InputError(f"distances: shape {matrix.shape} for {len(query):,} queries x {len(gallery):,} images.")
        return cls(query, gallery, Matrix(matrix), _identity_map(len(gallery)))

    @property
    def num_units(self) -> int:
        """U, the number of units."""
        return self.source.shape[1]

    @cached_property
    def units_are_images(self) -> bool:
        """Whether each image is its own unit, in gallery order."""
        return np.array_equal(self.unit_of_image, np.arange(len(self.gallery)))

    def __repr__(self) -> str:
        unit = "images" if self.units_are_images else f"units of {len(self.gallery):,} images"
        facts = [*self.steps] or ["plain search"]
        facts += ["transductive"] if self.transductive else []
        return f"Distances: {len(self.query):,} queries x {self.num_units:,} {unit}; {', '.join(facts)}"

    def blocks(self, rows: int | None = None) -> Tiles:
        """Yield (first query, (rows, U) float32); values do not depend on the block size.

        By default blocks have at most 256 rows, and those of wide matrices 64 MiB as the tiles that they are made of.
        """
        return in_blocks(self.source.tiles(), self._rows(rows))

    def _rows(self, rows: int | None) -> int:
        return min(256, tile_rows(self.num_units)) if rows is None else rows

    def image_blocks(self, rows: int | None = None) -> Tiles:
        """Yield (first query, (rows, G) float32): each image has the distance of its unit.

        With `frames`, the frame of a tracklet nearest to the query keeps this distance and the others get + 1e-6
        (DMT 2020).
        """
        if self.units_are_images:
            yield from self.blocks(rows)
        elif self.frames is None:
            for start, block in self.blocks(rows):
                yield start, block[:, self.unit_of_image]
        else:
            order = np.argsort(self.unit_of_image, kind="stable")
            first = np.searchsorted(self.unit_of_image[order], np.arange(self.num_units))
            frames = in_blocks(self.frames.tiles(), self._rows(rows))
            for (start, block), (_, frame) in zip(self.blocks(rows), frames, strict=True):
                nearest = np.minimum.reduceat(frame[:, order], first, axis=1)
                later = (frame > nearest[:, self.unit_of_image]) * _INSIDE_TRACKLET
                yield start, block[:, self.unit_of_image] + later

    def matrix(self) -> NDArray[np.float32]:
        """Compute the full (Q, U) float32 matrix in memory (Q x U x 4 bytes)."""
        return np.concatenate([block for _, block in self.blocks()])

    def save(self, path: Path | str) -> None:
        """Write the full matrix and both records atomically to one .safetensors file."""
        arrays = {"distances": self.matrix(), "unit_of_image": self.unit_of_image}
        if self.frames is not None:
            arrays["frames"] = np.concatenate([tile for _, tile in self.frames.tiles()])
        arrays |= pack_records("query", self.query) | pack_records("gallery", self.gallery)
        facts = {name: getattr(self, name) for name in ("steps", "reranked", "transductive", "features", "notes")}
        write_arrays(path, "distances", arrays, **facts)

    @classmethod
    def load(cls, path: Path | str) -> Distances:
        """Load distances written by `save`; the matrix is in memory.

        Raises:
            InputError: the file is missing, damaged, or not a file of distances.
        """
        arrays, facts = read_arrays(path, "distances")
        return cls(
            query=unpack_records("query", arrays),
            gallery=unpack_records("gallery", arrays),
            source=Matrix(arrays["distances"]),
            unit_of_image=arrays["unit_of_image"],
            frames=Matrix(arrays["frames"]) if "frames" in arrays else None,
            steps=tuple(facts["steps"]),
            reranked=facts["reranked"],
            transductive=facts["transductive"],
            features=facts.get("features", ""),
            notes=tuple(facts.get("notes", ())),
        )


def as_matrix(values: ArrayLike) -> NDArray[np.float32]:
    """Convert an array-like to (Q, G) float32 distances.

    Raises:
        InputError: it is not a numeric matrix, a side is empty, or a row contains NaN.
    """
    matrix = as_numbers(values, "distances")
    if matrix.ndim != 2 or not matrix.size:
        raise InputError(f"distances: shape is {matrix.shape}; give (queries, gallery images), neither of them zero.")
    wrong = np.isnan(matrix.max(axis=1))
    if wrong.any():
        raise InputError(f"distances: row {int(np.argmax(wrong)) + 1} holds NaN; compute it again.")
    return matrix


def check_comparable(query: FeatureSet, gallery: FeatureSet) -> None:
    """Raise if distances between two feature sets are meaningless.

    Raises:
        InputError: a side is empty, or dimensions, normalisation or models differ.
    """
    for name, side in (("query", query), ("gallery", gallery)):
        if not len(side):
            raise InputError(f"the {name} holds no images; give at least one.")
    for what in ("dimensions", "normalised", "raw", "model"):
        left, right = getattr(query, what), getattr(gallery, what)
        if left != right:
            raise InputError(
                f"{what} is {left!r} for the query but {right!r} for the gallery; extract both with the same settings."
            )


def _identity_map(count: int) -> NDArray[np.int32]:
    return np.arange(count, dtype=np.int32)
