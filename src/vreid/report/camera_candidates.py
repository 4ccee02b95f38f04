"""The nearest candidate of each other camera for one query, in order of time, beside what is true.

They are candidates: four nearest neighbours of unknown identity are no trip of one vehicle, so no way joins them.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vreid.report.contents import MapRoad
from vreid.report.rank_lists import EvaluatedRanking

MOST = 4
"""Most cameras besides the query's own."""
DEPTH = 100
"""How far down the list candidates are looked at."""


@dataclass(frozen=True)
class CameraCandidate:
    """The nearest candidate of one camera, or the query itself.

    Attributes:
        image: gallery index; None for the query itself.
        camera: where. time: when, in seconds (UTC where the records say so).
        distance: to the query; None for the query itself.
        correct: whether it is the query's vehicle; None where nobody knows.
        since: seconds since the right candidate (or the query) before it; None for the first, and where it is not known
            to be right.
        by_road: seconds that the quickest way over the road graph takes on average; None where there is none.
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
    """Candidates of one query in time order, the query among them, and the ways between right ones (lists of sites)."""

    query: int
    candidates: tuple[CameraCandidate, ...]
    legs: tuple[tuple[str, ...], ...]


def candidates_of(evaluated: EvaluatedRanking, query: int, roads: Sequence[MapRoad] = ()) -> CameraCandidates | None:
    """Fold the list of one query to the nearest candidate of each other camera, keep the nearest, order them by time.

    Only those known to be right are on the way, with the query. None where the query's camera or time is unknown, or no
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
    """Seconds and sites of the quickest way (Dijkstra 1959), both ends included; (None, (start, end)) without any."""
    heap: list[tuple[float, tuple[str, ...]]] = [(0.0, (start,))]
    done: set[str] = set()
    while heap:
        seconds, way = heapq.heappop(heap)
        if way[-1] == end:
            return seconds, way
        if way[-1] not in done:
            done.add(way[-1])
            for site, more in neighbours.get(way[-1], ()):
                heapq.heappush(heap, (seconds + more, (*way, site)))
    return None, (start, end)


def clearest_candidates(evaluated: EvaluatedRanking, roads: Sequence[MapRoad] = ()) -> CameraCandidates | None:
    """The candidates of the query with the most cameras right and, among those, the fewest wrong, then the nearest.

    Ties go to the first query. Without ground truth it is the query whose candidates are nearest on average.
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
