"""Open the engine that a path or an address names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vreid.errors import InputError
from vreid.store.interface import VectorStore

SQLITE = "sqlite://"
"""Start of the address of a folder, which may also be given as it is."""
MILVUS = ("http://", "https://")
"""Starts of the address of a Milvus server."""


def open_vectors(
    uri: Path | str,
    *,
    dimensions: int | None = None,
    model: str = "",
    create: bool = False,
    read_only: bool = False,
    on_note: Callable[[str], None] | None = None,
) -> VectorStore:
    """Open a store of tracklets.

    Args:
        uri: a folder or `sqlite:///FOLDER`: embedded, in SQLite; `http(s)://HOST:PORT?collection=NAME`: a Milvus server
            (token in the environment variable VREID_MILVUS_TOKEN); a file that ends in `.db`: Milvus Lite, for tests.
        dimensions: D; needed to create, else checked if given.
        model: fingerprint of the model whose vectors are written or searched; needed to create. "": any.
        create: make the store if there is none.
        read_only: open without the right to write, and whatever model the store is of.
        on_note: takes a warning in one sentence.

    Raises:
        InputError: there is no store, it cannot be opened, or it holds features of another model.
    """
    address = str(uri)
    engine: VectorStore
    if is_server(address) or address.endswith(".db"):
        from vreid.store.milvus_engine import MilvusEngine

        engine = MilvusEngine(address, dimensions=dimensions, model=model, create=create, read_only=read_only)
    else:
        from vreid.store.sqlite_engine import SqliteEngine
        from vreid.store.sqlite_file import network_file_system

        name = address.removeprefix(SQLITE)
        folder = Path(name)
        if "://" in name or (name != address and not folder.is_absolute()):
            raise InputError(f"{address}: is no store; give a folder, sqlite:///FOLDER or http://HOST:19530.")
        engine = SqliteEngine(folder, dimensions=dimensions, model=model, create=create, read_only=read_only)
        if on_note and (kind := network_file_system(folder)):
            on_note(
                f"{folder}: is on a network file system ({kind}), where SQLite's locks are not reliable; use it from "
                "one computer only, or keep the store on a local disk."
            )
    if model and engine.model != model and not read_only:
        found = engine.model
        engine.close()
        raise InputError(
            f"{address}: holds features of another model ({found[:12] or 'unknown'}, not {model[:12]}); compute them "
            f"again with `vreid store embed {address} --model MODEL`."
        )
    return engine


def is_server(uri: Path | str) -> bool:
    """Whether `uri` is the address of a server, not a folder."""
    return str(uri).startswith(MILVUS)
