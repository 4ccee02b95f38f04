"""The post-processing pipeline: settings of all steps, their order, and the search that runs them.

    norm, camera mean or camera whitening, tracklets, own tracklet, gallery expansion, query expansion,
    (bias before re-ranking), re-ranking, (mean of whitened and plain), bias, transit times, other cameras, scene groups

This is the order of DMT's code (AI City 2021), whose test-time augmentation is part of extraction here. Own tracklet,
expansion and transit times are additions. `steps.STEPS` lists the steps; each is a function from one `SearchState` to
the next, at the end of its module. `plan` builds the actions of a post-processing, and `search_each` runs them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from vreid.data.protocols import Protocol
from vreid.errors import InputError
from vreid.retrieval.distances import Distances
from vreid.retrieval.features import FeatureSet, Norm, Sides
from vreid.retrieval.postprocessing.bias import Bias, bias_before_reranking_step, same_steps_of_bias
from vreid.retrieval.postprocessing.camera_statistics import (
    CameraMean,
    CameraWhitening,
    mean_with_plain_step,
    without_whitening,
)
from vreid.retrieval.postprocessing.ensemble import ALIKE, Fusion, check_same_images, ensemble
from vreid.retrieval.postprocessing.expansion import Expansion
from vreid.retrieval.postprocessing.own_tracklet import OwnTracklet
from vreid.retrieval.postprocessing.prefix_cache import Action, Model, Prefix, PrefixCache
from vreid.retrieval.postprocessing.reranking import ReRanking
from vreid.retrieval.postprocessing.scene_groups import SceneGroups
from vreid.retrieval.postprocessing.steps import ADDED, PLAIN, STEPS, read_steps, write_steps
from vreid.retrieval.postprocessing.tracklet_features import Tracklets
from vreid.retrieval.postprocessing.transit_times import TransitTimes


@dataclass(frozen=True)
class PostProcessing:
    """Settings of the post-processing between features and distances; without any step it is plain search.

    Attributes:
        norm: normalisation of features; None: L2, unless they were extracted raw (`FeatureSet.raw`).
        camera_mean: subtract the mean feature of the camera.
        camera_whitening: whiten features per camera (includes mean subtraction, so it excludes `camera_mean`).
        tracklets: search whole tracklets, each by one feature.
        own_tracklet: average each query with its own tracklet, found in the query's camera.
        gallery_expansion: average each gallery unit with its nearest units (database-side augmentation).
        query_expansion: average each query with its nearest units.
        reranking: k-reciprocal re-ranking, of tracklets if `tracklets` is set.
        camera_bias: subtract weighted distances of a camera model.
        orientation_bias: subtract weighted distances of an orientation model.
        transit_times: add a prior on the time between cameras, learned from the gallery without labels.
        exclude_same_camera: camera verification: exclude images of the query's own camera.
        scene_groups: exclude images of cameras outside the query's scene group.
        added: configurations of steps added by plugins (`vreid.plugins.add_step`).

    Raises:
        InputError: settings contradict each other.

    Example:
        >>> PostProcessing(tracklets=Tracklets(), reranking=ReRanking(7, 2, 0.6)).describe()
        'tracklets=mean, rerank=7:2:0.6'
    """

    norm: Norm | None = None
    camera_mean: CameraMean | None = None
    camera_whitening: CameraWhitening | None = None
    tracklets: Tracklets | None = None
    own_tracklet: OwnTracklet | None = None
    gallery_expansion: Expansion | None = None
    query_expansion: Expansion | None = None
    reranking: ReRanking | None = None
    camera_bias: Bias | None = None
    orientation_bias: Bias | None = None
    transit_times: TransitTimes | None = None
    exclude_same_camera: bool = False
    scene_groups: SceneGroups | None = None
    added: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if self.added:
            self._order_added()
        if self.camera_mean and self.camera_whitening:
            raise InputError("post-processing: camera whitening includes camera mean subtraction; disable one of them.")
        on_features = self.reranking, self.own_tracklet, self.query_expansion, self.gallery_expansion
        if self.tracklets and self.tracklets.feature == "per-query" and any(on_features):
            raise InputError(
                "post-processing: tracklets=per-query has a different tracklet feature for each query, which cannot be "
                "re-ranked or expanded; use tracklets=weighted or tracklets=mean."
            )
        if self.raw:
            self._check_raw()

    def _order_added(self) -> None:
        """Sort the configurations of added steps by execution order."""
        kinds = [step.config for step in STEPS.values() if step.field == ADDED]
        for config in self.added:
            if type(config) not in kinds or len([other for other in self.added if type(other) is type(config)]) > 1:
                raise InputError(
                    f"post-processing: added: {config!r} does not belong to an added step, or the step is given twice; "
                    "remove it."
                )
        ordered = tuple(config for kind in kinds for config in self.added if type(config) is kind)
        object.__setattr__(self, "added", ordered)

    def _check_raw(self) -> None:
        """Raise for steps that L2-normalise features, which contradicts norm=raw."""
        fields = "camera_whitening", "own_tracklet", "gallery_expansion", "query_expansion"
        names = [name for name, step in STEPS.items() if step.field in fields and step.of(self)]
        if names:
            raise InputError(
                f"post-processing: {names[0]} L2-normalises features, which contradicts norm=raw (or extract --raw); "
                "remove the step, or add norm=unit."
            )
        if self.tracklets and self.tracklets.norm == "unit":
            feature = self.tracklets.feature
            raise InputError(
                f"post-processing: tracklets={feature}:unit L2-normalises the features of tracklets, but norm=raw "
                f"(or extract --raw) keeps those of queries unnormalised; use tracklets={feature}:raw, or add "
                "norm=unit."
            )

    @property
    def raw(self) -> bool:
        """Whether features are compared unnormalised."""
        return self.norm == Norm("raw")

    def of(self, features: FeatureSet) -> PostProcessing:
        """Resolve the norm for `features`: raw features are compared unnormalised unless `norm` is set.

        Raises:
            InputError: norm=raw is set for features that were normalised in extraction, or a step contradicts the norm
                of the features.
        """
        if self.raw and features.normalised:
            raise InputError(
                "norm=raw: these features were L2-normalised in extraction; extract them with --raw, or remove "
                "norm=raw."
            )
        return replace(self, norm=Norm("raw")) if features.raw and not self.norm else self

    @classmethod
    def parse(cls, text: str) -> PostProcessing:
        """Parse steps from text, in any order, or from the name of a preset (`vreid.retrieval.postprocessing.steps`).

        Raises:
            InputError: a step is unknown or repeated, values are invalid, or steps contradict each other.

        Example:
            >>> PostProcessing.parse("rerank=7:2:0.6, tracklets").describe()
            'tracklets=mean, rerank=7:2:0.6'
        """
        return cls(**read_steps(text))

    def describe(self) -> str:
        """Format the steps as one line that `parse` reads, in execution order; "plain search" without steps."""
        return ", ".join(self.steps) or PLAIN

    @property
    def steps(self) -> tuple[str, ...]:
        """The enabled steps as text, in execution order."""
        return write_steps(self)

    @property
    def transductive_reasons(self) -> tuple[str, ...]:
        """Reasons why the result of a query depends on other queries or on statistics of the gallery."""
        reasons = [step.why for step in STEPS.values() if step.why and step.of(self)]
        if self.tracklets and self.tracklets.feature == "weighted":
            reasons.append("tracklet weights use all queries together")
        return tuple(reasons)

    @property
    def transductive(self) -> bool:
        """Whether other queries or statistics of the test images are used."""
        return bool(self.transductive_reasons)

    def under(self, protocol: Protocol, features: FeatureSet) -> PostProcessing:
        """Resolve the norm for `features` (see `of`) and add the tracklet feature that `protocol` prescribes.

        Raises:
            InputError: another tracklet feature is set, or as `of`.
        """
        steps = self.of(features)
        if protocol.tracklet_distance != "mean":
            return steps
        if steps.tracklets and steps.tracklets.feature != "mean":
            raise InputError(
                f"protocol {protocol.name} compares mean features of tracklets, not weighted ones; use the step "
                "tracklets=mean, or a protocol that compares the nearest image of each tracklet (veri-tracks)."
            )
        return steps if steps.tracklets else replace(steps, tracklets=Tracklets(norm="raw" if steps.raw else "unit"))

    def apply(self, query: FeatureSet, gallery: FeatureSet) -> Distances:
        """Run the enabled steps and return the distances.

        Raises:
            InputError: the sides cannot be compared, a feature has norm zero, or a column that a step needs (camera,
                tracklet, scene) is unknown.
        """
        return search_all([(query, gallery)], self)


def plan(post: PostProcessing) -> tuple[Action, ...]:
    """Build the list of actions of `post`, in execution order.

    The order is that of `STEPS` with two exceptions: a bias "before" re-ranking is passed to it, and for camera
    whitening with a share below 1, the mean with the unwhitened search is taken after re-ranking.
    """
    early = []
    if post.reranking:
        early = [bias for bias in (post.camera_bias, post.orientation_bias) if bias and bias.when == "before"]
    actions = []
    for step in STEPS.values():
        config = step.of(post)
        if step.field == "norm":
            config = config or Norm()
        if step.field == "camera_whitening" and config:
            config = replace(config, share=1.0)
        if step.field == "reranking":
            actions += [Action(bias_before_reranking_step, bias, same_steps_of_bias) for bias in early]
        if config and config not in early:
            actions.append(Action(step.run, config, step.other))
        if step.field == "reranking" and post.camera_whitening and post.camera_whitening.share < 1:
            actions.append(Action(mean_with_plain_step, post.camera_whitening.share, without_whitening))
    return tuple(actions)


def common_norm(members: Sequence[Sides], post: PostProcessing) -> PostProcessing:
    """Resolve the norm of `post` for the features of all models (see `PostProcessing.of`).

    Raises:
        InputError: features of some models are compared raw and of others normalised, so that scales differ.
    """
    first = post.of(members[0][0])
    for number, (query, _) in enumerate(members[1:], start=2):
        if post.of(query).raw != first.raw:
            kinds = ("raw", "normalised") if first.raw else ("normalised", "raw")
            raise InputError(
                f"features of model 1 are compared {kinds[0]}, those of model {number} {kinds[1]}, so their distances "
                "have different scales; add the step norm=unit, or extract both with the same settings."
            )
    return first


def search_all(members: Sequence[Sides], post: PostProcessing, fusion: Fusion = ALIKE) -> Distances:
    """Compute the distances of one or several models for the same images: post-processed per model, then fused.

    Raises:
        InputError: as `PostProcessing.apply` and `ensemble`.
    """
    return next(search_each(members, [post], fusion))


def search_each(
    members: Sequence[Sides], posts: Sequence[PostProcessing], fusion: Fusion = ALIKE
) -> Iterator[Distances]:
    """Yield the distances of `search_all` for each of several post-processings, computing common first steps once.

    Post-processings with the same first steps share their results (see `PrefixCache`): features after the camera step,
    unit features, k-reciprocal encodings. A result is kept until the last of `posts` that needs it.

    Raises:
        InputError: as `search_all`.
    """
    query, gallery = (side.records for side in members[0])
    for number, sides in enumerate(members[1:], start=2):
        check_same_images(query, sides[0].records, f"query of model {number}")
        check_same_images(gallery, sides[1].records, f"gallery of model {number}")
    posts = [common_norm(members, post) for post in posts]

    def features(model: Model) -> Sides:
        return members[model] if isinstance(model, int) else Bias(features=model).sides(query, gallery)

    prefixes = [[Prefix(model, plan(post)) for model in range(len(members))] for post in posts]
    cache = PrefixCache(features, chain.from_iterable(prefixes))
    for post, of_models in zip(posts, prefixes, strict=True):
        found = (cache.take(prefix).distances for prefix in of_models)
        named = [replace(each, steps=post.steps, transductive=post.transductive) for each in found]
        yield ensemble(named, fusion.weights or None, fusion.how)
        del named  # free it before the next is computed
