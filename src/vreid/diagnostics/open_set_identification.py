"""Open-set identification: FNIR against FPIR, and how reliably a distance separates right from wrong candidates."""

from __future__ import annotations

import numpy as np

from vreid.data.protocols import Protocol
from vreid.diagnostics.diagnosis import Curve, Curves, Part
from vreid.diagnostics.estimates import Estimate, means
from vreid.errors import InputError
from vreid.retrieval.evaluation.calibration import Threshold, calibrate
from vreid.retrieval.evaluation.open_set import OpenSet, leave_out, open_set
from vreid.retrieval.evaluation.proportions import rate_interval, whole
from vreid.retrieval.features import Sides
from vreid.retrieval.postprocessing.pipeline import PostProcessing

LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
"""False positive identification rates of the curve."""
TARGETS = (0.01, 0.05, 0.1)
"""FPIR targets of the calibration; the smallest that the number of queries can resolve is used."""
MISS_RATE = 0.1
LEFT_OUT = 0.3
"""Share of vehicles removed from the gallery if all queries have a match."""
BINS = 8
FEWEST = 10
"""Minimum number of queries per bin of distances."""
CURVE_RESAMPLES = 300


def open_set_of(sides: Sides, protocol: Protocol, post: PostProcessing, seed: int) -> OpenSet:
    """Evaluate the open set; if all queries have a match, `LEFT_OUT` of the vehicles are removed from the gallery.

    Raises:
        InputError: as `open_set` and `leave_out`.
    """
    query, gallery = sides
    names = set(gallery.records.identity.values)
    if all(name in names for name in query.records.identity.values):
        stays = leave_out(query.records, gallery.records, LEFT_OUT, seed)
        left = gallery.records[~stays].identity.distinct
        return open_set(post.under(protocol, query).apply(query, gallery[stays]), protocol, left_out=left)
    return open_set(post.under(protocol, query).apply(query, gallery), protocol)


def unknown_vehicles(
    sides: Sides,
    protocol: Protocol,
    post: PostProcessing | None = None,
    *,
    validation: Sides | None = None,
    seed: int = 0,
) -> Part:
    """Measure FNIR against FPIR, and the errors of a threshold that was calibrated on other vehicles.

    Args:
        sides: query and gallery features.
        protocol: the evaluation protocol.
        post: post-processing.
        validation: features to calibrate on; None calibrates on one half of the vehicles and evaluates the other half.
        seed: random seed of the removed vehicles, the halves and the intervals.

    Raises:
        InputError: as `open_set`, or validation features of another model.
    """
    post = post or PostProcessing()
    found = open_set_of(sides, protocol, post, seed)
    if validation is None:
        first = np.isin(found.identity, np.random.default_rng([seed, 6]).permutation(np.unique(found.identity))[::2])
        calibration, held, where = found.of(first), found.of(~first), "one half of the vehicles"
    else:
        calibration, held, where = open_set_of(validation, protocol, post, seed), found, "the validation features"
    threshold, why = _threshold(calibration)
    if threshold and validation is not None:
        threshold.check(features=found.features, steps=found.steps)
    levels = [level for level in LEVELS if whole(level * held.num_unknown) >= 1]
    if not levels or not held.num_known:
        raise InputError(
            f"open set: {held.num_unknown} queries without a match and {held.num_known} with one are too few to "
            "estimate any rate."
        )

    def at_levels(some: OpenSet) -> list[float]:
        return [some.fnir_at_fpir(level) for level in levels]

    low, high = held.interval(at_levels, seed=seed, resamples=CURVE_RESAMPLES)
    fnir = [
        Estimate(*values, held.num_known) for values in zip(at_levels(held), low.tolist(), high.tolist(), strict=True)
    ]
    numbers = {f"FNIR at FPIR {100 * level:g} %": value for level, value in zip(levels, fnir, strict=True)}
    marks, kept = {}, why
    warning = False
    if threshold:
        at = held.errors(threshold.match)
        wrong = held.nearest[~held.known] <= threshold.match
        lost = (held.rank != 1) | (held.positive > threshold.match)
        measured = Estimate(float(at.fpir), *rate_interval(wrong, held.identity[~held.known]), held.num_unknown)
        missed = Estimate(float(at.fnir), *rate_interval(lost[held.known], held.identity[held.known]), held.num_known)
        promised = threshold.false_match
        numbers["FPIR of the calibrated threshold"] = measured
        numbers["FNIR of the calibrated threshold"] = missed
        marks = {f"threshold for FPIR {100 * promised.target:g} %": (100 * float(at.fpir), 100 * float(at.fnir))}
        warning = measured.low > max(promised.high, promised.target)
        kept = (
            f"A threshold calibrated for an FPIR of {100 * promised.target:g} % on {where} has an FPIR of {measured} % "
            f"and an FNIR of {missed} % {'on the other half' if validation is None else 'here'}"
        )
    left = f", {found.left_out} vehicles removed," if found.left_out else ""
    first_level, first_fnir = levels[0], fnir[0]
    return Part(
        name="unknown vehicles",
        sentence=f"At an FPIR of {100 * first_level:g} % (queries whose vehicle is not in the gallery{left} but get a "
        f"match), the FNIR is {first_fnir} % (queries whose vehicle is missed or not first). {kept}.",
        numbers=numbers,
        warning=warning,
        fix="calibrate on data of these cameras with a gallery of this size (vreid calibrate)",
        needs="identities",
        limits="Valid for this gallery size; more images cause more false matches.",
        chart=Curves(
            [Curve("FNIR", [100 * level for level in levels], fnir)],
            "FPIR in percent",
            "FNIR in percent",
            log_x=True,
            marks=marks,
        ),
    )


