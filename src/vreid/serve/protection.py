"""ASGI middleware around everything: hosts, cross-site requests, limits of rate, size and time, headers, errors."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

from h11 import LocalProtocolError
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vreid.serve.http_errors import HttpError
from vreid.serve.monitoring import Monitoring
from vreid.serve.settings import ServeConfig

LOG = logging.getLogger("vreid.serve")
SAFE = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing."""
API = "/api/"
"""Prefix of the paths of the API."""
POLICY = (
    "default-src 'none'; img-src 'self' blob: data:; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Content security policy: nothing inline, nothing from elsewhere."""
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
"""Headers of every answer."""

_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
_LONGEST_URL = 16_384
_GONE = 499  # status in the metrics, as nginx counts it: the client went away, or broke HTTP, before it was answered


class RateLimits:
    """Counts events of users and addresses in memory, a minute at a time."""

    def __init__(self) -> None:
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    def count(self, kind: str, whose: str, most: int) -> None:
        """Count one event.

        Raises:
            HttpError: 429 there were `most` in this minute.
        """
        if not self._limiter.hit(RateLimitItemPerMinute(most), kind, whose):
            raise HttpError(429, f"more than {most:,} {kind} in a minute; wait a minute.", retry_after=60)

    def check(self, kind: str, whose: str, most: int) -> None:
        """Raise as `count` does, but count nothing."""
        if not self._limiter.test(RateLimitItemPerMinute(most), kind, whose):
            raise HttpError(429, f"more than {most:,} {kind} in a minute; wait a minute.", retry_after=60)


class Protection:
    """The middleware.

    Args:
        app: what is protected.
        config: the settings.
        rates: counts of requests.
        monitoring: counts of requests and their times.
    """

    def __init__(self, app: ASGIApp, config: ServeConfig, rates: RateLimits, monitoring: Monitoring) -> None:
        self._app, self._config, self._rates, self._monitoring = app, config, rates, monitoring
        self._hosts = config.host_names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                present = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *_missing(present)]
            try:
                await send(message)
            except LocalProtocolError:  # Uvicorn has refused the rest of the request already and closes the connection
                raise ClientDisconnect from None

        try:
            try:
                request = Request(scope)
                self._check(request)
                await self._app(scope, self._bounded(request, receive), counted)
            except HttpError as error:
                if status:
                    raise
                await refusal(error, scope["path"])(scope, receive, counted)
            except ClientDisconnect:
                raise
            except Exception as error:
                LOG.exception("%s %s", scope["method"], scope["path"])
                if status:
                    raise
                sentence = f"internal error ({type(error).__name__}); its operator finds the reason in the log."
                await refusal(HttpError(500, sentence), scope["path"])(scope, receive, counted)
        except ClientDisconnect:
            status = _GONE
        finally:
            route = getattr(scope.get("route"), "path", "") or "other"
            method = scope["method"] if scope["method"] in (*SAFE, "POST", "PUT", "PATCH", "DELETE") else "other"
            self._monitoring.requests.labels(route, method, str(status)).inc()
            self._monitoring.seconds.labels(route).observe(time.perf_counter() - began)

    def _check(self, request: Request) -> None:
        host = _host_name(request.headers.get("host", ""))
        if host not in self._hosts:
            raise HttpError(
                421, f"this service is not reached as {host[:100]!r}; its operator allows it with --allow-host."
            )
        if not self._config.tokens_needed and any(name in request.headers for name in _FORWARDED):
            raise HttpError(
                403, "this request came through a proxy, but no token is needed; start with --require-token."
            )
        if len(request.scope.get("raw_path") or b"") + len(request.scope["query_string"]) > _LONGEST_URL:
            raise HttpError(414, f"the address exceeds {_LONGEST_URL:,} bytes; shorten it.")
        declared = request.headers.get("content-length", "0")
        if not declared.isdigit() or int(declared[:20]) > self._config.upload_bytes:
            raise too_long(self._config.upload_bytes)
        if request.method not in SAFE:
            _check_origin(request)
        self._rates.count("requests", address_of(request), self._config.requests_per_minute)

    def _bounded(self, request: Request, receive: Receive) -> Receive:
        """Return a `receive` that refuses a body that is too large or too slow."""
        most, left = self._config.upload_bytes, self._config.upload_bytes
        deadline = time.monotonic() + self._config.upload_seconds
        finished = False

        async def bounded() -> Message:
            nonlocal left, finished
            if finished:
                return await receive()  # waits for the client to go away
            try:
                message = await asyncio.wait_for(receive(), max(deadline - time.monotonic(), 0))
            except TimeoutError:
                raise HttpError(408, "the request took too long to arrive; send it again.") from None
            if message["type"] == "http.request":
                left -= len(message.get("body", b""))
                finished = not message.get("more_body", False)
            if left < 0:
                raise too_long(most)
            return message

        return bounded


def refusal(error: HttpError, path: str) -> Response:
    """Return the answer to a request that is refused: JSON for the API, plain text elsewhere."""
    headers = {"cache-control": "no-store"}
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    if path.startswith(API):
        content = json.dumps({"error": str(error)})
        return Response(content, error.status, headers, media_type="application/json")
    return Response(str(error), error.status, headers, media_type="text/plain")


def too_long(most: int) -> HttpError:
    """Return the error for a body of more than `most` bytes."""
    return HttpError(413, f"the request exceeds {most:,} bytes; send a smaller image.")


def address_of(request: Request) -> str:
    """Address of the client; behind a proxy of `ServeConfig.proxies` that which it names."""
    return request.client.host if request.client else "unknown"


def _missing(present: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    known = set(present)
    extra = {**HEADERS, "cache-control": "no-store"}
    return [(name.encode(), value.encode()) for name, value in extra.items() if name.encode() not in known]


def _host_name(header: str) -> str:
    """Host name in a Host header, without its port."""
    name = header.lower().strip()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0]


def _check_origin(request: Request) -> None:
    """Raise if a browser makes the request for a page of another origin."""
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site", "none")
    foreign = origin is not None and urlsplit(origin).netloc.lower() != request.headers.get("host", "").lower()
    if foreign or site not in ("same-origin", "none"):
        raise HttpError(403, "this request comes from a page of another site; use the pages of this service.")
