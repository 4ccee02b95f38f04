"""Settings of the service."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from vreid.errors import InputError
from vreid.ranges import check_settings, in_range

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Host names under which a service that listens on loopback may be addressed."""


@dataclass(frozen=True)
class ServeConfig:
    """Settings of the service.

    Attributes:
        host: address to listen on.
        port: TCP port; 0: any that is free.
        allowed_hosts: further host names in the address bar, of a reverse proxy for example; others are refused.
        proxies: addresses or networks of reverse proxies; of their requests, X-Forwarded-For names the client and
            X-Forwarded-Proto the scheme.
        require_token: tokens are needed on loopback too.
        https: the service is reached over HTTPS only (of a reverse proxy), so cookies are sent over nothing else.
        upload_bytes: largest request body.
        upload_pixels: most pixels of an uploaded image.
        upload_seconds: longest time to receive a request.
        requests_per_minute: of one user or address.
        searches_per_minute: of one user or address.
        failures_per_minute: wrong tokens of one address.
        searches_at_once: searches that run at the same time; others wait.
        busy_seconds: longest wait for a turn, after which the answer is 503.
        queries: uploaded query images that are kept in memory for filters and paging.
        query_minutes: how long.
        session_hours: length of a session of the pages.
        purpose_required: each search must say why, and the audit log keeps it.
        retention_days: tracklets that ended earlier are deleted; 0: never.
        audit_days: entries of the audit log that are older are deleted; 0: never.
        blur: way to blur plates in all images that leave the service, a name in `vreid.store.plates.BLURS`; "": none.
        webhook_hosts: hosts besides loopback that webhooks may be sent to.
        watch_seconds: pause between two looks for new tracklets of watched vehicles.
        refit_every: new decisions after which the threshold is fitted again; 0: only on request.
    """

    host: str = "127.0.0.1"
    port: int = in_range(8000, least=0, most=65_535)
    allowed_hosts: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    require_token: bool = False
    https: bool = False
    upload_bytes: int = in_range(10_000_000, least=1_000, most=1_000_000_000)
    upload_pixels: int = in_range(25_000_000, least=1_000, most=100_000_000)
    upload_seconds: float = in_range(20.0, above=0, most=600)
    requests_per_minute: int = in_range(6_000, least=1)
    searches_per_minute: int = in_range(300, least=1)
    failures_per_minute: int = in_range(10, least=1)
    searches_at_once: int = in_range(2, least=1, most=256)
    busy_seconds: float = in_range(10.0, above=0, most=600)
    queries: int = in_range(200, least=1, most=100_000)
    query_minutes: float = in_range(60.0, above=0)
    session_hours: float = in_range(12.0, above=0)
    purpose_required: bool = False
    retention_days: float = in_range(0.0, least=0)
    audit_days: float = in_range(365.0, least=0)
    blur: str = ""
    webhook_hosts: tuple[str, ...] = ()
    watch_seconds: float = in_range(5.0, above=0)
    refit_every: int = in_range(20, least=0)

    def __post_init__(self) -> None:
        check_settings(self, "serve: ")
        if self.host in ("0.0.0.0", "::", "") and not self.allowed_hosts:
            raise InputError(
                f"--host {self.host} listens on all addresses; say by which name it is reached with --allow-host NAME."
            )

        for proxy in self.proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError:
                raise InputError(
                    f"--proxy {proxy}: is no IP address or network; give that of the reverse proxy, 127.0.0.1 say."
                ) from None

    @property
    def tokens_needed(self) -> bool:
        """Whether requests need a token: whoever is not on this machine does."""
        return self.require_token or not all(map(is_loopback, (self.host, *self.allowed_hosts)))

    @property
    def host_names(self) -> frozenset[str]:
        """Host names that a request may be addressed to."""
        return frozenset(name.lower() for name in (*LOOPBACK, self.host, *self.allowed_hosts) if name)


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own.

    Example:
        >>> is_loopback("localhost"), is_loopback("127.0.0.53"), is_loopback("0.0.0.0"), is_loopback("[::1]")
        (True, True, False, True)
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
