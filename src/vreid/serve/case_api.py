"""The HTTP API, version 1: cases, decisions, labels, the threshold and the watch-list."""

from __future__ import annotations

import base64
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from vreid.serve.answers import API, case_answer, threshold_answer, watch_answer
from vreid.serve.api import ERRORS, PICTURE, Before, Limit, send_picture
from vreid.serve.auth import User
from vreid.serve.case_export import TYPES, Format, export_case, labels_csv
from vreid.serve.cases import VehicleCase
from vreid.serve.deletion import Deleted, delete_vehicle
from vreid.serve.dependencies import Admin, Reviewer, Viewer, site_of
from vreid.serve.http_errors import HttpError
from vreid.serve.live import Watch
from vreid.serve.schemas import (
    CaseAnswer,
    CaseChange,
    CasesAnswer,
    DeletedAnswer,
    FitAnswer,
    NewCase,
    NewDecision,
    NewWatch,
    WatchAnswer,
    WatchesAnswer,
)
from vreid.serve.service import PAGE
from vreid.store.labelling import answered_pairs

router = APIRouter(prefix=API, responses=ERRORS)
Number = Annotated[int, Path(ge=1, le=2**31, examples=[17])]


@router.get("/cases", tags=["cases"])
def cases(request: Request, user: Viewer, before: Before = None, limit: Limit = PAGE) -> CasesAnswer:
    """List the cases, the newest first."""
    found, following = site_of(request).cases.page(before, limit)
    return CasesAnswer(cases=[case_answer(case) for case in found], next=following)


@router.post("/cases", tags=["cases"], status_code=201)
def open_case(request: Request, user: Reviewer, new: NewCase) -> CaseAnswer:
    """Open a case."""
    site = site_of(request)
    if new.tracklet:
        site.service.tracklet(new.tracklet)
    case = site.cases.open(user.name, name=new.name, note=new.note, tracklet=new.tracklet)
    site.log(request, user, "open case", {"case": case.number, "tracklet": new.tracklet})
    return case_answer(case)


@router.get("/cases/{number}", tags=["cases"])
def case(request: Request, user: Viewer, number: Number) -> CaseAnswer:
    """Give a case."""
    return case_answer(site_of(request).cases.get(number))


@router.patch("/cases/{number}", tags=["cases"])
def change_case(request: Request, user: Reviewer, number: Number, change: CaseChange) -> CaseAnswer:
    """Change the name or the note of a case."""
    return case_answer(site_of(request).cases.change(number, name=change.name, note=change.note))


@router.delete("/cases/{number}", tags=["cases"])
def delete_case(request: Request, user: Reviewer, number: Number) -> DeletedAnswer:
    """Delete a case; labels of pairs stay."""
    site = site_of(request)
    site.cases.delete(number)
    site.log(request, user, "delete case", {"case": number})
    return DeletedAnswer(deleted=1)


@router.delete("/cases/{number}/tracklets", tags=["cases"])
def delete_case_tracklets(request: Request, user: Admin, number: Number) -> DeletedAnswer:
    """Delete a vehicle: the confirmed tracklets of a case with their images, watches and decisions, and the case."""
    return DeletedAnswer(deleted=remove_vehicle(request, user, number).tracklets)


def remove_vehicle(request: Request, user: User, number: int) -> Deleted:
    """Delete a vehicle, forget uploaded images and linked trips, and write the audit log.

    Raises:
        HttpError: 404 there is no such case.
    """
    site = site_of(request)
    case = site.cases.get(number)
    site.log(request, user, "delete vehicle", {"case": number, "tracklets": case.confirmed})
    deleted = delete_vehicle(case, site.service, site.cases, site.watches)
    site.trips.forget()
    return deleted


@router.post("/cases/{number}/decisions", tags=["cases"], status_code=201)
def add_decision(request: Request, user: Reviewer, number: Number, new: NewDecision) -> CaseAnswer:
    """Confirm or reject a tracklet. The decision is on the disk when this answers."""
    return case_answer(decide(request, user, number, new))


def decide(request: Request, user: User, number: int | None, new: NewDecision) -> VehicleCase:
    """Store a decision, of a new case if `number` is None, and write the audit log.

    Raises:
        HttpError: 404 there is no such case or tracklet; 422 see `CaseBook.decide`.
    """
    site = site_of(request)
    for name in (new.tracklet, new.other):
        if name:
            site.service.tracklet(name)
    if number is None:
        number = site.cases.open(user.name, tracklet=new.other).number
    case = site.cases.decide(number, new.tracklet, new.same, user.name, other=new.other)
    word = {True: "confirm", False: "reject", None: "leave open"}[new.same]
    site.log(request, user, word, {"case": number, "tracklet": new.tracklet, "other": new.other})
    return case


