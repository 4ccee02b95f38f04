"""Requests that no client of `vreid serve` sends: uploads that are no images, odd forms, JSON, parameters and HTTP.

`request_of` draws the request of a number as the bytes of HTTP/1.1, so that a number repeats a problem.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from random import Random
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from PIL import Image

from soak.fuzz import changed
from soak.seeds import ODD_BYTES

IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp")
WRONG_TYPES = (
    "image/gif",
    "image/svg+xml",
    "text/html",
    "application/json",
    "",
    "image/",
    "image/jpeg/png",
    "IMAGE/JPEG",
    "image/jpeg; charset=\xff",
    "multipart/form-data",
    "multipart/form-data; boundary=",
    "multipart/mixed; boundary=x",
    "application/x-www-form-urlencoded",
    "image/png, image/jpeg",
    "a" * 5000,
)
ODD_TEXTS = (
    "",
    " ",
    "0",
    "-1",
    "1",
    "2",
    "1e400",
    "nan",
    "inf",
    "99999999999999999999",
    "true",
    "null",
    "[]",
    "{}",
    "'",
    '"',
    "%",
    "%00",
    "\0",
    "\ud800",
    "\u202e",
    "../../etc/passwd",
    "/",
    "//",
    ".",
    "..",
    "\\",
    "a" * 600,
    "é" * 300,
    "\n",
    "\r\n\r\n",
    "<script>alert(1)</script>",
    "{{7*7}}",
    "' OR 1=1 --",
    "*",
    "c001/1",
    "c001",
    "c002",
    "c003",
    "white",
    "van",
    "relative",
    "k-reciprocal",
    "2026-01-05T09:00:00Z",
    "2026-13-45",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "2026-03-29T02:30:00",
    "1,2,3,4",
    "0,0,1e308,1e308",
    "0,0,10,10",
    "csv",
    "json",
    "html",
    "http://localhost:1/",
    "http://169.254.169.254/latest",
    "file:///etc/passwd",
    "javascript:alert(1)",
)
PARAMETERS = (
    "tracklet",
    "upload",
    "camera",
    "not_camera",
    "start",
    "end",
    "color",
    "type",
    "top",
    "same_camera",
    "rerank",
    "purpose",
    "box",
    "query_camera",
    "after",
    "limit",
    "before",
    "case",
    "card",
    "a",
    "b",
    "back",
)
FIELDS: Mapping[str, Sequence[str]] = {
    "/search": ("purpose", "box"),
    "/decide": ("tracklet", "same", "other", "case", "card", "back"),
    "/watch": ("tracklet", "upload", "name", "webhook", "delete"),
    "/cases/1/change": ("name", "note", "delete"),
    "/tokens": ("name", "role"),
    "/tokens/delete": ("name",),
    "/login": ("token", "back"),
    "/logout": (),
    "/trips/link": (),
    "/trips/decide": ("first", "second", "same"),
}
"""Forms of the pages with their fields."""
PAGES = (
    "/",
    "/search",
    "/browse",
    "/compare",
    "/cases",
    "/cases/1",
    "/watch",
    "/cameras",
    "/audit",
    "/tokens",
    "/login",
    "/trips",
    "/static/style.css",
    "/static/../app.py",
    "/nothing",
)
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "get", "G" * 50)
UPLOADS = 0.6
"""Share of uploads among the requests."""


class Site(NamedTuple):
    """What requests are made of: operations of the API, ids of tracklets, and the session of a page."""

    host: str
    operations: Sequence[tuple[str, str]]
    tracklets: Sequence[str]
    cookie: str = ""
    form_token: str = ""


class Drawn(NamedTuple):
    """A request.

    Attributes:
        data: its bytes.
        cut: how many of them are sent before the client hangs up; None: all, and it waits for the answer.
        alone: whether it has a connection for itself, because its framing may be wrong.
    """

    data: bytes
    cut: int | None = None
    alone: bool = False


def request_of(number: int, seed: int, site: Site) -> Drawn:
    """Draw a request; it depends on the arguments alone."""
    rng = Random(f"{seed} {number}")
    kind = upload if rng.random() < UPLOADS else rng.choice((api_call, api_call, page_call, form, nonsense))
    data = kind(rng, site)
    cut = rng.randrange(len(data) + 1) if rng.random() < 0.02 else None
    return Drawn(data, cut, alone=kind is nonsense)


# ---------------------------------------------------------------------------------------------------- images


@cache
def images() -> tuple[tuple[str, bytes], ...]:
    """Valid images of many kinds with their content types, also of types that are refused."""
    x, y = np.meshgrid(np.arange(56), np.arange(40))
    plain = Image.fromarray(np.stack([x * 4, y * 6, (x * y) % 256], axis=-1).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x8769] = 6, "a van", {0x9286: b"ASCII\0\0\0hello"}
    alpha = plain.copy()
    alpha.putalpha(128)
    deep = Image.fromarray((x * y).astype(np.uint16))
    frames: dict[str, Any] = {"save_all": True, "append_images": [plain.rotate(90)] * 3}
    made: list[tuple[str, str, Image.Image, dict[str, Any]]] = [
        ("image/jpeg", "JPEG", plain, {}),
        ("image/jpeg", "JPEG", plain, {"progressive": True, "quality": 60}),
        ("image/jpeg", "JPEG", plain, {"exif": exif, "comment": b"by a camera", "restart_marker_blocks": 2}),
        ("image/jpeg", "JPEG", plain.convert("L"), {}),
        ("image/jpeg", "JPEG", plain.convert("CMYK"), {}),
        ("image/jpeg", "MPO", plain, frames),
        ("image/png", "PNG", plain, {"exif": exif}),
        ("image/png", "PNG", alpha, {}),
        ("image/png", "PNG", plain.convert("P"), {"transparency": 3}),
        ("image/png", "PNG", plain.convert("1"), {}),
        ("image/png", "PNG", deep, {}),
        ("image/png", "PNG", plain, frames),
        ("image/webp", "WEBP", plain, {"exif": exif}),
        ("image/webp", "WEBP", alpha, {"lossless": True}),
        ("image/webp", "WEBP", plain, frames),
        ("image/gif", "GIF", plain, frames),
        ("image/bmp", "BMP", plain, {}),
        ("image/tiff", "TIFF", plain, {}),
    ]
    found = []
    for kind, name, image, options in made:
        file = io.BytesIO()
        image.save(file, name, **options)
        found.append((kind, file.getvalue()))
    return (*found, *((f"image/{name}", data) for name, data in foreign().items()))


@cache
def foreign() -> dict[str, bytes]:
    """Files that are no images, which polyglots end in."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("../evil.txt", "x" * 1000)
    return {
        "zip": archive.getvalue(),
        "html": b"<!doctype html><html><script>alert(1)</script>",
        "svg": b"<?xml version='1.0'?><!DOCTYPE s [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><svg>&x;</svg>",
        "php": b"<?php system($_GET['x']); ?>",
        "pdf": b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF",
        "elf": b"\x7fELF\x02\x01\x01" + bytes(60),
        "nothing": b"",
    }


