"""Answers about links that are kept in a store, which linking obeys as it does those of a file.

An answer about a pair is a document "answers/A|B" (`vreid.store.labelling`), which the threshold of searches learns
from as well. That two tracklets show one vehicle does not say that the second is the next of the vehicle after the
first; a confirmed link is a document "trip_links/A|B" besides.
"""

from __future__ import annotations

from collections.abc import Collection

from vreid.files import parse_errors
from vreid.formats.facts import fact
from vreid.store.interface import VectorStore
from vreid.store.labelling import ANSWERS, TRIP_LINKS, answered_pairs, put_answer, splits
from vreid.trips.confirmations import Pair


def put_link_answer(vectors: VectorStore, first: str, second: str, same: bool | None) -> None:
    """Store whether `second` is the next tracklet of the vehicle of `first`, durable on return.

    A confirmed link takes the place of earlier ones from `first` or to `second`.

    Args:
        vectors: the store.
        first, second: ids, the earlier first.
        same: None: not decided, or no longer.
    """
    for key, pair in _confirmed(vectors).items():
        if pair == (first, second) or (same and (pair[0] == first or pair[1] == second)):
            vectors.delete_document(key)
    put_answer(vectors, first, second, same)
    if same:
        vectors.put_document(f"{TRIP_LINKS}{first}|{second}", {"first": first, "second": second})


def link_answers(vectors: VectorStore, known: Collection[str]) -> tuple[list[Pair], list[Pair]]:
    """Return the confirmed and the rejected pairs of a store whose tracklets are among `known`.

    Raises:
        InputError: a document is damaged.
    """
    answers = answered_pairs(vectors)
    rejected = [
        pair
        for key, same in answers.items()
        if same is False
        for pair in splits(key.removeprefix(ANSWERS))
        if pair[0] in known and pair[1] in known
    ]
    refused = {frozenset(pair) for pair in rejected}
    confirmed = [
        pair
        for pair in _confirmed(vectors).values()
        if pair[0] in known and pair[1] in known and frozenset(pair) not in refused
    ]
    return confirmed, rejected


def _confirmed(vectors: VectorStore) -> dict[str, Pair]:
    found = {}
    for key, document in vectors.documents(TRIP_LINKS).items():
        with parse_errors(key):
            found[key] = fact(document, "first", str), fact(document, "second", str)
    return found
