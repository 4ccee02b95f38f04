"""Notices to a URL: to loopback and allow-listed hosts only, without redirects, with short timeouts."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from vreid import __version__
from vreid.serve.http_errors import HttpError
from vreid.serve.settings import is_loopback

SECONDS = 5.0
"""Longest wait for the receiver."""
_LONGEST = 2000


def check_webhook(url: str, hosts: Sequence[str]) -> None:
    """Raise unless notices may be sent to `url`.

    Args:
        url: of the receiver.
        hosts: allowed besides loopback.

    Raises:
        HttpError: 422.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    plain = host and len(url) <= _LONGEST and url.isascii() and url.isprintable() and " " not in url
    if not plain or parts.scheme not in ("http", "https") or parts.username is not None:
        raise HttpError(422, f"the webhook {url[:80]!r} is no URL; write it as https://HOST/PATH.")
    if not is_loopback(host) and host not in {name.lower() for name in hosts}:
        raise HttpError(
            422, f"webhooks may not be sent to {host[:80]!r}; the operator allows a host with --webhook-host."
        )


def send_notice(url: str, notice: Mapping[str, Any], hosts: Sequence[str], *, seconds: float = SECONDS) -> bool:
    """Send a notice as JSON; return whether the receiver answered with a status of 200 to 299.

    Proxies of the environment are not used, and a redirect is an error.

    Raises:
        HttpError: 422 notices may no longer be sent there.
    """
    check_webhook(url, hosts)
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=seconds)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {"content-type": "application/json", "user-agent": f"vreid/{__version__}"}
    try:
        connection.request("POST", target, json.dumps(notice), headers)
        return 200 <= connection.getresponse().status < 300
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
