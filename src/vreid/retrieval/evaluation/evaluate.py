"""Evaluation: distances in, metrics out; one loop for every protocol.

Only ranks of relevant units matter, and a rank is a count, so no ranking is built. The compiled core counts; numpy
sorts a row's values (without their indices, which SIMD does ten times faster than an argsort) and looks the relevant
distances up in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.data.protocols import Exclusion, Groups, Protocol
from vreid.data.records import JUNK, UNKNOWN, joint_codes
from vreid.errors import InputError
from vreid.retrieval.distances import Distances
from vreid.retrieval.evaluation.metrics import Metrics, mean_over_draws, summary
from vreid.retrieval.features import FeatureSet, Sides
from vreid.retrieval.nearest import compiled_core
from vreid.retrieval.postprocessing.ensemble import ALIKE, Fusion
from vreid.retrieval.postprocessing.pipeline import PostProcessing, common_norm, search_all
from vreid.retrieval.postprocessing.tracklet_features import tracklet_units
from vreid.retrieval.tiles import Tiles

_FEW = 64  # up to so many mates counting is quicker than sorting

Rows = Iterator[tuple[int, NDArray[np.float32], NDArray[np.intp]]]
"""For each judged query: its number, its (U,) distances with +inf where a unit is removed or junk, and its mates."""


def evaluate_distances(distances: Distances, protocol: Protocol) -> Metrics:
    """Judge `distances` by `protocol`, a block of queries at a time; no (Q, G) matrix is held.

    Images that post-processing took out of the candidates (camera verification) stay relevant where the protocol
    counts them: they are misses.

    Raises:
        InputError: a query without identity or (where the protocol needs it) without camera, NaN, no query with a
            mate, or a protocol that needs more than distances (`vreid.retrieval.evaluate_retrieval` has the features).
    """
    metrics = evaluate_rows(evaluated_rows(distances, protocol), distances.query.identity.codes, protocol)
    return metrics.described_as(distances)


def evaluated_rows(distances: Distances, protocol: Protocol) -> Rows:
    """What each query that is no junk sees under `protocol`; mates are ascending indices of units left to it.

    Raises:
        InputError: as `evaluate_distances`.
    """
    query, gallery = distances.query, distances.gallery
    if protocol.repeats:
        raise InputError(
            f"protocol {protocol.name} draws galleries: give the features to evaluate_retrieval(), or the distances "
            "of all images to evaluate_repeated()."
        )
    if protocol.needs_camera and not query.camera.known.all():
        row = int(np.argmin(query.camera.known))
        raise InputError(
            f"{query.path[row]} (query {row + 1}): protocol {protocol.name} needs the camera of every query; give the "
            "column `camera`, or a protocol that removes nothing by camera (camera-less)."
        )
    query_names, gallery_names = joint_codes(query.identity, gallery.identity)
    exclusion = Exclusion(query, gallery, protocol)
    if protocol.unit == "image":
        tiles, unit_names, removed = distances.image_blocks(), gallery_names, exclusion.removed
    else:
        if not gallery.tracklet.known.any():
            raise InputError(
                f"protocol {protocol.name} judges tracklets, but no gallery image has one; give the column `tracklet`, "
                "or a protocol of images."
            )
        units, num_units = tracklet_units(gallery)
        first = np.unique(units, return_index=True)[1]
        check_one_each(gallery_names, units, first, "identity", gallery.path)
        unit_names = gallery_names[first]
        if distances.num_units == num_units and np.array_equal(distances.unit_of_image, units):
            tiles = distances.blocks()
        elif protocol.tracklet_distance == "mean":
            raise InputError(
                f"protocol {protocol.name} compares mean features of tracklets, which distances of images do not "
                "hold; give the features to evaluate_retrieval(), or switch the tracklet step on."
            )
        else:
            tiles = nearest_of_units(distances.image_blocks(), units)

        def removed(row: int) -> NDArray[np.intp]:
            return np.unique(units[exclusion.removed(row)]).astype(np.intp)

    return rows_of(tiles, query_names, unit_names, removed, query.path)


def evaluate_retrieval(
    query: FeatureSet,
    gallery: FeatureSet,
    post: PostProcessing,
    protocol: Protocol,
    others: Sequence[Sides] = (),
    fusion: Fusion = ALIKE,
) -> Metrics:
    """Post-process features and judge the result; where `protocol` draws galleries, each is post-processed anew.

    Args:
        query: features of the queries.
        gallery: features of the gallery.
        post: the steps.
        protocol: how rankings are judged.
        others: the same images as other models see them; distances are then joined over all models.
        fusion: how they are joined.

    Raises:
        InputError: as `search_all` and `evaluate_distances`, or a protocol that does not fit: galleries drawn from
            images that are not the queries, tracklets that are not there.
    """
    members = [(query, gallery), *others]
    post = common_norm(members, post).under(protocol, query)
    if not protocol.repeats:
        return evaluate_distances(search_all(members, post, fusion), protocol)
    if not np.array_equal(query.records.image_key, gallery.records.image_key):
        raise InputError(
            f"protocol {protocol.name} draws its galleries from the queries' own images, but query and gallery are "
            "not the same images here; give all of them as both, or take a protocol of a fixed gallery."
        )

    def of_draw(rows: NDArray[np.intp], drawn: NDArray[np.intp], once: Protocol) -> Metrics:
        return evaluate_distances(search_all([(q[rows], g[drawn]) for q, g in members], post, fusion), once)

    return evaluate_draws(query.records.identity.codes, protocol, of_draw)


def evaluate_draws(
    identity: NDArray[np.integer],
    protocol: Protocol,
    evaluate_draw: Callable[[NDArray[np.intp], NDArray[np.intp], Protocol], Metrics],
) -> Metrics:
    """Mean over `protocol.repeats` drawn galleries of one random image of each identity, all others being queries.

    Args:
        identity: (N,) codes of the images; a junk image is a query that is skipped.
        protocol: its `repeats` and `seed`; draw number d depends on (seed, d) and the order of the images alone.
        evaluate_draw: gets the indices of queries and gallery images, both ascending, and the protocol of one draw.

    Raises:
        InputError: no identity has two images.
    """
    once = replace(protocol, repeats=0)
    draws = []
    for draw in range(protocol.repeats):
        order = np.random.default_rng([protocol.seed, draw]).permutation(len(identity))
        codes, place = np.unique(identity[order], return_index=True)
        drawn = np.zeros(len(identity), dtype=np.bool_)
        drawn[order[place[codes >= 0]]] = True
        if drawn.all() or not drawn.any():
            raise InputError(f"protocol {protocol.name} needs two images of some vehicle: one to search, one to find.")
        rows = np.flatnonzero(~drawn)
        draws.append(_on_all_images(evaluate_draw(rows, np.flatnonzero(drawn), once), rows, identity))
    return mean_over_draws(draws, protocol)


def _on_all_images(metrics: Metrics, rows: NDArray[np.intp], identity: NDArray[np.integer]) -> Metrics:
    """The values of queries `rows` at their places among all images, of which the others are no queries."""

    def placed(values: NDArray[Any], elsewhere: float) -> NDArray[Any]:
        out = np.full(len(identity), elsewhere, dtype=values.dtype)
        out[rows] = values
        return out

    return replace(
        metrics,
        average_precision=placed(metrics.average_precision, np.nan),
        average_precision_at_k=placed(metrics.average_precision_at_k, np.nan),
        inverse_negative_penalty=placed(metrics.inverse_negative_penalty, np.nan),
        first_hit=placed(metrics.first_hit, 0),
        relevant=placed(metrics.relevant, -1),
        identity=identity,
    )


def nearest_of_units(tiles: Tiles, units: NDArray[np.integer]) -> Tiles:
    """Distances to units (each that of its nearest image) from those to images, whose units are 0 .. U - 1."""
    order = np.argsort(units, kind="stable")
    first = np.searchsorted(units[order], np.arange(units.max() + 1))
    for start, tile in tiles:
        yield start, np.minimum.reduceat(tile[:, order], first, axis=1)


def check_one_each(
    codes: NDArray[np.integer],
    units: NDArray[np.integer],
    first: NDArray[np.integer],
    what: str,
    names: NDArray[np.object_] | None = None,
) -> None:
    """Refuse units of two identities or cameras: `units` (G,) of the images, `first` (U,) image of each unit.

    Raises:
        InputError: the first image whose code differs from that of its unit's first image.
    """
    mixed = codes != codes[first][units]
    if mixed.any():
        row = int(np.argmax(mixed))
        name = "" if names is None else f"{names[row]} "
        raise InputError(
            f"{name}(gallery image {row + 1}): its tracklet holds images of more than one {what}; give each part a "
            "tracklet name of its own."
        )


def rows_of(
    tiles: Tiles,
    query_identity: NDArray[np.integer],
    unit_identity: NDArray[np.integer],
    removed: Callable[[int], NDArray[np.intp]],
    query_names: NDArray[np.object_] | None = None,
) -> Rows:
    """The one loop over queries, from codes of both sides and the units that are removed for each query.

    Raises:
        InputError: a query without identity, or NaN.
    """
    unlabelled = query_identity == UNKNOWN
    if unlabelled.any():
        row = int(np.argmax(unlabelled))
        name = "" if query_names is None else f"{query_names[row]} "
        raise InputError(
            f"{name}(query {row + 1}): has no identity; evaluation needs labels, ranking does not: give identities."
        )
    of_identity = Groups(unit_identity)
    gone = np.zeros(len(unit_identity), dtype=bool)
    junk = np.flatnonzero(unit_identity == JUNK)
    for start, block in tiles:
        if np.isnan(block.max()):
            raise InputError(f"distances hold NaN between queries {start + 1} and {start + len(block)}; compute again.")
        for query, shared in enumerate(block, start=start):
            if query_identity[query] < 0:
                continue  # a junk query has no mate
            out = removed(query)
            gone[out] = True
            mates = of_identity[query_identity[query]]
            mates = mates[~gone[mates]]
            gone[out] = False
            values = shared.copy()
            values[out] = values[junk] = np.inf
            yield query, values, mates


def evaluate_rows(rows: Rows, identity: NDArray[np.integer], protocol: Protocol) -> Metrics:
    """Metrics of the queries of these vehicles (Q,) from the ranks of their mates."""
    values = np.full((4, len(identity)), np.nan)
    relevant = np.zeros(len(identity), dtype=np.int64)
    for query, row, mates in rows:
        relevant[query] = len(mates)
        if len(mates):
            values[:, query] = scores(ranks_of(row, mates), len(mates), protocol)
    precision, precision_at_k, penalty, first_hit = values
    return summary(protocol, precision, precision_at_k, penalty, np.nan_to_num(first_hit), relevant, identity)


def scores(ranks: NDArray[np.int64], total: int, protocol: Protocol) -> tuple[float, float, float, float]:
    """AP over the full list and cut, mates / rank of the last one, and rank of the first (0: none) of one query.

    Args:
        ranks: ascending ranks of those mates that are candidates.
        total: how many mates there are.
        protocol: says where the list is cut, how AP is summed and what it is divided by.

    Example:
        >>> from vreid.data.protocols import MARKET
        >>> [round(value, 4) for value in scores(np.array([1, 3]), 2, MARKET)]
        [0.8333, 0.8333, 0.6667, 1.0]
    """
    hits = np.arange(1, len(ranks) + 1)
    precisions = hits / ranks
    if protocol.average_precision == "trapezoid":
        before = np.divide(hits - 1, ranks - 1, out=np.ones(len(ranks)), where=ranks > 1)
        precisions = (before + precisions) / 2
    cut = total if protocol.top_k is None else protocol.top_k
    within = precisions if protocol.top_k is None else precisions[ranks <= cut]
    divisor = total if protocol.normaliser == "total" else min(total, cut)
    last = total / ranks[-1] if len(ranks) == total else 0.0
    first = ranks[0] if len(ranks) else 0
    return float(precisions.sum() / total), float(within.sum() / divisor), float(last), float(first)


def evaluate_tiles(
    tiles: Tiles,
    query_identity: NDArray[np.integer],
    unit_identity: NDArray[np.integer],
    removed: Callable[[int], NDArray[np.intp]],
    protocol: Protocol,
) -> Metrics:
    """Metrics from codes of both sides and the units that are removed for each query."""
    rows = rows_of(tiles, query_identity, unit_identity, removed)
    return evaluate_rows(rows, query_identity, protocol)


def ranks_of(row: NDArray[np.float32], mates: NDArray[np.intp]) -> NDArray[np.int64]:
    """Ascending ranks (from 1) of `mates` (ascending indices) in `row`; ties by index; +inf has no rank.

    Example:
        >>> ranks_of(np.array([3, 1, 1, np.inf, 2], dtype=np.float32), np.array([0, 2, 3])).tolist()
        [2, 4]
    """
    compiled = compiled_core()
    if compiled is not None and len(mates) <= _FEW:
        counted: NDArray[np.int64] = compiled.ranks(row, mates)
        return counted
    order = np.argsort(row[mates], kind="stable")
    mates, value = mates[order], row[mates[order]]
    value = value[value < np.inf]
    if not len(value):
        return np.empty(0, dtype=np.int64)
    near = row <= value[-1]
    # picking out pays only where few are near: unpredictable picking costs more than sorting the whole row
    values = row[near] if 8 * np.count_nonzero(near) < len(row) else row.copy()
    values.sort()
    below = np.searchsorted(values, value, side="left")
    equal = np.searchsorted(values, value, side="right") - below
    before = np.arange(len(value)) - np.searchsorted(value, value, side="left")  # equal mates with a smaller index
    alike = np.searchsorted(value, value, side="right") - np.searchsorted(value, value, side="left")
    for distance in np.unique(value[equal > alike]):  # ties with images that are no mates: rare, so looked up
        tied = value == distance
        before[tied] = np.searchsorted(np.flatnonzero(row == distance), mates[: len(value)][tied])
    ranks: NDArray[np.int64] = below + before + 1
    return ranks
