"""Evaluation protocols, as small immutable values; derive new ones with `dataclasses.replace`.

Ranking and metrics share them: which gallery images are removed for a query, what is ranked, how much of the list
counts, how precision is summed, and whether the gallery is redrawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vreid.data.records import Records, joint_codes
from vreid.errors import InputError
from vreid.ranges import check_settings, in_range

Exclude = Literal["nothing", "itself", "same_identity_and_camera", "same_camera"]
Normaliser = Literal["total", "min"]
Unit = Literal["image", "tracklet"]
TrackletDistance = Literal["min", "mean"]
AveragePrecision = Literal["rectangular", "trapezoid"]

NOTHING: NDArray[np.intp] = np.empty(0, dtype=np.intp)
"""No indices."""

_REMOVED: dict[tuple[Exclude, Unit], str] = {
    ("nothing", "image"): "no gallery image is removed",
    ("nothing", "tracklet"): "no gallery tracklet is removed",
    ("itself", "image"): "only the query image itself is removed from the gallery",
    ("itself", "tracklet"): "only the tracklet that holds the query image is removed from the gallery",
    ("same_identity_and_camera", "image"): "gallery images of the query's own vehicle in the query's own camera are "
    "removed",
    ("same_identity_and_camera", "tracklet"): "gallery tracklets of the query's own vehicle in the query's own camera "
    "are removed",
    ("same_camera", "image"): "every gallery image of the query's own camera is removed",
    ("same_camera", "tracklet"): "every gallery tracklet of the query's own camera is removed",
}


@dataclass(frozen=True)
class Protocol:
    """How a ranking is evaluated.

    Attributes:
        name: short name, printed with every number.
        exclude: which gallery images are removed for a query. All but "nothing" also remove the query image itself
            (same `image_key`) where the gallery holds it.
        top_k: length of the evaluated list; None is the full list. Metrics cut at K say so in their name ("mAP@100").
        normaliser: AP divides by all relevant units ("total") or by min(relevant, top_k) ("min").
        unit: what is ranked and evaluated: images or tracklets of the gallery. A tracklet is removed as soon as
            one of its images is; an image without a tracklet is a unit by itself.
        tracklet_distance: a tracklet's distance is that of its nearest image ("min") or of its mean feature ("mean").
        average_precision: the sum over hits of the precision at the hit ("rectangular"), or of the mean of it and the
            precision one rank before, which at rank 0 is 1 ("trapezoid").
        repeats: 0 evaluates the gallery as it is. Above 0, query and gallery are the same images; in each of so many
            draws one random image of each identity is the gallery and all other images are queries, and numbers are
            means over the draws.
        seed: equal seeds give equal draws.
        junk: query `image_key` -> `image_key` of gallery images that are removed too.

    Raises:
        InputError: an unknown word, a number out of range, or fields that contradict each other.

    Example:
        >>> replace(MARKET, name="market, first 100", top_k=100).metric
        'mAP@100'
    """

    name: str
    exclude: Exclude = "same_identity_and_camera"
    top_k: int | None = in_range(None, least=1)
    normaliser: Normaliser = "total"
    unit: Unit = "image"
    tracklet_distance: TrackletDistance = "min"
    average_precision: AveragePrecision = "rectangular"
    repeats: int = in_range(0, least=0)
    seed: int = in_range(0, least=0)
    junk: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False, hash=False)

    def __post_init__(self) -> None:
        check_settings(self, f"Protocol {self.name!r}: ")
        if self.top_k is None and self.normaliser == "min":
            self._reject("normaliser 'min' is min(relevant, top_k); give top_k, or take 'total'")
        if self.unit == "image" and self.tracklet_distance == "mean":
            self._reject("tracklet_distance 'mean' is about tracklets; give unit='tracklet', or take 'min'")
        if self.repeats and (self.unit == "tracklet" or self.needs_camera or self.junk):
            self._reject(
                "a drawn gallery holds one image of each vehicle, and none may be removed; with repeats take unit "
                "'image', exclude 'itself' or 'nothing', and no junk lists"
            )
        if not isinstance(self.junk, Mapping) or any(isinstance(keys, str) for keys in self.junk.values()):
            self._reject("junk must map the key of a query to a list of keys of gallery images")
        object.__setattr__(self, "junk", {key: tuple(keys) for key, keys in self.junk.items()})

    def with_junk_of(self, own: Protocol) -> Protocol:
        """This protocol with the junk lists of the data set's `own`, where both remove the same images otherwise."""
        return replace(self, junk=own.junk) if self.exclude == own.exclude else self

    def _reject(self, what: str) -> None:
        raise InputError(f"Protocol {self.name!r}: {what}.")

    @property
    def full_metric(self) -> str:
        """Name of the mean average precision over the full list: "mAP", or "mAP (trapezoid)"."""
        return "mAP" if self.average_precision == "rectangular" else "mAP (trapezoid)"

    @property
    def metric(self) -> str:
        """Name of its mean average precision: `full_metric`, or "mAP@K" where the list is cut."""
        return self.full_metric if self.top_k is None else self.full_metric.replace("mAP", f"mAP@{self.top_k}")

    @property
    def description(self) -> str:
        """What is removed, how much of the list counts and what AP is divided by, in one sentence."""
        if self.repeats:
            parts = [
                f"in each of {self.repeats} draws (seed {self.seed}) one random image of each vehicle is the gallery "
                "and all other images are queries, nothing is removed"
            ]
        else:
            parts = [_REMOVED[self.exclude, self.unit]]
        if self.junk:
            parts.append("images on the data set's junk lists are removed too")
        if self.unit == "tracklet":
            nearness = {"min": "that of its nearest image", "mean": "that of its mean feature"}[self.tracklet_distance]
            parts.append(f"a tracklet's distance is {nearness}")
        parts.append("the full list counts" if self.top_k is None else f"the first {self.top_k} count")
        divided = f"all relevant {self.unit}s" if self.normaliser == "total" else f"min(relevant {self.unit}s, K)"
        trapezoid = "is summed by trapezoids and " if self.average_precision == "trapezoid" else ""
        parts.append(f"AP {trapezoid}is divided by {divided}")
        if self.repeats:
            parts.append("numbers are means over the draws")
        return f"{self.name}: {'; '.join(parts)}."

    @property
    def needs_camera(self) -> bool:
        """Whether evaluation requires the camera of every query."""
        return self.exclude in ("same_identity_and_camera", "same_camera")


