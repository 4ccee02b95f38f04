"""Comparison with other renderings of the same simulated images, for example without background or number plates."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vreid.data.protocols import Protocol
from vreid.diagnostics.diagnosis import BarChart, Part
from vreid.diagnostics.estimates import Estimate, means
from vreid.errors import InputError
from vreid.retrieval.evaluation.evaluate import evaluate_retrieval
from vreid.retrieval.features import FeatureSet, Sides
from vreid.retrieval.postprocessing.pipeline import PostProcessing

ORIGINAL = "original"


def compare_renderings(
    original: Sides,
    others: Mapping[str, Sides],
    protocol: Protocol,
    post: PostProcessing | None = None,
    *,
    seed: int = 0,
) -> Part:
    """Measure the mAP of each rendering and its paired difference to the original.

    Args:
        original: query and gallery features of the original images.
        others: features of other renderings of the same images by the same model, by name ("without background").
        protocol: the evaluation protocol.
        post: post-processing, the same for all.
        seed: random seed of the intervals.

    Raises:
        InputError: a rendering of other images or by another model; or as `evaluate_retrieval`.
    """
    post = post or PostProcessing()
    for name, sides in others.items():
        for mine, theirs in zip(original, sides, strict=True):
            _check_same(name, mine, theirs)
    evaluated = {
        name: evaluate_retrieval(*sides, post, protocol) for name, sides in {ORIGINAL: original, **others}.items()
    }
    of_query = np.stack([metrics.average_precision for metrics in evaluated.values()], axis=1)
    change = of_query[:, 1:] - of_query[:, :1]
    found = means(np.concatenate([of_query, change], axis=1), original[0].records.identity.codes, seed=seed)
    values: dict[str, Estimate] = dict(zip(evaluated, found, strict=False))
    changes = {f"change {name}": number for name, number in zip(others, found[len(evaluated) :], strict=True)}
    reported = ", ".join(
        f"{name} it changes by {number} points" for name, number in zip(others, changes.values(), strict=True)
    )
    return Part(
        name="renderings",
        sentence=f"mAP is {values[ORIGINAL]} % on the original images; {reported}.",
        numbers={**values, **changes},
        needs="identities, renderings of one simulated world, one model",
        limits="The model was not trained on such images, so a loss is an upper bound of what it reads from the "
        "removed part: the unusual appearance costs accuracy too.",
        chart=BarChart({"images": values}, "mAP in percent, with 95 % interval"),
    )


def _check_same(name: str, mine: FeatureSet, theirs: FeatureSet) -> None:
    if not np.array_equal(mine.records.image_key, theirs.records.image_key):
        raise InputError(f"{name}: features of other images; give those of another rendering of the same world.")
    if (mine.model, mine.views) != (theirs.model, theirs.views):
        raise InputError(
            f"{name}: features of {theirs.made_by or 'an unknown model'}, not of {mine.made_by}; extract "
            "both with one model."
        )
