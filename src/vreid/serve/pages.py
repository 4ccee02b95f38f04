"""Server-rendered pages: templates of Jinja in templates/, scripts and styles in static/."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as PathParameter
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse

from vreid.errors import InputError
from vreid.formatting import duration
from vreid.serve.answers import (
    audit_answer,
    camera_answer,
    case_answer,
    crop_path,
    tracklet_answers,
    upload_path,
    watch_answer,
)
from vreid.serve.api import answer_search
from vreid.serve.auth import Role, User
from vreid.serve.camera_ways import Way, ways_between
from vreid.serve.case_api import decide, remove_vehicle, watch
from vreid.serve.case_export import geojson, sightings_of
from vreid.serve.cases import LONGEST_NAME, LONGEST_NOTE, VehicleCase
from vreid.serve.dependencies import (
    FORM_TOKEN,
    SESSION,
    Admin,
    Selected,
    Viewer,
    check_form_token,
    checked_fields,
    decoded,
    purpose_of,
    read_form,
    site_of,
    user_of_token,
    user_with,
)
from vreid.serve.http_errors import HttpError
from vreid.serve.schemas import NewDecision, NewWatch, TrackletAnswer
from vreid.serve.service import PAGE, Selection, parse_box
from vreid.serve.templating import render
from vreid.store.interface import Filter
from vreid.store.search import iso_time, make_filter

STATIC = Path(__file__).parent / "static"
SAMPLE = 12
"""Tracklets on the start page."""

Number = Annotated[int, PathParameter(ge=1, le=2**31)]
router = APIRouter(include_in_schema=False)


def page(request: Request, template: str, user: User | None, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Render a template.

    Besides what `render` gives, with the time zone of the cameras, every template has `request`, `user` (None on /login
    and for errors), `config`, `form_token` (for hidden fields of that name), `here` (path and query string), `crop`
    (path of the best image of a tracklet) and `gap` (see `time_between`).
    """
    site = site_of(request)
    cookie = request.cookies.get(SESSION, "")
    fresh = "" if site.sessions.name_of(cookie) is not None else site.sessions.start(user.name if user else "")
    content = render(
        template,
        site.service.store.time_zone,
        request=request,
        user=user,
        config=site.config,
        form_token=site.sessions.form_token(fresh or cookie),
        here=_here(request),
        crop=crop_path,
        gap=time_between,
        **values,
    )
    answer = HTMLResponse(content, status)
    if fresh:
        set_session(request, answer, fresh)
    return answer


def set_session(request: Request, answer: Response, cookie: str) -> None:
    """Set the cookie of a session."""
    site = site_of(request)
    answer.set_cookie(
        SESSION, cookie, max_age=site.sessions.seconds, httponly=True, samesite="strict", secure=site.config.https
    )


def error_page(request: Request, error: HttpError) -> Response:
    """Answer an error as a page; without a session, lead to the login."""
    if error.status == 401 and request.method == "GET":
        return RedirectResponse(f"/login?{urlencode({'back': _here(request)})}", 303)
    return page(request, "error.html", None, status=error.status, sentence=str(error), number=error.status)


def _query_pairs(request: Request, *without: str) -> str:
    """Return the query string of a request without some fields and empty ones."""
    return urlencode(
        [(name, value) for name, value in request.query_params.multi_items() if value and name not in without]
    )


def _here(request: Request) -> str:
    """Return the path and the query string of a request."""
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def _filters(request: Request, selection: Selection) -> dict[str, Any]:
    """Return what the filters offer, and what is chosen."""
    service = site_of(request).service
    chosen = {"selection": selection, "selection_active": selection != Selection()}
    return {"cameras": sorted(service.cameras()), **service.attributes(), **chosen}