MARKET = Protocol("market", exclude="same_identity_and_camera")
"""Image to image as on Market-1501. Removed: gallery images of the query's vehicle in the query's camera. The full list
counts; rectangular AP, divided by all relevant images left."""

VERI = replace(MARKET, name="veri")
"""VeRi-776, image to image. Removed: as `MARKET`, and what the data set's jk lists name for the query (a reader puts
them into `junk`). The full list counts; rectangular AP, as papers report it, divided by all relevant images left."""

VERI_TRAPEZOID = replace(VERI, name="veri-trapezoid", average_precision="trapezoid")
"""`VERI` with the AP of VeRi's official evaluation, the trapezoid sum (r_i - r_(i-1)) (p_(i-1) + p_i) / 2 over all
ranks i with p_0 = 1; a recall step is 1 / all relevant images left."""

VERI_TRACKS = replace(VERI, name="veri-tracks", unit="tracklet")
"""VeRi-776, image to track (PROVID). Ranked are tracklets, each as near as its nearest image. Removed: tracklets of the
query's vehicle in the query's camera. The full list counts; AP is divided by all relevant tracklets left; rank-1 is
the literature's HIT@1."""

VERI_TRACKS_MEAN = replace(VERI_TRACKS, name="veri-tracks-mean", tracklet_distance="mean")
"""`VERI_TRACKS` with the distance of a track's mean feature, as in the VeRi authors' later baseline."""

VEHICLE_ID = Protocol("vehicle-id", exclude="itself", repeats=10)
"""VehicleID. Ten times one random image of each vehicle is the gallery and all others are queries; nothing is removed
by camera. The full list counts; each query has one relevant image, so AP is 1 / its rank. Numbers are means over the
draws. A ranking, which draws nothing, is of all images but the query's own image."""

VERI_WILD = replace(MARKET, name="veri-wild")
"""VERI-Wild, the usual protocol. Removed: gallery images of the query's vehicle in the query's camera. The full list
counts; AP is divided by all relevant images left."""

VERI_WILD_ALL = Protocol("veri-wild-all", exclude="itself")
"""VERI-Wild's other mode in circulation, some 3 mAP higher. Removed: nothing but the query image itself, so images of
the query's own pass count. The full list counts; AP is divided by all relevant images."""

VRIC = Protocol("vric", exclude="nothing")
"""VRIC: one probe and one gallery image of each vehicle. Removed: nothing. The full list counts; AP is 1 / the rank of
the one relevant image; published are rank-1 and rank-5."""

