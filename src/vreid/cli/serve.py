"""Command serve."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vreid.cli.extras import extra_of, require_extras
from vreid.cli.options import Device, parse_settings
from vreid.cli.store import StoreAddress
from vreid.console import echo
from vreid.errors import InputError

if TYPE_CHECKING:
    from vreid.serve.settings import ServeConfig
    from vreid.store.store import Store


def serve_command(
    store: StoreAddress,
    host: Annotated[str, typer.Option(help="Address to listen on; beyond loopback, requests need a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65_535, help="TCP port; 0: any that is free.")] = 8000,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Further host name of the service, of a reverse proxy say; repeatable.")
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            help="Reverse proxy whose X-Forwarded-For names the client: address or network; repeatable.",
        ),
    ] = None,
    require_token: Annotated[
        bool, typer.Option("--require-token", help="Requests on loopback need a token too (behind a reverse proxy).")
    ] = False,
    https: Annotated[
        bool, typer.Option("--https", help="The service is reached over HTTPS only: mark its cookies so.")
    ] = False,
    new_token: Annotated[
        str, typer.Option(metavar="NAME", help="Make an access token, show it once, and exit; replaces that of NAME.")
    ] = "",
    role: Annotated[
        str,
        typer.Option(
            help="Of --new-token: viewer (search), reviewer (also decide, watch, export), admin (also delete, log)."
        ),
    ] = "viewer",
    delete_token: Annotated[str, typer.Option(metavar="NAME", help="Delete an access token, and exit.")] = "",
    audit: Annotated[Path | None, typer.Option(help="File of the audit log; default: STORE/audit.sqlite.")] = None,
    purpose: Annotated[bool, typer.Option("--purpose", help="Each search must say why; the log keeps it.")] = False,
    retention_days: Annotated[
        float, typer.Option(min=0, help="Delete tracklets that ended more than this many days ago; 0: never.")
    ] = 0,
    audit_days: Annotated[
        float, typer.Option(min=0, help="Delete entries of the audit log after this many days; 0: never.")
    ] = 365,
    blur: Annotated[str, typer.Option(help="Blur plates in all images that leave the service: likely, band.")] = "",
    webhook_host: Annotated[
        list[str] | None, typer.Option(help="Host besides loopback that webhooks may be sent to; repeatable.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change another setting: upload_bytes, searches_per_minute, session_hours, ...; repeatable.",
        ),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    device: Device = "cpu",
) -> None:
    """Serve the search page and the HTTP API of a store.

    Listens on loopback only unless told otherwise. New tracklets of an ingest that runs meanwhile appear by themselves.
    """
    require_extras("serve")
    from vreid.configuration import with_overrides
    from vreid.serve.auth import Tokens
    from vreid.serve.settings import ServeConfig
    from vreid.store.store import Store

    if new_token or delete_token:
        with Store.open(store) as opened:
            tokens = Tokens(opened.vectors)
            if delete_token and not tokens.delete(delete_token):
                known = ", ".join(tokens.names()) or "none"
                raise InputError(f"--delete-token {delete_token}: there is no such token. Tokens: {known}.")
            if new_token:
                echo(tokens.create(new_token, role))  # type: ignore[arg-type]  # checked by create
        return
    config = ServeConfig(
        host=host,
        port=port,
        allowed_hosts=tuple(allow_host or ()),
        proxies=tuple(proxy or ()),
        require_token=require_token,
        https=https,
        purpose_required=purpose,
        retention_days=retention_days,
        audit_days=audit_days,
        blur=blur,
        webhook_hosts=tuple(webhook_host or ()),
    )
    config = with_overrides(config, parse_settings(set_))
    opened = Store.open(store, device=device)
    require_extras(extra_of(str(opened.model_source)))
    _serve(opened, config, audit, open_)


def _serve(store: Store, config: ServeConfig, audit: Path | None, open_page: bool) -> None:
    from vreid.serve.app import create_app
    from vreid.serve.server import listen, run_server

    _ = store.embedder
    with listen(config) as socket:
        config = replace(config, port=socket.getsockname()[1])
        app = create_app(store, config, audit=audit)
        address = f"http://{'localhost' if config.host == '127.0.0.1' else config.host}:{config.port}/"
        echo(f"{store.where}: {address}")
        if config.tokens_needed and not app.state.site.tokens.names():
            echo(f"no token exists yet: vreid serve {store.where} --new-token NAME --role admin")
        run_server(app, socket, on_ready=(lambda: _open(address)) if open_page else None)


def _open(address: str) -> None:
    import webbrowser

    webbrowser.open(address)
