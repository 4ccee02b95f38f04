"""Camera gap: how much the camera, instead of the vehicle, determines distances.

Shapes: P groups (the images of one vehicle at one camera, represented by their mean feature), D feature dimensions,
V vehicles, R resamples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vreid.data.protocols import Protocol
from vreid.data.records import UNKNOWN, Records, joint_codes
from vreid.diagnostics.diagnosis import BarChart, Part
from vreid.diagnostics.estimates import Estimate, means
from vreid.errors import InputError
from vreid.retrieval.evaluation.bootstrap import percentile_interval, resampled_counts
from vreid.retrieval.evaluation.evaluate import evaluate_retrieval
from vreid.retrieval.features import FeatureSet
from vreid.retrieval.postprocessing.camera_statistics import CameraMean
from vreid.retrieval.postprocessing.pipeline import PostProcessing

CLEAR = 0.1
"""Warning level: how much more often negatives at the query's camera precede a match than those at other cameras."""
MOST_GROUPS, MOST_QUERIES = 3000, 1000
"""Maximum number of groups and queries, drawn by the seed; more do not change the shown digits."""
SHARE_RESAMPLES = 200


def camera_gap(query: FeatureSet, gallery: FeatureSet, protocol: Protocol, *, seed: int = 0) -> Part:
    """Measure the camera gap.

    * The share of the variance of group means between cameras, and between vehicles, corrected for chance (epsilon
      squared, Kelley 1935): (SS_between - df_between MS_within) / SS_total. Without identities, tracklets replace
      vehicles and only the share of cameras is reported.
    * How often a negative (another vehicle) at the query's camera, and at another camera, is nearer to the query than
      its match at another camera (1/2: chance). Their difference is the effect of the camera.
    * mAP with and without camera means subtracted, on the same queries.

    Raises:
        InputError: unknown cameras, or a single one; as `evaluate_retrieval`.
    """
    query, gallery = query.normalise(), gallery.normalise()
    everything = Records.concat([query.records, gallery.records])
    if everything.camera.distinct < 2:
        raise InputError("camera gap: all images are of one camera; at least two are needed.")
    if not everything.camera.known.all():
        raise InputError("camera gap: some images have no camera; add the column `camera`.")
    labelled = not (query.records.identity.codes == UNKNOWN).any()
    numbers = variance_shares(np.concatenate([query.features, gallery.features]), everything, labelled, seed)
    camera = numbers["variance between cameras"]
    sentence = f"{camera} % of the variance of the features lies between cameras"
    warning = False
    if labelled:
        overtaken = overtaken_shares(query, gallery, seed)
        plain, centred = (
            evaluate_retrieval(query, gallery, PostProcessing(camera_mean=mean), protocol)
            for mean in (None, CameraMean())
        )
        precision = np.stack([plain.average_precision, centred.average_precision], axis=1)
        of_query = means(
            np.column_stack([precision, precision[:, 1] - precision[:, 0]]), query.records.identity.codes, seed=seed
        )
        numbers |= overtaken
        numbers |= dict(zip(("mAP", "mAP, camera means subtracted", "gain of subtracting"), of_query, strict=True))
        more = overtaken["more often"]
        warning = more.low > CLEAR
        sentence += (
            f", {numbers['variance between vehicles']} % between vehicles. Another vehicle at the query's camera is "
            f"nearer than the same vehicle at another camera in {overtaken['own camera']} % of cases, another vehicle "
            f"at another camera in {overtaken['other cameras']} %. Subtracting camera means changes mAP by "
            f"{of_query[2]} points"
        )
    groups = {"variance": {name: number for name, number in numbers.items() if name.startswith("variance")}}
    if labelled:
        groups["other vehicles before the match"] = {name: numbers[name] for name in ("own camera", "other cameras")}
        groups["mAP"] = {name: numbers[name] for name in ("mAP", "mAP, camera means subtracted")}
    return Part(
        name="camera gap",
        sentence=f"{sentence}.",
        numbers=numbers,
        warning=warning,
        fix="train on images of these cameras or adapt to them; camera-mean and camera-whitening (--post) remove what "
        "all images of a camera have in common",
        needs="cameras; identities except for the share of cameras",
        limits="Cameras see different vehicles and sides, so part of their share is due to the vehicles. Computed from "
        "L2-normalised features without post-processing, even if features are compared raw.",
        chart=BarChart(groups, "percent, with 95 % interval"),
    )