def time_between(earlier: str | None, later: str | None) -> str:
    """Say how much later one ISO time is than another: "4 min 12 s later"; "" if one is unknown.

    Example:
        >>> time_between("2026-05-01T07:00:00Z", "2026-05-01T06:59:00Z")
        '1 min earlier'
    """
    if earlier is None or later is None:
        return ""
    seconds = (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()
    if abs(seconds) < 1:
        return "at the same time"
    return f"{duration(abs(seconds))} {'later' if seconds > 0 else 'earlier'}"


@router.get("/")
def home(request: Request, user: Viewer) -> Response:
    """Start page: the search form, and a few tracklets of each camera."""
    service = site_of(request).service
    names = sorted(service.cameras())[:SAMPLE]
    each = -(-SAMPLE // max(len(names), 1))
    lists = [tracklet_answers(service.tracklets(Selection(cameras=(name,)), limit=each).found) for name in names]
    sample = [found[place] for place in range(each) for found in lists if place < len(found)][:SAMPLE]
    return page(request, "search.html", user, answer=None, sample=sample, stored=service.store.vectors.count())


@router.get("/search")
def search_page(
    request: Request,
    user: Viewer,
    selection: Selected,
    tracklet: str = "",
    upload: str = "",
    purpose: str = "",
    same_camera: bool = False,
    case: Annotated[int | None, Query(ge=1, le=2**31)] = None,
    top: Annotated[int, Query(ge=1, le=500)] = 24,
) -> Response:
    """Hits of a tracklet or an upload, with filters; `case` is where decisions go, otherwise the query's own case."""
    if not tracklet and not upload:
        return home(request, user)
    site = site_of(request)
    if site.config.purpose_required and len(purpose.strip()) < 3:
        return page(request, "purpose.html", user)
    query = tracklet_answers(site.service.tracklet(tracklet))[0] if tracklet else None
    same_camera = same_camera or bool(query and set(selection.cameras) == {query.camera})
    config = {"top": top, "same_camera": same_camera}
    answer = answer_search(request, user, selection, tracklet, upload, config, purpose)
    followed = site.cases.get(case) if case else _case_of(request, tracklet)
    names = {"tracklet": tracklet, "upload": upload}
    kept = {"purpose": purpose, "case": str(followed.number) if followed else ""}
    return page(
        request,
        "search.html",
        user,
        answer=answer,
        query=query,
        case=followed and case_answer(followed),
        states={name: one.same for name, one in followed.latest.items()} if followed else {},
        top=top,
        pairs=_query_pairs(request, "top"),
        bare=_pairs(names | kept),
        carried=f"&{_pairs({'purpose': purpose})}" if purpose else "",
        compared=_pairs({"a": tracklet, "upload": upload}),
        **_filters(request, selection),
    )


def _pairs(names: dict[str, str]) -> str:
    return urlencode({name: value for name, value in names.items() if value})


def _case_of(request: Request, tracklet: str) -> VehicleCase | None:
    """Return the newest case in which a tracklet is confirmed."""
    return next((one for one in site_of(request).cases.all() if tracklet in one.confirmed), None)


@router.post("/search")
async def search_form(request: Request) -> Response:
    """Take an uploaded image and lead to its hits."""
    user = await run_in_threadpool(user_with, request, "viewer")
    fields, file = await read_form(request)
    check_form_token(request, fields.get(FORM_TOKEN, ""))
    purpose = purpose_of(request, fields.get("purpose", ""))
    if file is None or not file[0]:
        raise HttpError(422, "no image was chosen; drop one on the page or choose a file.")
    image = await decoded(request, *file)
    service = site_of(request).service
    kept = await run_in_threadpool(service.query_of_upload, image, user.name, box=parse_box(fields.get("box")))
    names = {"upload": kept.key, **({"purpose": purpose} if purpose else {})}
    return RedirectResponse(f"/search?{urlencode(names)}", 303)


@router.get("/browse")
def browse(request: Request, user: Viewer, selection: Selected, after: str = "") -> Response:
    """Wall of tracklets in the order of time, with filters."""
    service = site_of(request).service
    shown = service.tracklets(selection, order="time", after=after, limit=PAGE)
    return page(
        request,
        "browse.html",
        user,
        tracklets=tracklet_answers(shown.found),
        next=shown.next,
        count=service.store.vectors.count(make_filter(**selection.__dict__)),
        pairs=_query_pairs(request, "after"),
        **_filters(request, selection),
    )


@router.get("/compare")
def compare(
    request: Request,
    user: Viewer,
    b: str,
    a: str = "",
    upload: str = "",
    card: Annotated[int, Query(ge=0, le=500)] = 0,
    case: Annotated[int | None, Query(ge=1, le=2**31)] = None,
) -> Response:
    """A tracklet or an upload beside another tracklet, with their images; `card` is the place of the hit."""
    site = site_of(request)
    if bool(a) == bool(upload):
        raise HttpError(422, "give either `a` or `upload`.")
    other = tracklet_answers(site.service.tracklet(b, crops=True))[0]
    if a:
        one = tracklet_answers(site.service.tracklet(a, crops=True))[0]
    else:
        site.service.cached_query(upload, user.name)
        nothing: dict[str, Any] = {"start": None, "end": None, "color": "", "vehicle_type": "", "facts": {}}
        one = TrackletAnswer(id="", camera="", crops=[upload_path(upload)], **nothing)
    followed = site.cases.get(case) if case else _case_of(request, a)
    decided = followed.latest.get(b) if followed else None
    state = decided.same if decided else None
    return page(
        request,
        "compare.html",
        user,
        one=one,
        other=other,
        card=card,
        state=state,
        case=followed and case_answer(followed),
    )


@router.get("/cases")
def cases_page(request: Request, user: Viewer) -> Response:
    """List the cases."""
    found = [case_answer(one) for one in site_of(request).cases.all()]
    return page(request, "cases.html", user, cases=found)


@router.get("/cases/{number}")
def case_page(request: Request, user: Viewer, number: Number) -> Response:
    """One case with its sightings in the order of time, and where they were."""
    site = site_of(request)
    case = site.cases.get(number)
    sightings = sightings_of(site.service, case)
    places = geojson(case, sightings)
    return page(
        request, "case.html", user, case=case_answer(case), sightings=sightings, places=places, ways=_ways(request)
    )


@router.post("/decide")
async def decide_form(request: Request) -> Response:
    """Confirm or reject a hit.

    Fields: tracklet, same (yes, no or open), other (the query tracklet, may be empty), case (its number, empty: the
    case of the query tracklet, new if it has none), card (place of the hit), back (path to return to). htmx gets
    decision.html instead of a redirect.
    """
    fields, user = await _form(request, "reviewer")
    words: dict[str, bool | None] = {"yes": True, "no": False, "open": None}
    if fields.get("same") not in words:
        raise HttpError(422, "`same` must be yes, no or open.")
    same = words[fields["same"]]

    def decided() -> VehicleCase:
        number = fields.get("case", "")
        if number and not (number.isdigit() and len(number) < 10):
            raise HttpError(422, f"`case` is {number[:20]!r}; give the number of a case.")
        named = {name: fields.get(name, "") for name in ("tracklet", "other")}
        about = checked_fields(NewDecision, **named, same=same)
        if number:
            return decide(request, user, int(number), about)
        known = _case_of(request, about.other)
        return decide(request, user, known.number if known else None, about)

    case = await run_in_threadpool(decided)
    if request.headers.get("hx-request") == "true":
        return page(request, "decision.html", user, same=same, case=case_answer(case), fields=fields)
    return RedirectResponse(_local(fields.get("back") or f"/cases/{case.number}"), 303)


@router.post("/cases/{number}/change")
async def change_case(request: Request, number: Number) -> Response:
    """Change the name and the note of a case, or delete it. Fields: name, note, or delete."""
    fields, user = await _form(request, "reviewer")
    cases = site_of(request).cases
    if "delete" in fields:
        await run_in_threadpool(cases.delete, number)
        site_of(request).log(request, user, "delete case", {"case": number})
        return RedirectResponse("/cases", 303)
    name, note = fields.get("name", "").strip()[:LONGEST_NAME], fields.get("note", "")[:LONGEST_NOTE]
    await run_in_threadpool(cases.change, number, name=name, note=note)
    return RedirectResponse(f"/cases/{number}", 303)


@router.post("/cases/{number}/delete-vehicle")
async def delete_vehicle_form(request: Request, number: Number) -> Response:
    """Delete a vehicle: the confirmed tracklets of a case, all that is kept of them, and the case. Field: sure."""
    fields, user = await _form(request, "admin")
    if fields.get("sure") != "yes":
        raise HttpError(422, "say that the vehicle shall be deleted: tick the box.")
    await run_in_threadpool(remove_vehicle, request, user, number)
    return RedirectResponse("/cases", 303)


@router.get("/watch")
def watch_page(request: Request, user: Viewer) -> Response:
    """Watched vehicles and their new sightings."""
    found = [watch_answer(one) for one in site_of(request).watches.all()]
    return page(request, "watch.html", user, watches=found)


@router.post("/watch")
async def watch_form(request: Request) -> Response:
    """Watch a vehicle, or stop it. Fields: tracklet or upload, name, webhook (admin); or delete (number of a watch)."""
    fields, user = await _form(request, "reviewer")
    if number := fields.get("delete", ""):
        if not (number.isdigit() and len(number) < 10):
            raise HttpError(422, f"`delete` is {number[:20]!r}; give the number of a watch.")
        await run_in_threadpool(site_of(request).watches.delete, int(number))
        return RedirectResponse("/watch", 303)
    wanted = {name: fields.get(name, "").strip() for name in ("tracklet", "upload", "name", "webhook")}
    about = checked_fields(NewWatch, **wanted)
    await run_in_threadpool(watch, request, user, about)
    return RedirectResponse("/watch", 303)


def _ways(request: Request) -> list[Way]:
    linked = site_of(request).trips.linked
    return ways_between(linked.travel_times, site_of(request).service.cameras()) if linked else []


@router.get("/cameras")
def cameras_page(request: Request, user: Viewer) -> Response:
    """List and map of the cameras."""
    service = site_of(request).service
    count = service.store.vectors.count
    found = [camera_answer(one, count(Filter(cameras=frozenset([name])))) for name, one in service.cameras().items()]
    placed = any(one.latitude is not None and one.longitude is not None for one in found)
    ways = _ways(request)
    return page(request, "cameras.html", user, cameras=found, placed=placed, ways=ways, duration=duration)


@router.get("/audit")
def audit_page(request: Request, user: Admin, before: Annotated[int | None, Query(ge=1, le=2**60)] = None) -> Response:
    """Audit log, newest first."""
    found = site_of(request).audit.entries(before=before, limit=PAGE)
    entries = [audit_answer(entry) for entry in found]
    return page(request, "audit.html", user, entries=entries, next=found[-1].number if len(found) == PAGE else None)


@router.get("/tokens")
def tokens_page(request: Request, user: Admin) -> Response:
    """Access tokens, and a form for a new one."""
    return _tokens(request, user)


def _tokens(request: Request, user: User, made: tuple[str, str] | None = None) -> Response:
    stored = site_of(request).tokens.names()
    tokens = {name: {"role": one.role, "made": iso_time(one.created)} for name, one in stored.items()}
    return page(request, "tokens.html", user, tokens=tokens, made=made)


@router.post("/tokens")
async def make_token(request: Request) -> Response:
    """Make an access token and show it once. Fields: name, role."""
    fields, user = await _form(request, "admin")
    site = site_of(request)
    name, role = fields.get("name", ""), fields.get("role", "")
    try:
        token = await run_in_threadpool(site.tokens.create, name, role)  # type: ignore[arg-type]  # checked by create
    except InputError as error:
        raise HttpError(422, str(error)) from None
    site.log(request, user, "make token", {"name": name, "role": role})
    return _tokens(request, user, (name, token))


@router.post("/tokens/delete")
async def delete_token(request: Request) -> Response:
    """Delete an access token with its sessions. Field: name."""
    fields, user = await _form(request, "admin")
    site = site_of(request)
    name = fields.get("name", "")
    if not await run_in_threadpool(site.tokens.delete, name):
        raise HttpError(404, f"there is no token {name[:40]!r}.")
    site.log(request, user, "delete token", {"name": name})
    return RedirectResponse("/tokens", 303)


@router.get("/login")
def login(request: Request, back: str = "/") -> Response:
    """Form for an access token."""
    return page(request, "login.html", None, back=_local(back), sentence="")


@router.post("/login")
async def log_in(request: Request) -> Response:
    """Start a session with an access token."""
    fields, _ = await read_form(request)
    back = _local(fields.get("back", "/"))
    check_form_token(request, fields.get(FORM_TOKEN, ""))
    try:
        user = await run_in_threadpool(user_of_token, request, fields.get("token", "").strip())
    except HttpError as error:
        return page(request, "login.html", None, status=error.status, back=back, sentence=str(error))
    answer = RedirectResponse(back, 303)
    set_session(request, answer, site_of(request).sessions.start(user.name))
    return answer


@router.post("/logout")
async def log_out(request: Request) -> Response:
    """End the session of this browser."""
    fields, _ = await read_form(request)
    check_form_token(request, fields.get(FORM_TOKEN, ""))
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(SESSION)
    return answer


async def _form(request: Request, role: Role) -> tuple[dict[str, str], User]:
    """Return the fields of a form that a page of this service has made, and the user, whose role must allow it."""
    user = await run_in_threadpool(user_with, request, role)
    fields, _ = await read_form(request)
    check_form_token(request, fields.get(FORM_TOKEN, ""))
    return fields, user


def _local(path: str) -> str:
    """Return a path of this service, "/" for anything else."""
    plain = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() and "\\" not in path
    return path if plain else "/"
