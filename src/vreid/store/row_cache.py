"""Rows of a store in memory, and exact search in them.

The vectors are one float32 matrix that grows by doubling. A `Snapshot` never changes, so that threads search one while
another is made: a replaced row is appended and its old place is masked; places that are masked are dropped when they
are many.

Search is exact: a float32 product proposes the rows whose similarity, within the bound on its rounding, may be among
the k largest; these are summed in float64. So a similarity depends on the two vectors only, not on the filter or on
how many queries are searched together.

Shapes: N places, D dimensions, Q queries.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vreid.data.records import object_array
from vreid.store.interface import NO_TIME, Filter, Hits, filters_of_queries

T = TypeVar("T", bound=np.generic)

TEXTS = ("camera", "color", "vehicle_type")
"""Columns that filters select by equality; kept as integer codes."""

_GATHERED = 0.15  # share of the places up to which the selected vectors are copied together instead of scanning all
_FEW = 3  # queries up to which a product row by row is quicker than BLAS's (measured: 20 against 43 ms for two)
_AT_ONCE = 256  # vectors that are copied together and multiplied while they are in the processor's cache
_KEPT = 8  # queries whose products are kept
_SCORES = 1 << 24  # scores in memory at a time: 64 MB
_DEAD = 0.25  # share of masked places from which on they are dropped
_NOWHERE = np.empty(0, np.intp)
_ROUNDING = 2.0**-24 * 1.01  # relative error of one float32 operation, and some for higher orders


@dataclass(frozen=True, eq=False)
class Rows:
    """N rows as the cache takes them.

    Attributes:
        number: (N,) distinct integers that stay the same while a row exists.
        id: N texts.
        start, end: (N,) int64 UTC milliseconds or NO_TIME.
        texts: for each of `TEXTS` N texts.
        vectors: (N, D) float32.
    """

    number: NDArray[np.int64]
    id: Sequence[str]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    texts: Mapping[str, Sequence[str]]
    vectors: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.id)


@dataclass(frozen=True, eq=False)
class CameraRows:
    """The M rows of one camera in the order of time, so that those of an interval are found without looking at all.

    Attributes:
        places: (M,) their places.
        start, end: (M,) int64.
        longest: greatest difference of end and start.
    """

    places: NDArray[np.intp]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    longest: int

    def within(self, where: Filter) -> NDArray[np.intp]:
        """Return the places of the rows that are in view in the interval of a filter."""
        if where.start is None and where.end is None:
            return self.places
        first = NO_TIME + 1 if where.start is None else max(where.start - self.longest, NO_TIME + 1)
        begin = int(np.searchsorted(self.start, first))
        end = len(self.start) if where.end is None else int(np.searchsorted(self.start, where.end))
        if where.start is None:
            return self.places[begin:end]
        if where.end is not None and where.start >= where.end:
            return self.places[:0]
        return self.places[begin:end][self.end[begin:end] >= where.start]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Rows at one moment; see the module.

    Attributes:
        ids: text of each place; may be longer than N, since a newer snapshot appends to the same list.
        vectors: (N, D) float32.
        alive: (N,) which places hold a row; None: all.
        start, end: (N,) int64.
        codes: for each of `TEXTS` (N,) int32, the index of the text in `names`.
        names: for each of `TEXTS` the code of each text.
        of_camera: the rows of a camera, as far as they were asked for.
        products: (N,) products of all vectors with each of the last queries, by the bytes of the query: searches for
            competitors, and the same search with another filter, need them again.
    """

    ids: list[str]
    vectors: NDArray[np.float32]
    alive: NDArray[np.bool_] | None
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    codes: dict[str, NDArray[np.int32]]
    names: dict[str, dict[str, int]]
    of_camera: dict[str, CameraRows] = field(default_factory=dict)
    products: dict[bytes, NDArray[np.float32]] = field(default_factory=dict)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def select(self, where: Filter | None) -> NDArray[np.intp] | None:
        """Return the places of the rows that `where` selects; None: all places."""
        if where is None or where.empty:
            return None if self.alive is None else np.flatnonzero(self.alive)
        places, mask = None, self.alive
        timed = where.start is not None or where.end is not None
        if where.cameras is not None:  # asked for again and again, by searches for competitors
            rows = [self._camera(name).within(where) for name in sorted(where.cameras)]
            places, mask, timed = np.concatenate([_NOWHERE, *rows]), None, False
        for column, wanted, keep in (
            ("camera", where.not_cameras, False),
            ("color", where.colors, True),
            ("vehicle_type", where.vehicle_types, True),
        ):
            if wanted is not None:
                names = self.names[column]
                allowed = np.full(len(names) or 1, not keep)
                allowed[[names[one] for one in wanted if one in names]] = keep
                mask = _both(mask, allowed[_at(self.codes[column], places)])
        if timed:
            mask = _both(mask, self.start != NO_TIME)
            if where.start is not None:
                mask = _both(mask, self.end >= where.start)
            if where.end is not None:
                mask = _both(mask, self.start < where.end)
            if where.start is not None and where.end is not None and where.start >= where.end:
                mask = np.zeros(len(self.start), bool)
        if mask is None:
            return places
        return np.flatnonzero(mask) if places is None else places[mask]

    def _camera(self, name: str) -> CameraRows:
        found = self.of_camera.get(name)
        if found is None:
            mask = self.codes["camera"] == self.names["camera"].get(name, -1)
            places = np.flatnonzero(_both(self.alive, mask))
            places = places[np.argsort(self.start[places], kind="stable")]
            start, end = self.start[places], self.end[places]
            found = CameraRows(places, start, end, int((end - start).max(initial=0)))
            self.of_camera[name] = found
        return found

    def count(self, where: Filter | None = None) -> int:
        """Count the rows that `where` selects."""
        places = self.select(where)
        return len(self.vectors if places is None else places)

    def search(self, query: NDArray[np.float32], k: int, where: Filter | Sequence[Filter] | None = None) -> list[Hits]:
        """Return the k most similar rows of each of (Q, D) queries, under one filter or Q of them."""
        query = np.ascontiguousarray(query, np.float32)
        candidates: list[NDArray[np.intp]] = len(query) * [_NOWHERE]
        for one, numbers in filters_of_queries(where, len(query)).items():
            places = self.select(one)
            step = max(1, _SCORES // max(1, len(self.vectors if places is None else places)))
            for begin in range(0, len(numbers), step):
                some = numbers[begin : begin + step]
                for number, scores in zip(some, self._scores(query[some], places), strict=True):
                    candidates[number] = _candidates(query[number], scores, places, k)
        return self._nearest(query, candidates, k)

    def _scores(self, query: NDArray[np.float32], places: NDArray[np.intp] | None) -> NDArray[np.float32]:
        """Multiply the selected vectors with the queries: (Q, number of places)."""
        key = query.tobytes() if len(query) == 1 else b""
        with self.guard:
            scores = self.products.get(key)
        if scores is None and places is not None and len(places) <= _GATHERED * len(self.vectors):
            return self._gathered(query, places)
        if scores is None:
            scores = _product(query, self.vectors)
            with self.guard:
                if key:
                    self.products[key] = scores
                while len(self.products) > _KEPT:
                    del self.products[next(iter(self.products))]
        return scores if places is None else scores[:, places]

    def _gathered(self, query: NDArray[np.float32], places: NDArray[np.intp]) -> NDArray[np.float32]:
        """Multiply the vectors at `places`, copied together, with the queries: (Q, number of places)."""
        scores = np.empty((len(query), len(places)), np.float32)
        together = np.empty((_AT_ONCE, self.vectors.shape[1]), np.float32)
        for begin in range(0, len(places), _AT_ONCE):
            some = places[begin : begin + _AT_ONCE]
            vectors = np.take(self.vectors, some, axis=0, out=together[: len(some)], mode="clip")
            scores[:, begin : begin + len(some)] = _product(query, vectors)
        return scores

    def _nearest(self, query: NDArray[np.float32], candidates: list[NDArray[np.intp]], k: int) -> list[Hits]:
        """Return the k most similar of the candidates of each query, by similarities summed in float64.

        All queries together, in few calls of NumPy: after each, a thread may have to wait for the interpreter's lock.
        """
        owner = np.repeat(np.arange(len(query)), [len(places) for places in candidates])
        places = np.concatenate([_NOWHERE, *candidates])
        exact = np.empty(len(places), np.float32)
        wide = query.astype(np.float64)
        for begin in range(0, len(places), 4 * _AT_ONCE):
            some = slice(begin, begin + 4 * _AT_ONCE)
            exact[some] = (self.vectors[places[some]] * wide[owner[some]]).sum(axis=1)
        hits, end = [], 0
        for mine in candidates:
            begin, end = end, end + len(mine)
            hits.append(self._hits(mine, exact[begin:end], k))
        return hits

    def _hits(self, places: NDArray[np.intp], exact: NDArray[np.float32], k: int) -> Hits:
        if len(exact) > k:
            kept = np.flatnonzero(exact >= np.partition(exact, len(exact) - k)[len(exact) - k])
            places, exact = places[kept], exact[kept]
        ids = [self.ids[place] for place in places.tolist()]
        best = sorted(zip((-exact).tolist(), ids, range(len(ids)), strict=True))[:k]
        order = np.array([row for _, _, row in best], np.intp)
        places = places[order]
        return Hits(object_array([name for _, name, _ in best]), exact[order], self.start[places], self.end[places])


def _candidates(
    query: NDArray[np.float32], scores: NDArray[np.float32], among: NDArray[np.intp] | None, k: int
) -> NDArray[np.intp]:
    """Return the places whose similarity, within the bound on its rounding, may be among the k largest."""
    if len(scores) <= k:
        return np.arange(len(scores)) if among is None else among
    kth = np.partition(scores, len(scores) - k)[len(scores) - k]
    error = len(query) * _ROUNDING * float(np.linalg.norm(query)) * 1.01  # of a sum of D products, any order
    found = np.flatnonzero(scores >= kth - np.float32(2 * error + 2.0**-23))
    return found if among is None else among[found]


def _product(query: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Multiply (Q, D) queries with (N, D) vectors: (Q, N).

    In one call, since a thread may have to wait for the interpreter's lock after each.
    """
    if len(query) > _FEW:
        return query @ vectors.T
    return np.ascontiguousarray(np.vecdot(vectors[:, None], query).T)  # all queries while a vector is in the cache


def _at(column: NDArray[T], places: NDArray[np.intp] | None) -> NDArray[T]:
    return column if places is None else column[places]


def _both(mask: NDArray[np.bool_] | None, other: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return other if mask is None else mask & other


def _grown(old: NDArray[T], used: int, capacity: int) -> NDArray[T]:
    new = np.empty((capacity, *old.shape[1:]), old.dtype)
    new[:used] = old[:used]
    return new


class RowCache:
    """Makes snapshots: `add` and `remove` change the rows, `snapshot` is the newest state.

    Its user lets one thread at a time change it; snapshots may be searched at any time.
    """

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._clear(0)

    def _clear(self, capacity: int) -> None:
        self._places: dict[int, int] = {}  # of each number
        self._ids: list[str] = []
        self._alive = np.ones(capacity, bool)
        self._vectors = np.empty((capacity, self._dimensions), np.float32)
        self._start, self._end = np.empty(capacity, np.int64), np.empty(capacity, np.int64)
        self._codes = {column: np.empty(capacity, np.int32) for column in TEXTS}
        self._names: dict[str, dict[str, int]] = {column: {} for column in TEXTS}
        self._snapshot: Snapshot | None = None

    def __len__(self) -> int:
        return len(self._places)

    def reserve(self, count: int) -> None:
        """Make room for `count` places, exactly if the cache is empty."""
        used, capacity = len(self._ids), len(self._alive)
        if count <= capacity:
            return
        capacity = max(count, 2 * capacity) if used else count
        self._vectors = _grown(self._vectors, used, capacity)
        self._alive = _grown(self._alive, used, capacity)
        self._start, self._end = _grown(self._start, used, capacity), _grown(self._end, used, capacity)
        self._codes = {column: _grown(codes, used, capacity) for column, codes in self._codes.items()}

    def add(self, rows: Rows) -> None:
        """Insert rows, or replace those whose number is there."""
        self.remove(rows.number.tolist())
        begin = len(self._ids)
        end = begin + len(rows)
        self.reserve(end)
        self._vectors[begin:end] = rows.vectors
        self._start[begin:end], self._end[begin:end] = rows.start, rows.end
        self._alive[begin:end] = True
        for column, values in rows.texts.items():
            names = self._names[column]
            self._codes[column][begin:end] = [names.setdefault(value, len(names)) for value in values]
        self._ids.extend(rows.id)
        self._places.update(zip(rows.number.tolist(), range(begin, end), strict=True))
        self._snapshot = None

    def remove(self, numbers: Sequence[int]) -> None:
        """Remove the rows of those numbers that are there."""
        places = [place for number in numbers if (place := self._places.pop(number, None)) is not None]
        if places:
            self._alive = self._alive.copy()  # older snapshots keep theirs
            self._alive[places] = False
            self._snapshot = None

    def snapshot(self) -> Snapshot:
        """Return the rows as they are now."""
        if self._snapshot is None:
            used = len(self._ids)
            if used - len(self._places) > _DEAD * used:
                self._compact()
                used = len(self._ids)
            whole = used == len(self._places)
            self._snapshot = Snapshot(
                self._ids,
                self._vectors[:used],
                None if whole else self._alive[:used],
                self._start[:used],
                self._end[:used],
                {column: codes[:used] for column, codes in self._codes.items()},
                {column: dict(names) for column, names in self._names.items()},
            )
        return self._snapshot

    def _compact(self) -> None:
        """Drop the masked places; everything is copied, since older snapshots keep theirs."""
        places = np.fromiter(self._places.values(), np.intp, len(self._places))
        kept = Rows(
            np.fromiter(self._places, np.int64, len(self._places)),
            [self._ids[place] for place in places],
            self._start[places],
            self._end[places],
            {column: self._texts(column, places) for column in TEXTS},
            self._vectors[places],
        )
        self._clear(len(kept))
        self.add(kept)

    def _texts(self, column: str, places: NDArray[np.intp]) -> list[str]:
        names = list(self._names[column])
        return [names[code] for code in self._codes[column][places].tolist()]
