"""Tuning of post-processing parameters on validation features, by coordinate descent.

One parameter at a time is set to the best of its values with all others fixed, in rounds until none changes. Validation
data that share vehicles or images with the test data are rejected, because results on tuning data are optimistic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vreid.data.protocols import Protocol
from vreid.data.records import JUNK_NAME
from vreid.errors import InputError
from vreid.progress import Progress, job
from vreid.retrieval.evaluation.ablation import difference
from vreid.retrieval.evaluation.evaluate import evaluate_distances
from vreid.retrieval.evaluation.metrics import Metrics, interval
from vreid.retrieval.features import FeatureSet, Sides
from vreid.retrieval.postprocessing.pipeline import PostProcessing, common_norm, search_each

GRIDS: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "camera_mean": {"alpha": (0.5, 0.75, 1.0)},
    "camera_whitening": {"ridge": (0.06, 0.12, 0.18, 0.3, 0.6, 1.2), "share": (0.25, 0.5, 0.75, 1.0)},
    "tracklets": {"feature": ("mean", "weighted"), "norm": ("unit", "raw")},
    "gallery_expansion": {"neighbours": (1, 2, 3, 5, 8), "alpha": (0.0, 1.0, 3.0, 6.0)},
    "query_expansion": {"neighbours": (1, 2, 3, 5, 8), "alpha": (0.0, 1.0, 3.0, 6.0)},
    "reranking": {"k1": (5, 7, 10, 15, 20, 30, 50), "k2": (1, 2, 4, 6, 10, 15), "lambda_": (0.1, 0.3, 0.5, 0.6, 0.8)},
}
"""Candidate values by field of `PostProcessing` and of its configuration; the initial value is always tried too."""
ROUNDS = 3
"""Maximum number of rounds over all parameters."""

Validation = tuple[Sides, Protocol]
"""Query and gallery features of one model, and the evaluation protocol."""


@dataclass(frozen=True)
class Trial:
    """A setting and its mean mAP (mAP@K if the protocol truncates rankings) over the validation sets."""

    post: PostProcessing
    value: float


@dataclass(frozen=True)
class Tuning:
    """Result of tuning.

    Attributes:
        given: the initial setting.
        best: the chosen setting.
        trials: every evaluated setting, in order; the first is `given`.
    """

    given: Trial
    best: Trial
    trials: tuple[Trial, ...]

    def __str__(self) -> str:
        return (
            f"chosen on validation: {self.best.post.describe()}, {100 * self.best.value:.1f} (initial setting: "
            f"{100 * self.given.value:.1f}), the best of {len(self.trials):,} settings"
        )


def tune(
    post: PostProcessing,
    validation: Sequence[Validation],
    *,
    grids: Mapping[str, Mapping[str, tuple[Any, ...]]] = GRIDS,
    progress: Progress | None = None,
) -> Tuning:
    """Choose the parameters of the enabled steps of `post`; ties go to the initial value, then to the first.

    Args:
        post: the steps and their initial parameters.
        validation: one or several sets of features, whose metrics are averaged.
        grids: candidate values by step and parameter.
        progress: listener, counts settings.

    Raises:
        InputError: there are no validation features, no step has a parameter to choose, or as `PostProcessing.apply`.

    Example:
        >>> tuned = tune(PostProcessing.parse("rerank"), [((query, gallery), protocol)])       # doctest: +SKIP
        >>> tuned.best.post.describe()                                                         # doctest: +SKIP
        'rerank=7:4:0.5'
    """
    if not validation:
        raise InputError("tune: there are no validation features; give at least one set.")
    post = common_norm([sides for sides, _ in validation], post)
    parameters = [
        (step, name, values)
        for step, grid in grids.items()
        if getattr(post, step) is not None
        for name, values in grid.items()
        if not (post.raw and name == "norm")  # fixed by norm=raw
    ]
    if not parameters:
        raise InputError(f"tune: {post.describe()} has no parameter to choose; give steps such as rerank.")
    protocols = [protocol for _, protocol in validation]
    most = 1 + ROUNDS * sum(len(values) for _, _, values in parameters)
    tried: dict[PostProcessing, float] = {}

    def try_out(posts: Sequence[PostProcessing]) -> None:
        """Evaluate all of `posts` on each validation set, computing shared intermediate results once."""
        new = [post for post in dict.fromkeys(posts) if post not in tried]
        under = [[post.under(protocol, sides[0]) for post in new] for sides, protocol in validation]
        found = [search_each([sides], posts) for (sides, _), posts in zip(validation, under, strict=True)]
        for chosen, *each in zip(new, *found, strict=True):
            values = (_value(evaluate_distances(*pair)) for pair in zip(each, protocols, strict=True))
            tried[chosen] = float(np.mean(list(values)))
            listener.advance(1)

    best = post
    with job(progress, "tune", most) as listener:
        for _ in range(ROUNDS):
            before = best
            for step, name, values in parameters:
                choices = [replace(best, **{step: replace(getattr(best, step), **{name: value})}) for value in values]
                try_out([best, *choices])
                best = max([best, *choices], key=tried.__getitem__)
            if best == before:
                break
    trials = tuple(Trial(chosen, number) for chosen, number in tried.items())
    return Tuning(Trial(post, tried[post]), Trial(best, tried[best]), trials)


def gain(given: Metrics, tuned: Metrics) -> tuple[float, float, float]:
    """Compute the gain of `tuned` over `given` on the test data with its paired 95 % interval: value, low, high."""
    change = difference(tuned, given)
    return _value(change), *interval(change, change.protocol.metric)


def _value(metrics: Metrics) -> float:
    return metrics.mAP if metrics.mAP_at_k is None else metrics.mAP_at_k


def check_apart(validation: Sides, test: Sides, *, same_source: bool) -> None:
    """Raise if validation features share a vehicle or an image with the test features.

    Two images are the same if their paths are equal or their features are bit-identical.

    Args:
        validation, test: query and gallery features of each.
        same_source: both are from one data set, so that equal identity names mean the same vehicle. (Identity names of
            different data sets are unrelated.)

    Raises:
        InputError: they share an image or a vehicle; the first one is named.
    """
    for side in validation:
        for other in test:
            shared = np.intersect1d(side.records.path, other.records.path)
            if len(shared):
                raise InputError(
                    f"{shared[0]}: is in validation and test; tune on other images than those of the test."
                )
            _reject_copies(side, other)
            if same_source:
                names = {*side.records.identity.values} & {*other.records.identity.values} - {"", JUNK_NAME}
                if names:
                    raise InputError(
                        f"vehicle {min(names)}: is in validation and test; tune on other vehicles than those of the "
                        "test (`vreid data split`)."
                    )


def _reject_copies(side: FeatureSet, other: FeatureSet) -> None:
    if side.dimensions != other.dimensions:
        raise InputError(
            f"validation features have {side.dimensions} dimensions, those of the test {other.dimensions}; tune with "
            "features of the same model."
        )
    seen = {row.tobytes(): number for number, row in enumerate(other.normalise().features)}
    for number, row in enumerate(side.normalise().features):
        if row.tobytes() in seen:
            raise InputError(
                f"{side.records.path[number]}: has the same features as {other.records.path[seen[row.tobytes()]]} in "
                "the test, so it is the same image; tune on other images than those of the test."
            )
