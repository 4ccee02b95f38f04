"""Images with captions for the page: queries and candidates."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vreid.data.records import JUNK, Records
from vreid.formatting import clock
from vreid.report.camera_candidates import CameraCandidate, CameraCandidates
from vreid.report.rank_lists import TOP, EvaluatedRanking
from vreid.report.thumbnails import thumbnail

DECISIONS = {1: "right", 0: "wrong", -1: "unknown", None: "unknown"}  # True and False are 1 and 0


@dataclass(frozen=True)
class Card:
    """One image with its caption; "" is unknown.

    Attributes:
        decision: "query", "right", "wrong" or "unknown".
        thumbnail: data URI; None if the image cannot be read.
        appearance: colour and type.
        rank: in the list, from 1; None for queries, junk images and images that are not listed.
        distance: to the query; None if unknown.
        look_alike: wrong, but with the query's colour and type.
        folded: number of further listed images of the same tracklet.
    """

    decision: str
    thumbnail: str | None
    key: str
    camera: str
    time: str
    appearance: str
    identity: str
    rank: int | None = None
    distance: float | None = None
    look_alike: bool = False
    folded: int = 0


@dataclass(frozen=True)
class RankList:
    """A query and its first candidates; the images of a tracklet are folded into their first.

    Attributes:
        first_hit: rank of the first match; 0 if the list holds none.
        listed: length of the list.
        hits: matches among the first ten of the list (before folding).
        matches: number of matches in the gallery.
        nearest_match: the nearest match if no candidate shown is one.
    """

    query: Card
    candidates: tuple[Card, ...]
    first_hit: int
    listed: int
    hits: int
    matches: int
    nearest_match: Card | None


class CardMaker:
    """Builds the cards of one ranking; each image is read once."""

    def __init__(self, evaluated: EvaluatedRanking) -> None:
        self._evaluated = evaluated
        self._thumbnail: Callable[[str, tuple[float, ...] | None], str | None] = functools.cache(thumbnail)
        times = np.concatenate([evaluated.ranking.query.time, evaluated.ranking.gallery.time])
        times = times[~np.isnan(times)]
        self._several_days = bool(len(times)) and float(np.ptp(times)) > 86400

    def _card(self, records: Records, index: int, decision: str, **more: Any) -> Card:
        box = records.box[index]
        words = (str(records.color.values[index]), str(records.vehicle_type.values[index]))
        return Card(
            decision=decision,
            thumbnail=self._thumbnail(str(records.path[index]), None if np.isnan(box).any() else tuple(box.tolist())),
            key=str(records.image_key[index]),
            camera=str(records.camera.values[index]),
            time=clock(float(records.time[index]), date=self._several_days),
            appearance=" ".join(word for word in words if word),
            identity=str(records.identity.values[index]),
            **more,
        )

    def query(self, query: int) -> Card:
        """Return the card of a query."""
        return self._card(self._evaluated.ranking.query, query, "query")

    def candidate(self, query: int, place: int, folded: int = 0) -> Card:
        """Return the card of the candidate at `place` (from 0) of the query's list."""
        evaluated, own, gallery = self._evaluated, self._evaluated.ranking.query, self._evaluated.ranking.gallery
        image = int(evaluated.ranking.indices[query, place])
        decision = DECISIONS[int(evaluated.hits[query, place])]
        looks = own.color.values[query], own.vehicle_type.values[query]
        same_looks = all(looks) and looks == (gallery.color.values[image], gallery.vehicle_type.values[image])
        return self._card(
            gallery,
            image,
            decision,
            rank=None if gallery.identity.codes[image] == JUNK else int(evaluated.ranks[query, place]),
            distance=float(evaluated.ranking.distances[query, place]),
            look_alike=same_looks and decision == "wrong",
            folded=folded,
        )

    def rank_list(self, query: int) -> RankList:
        """Build the list of a query: its first ten candidates by tracklet and, if none matches, the nearest match."""
        evaluated = self._evaluated
        first_hit, matches = int(evaluated.first_hit[query]), evaluated.matches[query]
        candidates = tuple(self.candidate(query, place, folded) for place, folded in evaluated.folded(query)[:TOP])
        nearest_match = None
        if not any(card.decision == "right" for card in candidates):
            if first_hit:
                nearest_match = self.candidate(query, int((evaluated.hits[query] == 1).argmax()))
            elif len(matches):
                nearest_match = self._card(evaluated.ranking.gallery, int(matches[0]), "right")
        return RankList(
            query=self.query(query),
            candidates=candidates,
            first_hit=first_hit,
            listed=int(evaluated.ranking.lengths[query]),
            hits=int((evaluated.hits[query, :TOP] == 1).sum()),
            matches=len(matches),
            nearest_match=nearest_match,
        )

    def candidates(self, found: CameraCandidates) -> list[tuple[CameraCandidate, Card]]:
        """Pair each candidate, including the query, with its card."""
        gallery = self._evaluated.ranking.gallery
        return [
            (s, self.query(found.query) if s.image is None else self._card(gallery, s.image, DECISIONS[s.correct]))
            for s in found.candidates
        ]
