"""Answers of people about pairs of tracklets: confirmed links and rejected ones, which linking obeys.

Shapes: N tracklets, E links.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vreid.errors import InputError
from vreid.files import read_lines_bounded
from vreid.trips.candidate_links import CandidateLinks
from vreid.trips.tables import TimedTracklets

Pair = tuple[str, str]
"""Ids of two tracklets."""

CERTAIN = 50.0
"""Log-odds of a confirmed link."""
COLUMNS = ("first", "second", "same")
"""Columns of a file of answers; `same` is yes or no."""
_WORDS = {"yes": True, "1": True, "true": True, "same": True, "no": False, "0": False, "false": False}
_WORDS["different"] = False


@dataclass(frozen=True, eq=False)
class Confirmations:
    """Pairs of rows of one table.

    Attributes:
        confirmed: (K, 2) rows, the earlier first; the second is the next tracklet of the vehicle after the first.
        rejected: (R, 2) rows of different vehicles.
    """

    confirmed: NDArray[np.int64]
    rejected: NDArray[np.int64]

    @classmethod
    def of(cls, table: TimedTracklets, confirmed: Collection[Pair], rejected: Collection[Pair]) -> Confirmations:
        """Look up ids.

        Raises:
            InputError: an unknown id, or a pair that is both confirmed and rejected.
        """
        both = {frozenset(pair) for pair in confirmed} & {frozenset(pair) for pair in rejected}
        if both:
            raise InputError(f"tracklets {' and '.join(sorted(min(both, key=sorted)))} are confirmed and rejected.")
        return cls(*(_rows(table, pairs) for pairs in (confirmed, rejected)))

    def moved(self, order: NDArray[np.int64], table: TimedTracklets, overlap: float) -> Confirmations:
        """Return the same pairs as rows of `table`, which is the former table in `order`.

        Raises:
            InputError: a confirmed vehicle would be in two places at once, or have two next tracklets.
        """
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        confirmed, rejected = (np.sort(place[pairs], axis=1) for pairs in (self.confirmed, self.rejected))
        for first, second in confirmed.tolist():
            if table.start[second] < table.end[first] - overlap:
                raise InputError(
                    f"tracklets {table.id[first]} and {table.id[second]} are confirmed as one vehicle but in view at "
                    "the same time; remove the pair, or raise the overlap of views."
                )
        for side, what in ((0, "next"), (1, "previous")):
            rows, counts = np.unique(confirmed[:, side], return_counts=True)
            if (counts > 1).any():
                name = table.id[rows[np.argmax(counts > 1)]]
                raise InputError(f"tracklet {name} has two confirmed {what} tracklets; remove one of the pairs.")
        return Confirmations(np.unique(confirmed, axis=0), np.unique(rejected, axis=0))

    def within(self, rows: NDArray[np.integer]) -> Confirmations:
        """Return the pairs as places in `rows`, which ascend: -1 for an end elsewhere.

        Rejected pairs with an end elsewhere are left out.
        """
        confirmed, rejected = (
            np.where(np.isin(pairs, rows), np.searchsorted(rows, pairs), -1)
            for pairs in (self.confirmed, self.rejected)
        )
        return Confirmations(confirmed[(confirmed >= 0).any(axis=1)], rejected[(rejected >= 0).all(axis=1)])

    def applied(self, links: CandidateLinks, odds: NDArray[np.float64]) -> tuple[CandidateLinks, NDArray[np.float64]]:
        """Remove links that contradict the answers and add the confirmed ones, with log-odds CERTAIN."""
        if not len(self.confirmed) and not len(self.rejected):
            return links, odds
        span = int(max(links.second.max(initial=0), self.confirmed.max(initial=0), self.rejected.max(initial=0))) + 1
        key = links.first.astype(np.int64) * span + links.second
        wrong = np.isin(key, self.rejected[:, 0] * span + self.rejected[:, 1])
        wrong |= np.isin(links.first, self.confirmed[:, 0]) | np.isin(links.second, self.confirmed[:, 1])
        made = self.confirmed[(self.confirmed >= 0).all(axis=1)]
        first, second = (made[:, side].astype(np.int32) for side in (0, 1))
        first, second = np.append(links.first[~wrong], first), np.append(links.second[~wrong], second)
        score = np.append(links.score[~wrong], np.zeros(len(made), dtype=np.float32))
        odds = np.append(odds[~wrong], np.full(len(made), CERTAIN))
        order = np.lexsort((second, first))
        return CandidateLinks(first[order], second[order], score[order]), odds[order]


def _rows(table: TimedTracklets, pairs: Collection[Pair]) -> NDArray[np.int64]:
    rows = []
    for pair in pairs:
        for name in pair:
            if name not in table.row_of:
                raise InputError(f"confirmed pairs: there is no tracklet {name!r}; use the ids of trips.csv.")
        if pair[0] == pair[1]:
            raise InputError(f"confirmed pairs: {pair[0]!r} is paired with itself; give two tracklets.")
        rows.append([table.row_of[pair[0]], table.row_of[pair[1]]])
    return np.array(rows, dtype=np.int64).reshape(-1, 2)


def read_confirmations(path: Path | str) -> tuple[list[Pair], list[Pair]]:
    """Read a CSV with the columns first, second, same (yes or no); return the confirmed and the rejected pairs.

    Raises:
        InputError: the file cannot be read, a column is absent, or an answer is neither yes nor no.
    """
    text = read_lines_bounded(path).decode("utf-8-sig", "replace")
    rows = csv.DictReader(io.StringIO(text))
    absent = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
    if absent:
        raise InputError(f"{path}: has no column {absent[0]!r}; give the columns {', '.join(COLUMNS)}.")
    confirmed: list[Pair] = []
    rejected: list[Pair] = []
    for number, row in enumerate(rows, start=2):
        first, second, word = ((row[name] or "").strip() for name in COLUMNS)
        answer = _WORDS.get(word.lower())
        if not first or not second or answer is None:
            raise InputError(f"{path}, line {number}: give two tracklets, and yes or no in the column 'same'.")
        (confirmed if answer else rejected).append((first, second))
    return confirmed, rejected
