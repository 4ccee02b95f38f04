"""Label-free comparison of two models: retrieval measurements on pairs that are known without identities.

The images of a tracklet show one vehicle, and two tracklets of one camera (nearly always) two. Each measurement has one
value per tracklet, over the same tracklets for both models, so that the interval of the change is a paired bootstrap
over tracklets. If no tracklets are known, two views of an image replace a tracklet.

Shapes: N images, D feature dimensions, T tracklets, C cameras.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vreid.data.protocols import MARKET, Groups
from vreid.data.records import Records
from vreid.data.seeds import generator
from vreid.retrieval.distances import SquaredEuclidean
from vreid.retrieval.evaluation.bootstrap import mean_interval
from vreid.retrieval.evaluation.evaluate import ranks_of, rows_of, scores
from vreid.retrieval.nearest import nearest
from vreid.retrieval.postprocessing.tracklet_features import mean_features

Features = NDArray[np.float32]
Values = NDArray[np.float64]

NEIGHBOURS = 10
"""Number of nearest tracklets in "other cameras"."""


@dataclass(frozen=True)
class Change:
    """Change of a measurement between the old and the adapted model, over the same tracklets.

    Attributes:
        before, after: means over tracklets.
        low, high: 95 % bootstrap interval of after - before, resampling tracklets.
        tracklets: number of tracklets.
    """

    before: float
    after: float
    low: float
    high: float
    tracklets: int

    @property
    def change(self) -> float:
        """After - before."""
        return self.after - self.before

    @classmethod
    def of(cls, before: Values, after: Values, *, seed: int = 0) -> Change | None:
        """Compute the change from one value per tracklet (NaN: missing); None with fewer than two tracklets.

        Example:
            >>> Change.of(np.array([0.25, 0.5, np.nan]), np.array([0.5, 0.75, np.nan]))
            Change(before=0.375, after=0.625, low=0.25, high=0.25, tracklets=2)
        """
        both = np.isfinite(before) & np.isfinite(after)
        count = int(both.sum())
        if count < 2:
            return None
        difference = (after - before)[both]
        low, high = mean_interval(difference, 1, seed=generator(seed, "evidence"))
        return cls(float(before[both].mean()), float(after[both].mean()), float(low), float(high), count)


class UnlabelledSet:
    """Known pairs among N unlabelled images, on which both models are measured.

    Args:
        records: images with cameras and tracklets; identities are not used.
        most: largest number of tracklets used as queries; more are sampled at random.
        seed: seed of that sample.
    """

    def __init__(self, records: Records, *, most: int = 1000, seed: int = 0) -> None:
        self.records = records
        self.camera = records.camera.codes
        tracklet = records.tracklet.compact().codes
        self.tracklet = tracklet
        size = np.bincount(tracklet[tracklet >= 0])
        several = np.flatnonzero(size > 1)
        if len(several) > most:
            several = np.sort(generator(seed, "tracklets").choice(several, most, replace=False))
        self.queried = np.isin(tracklet, several)
        self.later = self._later(size)

    def _later(self, size: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Mark (N,) the images of the later half of each tracklet (the larger half if its length is odd)."""
        records = self.records
        order = np.lexsort((records.image_key.astype(str), records.time, records.frame, self.tracklet))
        order = order[self.tracklet[order] >= 0]
        place = np.arange(len(order)) - np.repeat(np.cumsum(size) - size, size)
        later = np.zeros(len(records), dtype=np.bool_)
        later[order] = place >= np.repeat(size // 2, size)
        return later

    @cached_property
    def tracklets(self) -> int:
        """Number of tracklets with two or more images that are used as queries."""
        return len(np.unique(self.tracklet[self.queried]))

    @cached_property
    def cameras(self) -> int:
        """C, the number of known cameras."""
        return self.records.camera.distinct

    @cached_property
    def mixed(self) -> float:
        """Share of these tracklets with images of several cameras, which indicates wrong labels; 0 without any."""
        rows = self.queried & (self.camera >= 0)
        places = np.unique(np.stack([self.tracklet[rows], self.camera[rows]], axis=1), axis=0)[:, 0]
        several = np.bincount(places, minlength=1) > 1
        return float(several.sum() / max(len(np.unique(places)), 1))

    def per_tracklet(self, rows: NDArray[np.intp], values: Values) -> Values:
        """(T,) mean of `values` over the images `rows` of each tracklet; NaN without any."""
        usable = np.isfinite(values)
        code, value = self.tracklet[rows[usable]], values[usable]
        count = np.bincount(code, minlength=self._count)
        total = np.bincount(code, value, minlength=self._count)
        mean: Values = np.divide(total, count, out=np.full(self._count, np.nan), where=count > 0)
        return mean

    @cached_property
    def _count(self) -> int:
        return int(self.tracklet.max(initial=-1)) + 1

    def own_camera(self, features_ND: Features) -> Values:
        """(T,) mean average precision of retrieving half a tracklet by the other half among its camera's images.

        All other tracklets of the camera count as other vehicles.
        """
        rows = np.flatnonzero(self.queried & (self.camera >= 0))

        def removed(row: int) -> NDArray[np.bool_]:
            own_half = (self.tracklet == self.tracklet[row]) & (self.later == self.later[row])
            return np.asarray((self.camera != self.camera[row]) | own_half)

        return self.per_tracklet(rows, precision(features_ND[rows], features_ND, rows, self.tracklet, removed))

    def same_cluster(self, features_ND: Features, labels: NDArray[np.integer]) -> Values:
        """(T,) mean average precision of retrieving an image's cluster in other cameras among all other images.

        `labels` are clusters (N,), -1 for none: an estimate of mAP that is as good as they are.
        """
        rows = np.flatnonzero((labels >= 0) & (self.tracklet >= 0) & (self.camera >= 0))
        rows = rows[self.queried[rows]]

        def removed(row: int) -> NDArray[np.bool_]:
            return np.asarray((labels == labels[row]) & (self.camera == self.camera[row]))

        return self.per_tracklet(rows, precision(features_ND[rows], features_ND, rows, labels, removed))

    def two_views(self, original_ND: Features, flip_ND: Features) -> Values:
        """(T,) mean reciprocal rank of an image retrieved by its mirror image, among other tracklets of its camera."""
        rows = np.flatnonzero(self.queried & (self.camera >= 0))
        number = np.arange(len(self.tracklet))

        def removed(row: int) -> NDArray[np.bool_]:
            own = (self.tracklet == self.tracklet[row]) | (self.camera != self.camera[row])
            return np.asarray(own & (number != row))

        return self.per_tracklet(rows, precision(flip_ND[rows], original_ND, rows, number, removed))

    def round_trip(self, features_ND: Features) -> Values:
        """(T,) mean reciprocal rank of a tracklet on the way back from its nearest tracklet in another camera.

        The query is one half of a tracklet. From its nearest tracklet in another camera, the search goes back to the
        other halves of all tracklets of its own camera; mean over the other cameras and both directions. Ties count
        against it. Vehicles that never came to the other camera lower it equally for all models.
        """
        units, values = self._units, np.full(self._count, np.nan)
        places = np.unique(units.camera)
        if len(places) < 2:
            return values
        whole_UD = units.means(features_ND)
        halves = [units.means(features_ND, ~self.later), units.means(features_ND, self.later)]
        queries = np.flatnonzero(units.queried)
        total = np.zeros(len(queries))
        members = Groups(units.camera)
        for half_UD, other_UD in (halves, halves[::-1]):
            for place in places:
                there = members[place]
                led = there[np.argmax(half_UD[queries] @ whole_UD[there].T, axis=1)]
                for own in places[places != place]:
                    rows = np.flatnonzero(units.camera[queries] == own)
                    back = whole_UD[led[rows]] @ other_UD[members[own]].T
                    mine = back[members[own] == queries[rows, None]]
                    total[rows] += 1 / (back >= mine[:, None]).sum(axis=1)
        values[units.tracklet[queries]] = total / (2 * (len(places) - 1))
        return values

    def other_cameras(self, features_ND: Features) -> Values:
        """(T,) share of other cameras among the `NEIGHBOURS` nearest tracklets."""
        units = self._units
        queries = np.flatnonzero(units.queried)
        values = np.full(self._count, np.nan)
        if len(units.tracklet) > NEIGHBOURS:
            whole_UD = units.means(features_ND)
            _, near = nearest(whole_UD[queries], whole_UD, NEIGHBOURS + 1)
            other = units.camera[near] != units.camera[queries, None]
            values[units.tracklet[queries]] = other.sum(axis=1) / NEIGHBOURS  # excludes the tracklet itself
        return values

    @cached_property
    def _units(self) -> _Units:
        return _Units(self)


def views_as_tracklets(records: Records) -> Records:
    """Return the records (2N,) of the images, then of their mirror images, each pair as a tracklet."""
    once = records.with_(tracklet=[str(number) for number in range(len(records))])
    return Records.concat([once, once])


class _Units:
    """The U tracklets with two or more images in a known camera: code, camera, and whether it is a query."""

    def __init__(self, target: UnlabelledSet) -> None:
        known = (target.tracklet >= 0) & (target.camera >= 0)
        self._later = target.later
        size = np.bincount(target.tracklet[known], minlength=int(target.tracklet.max(initial=0)) + 1)
        self.images = np.flatnonzero(known & (size[target.tracklet] > 1))
        self.tracklet, first, self.of_image = np.unique(
            target.tracklet[self.images], return_index=True, return_inverse=True
        )
        self.camera = target.camera[self.images][first]
        self.queried = target.queried[self.images][first]

    def means(self, features_ND: Features, among: NDArray[np.bool_] | None = None) -> Features:
        """(U, D) mean features of the units' images, or of those `among` them (N,), with norm 1."""
        images, unit = self.images, self.of_image
        if among is not None:
            images, unit = images[among[images]], unit[among[images]]
        return mean_features(features_ND[images], unit.astype(np.int32), len(self.tracklet))


def precision(
    query_QD: Features,
    gallery_ND: Features,
    rows: NDArray[np.intp],
    codes: NDArray[np.integer],
    removed: Callable[[int], NDArray[np.bool_]],
) -> Values:
    """Compute the average precision (Q,) of each query among N images; NaN for a query without positives.

    Args:
        query_QD: features of the images `rows`.
        gallery_ND: features of all images.
        rows: (Q,) which images the queries are.
        codes: (N,) images with equal codes are positives.
        removed: function from an image to the mask (N,) of images that are excluded from its gallery.
    """
    out = np.full(len(rows), np.nan)
    tiles = SquaredEuclidean(query_QD, gallery_ND).tiles()
    for query, distances, positives in rows_of(
        tiles, codes[rows], codes, lambda q: np.flatnonzero(removed(int(rows[q])))
    ):
        if len(positives):
            out[query] = scores(ranks_of(distances, positives), len(positives), MARKET)[0]
    return out


def dimensions(features_ND: Features) -> float:
    """Compute the effective dimension of unit-length features, (tr C)^2 / tr(C^2) of their covariance C.

    Example:
        >>> dimensions(np.float32([[1, 0], [-1, 0], [0, 1], [0, -1]]))
        2.0
    """
    centred_ND = features_ND - features_ND.mean(axis=0, dtype=np.float64)
    covariance_DD = centred_ND.T @ centred_ND
    squares = float(np.square(covariance_DD).sum())
    return float(np.trace(covariance_DD)) ** 2 / squares if squares else 0.0


def num_pairs(*columns: NDArray[np.integer], camera: NDArray[np.integer] | None = None) -> int:
    """Count image pairs that agree in all `columns` (N,), negative: unknown; with `camera`, only cross-camera pairs.

    Example:
        >>> num_pairs(np.array([0, 0, 0, 1, -1, -1])), num_pairs(np.array([0, 0, 0]), camera=np.array([0, 0, 1]))
        (3, 2)
    """
    rows = np.stack(columns, axis=1)[np.all([column >= 0 for column in columns], axis=0)]
    if not len(rows):
        return 0
    count = np.unique(rows, axis=0, return_counts=True)[1].astype(np.int64)
    same_camera = 0 if camera is None else num_pairs(*columns, camera)
    return int((count * (count - 1)).sum() // 2) - same_camera


def pair_scores(
    labels: NDArray[np.integer], truth: NDArray[np.integer], camera: NDArray[np.integer] | None = None
) -> tuple[float, float]:
    """Compute precision and recall of the image pairs within the clusters `labels` (N,); NaN without pairs.

    Images of a negative label are in no pair, those of a negative truth are left out; `camera` as in `num_pairs`.

    Example:
        >>> precision, recall = pair_scores(np.array([0, 0, 0, 1, -1]), np.array([7, 7, 8, 8, 8]))
        >>> round(precision, 3), recall
        (0.333, 0.25)
    """
    made = num_pairs(np.where(truth < 0, -1, labels), camera=camera)
    there = num_pairs(truth, camera=camera)
    both = num_pairs(labels, truth, camera=camera)
    return both / made if made else np.nan, both / there if there else np.nan


def pair_agreement(
    labels: NDArray[np.integer], others: NDArray[np.integer], camera: NDArray[np.integer] | None = None
) -> float:
    """Compute the pairs common to two clusterings (N,), over their mean number of pairs: 0 to 1; NaN without pairs.

    Example:
        >>> pair_agreement(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]))
        0.4
    """
    pairs = num_pairs(labels, camera=camera) + num_pairs(others, camera=camera)
    return 2 * num_pairs(labels, others, camera=camera) / pairs if pairs else np.nan
