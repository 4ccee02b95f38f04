"""Relative distances: how much nearer a hit is than the other tracklets of its camera, seen from both sides.

A plain distance does not tell a vehicle from another one of the same model and colour. The relative distance divides
it by what the competition reaches (Lowe's ratio test, IJCV 2004, in both directions):

    relative(i, j) = d(i, j) / sqrt(d(i, second best for i around j) * d(j, second best for j around i))

where "around j" are the tracklets of j's camera within half of `WINDOW` of j: a vehicle passes a camera once in that
time, so all but one of them are other vehicles. Tracklets that end shortly before j starts may be parts of its own pass
and do not compete. A query image of unknown camera has only the first of the two competitors.

Shapes: N tracklets, D dimensions, C competitors per group, G groups (a camera in an interval of time).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from vreid.store.interface import NO_TIME, Filter, Hits, TrackletBatch, VectorStore

WINDOW = 3600.0
"""Tracklets of one camera within an interval of this many seconds compete; without times, all of the camera."""
FRAGMENT = 10.0
"""Tracklets of one camera separated by at most this many seconds may be parts of one pass."""
PLACES = 3
"""Places of a contest for which relative distances are computed."""
FEWEST = 4
"""A group of fewer tracklets says nothing."""

_NEAREST = 6  # tracklets of a group among which competitors are looked for
_TINY = 1e-6  # distance of identical features


@dataclass(frozen=True, eq=False)
class TrackletTable:
    """N tracklets of a store as arrays.

    Attributes:
        id: (N,) texts.
        vector: (N, D) unit vectors.
        camera: (N,) codes.
        start, end: (N,) seconds, NaN unknown.
        cameras: names of the codes.
    """

    id: NDArray[np.object_]
    vector: NDArray[np.float32]
    camera: NDArray[np.intp]
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    cameras: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.id)

    @classmethod
    def load(cls, vectors: VectorStore, where: Filter | None = None) -> TrackletTable:
        """Read the tracklets of a store without their crops."""
        batches = [batch for batch in vectors.scan(where) if len(batch)]
        if not batches:
            none = np.empty(0)
            return cls(none.astype(object), np.empty((0, vectors.dimensions), np.float32), none.astype(int), none, none)
        column = {name: np.concatenate([getattr(batch, name) for batch in batches]) for name in ("id", "start", "end")}
        names, camera = np.unique(np.concatenate([batch.camera for batch in batches]).astype(str), return_inverse=True)
        return cls(
            column["id"],
            np.concatenate([batch.vector for batch in batches]),
            camera,
            seconds(column["start"]),
            seconds(column["end"]),
            tuple(map(str, names)),
        )


@dataclass(frozen=True, eq=False)
class Contests:
    """Contests for the place of a tracklet's match, one for each tracklet (query) and other camera.

    Those of the camera in the query's interval of time take part. Of the nearest, the k-th has a relative distance if
    the k - 1 nearer ones are removed: if the first is the match, the second is a known non-match in the place of one.

    Attributes:
        query, hit: (M,) rows of the tracklets.
        relative: (M, PLACES) relative distances of the first, second and third, inf where there is none.
        one_sided: (M, PLACES) the same with the competitor of the query only, as for images of unknown camera.
    """

    query: NDArray[np.intp]
    hit: NDArray[np.intp]
    relative: NDArray[np.float64]
    one_sided: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.query)

    def of(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> Contests:
        """Select contests."""
        return Contests(*(getattr(self, one.name)[rows] for one in fields(self)))


def hold_contests(table: TrackletTable, *, most_queries: int = 3000, seed: int = 0) -> Contests:
    """Let the tracklets of each other camera, in the query's interval of time, compete for the place of its match.

    Args:
        table: tracklets.
        most_queries: with more tracklets than this, queries are those of groups drawn at random until they are enough.
        seed: of the draw.
    """
    groups = _groups(table)
    parts: list[Contests] = []
    queries = 0
    for number in np.random.default_rng(seed).permutation(len(groups)):
        if queries >= most_queries:
            break
        interval, mine = groups[number]
        queries += len(mine)
        parts += [
            _contest(table, mine, rows)
            for theirs, rows in groups
            if theirs == interval and table.camera[rows[0]] != table.camera[mine[0]]
        ]
    if not parts:
        rows, relative = np.empty(0, dtype=np.intp), np.empty((0, PLACES))
        return Contests(rows, rows, relative, relative)
    return Contests(*(np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(Contests)))


def relative_distances(
    vectors: VectorStore,
    query_D: NDArray[np.float32],
    hits: TrackletBatch,
    distances: NDArray[np.floating],
    *,
    tracklet: str = "",
    camera: str = "",
    start: int = NO_TIME,
    end: int = NO_TIME,
) -> NDArray[np.float64]:
    """Compute the relative distances (K,) of the hits of one search.

    Args:
        vectors: the store.
        query_D: (D,) vector of the query.
        hits: K tracklets.
        distances: (K,) plain distances to the query.
        tracklet: id of the query if it is a tracklet of the store.
        camera: its camera, "" unknown: relative distances are one-sided.
        start, end: its times in milliseconds, or NO_TIME.
    """
    if not len(hits):
        return np.empty(0)
    places = [
        (str(one), int(first), int(last)) for one, first, last in zip(hits.camera, hits.start, hits.end, strict=True)
    ]
    if camera:
        places += len(hits) * [(camera, start, end)]
    queries = np.concatenate([np.repeat(query_D[None], len(hits), axis=0), hits.vector])[: len(places)]
    found = _nearest_around(vectors, queries, places)
    competition = np.array(
        [
            _competitor(one, (str(hits.id[number % len(hits)]), tracklet), *places[number][1:])
            for number, one in enumerate(found)
        ]
    )
    if camera:
        competition = np.sqrt(competition[: len(hits)] * competition[len(hits) :])
    relative = np.maximum(distances, _TINY) / np.maximum(competition, _TINY)
    return np.where(np.isnan(relative), np.inf, relative)


def _nearest_around(
    vectors: VectorStore, queries_QD: NDArray[np.float32], places: list[tuple[str, int, int]]
) -> list[Hits]:
    """Nearest tracklets of each query in a camera around a time, each place as camera, start and end in milliseconds.

    Where the time is unknown, or few tracklets are there, those of the camera at any time.
    """
    reach = round(500 * WINDOW)
    always = [Filter(cameras=frozenset([camera])) for camera, _, _ in places]
    around = [
        whole if start == NO_TIME else replace(whole, start=start - reach, end=end + reach)
        for whole, (_, start, end) in zip(always, places, strict=True)
    ]
    found = vectors.search(queries_QD, _NEAREST, around)
    few = [row for row, one in enumerate(found) if len(one) < FEWEST and around[row] != always[row]]
    if few:
        for row, one in zip(few, vectors.search(queries_QD[few], _NEAREST, [always[row] for row in few]), strict=True):
            found[row] = one
    return found


def _competitor(found: Hits, own: tuple[str, str], start: int, end: int) -> float:
    """Distance to the nearest tracklet of `found` that is not in `own` nor part of a pass; NaN: there is none.

    The pass is from `start` to `end` milliseconds, or of unknown time.
    """
    part = fragments(seconds(found.start), seconds(found.end), *seconds(np.array([[start], [end]])))
    for name, similarity, same_pass in zip(found.id, found.similarity, part, strict=True):
        if name not in own and not same_pass:
            return max(2 - 2 * float(similarity), _TINY)
    return float("nan")


def _fragments(table: TrackletTable, one: NDArray[np.intp], other: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Whether two tracklets of one camera (rows) may be parts of one pass; see `fragments`."""
    return fragments(table.start[one], table.end[one], table.start[other], table.end[other])


