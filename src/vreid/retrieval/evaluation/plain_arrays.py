"""Evaluation of plain arrays: distances or features computed by other programs.

Identities and cameras are integers or strings. A gallery image with identity -2 or "junk" is ignored, one with identity
-1 or "" is a negative of every query, and a camera -1 or "" is unknown and equals no other.

Shapes: Q queries, G gallery images, N images, D feature dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vreid.data.protocols import (
    MARKET,
    NOTHING,
    VEHICLE_ID,
    VERI_TRACKS,
    AveragePrecision,
    Groups,
    Normaliser,
    Protocol,
)
from vreid.data.records import JUNK, JUNK_NAME, UNKNOWN
from vreid.data.spellings import largest_exact, plain_labels, spelling
from vreid.errors import InputError
from vreid.ranges import check_number
from vreid.retrieval.distances import SquaredEuclidean, as_matrix
from vreid.retrieval.evaluation.evaluate import check_one_each, evaluate_draws, evaluate_tiles, nearest_of_units
from vreid.retrieval.evaluation.metrics import Metrics
from vreid.retrieval.nearest import Points
from vreid.retrieval.postprocessing.tracklet_features import units_of_codes
from vreid.retrieval.tensors import on_host
from vreid.retrieval.tiles import Tiles

_ROWS = 256  # rows per block, so that no second matrix is kept in memory

Codes = NDArray[np.int64]


def evaluate(
    distances: ArrayLike,
    *,
    query_identity: ArrayLike,
    gallery_identity: ArrayLike,
    query_camera: ArrayLike,
    gallery_camera: ArrayLike,
    top_k: int | None = None,
    normaliser: Normaliser = "total",
    average_precision: AveragePrecision = "rectangular",
) -> Metrics:
    """Evaluate a (Q, G) distance matrix, image to image, under the Market-1501 protocol.

    Gallery images with the identity and the camera of the query are excluded.

    Raises:
        InputError: lengths do not match, a distance is NaN, a query has no identity, or no query has a positive.

    Example:
        >>> metrics = evaluate([[0.1, 0.2, 0.3]], query_identity=[7], gallery_identity=[7, 8, 7], query_camera=[1],
        ...                    gallery_camera=[2, 2, 2])
        >>> round(metrics.mAP, 4), metrics.rank1
        (0.8333, 1.0)
    """
    matrix = as_matrix(distances)
    protocol = replace(MARKET, top_k=top_k, normaliser=normaliser, average_precision=average_precision)
    identities = _codes(query_identity, gallery_identity, matrix.shape, "identity")
    cameras = _codes(query_camera, gallery_camera, matrix.shape, "camera")
    return _evaluate_codes(iter([(0, matrix)]), identities, cameras, protocol)


def evaluate_tracks(
    distances: ArrayLike,
    *,
    query_identity: ArrayLike,
    gallery_identity: ArrayLike,
    query_camera: ArrayLike,
    gallery_camera: ArrayLike,
    tracklet_of_image: ArrayLike,
    top_k: int | None = None,
    normaliser: Normaliser = "total",
    average_precision: AveragePrecision = "rectangular",
) -> Metrics:
    """Evaluate a (Q, G) distance matrix, image to tracklet: the distance of a tracklet is that of its nearest image.

    Tracklets with the identity and the camera of the query are excluded (VeRi-776). `tracklet_of_image` (G,) is the
    tracklet of each gallery image; an image with -1 or "" is its own unit. To compare mean features instead, give
    `evaluate` the distances to `mean_features` and the labels of the tracklets.

    Raises:
        InputError: as `evaluate`, or a tracklet has two identities or cameras.

    Example:
        >>> metrics = evaluate_tracks([[0.3, 0.2, 0.1]], query_identity=[7], gallery_identity=[8, 8, 7],
        ...                           query_camera=[1], gallery_camera=[2, 2, 2], tracklet_of_image=["a", "a", "b"])
        >>> metrics.relevant.tolist(), metrics.rank1
        ([1], 1.0)
    """
    matrix = as_matrix(distances)
    protocol = replace(VERI_TRACKS, top_k=top_k, normaliser=normaliser, average_precision=average_precision)
    identities = _codes(query_identity, gallery_identity, matrix.shape, "identity")
    cameras = _codes(query_camera, gallery_camera, matrix.shape, "camera")
    units, first = units_of_codes(_one_side(tracklet_of_image, matrix.shape[1], "tracklet_of_image"))
    check_one_each(identities[1], units, first, "identity")
    check_one_each(cameras[1], units, first, "camera")
    of_units = [(query, gallery[first]) for query, gallery in (identities, cameras)]
    blocks = ((start, matrix[start : start + _ROWS]) for start in range(0, len(matrix), _ROWS))
    return _evaluate_codes(nearest_of_units(blocks, units), of_units[0], of_units[1], protocol)


def evaluate_features(
    query_features: ArrayLike,
    gallery_features: ArrayLike,
    *,
    query_identity: ArrayLike,
    gallery_identity: ArrayLike,
    query_camera: ArrayLike,
    gallery_camera: ArrayLike,
    top_k: int | None = None,
    normaliser: Normaliser = "total",
    average_precision: AveragePrecision = "rectangular",
) -> Metrics:
    """Evaluate features (Q, D) and (G, D) by squared Euclidean distance, like `evaluate`, in blocks of rows.

    The features are not normalised; L2-normalise them for cosine similarity.

    Raises:
        InputError: as `evaluate`, or the dimensions differ.

    Example:
        >>> metrics = evaluate_features([[1.0, 0.0]], [[0.0, 1.0], [0.8, 0.6]], query_identity=[7],
        ...                             gallery_identity=[8, 7], query_camera=[1], gallery_camera=[2, 2])
        >>> metrics.mAP
        1.0
    """
    points = Points.of("evaluation", query_features=query_features, gallery_features=gallery_features)
    queries, gallery = points.split()
    source = SquaredEuclidean(queries.parts[0], gallery.parts[0], (queries.squares, gallery.squares))
    protocol = replace(MARKET, top_k=top_k, normaliser=normaliser, average_precision=average_precision)
    identities = _codes(query_identity, gallery_identity, source.shape, "identity")
    cameras = _codes(query_camera, gallery_camera, source.shape, "camera")
    return replace(_evaluate_codes(source.tiles(), identities, cameras, protocol), reranked=False, transductive=False)


def evaluate_repeated(distances: ArrayLike, *, identity: ArrayLike, repeats: int = 10, seed: int = 0) -> Metrics:
    """Evaluate an (N, N) distance matrix under VehicleID's protocol: mean over random one-image-per-vehicle galleries.

    Raises:
        InputError: the matrix is not square, `repeats` is below 1, or as `evaluate`.

    Example:
        >>> metrics = evaluate_repeated([[0, 1, 5], [1, 0, 5], [5, 5, 0]], identity=["a", "a", "b"], repeats=3)
        >>> metrics.num_queries, metrics.rank1
        (1, 1.0)
    """
    matrix = as_matrix(distances)
    if matrix.shape[0] != matrix.shape[1]:
        raise InputError(f"distances: shape is {matrix.shape}; give a square matrix, each image against all others.")
    check_number("evaluate_repeated: repeats", repeats, least=1, whole=True)
    codes = _one_side(identity, len(matrix), "identity")

    def evaluate_draw(rows: NDArray[np.intp], drawn: NDArray[np.intp], protocol: Protocol) -> Metrics:
        spans = range(0, len(rows), _ROWS)
        tiles = ((start, matrix[np.ix_(rows[start : start + _ROWS], drawn)]) for start in spans)
        return evaluate_tiles(tiles, codes[rows], codes[drawn], lambda _: NOTHING, protocol)

    return evaluate_draws(codes, replace(VEHICLE_ID, repeats=repeats, seed=seed), evaluate_draw)


def _evaluate_codes(
    tiles: Tiles, identities: tuple[Codes, Codes], cameras: tuple[Codes, Codes], protocol: Protocol
) -> Metrics:
    """Evaluate with units of the query's identity and camera excluded; codes are those of (queries, units)."""
    (query_names, unit_names), (query_where, unit_where) = identities, cameras
    of_identity = Groups(unit_names)

    def removed(query: int) -> NDArray[np.intp]:
        group = of_identity[query_names[query]] if query_where[query] >= 0 else NOTHING
        return np.asarray(group[unit_where[group] == query_where[query]])

    return evaluate_tiles(tiles, query_names, unit_names, removed, protocol)


