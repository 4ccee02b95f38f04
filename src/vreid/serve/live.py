"""Watch-list: vehicles whose new sightings are listed and sent to webhooks.

A watched vehicle is a document "watches/NUMBER" with its feature. Whenever the store has changed, it is searched; a
MATCH that was not known before is a new sighting. Sightings are stored before their notices are sent, and a notice is
sent again until its receiver accepts it, `ATTEMPTS` times at most: receivers may get one twice, but never none without
that the watch-list says so.
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from vreid.serve.http_errors import HttpError
from vreid.serve.numbered_documents import NumberedDocuments
from vreid.serve.service import Selection, Service, search_config
from vreid.serve.webhooks import check_webhook, send_notice
from vreid.store.interface import NO_TIME
from vreid.store.search import Query, iso_time

WATCHES = "watches/"
"""Prefix of the documents of watched vehicles."""
ATTEMPTS = 8
"""Most attempts to send a notice; the pause doubles each time."""
MOST_WATCHES, MOST_SIGHTINGS = 1000, 1000
"""Of the store, and of a watch (the newest are kept)."""

_TOP = 100  # hits that are looked at
_PAUSE = 10.0  # seconds after the first failure
_ANYWAY = 60.0  # seconds after which the store is searched even if the number of tracklets is the same


@dataclass(frozen=True)
class Notice:
    """A new sighting of a watched vehicle.

    Attributes:
        tracklet, camera, start, end: the tracklet, times in ISO 8601.
        distance, relative_distance: see `vreid.store.search.Hit`.
        found: UTC seconds at which it was found.
        sent: whether the webhook has accepted it; None: there is no webhook.
        attempts: to send it.
        again: UTC seconds of the next attempt.
    """

    tracklet: str
    camera: str
    start: str | None
    end: str | None
    distance: float
    relative_distance: float | None
    found: float
    sent: bool | None = None
    attempts: int = 0
    again: float = 0.0


@dataclass(frozen=True)
class Watch:
    """A watched vehicle.

    Attributes:
        number: of the watch.
        name: given by the user.
        vector: base64 of its feature, float32.
        tracklet, camera, start, end: of the query, see `vreid.store.search.Query`.
        image: base64 of a small JPEG, "" for a tracklet of the store.
        webhook: URL, "" for none.
        by, created: who, and when in UTC seconds.
        known: tracklets that matched already.
        sightings: new ones, the newest last.
    """

    number: int
    name: str
    vector: str
    tracklet: str = ""
    camera: str = ""
    start: int = NO_TIME
    end: int = NO_TIME
    image: str = ""
    webhook: str = ""
    by: str = ""
    created: float = 0.0
    known: tuple[str, ...] = ()
    sightings: tuple[Notice, ...] = ()

    @property
    def query(self) -> Query:
        """The query that is searched."""
        vector = np.frombuffer(base64.b64decode(self.vector), "<f4").astype(np.float32)
        return Query(self.name, vector, self.tracklet, self.camera, self.start, self.end)


class WatchList:
    """The watched vehicles of a service.

    Args:
        service: what is searched.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._vectors = service.store.vectors
        self._documents = NumberedDocuments(self._vectors, WATCHES, Watch, "watch")
        self._guard = threading.Lock()
        self._count, self._looked = -1, 0.0

    def all(self) -> list[Watch]:
        """All watches, the newest first."""
        return self._documents.all()

    def page(self, before: int | None, limit: int) -> tuple[list[Watch], int | None]:
        """See `NumberedDocuments.page`."""
        return self._documents.page(before, limit)

    def get(self, number: int) -> Watch:
        """Return a watch.

        Raises:
            HttpError: 404 there is none of this number.
        """
        return self._documents.get(number)

    def add(self, query: Query, by: str, *, name: str = "", webhook: str = "", jpeg: bytes = b"") -> Watch:
        """Watch a vehicle; what matches already is known.

        Args:
            query: of the vehicle.
            by: name of the user.
            name: of the watch.
            webhook: URL that notices are sent to, "" for none.
            jpeg: small image of an uploaded query.

        Raises:
            HttpError: 422 the webhook is not allowed, or there are too many watches.
        """
        if webhook:
            check_webhook(webhook, self._service.config.webhook_hosts)
        vector = base64.b64encode(query.vector.astype("<f4").tobytes()).decode()
        about = (vector, query.tracklet, query.camera, query.start, query.end)
        with self._guard:
            others = self.all()
            if len(others) >= MOST_WATCHES:
                raise HttpError(422, f"{MOST_WATCHES:,} vehicles are watched; delete one first.")
            number = 1 + max((watch.number for watch in others), default=0)
            image = base64.b64encode(jpeg).decode()
            made = Watch(number, name or f"watch {number}", *about, image=image, webhook=webhook, by=by)
            made = replace(made, created=time.time(), known=tuple(sorted(one.tracklet for one in self._matches(made))))
            self._documents.put(made)
        return made

    def delete(self, number: int) -> None:
        """Stop watching a vehicle and forget its sightings.

        Raises:
            HttpError: 404 there is no such watch.
        """
        with self._guard:
            self._documents.delete(number)

    def delete_before(self, moment: float) -> int:
        """Delete the watches that were made before a moment in UTC seconds; return how many."""
        with self._guard:
            old = [watch.number for watch in self.all() if watch.created < moment]
            return sum(self._vectors.delete_document(f"{WATCHES}{number}") for number in old)

    def forget(self, tracklets: Collection[str], *, uploads: bool = False) -> int:
        """Remove tracklets that are deleted; watches that were made of them are deleted.

        Args:
            tracklets: their ids.
            uploads: also delete watches of uploaded images that one of them matches.

        Returns:
            Number of deleted watches.
        """
        gone = set(tracklets)
        deleted = 0
        with self._guard:
            for watch in self.all():
                kept = tuple(one for one in watch.sightings if one.tracklet not in gone)
                known = tuple(name for name in watch.known if name not in gone)
                touched = (kept, known) != (watch.sightings, watch.known)
                if watch.tracklet in gone or (uploads and touched and not watch.tracklet):
                    self._documents.delete(watch.number)
                    deleted += 1
                elif touched:
                    self._documents.put(replace(watch, sightings=kept, known=known))
        return deleted

    def look(self, *, always: bool = False) -> int:
        """Search the watched vehicles if the store has changed, and send notices; return the number of new sightings.

        Args:
            always: search even if nothing has changed.
        """
        count, now = self._vectors.count(), time.monotonic()
        changed = always or count != self._count or now - self._looked > _ANYWAY
        if changed:
            self._count, self._looked = count, now
        new = 0
        for watch in self.all():
            new += self._search(watch.number) if changed else 0
            self._send(watch.number)
        return new

    def _search(self, number: int) -> int:
        found = self._matches(self.get(number))
        with self._guard:
            try:
                watch = self.get(number)
            except HttpError:  # deleted meanwhile
                return 0
            seen = {*watch.known, *(one.tracklet for one in watch.sightings)}
            new = [one for one in found if one.tracklet not in seen]
            if new:
                gone = watch.sightings[: max(0, len(watch.sightings) + len(new) - MOST_SIGHTINGS)]
                known = tuple(sorted({*watch.known, *(one.tracklet for one in gone)}))
                kept = (*watch.sightings[len(gone) :], *new)
                self._documents.put(replace(watch, known=known, sightings=kept))
        return len(new)

    def _matches(self, watch: Watch) -> list[Notice]:
        result = self._service.search(watch.query, Selection(), search_config(top=_TOP, neighbourhood=_TOP))
        return [
            Notice(
                hit.tracklet,
                hit.camera,
                iso_time(hit.start),
                iso_time(hit.end),
                hit.distance,
                hit.relative_distance,
                time.time(),
                False if watch.webhook else None,
            )
            for hit in result.hits
            if hit.decision == "MATCH"
        ]

    def _send(self, number: int) -> None:
        try:
            watch = self.get(number)
        except HttpError:
            return
        for one in watch.sightings:
            if one.sent is not False or one.attempts >= ATTEMPTS or one.again > time.time():
                continue
            content = {"watch": {"number": watch.number, "name": watch.name}, "sighting": notice_facts(one)}
            try:
                sent = send_notice(watch.webhook, content, self._service.config.webhook_hosts)
            except HttpError:  # the host is no longer allowed
                sent = False
            again = time.time() + _PAUSE * 2**one.attempts
            self._replace(number, one, replace(one, sent=sent, attempts=one.attempts + 1, again=again))

    def _replace(self, number: int, old: Notice, new: Notice) -> None:
        with self._guard:
            try:
                watch = self.get(number)
            except HttpError:
                return
            kept = tuple(new if one.tracklet == old.tracklet else one for one in watch.sightings)
            self._documents.put(replace(watch, sightings=kept))


def notice_facts(notice: Notice) -> dict[str, Any]:
    """Return what a receiver, and a client of the API, is told of a sighting."""
    facts = asdict(notice)
    return {name: value for name, value in facts.items() if name not in ("attempts", "again")} | {
        "found": iso_time(notice.found)
    }
