"""Cases: the vehicles that users follow, as decisions about tracklets, newest last.

A case is a document "cases/NUMBER". A decision about a pair of tracklets is kept as an answer as well, in the form of
`vreid.store.labelling`, so that the threshold can be fitted with it. Both are on the disk before a decision is
acknowledged.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from vreid.serve.http_errors import HttpError
from vreid.serve.numbered_documents import NumberedDocuments
from vreid.store.interface import VectorStore
from vreid.store.labelling import forget_pairs, put_answer

CASES = "cases/"
"""Prefix of the documents of cases."""
LONGEST_NAME, LONGEST_NOTE = 100, 2000
"""Maximum numbers of characters."""
MOST_DECISIONS = 5000
"""Of a case."""


@dataclass(frozen=True)
class Decision:
    """What a user says about a tracklet.

    Attributes:
        tracklet: its id.
        same: whether it shows the vehicle of the case; None: unsure, or no longer decided.
        other: the tracklet that it was compared with, "" for an uploaded image.
        by: name of the user.
        time: UTC seconds.
    """

    tracklet: str
    same: bool | None
    other: str = ""
    by: str = ""
    time: float = 0.0


@dataclass(frozen=True)
class VehicleCase:
    """One vehicle that is followed.

    Attributes:
        number: of the case.
        name: "vehicle 17" unless it was given another.
        note: free text.
        by: who opened it.
        created: UTC seconds.
        decisions: oldest first; the last about a tracklet counts.
    """

    number: int
    name: str
    note: str = ""
    by: str = ""
    created: float = 0.0
    decisions: tuple[Decision, ...] = ()

    @property
    def latest(self) -> dict[str, Decision]:
        """The decision that counts about each tracklet."""
        return {one.tracklet: one for one in self.decisions}

    @property
    def confirmed(self) -> list[str]:
        """Tracklets of the vehicle."""
        return [name for name, one in self.latest.items() if one.same]

    @property
    def rejected(self) -> list[str]:
        """Tracklets of other vehicles."""
        return [name for name, one in self.latest.items() if one.same is False]


class CaseBook:
    """The cases of a store; one process and several threads may use it.

    Args:
        vectors: the store.
        on_answer: called after each answer about a pair of tracklets.
    """

    def __init__(self, vectors: VectorStore, on_answer: Callable[[], object] = lambda: None) -> None:
        self._vectors = vectors
        self._on_answer = on_answer
        self._documents = NumberedDocuments(self._vectors, CASES, VehicleCase, "case")
        self._guard = threading.Lock()

    def all(self) -> list[VehicleCase]:
        """All cases, the newest first."""
        return self._documents.all()

    def page(self, before: int | None, limit: int) -> tuple[list[VehicleCase], int | None]:
        """See `NumberedDocuments.page`."""
        return self._documents.page(before, limit)

    def get(self, number: int) -> VehicleCase:
        """Return a case.

        Raises:
            HttpError: 404 there is none of this number.
        """
        return self._documents.get(number)

    def open(self, by: str, *, name: str = "", note: str = "", tracklet: str = "") -> VehicleCase:
        """Open a case, durable on return; its vehicle is that of `tracklet` if one is given."""
        with self._guard:
            number = 1 + max((case.number for case in self.all()), default=0)
            now = time.time()
            first = (Decision(tracklet, True, "", by, now),) if tracklet else ()
            made = VehicleCase(number, name or f"vehicle {number}", note, by, now, first)
            self._documents.put(made)
        return made

    def change(self, number: int, *, name: str | None = None, note: str | None = None) -> VehicleCase:
        """Change the name or the note of a case, durable on return.

        Raises:
            HttpError: 404 there is no such case.
        """
        with self._guard:
            case = self.get(number)
            case = replace(case, name=name or case.name, note=case.note if note is None else note)
            self._documents.put(case)
        return case

    def decide(self, number: int, tracklet: str, same: bool | None, by: str, *, other: str = "") -> VehicleCase:
        """Confirm (True), reject (False) or leave open (None) a tracklet, durable on return.

        Args:
            number: of the case.
            tracklet: its id.
            same: whether it shows the vehicle of the case.
            by: name of the user.
            other: the tracklet that it was compared with; the pair becomes an answer.

        Raises:
            HttpError: 404 there is no such case; 422 it has too many decisions, or both tracklets are the same.
        """
        if other == tracklet:
            raise HttpError(422, "`other` is the tracklet itself; give the one that it was compared with.")
        with self._guard:
            case = self.get(number)
            if len(case.decisions) >= MOST_DECISIONS:
                raise HttpError(422, f"case {number} has {MOST_DECISIONS:,} decisions; open another case.")
            if other:
                put_answer(self._vectors, other, tracklet, same)
            decision = Decision(tracklet, same, other, by, time.time())
            case = replace(case, decisions=(*case.decisions, decision))
            self._documents.put(case)
        if other:
            self._on_answer()
        return case

    def delete(self, number: int) -> None:
        """Delete a case; answers about pairs stay.

        Raises:
            HttpError: 404 there is no such case.
        """
        self._documents.delete(number)

    def forget(self, tracklets: Collection[str]) -> None:
        """Remove every decision and answer about tracklets that are deleted."""
        gone = set(tracklets)
        with self._guard:
            forget_pairs(self._vectors, gone)
            for case in self.all():
                kept = tuple(one for one in case.decisions if one.tracklet not in gone and one.other not in gone)
                if len(kept) < len(case.decisions):
                    self._documents.put(replace(case, decisions=kept))
