"""The engines that the conformance suite runs on: SQLite, a real Milvus server and Milvus Lite where installed."""

from __future__ import annotations

import importlib.util
import os
import socket
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from vreid.store.engines import open_vectors
from vreid.store.interface import VectorStore

D = 8
WITHOUT_MILVUS = "needs pymilvus and milvus==2.3.5 or milvus-lite; run `make test-milvus`"


def milvus_kind() -> str:
    """Which Milvus there is: "server", "lite" or ""; VREID_MILVUS_TEST=lite prefers Lite."""
    if importlib.util.find_spec("pymilvus") is None:
        return ""
    wanted = os.environ.get("VREID_MILVUS_TEST", "")
    found = [("server", "milvus"), ("lite", "milvus_lite")]
    kinds = [kind for kind, module in found if importlib.util.find_spec(module)]
    return wanted if wanted in kinds else next(iter(kinds), "")


def free_port() -> int:
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="session")
def milvus_address() -> Iterator[str]:
    """Address of a Milvus that lives as long as the tests; "" if there is none."""
    kind = milvus_kind()
    if not kind:
        yield ""
        return
    with tempfile.TemporaryDirectory(prefix="vreid-milvus-") as folder:
        if kind == "lite":
            yield str(Path(folder) / "lite.db")
            return
        from milvus import MilvusServer

        server = MilvusServer(debug=False)
        server.set_base_dir(folder)
        server.listen_port = free_port()
        server.config.set("proxy_port", server.listen_port)
        with server:
            yield f"http://127.0.0.1:{server.listen_port}"


Opener = Callable[..., VectorStore]


@pytest.fixture(params=["sqlite", "milvus"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of a store that does not exist yet."""
    if request.param == "sqlite":
        return str(tmp_path / "store")
    server = request.getfixturevalue("milvus_address")
    if not server:
        pytest.skip(WITHOUT_MILVUS)
    return f"{server}?collection=t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def opener(address: str) -> Iterator[Opener]:
    """Opens one empty store, again and again; the keyword arguments of `open_vectors` may be given.

    All tests of Milvus share one store, which is emptied: a server takes seconds to make one.
    """
    if "?" in address:
        address = f"{address.partition('?')[0]}?collection=shared"
        first = open_vectors(address, dimensions=D, model="first", create=True)
        first.delete(ids=[name for batch in first.scan() for name in batch.id])
        for key in first.documents():
            first.delete_document(key)
        first.close()
    opened: list[VectorStore] = []

    def open_it(**options: Any) -> VectorStore:
        given = {"dimensions": D, "model": "first", "create": True} | options
        opened.append(open_vectors(address, **given))
        return opened[-1]

    yield open_it
    for one in opened:
        one.close()


@pytest.fixture
def engine(opener: Opener) -> VectorStore:
    return opener()
