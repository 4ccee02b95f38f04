"""The distributed engine: a Milvus server through `pymilvus`, for more tracklets than one computer's memory holds.

A store is three collections: NAME (tracklets), NAME_crops (a row a crop, whose vector is the crop's) and
NAME_documents. Milvus has no transactions: crops are written before their tracklets and deleted before them, so a
killed process leaves crops without a tracklet, or tracklets without crops that the same command deletes when run
again; searches see whole tracklets only.

Vectors are searched exactly (index FLAT) until `gate_index` has measured that an approximate index finds the same.

Shapes: N tracklets, Q queries, D dimensions.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from numpy.typing import NDArray

from vreid.data.records import object_array
from vreid.errors import InputError
from vreid.store.interface import (
    LONGEST_FACTS,
    LONGEST_TEXT,
    NO_TIME,
    EngineInfo,
    Filter,
    Hits,
    NoStore,
    StoredCrop,
    TrackletBatch,
    check_batch,
    check_query,
    check_vectors,
    filters_of_queries,
)

TOKEN = "VREID_MILVUS_TOKEN"
"""Environment variable with the token of the server ("user:password")."""
COLLECTION = "vreid"
"""Name of the collection if the address names none."""
MOST = 16_384
"""Most results of one search or query (a limit of Milvus)."""

_ROWS = 500  # tracklets in a message: 500 x (2,048 x 4 + 20,000) bytes = 14 MB, of 64 MB allowed
_CROPS = 300  # crops in a message: 300 x (60,000 + 2,048 x 4) bytes = 20 MB
_QUERIES = 256  # queries in a message
_SPARE = (
    64  # more results than asked for, so that equal similarities at the end of the list are cut in the order of ids
)
_STEP = 3_600_000  # milliseconds in which a list by time first looks for tracklets
_PART = 60_000  # bytes of a part of a document; a text field holds 65,535
_KEY = 1024  # bytes of a document's key
_ENGINE = ""  # key of the document with the store's own facts
_SCHEMA = 1


class MilvusEngine:
    """A store in a Milvus server; see the module and `vreid.store.interface.VectorStore`.

    Example:
        >>> engine = MilvusEngine("http://localhost:19530?collection=city")   # doctest: +SKIP
    """

    def __init__(
        self,
        uri: str,
        *,
        dimensions: int | None = None,
        model: str = "",
        create: bool = False,
        read_only: bool = False,
    ) -> None:
        """Connect to the server of `uri`, http(s)://HOST:PORT?collection=NAME, or to the Milvus Lite file FILE.db.

        Args:
            uri: the server and the collection (default: `COLLECTION`); the environment gives the token (`TOKEN`).
            dimensions: D; needed to create, else checked if given.
            model: fingerprint of the model of the vectors; needed to create.
            create: make the collections if there are none.
            read_only: refuse to write.

        Raises:
            InputError: the server is away, there is no store, or it holds other dimensions.
        """
        from pymilvus import MilvusClient

        # It warns at every scan of a server that gives no time stamp, which a scan in the order of ids does not need.
        logging.getLogger("pymilvus.client.iterator.query_iterator").setLevel(logging.ERROR)
        parts = urlsplit(uri)
        self.uri, self._read_only = uri, read_only
        self._name = parse_qs(parts.query).get("collection", [COLLECTION])[0]
        if not re.fullmatch(r"[A-Za-z_]\w{0,200}", self._name, re.ASCII):
            raise InputError(f"{uri}: the collection's name may hold letters, digits and _ only; rename it.")
        with self._errors():
            self._client = MilvusClient(uri.partition("?")[0], token=os.environ.get(TOKEN, ""))
            if not self._client.has_collection(self._name):
                if not create or read_only:
                    raise NoStore(f"{uri}: holds no store; make one with `vreid ingest SOURCE --store '{uri}'`.")
                self._create(dimensions, model)
            for name in (self._name, self._crops, self._documents):
                self._client.load_collection(name)
        facts = self.get_document(_ENGINE)
        if not isinstance(facts, dict):
            raise InputError(f"{uri}: the collection was not made by vreid; name another with ?collection=NAME.")
        if facts["schema"] > _SCHEMA:
            raise InputError(f"{uri}: was written by a newer version of vreid; update vreid.")
        self.dimensions, self.model = int(facts["dimensions"]), str(facts["model"])
        self._search_parameters: dict[str, Any] = facts.get("search", {})
        if dimensions is not None and dimensions != self.dimensions:
            raise InputError(f"{uri}: holds features of {self.dimensions} dimensions, not {dimensions}; use its model.")

    @property
    def _crops(self) -> str:
        return f"{self._name}_crops"

    @property
    def _documents(self) -> str:
        return f"{self._name}_documents"

    def _create(self, dimensions: int | None, model: str) -> None:
        """Make the collections, that of the tracklets last: a store exists when it does."""
        from pymilvus import DataType

        if not dimensions or dimensions < 1:
            raise InputError(f"{self.uri}: a new store needs the number of dimensions; give a model.")
        text, whole, real = DataType.VARCHAR, DataType.INT64, DataType.DOUBLE
        self._make(self._documents, 2, [("key", text, _KEY + 8), ("name", text, _KEY), ("part", whole, 0)], "value")
        self._put({_ENGINE: {"schema": _SCHEMA, "dimensions": dimensions, "model": model}})
        crop = [("key", text, LONGEST_TEXT + 8), ("tracklet", text, LONGEST_TEXT), ("place", whole, 0)]
        crop += [("time", whole, 0), ("frame", whole, 0), ("box", text, 200), ("quality", real, 0)]
        self._make(self._crops, dimensions, crop, "jpeg")
        columns = [(name, text, LONGEST_TEXT) for name in ("id", "camera", "color", "vehicle_type")]
        columns += [("started", whole, 0), ("ended", whole, 0)]
        self._make(self._name, dimensions, columns, "facts", LONGEST_FACTS)

    def _make(
        self, name: str, dimensions: int, columns: list[tuple[str, Any, int]], long: str, longest: int = 65_535
    ) -> None:
        from pymilvus import DataType

        if self._client.has_collection(name):
            return  # a creation that was killed
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        for number, (column, kind, length) in enumerate(columns):
            limits = {"max_length": length} if length else {}
            schema.add_field(column, kind, is_primary=number == 0, **limits)
        schema.add_field(long, DataType.VARCHAR, max_length=longest)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimensions)
        index = self._client.prepare_index_params()
        index.add_index("vector", index_type="FLAT", metric_type="IP")
        self._client.create_collection(name, schema=schema, index_params=index, consistency_level="Strong")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn errors of Milvus into one sentence."""
        from pymilvus.exceptions import MilvusException

        try:
            yield
        except MilvusException as error:
            reason = " ".join(str(error.message or error).split())[:300]
            raise InputError(
                f"{self.uri}: Milvus reports: {reason}; check the address, {TOKEN} and the server."
            ) from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        if self._read_only:
            raise InputError(f"{self.uri}: is open for reading only; open it writable.")
        with self._errors():
            yield

    # Writing

    def upsert(self, batch: TrackletBatch) -> None:
        """Insert or replace tracklets with their crops; if killed, the same call completes it."""
        with self._writing():
            check_batch(batch, self.dimensions)
            assert batch.crops is not None
            crops = [
                _crop_row(str(name), place, crop)
                for name, some in zip(batch.id, batch.crops, strict=True)
                for place, crop in enumerate(some)
            ]
            for begin in range(0, len(crops), _CROPS):
                self._client.upsert(self._crops, crops[begin : begin + _CROPS])
            rows = [_row(batch, row) for row in range(len(batch))]
            kept = {row["key"] for row in crops}
            for begin in range(0, len(rows), _ROWS):
                some = rows[begin : begin + _ROWS]
                self._client.upsert(self._name, some)
                there = self._query(self._crops, _any("tracklet", [row["id"] for row in some]), ["key"])
                self._drop(self._crops, "key", [row["key"] for row in there if row["key"] not in kept])

    def replace_vectors(
        self, ids: Sequence[str], vectors: NDArray[np.float32], documents: Mapping[str, Any] | None = None
    ) -> None:
        """Replace the vectors of tracklets, then put documents; ids that do not exist are skipped."""
        with self._writing():
            if vectors.shape != (len(ids), self.dimensions):
                raise InputError(
                    f"features of shape {vectors.shape} for {len(ids)} tracklets of {self.dimensions} dimensions."
                )
            check_vectors(vectors, ids)
            for begin in range(0, len(ids), _ROWS):
                new = dict(zip(ids[begin : begin + _ROWS], vectors[begin : begin + _ROWS], strict=True))
                rows = self._query(self._name, _any("id", list(new)), ["*"])
                if rows:
                    self._client.upsert(self._name, [row | {"vector": new[row["id"]].tolist()} for row in rows])
            self._put(documents or {})

    def delete(self, *, ids: Sequence[str] | None = None, where: Filter | None = None) -> int:
        """Delete tracklets with their crops by id, by filter, or by both; return how many there were."""
        with self._writing():
            if ids is None and (where is None or where.empty):
                raise InputError("nothing says which tracklets to delete; give ids or a filter.")
            condition = _condition(where)
            if condition is None:
                return 0
            parts = [None] if ids is None else [ids[begin : begin + _ROWS] for begin in range(0, len(ids), _ROWS)]
            deleted = 0
            for part in parts:
                both = [one for one in (condition, _any("id", part) if part is not None else "") if one]
                found = [row["id"] for row in self._query(self._name, " and ".join(both), ["id"])]
                for begin in range(0, len(found), _ROWS):
                    some = found[begin : begin + _ROWS]
                    self._client.delete(self._crops, filter=_any("tracklet", some))
                    self._drop(self._name, "id", some)
                deleted += len(found)
            return deleted

    def _drop(self, collection: str, key: str, values: Sequence[str]) -> None:
        for begin in range(0, len(values), _ROWS):
            self._client.delete(collection, filter=_any(key, values[begin : begin + _ROWS]))

    # Reading

    def _pages(self, collection: str, condition: str, fields: list[str], size: int) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows that satisfy `condition` in the order of their keys, up to `size` at a time."""
        with self._errors():
            pages = self._client.query_iterator(
                collection,
                filter=condition,
                output_fields=fields,
                batch_size=min(size, MOST),
                consistency_level="Strong",
            )
            try:
                while page := pages.next():
                    yield [dict(row) for row in page]
            finally:
                pages.close()

    def _query(self, collection: str, condition: str, fields: list[str]) -> list[dict[str, Any]]:
        size = _ROWS if {"*", "vector", "jpeg", "value"} & {*fields} else MOST
        return [row for page in self._pages(collection, condition, fields, size) for row in page]

    def search(self, query: NDArray[np.float32], k: int, where: Filter | Sequence[Filter] | None = None) -> list[Hits]:
        """Return the k most similar tracklets of each of (Q, D) queries, under one filter or Q of them.

        `k` is at most `MOST`.
        """
        check_query(query, k, self.dimensions)
        if k > MOST:
            raise InputError(f"{k} results were asked for; Milvus returns at most {MOST}.")
        hits: dict[int, Hits] = {}
        for one, numbers in filters_of_queries(where, len(query)).items():
            condition = _condition(one)
            for begin in range(0, len(numbers), _QUERIES):
                some = numbers[begin : begin + _QUERIES]
                found = [[] for _ in some] if condition is None else self._search(query[some], k, condition)
                hits |= {number: _hits(rows, k) for number, rows in zip(some, found, strict=True)}
        return [hits[number] for number in range(len(query))]

    def _search(self, query: NDArray[np.float32], k: int, condition: str) -> list[list[dict[str, Any]]]:
        with self._errors():
            found = self._client.search(
                self._name,
                query.astype(np.float32).tolist(),
                filter=condition,
                limit=min(k + _SPARE, MOST),
                output_fields=["started", "ended"],
                search_params={"metric_type": "IP", "params": self._search_parameters},
                consistency_level="Strong",
            )
        return [
            [{**hit["entity"], "id": str(hit["id"]), "similarity": float(hit["distance"])} for hit in one]
            for one in found
        ]

    def fetch(self, ids: Sequence[str], *, crops: bool = False) -> TrackletBatch:
        """Return the tracklets of `ids` that exist, in this order."""
        distinct = list(dict.fromkeys(ids))
        found: dict[str, dict[str, Any]] = {}
        for begin in range(0, len(distinct), _ROWS):
            rows = self._query(self._name, _any("id", distinct[begin : begin + _ROWS]), ["*"])
            found |= {row["id"]: row for row in rows}
        return self._batch([found[name] for name in distinct if name in found], crops)

    def count(self, where: Filter | None = None) -> int:
        """Count tracklets."""
        condition = _condition(where)
        return 0 if condition is None else self._count(self._name, condition)

    def _count(self, collection: str, condition: str = "") -> int:
        with self._errors():
            (row,) = self._client.query(
                collection, filter=condition, output_fields=["count(*)"], consistency_level="Strong"
            )
        return int(row["count(*)"])

    def scan(
        self, where: Filter | None = None, *, after: str = "", limit: int = 1000, crops: bool = False
    ) -> Iterator[TrackletBatch]:
        """Yield all tracklets in the order of their ids."""
        condition = _condition(where)
        if condition is None:
            return
        both = " and ".join(one for one in (condition, f"id > {_text(after)}") if one)
        for rows in self._pages(self._name, both, ["*"], min(limit, _ROWS)):
            yield self._batch(rows, crops)

    def list_by_time(
        self, where: Filter | None = None, *, after: tuple[int, str] | None = None, limit: int = 1000
    ) -> TrackletBatch:
        """Return the first `limit` tracklets in the order of their starts and ids, after those of a page before."""
        condition = _condition(where)
        if condition is None:
            return self._batch([], False)
        start, name = after or (NO_TIME, "")
        found = self._starts(f"{condition and condition + ' and '}started == {start} and id > {_text(name)}", limit)
        if len(found) < limit:
            later = f"{condition and condition + ' and '}started > {start}"
            until = self._until(later, start, limit - len(found))
            found += sorted(self._starts(f"{later} and started <= {until}"))[: limit - len(found)]
        return self.fetch([name for _, name in found])

    def _starts(self, condition: str, limit: int | None = None) -> list[tuple[int, str]]:
        """Return start and id of the tracklets that satisfy `condition`, in the order of ids, at most `limit`."""
        found: list[tuple[int, str]] = []
        for page in self._pages(self._name, condition, ["id", "started"], limit or MOST):
            found += [(int(row["started"]), str(row["id"])) for row in page]
            if limit is not None and len(found) >= limit:
                break
        return found[:limit]

    def _until(self, later: str, start: int, wanted: int) -> int:
        """Return a time up to which `wanted` or all tracklets start that satisfy `later`, and few more: Milvus orders
        by ids only.

        Tracklets are counted up to times further and further after `start`, then the interval is halved until its
        tracklets fit in one message.
        """

        def count(until: int) -> int:
            return self._count(self._name, f"{later} and started <= {until}")

        if start == NO_TIME and not count(0):
            start = 0
        low, high, step = start, min(start + _STEP, -NO_TIME), _STEP
        while (found := count(high)) < wanted and high < -NO_TIME:
            step *= 16
            low, high = high, min(start + step, -NO_TIME)
        while found > MOST and high - low > 1:
            middle = (low + high) // 2
            below = count(middle)
            if below < wanted:
                low = middle
            else:
                high, found = middle, below
        return high

    def _batch(self, rows: list[dict[str, Any]], crops: bool) -> TrackletBatch:
        def texts(column: str) -> NDArray[np.object_]:
            return object_array([row[column] for row in rows])

        ids = texts("id")
        return TrackletBatch(
            ids,
            np.array([row["vector"] for row in rows], np.float32).reshape(-1, self.dimensions),
            texts("camera"),
            np.array([row["started"] for row in rows], np.int64),
            np.array([row["ended"] for row in rows], np.int64),
            texts("color"),
            texts("vehicle_type"),
            [json.loads(row["facts"]) for row in rows],
            self._crops_of(list(ids)) if crops else None,
        )

    def _crops_of(self, ids: list[str]) -> list[list[StoredCrop]]:
        found: dict[str, list[tuple[int, StoredCrop]]] = {name: [] for name in ids}
        for begin in range(0, len(ids), _ROWS):
            for page in self._pages(self._crops, _any("tracklet", ids[begin : begin + _ROWS]), ["*"], _CROPS):
                for row in page:
                    found[row["tracklet"]].append((row["place"], _crop(row)))
        return [[crop for _, crop in sorted(found[name], key=lambda one: one[0])] for name in ids]

    # Documents

    def get_document(self, key: str) -> Any:
        """Return the document of a key, None if there is none."""
        return self._read(f"name == {_text(key)}").get(key)

    def put_document(self, key: str, value: Any) -> None:
        """Insert or replace a document that survives JSON."""
        with self._writing():
            self._put({key: value})

    def documents(self, prefix: str = "") -> dict[str, Any]:
        """Return the documents whose key starts with `prefix`, in the order of their keys."""
        found = self._read(f"name > {_text(prefix)} or name == {_text(prefix)}" if prefix else 'name != ""')
        return {key: found[key] for key in sorted(found) if key.startswith(prefix) and key != _ENGINE}

    def delete_document(self, key: str) -> bool:
        """Delete a document; return whether there was one."""
        with self._writing():
            rows = self._query(self._documents, f"name == {_text(key)}", ["key"])
            self._drop(self._documents, "key", [row["key"] for row in rows])
            return bool(rows)

    def _put(self, documents: Mapping[str, Any]) -> None:
        for name, value in documents.items():
            text = json.dumps(value)
            if len(name.encode()) > _KEY:
                raise InputError(f"document {name[:40]}...: its key exceeds {_KEY} bytes; shorten it.")
            parts = [text[begin : begin + _PART] for begin in range(0, len(text), _PART)]
            rows = [
                {"key": f"{part:06d}/{name}", "name": name, "part": part, "value": piece, "vector": [0.0, 1.0]}
                for part, piece in enumerate((f"{len(parts)} {parts[0]}", *parts[1:]))
            ]
            for begin in range(0, len(rows), _CROPS):
                self._client.upsert(self._documents, rows[begin : begin + _CROPS])

    def _read(self, condition: str) -> dict[str, Any]:
        """Return documents; the first part of each says how many there are, others are of a longer one before it."""
        parts: dict[str, dict[int, str]] = {}
        with self._errors():
            for row in self._query_documents(condition):
                parts.setdefault(row["name"], {})[row["part"]] = row["value"]
        found = {}
        for name, pieces in parts.items():
            count, _, first = pieces[0].partition(" ")
            found[name] = json.loads(first + "".join(pieces[number] for number in range(1, int(count))))
        return found

    def _query_documents(self, condition: str) -> list[dict[str, Any]]:
        return self._query(self._documents, condition, ["name", "part", "value"])

    # Care

    def info(self) -> EngineInfo:
        """Describe the server's store; its size on disk is unknown."""
        with self._errors():
            version = str(self._client.get_server_version())
            (index, *_) = self._client.list_indexes(self._name)
            details = {"index": self._client.describe_index(self._name, index)["index_type"]}
        count = self._count(self._name), self._count(self._crops)
        return EngineInfo("milvus", version, self.uri, self.dimensions, self.model, *count, details=details)

    def set_index(
        self, kind: str, parameters: Mapping[str, Any], search_parameters: Mapping[str, Any] | None = None
    ) -> None:
        """Replace the index of the tracklets' vectors; use `gate_index`, which measures what it finds.

        Stores that are open in other processes search with the old parameters until they are opened again.
        """
        with self._writing():
            self._client.flush(self._name)
            self._client.release_collection(self._name)
            for name in self._client.list_indexes(self._name):
                self._client.drop_index(self._name, name)
            index = self._client.prepare_index_params()
            index.add_index("vector", index_type=kind, metric_type="IP", params=dict(parameters))
            self._client.create_index(self._name, index)
            self._client.load_collection(self._name)
            self._search_parameters = dict(search_parameters or {})
            facts = {"schema": _SCHEMA, "dimensions": self.dimensions, "model": self.model}
            self._put({_ENGINE: facts | {"search": self._search_parameters}})

    def problems(self) -> Iterator[str]:
        """Yield crops without a tracklet, which a killed process leaves."""
        previous, count = "", 0
        for page in self._pages(self._crops, 'key != ""', ["tracklet"], MOST):
            names = sorted({row["tracklet"] for row in page} - {previous})
            there = {row["id"] for row in self._query(self._name, _any("id", names), ["id"])} if names else set()
            lost = [name for name in names if name not in there]
            count += len(lost)
            if lost:
                yield f"{lost[0]}: {count} tracklets have crops but no row; delete them by id, or ingest them again"
            previous = names[-1] if names else previous

    def compact(self, *, rewrite: bool = False) -> int:
        """Ask the server to give the space of deleted rows back, which it does in the background; return -1."""
        with self._writing():
            for name in (self._name, self._crops, self._documents):
                self._client.flush(name)
                self._client.compact(name)
        return -1

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def gate_index(
    engine: MilvusEngine,
    kind: str,
    parameters: Mapping[str, Any],
    search_parameters: Mapping[str, Any] | None = None,
    *,
    target: float = 0.99,
    k: int = 100,
    queries: int = 100,
) -> dict[str, float]:
    """Switch to an approximate index if it finds what exact search finds, else go back to FLAT.

    Args:
        engine: its index is FLAT when called.
        kind: "HNSW", "IVF_FLAT", ...
        parameters: of the index, as Milvus names them, for example {"M": 16, "efConstruction": 200}.
        search_parameters: of every search in it, for example {"ef": 400}.
        target: least share of the k nearest that must be found, without a filter and for one camera.
        k: results of a search.
        queries: stored tracklets that are searched, the first of as many pages of ids.

    Returns:
        Measured recall, without a filter ("all") and for the camera with fewest of the searched tracklets ("camera").

    Raises:
        InputError: the recall is below `target`; the exact index is in place again.
    """
    if engine.info().details["index"] != "FLAT":
        raise InputError(f"{engine.uri}: its index is not FLAT, so there is nothing exact to compare with.")
    step = max(1, engine.count() // queries)
    sample = [batch for batch in engine.scan(limit=step)]
    if not sample:
        raise InputError(f"{engine.uri}: holds no tracklets to measure with; fill it first.")
    vectors = np.concatenate([batch.vector[:1] for batch in sample])[:queries]
    cameras, counts = np.unique([str(batch.camera[0]) for batch in sample], return_counts=True)
    filters = {"all": None, "camera": Filter(cameras=frozenset({str(cameras[int(np.argmin(counts))])}))}
    exact = {name: engine.search(vectors, k, where) for name, where in filters.items()}
    engine.set_index(kind, parameters, search_parameters)
    recall = {name: _recall(engine.search(vectors, k, where), exact[name]) for name, where in filters.items()}
    if min(recall.values()) < target:
        engine.set_index("FLAT", {})
        raise InputError(
            f"{engine.uri}: {kind} finds {recall['all']:.3f} of the {k} nearest ({recall['camera']:.3f} in one "
            f"camera), less than {target:g}; the exact index stays. Give parameters that search more."
        )
    return recall


def _recall(found: list[Hits], exact: list[Hits]) -> float:
    shares = [
        np.isin(wanted.id.astype(str), one.id.astype(str)).mean()
        for one, wanted in zip(found, exact, strict=True)
        if len(wanted.id)
    ]
    return float(np.mean(shares)) if shares else 1.0


def _text(value: str) -> str:
    """Quote a text for an expression of Milvus."""
    return json.dumps(value, ensure_ascii=False)


def _any(column: str, values: Sequence[str]) -> str:
    return f"{column} in [{', '.join(map(_text, values))}]"


def _condition(where: Filter | None) -> str | None:
    """Return the expression of a filter, "" for all and None for none."""
    where = where or Filter()
    parts = []
    for column, wanted in (("camera", where.cameras), ("color", where.colors), ("vehicle_type", where.vehicle_types)):
        if wanted is not None:
            if not wanted:
                return None
            parts.append(_any(column, sorted(wanted)))
    if where.not_cameras:
        parts.append(f"not ({_any('camera', sorted(where.not_cameras))})")
    if where.start is not None and where.end is not None and where.start >= where.end:
        return None
    if where.start is not None or where.end is not None:
        parts.append(f"started != {NO_TIME}")
    if where.start is not None:
        parts.append(f"ended >= {where.start}")
    if where.end is not None:
        parts.append(f"started < {where.end}")
    return " and ".join(parts)


def _row(batch: TrackletBatch, row: int) -> dict[str, Any]:
    return {
        "id": str(batch.id[row]),
        "camera": str(batch.camera[row]),
        "color": str(batch.color[row]),
        "vehicle_type": str(batch.vehicle_type[row]),
        "started": int(batch.start[row]),
        "ended": int(batch.end[row]),
        "facts": json.dumps(batch.facts[row]),
        "vector": batch.vector[row].tolist(),
    }


def _crop_row(name: str, place: int, crop: StoredCrop) -> dict[str, Any]:
    return {
        "key": f"{name}#{place}",
        "tracklet": name,
        "place": place,
        "time": int(crop.time),
        "frame": int(crop.frame),
        "box": "" if crop.box is None else json.dumps([float(one) for one in crop.box]),
        "quality": float(crop.quality),
        "jpeg": base64.b64encode(crop.jpeg).decode(),
        "vector": crop.vector.tolist(),
    }


def _crop(row: dict[str, Any]) -> StoredCrop:
    return StoredCrop(
        base64.b64decode(row["jpeg"]),
        np.array(row["vector"], np.float32),
        row["time"],
        row["frame"],
        tuple(json.loads(row["box"])) if row["box"] else None,
        row["quality"],
    )


def _hits(found: list[dict[str, Any]], k: int) -> Hits:
    best = sorted(found, key=lambda row: (-row["similarity"], row["id"]))[:k]
    return Hits(
        object_array([row["id"] for row in best]),
        np.array([row["similarity"] for row in best], np.float32),
        np.array([row["started"] for row in best], np.int64),
        np.array([row["ended"] for row in best], np.int64),
    )
