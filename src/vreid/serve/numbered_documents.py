"""Documents of a store that are numbered from 1, such as cases and watches: "PREFIX/NUMBER"."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from vreid.formats.facts import typed
from vreid.serve.http_errors import HttpError
from vreid.store.interface import VectorStore


class _Numbered(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def number(self) -> int: ...


T = TypeVar("T", bound=_Numbered)


class NumberedDocuments(Generic[T]):
    """The documents of one kind in a store; its user lets one thread at a time change them.

    Args:
        vectors: the store.
        prefix: of their keys.
        kind: dataclass with a field `number`.
        noun: for messages.
    """

    def __init__(self, vectors: VectorStore, prefix: str, kind: type[T], noun: str) -> None:
        self._vectors, self._prefix, self._kind, self._noun = vectors, prefix, kind, noun

    def all(self) -> list[T]:
        """All of them, the newest first."""
        found = [typed(self._kind, value, key) for key, value in self._vectors.documents(self._prefix).items()]
        return sorted(found, key=lambda one: -one.number)

    def page(self, before: int | None, limit: int) -> tuple[list[T], int | None]:
        """Return the newest `limit` before a number, and the `before` of the next page (None: this is the last)."""
        found = [one for one in self.all() if before is None or one.number < before]
        return found[:limit], found[limit - 1].number if len(found) > limit else None

    def get(self, number: int) -> T:
        """Return one.

        Raises:
            HttpError: 404 there is none of this number.
        """
        found = self._vectors.get_document(f"{self._prefix}{number}")
        if found is None:
            raise HttpError(404, f"there is no {self._noun} {number}.")
        return typed(self._kind, found, f"{self._prefix}{number}")

    def put(self, one: T) -> None:
        """Insert or replace one, durable on return."""
        self._vectors.put_document(f"{self._prefix}{one.number}", asdict(one))

    def delete(self, number: int) -> None:
        """Delete one.

        Raises:
            HttpError: 404 there is none of this number.
        """
        if not self._vectors.delete_document(f"{self._prefix}{number}"):
            raise HttpError(404, f"there is no {self._noun} {number}.")
