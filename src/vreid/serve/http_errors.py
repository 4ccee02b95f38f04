"""Errors of requests: a status and one sentence for the client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vreid.errors import InputError


class HttpError(InputError):
    """A request that cannot be answered; the message is one sentence for the client.

    Attributes:
        status: of HTTP, 400 to 599.
        retry_after: seconds after which it may be tried again, None: no use.
    """

    def __init__(self, status: int, sentence: str, retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.retry_after = retry_after


def field_error(errors: Sequence[Mapping[str, Any]], *, skip: int = 0) -> HttpError:
    """Return the error 422 for the first of pydantic's errors; `skip` parts of its place are no names of fields."""
    found = errors[0]
    name = ".".join(str(part) for part in found["loc"][skip:]) or "the request"
    return HttpError(422, f"`{name[:60]}`: {str(found['msg'])[:200]}.")
