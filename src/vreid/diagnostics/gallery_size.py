"""What a number has to beat, and what becomes of it when the gallery grows."""

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
"""Shares of the strangers that are left in the gallery."""
DRAWS = 4
"""Drawn galleries of each share."""
MOST_QUERIES = 1000
FEWEST_VEHICLES = 2


def floors(
    query: FeatureSet,
    gallery: FeatureSet,
    protocol: Protocol,
    metrics: Metrics,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Part:
    """mAP of the model's features beside that of random vectors and of a colour histogram, same queries.

    Args:
        metrics: of the model's features under `protocol`, as judged.
        progress: listener, counts pictures.

    A picture that cannot be read leaves the histogram out. Random vectors are three times drawn, so that chance is not
    one draw's.
    """
    vehicles = query.records.identity.codes
    made = {"the model": metrics.average_precision}
    chance = [
        evaluate_retrieval(
            random_vectors(query.records, seed=100 + draw),
            random_vectors(gallery.records, seed=draw),
            PostProcessing(),
            protocol,
        ).average_precision
        for draw in range(3)
    ]
    made["random vectors"] = np.mean(chance, axis=0)
    missing = ""
    try:
        sides = hsv_histogram(query.records, progress), hsv_histogram(gallery.records, progress)
        made["colour histogram"] = evaluate_retrieval(*sides, PostProcessing(), protocol).average_precision
    except InputError as error:
        missing = f" The colour histogram could not be made: {error}"
    columns = np.stack(list(made.values()), axis=1)
    differences = columns[:, :1] - columns[:, 1:]
    found = means(np.concatenate([columns, differences], axis=1), vehicles, seed=seed)
    numbers = dict(zip(made, found, strict=False))
    above = dict(zip([f"above {name}" for name in list(made)[1:]], found[len(made) :], strict=True))
    beaten = [name for name in list(made)[1:] if above[f"above {name}"].low <= 0]
    reported = ", ".join(f"{name} {numbers[name]} %" for name in list(made)[1:])
    return Part(
        name="floors",
        sentence=f"mAP {numbers['the model']} %; {reported}."
        + (f" The model is not surely better than {' and '.join(beaten)}." if beaten else "")
        + missing,
        numbers=numbers | above,
        warning=bool(beaten),
        fix="check that the model fits these pictures (its size, its colours) and that the identities are right",
        needs="identities; pictures for the histogram",
        chart=BarChart({"mAP": numbers}, "mAP in percent, with 95 % interval"),
    )


def gallery_growth(query: FeatureSet, gallery: FeatureSet, protocol: Protocol, *, seed: int = 0) -> Part:
    """mAP when a part of the strangers is taken out of the gallery, and what doubling them costs.

    Whole vehicles are drawn, and each query keeps its mates; so sizes differ by strangers alone, as they do when more
    traffic passes the same cameras. The slope is that of the mean AP over log2 of the strangers left. Distances are
    plain ones: re-ranked ones would have to be made anew for every gallery.

    Raises:
        InputError: fewer than two vehicles in the gallery; as `evaluate_distances`.
    """
    plain = PostProcessing().under(protocol, query).apply(query, gallery)
    own, identity = joint_codes(query.records.identity, gallery.records.identity)
    if protocol.unit == "tracklet":
        identity = identity[np.unique(tracklet_units(gallery.records)[0], return_index=True)[1]]
    stranger = identity.astype(np.int64)
    nobody = (stranger < 0) & (stranger != JUNK)
    stranger[nobody] = stranger.max(initial=0) + 1 + np.arange(np.count_nonzero(nobody))  # each its own vehicle
    names = np.unique(stranger[stranger >= 0])
    shares = [share for share in SHARES if share * len(names) >= FEWEST_VEHICLES]
    if len(shares) < 2:
        raise InputError(f"gallery size: the gallery holds {len(names)} vehicles; {2 * FEWEST_VEHICLES} are the least.")
    rng = np.random.default_rng([seed, 5])
    gone = []  # (share, unit is taken out)
    for number, share in enumerate(shares):
        for _ in range(DRAWS if share < 1 else 1):
            kept = rng.permutation(names)[: round(share * len(names))]
            gone.append((number, ~np.isin(stranger, kept)))
    chosen = set(rng.permutation(len(query))[:MOST_QUERIES].tolist())
    precision = np.full((len(query), len(shares)), np.nan)
    drawn = np.bincount([number for number, _ in gone], minlength=len(shares))
    for row, values, mates in evaluated_rows(plain, protocol):
        if row in chosen and len(mates):
            precision[row] = 0
            for number, taken_out in gone:
                left = values.copy()
                left[taken_out] = np.inf
                left[mates] = values[mates]
                precision[row, number] += scores(ranks_of(left, mates), len(mates), protocol)[0] / drawn[number]
    evaluated = ~np.isnan(precision[:, 0])
    sizes = np.array(shares) * len(stranger)
    log = np.log2(sizes) - np.log2(sizes).mean()
    slope = precision[evaluated] @ log / (log @ log)
    *levels, doubling = means(np.column_stack([precision[evaluated], slope]), own[evaluated], seed=seed)
    cost = Estimate(-doubling.value, -doubling.high, -doubling.low, doubling.count)
    return Part(
        name="gallery size",
        sentence=f"Doubling the strangers in the gallery costs {cost} points of mAP; with {1 / shares[0]:.0f} times "
        f"fewer it is {levels[0]} %, with all {levels[-1]} %.",
        numbers={"a doubling costs": cost, **{f"{size:,.0f} images": v for size, v in zip(sizes, levels, strict=True)}},
        needs="identities",
        limits="Beyond the gallery at hand the line is a guess: new vehicles may resemble these more or less. Plain "
        "distances, whatever the post-processing.",
        chart=Curves(
            [Curve("plain search", sizes.tolist(), levels)],
            "images of strangers in the gallery",
            "mAP in percent",
            log_x=True,
        ),
    )
