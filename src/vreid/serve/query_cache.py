"""Uploaded query images that are kept in memory for a while, so that filters and pages need no second upload."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from vreid.store.search import Query


@dataclass(frozen=True, eq=False)
class CachedQuery:
    """A query image as its feature, with a small version to show.

    Attributes:
        key: unguessable.
        owner: name of the user who uploaded it; others cannot use it.
        query: its feature.
        jpeg: small version.
        since: monotonic seconds.
    """

    key: str
    owner: str
    query: Query
    jpeg: bytes
    since: float


class QueryCache:
    """At most `most` queries of the last `seconds`; the oldest are forgotten. It may be used by several threads."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most, self._seconds = most, seconds
        self._kept: OrderedDict[str, CachedQuery] = OrderedDict()
        self._guard = threading.Lock()

    def put(self, owner: str, query: Query, jpeg: bytes) -> CachedQuery:
        """Keep a query under a new key."""
        made = CachedQuery(secrets.token_urlsafe(16), owner, query, jpeg, time.monotonic())
        with self._guard:
            self._kept[made.key] = made
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return made

    def get(self, key: str, owner: str) -> CachedQuery | None:
        """Return the query of a key if it is the owner's and not too old."""
        with self._guard:
            found = self._kept.get(key)
            if found is not None and time.monotonic() - found.since > self._seconds:
                del self._kept[key]
                found = None
        return found if found is not None and found.owner == owner else None

    def forget_old(self) -> None:
        """Forget the queries that are too old."""
        limit = time.monotonic() - self._seconds
        with self._guard:
            for key in [key for key, kept in self._kept.items() if kept.since < limit]:
                del self._kept[key]

    def clear(self) -> None:
        """Forget all queries."""
        with self._guard:
            self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)