def _threshold(calibration: OpenSet) -> tuple[Threshold | None, str]:
    why = ""
    for target in TARGETS:
        try:
            return calibrate(calibration, fpir=target, miss_rate=MISS_RATE), ""
        except InputError as error:
            why = f"No threshold could be calibrated ({str(error).rstrip('.')})"
    return None, why


def reliability(sides: Sides, protocol: Protocol, post: PostProcessing | None = None, *, seed: int = 0) -> Part:
    """Measure the accuracy of first candidates by distance, and how well distance separates right from wrong ones.

    The latter is the area under the ROC curve: how often, of a right and a wrong first candidate of two queries, the
    right one is nearer (1/2: chance, 1: perfect). Vehicles are removed as in `open_set_of`, since a camera network also
    sees unknown vehicles.

    Raises:
        InputError: as `open_set`; or all first candidates are right, or all wrong.
    """
    found = open_set_of(sides, protocol, post or PostProcessing(), seed)
    found = found.of(np.isfinite(found.nearest))
    right = found.rank == 1
    if right.all() or not right.any():
        raise InputError(f"reliability: the first candidates are all {'right' if right.any() else 'wrong'}.")

    def area(some: OpenSet) -> float:
        good, bad = np.sort(some.nearest[some.rank == 1]), some.nearest[some.rank != 1]
        if not len(good) or not len(bad):
            return float("nan")
        below = np.searchsorted(good, bad, side="left") + np.searchsorted(good, bad, side="right")
        return float(below.mean() / (2 * len(good)))

    low, high = found.interval(area, seed=seed, resamples=CURVE_RESAMPLES)
    auc = Estimate(area(found), float(low), float(high), len(found))
    order = np.argsort(found.nearest, kind="stable")
    parts = np.array_split(order, min(BINS, max(len(order) // FEWEST, 1)))
    share = [means(right[part], found.identity[part], seed=seed)[0] for part in parts]
    exact = [
        Estimate(s.value, *rate_interval(right[part], found.identity[part]), s.count)
        for s, part in zip(share, parts, strict=True)
    ]
    middle = [float(np.median(found.nearest[part])) for part in parts]
    warning = auc.low <= 0.5
    return Part(
        name="reliability of distances",
        sentence=f"A right first candidate is nearer than a wrong one in {auc} % of pairs. Of the {len(parts[0])} "
        f"nearest first candidates {exact[0]} % are right, of the {len(parts[-1])} farthest {exact[-1]} %.",
        numbers={
            "right is nearer than wrong": auc,
            "right among the nearest": exact[0],
            "right among the farthest": exact[-1],
        },
        warning=warning,
        fix="do not present distances as confidence",
        needs="identities",
        limits="Valid for the distances of these steps. Bins hold equal numbers of queries.",
        chart=Curves(
            [Curve("first candidate is right", middle, exact)], "distance of the first candidate", "right, percent"
        ),
    )
