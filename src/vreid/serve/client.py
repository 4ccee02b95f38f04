"""`ServiceClient`: the HTTP API of `vreid serve` from Python, with the standard library alone."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from vreid.errors import InputError
from vreid.files import reading

_TYPES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png", b"RIFF": "image/webp"}
_API = "/api/v1"


@dataclass(frozen=True)
class FoundTracklet:
    """A hit of a search, as the service answers it; times in ISO 8601 (UTC).

    Attributes:
        tracklet, camera, start, end, distance, relative_distance, decision, color, vehicle_type: see
            `vreid.store.search.Hit`.
        crop: path of its best image, for `ServiceClient.image`.
        facts: confidences, orientation, number of boxes, ...
    """

    tracklet: str
    camera: str
    start: str | None
    end: str | None
    distance: float
    relative_distance: float | None
    decision: str
    color: str
    vehicle_type: str
    crop: str
    facts: Mapping[str, Any]


class ServiceClient:
    """A client of a running service; it may be used by one thread at a time, and as a context manager.

    Args:
        url: of the service.
        token: access token; "": none is needed on loopback.
        purpose: why searches are made, for the audit log.
        seconds: longest wait for an answer.

    Example:
        >>> from vreid.serve.client import ServiceClient
        >>> with ServiceClient("http://localhost:8000") as client:                     # doctest: +SKIP
        ...     for hit in client.search("car.jpg", top=5, camera=["north"]):
        ...         print(hit.camera, hit.start, hit.decision)
        ...     case = client.open_case("north/17")
        ...     client.decide(case, "south/4", True, other="north/17")
    """

    def __init__(
        self, url: str = "http://localhost:8000", token: str = "", *, purpose: str = "", seconds: float = 60.0
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"{url}: is no address of a service; write it as http://localhost:8000.")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self.url = url
        self._connection = kind(parts.hostname, parts.port, timeout=seconds)
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        if purpose:
            self._headers["x-purpose"] = purpose

    def __enter__(self) -> ServiceClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def search(self, query: str | Path | bytes, **options: Any) -> list[FoundTracklet]:
        """Search where else a vehicle was seen.

        Args:
            query: id of a tracklet, the path of an image file, or its contents (JPEG, PNG or WebP).
            options: of the API: top, camera, not_camera, start, end, color, type, same_camera, box, rerank, ...

        Raises:
            InputError: the service refuses, with its sentence; or it cannot be reached.
        """
        if isinstance(query, str) and not Path(query).is_file():
            answer = self.get("/search", tracklet=query, **options)
        else:
            content = query if isinstance(query, bytes) else _contents(query)
            kind = next((kind for magic, kind in _TYPES.items() if content.startswith(magic)), "image/jpeg")
            answer = json.loads(self.request("POST", "/search", content, kind, **options))
        return [FoundTracklet(**hit) for hit in answer["hits"]]

    def tracklets(self, **options: Any) -> Iterator[dict[str, Any]]:
        """Yield all tracklets that the filters select, page by page."""
        after: str | None = ""
        while after is not None:
            page = self.get("/tracklets", **({"after": after} if after else {}), **options)
            yield from page["tracklets"]
            after = page["next"]

    def cases(self, **options: Any) -> Iterator[dict[str, Any]]:
        """Yield all cases, the newest first, page by page."""
        before: int | None = None
        while True:
            page = self.get("/cases", before=before, **options)
            yield from page["cases"]
            if (before := page["next"]) is None:
                return

    def image(self, path: str) -> bytes:
        """Return the JPEG at a path of an answer, `FoundTracklet.crop` for example."""
        return self.request("GET", path.removeprefix(_API))

    def open_case(self, tracklet: str = "", *, name: str = "", note: str = "") -> int:
        """Open a case and return its number."""
        return int(self.post("/cases", {"tracklet": tracklet, "name": name, "note": note})["number"])

    def decide(self, case: int, tracklet: str, same: bool | None, *, other: str = "") -> dict[str, Any]:
        """Confirm (True) or reject (False) a tracklet of a case; return the case."""
        return self.post(f"/cases/{case}/decisions", {"tracklet": tracklet, "same": same, "other": other})

    def export(self, case: int, form: str = "json") -> bytes:
        """Return a case as "csv", "json", "geojson" or "html"."""
        return self.request("GET", f"/cases/{case}/export/{form}")

    def watch(self, tracklet: str, *, name: str = "", webhook: str = "") -> int:
        """Watch a vehicle and return the number of the watch."""
        return int(self.post("/watches", {"tracklet": tracklet, "name": name, "webhook": webhook})["number"])

    def get(self, path: str, **options: Any) -> dict[str, Any]:
        """Return the answer of any path of the API, "/cameras" for example; `options` are its parameters."""
        answer: dict[str, Any] = json.loads(self.request("GET", path, **options))
        return answer

    def post(self, path: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """Post JSON to any path of the API and return the answer."""
        answer: dict[str, Any] = json.loads(
            self.request("POST", path, json.dumps(content).encode(), "application/json")
        )
        return answer

    def request(self, method: str, path: str, body: bytes | None = None, kind: str = "", **options: Any) -> bytes:
        """Make a request and return the body of its answer.

        Raises:
            InputError: the service refuses, with its sentence; or it cannot be reached.
        """
        given = {name: _text(value) for name, value in options.items() if value is not None}
        target = _API + quote(path, safe="/%") + (f"?{urlencode(given, doseq=True)}" if given else "")
        headers = self._headers | ({"content-type": kind} if kind else {})
        try:
            answer = self._answer(method, target, body, headers)
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise InputError(f"{self.url}: cannot be reached ({error}); check the address and the service.") from error
        if answer.status >= 400:
            raise InputError(f"{self.url}: {_sentence(content, answer.status)}")
        return content

    def _answer(
        self, method: str, target: str, body: bytes | None, headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        reused = self._connection.sock is not None
        try:
            self._connection.request(method, target, body, headers)
            return self._connection.getresponse()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            self._connection.close()
            if not reused or method != "GET":
                raise
        self._connection.request(method, target, body, headers)  # the idle connection had been closed
        return self._connection.getresponse()


def _contents(path: str | Path) -> bytes:
    with reading(path) as checked:
        return checked.read_bytes()


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _sentence(content: bytes, status: int) -> str:
    try:
        return str(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError):
        return f"answered with the status {status}."
