"""The HTTP API, version 1: paths under /api/v1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from vreid import __version__
from vreid.serve.answers import (
    API,
    audit_answer,
    camera_answer,
    search_answer,
    tracklet_answers,
)
from vreid.serve.deletion import delete_tracklets
from vreid.serve.dependencies import (
    Admin,
    Selected,
    Viewer,
    purpose_of,
    site_of,
    uploaded_image,
    user_of,
)
from vreid.serve.http_errors import HttpError
from vreid.serve.monitoring import CONTENT_TYPE
from vreid.serve.protection import address_of
from vreid.serve.schemas import (
    AuditPage,
    CamerasAnswer,
    DeletedAnswer,
    ErrorAnswer,
    HealthAnswer,
    SearchAnswer,
    TrackletAnswer,
    TrackletsAnswer,
)
from vreid.serve.service import PAGE, ListOrder, Picture, Selection, parse_box, search_config
from vreid.serve.uploads import TYPES
from vreid.store.interface import Filter
from vreid.store.search import iso_time

_STATUSES = (400, 401, 403, 404, 413, 414, 415, 421, 422, 429, 503)
ERRORS: dict[int | str, dict[str, Any]] = {status: {"model": ErrorAnswer} for status in _STATUSES}
"""Answers of errors, for the OpenAPI document."""
router = APIRouter(prefix=API, responses=ERRORS)
Before = Annotated[int | None, Query(ge=1, le=2**60, description="`next` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="Length of a page.")]

_IMAGE: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": _IMAGE}, "description": "The image."},
    304: {"description": "The image has not changed."},
}
_UPLOAD: Mapping[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            **dict.fromkeys(TYPES, _IMAGE),
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {"image": {"type": "string", "format": "binary"}},
                }
            },
        },
    }
}

Top = Annotated[int, Query(ge=1, le=500, description="Most hits.")]
SameCamera = Annotated[bool, Query(description="Also hits in the camera of the query tracklet.")]
Rerank = Annotated[Literal["relative", "k-reciprocal", "none"], Query(description="Order of the hits.")]
Purpose = Annotated[str, Query(max_length=300, description="Why; kept in the audit log. Or the header X-Purpose.")]
Id = Annotated[str, Path(description="Id of a tracklet.", examples=["north/17"], max_length=2000)]


@router.get("/health", tags=["operation"])
def health(request: Request) -> HealthAnswer:
    """Say whether the store can be read; without a token only that."""
    count = site_of(request).service.store.vectors.count()
    known = user_of(request) is not None
    return HealthAnswer(status="ok", version=__version__ if known else None, tracklets=count if known else None)


@router.get("/metrics", tags=["operation"], response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(request: Request, user: Viewer) -> Response:
    """Give metrics in the text format of Prometheus."""
    site = site_of(request)
    site.monitoring.tracklets.set(site.service.store.vectors.count())
    return Response(site.monitoring.text(), media_type=CONTENT_TYPE)


@router.get("/search", tags=["search"])
def search(
    request: Request,
    user: Viewer,
    selection: Selected,
    tracklet: Annotated[str, Query(description="Id of the tracklet to search for.", examples=["north/17"])] = "",
    upload: Annotated[str, Query(description="Key of an image that was uploaded before.")] = "",
    top: Top = 20,
    same_camera: SameCamera = False,
    rerank: Rerank = "relative",
    purpose: Purpose = "",
) -> SearchAnswer:
    """Search where else the vehicle of a tracklet, or of an image that was uploaded before, was seen."""
    if bool(tracklet) == bool(upload):
        raise HttpError(422, "give either `tracklet` or `upload`.")
    config = {"top": top, "same_camera": same_camera, "reranking": rerank}
    return answer_search(request, user, selection, tracklet, upload, config, purpose)


@router.post("/search", tags=["search"], openapi_extra=dict(_UPLOAD))
async def search_upload(
    request: Request,
    user: Viewer,
    selection: Selected,
    box: Annotated[str, Query(description="The vehicle: x1,y1,x2,y2 in pixels.", examples=["40,60,300,260"])] = "",
    query_camera: Annotated[str, Query(description="Camera that took the image, if it is one of the store's.")] = "",
    top: Top = 20,
    rerank: Rerank = "relative",
    purpose: Purpose = "",
) -> SearchAnswer:
    """Search where the vehicle of an image was seen: a JPEG, PNG or WebP as the body, or as a form's field `image`."""
    purpose = purpose_of(request, purpose)
    image = await uploaded_image(request)
    service = site_of(request).service

    def found() -> SearchAnswer:
        service.check(selection)
        kept = service.query_of_upload(image, user.name, box=parse_box(box), camera=query_camera)
        return answer_search(request, user, selection, "", kept.key, {"top": top, "reranking": rerank}, purpose)

    return await run_in_threadpool(found)


