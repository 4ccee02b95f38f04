"""Run the service with Uvicorn: one process, threads for the work."""

from __future__ import annotations

import gc
import socket
from collections.abc import Callable
from typing import Any

from vreid.errors import InputError
from vreid.serve.settings import ServeConfig

_LONGEST_IDLE = 15  # seconds that an idle connection is kept
_MOST_CONNECTIONS = 500


def listen(config: ServeConfig) -> socket.socket:
    """Open the listening socket.

    It names its protocol, because asyncio sets TCP_NODELAY on connections that are known to be TCP only: otherwise the
    body of an answer waits some 40 ms for the client's acknowledgement of its head.

    Raises:
        InputError: the address is not this machine's, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    one = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((config.host, config.port))
        one.listen(128)
    except (OSError, OverflowError) as error:
        one.close()
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"cannot listen on {config.host}:{config.port} ({reason}); choose another --host or --port."
        ) from error
    return one


def run_server(app: Any, one: socket.socket, on_ready: Callable[[], object] | None = None) -> None:
    """Answer requests until the process is interrupted or terminated.

    Args:
        app: of `create_app`.
        one: of `listen`.
        on_ready: called once requests are answered.
    """
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if on_ready is not None and self.started:
                on_ready()

    gc.freeze()  # what has been loaded stays: collections of garbage that look at it stop everything for 70 ms
    settings = uvicorn.Config(
        app,
        workers=1,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=_LONGEST_IDLE,
        timeout_graceful_shutdown=10,
        h11_max_incomplete_event_size=32_768,
    )
    Server(settings).run(sockets=[one])
