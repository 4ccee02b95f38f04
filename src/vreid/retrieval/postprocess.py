"""Post-processing on one page: every step between features and a ranking, and the order of them all.

    L2-normalise, camera mean or camera whitening, tracklet features, distances, re-ranking, same camera excluded

Each step is also a plain function: `subtract_camera_mean`, `whiten_cameras`, `mean_features`, `weighted_features`,
`rerank`, `exclude_same_camera`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from vreid.errors import InputError
from vreid.retrieval.cameras import (
    CameraMean,
    CameraWhitening,
    exclude_same_camera,
    subtract_camera_mean,
    whiten_cameras,
)
from vreid.retrieval.distances import Distances, Matrix, Source, SquaredEuclidean, check_comparable
from vreid.retrieval.evaluation import evaluate_distances, evaluate_draws
from vreid.retrieval.features import FeatureSet
from vreid.retrieval.metrics import Metrics
from vreid.retrieval.protocols import Protocol
from vreid.retrieval.rerank import ReRanking, rerank
from vreid.retrieval.tracklets import mean_features, tracklet_units, weighted_features

TrackletFeature = Literal["mean", "weighted"]


@dataclass(frozen=True)
class PostProcessing:
    """What is done between features and distances; every field off is plain search.

    Attributes:
        camera_mean: take the camera's mean feature off.
        camera_whitening: whiten camera by camera (its own mean included, so not together with `camera_mean`).
        tracklets: search whole tracklets by the "mean" or the "weighted" feature of their frames.
        renormalise_tracklets: L2-normalise tracklet features (the DMT code leaves both kinds as they are).
        reranking: k-reciprocal re-ranking, of tracklets where `tracklets` is on.
        exclude_same_camera: camera verification: a vehicle is searched in other cameras only, so images of the
            query's own camera are no candidates.

    Example:
        >>> PostProcessing(tracklets="mean", reranking=ReRanking(7, 2, 0.6)).describe()
        'tracklet mean, re-ranking k1=7 k2=2 lambda=0.6'
    """

    camera_mean: CameraMean | None = None
    camera_whitening: CameraWhitening | None = None
    tracklets: TrackletFeature | None = None
    renormalise_tracklets: bool = True
    reranking: ReRanking | None = None
    exclude_same_camera: bool = False

    def __post_init__(self) -> None:
        if self.camera_mean and self.camera_whitening:
            raise InputError("PostProcessing: camera whitening takes the camera mean off too; switch one off.")
        if self.tracklets is not None and self.tracklets not in get_args(TrackletFeature):
            raise InputError(f"PostProcessing: tracklets is {self.tracklets!r}; use 'mean', 'weighted' or None.")

    @property
    def steps(self) -> tuple[str, ...]:
        """Names of the steps that are on, in the order they run."""
        steps = []
        if self.camera_mean:
            steps.append("camera mean" if self.camera_mean.alpha == 1 else f"camera mean x {self.camera_mean.alpha:g}")
        if self.camera_whitening:
            steps.append(f"camera whitening ridge={self.camera_whitening.ridge:g}")
        if self.tracklets:
            steps.append(f"tracklet {'mean' if self.tracklets == 'mean' else 'weighted mean'}")
        if self.reranking:
            constants = self.reranking
            steps.append(f"re-ranking k1={constants.k1} k2={constants.k2} lambda={constants.lambda_:g}")
        if self.exclude_same_camera:
            steps.append("same camera excluded")
        return tuple(steps)

    @property
    def transductive_reasons(self) -> tuple[str, ...]:
        """Why the result for one query depends on more than that query and single gallery images."""
        reasons = []
        if self.camera_mean or self.camera_whitening:
            reasons.append("camera statistics are fitted on the gallery's test images")
        if self.tracklets == "weighted":
            reasons.append("tracklet weights use all queries together")
        if self.reranking:
            reasons.append("re-ranking compares the neighbour lists of all queries and gallery images")
        return tuple(reasons)

    @property
    def transductive(self) -> bool:
        """Whether other queries, or statistics of the test images, are used."""
        return bool(self.transductive_reasons)

    def describe(self) -> str:
        """One line: the steps in order, or "plain search"."""
        return ", ".join(self.steps) or "plain search"

    def under(self, protocol: Protocol) -> PostProcessing:
        """These steps and the tracklet feature that `protocol` prescribes, if any.

        Raises:
            InputError: the steps make another tracklet feature.
        """
        if protocol.tracklet_distance != "mean":
            return self
        if self.tracklets == "weighted":
            raise InputError(
                f"protocol {protocol.name} compares mean features of tracklets, not weighted ones; take the step "
                "'mean', or a protocol of each tracklet's nearest image (veri-tracks)."
            )
        return replace(self, tracklets="mean")

    def apply(self, query: FeatureSet, gallery: FeatureSet) -> Distances:
        """Run the steps that are on; features are L2-normalised first.

        Raises:
            InputError: sides that cannot be compared, a feature of norm zero, or a step whose column is not known
                (camera, tracklet).
        """
        check_comparable(query, gallery)
        query, gallery = query.normalise(), gallery.normalise()
        if self.camera_mean:
            query, gallery = subtract_camera_mean(query, gallery, self.camera_mean)
        if self.camera_whitening:
            query, gallery = whiten_cameras(query, gallery, self.camera_whitening)
        distances = Distances.of(query, gallery)
        unit_features = gallery.features
        if self.tracklets:
            units, num_units = tracklet_units(gallery.records)
            if self.tracklets == "mean":
                unit_features = mean_features(
                    gallery.features, units, num_units, renormalise=self.renormalise_tracklets
                )
            else:
                unit_features = weighted_features(
                    query.features, gallery.features, units, num_units, renormalise=self.renormalise_tracklets
                )
            source: Source = SquaredEuclidean(query.features, unit_features)
            distances = replace(distances, source=source, unit_of_image=units, frames=distances.source)
        if self.reranking:
            k1, k2, lambda_ = self.reranking.k1, self.reranking.k2, self.reranking.lambda_
            source = Matrix(rerank(query.features, unit_features, k1=k1, k2=k2, lambda_=lambda_))
            distances = replace(distances, source=source, reranked=True)
        if self.exclude_same_camera:
            distances = exclude_same_camera(distances)
        return replace(distances, steps=self.steps, transductive=self.transductive)


def judge(query: FeatureSet, gallery: FeatureSet, post: PostProcessing, protocol: Protocol) -> Metrics:
    """Post-process features and judge the result; where `protocol` draws galleries, each is post-processed anew.

    Raises:
        InputError: as `PostProcessing.apply` and `evaluate_distances`, or a protocol that does not fit: galleries drawn
            from images that are not the queries, tracklets that are not there.
    """
    post = post.under(protocol)

    def of(queries: FeatureSet, images: FeatureSet, protocol: Protocol) -> Metrics:
        return evaluate_distances(post.apply(queries, images), protocol)

    if not protocol.repeats:
        return of(query, gallery, protocol)
    if not np.array_equal(query.records.image_key, gallery.records.image_key):
        raise InputError(
            f"protocol {protocol.name} draws its galleries from the queries' own images, but query and gallery are "
            "not the same images here; give all of them as both, or take a protocol of a fixed gallery."
        )
    return evaluate_draws(
        query.records.identity.codes, protocol, lambda rows, drawn, once: of(query[rows], gallery[drawn], once)
    )


def ladder(
    rows: Sequence[tuple[str, PostProcessing]], query: FeatureSet, gallery: FeatureSet, protocol: Protocol
) -> list[tuple[str, Metrics]]:
    """Judge several post-processings of the same features: one (name, Metrics) a row.

    Raises:
        InputError: as `judge`.
    """
    return [(name, judge(query, gallery, post, protocol)) for name, post in rows]