def _codes(query: ArrayLike, gallery: ArrayLike, shape: tuple[int, ...], what: str) -> tuple[Codes, Codes]:
    """Encode the labels of both sides jointly."""
    sides = _labels(query, shape[0], f"query_{what}"), _labels(gallery, shape[1], f"gallery_{what}")
    if all(side.dtype.kind == "i" for side in sides):
        return sides
    none = {"-1": "", "-2": JUNK_NAME}
    names = [none.get(name, name) for side in sides for name in map(str, side.tolist())]
    spelled: dict[str, str] = {}
    for name in dict.fromkeys(names):
        if (known := spelled.setdefault(spelling(name, what), name)) != name:
            raise InputError(f"{what}: {known!r} and {name!r} look like two spellings of one name; use one spelling.")
    codes = _coded(names)
    return codes[: shape[0]], codes[shape[0] :]


def _one_side(values: ArrayLike, count: int, what: str) -> Codes:
    labels = _labels(values, count, what)
    return labels if labels.dtype.kind == "i" else _coded(labels.tolist())


def _labels(values: ArrayLike, count: int, what: str) -> NDArray[Any]:
    """Convert the labels of the images to int64, or to strings with "" for None."""
    array = np.asarray(on_host(values))
    if array.shape != (count,):
        raise InputError(f"{what}: shape is {array.shape} for {count:,} images; give one value per image.")
    if array.dtype.kind == "f" and not (np.isfinite(array).all() and np.array_equal(array, np.trunc(array))):
        raise InputError(f"{what}: contains NaN or fractions; give whole numbers or names.")
    if array.dtype.kind == "f" and array.size and np.abs(array).max() > largest_exact(array):
        raise InputError(
            f"{what}: has numbers above {largest_exact(array):,}, which {array.dtype} cannot represent exactly; give "
            "integers."
        )
    if array.dtype.kind in "ifb" or (array.dtype.kind == "u" and (array <= np.iinfo(np.int64).max).all()):
        return array.astype(np.int64)
    texts = ["" if value is None else str(value).strip() for value in array.tolist()]
    labels, wrong = plain_labels(texts, what.rpartition("_")[2])
    for row, fault in wrong:
        raise InputError(f"{what}: {texts[row][:60]!r} of image {row + 1} {fault}; give whole numbers or names.")
    return np.array(labels, dtype=str)


def _coded(names: Sequence[str]) -> Codes:
    """Encode strings; -1: unknown, -2: junk."""
    array = np.array(names, dtype=str)
    codes = np.unique(array, return_inverse=True)[1].astype(np.int64)
    codes[array == ""], codes[array == JUNK_NAME] = UNKNOWN, JUNK
    return codes