@cache
def zeros(size: int) -> bytes:
    """So many zeros, compressed."""
    return zlib.compress(bytes(size), 9)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """A PNG chunk with the right checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(rng: Random) -> tuple[str, bytes]:
    """A small file that declares, or unpacks to, much more."""
    side = rng.choice((1001, 5000, 30_000, 65_535, 2**31 - 1))
    kind = rng.randrange(5)
    if kind == 0:  # a PNG of zeros
        depth, colour = rng.choice(((8, 2), (16, 6), (1, 0), (8, 3), (4, 2)))
        header = struct.pack(">IIBBBBB", side, rng.choice((8, side)), depth, colour, 0, 0, rng.randrange(2))
        parts = (
            png_chunk(b"IHDR", header),
            png_chunk(b"IDAT", zeros(300_000)),
            png_chunk(b"IEND", b""),
        )
        return "image/png", b"\x89PNG\r\n\x1a\n" + b"".join(parts)
    if kind == 1:  # compressed text, profile or EXIF
        name = rng.choice((b"zTXt", b"iCCP", b"iTXt", b"eXIf"))
        inside = b"a\0\0" + (b"\1\0\0\0" if name == b"iTXt" else b"") + zeros(20_000_000)
        valid = images()[6][1]
        return "image/png", valid[:33] + png_chunk(name, inside) * rng.choice((1, 40)) + valid[33:]
    if kind == 2:  # the frame header of a JPEG
        valid = images()[rng.randrange(2)][1]
        place = max(valid.find(b"\xff\xc0"), valid.find(b"\xff\xc2"))
        return "image/jpeg", valid[: place + 5] + struct.pack(">HH", *[min(side, 65_535)] * 2) + valid[place + 9 :]
    if kind == 3:  # the canvas of an extended WebP
        size = struct.pack("<I", min(side, 2**24) - 1)[:3]
        canvas = b"VP8X" + struct.pack("<I", 10) + bytes([rng.randrange(64), 0, 0, 0]) + size + size
        inside = b"WEBP" + canvas + images()[12][1][12:]
        return "image/webp", b"RIFF" + struct.pack("<I", len(inside)) + inside
    segment = (
        b"\xff" + bytes([rng.choice((0xE0, 0xE1, 0xED, 0xFE, 0xDB, 0xC4))]) + struct.pack(">H", 65_535) + bytes(65_533)
    )
    valid = images()[0][1]
    return "image/jpeg", valid[:2] + segment * rng.choice((1, 30)) + valid[2:]


def image(rng: Random) -> tuple[str, bytes]:
    """A file with the content type that it should have."""
    kind, data = rng.choice(images())
    way = rng.random()
    if way < 0.08:
        return kind, data
    if way < 0.55:
        return kind, changed(data, rng)
    if way < 0.65:
        return kind, data[: rng.randrange(len(data) + 1)]
    if way < 0.75:  # polyglots
        other = rng.choice((*foreign().values(), *(one for _, one in images())))
        return kind, rng.choice(
            (data + other, other + data, data[: len(data) // 2] + other, data + bytes(5000) + other)
        )
    if way < 0.85:
        return bomb(rng)
    if way < 0.97:  # what decoders read from EXIF, ICC and text
        return _with_segment(rng)
    return kind, rng.choice((b"", rng.randbytes(rng.randrange(2000)), data * 50, b"\xff\xd8\xff" + bytes(3000)))


def _with_segment(rng: Random) -> tuple[str, bytes]:
    """A JPEG or PNG with random or damaged metadata in a segment that is framed correctly."""
    exif = Image.Exif()
    exif[0x0112] = rng.choice((0, 1, 5, 8, 9, 255, 65_535))
    content = (changed(exif.tobytes(), rng) if rng.random() < 0.8 else rng.randbytes(rng.randrange(400)))[:60_000]
    if rng.random() < 0.5:
        head = rng.choice(
            (b"", b"Exif\0\0", b"MPF\0", b"ICC_PROFILE\0\1\1", b"JFIF\0", b"Adobe\0", b"Photoshop 3.0\x008BIM")
        )
        body = head + content
        segment = b"\xff" + bytes([rng.randrange(0xE0, 0xF0)]) + struct.pack(">H", len(body) + 2) + body
        valid = images()[0][1]
        return "image/jpeg", valid[:2] + segment + valid[2:]
    name = rng.choice(
        (
            b"eXIf",
            b"iCCP",
            b"tEXt",
            b"zTXt",
            b"iTXt",
            b"tRNS",
            b"gAMA",
            b"acTL",
            b"fcTL",
            b"PLTE",
            b"pHYs",
            b"IHDR",
            b"xyzA",
        )
    )
    valid = images()[6][1]
    return "image/png", valid[:33] + png_chunk(name, content.removeprefix(b"Exif\0\0")) + valid[33:]


# ---------------------------------------------------------------------------------------------------- requests


def http(site: Site, method: str, target: str, body: bytes = b"", kind: str | None = None, **headers: str) -> bytes:
    """The bytes of a request."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {site.host}"]
    if kind is not None:
        lines.append(f"Content-Type: {kind}")
    if body or method not in ("GET", "HEAD"):
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body


