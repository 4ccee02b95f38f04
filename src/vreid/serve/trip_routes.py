"""The HTTP API and the page of trips."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse

from vreid.serve.answers import API, crop_path
from vreid.serve.api import ERRORS
from vreid.serve.auth import User
from vreid.serve.dependencies import (
    FORM_TOKEN,
    SESSION,
    Reviewer,
    Viewer,
    check_form_token,
    checked_fields,
    read_form,
    site_of,
    user_with,
)
from vreid.serve.http_errors import HttpError
from vreid.serve.pages import page, set_session
from vreid.serve.protection import POLICY
from vreid.serve.schemas import Answer, Time, TrackletId
from vreid.store.search import iso_time
from vreid.trips.counts import coverage, origin_destination, route_shares, travel_times
from vreid.trips.solve import Trips
from vreid.trips.trip_page import doubtful_links, trip_page
from vreid.trips.trip_tables import TRIP_COLUMNS, trip_rows

router = APIRouter(prefix=API, responses=ERRORS)
pages = APIRouter(include_in_schema=False)
_POLICY = POLICY.replace("script-src 'self'; style-src 'self'", "style-src 'self' 'unsafe-inline'")  # of figures
_MOST_ROUTES = 1000


class ODAnswer(Answer):
    """Trips from one camera to another, as columns of od.csv."""

    origin: str
    destination: str
    count: int = Field(description="Trips as linked.")
    corrected: float = Field(description="Expected number of trips.")
    low: float = Field(description="Lower end of the 95 % interval.")
    high: float


class TravelTimeAnswer(Answer):
    """Seconds from one camera to the next."""

    origin: str
    destination: str
    hour: int | None = Field(description="Of the departure, in UTC; null: all day.")
    count: int
    mean: float
    p15: float
    median: float
    p85: float


class RouteAnswer(Answer):
    """Share of a sequence of cameras among the trips from its first camera to its last."""

    origin: str
    destination: str
    route: list[str]
    count: int
    share: float


class CoverageAnswer(Answer):
    """How well the tracklets of a camera are linked."""

    camera: str
    tracklets: int
    linked: float
    begin: float
    end: float
    probability: float | None = Field(description="Mean of its links; null: it has none.")
    offset: float = Field(description="Seconds that its clock was found to be ahead.")


class DoubtfulLinkAnswer(Answer):
    """A possible link with a probability near one half."""

    first: TrackletId
    second: TrackletId
    probability: float
    made: bool = Field(description="Whether it is part of a trip.")
    trip: int = Field(description="Trip of the second tracklet.")
    seconds: float
    crops: list[str] = Field(description="Paths of the best images of both.")


class TripsAnswer(Answer):
    """The trips of the store as they were linked last."""

    linked: Time = Field(description="When; null: not yet.")
    running: bool = Field(description="Whether they are being linked now.")
    stale: bool = Field(description="Whether the store has changed since.")
    error: str = Field(description='Why the last run failed; "" if it did not.')
    warnings: list[str] = Field(default_factory=list, description="What is wrong with the data.")
    tracklets: int = 0
    trips: int = 0
    links: int = 0
    expected_links: float = 0.0
    od: list[ODAnswer] = Field(default_factory=list)
    travel_times: list[TravelTimeAnswer] = Field(default_factory=list)
    routes: list[RouteAnswer] = Field(default_factory=list)
    coverage: list[CoverageAnswer] = Field(default_factory=list)
    doubtful: list[DoubtfulLinkAnswer] = Field(default_factory=list)


class NewLinkAnswer(Answer):
    """A decision about a link."""

    first: TrackletId
    second: TrackletId
    same: bool | None = Field(
        description="true: the second tracklet is the vehicle's next; false: it is another vehicle; null: open."
    )


@router.get("/trips", tags=["trips"])
def trips(request: Request, user: Viewer) -> TripsAnswer:
    """Give the counts, travel times, routes and doubtful links of the trips that were linked last."""
    linking = site_of(request).trips
    found = linking.linked
    state: dict[str, Any] = {"running": linking.running, "stale": linking.stale, "error": linking.error}
    return TripsAnswer(
        linked=iso_time(found.time if found else None), **state, **(_counts(found.trips) if found else {})
    )


def _counts(trips: Trips) -> dict[str, Any]:
    return {
        "warnings": list(trips.warnings),
        "tracklets": len(trips.table),
        "trips": len(trips),
        "links": int(trips.linked.sum()),
        "expected_links": trips.expected_links,
        "od": [ODAnswer(**one.__dict__) for one in origin_destination(trips)],
        "travel_times": [TravelTimeAnswer(**one.__dict__) for one in travel_times(trips)],
        "routes": [
            RouteAnswer(**(one.__dict__ | {"route": list(one.route)})) for one in route_shares(trips)[:_MOST_ROUTES]
        ],
        "coverage": [
            CoverageAnswer(**(one.__dict__ | {"probability": None if math.isnan(one.probability) else one.probability}))
            for one in coverage(trips)
        ],
        "doubtful": [
            DoubtfulLinkAnswer(
                first=one.first,
                second=one.second,
                probability=one.probability,
                made=one.made,
                trip=one.trip,
                seconds=one.seconds,
                crops=[crop_path(one.first), crop_path(one.second)],
            )
            for one in doubtful_links(trips)
        ],
    }


@router.post("/trips", tags=["trips"], status_code=202)
def link(request: Request, user: Reviewer) -> TripsAnswer:
    """Start to link the trips of the store; ask with GET whether it is done."""
    site_of(request).trips.start()
    site_of(request).log(request, user, "link trips", {})
    return trips(request, user)


@router.get("/trips.csv", tags=["trips"], response_class=Response, responses={200: {"content": {"text/csv": {}}}})
def trips_csv(request: Request, user: Reviewer) -> Response:
    """Export the trips: one line a tracklet."""
    found = site_of(request).trips.linked
    if found is None:
        raise HttpError(404, "the trips are not linked yet; start it with POST /api/v1/trips.")
    site_of(request).log(request, user, "export", {"format": "trips"})
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows([TRIP_COLUMNS, *trip_rows(found.trips)])
    headers = {"content-disposition": 'attachment; filename="trips.csv"'}
    return Response(file.getvalue(), headers=headers, media_type="text/csv; charset=utf-8")


@router.post("/trips/answers", tags=["trips"], status_code=202)
def answer_link(request: Request, user: Reviewer, new: NewLinkAnswer) -> TripsAnswer:
    """Confirm or reject a link, and link the trips again. The answer is on the disk when this answers."""
    answer(request, user, new)
    return trips(request, user)


def answer(request: Request, user: User, new: NewLinkAnswer) -> None:
    """Store a decision about a link, write the audit log, and link again.

    Raises:
        HttpError: see `TripLinking.answer`.
    """
    site = site_of(request)
    site_of(request).trips.answer(new.first, new.second, new.same)
    site.refit.count_answer()
    word = {True: "confirm", False: "reject", None: "leave open"}[new.same]
    site.log(request, user, f"{word} link", {"tracklet": new.second, "other": new.first})


@pages.get("/trips")
def trips_page(request: Request, user: Viewer) -> Response:
    """The page of trips, or a form that starts to link them."""
    site, linking = site_of(request), site_of(request).trips
    found = linking.linked
    if found is None or not found.values:
        return page(request, "trips_start.html", user, linking=linking, drawn=found is None)
    cookie = request.cookies.get(SESSION, "")
    fresh = "" if site.sessions.name_of(cookie) is not None else site.sessions.start(user.name)
    shown = {
        "form_token": site.sessions.form_token(fresh or cookie),
        "may_decide": user.may("reviewer"),
        "running": linking.running,
        "stale": linking.stale,
        "error": linking.error,
    }
    images = {name: crop_path(name) for one in found.values["doubtful"] for name in (one.first, one.second)}
    content = trip_page(found.values, images=images, service=shown)
    made = HTMLResponse(content, headers={"content-security-policy": _POLICY})
    if fresh:
        set_session(request, made, fresh)
    return made


@pages.post("/trips/link")
async def link_form(request: Request) -> Response:
    """Start to link the trips."""
    _, user = await _form(request)
    site_of(request).trips.start()
    site_of(request).log(request, user, "link trips", {})
    return RedirectResponse("/trips", 303)


@pages.post("/trips/decide")
async def decide_form(request: Request) -> Response:
    """Confirm or reject a link. Fields: first, second (ids of tracklets), same (yes or no)."""
    fields, user = await _form(request)
    words = {"yes": True, "no": False}
    if fields.get("same") not in words:
        raise HttpError(422, "`same` must be yes or no.")
    pair = {name: fields.get(name, "") for name in ("first", "second")}
    about = checked_fields(NewLinkAnswer, **pair, same=words[fields["same"]])
    await run_in_threadpool(answer, request, user, about)
    return RedirectResponse("/trips#doubtful", 303)


async def _form(request: Request) -> tuple[dict[str, str], User]:
    """Return the fields of a form of the page, and its user, who must be a reviewer."""
    user = await run_in_threadpool(user_with, request, "reviewer")
    fields, _ = await read_form(request)
    check_form_token(request, fields.get(FORM_TOKEN, ""))
    return fields, user