def fragments(
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    other_start: NDArray[np.float64],
    other_end: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Whether two tracklets may be parts of one pass: neither simultaneous nor far apart; False for unknown times."""
    gap = np.maximum(start, other_start) - np.minimum(end, other_end)
    return np.asarray((gap > 0) & (gap <= FRAGMENT))


def _groups(table: TrackletTable) -> list[tuple[int, NDArray[np.intp]]]:
    """Interval of time (-1 unknown) and rows of each group: the tracklets of a camera in the interval."""
    middle = (table.start + table.end) / 2
    first = np.nanmin(middle) if np.isfinite(middle).any() else 0.0
    interval = np.where(np.isnan(middle), -1, np.floor((middle - first) / WINDOW)).astype(int)
    order = np.lexsort((interval, table.camera))
    changes = (np.diff(table.camera[order]) != 0) | (np.diff(interval[order]) != 0)
    groups = np.split(order, np.flatnonzero(changes) + 1)
    return [(int(interval[rows[0]]), rows) for rows in groups if len(rows) >= FEWEST]


def _contest(table: TrackletTable, mine: NDArray[np.intp], rows: NDArray[np.intp]) -> Contests:
    """Contests of all tracklets `mine` of one group for those of another, `rows`."""
    distance = np.maximum(2 - 2 * (table.vector[mine] @ table.vector[rows].T).astype(np.float64), _TINY)
    itself = np.arange(len(mine))
    order = np.argsort(distance, axis=1, kind="stable")[:, :_NEAREST]
    back = np.argsort(distance, axis=0, kind="stable")[:_NEAREST]
    nearest = np.take_along_axis(distance, order, axis=1)
    one_sided, relative = np.full((2, len(mine), PLACES), np.inf)
    for place in range(PLACES):
        hit = order[:, place]
        fragment = _fragments(table, rows[order], rows[hit][:, None])
        fragment[:, : place + 1] = True  # the hit itself, and nearer ones, which are removed
        rival = nearest.min(axis=1, where=~fragment, initial=np.inf)
        fragment = _fragments(table, mine[back[:, hit]], mine) | (back[:, hit] == itself)
        theirs = distance[back[:, hit], hit].min(axis=0, where=~fragment, initial=np.inf)
        known = np.isfinite(rival)
        one_sided[known, place] = (nearest[:, place] / rival)[known]
        known &= np.isfinite(theirs)
        relative[known, place] = (nearest[:, place] / np.sqrt(rival * theirs))[known]
    return Contests(mine, rows[order[:, 0]], relative, one_sided)


def seconds(milliseconds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Convert UTC milliseconds to seconds, NO_TIME to NaN."""
    return np.where(milliseconds == NO_TIME, np.nan, milliseconds / 1000.0)
