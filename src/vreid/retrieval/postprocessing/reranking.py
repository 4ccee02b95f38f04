"""k-reciprocal re-ranking (Zhong et al., CVPR 2017) without an N x N matrix.

Memory in addition to features and output: a few tiles and O(N k).

Shapes: Q queries, G gallery units, N = Q + G points, D feature dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vreid.errors import InputError
from vreid.ranges import check_number, check_settings, in_range
from vreid.retrieval.distances import SquaredEuclidean
from vreid.retrieval.features import as_features
from vreid.retrieval.nearest import Lists, Points, exact_distances, search, smallest
from vreid.retrieval.postprocessing.ensemble import Weighted
from vreid.retrieval.postprocessing.jaccard import CONVENTIONS, Convention, Encoding, convention_of
from vreid.retrieval.postprocessing.state import Arrays, SearchState
from vreid.retrieval.tensors import like
from vreid.retrieval.tiles import Source, Tiles, strips


@dataclass(frozen=True)
class ReRanking:
    """k-reciprocal re-ranking, distance = (1 - lambda_) * Jaccard + lambda_ * original.

    Attributes:
        k1: length of the neighbour lists without the point itself.
        k2: number of neighbours that are averaged (the point itself is the first).
        lambda_: weight of the original distance, 0 to 1. Image level: 20, 6, 0.3; tracklet level (DMT): 7, 2, 0.6.
        neighbours: the convention, a name in `vreid.retrieval.postprocessing.jaccard.CONVENTIONS`; see `rerank`.

    Raises:
        InputError: a number is out of range, or the convention is unknown.
    """

    k1: int = in_range(20, least=1)
    k2: int = in_range(6, least=1)
    lambda_: float = in_range(0.3, least=0, most=1)
    neighbours: str = "zhong"

    def __post_init__(self) -> None:
        check_settings(self, "re-ranking: ")
        if self.neighbours not in CONVENTIONS:
            raise InputError(f"re-ranking: neighbours is {self.neighbours!r}; choose one of {', '.join(CONVENTIONS)}.")


def rerank(
    query_features: ArrayLike,
    gallery_features: ArrayLike,
    *,
    k1: int = 20,
    k2: int = 6,
    lambda_: float = 0.3,
    neighbours: str = "zhong",
) -> NDArray[np.float32]:
    """Compute re-ranked distances (Q, G) float32: (1 - lambda_) * Jaccard + lambda_ * original.

    Convention "zhong" (the paper's code, torchreid, fast-reid): lists hold the point itself and its k1 nearest among
    all N points, ties by index (queries first); original distances are squared and divided by the maximum of each row
    over all N points. "dmt-2020": distances are divided by the maximum of each column before that, which also changes
    the lists. "openunreid": lists hold k1 entries including the point itself, and original distances are squared and
    not divided. See `vreid.retrieval.postprocessing.jaccard`. With torch tensors, neighbours are searched on their
    device, and the result is a tensor on it.

    Args:
        query_features: (Q, D), normally L2-normalised.
        gallery_features: (G, D).
        k1: see `ReRanking`.
        k2: see `ReRanking`.
        lambda_: see `ReRanking`.
        neighbours: "zhong", "dmt-2020" or "openunreid".

    Raises:
        InputError: a parameter is out of range, there are fewer points than neighbours, a side is empty, a feature
            contains NaN or has norm zero, or dimensions differ.

    Example:
        >>> rerank([[1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]], k1=1, k2=1).round(3).tolist()
        [[1.0, 0.0]]
    """
    config = ReRanking(k1, k2, lambda_, neighbours)
    reranked = ReRanked.of(query_features, gallery_features, config, products=True)
    products_QG = reranked.encoding.lists.products
    # each tile of the products is read before it is overwritten
    out_QG = np.empty(reranked.shape, dtype=np.float32) if products_QG is None else products_QG
    for start, tile in reranked.tiles():
        np.maximum(tile, 0, out=out_QG[start : start + len(tile)])
    result: NDArray[np.float32] = like(query_features, out_QG)
    return result


@dataclass(frozen=True, eq=False)
class DividedColumns:
    """Distances with each column divided by a number.

    Attributes:
        source: (Q, U) distances; their tiles are modified in place.
        by_U: (U,) float32 divisors.
    """

    source: Source
    by_U: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.source.shape

    def tiles(self) -> Tiles:
        """Yield the tiles of `source`, divided in place."""

        def divided(of_source: tuple[int, NDArray[np.float32]]) -> tuple[int, NDArray[np.float32]]:
            start, tile = of_source
            tile /= self.by_U
            return start, tile

        return map(divided, self.source.tiles())


@dataclass(frozen=True, eq=False)
class ReRanked:
    """Re-ranked distances (1 - lambda_) * Jaccard + lambda_ * original, computed lazily in tiles.

    Attributes:
        original: (Q, G) squared distances; their tiles are modified in place.
        encoding: encoding of all N points, queries first.
        scale_Q: (Q,) factor of the original distances.
        lambda_: see `ReRanking`.
    """

    original: Source
    encoding: Encoding
    scale_Q: NDArray[np.float64]
    lambda_: float

    @classmethod
    def of(
        cls,
        query_features: ArrayLike,
        gallery_features: ArrayLike,
        config: ReRanking,
        *,
        products: bool = False,
    ) -> ReRanked:
        """Build the distances of `rerank` without the (Q, G) matrix; `products` keeps dot products of the search.

        Raises:
            InputError: as `rerank`.
        """
        points, encoding, convention = _encode(query_features, gallery_features, config, products=products)
        queries, gallery = points.split()
        squares = queries.squares, gallery.squares
        original = SquaredEuclidean(queries.parts[0], gallery.parts[0], squares, encoding.lists.products)
        return cls.from_encoding(original, encoding, config, convention, points.unit)

    @classmethod
    def from_encoding(
        cls, original: Source, encoding: Encoding, config: ReRanking, convention: Convention, unit: float = 1.0
    ) -> ReRanked:
        """Combine `original` (Q, G) with the Jaccard distances of `encoding`, whose first Q points are the queries.

        Original distances are divided according to `convention`, otherwise multiplied by `unit` squared.
        """
        if encoding.columns_by is not None:
            original = DividedColumns(original, encoding.columns_by[original.shape[0] :])
        return cls(original, encoding, _scale(encoding, original.shape[0], convention, unit), config.lambda_)

    @property
    def shape(self) -> tuple[int, int]:
        """Queries and gallery units."""
        return self.original.shape

    def tiles(self) -> Tiles:
        """Yield the re-ranked tiles of `original`."""
        queries, _ = self.shape
        pieces = self.encoding.jaccard(queries, first_column=queries)
        done = 0
        held: list[
            tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]
        ] = []  # blocks of `pieces` and tiles differ in size

        def reranked(original: tuple[int, NDArray[np.float32]]) -> tuple[int, NDArray[np.float32]]:
            nonlocal done
            start, tile = original
            stop = start + len(tile)
            scale_Q = (self.lambda_ * self.scale_Q[start:stop]).astype(np.float32)
            for strip in strips(tile):
                tile[strip] *= scale_Q[strip, None]
                tile[strip] += np.float32(1 - self.lambda_)  # Jaccard distance 1, corrected below for other pairs
            while done < stop:
                rows, row, column, jaccard = next(pieces)
                done = rows.stop
                held.append((row, column, jaccard))
            for row, column, jaccard in held:
                here = slice(np.searchsorted(row, start), np.searchsorted(row, stop))
                less = ((1 - self.lambda_) * (1 - jaccard[here].astype(np.float64))).astype(np.float32)
                tile[row[here] - start, column[here]] -= less
            del held[:-1]
            return start, tile

        return map(reranked, self.original.tiles())


def rerank_top(
    query_features: ArrayLike,
    gallery_features: ArrayLike,
    top_k: int,
    *,
    k1: int = 20,
    k2: int = 6,
    lambda_: float = 0.3,
    neighbours: str = "zhong",
    lists: Lists | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Compute the `top_k` smallest of each row of `rerank` without the (Q, G) matrix: distances and indices (Q, top_k).

    Results ascend by distance, ties by gallery index. Gallery points that share no neighbour with a query have Jaccard
    distance 1, so among them the nearest by features rank first; candidates are the points that share a neighbour and
    the `top_k` nearest by features. `lists` are neighbour lists of all N points, queries first, if they are known
    already (`vreid.retrieval.sharded_neighbours`).

    Raises:
        InputError: `top_k` is below 1, or as `rerank`.

    Example:
        >>> distances, indices = rerank_top([[1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]], 1, k1=1, k2=1)
        >>> indices.tolist()
        [[1]]
    """
    check_number("re-ranking: top_k", top_k, least=1, whole=True)
    config = ReRanking(k1, k2, lambda_, neighbours)
    points, encoding, convention = _encode(query_features, gallery_features, config, lists=lists)
    queries, gallery = points.split()
    top_k = min(top_k, len(gallery))
    if convention.column_maximum:  # the nearest by features are not those of the smallest divided distance
        source = ReRanked.from_encoding(
            SquaredEuclidean(queries.parts[0], gallery.parts[0]), encoding, config, convention
        )
        best = [smallest(np.maximum(tile, 0), top_k) for _, tile in source.tiles()]
        distances, indices = (np.concatenate(each) for each in zip(*best, strict=True))
        return like(query_features, distances), like(query_features, indices)
    scale_Q = _scale(encoding, len(queries), convention, points.unit)
    near = search(queries, gallery, top_k)
    distances = np.empty((len(queries), top_k), dtype=np.float32)
    indices = np.empty(distances.shape, dtype=np.int32)
    for rows, row, column, jaccard in encoding.jaccard(len(queries), first_column=len(queries)):
        block = slice(rows.start, rows.stop)
        near_row = np.repeat(np.arange(rows.start, rows.stop), top_k)
        near_column = near.index[block].ravel()
        alone = ~np.isin(near_row * len(gallery) + near_column, row * len(gallery) + column)
        squared = np.concatenate([exact_distances(queries, row, gallery, column), near.squared[block].ravel()[alone]])
        shared = np.concatenate([jaccard, np.ones(np.count_nonzero(alone), dtype=np.float32)])
        row, column = np.concatenate([row, near_row[alone]]), np.concatenate([column, near_column[alone]])
        value = ((1 - lambda_) * shared + lambda_ * scale_Q[row] * squared).astype(np.float32)
        order = np.lexsort((column, value, row))
        chosen = order[np.searchsorted(row[order], rows)[:, None] + np.arange(top_k)]
        distances[block], indices[block] = value[chosen], column[chosen]
    return like(query_features, distances), like(query_features, indices)


def rerank_with_biases(
    features: Arrays,
    biases: Sequence[tuple[float, Arrays]],
    config: ReRanking,
) -> Source:
    """Compute re-ranked distances (Q, U) from squared distances d - sum of weight * d_bias between all N points.

    Otherwise as `rerank`, with a convention that divides by row maxima. These differences can be negative and are not
    distances of features, so neighbours are selected from full rows of float32 distances. Memory: a copy of the
    features, tiles of rows, O(N k).

    Args:
        features: (Q, D) and (U, D).
        biases: (weight, ((Q, D'), (U, D'))) of each bias.
        config: settings of re-ranking.

    Raises:
        InputError: numbers of rows differ, the convention does not divide by row maxima, or as `rerank`.
    """
    given = [(1.0, features), *((-weight, sides) for weight, sides in biases)]
    parts = [(factor, (as_features(q), as_features(u))) for factor, (q, u) in given]
    queries = len(features[0])
    points = [(factor, Points.of("re-ranking", query_features=q, gallery_features=u)) for factor, (q, u) in parts]
    if any(len(q) != queries or len(u) != len(features[1]) for _, (q, u) in parts):
        raise InputError("re-ranking: the features of a bias are of other images; give one per query and unit.")
    count = queries + len(features[1])
    convention = convention_of("re-ranking", config.neighbours, count, config.k1, config.k2)
    if not convention.row_maximum:
        raise InputError(
            f"re-ranking: neighbours={config.neighbours} does not support a bias before re-ranking; use zhong, or a "
            "bias after re-ranking."
        )
    factors = tuple(factor for factor, _ in parts)
    stacked = [np.concatenate(sides) for _, sides in parts]
    everything = Weighted(tuple(SquaredEuclidean(s, s) for s in stacked), factors)
    original = Weighted(tuple(SquaredEuclidean(*sides) for _, sides in parts), factors)

    def squared_distances(row: NDArray[np.intp], column: NDArray[np.integer]) -> NDArray[np.float32]:
        each = (factor * of.unit**2 * exact_distances(of, row, of, column).astype(np.float64) for factor, of in points)
        return np.asarray(sum(each), dtype=np.float32)

    encoding = Encoding.from_rows(everything, squared_distances, config.k1, config.k2, convention)
    return ReRanked.from_encoding(original, encoding, config, convention)


def reranking_step(state: SearchState, config: ReRanking) -> SearchState:
    """Replace the distances of features by re-ranked ones, with biases "before" re-ranking subtracted.

    Raises:
        InputError: as `rerank` and `rerank_with_biases`.
    """
    sides = state.query_QD, state.unit_UD
    source = rerank_with_biases(sides, state.biases, config) if state.biases else ReRanked.of(*sides, config)
    return replace(state, biases=(), made=replace(state.distances, source=source, reranked=True))


def _encode(
    query_features: ArrayLike,
    gallery_features: ArrayLike,
    config: ReRanking,
    *,
    products: bool = False,
    lists: Lists | None = None,
) -> tuple[Points, Encoding, Convention]:
    """Return the points, their encoding, and the convention."""
    points = Points.of("re-ranking", query_features=query_features, gallery_features=gallery_features)
    points.need_direction("re-ranking")
    convention = convention_of("re-ranking", config.neighbours, len(points), config.k1, config.k2)
    return points, Encoding.of(points, config.k1, config.k2, convention, products=products, lists=lists), convention


def _scale(encoding: Encoding, queries: int, convention: Convention, unit: float) -> NDArray[np.float64]:
    """Return the factor (Q,) of the squared distances of each query, including `Points.unit`."""
    if not convention.row_maximum:
        return np.full(queries, unit**2)
    largest = encoding.lists.farthest[:queries].astype(np.float64)
    return 1 / np.where(largest > 0, largest, 1)
