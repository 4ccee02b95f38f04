"""Ablation: what each step of a post-processing is worth, in two ladders from one call.

Cumulative: from plain search, one step after the other. Leave-one-out: all steps but one. A step that helps in the
first and is not missed in the second does what another one does too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from vreid.data.protocols import Protocol
from vreid.errors import InputError
from vreid.retrieval.evaluation.evaluate import evaluate_distances
from vreid.retrieval.evaluation.metrics import Metrics, interval
from vreid.retrieval.features import FeatureSet, Sides
from vreid.retrieval.postprocessing.ensemble import ALIKE, Fusion
from vreid.retrieval.postprocessing.pipeline import PostProcessing, common_norm, evaluate_retrieval, search_each
from vreid.retrieval.postprocessing.steps import ADDED, STEPS

Ladder = Literal["cumulative", "leave-one-out"]

TABLE_4 = (
    "norm",
    "rerank",
    "tracklets",
    "other-cameras",
    "camera-whitening",
    "camera-mean",
    "camera-bias",
    "orientation-bias",
    "own-tracklet",
    "gallery-expansion",
    "query-expansion",
    "transit-times",
    "scene-groups",
)
"""The order of Table 4 of the DMT paper, behind the norm that all steps start from; what it does not have follows."""


@dataclass(frozen=True)
class AblationRow:
    """One judged post-processing.

    Attributes:
        ladder: which of the two it belongs to.
        name: "plain search" ("norm=raw" of raw features), "+ STEP", or "all but STEP".
        post: the steps.
        metrics: its numbers.
        value: its mAP, or mAP@K where the protocol cuts.
        interval: of `value`, 95 % bootstrap over vehicles.
        change: of `value` against the row above (cumulative), or what all steps have more than this row
            (leave-one-out): both are what the step is worth; None for plain search.
        change_interval: of `change`, by the same draws of vehicles on both sides.
    """

    ladder: Ladder
    name: str
    post: PostProcessing
    metrics: Metrics
    value: float
    interval: tuple[float, float]
    change: float | None = None
    change_interval: tuple[float, float] | None = None


def ablation(
    post: PostProcessing,
    query: FeatureSet,
    gallery: FeatureSet,
    protocol: Protocol,
    *,
    others: Sequence[Sides] = (),
    fusion: Fusion = ALIKE,
    order: Sequence[str] = TABLE_4,
    seed: int = 0,
) -> list[AblationRow]:
    """The cumulative and the leave-one-out ladder of the steps of `post`, all from the same features.

    What rows have in common is made once: features after the camera step, unit features, and k-reciprocal encodings,
    one for each setting that occurs, so that a row costs one pass over its distances besides what is new in it. (Where
    the protocol draws galleries, every row starts from the features.)

    Args:
        post: all steps; the last row of the cumulative ladder.
        query: features of the queries.
        gallery: features of the gallery.
        protocol: how rankings are judged. Where it prescribes mean features of tracklets, each row has them.
        others: as in `evaluate_retrieval`.
        fusion: as in `evaluate_retrieval`.
        order: names of the steps in the order in which the cumulative ladder adds them.
        seed: of the intervals.

    Raises:
        InputError: no step is on, `order` lacks one, or as `evaluate_retrieval`.
    """
    post = common_norm([(query, gallery), *others], post)
    start = PostProcessing().of(query)  # raw features are compared raw from the first row on
    order = (*order, *(name for name, step in STEPS.items() if step.field == ADDED and name not in order))
    names = [name for name in order if name in STEPS and _of(post, name) and _of(post, name) != _of(start, name)]
    if len(names) != len(set(post.steps) - set(start.steps)):
        raise InputError(f"ablation: order {', '.join(order)} lacks a step of {post.describe()}; name each once.")
    if not names:
        raise InputError("ablation: no step is on; give the post-processing whose steps are to be compared.")
    longer = [start]
    for name in names:
        longer.append(STEPS[name].put(longer[-1], _of(post, name)))
    shorter = [STEPS[name].put(post, _of(PostProcessing(), name)) for name in (names if len(names) > 1 else ())]
    under_protocol = {chosen: chosen.under(protocol, query) for chosen in (*longer, post, *shorter)}
    distinct = list(dict.fromkeys(under_protocol.values()))
    members = [(query, gallery), *others]
    if protocol.repeats:
        evaluated = {
            chosen: evaluate_retrieval(query, gallery, chosen, protocol, others, fusion) for chosen in distinct
        }
    else:
        searched = zip(distinct, search_each(members, distinct, fusion), strict=True)
        evaluated = {chosen: evaluate_distances(distances, protocol) for chosen, distances in searched}

    def of(chosen: PostProcessing) -> Metrics:
        return evaluated[under_protocol[chosen]]

    def measured(metrics: Metrics) -> tuple[float, tuple[float, float]]:
        value = metrics.mAP if metrics.mAP_at_k is None else metrics.mAP_at_k
        return value, interval(metrics, protocol.metric, seed=seed)

    def row(ladder: Ladder, name: str, chosen: PostProcessing, worth: Metrics | None = None) -> AblationRow:
        metrics = of(chosen)
        change = (None, None) if worth is None else measured(worth)
        return AblationRow(ladder, name, chosen, metrics, *measured(metrics), *change)

    rows = [row("cumulative", start.describe(), start)]
    for name, (before, after) in zip(names, pairwise(longer), strict=True):
        rows.append(row("cumulative", f"+ {_written(post, name)}", after, difference(of(after), of(before))))
    for name, less in zip(names, shorter, strict=False):
        rows.append(row("leave-one-out", f"all but {_written(post, name)}", less, difference(of(post), of(less))))
    return rows


def _of(post: PostProcessing, name: str) -> Any:
    """The configuration of the step of that name; None or False where it is off."""
    return STEPS[name].of(post)


def _written(post: PostProcessing, name: str) -> str:
    return next(step for step in post.steps if step.partition("=")[0] == name)


def difference(more: Metrics, less: Metrics) -> Metrics:
    """Metrics whose average precisions are differences, query by query: means and intervals are those of the change."""
    return replace(
        more,
        mAP=more.mAP - less.mAP,
        mAP_at_k=None if more.mAP_at_k is None or less.mAP_at_k is None else more.mAP_at_k - less.mAP_at_k,
        average_precision=more.average_precision - less.average_precision,
        average_precision_at_k=more.average_precision_at_k - less.average_precision_at_k,
        draws=tuple(difference(a, b) for a, b in zip(more.draws, less.draws, strict=True)),
    )
