"""`create_app`: the service as an ASGI application."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from vreid import __version__
from vreid.errors import InputError, named
from vreid.serve import api, case_api, pages, trip_routes
from vreid.serve.answers import API
from vreid.serve.audit import FILE, AuditLog
from vreid.serve.auth import Sessions, Tokens
from vreid.serve.background import Background, Refit
from vreid.serve.cases import CaseBook
from vreid.serve.dependencies import ServedSite
from vreid.serve.http_errors import HttpError, field_error
from vreid.serve.live import WatchList
from vreid.serve.monitoring import Monitoring
from vreid.serve.protection import Protection, RateLimits, refusal
from vreid.serve.service import Service
from vreid.serve.settings import ServeConfig
from vreid.serve.trip_linking import TripLinking
from vreid.store.plates import BLURS
from vreid.store.store import Store

LOG = logging.getLogger("vreid.serve")
_PATIENCE = 60.0  # seconds that a fit of the threshold may take at the end


def create_app(store: Store, config: ServeConfig | None = None, *, audit: Path | None = None) -> FastAPI:
    """Build the service of a store.

    Args:
        store: open for writing; it is closed with the service.
        config: settings; None: the defaults.
        audit: file of the audit log; None: in the store's folder.

    Raises:
        InputError: the store is on a server and `audit` is None.
    """
    config = config or ServeConfig()
    if config.blur:
        named("way to blur plates", BLURS, config.blur)
    if audit is None:
        if "://" in store.where:
            raise InputError(f"{store.where}: is a server; say where the audit log is kept with --audit FILE.")
        audit = Path(store.where) / FILE
    monitoring, rates = Monitoring(), RateLimits()
    service = Service(store, config)
    refit = Refit(service, monitoring)
    trips = TripLinking(service, monitoring)
    site = ServedSite(
        config=config,
        service=service,
        tokens=Tokens(store.vectors),
        sessions=Sessions(3600 * config.session_hours),
        audit=AuditLog(audit),
        cases=CaseBook(store.vectors, refit.count_answer),
        watches=WatchList(service),
        refit=refit,
        trips=trips,
        rates=rates,
        monitoring=monitoring,
    )

    background = Background(service, site.cases, site.watches, site.audit, monitoring)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        background.start()
        yield
        await run_in_threadpool(background.stop)
        await run_in_threadpool(refit.wait, _PATIENCE)
        await run_in_threadpool(trips.wait, _PATIENCE)
        site.audit.close()
        store.close()

    app = FastAPI(
        title="vreid",
        summary="Search where else a vehicle was seen.",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{API}/openapi.json",
        lifespan=lifespan,
    )
    app.state.site = site
    app.include_router(api.router)
    app.include_router(case_api.router)
    app.include_router(trip_routes.router)
    app.include_router(pages.router)
    app.include_router(trip_routes.pages)
    app.mount("/static", StaticFiles(directory=pages.STATIC), name="static")
    app.add_middleware(Protection, config=config, rates=rates, monitoring=monitoring)
    if config.proxies:
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=list(config.proxies))  # around the protection
    app.add_exception_handler(InputError, _on_input_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    return app


def _answer(request: Request, error: HttpError) -> Response:
    path = request.url.path
    return refusal(error, path) if path.startswith("/api/") else pages.error_page(request, error)


def _on_input_error(request: Request, error: Exception) -> Response:
    if isinstance(error, HttpError):
        return _answer(request, error)
    LOG.error("%s %s: %s", request.method, request.url.path, error)
    sentence = "the store cannot be used now; its operator finds the reason in the log."
    return _answer(request, HttpError(503, sentence, retry_after=30))


def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    known = {404: "there is no such page.", 405: f"{request.method} is not possible here."}
    answer = _answer(request, HttpError(error.status_code, known.get(error.status_code, f"{error.detail}.")))
    answer.headers.update(error.headers or {})
    return answer


def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _answer(request, field_error(error.errors(), skip=1))
