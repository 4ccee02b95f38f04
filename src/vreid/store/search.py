"""Search the store: where else was a vehicle seen, when, and how sure is that.

The nearest tracklets by features are the candidates. They are re-ranked in the neighbourhood of the query, by default
by relative distances (`vreid.store.relative_distance`), on which decisions are taken too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.errors import InputError
from vreid.formatting import plural
from vreid.names import RERANKINGS
from vreid.ranges import check_settings, in_range
from vreid.retrieval.postprocessing.reranking import rerank
from vreid.store.confidence import SearchThreshold
from vreid.store.interface import NO_TIME, Filter, TrackletBatch, VectorStore
from vreid.store.relative_distance import relative_distances, seconds
from vreid.store.travel_times import WEIGHT, log_ratios, read_travel_times

Order = NDArray[np.intp]


@dataclass(frozen=True)
class SearchConfig:
    """Settings of a search.

    Attributes:
        top: most hits.
        same_camera: also hits in the camera of the query tracklet.
        travel_times: also order by plausible times between cameras, where the store has learned them.
        reranking: order of the candidates, a name in `vreid.names.RERANKINGS`.
        neighbourhood: nearest tracklets that are candidates for re-ranking, at least `top`.
        k1, k2, lambda_: of k-reciprocal re-ranking, see `vreid.retrieval.postprocessing.reranking.ReRanking`.
    """

    top: int = in_range(10, least=1, most=10_000)
    same_camera: bool = False
    travel_times: bool = True
    reranking: str = "relative"
    neighbourhood: int = in_range(30, least=1, most=10_000)
    k1: int = in_range(7, least=1)
    k2: int = in_range(2, least=1)
    lambda_: float = in_range(0.6, least=0, most=1)

    def __post_init__(self) -> None:
        check_settings(self, "search: ")
        if self.reranking not in RERANKINGS:
            raise InputError(f"search: reranking is {self.reranking!r}; choose one of {', '.join(RERANKINGS)}.")


@dataclass(frozen=True)
class Hit:
    """One tracklet that may show the vehicle of the query.

    Attributes:
        tracklet: its id, "camera/track".
        camera: its camera.
        start, end: UTC seconds of its first and last frame, None: unknown.
        distance: squared Euclidean distance of the unit features, 0 to 4; small is near.
        relative_distance: distance divided by what other tracklets of the camera reach; below 1, this one is nearer
            than all others. The decision is taken on it. None: there are no others.
        decision: "MATCH", "UNCERTAIN" or "NO MATCH"; "" without a threshold.
        color, vehicle_type: as the model sees them, "" unknown.
        crop: the best crop, "TRACKLET#0": `Store.crop` returns its JPEG.
        facts: confidences of the attributes, orientation, source, ...
    """

    tracklet: str
    camera: str
    start: float | None
    end: float | None
    distance: float
    relative_distance: float | None
    decision: str
    color: str
    vehicle_type: str
    crop: str
    facts: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with times as ISO 8601 in UTC."""
        times = {"start": iso_time(self.start), "end": iso_time(self.end)}
        relative = None if self.relative_distance is None else round(self.relative_distance, 4)
        distances = {"distance": round(self.distance, 4), "relative_distance": relative}
        return {**self.__dict__, **times, **distances, "facts": dict(self.facts)}


@dataclass(frozen=True)
class SearchResult:
    """Hits of one query, the most likely first.

    Attributes:
        query: what was searched: "tracklet" or "image" with its name, and the filters.
        hits: at most `SearchConfig.top`.
        threshold: what the decisions mean; None: the model has none.
        candidates: tracklets that the filters left.
        notes: sentences on what limits the answer.
    """

    query: Mapping[str, Any]
    hits: tuple[Hit, ...]
    threshold: SearchThreshold | None
    candidates: int
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "query": dict(self.query),
            "hits": [hit.as_dict() for hit in self.hits],
            "threshold": self.threshold.as_dict() if self.threshold else None,
            "candidates": self.candidates,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, eq=False)
class Query:
    """What is searched: a feature with what is known of it.

    Attributes:
        name: of the tracklet or image.
        vector: (D,) centred feature of unit length.
        tracklet: id of the query tracklet in the store, "" for an image.
        camera: of the query tracklet, or of the image if it is known; "" unknown.
        start, end: UTC milliseconds of the query tracklet, or when the image was taken, or NO_TIME.
    """

    name: str
    vector: NDArray[np.float32]
    tracklet: str = ""
    camera: str = ""
    start: int = NO_TIME
    end: int = NO_TIME

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        kind = "tracklet" if self.tracklet else "image"
        return {kind: self.name, **({"camera": self.camera} if self.camera else {})}


