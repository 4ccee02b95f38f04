"""Ranked lists of a report: selection of queries, ranks of matches, and accuracy per camera pair.

Shapes: Q queries, K listed candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vreid.data.protocols import MARKET, Exclusion, Groups, Protocol
from vreid.data.records import JUNK, joint_codes
from vreid.retrieval.ranking import Ranking

TOP = 10
"""Number of candidates shown per list."""


@dataclass(frozen=True, eq=False)
class EvaluatedRanking:
    """A ranking with its ground truth where known.

    Attributes:
        ranking: the lists.
        protocol: the protocol, whose exclusions are no matches.
    """

    ranking: Ranking
    protocol: Protocol = MARKET

    @cached_property
    def hits(self) -> NDArray[np.int8]:
        """(Q, K) 1 match, 0 other vehicle, -1 unknown."""
        return self.ranking.hits()

    @cached_property
    def matches(self) -> list[NDArray[np.intp]]:
        """Gallery images of each query's vehicle that the protocol keeps, listed or not."""
        query, gallery = joint_codes(self.ranking.query.identity, self.ranking.gallery.identity)
        of_identity = Groups(gallery)
        exclusion = Exclusion(self.ranking.query, self.ranking.gallery, self.protocol)
        empty = np.empty(0, dtype=np.intp)
        return [
            np.setdiff1d(of_identity[code], exclusion.removed(row), assume_unique=True) if code >= 0 else empty
            for row, code in enumerate(query)
        ]

    @cached_property
    def ranks(self) -> NDArray[np.int64]:
        """(Q, K) rank of each candidate from 1, as in the metrics: junk images take no rank."""
        junk = self.ranking.gallery.identity.codes == JUNK
        listed = self.ranking.indices
        counted = (listed >= 0) & ~(junk[listed] if len(junk) else False)
        return np.cumsum(counted, axis=1)

    @cached_property
    def first_hit(self) -> NDArray[np.int64]:
        """(Q,) rank of the first match; 0 if the list holds none."""
        right = self.hits == 1
        if not right.size:
            return np.zeros(len(right), dtype=np.int64)
        place = right.argmax(axis=1)
        return np.where(right.any(axis=1), self.ranks[np.arange(len(right)), place], 0)

    def folded(self, query: int) -> list[tuple[int, int]]:
        """Return the first place of each tracklet in the query's list, with the number of its further images.

        An image without a tracklet is a tracklet of its own.
        """
        ranking = self.ranking
        tracklets = ranking.gallery.tracklet.codes[ranking.indices[query, : ranking.lengths[query]]].astype(np.int64)
        alone = tracklets < 0
        tracklets[alone] = -1 - np.arange(np.count_nonzero(alone))
        _, first, size = np.unique(tracklets, return_index=True, return_counts=True)
        return sorted(zip(first.tolist(), (size - 1).tolist(), strict=True))

    def worst(self, count: int) -> list[int]:
        """Select queries with matches whose first hit comes latest: no hit at all first, ties by query index."""
        late = np.where(self.first_hit == 0, np.iinfo(np.int64).max, self.first_hit)
        wrong = np.array([q for q, matches in enumerate(self.matches) if len(matches) and late[q] > 1], dtype=np.intp)
        return [int(q) for q in wrong[np.argsort(-late[wrong], kind="stable")][:count]]

    def good(self, count: int) -> list[int]:
        """Select queries with a correct first candidate and the most hits among the first ten, of different vehicles.

        Every camera contributes one before any contributes a second; ties by query index.
        """
        found = (self.hits[:, :TOP] == 1).sum(axis=1)
        order = [int(q) for q in np.argsort(-found, kind="stable") if self.first_hit[q] == 1]
        identity, camera = self.ranking.query.identity.values, self.ranking.query.camera.values
        chosen: list[int] = []
        for new_camera_only in (True, False):
            for query in order:
                if len(chosen) == count:
                    return chosen
                known = {identity[c] for c in chosen}, {camera[c] for c in chosen}
                if identity[query] not in known[0] and not (new_camera_only and camera[query] in known[1]):
                    chosen.append(query)
        return chosen

    def camera_pairs(self) -> CameraPairs | None:
        """Measure how often the nearest candidate at each camera is the right vehicle; None without ground truth."""
        ranking = self.ranking
        query_camera, gallery_camera = joint_codes(ranking.query.camera, ranking.gallery.camera)
        names = sorted({*ranking.query.camera.names, *ranking.gallery.camera.names})
        found, evaluated = np.zeros((2, len(names), len(names)), dtype=np.int64)
        for query, matches in enumerate(self.matches):
            wanted = np.unique(gallery_camera[matches])
            wanted = wanted[wanted >= 0]
            if query_camera[query] < 0 or not len(wanted):
                continue
            listed = ranking.indices[query][: ranking.lengths[query]]
            cameras, place = np.unique(gallery_camera[listed], return_index=True)
            right = dict(zip(cameras.tolist(), (self.hits[query, place] == 1).tolist(), strict=True))
            evaluated[query_camera[query], wanted] += 1
            found[query_camera[query], wanted] += [right.get(int(camera), False) for camera in wanted]
        rows, columns = np.flatnonzero(evaluated.any(axis=1)), np.flatnonzero(evaluated.any(axis=0))
        if len(rows) == 0:
            return None
        cells = np.ix_(rows, columns)
        return CameraPairs([names[r] for r in rows], [names[c] for c in columns], found[cells], evaluated[cells])


@dataclass(frozen=True, eq=False)
class CameraPairs:
    """Per query camera (rows) and gallery camera (columns): correct queries and evaluated queries."""

    query_cameras: Sequence[str]
    gallery_cameras: Sequence[str]
    found: NDArray[np.int64]
    evaluated: NDArray[np.int64]
