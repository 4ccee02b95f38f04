"""Post-processing: the settings of all steps, the list of actions that they make, and the search that runs it.

    norm, camera mean or camera whitening, tracklets, own tracklet, gallery expansion, query expansion,
    (bias before re-ranking), re-ranking, (mean of whitened and plain), bias, transit times, other cameras, scene groups

This is the order of the code of DMT (AI City 2021); its test-time augmentation is part of extraction here. Own
tracklet, expansion and transit times are not DMT's. `steps.STEPS` is the list; each step is a function from one
`SearchState` to the next, at the end of the file that has its name; `plan` makes the actions of one post-processing,
and `search_each` runs them.
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
    """What is done between features and distances; every field off is plain search.

    Attributes:
        norm: whether features are L2-normalised first; None: unless they were extracted raw (`FeatureSet.raw`).
        camera_mean: take the camera's mean feature off.
        camera_whitening: whiten camera by camera (its own mean included, so not together with `camera_mean`).
        tracklets: search whole tracklets by one feature of their frames.
        own_tracklet: mix each query with the tracklet of its own camera that clearly shows the same passage.
        gallery_expansion: mix each unit of the gallery with its nearest (database-side augmentation).
        query_expansion: mix each query with its nearest units.
        reranking: k-reciprocal re-ranking, of tracklets where `tracklets` is on.
        camera_bias: push apart what a camera model finds alike.
        orientation_bias: push apart what an orientation model finds alike.
        transit_times: prefer gaps in time that vehicles take between cameras, learned from the gallery without labels.
        exclude_same_camera: camera verification: a vehicle is searched in other cameras only, so images of the
            query's own camera are no candidates.
        scene_groups: a vehicle is searched in cameras of the query's own group only.
        added: configurations of steps that plugins have added (`vreid.plugins.add_step`).

    Raises:
        InputError: fields that contradict each other.

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
            raise InputError("post-processing: camera whitening takes the camera mean off too; switch one off.")
        on_features = self.reranking, self.own_tracklet, self.query_expansion, self.gallery_expansion
        if self.tracklets and self.tracklets.feature == "per-query" and any(on_features):
            raise InputError(
                "post-processing: tracklets weighted per query have another feature for each query, which cannot be "
                "re-ranked or expanded; take tracklets=weighted or tracklets=mean."
            )
        if self.raw:
            self._check_raw()

    def _order_added(self) -> None:
        """Put the configurations of added steps into the order in which they run."""
        kinds = [step.config for step in STEPS.values() if step.field == ADDED]
        for config in self.added:
            if type(config) not in kinds or len([other for other in self.added if type(other) is type(config)]) > 1:
                raise InputError(f"post-processing: added: {config!r} is of no added step, or of one given twice.")
        ordered = tuple(config for kind in kinds for config in self.added if type(config) is kind)
        object.__setattr__(self, "added", ordered)

    def _check_raw(self) -> None:
        """Refuse steps that would L2-normalise one side, or both, behind norm=raw."""
        fields = "camera_whitening", "own_tracklet", "gallery_expansion", "query_expansion"
        names = [name for name, step in STEPS.items() if step.field in fields and step.of(self)]
        if names:
            raise InputError(
                f"post-processing: {names[0]} L2-normalises features, which norm=raw (or extract --raw) leaves "
                "unnormalised; leave the step out, or add norm=unit."
            )
        if self.tracklets and self.tracklets.norm == "unit":
            feature = self.tracklets.feature
            raise InputError(
                f"post-processing: tracklets={feature}:unit L2-normalises the features of tracklets, but norm=raw "
                f"(or extract --raw) leaves those of queries unnormalised; write tracklets={feature}:raw, or add "
                "norm=unit."
            )

    @property
    def raw(self) -> bool:
        """Whether features are compared unnormalised."""
        return self.norm == Norm("raw")

    def of(self, features: FeatureSet) -> PostProcessing:
        """These steps as they apply to `features`: raw ones are compared so unless the steps choose a norm.

        Raises:
            InputError: norm=raw for features that were normalised when they were extracted, or steps that contradict
                the norm of the features.
        """
        if self.raw and features.normalised:
            raise InputError(
                "norm=raw: these features were L2-normalised when they were extracted; extract them with --raw, or "
                "leave norm=raw out."
            )
        return replace(self, norm=Norm("raw")) if features.raw and not self.norm else self

    @classmethod
    def parse(cls, text: str) -> PostProcessing:
        """The steps written in `text`, in any order, or the name of a preset (`vreid.retrieval.postprocessing.steps`).

        Raises:
            InputError: an unknown or repeated step, values that do not fit, or steps that contradict each other.

        Example:
            >>> PostProcessing.parse("rerank=7:2:0.6, tracklets").describe()
            'tracklets=mean, rerank=7:2:0.6'
        """
        return cls(**read_steps(text))

    def describe(self) -> str:
        """One line that `parse` reads: the steps in the order in which they run, or "plain search"."""
        return ", ".join(self.steps) or PLAIN

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps that are on, as they are written, in the order in which they run."""
        return write_steps(self)

    @property
    def transductive_reasons(self) -> tuple[str, ...]:
        """Why the result for one query depends on more than that query and single gallery images."""
        reasons = [step.why for step in STEPS.values() if step.why and step.of(self)]
        if self.tracklets and self.tracklets.feature == "weighted":
            reasons.append("tracklet weights use all queries together")
        return tuple(reasons)

    @property
    def transductive(self) -> bool:
        """Whether other queries, or statistics of the test images, are used."""
        return bool(self.transductive_reasons)

    def under(self, protocol: Protocol, features: FeatureSet) -> PostProcessing:
        """These steps as they apply to `features` (see `of`), and the tracklet feature that `protocol` prescribes.

        Raises:
            InputError: the steps make another tracklet feature, or as `of`.
        """
        steps = self.of(features)
        if protocol.tracklet_distance != "mean":
            return steps
        if steps.tracklets and steps.tracklets.feature != "mean":
            raise InputError(
                f"protocol {protocol.name} compares mean features of tracklets, not weighted ones; take the step "
                "tracklets=mean, or a protocol of each tracklet's nearest image (veri-tracks)."
            )
        return steps if steps.tracklets else replace(steps, tracklets=Tracklets(norm="raw" if steps.raw else "unit"))

    def apply(self, query: FeatureSet, gallery: FeatureSet) -> Distances:
        """Run the steps that are on; features are L2-normalised first, unless they or `norm` say otherwise.

        Raises:
            InputError: sides that cannot be compared, a feature of norm zero, or a step whose column is not known
                (camera, tracklet, scene).
        """
        return search_all([(query, gallery)], self)


def plan(post: PostProcessing) -> tuple[Action, ...]:
    """The steps of `post` as one list of actions, in the order in which they run.

    That of `STEPS`, with two exceptions around re-ranking: a bias "before" it is handed to it, and camera whitening
    with a share below 1 ends after it, where the mean with the same search without whitening is taken.
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
    """`post` as it applies to the features of the first model, and to those of the others too (see `of`).

    Raises:
        InputError: some models' features are compared raw, others normalised, so that distances have other scales.
    """
    first = post.of(members[0][0])
    for number, (query, _) in enumerate(members[1:], start=2):
        if post.of(query).raw != first.raw:
            kinds = ("raw", "normalised") if first.raw else ("normalised", "raw")
            raise InputError(
                f"features of model 1 are compared {kinds[0]}, those of model {number} {kinds[1]}, so their distances "
                "have different scales; add the step norm=unit, or extract them alike."
            )
    return first


def search_all(members: Sequence[Sides], post: PostProcessing, fusion: Fusion = ALIKE) -> Distances:
    """The distances of one model or several that see the same images, each post-processed by itself, then joined.

    Raises:
        InputError: as `PostProcessing.apply` and `ensemble`.
    """
    return next(search_each(members, [post], fusion))


def search_each(
    members: Sequence[Sides], posts: Sequence[PostProcessing], fusion: Fusion = ALIKE
) -> Iterator[Distances]:
    """The distances of `search_all` for each of several post-processings; what they have in common is made once.

    They share the states after all steps in which they agree from the first one on (see `PrefixCache`): features after
    the camera step, unit features, k-reciprocal encodings. Each state is kept until the last of `posts` that needs it.

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
        del named  # before the next is made
