"""What handlers of the API and the pages take from a request: the user, the filters, the upload."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Query, Request
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.formparsers import MultiPartException, MultiPartParser

from vreid.serve.audit import LONGEST_PURPOSE, AuditLog
from vreid.serve.auth import LOCAL, Role, Sessions, Tokens, User
from vreid.serve.background import Refit
from vreid.serve.cases import CaseBook
from vreid.serve.http_errors import HttpError, field_error
from vreid.serve.live import WatchList
from vreid.serve.monitoring import Monitoring
from vreid.serve.protection import SAFE, RateLimits, address_of
from vreid.serve.service import Selection, Service, parse_time
from vreid.serve.settings import ServeConfig
from vreid.serve.trip_linking import TripLinking
from vreid.serve.uploads import Upload, read_upload

SESSION = "vreid_session"
"""Cookie of a session."""
FORM_TOKEN = "form_token"
"""Field of forms that proves that a page of this service made them; as a header X-Form-Token."""
FILE = "image"
"""Field of the upload form that holds the image."""

_FIELDS, _FIELD = 30, 10_000  # of a form, and bytes of a field


@dataclass(frozen=True, eq=False)
class ServedSite:
    """What a running service consists of, kept in `app.state.site`."""

    config: ServeConfig
    service: Service
    tokens: Tokens
    sessions: Sessions
    audit: AuditLog
    cases: CaseBook
    watches: WatchList
    refit: Refit
    trips: TripLinking
    rates: RateLimits
    monitoring: Monitoring

    def log(self, request: Request, user: User, action: str, what: Mapping[str, Any], purpose: str = "") -> None:
        """Append an entry to the audit log, durable on return."""
        self.audit.append(user.name, address_of(request), action, what, purpose)


def site_of(request: Request) -> ServedSite:
    """Return the running service of a request."""
    site: ServedSite = request.app.state.site
    return site


def user_of(request: Request) -> User | None:
    """Return who makes a request; None: nobody is known, and a token is needed.

    Raises:
        HttpError: 401 a wrong token; 429 too many wrong ones from this address.
    """
    site = site_of(request)
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return user_of_token(request, given.strip())
    if not site.config.tokens_needed:
        return User(LOCAL, "admin", "local")
    name = site.sessions.name_of(request.cookies.get(SESSION, ""))
    stored = site.tokens.find(name) if name else None
    return User(name, stored.role, "session") if name and stored else None


def user_of_token(request: Request, token: str) -> User:
    """Return the user of an access token.

    Raises:
        HttpError: 401 it is wrong; 429 too many wrong ones from this address.
    """
    site = site_of(request)
    failures = site.config.failures_per_minute
    site.rates.check("wrong tokens", address_of(request), failures)
    found = site.tokens.verify(token)
    if found is None:
        site.rates.count("wrong tokens", address_of(request), failures)
        raise HttpError(401, "the access token is wrong; ask the operator of the service for another.")
    return User(found[0], found[1].role, "token")


def user_with(request: Request, role: Role) -> User:
    """Return the user of a request.

    Raises:
        HttpError: 401 nobody is known; 403 the user's role does not allow it.
    """
    user = user_of(request)
    if user is None:
        raise HttpError(401, "an access token is needed; log in, or send it as `Authorization: Bearer TOKEN`.")
    if not user.may(role):
        raise HttpError(403, f"this needs the role {role}, and {user.name} is {user.role}; ask the operator.")
    return user


def needs(role: Role) -> Callable[[Request], User]:
    """Return the dependency that gives the user of a role; changes by a session must carry the form token."""

    def permitted(request: Request) -> User:
        user = user_with(request, role)
        if user.by == "session" and request.method not in SAFE:
            check_form_token(request, request.headers.get("x-form-token", ""))
        return user

    return permitted


def check_form_token(request: Request, given: str) -> None:
    """Raise unless `given` is the form token of the request's session.

    Raises:
        HttpError: 403.
    """
    if not site_of(request).sessions.is_form_token(request.cookies.get(SESSION, ""), given):
        raise HttpError(403, "the form is too old or not of this service; reload the page and send it again.")


def purpose_of(request: Request, given: str = "") -> str:
    """Return why a search is made: a field of the request, or the header X-Purpose.

    Raises:
        HttpError: 422 the site demands a purpose and there is none.
    """
    purpose = " ".join((given or request.headers.get("x-purpose", "")).split())
    if site_of(request).config.purpose_required and len(purpose) < 3:
        raise HttpError(422, "this site logs why each search is made; give a purpose.")
    return purpose[:LONGEST_PURPOSE]


Names = Annotated[list[str], Query(max_length=100)]


def selection_of(
    request: Request,
    camera: Annotated[Names, Query(description="Only these cameras.", examples=["north"])] = [],  # noqa: B006
    not_camera: Annotated[Names, Query(description="None of these cameras.")] = [],  # noqa: B006
    start: Annotated[
        str, Query(description="In view at or after this time: ISO 8601.", examples=["2026-05-01T07:00:00Z"])
    ] = "",
    end: Annotated[str, Query(description="In view before this time: ISO 8601.")] = "",
    color: Annotated[Names, Query(description="Only these colours.", examples=["white"])] = [],  # noqa: B006
    type: Annotated[Names, Query(description="Only these types.", examples=["van"])] = [],  # noqa: B006
) -> Selection:
    """Return the filters of a request; times without a zone are in that of the cameras."""
    zone = site_of(request).service.store.time_zone if start or end else "UTC"
    return Selection(
        tuple(filter(None, camera)),
        tuple(filter(None, not_camera)),
        parse_time(start, "start", zone),
        parse_time(end, "end", zone),
        tuple(filter(None, color)),
        tuple(filter(None, type)),
    )


Selected = Annotated[Selection, Depends(selection_of)]
"""The filters of a request."""
Viewer = Annotated[User, Depends(needs("viewer"))]
Reviewer = Annotated[User, Depends(needs("reviewer"))]
Admin = Annotated[User, Depends(needs("admin"))]


class _MemoryForms(MultiPartParser):
    """Parses forms in memory: the body is limited before, so nothing is spooled to the file system."""

    spool_max_size = 1 << 30


async def read_form(request: Request) -> tuple[dict[str, str], tuple[bytes, str] | None]:
    """Return the fields of a multipart form and its file: contents and content type.

    Raises:
        HttpError: 415 it is no such form; 422 it is damaged, or has more fields or longer ones than any form here.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise HttpError(415, "the content type is no multipart/form-data; send the form with its image.")
    parser = _MemoryForms(request.headers, request.stream(), max_files=1, max_fields=_FIELDS, max_part_size=_FIELD)
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError):
        raise HttpError(422, "the form is damaged or has more fields than it should; send it again.") from None
    fields: dict[str, str] = {}
    file = None
    for name, value in form.multi_items():
        if isinstance(value, str):
            fields[name] = value
        elif name == FILE:
            file = await value.read(), value.content_type or ""
    await form.close()
    return fields, file


Fields = TypeVar("Fields", bound=BaseModel)


def checked_fields(kind: type[Fields], **values: object) -> Fields:
    """Return the fields of a form of a page as what the API takes.

    Raises:
        HttpError: 422 one of them is too long or missing.
    """
    try:
        return kind(**values)
    except ValidationError as error:
        raise field_error(error.errors()) from None


async def uploaded_image(request: Request) -> Upload:
    """Read the image of a request: its body, or the field `image` of a multipart form.

    Raises:
        HttpError: see `read_upload` and `read_form`.
    """
    kind = request.headers.get("content-type", "")
    if kind.lower().startswith("multipart/"):
        _, file = await read_form(request)
        if file is None:
            raise HttpError(422, f"the form has no file in the field {FILE!r}; add the image.")
        return await decoded(request, *file)
    return await decoded(request, await request.body(), kind)


async def decoded(request: Request, body: bytes, content_type: str) -> Upload:
    """Decode an uploaded image outside of the event loop, when it has its turn."""
    site = site_of(request)

    def read() -> Upload:
        with site.service.turn():
            return read_upload(body, content_type, most_pixels=site.config.upload_pixels)

    return await run_in_threadpool(read)
