"""Metrics and protocols by definition, in plain loops: sort one list, walk down it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Image(NamedTuple):
    """What is known of one picture; "" is unknown, the identity "junk" is junk."""

    key: str
    identity: str = ""
    camera: str = ""
    tracklet: str = ""


def ranked(distances, query, gallery, remove):
    """Gallery indices in order of (distance, index) without those that `remove(gallery index)` names or +inf."""
    kept = [g for g in range(len(gallery)) if not remove(g) and distances[query][g] != float("inf")]
    return sorted(kept, key=lambda g: (distances[query][g], g))


def judge(order, relevant, top_k=None, normaliser="total", average_precision="rectangular"):
    """AP over the first top_k of `order`, first hit (0: none), and mates / rank of the last mate (0: missed).

    The trapezoid AP is the official sum: over every rank, recall step times the mean of two neighbouring precisions.
    """
    divisor = len(relevant) if normaliser == "total" else min(len(relevant), top_k or len(relevant))
    hits, area, first, last = 0, 0.0, 0, 0
    before = 1.0
    for position, item in enumerate(order, start=1):
        step = 0.0
        if item in relevant:
            hits += 1
            first = first or position
            last = position
            step = 1 / divisor
        precision = hits / position
        if top_k is None or position <= top_k:
            area += step * (precision if average_precision == "rectangular" else (before + precision) / 2)
        before = precision
    return area, first, (len(relevant) / last if hits == len(relevant) else 0.0)


def evaluate(distances, query_identity, gallery_identity, remove, **how):
    """Means over the queries that have a mate; `remove(q, g)` says which gallery images are gone. Junk is -2."""
    precisions, firsts, penalties, skipped = [], [], [], 0
    for q in range(len(query_identity)):

        def gone(g, q=q):
            return gallery_identity[g] == -2 or remove(q, g)

        relevant = {g for g in range(len(gallery_identity)) if gallery_identity[g] == query_identity[q] and not gone(g)}
        if query_identity[q] < 0 or not relevant:
            skipped += 1
            continue
        result = judge(ranked(distances, q, gallery_identity, gone), relevant, **how)
        for values, value in zip((precisions, firsts, penalties), result, strict=True):
            values.append(value)
    count = len(precisions)
    cmc = [sum(0 < first <= k for first in firsts) / count for k in range(1, 51)]
    return {"mAP": sum(precisions) / count, "cmc": cmc, "mINP": sum(penalties) / count, "skipped": skipped}


def removed(query, image, protocol):
    """Whether `protocol` takes a gallery image away from a query, as its documentation says."""
    if image.key in protocol.junk.get(query.key, ()):
        return True
    if protocol.exclude == "nothing":
        return False
    if image.key == query.key:
        return True
    same_camera = query.camera != "" and image.camera == query.camera
    if protocol.exclude == "same_camera":
        return same_camera
    same_identity = query.identity not in ("", "junk") and image.identity == query.identity
    return protocol.exclude == "same_identity_and_camera" and same_identity and same_camera


def by_protocol(distances, queries, gallery, protocol):
    """Evaluate (Q, G) distances of `Image`s by a protocol without draws: gather units, remove, judge."""
    units = {}
    for g, image in enumerate(gallery):
        units.setdefault(image.tracklet if protocol.unit == "tracklet" and image.tracklet else g, []).append(g)
    units = list(units.values())
    of_units = [[min(row[g] for g in unit) for unit in units] for row in distances]

    def remove(q, unit):
        return any(removed(queries[q], gallery[g], protocol) for g in units[unit])

    return evaluate(
        of_units,
        codes(image.identity for image in queries),
        codes(gallery[unit[0]].identity for unit in units),
        remove,
        top_k=protocol.top_k,
        normaliser=protocol.normaliser,
        average_precision=protocol.average_precision,
    )


def codes(identities):
    """Integers for names, -1 for "" and -2 for "junk"; equal names get equal numbers in every call."""
    special = {"": -1, "junk": -2}
    return [special[name] if name in special else int.from_bytes(name.encode(), "big") for name in identities]


def draws(identities, repeats, seed):
    """The galleries drawn by VehicleID's rule: the first image of each vehicle in a random order of all images."""
    for number in range(repeats):
        gallery = {}
        for image in np.random.default_rng([seed, number]).permutation(len(identities)).tolist():
            if identities[image] not in ("", "junk"):
                gallery.setdefault(identities[image], image)
        yield sorted(gallery.values())


def repeated(distances, identities, repeats, seed):
    """Mean reciprocal rank and rank-1 of each drawn gallery over all other images, junk images aside."""
    results = []
    for gallery in draws(identities, repeats, seed):
        ranks = []
        for query in range(len(identities)):
            if query not in gallery and identities[query] != "junk":
                order = sorted(gallery, key=lambda g, q=query: (distances[q][g], g))
                ranks.append(1 + [identities[g] for g in order].index(identities[query]))
        results.append((sum(1 / rank for rank in ranks) / len(ranks), ranks.count(1) / len(ranks)))
    return results