def answer_search(
    request: Request,
    user: Any,
    selection: Selection,
    tracklet: str,
    upload: str,
    config: Mapping[str, Any],
    purpose: str,
) -> SearchAnswer:
    """Search, write the audit log, and count; what the API and the pages share.

    Raises:
        HttpError: see `Service.search`, `purpose_of` and `RateLimits.count`.
    """
    site = site_of(request)
    purpose = purpose_of(request, purpose)
    whose = address_of(request) if user.by == "local" else user.name
    site.rates.count("searches", whose, site.config.searches_per_minute)
    kept = site.service.cached_query(upload, user.name) if upload else None
    query = kept.query if kept else site.service.query_of_tracklet(tracklet)
    result = site.service.search(query, selection, search_config(**config))
    what = {"tracklet": tracklet} if tracklet else {"upload": upload}
    times = {"start": iso_time(selection.start), "end": iso_time(selection.end)}
    filters = {name: value for name, value in (selection.__dict__ | times).items() if value not in ((), None)}
    site.log(request, user, "search", {**what, **filters, "hits": [hit.tracklet for hit in result.hits[:20]]}, purpose)
    site.monitoring.searches.labels("upload" if kept else "tracklet").inc()
    for hit in result.hits:
        site.monitoring.hits.labels(hit.decision or "none").inc()
    return search_answer(result, query, kept)


@router.get("/uploads/{key}/image", tags=["search"], response_class=Response, responses=PICTURE)
def upload_image(request: Request, user: Viewer, key: Annotated[str, Path(max_length=100)]) -> Response:
    """Give a small version of an image that the same user has uploaded."""
    kept = site_of(request).service.cached_query(key, user.name)
    return send_picture(request, Picture(kept.jpeg, f'"{key}"'))


@router.get("/tracklets", tags=["tracklets"])
def tracklets(
    request: Request,
    user: Viewer,
    selection: Selected,
    after: Annotated[str, Query(description="`next` of the page before.", max_length=2000)] = "",
    limit: Limit = PAGE,
    order: Annotated[ListOrder, Query(description="By id, or by start and id; those without a time first.")] = "id",
) -> TrackletsAnswer:
    """List tracklets by id or by time; pages stay consistent while tracklets are added."""
    page = site_of(request).service.tracklets(selection, order=order, after=after, limit=limit)
    return TrackletsAnswer(tracklets=tracklet_answers(page.found), next=page.next)


@router.get("/tracklets/{id:path}", tags=["tracklets"])
def tracklet(request: Request, user: Viewer, id: Id) -> TrackletAnswer:
    """Give one tracklet."""
    return tracklet_answers(site_of(request).service.tracklet(id, crops=True))[0]


@router.delete("/tracklets/{id:path}", tags=["tracklets"])
def delete_tracklet(request: Request, user: Admin, id: Id) -> DeletedAnswer:
    """Delete a tracklet with its images, and what was decided about it."""
    site = site_of(request)
    site.service.tracklet(id)
    site.log(request, user, "delete", {"tracklet": id})
    deleted = delete_tracklets([id], site.service, site.cases, site.watches)
    site.trips.forget()
    return DeletedAnswer(deleted=deleted.tracklets)


@router.get("/crops/{number}/{id:path}", tags=["tracklets"], response_class=Response, responses=PICTURE)
def crop(request: Request, user: Viewer, number: Annotated[int, Path(ge=0, le=1000)], id: Id) -> Response:
    """Give an image of a tracklet; number 0 is the best."""
    return send_picture(request, site_of(request).service.crop(id, number)[1])


@router.get("/cameras", tags=["tracklets"])
def cameras(request: Request, user: Viewer) -> CamerasAnswer:
    """List the cameras."""
    service = site_of(request).service
    counts = {name: service.store.vectors.count(Filter(cameras=frozenset([name]))) for name in service.cameras()}
    return CamerasAnswer(cameras=[camera_answer(one, counts[name]) for name, one in service.cameras().items()])


@router.get("/audit", tags=["operation"])
def audit(
    request: Request,
    user: Admin,
    before: Before = None,
    limit: Limit = PAGE,
) -> AuditPage:
    """List the entries of the audit log, newest first."""
    found = site_of(request).audit.entries(before=before, limit=limit)
    return AuditPage(
        entries=[audit_answer(entry) for entry in found], next=found[-1].number if len(found) == limit else None
    )


def send_picture(request: Request, picture: Picture) -> Response:
    """Answer with an image, or with 304 if the client has it."""
    headers = {"etag": picture.etag, "cache-control": "private, max-age=3600", "vary": "authorization, cookie"}
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if picture.etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(picture.jpeg, headers=headers, media_type="image/jpeg")