def search_tracklets(
    vectors: VectorStore, query: Query, where: Filter, config: SearchConfig, threshold: SearchThreshold | None
) -> SearchResult:
    """Search the store for the vehicle of `query` among the tracklets that `where` selects.

    Raises:
        InputError: the filter selects the query's own camera only, whose tracklets are left out.
    """
    notes: list[str] = []
    if query.tracklet and query.camera and not config.same_camera:
        if where.cameras is not None and where.cameras <= {query.camera}:
            raise InputError(
                f"--camera {query.camera}: is the camera of the query, whose tracklets are left out; add --same-camera."
            )
        where = replace(where, not_cameras=(where.not_cameras or frozenset()) | {query.camera})
    needed = config.top if config.reranking == "none" else max(config.top, config.neighbourhood)
    (found,) = vectors.search(query.vector[None], needed + 1, where)  # the query itself may be among them
    ids = [str(name) for name in found.id if name != query.tracklet][:needed]
    rows = vectors.fetch(ids)
    distances = np.maximum(2 - 2 * (rows.vector @ query.vector).astype(np.float64), 0)
    relative = relative_distances(
        vectors,
        query.vector,
        rows,
        distances,
        tracklet=query.tracklet,
        camera=query.camera,
        start=query.start,
        end=query.end,
    )
    prior = read_travel_times(vectors) if config.travel_times and config.reranking == "relative" else None
    score = relative
    if prior is not None and query.start != NO_TIME:
        times = [seconds(np.array(column)) for column in (query.start, query.end, rows.start, rows.end)]
        score = relative * np.exp(-WEIGHT * log_ratios(prior, float(times[0]), float(times[1]), times[2], times[3]))
    order = ORDERS[config.reranking](query, rows, score, config)[: config.top]
    decisions = [""] * len(rows)
    if threshold is not None:
        decisions = threshold.classify(relative, image=not query.camera)
        notes += threshold.notes(vectors.count())
    else:
        notes.append("the store's model has no threshold, so nothing is decided; run `vreid calibrate STORE`.")
    if (where.start is not None or where.end is not None) and (untimed := count_untimed(vectors)):
        notes.append(f"{plural(untimed, 'tracklet')} without time cannot be selected by time; see `vreid check`.")
    hits = [_hit(rows, int(row), float(distances[row]), float(relative[row]), decisions[row]) for row in order]
    return SearchResult(query.as_dict(), tuple(hits), threshold, vectors.count(where), tuple(notes))


def count_untimed(vectors: VectorStore) -> int:
    """Number of tracklets without a time."""
    return vectors.count() - vectors.count(Filter(start=NO_TIME + 1))


def _relative(query: Query, rows: TrackletBatch, relative: NDArray[np.float64], config: SearchConfig) -> Order:
    return np.argsort(relative, kind="stable")


def _k_reciprocal(query: Query, rows: TrackletBatch, relative: NDArray[np.float64], config: SearchConfig) -> Order:
    if len(rows) <= config.k1:
        return np.arange(len(rows))
    distances = rerank(query.vector[None], rows.vector, k1=config.k1, k2=config.k2, lambda_=config.lambda_)[0]
    return np.argsort(distances, kind="stable")


def _plain(query: Query, rows: TrackletBatch, relative: NDArray[np.float64], config: SearchConfig) -> Order:
    return np.arange(len(rows))


ORDERS: dict[str, Callable[[Query, TrackletBatch, NDArray[np.float64], SearchConfig], Order]] = {
    "relative": _relative,
    "k-reciprocal": _k_reciprocal,
    "none": _plain,
}
"""Orders of the candidates, which come by distance; equal ones stay in their order."""


def _hit(rows: TrackletBatch, row: int, distance: float, relative: float, decision: str) -> Hit:
    return Hit(
        tracklet=str(rows.id[row]),
        camera=str(rows.camera[row]),
        start=seconds_of(int(rows.start[row])),
        end=seconds_of(int(rows.end[row])),
        distance=distance,
        relative_distance=relative if np.isfinite(relative) else None,
        decision=decision,
        color=str(rows.color[row]),
        vehicle_type=str(rows.vehicle_type[row]),
        crop=f"{rows.id[row]}#0",
        facts=rows.facts[row],
    )


def seconds_of(milliseconds: int) -> float | None:
    """UTC seconds of a stored time, None where it is unknown."""
    return None if milliseconds == NO_TIME else milliseconds / 1000


def iso_time(seconds: float | None) -> str | None:
    """ISO 8601 of UTC seconds with milliseconds, None where they are unknown."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def make_filter(
    *,
    cameras: Sequence[str] = (),
    not_cameras: Sequence[str] = (),
    start: float | None = None,
    end: float | None = None,
    colors: Sequence[str] = (),
    vehicle_types: Sequence[str] = (),
) -> Filter:
    """Build a filter of lists of names and UTC seconds; empty lists and None select everything.

    Raises:
        InputError: the interval is empty.
    """
    if start is not None and end is not None and start >= end:
        raise InputError(f"the interval from {iso_time(start)} to {iso_time(end)} is empty; correct --from and --to.")
    return Filter(
        frozenset(cameras) or None,
        frozenset(not_cameras) or None,
        None if start is None else round(1000 * start),
        None if end is None else round(1000 * end),
        frozenset(colors) or None,
        frozenset(vehicle_types) or None,
    )
