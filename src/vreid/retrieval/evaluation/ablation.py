"""Ablation of a post-processing: the effect of each step, cumulative and leave-one-out.

Cumulative: steps are added to plain search one by one. Leave-one-out: all steps but one. A step that helps in the first
but whose removal costs nothing in the second is redundant with another step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from vreid.data.protocols import Protocol
from vreid.errors import InputError
from vreid.retrieval.evaluation.evaluate import evaluate_distances, evaluate_retrieval
from vreid.retrieval.evaluation.metrics import Metrics, interval
from vreid.retrieval.features import FeatureSet, Sides
from vreid.retrieval.postprocessing.ensemble import ALIKE, Fusion
from vreid.retrieval.postprocessing.pipeline import PostProcessing, common_norm, search_each
from vreid.retrieval.postprocessing.steps import ADDED, STEPS

AblationKind = Literal["cumulative", "leave-one-out"]

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
"""Steps in the order of Table 4 of the DMT paper: the norm first, steps that the table does not have last."""


@dataclass(frozen=True)
class AblationRow:
    """One evaluated post-processing.

    Attributes:
        kind: which of the two ablations it belongs to.
        name: "plain search" ("norm=raw" for raw features), "+ STEP", or "all but STEP".
        post: the steps.
        metrics: its metrics.
        value: its mAP, or mAP@K if the protocol truncates rankings.
        interval: 95 % bootstrap interval of `value` over vehicles.
        change: effect of the step on `value`: the difference to the row above (cumulative), or of all steps to this
            row (leave-one-out); None for plain search.
        change_interval: paired bootstrap interval of `change`.
    """

    kind: AblationKind
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
    """Compute the cumulative and the leave-one-out ablation of the steps of `post` on the same features.

    Intermediate results that rows share (features after the camera step, unit features, k-reciprocal encodings) are
    computed once. If the protocol draws galleries, every row is computed from the features.

    Args:
        post: all steps; the last row of the cumulative ablation.
        query: features of the queries.
        gallery: features of the gallery.
        protocol: evaluation protocol. If it prescribes mean features of tracklets, each row has them.
        others: as in `evaluate_retrieval`.
        fusion: as in `evaluate_retrieval`.
        order: names of the steps in the order in which the cumulative ablation adds them.
        seed: seed of the bootstrap intervals.

    Raises:
        InputError: no step is enabled, `order` lacks one, or as `evaluate_retrieval`.
    """
    post = common_norm([(query, gallery), *others], post)
    plain = PostProcessing().of(query)  # keeps raw features unnormalised in every row
    order = (*order, *(name for name, step in STEPS.items() if step.field == ADDED and name not in order))
    names = [name for name in order if name in STEPS and _of(post, name) and _of(post, name) != _of(plain, name)]
    if len(names) != len(set(post.steps) - set(plain.steps)):
        raise InputError(f"ablation: order {', '.join(order)} lacks a step of {post.describe()}; name each once.")
    if not names:
        raise InputError("ablation: no step is enabled; give the post-processing whose steps are to be compared.")
    longer = [plain]
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

    def row(kind: AblationKind, name: str, chosen: PostProcessing, effect: Metrics | None = None) -> AblationRow:
        metrics = of(chosen)
        change = (None, None) if effect is None else measured(effect)
        return AblationRow(kind, name, chosen, metrics, *measured(metrics), *change)

    rows = [row("cumulative", plain.describe(), plain)]
    for name, (before, after) in zip(names, pairwise(longer), strict=True):
        rows.append(row("cumulative", f"+ {_written(post, name)}", after, difference(of(after), of(before))))
    for name, less in zip(names, shorter, strict=False):
        rows.append(row("leave-one-out", f"all but {_written(post, name)}", less, difference(of(post), of(less))))
    return rows


def _of(post: PostProcessing, name: str) -> Any:
    """Return the configuration of the step `name`; None or False if it is disabled."""
    return STEPS[name].of(post)


def _written(post: PostProcessing, name: str) -> str:
    return next(step for step in post.steps if step.partition("=")[0] == name)


def difference(more: Metrics, less: Metrics) -> Metrics:
    """Subtract metrics query by query; means and intervals of the result are those of the change."""
    return replace(
        more,
        mAP=more.mAP - less.mAP,
        mAP_at_k=None if more.mAP_at_k is None or less.mAP_at_k is None else more.mAP_at_k - less.mAP_at_k,
        average_precision=more.average_precision - less.average_precision,
        average_precision_at_k=more.average_precision_at_k - less.average_precision_at_k,
        draws=tuple(difference(a, b) for a, b in zip(more.draws, less.draws, strict=True)),
    )
