"""`TripLinking`: the trips of a store, linked beside the requests."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from vreid.errors import InputError
from vreid.serve.http_errors import HttpError
from vreid.serve.monitoring import Monitoring
from vreid.serve.service import Service
from vreid.serve.task_thread import TaskThread
from vreid.store.labelling import ANSWERS, TRIP_LINKS
from vreid.trips.counts import TravelTimes, travel_times
from vreid.trips.link_answers import link_answers, put_link_answer
from vreid.trips.solve import Trips, link_trips
from vreid.trips.tables import table_of_batches
from vreid.trips.trip_page import trip_values

LOG = logging.getLogger("vreid.serve")


@dataclass(frozen=True, eq=False)
class LinkedStore:
    """Trips of a store as it was.

    Attributes:
        trips: of all its tracklets.
        travel_times: from each camera to the next, of all day.
        values: of the page (`vreid.trips.trip_page`); empty without matplotlib.
        time: when they were linked, UTC seconds.
        contents: what they were linked of: number of tracklets, and the answers.
    """

    trips: Trips
    travel_times: tuple[TravelTimes, ...]
    values: Mapping[str, Any]
    time: float
    contents: object


class TripLinking:
    """Links the trips of a store, beside the requests.

    Args:
        service: of the store.
        monitoring: counts failures.
    """

    def __init__(self, service: Service, monitoring: Monitoring) -> None:
        self._service, self._monitoring = service, monitoring
        self._thread = TaskThread("vreid-trips", self._run)
        self._guard = threading.Lock()
        self._forgotten = 0  # how often
        self.linked: LinkedStore | None = None
        self.error = ""

    @property
    def running(self) -> bool:
        """Whether trips are being linked."""
        return self._thread.running

    @property
    def stale(self) -> bool:
        """Whether the store has changed since its trips were linked."""
        return self.linked is not None and self.linked.contents != self._contents()

    def start(self) -> None:
        """Start to link; a run that goes on is followed by another."""
        self._thread.start(again=True)

    def wait(self, seconds: float) -> None:
        """Wait until it is done, `seconds` at most."""
        self._thread.wait(seconds)

    def forget(self) -> None:
        """Forget the trips, because tracklets were deleted; if there were any, link again."""
        with self._guard:
            had = self.linked is not None or self.running
            self._forgotten += 1
            self.linked = None
        if had:
            self.start()

    def answer(self, first: str, second: str, same: bool | None) -> None:
        """Store whether `second` is the next tracklet of the vehicle of `first`, and link again.

        Raises:
            HttpError: 404 there is no such tracklet; 422 they are one, or the first is the later.
        """
        if first == second:
            raise HttpError(422, "`first` and `second` are the same tracklet; give two.")
        one, other = (self._service.tracklet(name) for name in (first, second))
        if int(one.start[0]) > int(other.end[0]):
            raise HttpError(422, f"{first[:100]!r} is later than {second[:100]!r}; give the earlier one first.")
        put_link_answer(self._service.store.vectors, first, second, same)
        self.start()

    def _contents(self) -> object:
        vectors = self._service.store.vectors
        return vectors.count(), vectors.documents(ANSWERS), vectors.documents(TRIP_LINKS)

    def _run(self) -> None:
        forgotten = self._forgotten
        try:
            made = self._link()
            with self._guard:
                if forgotten == self._forgotten:
                    self.linked, self.error = made, ""
        except InputError as error:  # of the tracklets or the answers: users can do something about it
            self.error = str(error)
        except Exception:  # the service goes on with the old trips
            LOG.exception("linking trips")
            self.error = "internal error; its operator finds the reason in the log."
            self._monitoring.failures.labels("trips").inc()

    def _link(self) -> LinkedStore:
        vectors = self._service.store.vectors
        contents = self._contents()
        positions = {
            name: (one.latitude, one.longitude)
            for name, one in self._service.cameras().items()
            if one.latitude is not None and one.longitude is not None
        }
        table = table_of_batches(vectors.scan(), positions)
        confirmed, rejected = link_answers(vectors, table.row_of)
        trips = link_trips(table, confirmed=confirmed, rejected=rejected)
        values = trip_values(trips) if find_spec("matplotlib") else {}
        whole_day = tuple(one for one in travel_times(trips) if one.hour is None)
        return LinkedStore(trips, whole_day, values, time.time(), contents)