@router.get(
    "/cases/{number}/export/{form}",
    tags=["cases"],
    response_class=Response,
    responses={200: {"content": {kind.partition(";")[0]: {} for kind in TYPES.values()}}},
)
def export(request: Request, user: Reviewer, number: Number, form: Format) -> Response:
    """Export a case as CSV, JSON, GeoJSON or a page that holds its images."""
    site = site_of(request)
    content = export_case(site.service, site.cases.get(number), form)
    site.log(request, user, "export", {"case": number, "format": form})
    headers = {"content-disposition": f'attachment; filename="case-{number}.{form}"'}
    return Response(content, headers=headers, media_type=TYPES[form])


@router.get("/labels.csv", tags=["cases"], response_class=Response, responses={200: {"content": {"text/csv": {}}}})
def labels(request: Request, user: Reviewer) -> Response:
    """Export all decided pairs as `vreid label --answers` takes them."""
    site = site_of(request)
    site.log(request, user, "export", {"format": "labels"})
    headers = {"content-disposition": 'attachment; filename="labels.csv"'}
    return Response(labels_csv(site.service), headers=headers, media_type=TYPES["csv"])


@router.get("/threshold", tags=["search"])
def threshold(request: Request, user: Viewer) -> FitAnswer:
    """Say what MATCH and NO MATCH mean, and whether that is being fitted again."""
    site = site_of(request)
    store = site.service.store
    found, answers = threshold_answer(store.threshold()), len(answered_pairs(store.vectors))
    return FitAnswer(threshold=found, answers=answers, fitting=site.refit.running)


@router.post("/threshold", tags=["search"], status_code=202)
def fit_threshold(request: Request, user: Admin) -> FitAnswer:
    """Start to fit the threshold to the store and the decided pairs; ask with GET whether it is done."""
    site = site_of(request)
    site.refit.start()
    site.log(request, user, "fit threshold", {})
    return threshold(request, user)


@router.get("/watches", tags=["watch-list"])
def watches(request: Request, user: Viewer, before: Before = None, limit: Limit = PAGE) -> WatchesAnswer:
    """List the watched vehicles with their new sightings, the newest watch first."""
    found, following = site_of(request).watches.page(before, limit)
    return WatchesAnswer(watches=[watch_answer(one) for one in found], next=following)


@router.post("/watches", tags=["watch-list"], status_code=201)
def add_watch(request: Request, user: Reviewer, new: NewWatch) -> WatchAnswer:
    """Watch a vehicle: new sightings above MATCH are listed and sent to the webhook."""
    return watch_answer(watch(request, user, new))


def watch(request: Request, user: User, new: NewWatch) -> Watch:
    """Watch a vehicle and write the audit log.

    Raises:
        HttpError: 403 a webhook without the role admin; 404 there is no such tracklet or upload; 422 see
            `WatchList.add`.
    """
    site = site_of(request)
    if bool(new.tracklet) == bool(new.upload):
        raise HttpError(422, "give either `tracklet` or `upload`.")
    if new.webhook and not user.may("admin"):
        raise HttpError(403, f"webhooks need the role admin, and {user.name} is {user.role}; ask the operator.")
    kept = site.service.cached_query(new.upload, user.name) if new.upload else None
    query = kept.query if kept else site.service.query_of_tracklet(new.tracklet)
    jpeg = kept.jpeg if kept else b""
    made = site.watches.add(query, user.name, name=new.name, webhook=new.webhook, jpeg=jpeg)
    site.log(request, user, "watch", {"watch": made.number, "tracklet": new.tracklet, "webhook": new.webhook})
    return made


@router.get("/watches/{number}", tags=["watch-list"])
def one_watch(request: Request, user: Viewer, number: Number) -> WatchAnswer:
    """Give a watched vehicle with its new sightings."""
    return watch_answer(site_of(request).watches.get(number))


@router.get("/watches/{number}/image", tags=["watch-list"], response_class=Response, responses=PICTURE)
def watch_image(request: Request, user: Viewer, number: Number) -> Response:
    """Give the image that a watched vehicle was uploaded with."""
    site = site_of(request)
    one = site.watches.get(number)
    if not one.image:
        raise HttpError(404, f"watch {number} is of a tracklet; its image is a crop.")
    return send_picture(request, site.service.picture(base64.b64decode(one.image)))


@router.delete("/watches/{number}", tags=["watch-list"])
def delete_watch(request: Request, user: Reviewer, number: Number) -> DeletedAnswer:
    """Stop watching a vehicle and forget its sightings."""
    site = site_of(request)
    site.watches.delete(number)
    site.log(request, user, "delete watch", {"watch": number})
    return DeletedAnswer(deleted=1)