AI_CITY = Protocol("ai-city", exclude="same_identity_and_camera", top_k=100)
"""AI City Challenge track 2. Removed: gallery images of the query's vehicle in the query's camera. The first 100 count;
AP is divided by all relevant images left (the reading that a scored submission supports). Its full-list mAP is
`MARKET`'s."""

AI_CITY_MIN = replace(AI_CITY, name="ai-city-min", normaliser="min")
"""`AI_CITY` in the other reading: AP is divided by min(relevant images left, 100), and so never smaller."""

CAMERA_LESS = Protocol("camera-less", exclude="itself", top_k=100)
"""AI City Challenge 2020: query and gallery name no camera. Removed: nothing but the query image itself, so images
from the query's own pass count. The first 100 count; AP is divided by all relevant images."""

CROSS_CAMERA = Protocol("cross-camera", exclude="same_camera")
"""Every image a query against all other cameras. Removed: every image of the query's own camera, of any vehicle. The
full list counts; AP is divided by all relevant images left."""

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        MARKET,
        VERI,
        VERI_TRAPEZOID,
        VERI_TRACKS,
        VERI_TRACKS_MEAN,
        VEHICLE_ID,
        VERI_WILD,
        VERI_WILD_ALL,
        VRIC,
        AI_CITY,
        AI_CITY_MIN,
        CAMERA_LESS,
        CROSS_CAMERA,
    )
}
"""All protocols by name, for the command line."""


class Exclusion:
    """For given query and gallery records: which gallery images a protocol removes, one query at a time.

    Built once in O(Q + G); `removed(q)` then costs as much as the answer is long.

    Args:
        query: Q records.
        gallery: G records.
        protocol: its `exclude`, `junk` and `unit` decide.
    """

    def __init__(self, query: Records, gallery: Records, protocol: Protocol) -> None:
        self._protocol = protocol
        query_identity, gallery_identity = joint_codes(query.identity, gallery.identity)
        query_camera, gallery_camera = joint_codes(query.camera, gallery.camera)
        self._query_identity, self._query_camera = query_identity, query_camera
        self._gallery_identity = gallery_identity
        self._of_camera = Groups(gallery_camera)
        self._tracklet = gallery.tracklet.codes
        self._of_tracklet = Groups(self._tracklet) if protocol.unit == "tracklet" else None
        self._keys = [self._keys_removed(key) for key in query.image_key.tolist()]
        self._of_key: dict[str, list[int]] = {}
        wanted = {key for keys in self._keys for key in keys}
        for index, key in enumerate(gallery.image_key.tolist() if wanted else ()):
            if key in wanted:
                self._of_key.setdefault(key, []).append(index)

    def _keys_removed(self, key: str) -> tuple[str, ...]:
        return (*(() if self._protocol.exclude == "nothing" else (key,)), *self._protocol.junk.get(key, ()))

    def removed(self, row: int) -> NDArray[np.intp]:
        """Ascending gallery indices removed for query `row`; an unknown camera or identity removes nothing."""
        out = NOTHING
        if self._protocol.needs_camera and self._query_camera[row] >= 0:
            out = self._of_camera[self._query_camera[row]]
            if self._protocol.exclude == "same_identity_and_camera":
                identity = self._query_identity[row]
                out = out[self._gallery_identity[out] == identity] if identity >= 0 else NOTHING
        named = [index for key in self._keys[row] for index in self._of_key.get(key, ())]
        if named:
            out = np.union1d(out, np.asarray(named, dtype=np.intp))
        if self._of_tracklet is not None and len(out):
            whole = [self._of_tracklet[code] for code in np.unique(self._tracklet[out]) if code >= 0]
            out = np.unique(np.concatenate([out, *whole]))
        return out


class Groups:
    """Ascending indices of each code in `codes` (N,); `groups[code]` is empty for codes that do not occur.

    Example:
        >>> Groups(np.array([2, 0, 2]))[2].tolist()
        [0, 2]
    """

    def __init__(self, codes: NDArray[np.integer]) -> None:
        self._order = np.argsort(codes, kind="stable")
        present, starts = np.unique(codes[self._order], return_index=True)
        stops = np.append(starts, len(codes))[1:]
        self._slice = {int(c): (int(a), int(b)) for c, a, b in zip(present, starts, stops, strict=True)}

    def __getitem__(self, code: int) -> NDArray[np.intp]:
        start, stop = self._slice.get(int(code), (0, 0))
        return self._order[start:stop]
