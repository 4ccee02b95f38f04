"""The nearest candidate at each other camera for one query, in order of time, with ground truth if known.

Nearest neighbours of unknown identity need not be one vehicle, so no route is drawn between them.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vreid.report.contents import MapRoad
from vreid.report.rank_lists import EvaluatedRanking

MOST = 4
"""Maximum number of cameras besides the query's own."""
DEPTH = 100
"""Number of candidates per list that are considered."""


@dataclass(frozen=True)
class CameraCandidate:
    """The nearest candidate at one camera, or the query itself.

    Attributes:
        image: gallery index; None for the query itself.
        camera: name of the camera.
        time: seconds (UTC if the records are).
        distance: to the query; None for the query itself.
        correct: whether it shows the query's vehicle; None if unknown.
        since: seconds since the previous correct candidate (or the query); None for the first and for candidates not
            known to be correct.
        by_road: mean seconds of the fastest route on the road graph; None without a route.
    """

    image: int | None
    camera: str
    time: float
    distance: float | None = None
    correct: bool | None = None
    since: float | None = None
    by_road: float | None = None


@dataclass(frozen=True)
class CameraCandidates:
    """Candidates of one query and the query itself in order of time, and routes between correct ones (site names)."""

    query: int
    candidates: tuple[CameraCandidate, ...]
    legs: tuple[tuple[str, ...], ...]


def candidates_of(evaluated: EvaluatedRanking, query: int, roads: Sequence[MapRoad] = ()) -> CameraCandidates | None:
    """Reduce the list of one query to the nearest candidate at each other camera, ordered by time.

    Routes connect the query and candidates known to be correct. None if the query's camera or time is unknown, or no
    candidate at another camera has both.
    """
    ranking = evaluated.ranking
    own, records = ranking.query, ranking.gallery
    start = CameraCandidate(None, str(own.camera.values[query]), float(own.time[query]))
    listed = ranking.indices[query, :DEPTH]
    listed = listed[listed >= 0]
    usable = records.camera.known[listed] & ~np.isnan(records.time[listed])
    usable &= records.camera.values[listed] != start.camera
    if not start.camera or np.isnan(start.time) or not usable.any():
        return None
    places = np.flatnonzero(usable)
    _, nearest = np.unique(records.camera.codes[listed[places]], return_index=True)
    truth = {1: True, 0: False, -1: None}
    seen = [start]
    for place in places[np.sort(nearest)[:MOST]]:
        image = int(listed[place])
        distance, correct = float(ranking.distances[query, place]), truth[int(evaluated.hits[query, place])]
        seen.append(
            CameraCandidate(image, str(records.camera.values[image]), float(records.time[image]), distance, correct)
        )
    seen.sort(key=lambda candidate: candidate.time)
    return _with_legs(query, seen, roads)


def _with_legs(query: int, ordered: Sequence[CameraCandidate], roads: Sequence[MapRoad]) -> CameraCandidates:
    neighbours: dict[str, list[tuple[str, float]]] = {}
    for road in roads:
        neighbours.setdefault(road.a, []).append((road.b, road.seconds))
        neighbours.setdefault(road.b, []).append((road.a, road.seconds))
    candidates: list[CameraCandidate] = []
    legs: list[tuple[str, ...]] = []
    before: CameraCandidate | None = None
    for candidate in ordered:
        if not candidate.correct and candidate.image is not None:
            candidates.append(candidate)
            continue
        if before is not None:
            by_road, leg = _quickest(neighbours, before.camera, candidate.camera)
            legs.append(leg)
            candidate = replace(candidate, since=candidate.time - before.time, by_road=by_road)
        candidates.append(candidate)
        before = candidate
    return CameraCandidates(query, tuple(candidates), tuple(legs))


def _quickest(
    neighbours: dict[str, list[tuple[str, float]]], start: str, end: str
) -> tuple[float | None, tuple[str, ...]]:
    """Find the fastest route (Dijkstra 1959): seconds and sites with both ends, or (None, (start, end))."""
    heap: list[tuple[float, tuple[str, ...]]] = [(0.0, (start,))]
    done: set[str] = set()
    while heap:
        seconds, route = heapq.heappop(heap)
        if route[-1] == end:
            return seconds, route
        if route[-1] not in done:
            done.add(route[-1])
            for site, more in neighbours.get(route[-1], ()):
                heapq.heappush(heap, (seconds + more, (*route, site)))
    return None, (start, end)


def clearest_candidates(evaluated: EvaluatedRanking, roads: Sequence[MapRoad] = ()) -> CameraCandidates | None:
    """Select the query with the most correct cameras, then the fewest wrong ones, then the smallest mean distance.

    Ties go to the first query. Without ground truth, only the mean distance counts.
    """
    best: tuple[tuple[float, ...], CameraCandidates] | None = None
    for query in range(len(evaluated.ranking)):
        found = candidates_of(evaluated, query)
        if found is not None:
            verdicts = [candidate.correct for candidate in found.candidates]
            distances = [candidate.distance for candidate in found.candidates if candidate.distance is not None]
            score = (verdicts.count(True), -verdicts.count(False), -float(np.mean(distances)))
            if best is None or score > best[0]:
                best = score, found
    return None if best is None else candidates_of(evaluated, best[1].query, roads)
