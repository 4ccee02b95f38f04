"""Errors of requests: a status and one sentence for the client."""

from __future__ import annotations

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
