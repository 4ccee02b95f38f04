"""The listening socket."""

from __future__ import annotations

import asyncio
import socket

from vreid.serve.server import listen
from vreid.serve.settings import ServeConfig


def test_answers_are_sent_at_once() -> None:
    """asyncio has turned off the delay of small packets on the connections that the socket accepts."""
    delays: list[int] = []

    async def serve() -> None:
        accepted = asyncio.Event()

        def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            delays.append(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()
            accepted.set()

        with listen(ServeConfig(port=0)) as one:
            server = await asyncio.start_server(on_client, sock=one)
            _, writer = await asyncio.open_connection(*one.getsockname())
            await accepted.wait()
            writer.close()
            server.close()

    asyncio.run(serve())
    assert delays and delays[0]
