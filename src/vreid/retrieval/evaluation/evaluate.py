"""Evaluation of distances under a protocol.

The metrics need only the ranks of positives, and a rank is a count of smaller distances, so no ranking is built. The
compiled core counts directly; the numpy version sorts the values of a row (ten times faster than an argsort) and looks
up the distances of the positives.
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

_FEW = 64  # up to this number of positives, counting is faster than sorting

Rows = Iterator[tuple[int, NDArray[np.float32], NDArray[np.intp]]]
"""For each evaluated query: its index, its (U,) distances with +inf for excluded and junk units, and its positives."""


def evaluate_distances(distances: Distances, protocol: Protocol) -> Metrics:
    """Evaluate `distances` under `protocol`, a block of queries at a time; no (Q, G) matrix is kept in memory.

    Positives that post-processing excludes (camera verification) stay relevant if the protocol counts them: they are
    misses.

    Raises:
        InputError: a query has no identity or, if the protocol needs it, no camera; a distance is NaN; no query has a
            positive; or the protocol needs features (use `vreid.retrieval.evaluate_retrieval`).
    """
    metrics = evaluate_rows(evaluated_rows(distances, protocol), distances.query.identity.codes, protocol)
    return metrics.described_as(distances)


def evaluated_rows(distances: Distances, protocol: Protocol) -> Rows:
    """Yield distances and positives (ascending unit indices) of each query that is not junk, under `protocol`.

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
            "column `camera`, or choose a protocol that excludes nothing by camera (camera-less)."
        )
    query_names, gallery_names = joint_codes(query.identity, gallery.identity)
    exclusion = Exclusion(query, gallery, protocol)
    if protocol.unit == "image":
        tiles, unit_names, removed = distances.image_blocks(), gallery_names, exclusion.removed
    else:
        if not gallery.tracklet.known.any():
            raise InputError(
                f"protocol {protocol.name} ranks tracklets, but no gallery image has one; give the column `tracklet`, "
                "or choose a protocol that ranks images."
            )
        units, num_units = tracklet_units(gallery)
        first = np.unique(units, return_index=True)[1]
        check_one_each(gallery_names, units, first, "identity", gallery.path)
        unit_names = gallery_names[first]
        if distances.num_units == num_units and np.array_equal(distances.unit_of_image, units):
            tiles = distances.blocks()
        elif protocol.tracklet_distance == "mean":
            raise InputError(
                f"protocol {protocol.name} compares mean features of tracklets, which cannot be computed from "
                "distances of images; give the features to evaluate_retrieval(), or enable the tracklet step."
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
    """Post-process features and evaluate the result; if `protocol` draws galleries, each is post-processed separately.

    Args:
        query: features of the queries.
        gallery: features of the gallery.
        post: the steps.
        protocol: evaluation protocol.
        others: features of the same images by other models; distances are fused over all models.
        fusion: how they are fused.

    Raises:
        InputError: as `search_all` and `evaluate_distances`; or the protocol draws galleries but query and gallery are
            different images, or needs tracklets that are unknown.
    """
    members = [(query, gallery), *others]
    post = common_norm(members, post).under(protocol, query)
    if not protocol.repeats:
        return evaluate_distances(search_all(members, post, fusion), protocol)
    if not np.array_equal(query.records.image_key, gallery.records.image_key):
        raise InputError(
            f"protocol {protocol.name} draws its galleries from the query images, but query and gallery images are "
            "different; give all images as both, or use a protocol with a fixed gallery."
        )

    def of_draw(rows: NDArray[np.intp], drawn: NDArray[np.intp], once: Protocol) -> Metrics:
        return evaluate_distances(search_all([(q[rows], g[drawn]) for q, g in members], post, fusion), once)

    return evaluate_draws(query.records.identity.codes, protocol, of_draw)


def evaluate_draws(
    identity: NDArray[np.integer],
    protocol: Protocol,
    evaluate_draw: Callable[[NDArray[np.intp], NDArray[np.intp], Protocol], Metrics],
) -> Metrics:
    """Average over `protocol.repeats` random galleries of one image per identity; all other images are queries.

    Args:
        identity: (N,) codes of the images; a junk image is a query that is skipped.
        protocol: provides `repeats` and `seed`; draw d depends only on (seed, d) and the order of the images.
        evaluate_draw: function of query and gallery indices, both ascending, and the protocol of one draw.

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
            raise InputError(f"protocol {protocol.name} needs a vehicle with two images, a query and a gallery image.")
        rows = np.flatnonzero(~drawn)
        draws.append(_on_all_images(evaluate_draw(rows, np.flatnonzero(drawn), once), rows, identity))
    return mean_over_draws(draws, protocol)


def _on_all_images(metrics: Metrics, rows: NDArray[np.intp], identity: NDArray[np.integer]) -> Metrics:
    """Scatter the values of the queries `rows` to all images; the other images are not queries."""

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
    """Reduce distances to images to distances to units: the minimum over the images of each unit 0 .. U - 1."""
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
    """Check that each unit has one identity or camera; `units` (G,) of the images, `first` (U,) image of each unit.

    Raises:
        InputError: the code of an image differs from that of the first image of its unit.
    """
    mixed = codes != codes[first][units]
    if mixed.any():
        row = int(np.argmax(mixed))
        name = "" if names is None else f"{names[row]} "
        raise InputError(
            f"{name}(gallery image {row + 1}): its tracklet has images of more than one {what}; give each part its own "
            "tracklet name."
        )


def rows_of(
    tiles: Tiles,
    query_identity: NDArray[np.integer],
    unit_identity: NDArray[np.integer],
    removed: Callable[[int], NDArray[np.intp]],
    query_names: NDArray[np.object_] | None = None,
) -> Rows:
    """Yield distances and positives of each query, given the codes of both sides and the excluded units per query.

    Raises:
        InputError: a query has no identity, or a distance is NaN.
    """
    unlabelled = query_identity == UNKNOWN
    if unlabelled.any():
        row = int(np.argmax(unlabelled))
        name = "" if query_names is None else f"{query_names[row]} "
        raise InputError(
            f"{name}(query {row + 1}): has no identity; give the column `identity`, or only rank without evaluation."
        )
    of_identity = Groups(unit_identity)
    gone = np.zeros(len(unit_identity), dtype=bool)
    junk = np.flatnonzero(unit_identity == JUNK)
    for start, block in tiles:
        if np.isnan(block.max()):
            raise InputError(
                f"distances hold NaN between queries {start + 1} and {start + len(block)}; compute them again."
            )
        for query, shared in enumerate(block, start=start):
            if query_identity[query] < 0:
                continue  # a junk query has no positives
            excluded = removed(query)
            gone[excluded] = True
            positives = of_identity[query_identity[query]]
            positives = positives[~gone[positives]]
            gone[excluded] = False
            values = shared.copy()
            values[excluded] = values[junk] = np.inf
            yield query, values, positives


def evaluate_rows(rows: Rows, identity: NDArray[np.integer], protocol: Protocol) -> Metrics:
    """Compute the metrics of queries with these identity codes (Q,) from the ranks of their positives."""
    values = np.full((4, len(identity)), np.nan)
    relevant = np.zeros(len(identity), dtype=np.int64)
    for query, row, positives in rows:
        relevant[query] = len(positives)
        if len(positives):
            values[:, query] = scores(ranks_of(row, positives), len(positives), protocol)
    precision, precision_at_k, penalty, first_hit = values
    return summary(protocol, precision, precision_at_k, penalty, np.nan_to_num(first_hit), relevant, identity)


def scores(ranks: NDArray[np.int64], total: int, protocol: Protocol) -> tuple[float, float, float, float]:
    """Compute AP, AP@K, inverse negative penalty and rank of the first hit (0: none) of one query.

    Args:
        ranks: ascending ranks of the positives among the candidates.
        total: number of positives.
        protocol: defines K, the summation of AP and its normaliser.

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
    """Compute metrics from distances, the codes of both sides and the excluded units per query."""
    rows = rows_of(tiles, query_identity, unit_identity, removed)
    return evaluate_rows(rows, query_identity, protocol)


def ranks_of(row: NDArray[np.float32], positives: NDArray[np.intp]) -> NDArray[np.int64]:
    """Compute the ascending ranks (from 1) of `positives` (ascending indices) in `row`; ties by index, +inf unranked.

    Example:
        >>> ranks_of(np.array([3, 1, 1, np.inf, 2], dtype=np.float32), np.array([0, 2, 3])).tolist()
        [2, 4]
    """
    compiled = compiled_core()
    if compiled is not None and len(positives) <= _FEW:
        counted: NDArray[np.int64] = compiled.ranks(row, positives)
        return counted
    order = np.argsort(row[positives], kind="stable")
    positives, value = positives[order], row[positives[order]]
    value = value[value < np.inf]
    if not len(value):
        return np.empty(0, dtype=np.int64)
    near = row <= value[-1]
    # a boolean selection pays only if it is small: with unpredictable branches it costs more than sorting the whole row
    values = row[near] if 8 * np.count_nonzero(near) < len(row) else row.copy()
    values.sort()
    below = np.searchsorted(values, value, side="left")
    equal = np.searchsorted(values, value, side="right") - below
    before = np.arange(len(value)) - np.searchsorted(value, value, side="left")  # ties with positives of smaller index
    alike = np.searchsorted(value, value, side="right") - np.searchsorted(value, value, side="left")
    for distance in np.unique(value[equal > alike]):  # ties with negatives: rare, so looked up one by one
        tied = value == distance
        before[tied] = np.searchsorted(np.flatnonzero(row == distance), positives[: len(value)][tied])
    ranks: NDArray[np.int64] = below + before + 1
    return ranks
