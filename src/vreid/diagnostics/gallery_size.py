"""Comparison with baselines, and the effect of the gallery's size on mAP."""

from __future__ import annotations

import numpy as np

from vreid.data.protocols import Protocol
from vreid.data.records import JUNK, joint_codes
from vreid.diagnostics.baselines import hsv_histogram, random_vectors
from vreid.diagnostics.diagnosis import BarChart, Curve, Curves, Part
from vreid.diagnostics.estimates import Estimate, means
from vreid.errors import InputError
from vreid.progress import Progress
from vreid.retrieval.evaluation.evaluate import evaluate_retrieval, evaluated_rows, ranks_of, scores
from vreid.retrieval.evaluation.metrics import Metrics
from vreid.retrieval.features import FeatureSet
from vreid.retrieval.postprocessing.pipeline import PostProcessing
from vreid.retrieval.postprocessing.tracklet_features import tracklet_units

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)
"""Shares of the negatives (vehicles other than the query's) that stay in the gallery."""
DRAWS = 4
"""Galleries drawn per share."""
MOST_QUERIES = 1000
FEWEST_VEHICLES = 2


def compare_baselines(
    query: FeatureSet,
    gallery: FeatureSet,
    protocol: Protocol,
    metrics: Metrics,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Part:
    """Compare the mAP of the model with that of random vectors and of a colour histogram on the same queries.

    An unreadable image omits the histogram. Random vectors are averaged over three draws.

    Args:
        query, gallery: features of the model.
        protocol: the evaluation protocol.
        metrics: metrics of the model's features under `protocol`.
        seed: random seed of the intervals.
        progress: listener that counts images.
    """
    vehicles = query.records.identity.codes
    precisions = {"the model": metrics.average_precision}
    chance = [
        evaluate_retrieval(
            random_vectors(query.records, seed=100 + draw),
            random_vectors(gallery.records, seed=draw),
            PostProcessing(),
            protocol,
        ).average_precision
        for draw in range(3)
    ]
    precisions["random vectors"] = np.mean(chance, axis=0)
    missing = ""
    try:
        sides = hsv_histogram(query.records, progress), hsv_histogram(gallery.records, progress)
        precisions["colour histogram"] = evaluate_retrieval(*sides, PostProcessing(), protocol).average_precision
    except InputError as error:
        missing = f" The colour histogram is not available: {error}"
    columns = np.stack(list(precisions.values()), axis=1)
    differences = columns[:, :1] - columns[:, 1:]
    found = means(np.concatenate([columns, differences], axis=1), vehicles, seed=seed)
    baselines = list(precisions)[1:]
    numbers = dict(zip(precisions, found, strict=False))
    above = dict(zip([f"above {name}" for name in baselines], found[len(precisions) :], strict=True))
    not_beaten = [name for name in baselines if above[f"above {name}"].low <= 0]
    reported = ", ".join(f"{name} {numbers[name]} %" for name in baselines)
    return Part(
        name="baselines",
        sentence=f"mAP {numbers['the model']} %; {reported}."
        + (f" The model is not significantly better than {' and '.join(not_beaten)}." if not_beaten else "")
        + missing,
        numbers=numbers | above,
        warning=bool(not_beaten),
        fix="check that the model suits these images (size, colours) and that the identities are correct",
        needs="identities; images for the histogram",
        chart=BarChart({"mAP": numbers}, "mAP in percent, with 95 % interval"),
    )


def gallery_growth(query: FeatureSet, gallery: FeatureSet, protocol: Protocol, *, seed: int = 0) -> Part:
    """Measure mAP with a part of the negatives removed from the gallery, and the loss per doubling of negatives.

    Whole vehicles are drawn and each query keeps its matches, so galleries differ only in their negatives, as with more
    traffic at the same cameras. The loss is the slope of mean AP over log2 of the number of negatives. Distances are
    plain, since re-ranking depends on the gallery.

    Raises:
        InputError: fewer than two vehicles in the gallery; as `evaluate_distances`.
    """
    plain = PostProcessing().under(protocol, query).apply(query, gallery)
    own, identity = joint_codes(query.records.identity, gallery.records.identity)
    if protocol.unit == "tracklet":
        identity = identity[np.unique(tracklet_units(gallery.records)[0], return_index=True)[1]]
    vehicle = identity.astype(np.int64)
    unknown = (vehicle < 0) & (vehicle != JUNK)
    vehicle[unknown] = vehicle.max(initial=0) + 1 + np.arange(np.count_nonzero(unknown))  # each its own vehicle
    names = np.unique(vehicle[vehicle >= 0])
    shares = [share for share in SHARES if share * len(names) >= FEWEST_VEHICLES]
    if len(shares) < 2:
        raise InputError(
            f"gallery size: the gallery holds {len(names)} vehicles; at least {2 * FEWEST_VEHICLES} are needed."
        )
    rng = np.random.default_rng([seed, 5])
    removals = []  # (share, mask of removed units)
    for number, share in enumerate(shares):
        for _ in range(DRAWS if share < 1 else 1):
            kept = rng.permutation(names)[: round(share * len(names))]
            removals.append((number, ~np.isin(vehicle, kept)))
    chosen = set(rng.permutation(len(query))[:MOST_QUERIES].tolist())
    precision = np.full((len(query), len(shares)), np.nan)
    drawn = np.bincount([number for number, _ in removals], minlength=len(shares))
    for row, values, matches in evaluated_rows(plain, protocol):
        if row in chosen and len(matches):
            precision[row] = 0
            for number, removed in removals:
                left = values.copy()
                left[removed] = np.inf
                left[matches] = values[matches]
                precision[row, number] += scores(ranks_of(left, matches), len(matches), protocol)[0] / drawn[number]
    evaluated = ~np.isnan(precision[:, 0])
    sizes = np.array(shares) * len(vehicle)
    log = np.log2(sizes) - np.log2(sizes).mean()
    slope = precision[evaluated] @ log / (log @ log)
    *levels, doubling = means(np.column_stack([precision[evaluated], slope]), own[evaluated], seed=seed)
    cost = Estimate(-doubling.value, -doubling.high, -doubling.low, doubling.count)
    return Part(
        name="gallery size",
        sentence=f"Doubling the other vehicles in the gallery costs {cost} points of mAP; with 1/{1 / shares[0]:.0f} "
        f"of them mAP is {levels[0]} %, with all {levels[-1]} %.",
        numbers={
            "loss per doubling": cost,
            **{f"{size:,.0f} images": v for size, v in zip(sizes, levels, strict=True)},
        },
        needs="identities",
        limits="Extrapolation beyond this gallery is uncertain, since new vehicles may be more or less similar. "
        "Computed from plain distances without post-processing.",
        chart=Curves(
            [Curve("plain search", sizes.tolist(), levels)],
            "images of other vehicles in the gallery",
            "mAP in percent",
            log_x=True,
        ),
    )