def multipart(rng: Random, parts: Sequence[tuple[str, str | None, str, bytes]], boundary: str = "xYx") -> bytes:
    """A form of (name, file name, content type, content), now and then not a correct one."""
    found = []
    for name, file, kind, content in parts:
        about = f'Content-Disposition: form-data; name="{name}"' + (f'; filename="{file}"' if file is not None else "")
        lines = [f"--{boundary}", about, *([f"Content-Type: {kind}"] if kind else []), "", ""]
        found.append("\r\n".join(lines).encode("utf-8", "replace") + content + b"\r\n")
    body = b"".join(found) + f"--{boundary}--\r\n".encode()
    return changed(body, rng) if rng.random() < 0.15 else body


def upload(rng: Random, site: Site) -> bytes:
    """An upload to the API or the page."""
    kind, data = image(rng)
    if rng.random() < 0.1:
        kind = rng.choice((*IMAGE_TYPES, *WRONG_TYPES))
    query = "?top=3" if rng.random() < 0.7 else "?" + parameters(rng, site)
    if rng.random() < 0.6:
        return http(site, "POST", f"/api/v1/search{query}", data, kind)
    file = rng.choice(("x.jpg", "", "../../x", "a" * 300, "x\0.png", 'a"b'))
    parts = [(rng.choice(("image",) * 9 + ("file", "")), file, kind, data)]
    if rng.random() < 0.1:
        parts += parts * rng.choice((1, 5))
    if rng.random() < 0.5:
        return http(site, "POST", f"/api/v1/search{query}", multipart(rng, parts), "multipart/form-data; boundary=xYx")
    return _page_form(rng, site, "/search", parts)


