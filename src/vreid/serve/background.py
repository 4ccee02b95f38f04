"""Tasks beside the requests: the watch-list, the retention, and fitting the threshold to new decisions."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from vreid.serve.audit import AuditLog
from vreid.serve.cases import CaseBook
from vreid.serve.deletion import forget_tracklets
from vreid.serve.live import WatchList
from vreid.serve.monitoring import Monitoring
from vreid.serve.service import Service
from vreid.serve.task_thread import TaskThread
from vreid.store.interface import Filter
from vreid.store.maintenance import prune
from vreid.store.site_calibration import calibrate_site

LOG = logging.getLogger("vreid.serve")
_DAY = 86_400.0
_HOUR = 3600.0


class Refit:
    """Fits the threshold of a store to new decisions, beside the requests.

    Args:
        service: of the store.
        monitoring: counts failures.
    """

    def __init__(self, service: Service, monitoring: Monitoring) -> None:
        self._service, self._monitoring = service, monitoring
        self._thread = TaskThread("vreid-refit", self._fit)
        self._guard = threading.Lock()
        self._answers = 0  # since the last fit

    @property
    def running(self) -> bool:
        """Whether the threshold is being fitted."""
        return self._thread.running

    def count_answer(self) -> None:
        """Count a new answer; start when there are `ServeConfig.refit_every` of them."""
        with self._guard:
            self._answers += 1
            due = 0 < self._service.config.refit_every <= self._answers
        if due:
            self.start()

    def start(self) -> None:
        """Start to fit, unless it is being done already."""
        with self._guard:
            if self._thread.start():
                self._answers = 0

    def wait(self, seconds: float) -> None:
        """Wait until it is done, `seconds` at most."""
        self._thread.wait(seconds)

    def _fit(self) -> None:
        try:
            calibrate_site(self._service.store.vectors)
        except Exception:  # the service goes on with the old threshold
            LOG.exception("fitting the threshold")
            self._monitoring.failures.labels("refit").inc()


class Background:
    """Looks for watched vehicles and deletes what is too old, in a thread.

    Args:
        service, cases, watches, audit, monitoring: of the running service.
    """

    def __init__(
        self, service: Service, cases: CaseBook, watches: WatchList, audit: AuditLog, monitoring: Monitoring
    ) -> None:
        self._service, self._cases, self._watches = service, cases, watches
        self._audit, self._monitoring = audit, monitoring
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vreid-background", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and wait for it."""
        self._stopped.set()
        self._thread.join(30)

    def _run(self) -> None:
        kept_at = -_HOUR
        while not self._stopped.is_set():
            if time.monotonic() - kept_at >= _HOUR:
                kept_at = time.monotonic()
                self._try("retention", self.enforce_retention)
            self._try("watch", self._look)
            self._service.queries.forget_old()
            self._stopped.wait(self._service.config.watch_seconds)

    def _try(self, task: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:  # the next round tries again
            LOG.exception("task %s", task)
            self._monitoring.failures.labels(task).inc()

    def _look(self) -> None:
        found = self._watches.look()
        self._monitoring.notices.labels("found").inc(found)

    def enforce_retention(self) -> None:
        """Delete tracklets, watches and entries of the audit log that are older than the settings allow."""
        config, now = self._service.config, time.time()
        if config.audit_days:
            self._audit.delete_before(now - config.audit_days * _DAY)
        if config.retention_days:
            seconds = config.retention_days * _DAY
            vectors = self._service.store.vectors
            limit = round(1000 * (now - seconds))
            old = [
                str(name)
                for batch in vectors.scan(Filter(end=limit))
                for name, end in zip(batch.id, batch.end, strict=True)
                if end < limit
            ]
            pruned = prune(vectors, seconds, now=now)
            forget_tracklets(old, self._service, self._cases, self._watches)
            self._watches.delete_before(now - seconds)
            self._monitoring.deleted.inc(pruned.tracklets)
            if pruned.tracklets:
                what = {"tracklets": pruned.tracklets, "older_than_days": config.retention_days}
                self._audit.append("retention", "", "delete", what)
