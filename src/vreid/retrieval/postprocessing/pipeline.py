"""Post-processing on one page: every step between features and a ranking, and the order of them all.

    L2-normalise (or not: norm), camera mean or camera whitening, tracklet features, own tracklet, gallery and query
    expansion, distances, bias before re-ranking, re-ranking, mean of whitened and plain, bias after re-ranking,
    transit times, other cameras, scene groups

This is the order of the code of DMT (AI City 2021), whose test-time augmentation belongs to extraction and whose
ensembles are `ensemble` of what comes out here; own tracklet, expansion and transit times are not DMT's. Each step is
also a plain function: `subtract_camera_mean`, `whiten_cameras`, `mean_features`, `weighted_features`,
`join_own_tracklet`, `augment_gallery`, `expand_queries`, `rerank`, `learn_transit_times`, `exclude_same_camera`,
`exclude_other_scenes`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.data.protocols import Protocol
from vreid.errors import InputError
from vreid.retrieval.distances import Distances, Source, SquaredEuclidean, check_comparable
from vreid.retrieval.evaluation.evaluate import evaluate_distances, evaluate_draws
from vreid.retrieval.evaluation.metrics import Metrics
from vreid.retrieval.features import FeatureSet, Norm
from vreid.retrieval.postprocessing.bias import Bias, rerank_with_biases
from vreid.retrieval.postprocessing.camera_statistics import (
    CameraMean,
    CameraWhitening,
    exclude_same_camera,
    joint_cameras,
    subtract_camera_mean,
    whiten_cameras,
)
from vreid.retrieval.postprocessing.ensemble import ALIKE, Fusion, Weighted, check_same_images, ensemble
from vreid.retrieval.postprocessing.expansion import Expansion, augment_gallery, expand_queries
from vreid.retrieval.postprocessing.own_tracklet import Codes, OwnTracklet, join_own_tracklet
from vreid.retrieval.postprocessing.reranking import ReRanked, ReRanking
from vreid.retrieval.postprocessing.scene_groups import SceneGroups, exclude_other_scenes
from vreid.retrieval.postprocessing.steps import PLAIN, STEPS, read_steps, write_steps
from vreid.retrieval.postprocessing.tracklet_features import (
    PerQuery,
    Tracklets,
    mean_features,
    tracklet_units,
    weighted_features,
)
from vreid.retrieval.postprocessing.transit_times import TransitRatios, TransitTimes, learn_transit_times, unit_times

Sides = tuple[FeatureSet, FeatureSet]
"""Query and gallery features of one model."""


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

    def __post_init__(self) -> None:
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

    def _check_raw(self) -> None:
        """Refuse steps that would L2-normalise one side, or both, behind norm=raw."""
        fields = "camera_whitening", "own_tracklet", "gallery_expansion", "query_expansion"
        names = [name for name, step in STEPS.items() if step.field in fields and getattr(self, step.field)]
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
        reasons = [step.why for step in STEPS.values() if step.why and getattr(self, step.field)]
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
        return Searched(query, gallery, again=False).through(self)


class Searched:
    """Query and gallery on their way through steps; what several post-processings have in common is made once.

    Kept are features after the camera step and unit features after the tracklet and expansion steps (one copy for each
    setting of them that was asked for), and k-reciprocal encodings; distances are made tile by tile when asked for.
    What `through` returns holds none of the larger ones: unit features and the features that were given.

    Args:
        query: features of the queries.
        gallery: features of the gallery.
        biases: where the models of biases are kept as they are on their way; models of one ensemble share them.
        again: whether other steps will be asked for. If not, a camera step's copy of all features is soon forgotten.
    """

    def __init__(
        self,
        query: FeatureSet,
        gallery: FeatureSet,
        biases: dict[Hashable, Searched] | None = None,
        *,
        again: bool = True,
    ) -> None:
        check_comparable(query, gallery)
        self.query, self.gallery = query, gallery
        self._plain: dict[bool, tuple[Sides, Distances]] = {}
        self._made: dict[Hashable, Any] = {}
        self._seen: dict[Hashable, Sides] = {}
        self._biases = {} if biases is None else biases
        self._again = again

    def through(self, post: PostProcessing) -> Distances:
        """The distances after the steps of `post`, as they apply to these features.

        Raises:
            InputError: as `PostProcessing.apply`.
        """
        post = post.of(self.query)
        distances = replace(self._mixed(post), reranked=post.reranking is not None)
        late = [bias for bias in _biases(post) if bias.when == "after" or not post.reranking]
        if late:
            others = [self._of_bias(bias)._mixed(_without_bias(post)).source for bias in late]
            weights = (1.0, *(-bias.weight for bias in late))
            distances = replace(distances, source=Weighted((distances.source, *others), weights))
        if post.transit_times:
            sources = distances.source, self._transit(post)
            distances = replace(distances, source=Weighted(sources, (1.0, -post.transit_times.weight)))
        if post.exclude_same_camera:
            distances = exclude_same_camera(distances)
        if post.scene_groups:
            distances = exclude_other_scenes(distances, post.scene_groups)
        return replace(distances, steps=post.steps, transductive=post.transductive)

    def _mixed(self, post: PostProcessing) -> Distances:
        """Up to re-ranking; where only a share is whitened, the mean with the same steps without whitening."""
        share = post.camera_whitening.share if post.camera_whitening else 1.0
        if share == 1:
            return self._one(post)
        passes = self._one(post), self._one(replace(post, camera_whitening=None))
        return ensemble(passes, (share, 1 - share))

    def _start(self, post: PostProcessing) -> tuple[Sides, Distances]:
        """Both sides as all steps start from them, normalised or raw, and their plain distances."""
        if post.raw not in self._plain:
            sides = self.query, self.gallery
            if not post.raw:
                sides = self.query.normalise(), self.gallery.normalise()
            self._plain[post.raw] = sides, Distances.of(*sides)
        return self._plain[post.raw]

    def _one(self, post: PostProcessing) -> Distances:
        query_QD, unit_UD, units = self._units(post)
        source: Source = SquaredEuclidean(query_QD, unit_UD)
        if post.tracklets and post.tracklets.feature == "per-query":
            chosen = post.tracklets
            source = PerQuery(
                query_QD,
                self._cameras(post)[1].features,
                units,
                len(unit_UD),
                chosen.epsilon,
                renormalise=chosen.norm == "unit",
            )
        early = [bias for bias in _biases(post) if bias.when == "before"]
        if post.reranking:
            key = (_features_of(post), post.reranking, tuple(early))
            if key not in self._made:
                others = [(bias.weight, self._of_bias(bias)._units(post)[:2]) for bias in early]
                sides = query_QD, unit_UD
                self._made[key] = (
                    rerank_with_biases(sides, others, post.reranking) if early else ReRanked.of(*sides, post.reranking)
                )
            source = self._made[key]
        # inside a tracklet, which one camera sees, frames are compared without the camera step: its copy need not stay
        plain = self._start(post)[1]
        frames = plain.source if post.tracklets else None
        if not self._again:
            self._seen.clear()
        return replace(plain, source=source, unit_of_image=units, frames=frames)

    def _cameras(self, post: PostProcessing) -> Sides:
        """Query and gallery after the camera step."""
        key = post.raw, post.camera_mean, post.camera_whitening and replace(post.camera_whitening, share=1.0)
        if key not in self._seen:
            sides, _ = self._start(post)
            if post.camera_mean:
                sides = subtract_camera_mean(*sides, post.camera_mean, normalise=not post.raw)
            elif post.camera_whitening:
                sides = whiten_cameras(*sides, post.camera_whitening)
            self._seen[key] = sides
        return self._seen[key]

    def _units(self, post: PostProcessing) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]:
        """Query features, unit features, and the unit of each gallery image, after tracklet and expansion steps."""
        key = _features_of(post)
        if key not in self._made:
            query, gallery = self._cameras(post)
            query_QD, unit_UD, units = query.features, gallery.features, np.arange(len(gallery), dtype=np.int32)
            if post.tracklets:
                units, count = tracklet_units(gallery.records)
                unit = post.tracklets.norm == "unit"
                if post.tracklets.feature == "weighted":
                    unit_UD = weighted_features(
                        query_QD,
                        unit_UD,
                        units,
                        count,
                        threshold=post.tracklets.threshold,
                        epsilon=post.tracklets.epsilon,
                        renormalise=unit,
                    )
                else:
                    unit_UD = mean_features(unit_UD, units, count, renormalise=unit)
            if post.own_tracklet:
                query_QD = join_own_tracklet(query_QD, unit_UD, *self._unit_cameras(units), post.own_tracklet)
            if post.gallery_expansion:
                config = post.gallery_expansion
                camera = self._unit_cameras(units)[1] if config.cameras == "other" else None
                unit_UD = augment_gallery(unit_UD, neighbours=config.neighbours, alpha=config.alpha, camera=camera)
            if post.query_expansion:
                config = post.query_expansion
                cameras = self._unit_cameras(units) if config.cameras == "other" else None
                query_QD = expand_queries(
                    query_QD, unit_UD, neighbours=config.neighbours, alpha=config.alpha, cameras=cameras
                )
            self._made[key] = query_QD, unit_UD, units
        made: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]] = self._made[key]
        return made

    def _transit(self, post: PostProcessing) -> TransitRatios:
        """How much likelier each gap in time is for one vehicle; learned from unit features as they are searched."""
        assert post.transit_times
        rounds = post.transit_times.rounds
        key = _features_of(post), "transit", rounds
        if key not in self._made:
            _, unit_UD, units = self._units(post)
            cameras = self._unit_cameras(units)
            time_U = unit_times(self.gallery.records, units, len(unit_UD))
            prior = learn_transit_times(unit_UD, time_U, cameras[1], rounds=rounds)
            self._made[key] = TransitRatios(prior, self.query.records.time, time_U, *cameras)
        made: TransitRatios = self._made[key]
        return made

    def _unit_cameras(self, units: NDArray[np.int32]) -> tuple[Codes, Codes]:
        """Camera codes of queries and units on one list."""
        query_camera, gallery_camera = joint_cameras(self.query.records, self.gallery.records)
        return query_camera, gallery_camera[np.unique(units, return_index=True)[1]]

    def _of_bias(self, bias: Bias) -> Searched:
        """The same images as a bias's model sees them."""
        if bias.features not in self._biases:
            sides = bias.sides(self.query.records, self.gallery.records)
            self._biases[bias.features] = Searched(*sides, again=self._again)
        return self._biases[bias.features]