def parameters(rng: Random, site: Site) -> str:
    """A query string."""
    count = rng.choice((0, 1, 1, 2, 3, 8))
    return "&".join(
        f"{rng.choice((*PARAMETERS, 'x', ''))}={quote(value(rng, site).encode('utf-8', 'surrogatepass'), safe='/:,%')}"
        for _ in range(count)
    )


def value(rng: Random, site: Site) -> str:
    """An odd text, or one that the store knows."""
    if site.tracklets and rng.random() < 0.35:
        return rng.choice(site.tracklets)
    if rng.random() < 0.9:
        return rng.choice(ODD_TEXTS)
    return "".join(
        chr(rng.choice((rng.randrange(128), rng.randrange(0xD800), rng.randrange(0xE000, 0x110000))))
        for _ in range(rng.randrange(20))
    )


def api_call(rng: Random, site: Site) -> bytes:
    """A call of an operation with values that do not fit, and of paths with other methods."""
    path, method = rng.choice(site.operations)
    if method == "DELETE" and "tracklet" in path and rng.random() < 0.98:
        method = "GET"  # or the store is soon empty
    if rng.random() < 0.1:
        method = rng.choice(METHODS)
    for name in ("{id}", "{number}", "{key}", "{form}"):
        given = rng.choice(("1", "2", value(rng, site))) if name == "{number}" else value(rng, site)
        path = path.replace(name, quote(given.encode("utf-8", "surrogatepass"), safe="/"))
    headers = {}
    if rng.random() < 0.2:
        headers[rng.choice(("If_None_Match", "X_Purpose", "Range", "Accept_Encoding", "Expect", "HX_Request"))] = (
            rng.choice(("*", '"a"', "bytes=0-", "100-continue", "\xff\xfe", "true", "a" * 3000))
        )
    body, kind = b"", None
    if method not in ("GET", "HEAD", "DELETE"):
        body, kind = json_body(rng, site), rng.choice(("application/json",) * 8 + WRONG_TYPES[:4])
    return http(site, method, f"{path}?{parameters(rng, site)}", body, kind, **headers)


