"""Pictures with captions: what the page shows of a query, of a candidate, of a candidate."""

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

DECISIONS = {1: "right", 0: "wrong", -1: "unjudged", None: "unjudged"}  # True and False are 1 and 0


@dataclass(frozen=True)
class Card:
    """One picture with its caption; empty texts are unknown.

    Attributes:
        decision: "query", "right", "wrong" or "unjudged".
        picture: data URI, None where the picture cannot be read.
        rank: in the list, from 1; None for a query, a junk picture and a picture that is not listed.
        folded: further listed pictures of the same tracklet.
        distance: to the query; None where it is not known.
        looks: colour and type in words.
        look_alike: wrong, but of the query's colour and type.
    """

    decision: str
    picture: str | None
    key: str
    camera: str
    time: str
    looks: str
    identity: str
    rank: int | None = None
    distance: float | None = None
    look_alike: bool = False
    folded: int = 0


@dataclass(frozen=True)
class RankList:
    """A query and its first candidates, those of one tracklet folded into their first.

    Attributes:
        first_hit: rank of the first right candidate; 0 where the list holds none.
        listed: how long the list is.
        hits: right ones among the first ten of the list (before folding).
        mates: right pictures in the gallery; mate: the nearest of them where none is shown.
    """

    query: Card
    candidates: tuple[Card, ...]
    first_hit: int
    listed: int
    hits: int
    mates: int
    mate: Card | None


class CardMaker:
    """Makes the cards of one ranking; each picture is read once."""

    def __init__(self, evaluated: EvaluatedRanking) -> None:
        self._judged = evaluated
        self._picture: Callable[[str, tuple[float, ...] | None], str | None] = functools.cache(thumbnail)
        times = np.concatenate([evaluated.ranking.query.time, evaluated.ranking.gallery.time])
        times = times[~np.isnan(times)]
        self._several_days = bool(len(times)) and float(np.ptp(times)) > 86400

    def _card(self, records: Records, index: int, decision: str, **more: Any) -> Card:
        box = records.box[index]
        words = (str(records.color.values[index]), str(records.vehicle_type.values[index]))
        return Card(
            decision=decision,
            picture=self._picture(str(records.path[index]), None if np.isnan(box).any() else tuple(box.tolist())),
            key=str(records.image_key[index]),
            camera=str(records.camera.values[index]),
            time=clock(float(records.time[index]), date=self._several_days),
            looks=" ".join(word for word in words if word),
            identity=str(records.identity.values[index]),
            **more,
        )

    def query(self, query: int) -> Card:
        """The query's own picture."""
        return self._card(self._judged.ranking.query, query, "query")

    def candidate(self, query: int, place: int, folded: int = 0) -> Card:
        """The candidate at `place` (from 0) of the query's list."""
        evaluated, own, gallery = self._judged, self._judged.ranking.query, self._judged.ranking.gallery
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
        """The query, its first ten candidates by tracklet and, if all of them are wrong, the nearest right one."""
        evaluated = self._judged
        first_hit, mates = int(evaluated.first_hit[query]), evaluated.mates[query]
        candidates = tuple(self.candidate(query, place, folded) for place, folded in evaluated.folded(query)[:TOP])
        mate = None
        if not any(card.decision == "right" for card in candidates):
            if first_hit:
                mate = self.candidate(query, int((evaluated.hits[query] == 1).argmax()))
            elif len(mates):
                mate = self._card(evaluated.ranking.gallery, int(mates[0]), "right")
        return RankList(
            query=self.query(query),
            candidates=candidates,
            first_hit=first_hit,
            listed=int(evaluated.ranking.lengths[query]),
            hits=int((evaluated.hits[query, :TOP] == 1).sum()),
            mates=len(mates),
            mate=mate,
        )

    def candidates(self, found: CameraCandidates) -> list[tuple[CameraCandidate, Card]]:
        """Each candidate, and the query among them, with its image."""
        gallery = self._judged.ranking.gallery
        return [
            (s, self.query(found.query) if s.image is None else self._card(gallery, s.image, DECISIONS[s.correct]))
            for s in found.candidates
        ]
