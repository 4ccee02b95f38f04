"""A trip: where else, and when, one vehicle was seen, as the ranking says it, beside what is true."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vreid.report.contents import Road
from vreid.report.lists import JudgedRanking

MOST = 4
"""Most cameras that a trip names besides the query's own."""
DEPTH = 100
"""How far down the list candidates are looked at."""


@dataclass(frozen=True)
class Sighting:
    """The nearest candidate of one camera, or the query itself.

    Attributes:
        image: gallery index; None for the query itself.
        camera: where. time: when, in seconds (UTC where the records say so).
        distance: to the query; None for the query itself.
        correct: whether it is the query's vehicle; None where nobody knows.
        since: seconds since the sighting before that is not known to be wrong; None for the first and for wrong ones.
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
class Trip:
    """Sightings of one query in time order, the query among them, and the ways between them as lists of sites."""

    query: int
    sightings: tuple[Sighting, ...]
    legs: tuple[tuple[str, ...], ...]


def find_trip(judged: JudgedRanking, query: int, roads: Sequence[Road] = ()) -> Trip | None:
    """Fold the list of one query to the nearest candidate of each other camera, keep the nearest, order them by time.

    Sightings known to be wrong stay in the table but not on the way. None where the query's camera or time is unknown,
    or no candidate at another camera has both.
    """
    ranking = judged.ranking
    own, records = ranking.query, ranking.gallery
    start = Sighting(None, str(own.camera.values[query]), float(own.time[query]))
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
        distance, correct = float(ranking.distances[query, place]), truth[int(judged.hits[query, place])]
        seen.append(Sighting(image, str(records.camera.values[image]), float(records.time[image]), distance, correct))
    seen.sort(key=lambda sighting: sighting.time)
    return _with_legs(query, seen, roads)


def _with_legs(query: int, ordered: Sequence[Sighting], roads: Sequence[Road]) -> Trip:
    neighbours: dict[str, list[tuple[str, float]]] = {}
    for road in roads:
        neighbours.setdefault(road.a, []).append((road.b, road.seconds))
        neighbours.setdefault(road.b, []).append((road.a, road.seconds))
    sightings: list[Sighting] = []
    legs: list[tuple[str, ...]] = []
    before: Sighting | None = None
    for sighting in ordered:
        if sighting.correct is False:
            sightings.append(sighting)
            continue
        if before is not None:
            by_road, leg = _quickest(neighbours, before.camera, sighting.camera)
            legs.append(leg)
            sighting = replace(sighting, since=sighting.time - before.time, by_road=by_road)
        sightings.append(sighting)
        before = sighting
    return Trip(query, tuple(sightings), tuple(legs))


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


def best_trip(judged: JudgedRanking, roads: Sequence[Road] = ()) -> Trip | None:
    """The trip with the most cameras rightly found and, among those, the fewest wrong ones, then the nearest.

    Ties go to the first query. Without ground truth it is the trip whose sightings are nearest on average.
    """
    best: tuple[tuple[float, ...], Trip] | None = None
    for query in range(len(judged.ranking)):
        trip = find_trip(judged, query)
        if trip is not None:
            verdicts = [sighting.correct for sighting in trip.sightings]
            distances = [sighting.distance for sighting in trip.sightings if sighting.distance is not None]
            score = (verdicts.count(True), -verdicts.count(False), -float(np.mean(distances)))
            if best is None or score > best[0]:
                best = score, trip
    return None if best is None else find_trip(judged, best[1].query, roads)