def json_body(rng: Random, site: Site) -> bytes:
    """JSON with the names of fields of the API and odd values; or nearly JSON."""

    def odd(depth: int) -> Any:
        draw = rng.random()
        if draw < 0.55:
            return value(rng, site).encode("utf-8", "replace").decode() if rng.random() < 0.95 else "\ud800"
        if draw < 0.9 or depth > 3:
            return rng.choice((None, True, False, 0, -1, 1, 2**63, 10**40, 1.5, float("nan"), float("inf"), ""))
        return rng.choice(([odd(depth + 1)] * 3, {"tracklet": odd(depth + 1)}))

    names = ("tracklet", "other", "same", "name", "note", "upload", "webhook", "first", "second", "x")
    content = json.dumps({name: odd(0) for name in rng.sample(names, rng.randrange(5))}).encode()
    draw = rng.random()
    if draw < 0.8:
        return content
    return (
        changed(content, rng)
        if draw < 0.95
        else rng.choice((b"[" * 100_000, b"\xff\xfe", b"", b'{"a":' * 9000, b"NaN"))
    )


def page_call(rng: Random, site: Site) -> bytes:
    """A page with odd parameters."""
    path = rng.choice(PAGES)
    method = "GET" if rng.random() < 0.9 else rng.choice(METHODS)
    cookie = {"Cookie": site.cookie if rng.random() < 0.7 else f"vreid_session={rng.choice(ODD_TEXTS)!a}"}
    return http(site, method, f"{path}?{parameters(rng, site)}", **cookie)


def form(rng: Random, site: Site) -> bytes:
    """A form of the pages with odd values."""
    path = rng.choice([*FIELDS])
    parts = [
        (name, None, "", value(rng, site).encode("utf-8", "surrogatepass"))
        for name in FIELDS[path]
        if rng.random() < 0.8
    ]
    if path == "/decide" and rng.random() < 0.7:
        parts = [part for part in parts if part[0] != "same"] + [
            ("same", None, "", rng.choice((b"yes", b"no", b"open")))
        ]
    return _page_form(rng, site, path, parts)


def _page_form(rng: Random, site: Site, path: str, parts: Sequence[tuple[str, str | None, str, bytes]]) -> bytes:
    token = site.form_token if rng.random() < 0.95 else rng.choice(ODD_TEXTS)
    whole = [("form_token", None, "", token.encode("utf-8", "surrogatepass")), *parts]
    boundary = rng.choice(("xYx",) * 12 + ("", "a" * 80, "é", "x y"))
    kind = f"multipart/form-data; boundary={boundary}"
    return http(site, "POST", path, multipart(rng, whole, boundary), kind, Cookie=site.cookie)


def nonsense(rng: Random, site: Site) -> bytes:
    """What is no correct HTTP, or other headers than clients send."""
    target = rng.choice(
        ("/", "*", "/api/v1/health", "http://other/", "/" + "a" * 20_000, "/%ff%00", "//", "/?" + "&" * 3000)
    )
    if rng.random() < 0.4:
        return changed(http(site, "POST", target, b"x" * 30, "image/png", Cookie=site.cookie), rng) + b"\r\n\r\n"
    odd = {
        rng.choice(
            (
                "Content_Length",
                "Transfer_Encoding",
                "Host",
                "Origin",
                "Sec_Fetch_Site",
                "X_Forwarded_For",
                "Cookie",
                "Authorization",
                "Upgrade",
                "Connection",
                "X_Form_Token",
                "If_None_Match",
            )
        ): rng.choice(
            (
                "",
                "-5",
                "1e3",
                "chunked",
                "gzip, chunked",
                "evil.example",
                "null",
                "cross-site",
                "websocket",
                "close",
                "Bearer ",
                "Bearer a.b",
                "Basic eDp5",
                "\xff",
                "a" * 9000,
                "%r%n" * 100,
                f"vreid_session={'.' * 40}",
                "[::1",
                "[::1]:x",
            )
        )
        for _ in range(rng.randrange(1, 4))
    }
    body = rng.choice((b"", b"5\r\nhello\r\n0\r\n\r\n", rng.choice(ODD_BYTES) * 3))
    return http(site, rng.choice(METHODS), target, body, **odd)
