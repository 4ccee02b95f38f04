"""Protocols: what a reported number means. A protocol is a small value; new ones are `dataclasses.replace` of these.

Two things are said once here and obeyed by ranking and metrics alike: which gallery images are taken away before a
query is judged, and how precision is summed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vreid.data.records import Records, joint_codes
from vreid.errors import InputError

Exclude = Literal["nothing", "itself", "same_identity_and_camera", "same_camera"]
Normaliser = Literal["total", "min"]

NOTHING: NDArray[np.intp] = np.empty(0, dtype=np.intp)
"""No indices."""

_REMOVED: dict[Exclude, str] = {
    "nothing": "no gallery image is removed",
    "itself": "only the query picture itself is removed from the gallery",
    "same_identity_and_camera": "gallery images of the query's own vehicle in the query's own camera are removed",
    "same_camera": "every gallery image of the query's own camera is removed",
}


@dataclass(frozen=True)
class Protocol:
    """How a ranking is judged.

    Attributes:
        name: short name, printed with every number.
        exclude: which gallery images are removed for a query. All but "nothing" also remove the query picture itself
            (same `image_key`) where the gallery holds it.
        top_k: length of the judged list; None is the full list. Metrics cut at K say so in their name ("mAP@100").
        normaliser: AP divides by all relevant images ("total") or by min(relevant, top_k) ("min").
        unit: what is ranked and judged; "image" so far.

    Example:
        >>> from dataclasses import replace
        >>> replace(MARKET, name="market, first 100", top_k=100).metric
        'mAP@100'
    """

    name: str
    exclude: Exclude = "same_identity_and_camera"
    top_k: int | None = None
    normaliser: Normaliser = "total"
    unit: Literal["image"] = "image"

    def __post_init__(self) -> None:
        for field, allowed in (("exclude", Exclude), ("normaliser", Normaliser)):
            if getattr(self, field) not in get_args(allowed):
                raise InputError(
                    f"Protocol {self.name!r}: {field} {getattr(self, field)!r} is unknown; use one of "
                    f"{', '.join(get_args(allowed))}."
                )
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"Protocol {self.name!r}: top_k is {self.top_k}; it must be at least 1, or None.")

    @property
    def metric(self) -> str:
        """Name of its mean average precision: "mAP", or "mAP@K" where the list is cut."""
        return "mAP" if self.top_k is None else f"mAP@{self.top_k}"

    @property
    def description(self) -> str:
        """What is removed, how much of the list counts and what AP is divided by, in one sentence."""
        removed = _REMOVED[self.exclude]
        length = "the full list counts" if self.top_k is None else f"the first {self.top_k} count"
        divided = "all relevant images" if self.normaliser == "total" else "min(relevant images, K)"
        return f"{self.name}: {removed}; {length}; AP is divided by {divided}."

    @property
    def needs_camera(self) -> bool:
        """Whether judging needs to know the camera of every query."""
        return self.exclude in ("same_identity_and_camera", "same_camera")


MARKET = Protocol("market", exclude="same_identity_and_camera")
"""Image to image as on Market-1501, VeRi and VeRi-Wild: gallery images of the query's vehicle in the query's camera are
removed, the full list counts, rectangular AP."""

AI_CITY = Protocol("ai-city", exclude="same_identity_and_camera", top_k=100)
"""AI City Challenge track 2: images of the query's vehicle in the query's camera are no candidates, the first 100
count, AP is divided by all relevant images (the reading that a scored submission supports). Its full-list mAP is
`MARKET`'s."""

CAMERA_LESS = Protocol("camera-less", exclude="itself", top_k=100)
"""AI City Challenge 2020: query and gallery name no camera, so nothing is removed but the query picture itself, and
images from the query's own pass count; the first 100 count."""

CROSS_CAMERA = Protocol("cross-camera", exclude="same_camera")
"""Every image a query against all other cameras: every image of the query's own camera is removed, of any vehicle."""

PROTOCOLS = {protocol.name: protocol for protocol in (MARKET, AI_CITY, CAMERA_LESS, CROSS_CAMERA)}
"""All protocols by name, for the command line."""


class Exclusion:
    """For given query and gallery records: which gallery images a rule removes, one query at a time.

    Built once in O(Q + G); `removed(q)` then costs as much as the answer is long.

    Args:
        query: Q records.
        gallery: G records.
        exclude: the rule (see `Protocol`).
    """

    def __init__(self, query: Records, gallery: Records, exclude: Exclude) -> None:
        self._rule = exclude
        query_identity, gallery_identity = joint_codes(query.identity, gallery.identity)
        query_camera, gallery_camera = joint_codes(query.camera, gallery.camera)
        self._query_identity, self._query_camera = query_identity, query_camera
        self._gallery_identity = gallery_identity
        self._of_camera = Groups(gallery_camera)
        self._of_key: dict[str, list[int]] = {}
        if exclude != "nothing":
            wanted = set(query.image_key.tolist())
            for index, key in enumerate(gallery.image_key.tolist()):
                if key in wanted:
                    self._of_key.setdefault(key, []).append(index)
        self._key = query.image_key

    def removed(self, row: int) -> NDArray[np.intp]:
        """Ascending gallery indices removed for query `row`; an unknown camera or identity removes nothing."""
        if self._rule == "nothing":
            return NOTHING
        itself = self._of_key.get(self._key[row])
        others = NOTHING
        if self._rule != "itself" and self._query_camera[row] >= 0:
            others = self._of_camera[self._query_camera[row]]
            if self._rule == "same_identity_and_camera":
                identity = self._query_identity[row]
                others = others[self._gallery_identity[others] == identity] if identity >= 0 else NOTHING
        return others if itself is None else np.union1d(others, np.asarray(itself, dtype=np.intp))


class Groups:
    """Ascending indices of each code in `codes` (N,); `groups[code]` is empty for codes that do not occur.

    Example:
        >>> Groups(np.array([2, 0, 2]))[2].tolist()
        [0, 2]
    """

    def __init__(self, codes: NDArray[np.integer]) -> None:
        self._order = np.argsort(codes, kind="stable")
        present, starts = np.unique(codes[self._order], return_index=True)
        stops = np.append(starts[1:], len(codes))
        self._slice = {int(c): (int(a), int(b)) for c, a, b in zip(present, starts, stops, strict=True)}

    def __getitem__(self, code: int) -> NDArray[np.intp]:
        start, stop = self._slice.get(int(code), (0, 0))
        return self._order[start:stop]
