"""Metrics of the service in the text format of Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
"""Content type of `Monitoring.text`."""
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)


class Monitoring:
    """Counts requests, their times, searches by decision and what background tasks do.

    Attributes:
        requests: by route, method and status.
        seconds: of requests, by route.
        hits: of searches, by decision.
        searches: by kind of query.
        tracklets: of the store.
        deleted: tracklets deleted by the retention.
        notices: of the watch-list, by outcome.
        failures: of background tasks, by task.
    """

    def __init__(self) -> None:
        self._registry = one = CollectorRegistry()
        self.requests = Counter("vreid_requests", "Requests.", ["route", "method", "status"], registry=one)
        self.seconds = Histogram(
            "vreid_request_seconds", "Time of requests.", ["route"], buckets=_SECONDS, registry=one
        )
        self.searches = Counter("vreid_searches", "Searches.", ["query"], registry=one)
        self.hits = Counter("vreid_hits", "Hits of searches.", ["decision"], registry=one)
        self.tracklets = Gauge("vreid_tracklets", "Tracklets of the store.", registry=one)
        self.deleted = Counter("vreid_retention_deleted", "Tracklets deleted by the retention.", registry=one)
        self.notices = Counter("vreid_watch_notices", "Notices of the watch-list.", ["outcome"], registry=one)
        self.failures = Counter("vreid_task_failures", "Failures of background tasks.", ["task"], registry=one)

    def text(self) -> bytes:
        """Return all metrics."""
        return generate_latest(self._registry)