def _group_means(
    features: NDArray[np.float32], records: Records, labelled: bool
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Mean features (P, D), vehicle and camera of each group; an image of an unknown vehicle is its own group."""
    vehicle = (records.identity if labelled else records.tracklet).codes.astype(np.int64)
    alone = vehicle < 0
    vehicle[alone] = vehicle.max(initial=0) + 1 + np.arange(np.count_nonzero(alone))
    camera = records.camera.codes.astype(np.int64)
    _, first, unit, count = np.unique(
        vehicle * (camera.max() + 1) + camera, return_index=True, return_inverse=True, return_counts=True
    )
    total = np.zeros((len(first), features.shape[1]))
    np.add.at(total, unit, features)
    return total / count[:, None], vehicle[first], camera[first]


def variance_shares(features: NDArray[np.float32], records: Records, labelled: bool, seed: int) -> dict[str, Estimate]:
    """Estimate the shares of the variance of group means between cameras, and between vehicles."""
    mean_PD, owner, camera = _group_means(features, records, labelled)
    keep = np.sort(np.random.default_rng([seed, 3]).permutation(len(mean_PD))[:MOST_GROUPS])
    mean_PD, camera = mean_PD[keep] - mean_PD[keep].mean(axis=0), camera[keep]
    names, vehicle = np.unique(owner[keep], return_inverse=True)
    drawn_RV = np.concatenate(
        [np.ones((1, len(names)), dtype=np.int64), resampled_counts(len(names), seed=seed, resamples=SHARE_RESAMPLES)]
    )
    weight_RP = drawn_RV[:, vehicle].astype(np.float64)
    total_R = weight_RP.sum(axis=1)
    grand = np.square(weight_RP @ mean_PD).sum(axis=1) / total_R
    all_squares = weight_RP @ np.square(mean_PD).sum(axis=1) - grand

    def share(between: NDArray[np.float64], groups: NDArray[np.float64]) -> NDArray[np.float64]:
        within = np.maximum(total_R - groups, 1)
        spread = (all_squares - between) / within
        return np.asarray(np.clip((between - (groups - 1) * spread) / all_squares, 0, 1))

    between, cameras = np.zeros((2, len(drawn_RV)))
    for code in np.unique(camera):
        of_camera = camera == code
        weight = weight_RP[:, of_camera].sum(axis=1)
        sums = np.square(weight_RP[:, of_camera] @ mean_PD[of_camera]).sum(axis=1)
        between += np.divide(sums, weight, out=np.zeros_like(sums), where=weight > 0)
        cameras += weight > 0
    shares = {"variance between cameras": share(between - grand, cameras)}
    if labelled:
        sums_VD = np.zeros((len(names), mean_PD.shape[1]))
        np.add.at(sums_VD, vehicle, mean_PD)
        of_vehicle = np.square(sums_VD).sum(axis=1) / np.bincount(vehicle)
        # a vehicle drawn twice counts as two vehicles with equal features
        shares["variance between vehicles"] = share(drawn_RV @ of_vehicle - grand, drawn_RV.sum(axis=1).astype(float))
    found = {}
    for name, values in shares.items():
        # vehicles drawn twice make groups look tighter: centre the draws on the measured share
        low, high = np.clip(percentile_interval(values[1:] - values[1:].mean() + values[0]), 0, 1)
        found[name] = Estimate(float(values[0]), float(low), float(high), len(mean_PD))
    return found


def overtaken_shares(query: FeatureSet, gallery: FeatureSet, seed: int) -> dict[str, Estimate]:
    """Per query, the share of pairs of a negative and a match at another camera in which the negative is nearer."""
    own, identity = joint_codes(query.records.identity, gallery.records.identity)
    own_camera, camera = joint_codes(query.records.camera, gallery.records.camera)
    rows = np.sort(np.random.default_rng([seed, 4]).permutation(len(query))[:MOST_QUERIES])
    found = np.full((len(rows), 2), np.nan)
    for place, row in enumerate(rows):
        if own[row] < 0:
            continue
        near = gallery.features @ query.features[row]
        same = camera == own_camera[row]
        negative = (identity != own[row]) & (identity != -2)
        matches = np.sort(near[(identity == own[row]) & ~same])
        for column, kind in enumerate((same, ~same)):
            others = near[negative & kind]
            if len(others) and len(matches):
                below = np.searchsorted(matches, others, side="left") + np.searchsorted(matches, others, side="right")
                found[place, column] = below.mean() / (2 * len(matches))
    evaluated = ~np.isnan(found).any(axis=1)
    if not evaluated.any():
        raise InputError(
            "camera gap: no query has a match at another camera and other vehicles at its own and at other cameras."
        )
    values = np.column_stack([found[evaluated], found[evaluated, 0] - found[evaluated, 1]])
    return dict(
        zip(("own camera", "other cameras", "more often"), means(values, own[rows][evaluated], seed=seed), strict=True)
    )