def _biases(post: PostProcessing) -> list[Bias]:
    return [bias for bias in (post.camera_bias, post.orientation_bias) if bias]


def _without_bias(post: PostProcessing) -> PostProcessing:
    return replace(post, camera_bias=None, orientation_bias=None)


def _features_of(post: PostProcessing) -> Hashable:
    """What unit features depend on."""
    whitening = post.camera_whitening and replace(post.camera_whitening, share=1.0)
    expansions = post.own_tracklet, post.gallery_expansion, post.query_expansion
    return post.raw, post.camera_mean, whitening, post.tracklets, *expansions


def evaluate_retrieval(
    query: FeatureSet,
    gallery: FeatureSet,
    post: PostProcessing,
    protocol: Protocol,
    others: Sequence[Sides] = (),
    fusion: Fusion = ALIKE,
) -> Metrics:
    """Post-process features and judge the result; where `protocol` draws galleries, each is post-processed anew.

    Args:
        query: features of the queries.
        gallery: features of the gallery.
        post: the steps.
        protocol: how rankings are judged.
        others: the same images as other models see them; distances are then joined over all models.
        fusion: how they are joined.

    Raises:
        InputError: as `search_all` and `evaluate_distances`, or a protocol that does not fit: galleries drawn from
            images that are not the queries, tracklets that are not there.
    """
    members = [(query, gallery), *others]
    post = common_norm(members, post).under(protocol, query)
    if not protocol.repeats:
        return evaluate_distances(search_all(members, post, fusion), protocol)
    if not np.array_equal(query.records.image_key, gallery.records.image_key):
        raise InputError(
            f"protocol {protocol.name} draws its galleries from the queries' own images, but query and gallery are "
            "not the same images here; give all of them as both, or take a protocol of a fixed gallery."
        )

    def of_draw(rows: NDArray[np.intp], drawn: NDArray[np.intp], once: Protocol) -> Metrics:
        return evaluate_distances(search_all([(q[rows], g[drawn]) for q, g in members], post, fusion), once)

    return evaluate_draws(query.records.identity.codes, protocol, of_draw)


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
    for number, (query, gallery) in enumerate(members[1:], start=2):
        check_same_images(members[0][0].records, query.records, f"query of model {number}")
        check_same_images(members[0][1].records, gallery.records, f"gallery of model {number}")
    post = common_norm(members, post)
    biases: dict[Hashable, Searched] = {}
    distances = [Searched(*sides, biases, again=False).through(post) for sides in members]
    return ensemble(distances, fusion.weights or None, fusion.how)
