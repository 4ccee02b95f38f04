"""Delete tracklets together with all that the service keeps of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from vreid.serve.cases import CaseBook, VehicleCase
from vreid.serve.live import WatchList
from vreid.serve.service import Service


class Deleted(NamedTuple):
    """What was deleted.

    Attributes:
        tracklets: how many were in the store.
        watches: how many vehicles are no longer watched.
    """

    tracklets: int
    watches: int


def delete_tracklets(
    names: Sequence[str], service: Service, cases: CaseBook, watches: WatchList, *, uploads: bool = False
) -> Deleted:
    """Delete tracklets with their crops, and decisions, answers, links, sightings and watches of them.

    Args:
        names: ids of tracklets.
        service, cases, watches: of the store.
        uploads: also delete the watches of uploaded images that match one of them, and forget all uploaded images.
    """
    deleted = service.store.delete(names)
    return Deleted(deleted, forget_tracklets(names, service, cases, watches, uploads=uploads))


def forget_tracklets(
    names: Collection[str], service: Service, cases: CaseBook, watches: WatchList, *, uploads: bool = False
) -> int:
    """Forget what is kept of deleted tracklets; see `delete_tracklets`. Returns the number of deleted watches."""
    stopped = watches.forget(names, uploads=uploads)
    cases.forget(names)
    service.forget_images(uploads=uploads)
    return stopped


def delete_vehicle(case: VehicleCase, service: Service, cases: CaseBook, watches: WatchList) -> Deleted:
    """Delete a case with the tracklets that were confirmed in it and all that is kept of them.

    If the process ends meanwhile, the case is still there, and doing it again deletes the rest.

    Args:
        case: of the vehicle.
        service, cases, watches: of the store.

    Raises:
        HttpError: 404 the case was deleted meanwhile.
    """
    deleted = delete_tracklets(case.confirmed, service, cases, watches, uploads=True)
    cases.delete(case.number)
    return deleted
