"""Uploads: what is read, what is refused, and that nothing else happens."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

from vreid.serve.http_errors import HttpError
from vreid.serve.uploads import TYPES, read_upload

PIXELS = 1_000_000


def encoded(kind: str, size: tuple[int, int] = (40, 30), **options: object) -> bytes:
    file = io.BytesIO()
    gradient = Image.linear_gradient("L").resize(size)
    Image.merge("RGB", [gradient, gradient.rotate(90), gradient]).save(file, kind, **options)  # type: ignore[arg-type]
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        zipped.writestr("evil.txt", "x")
    return file.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that declares a large image."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = zlib.compress(bytes(10_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def with_exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded("JPEG", exif=exif)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_images_are_read(kind: str) -> None:
    upload = read_upload(encoded(kind), f"image/{kind.lower()}; charset=binary", most_pixels=PIXELS)
    assert (upload.image.mode, upload.image.size, upload.width, upload.height) == ("RGB", (40, 30), 40, 30)


@pytest.mark.parametrize(
    "options",
    [
        {"progressive": True},
        {"restart_marker_blocks": 1},
        {"optimize": True, "quality": 20},
        {"comment": b"by a camera"},
    ],
)
def test_jpegs_of_all_kinds_are_read(options: dict[str, object]) -> None:
    assert read_upload(encoded("JPEG", (333, 217), **options), "image/jpeg", most_pixels=PIXELS).width == 333


def test_photographs_are_turned_upright_and_boxes_fit_them() -> None:
    upload = read_upload(with_exif(6), "image/jpeg", most_pixels=PIXELS)
    assert (upload.width, upload.height, upload.image.size) == (30, 40, (30, 40))
    large = read_upload(encoded("JPEG", (4000, 3000)), "image/jpeg", most_pixels=20_000_000)
    assert large.width == 4000 and large.image.width < 4000
    assert abs(large.cut((1000, 0, 3000, 3000)).width - large.image.width / 2) <= 2
    with pytest.raises(HttpError, match="the box"):
        upload.cut((100, 100, 200, 200))


def test_phones_append_gain_maps() -> None:
    plain = encoded("JPEG")
    index = b"MPF\0" + bytes(20)
    first = plain[:2] + b"\xff\xe2" + struct.pack(">H", len(index) + 2) + index + plain[2:]
    assert read_upload(first + plain, "image/jpeg", most_pixels=PIXELS).width == 40
    with pytest.raises(HttpError, match="bytes follow"):
        read_upload(first + plain + archive(), "image/jpeg", most_pixels=PIXELS)


CASES: dict[str, tuple[bytes, str, int, str]] = {
    "nothing": (b"", "image/png", 422, "empty"),
    "another type": (encoded("GIF"), "image/gif", 415, "content type"),
    "a page": (b"<html><script>1</script>", "text/html", 415, "content type"),
    "no image": (b"<html><script>1</script>", "image/png", 415, "declared"),
    "a false name": (encoded("PNG"), "image/jpeg", 415, "declared"),
    "a vector image": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/png", 415, "declared"),
    "JPEG and archive": (encoded("JPEG") + archive(), "image/jpeg", 422, "follow"),
    "two JPEGs": (encoded("JPEG") * 2, "image/jpeg", 422, "follow"),
    "PNG and page": (encoded("PNG") + b"<script>1</script>", "image/png", 422, "follow"),
    "WebP and archive": (encoded("WEBP") + archive(), "image/webp", 422, "follow"),
    "a script in a comment": (encoded("JPEG", comment=b"<script>1</script>"), "image/jpeg", 422, "metadata"),
    "half a JPEG": (encoded("JPEG")[:-200], "image/jpeg", 422, "damaged"),
    "half a PNG": (encoded("PNG")[:-20], "image/png", 422, "damaged"),
    "half a WebP": (encoded("WEBP")[:-20], "image/webp", 422, "damaged"),
    "a bomb": (bomb(50_000, 50_000), "image/png", 413, "pixels"),
    "a small bomb": (bomb(1001, 1000), "image/png", 413, "pixels"),
    "an animation": (
        encoded("WEBP", save_all=True, append_images=[Image.new("RGB", (40, 30), "red")]),
        "image/webp",
        422,
        "animation",
    ),
    "a line": (encoded("PNG", (500, 1)), "image/png", 422, "at least"),
    "much metadata": (
        encoded("PNG")[:33] + chunk(b"tEXt", bytes(2_000_000)) + encoded("PNG")[33:],
        "image/png",
        422,
        "metadata",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_other_files_are_refused_in_one_sentence(case: str) -> None:
    body, kind, status, part = CASES[case]
    with pytest.raises(HttpError, match=part) as refused:
        read_upload(body, kind, most_pixels=PIXELS)
    assert refused.value.status == status
    assert "\n" not in str(refused.value) and "Error" not in str(refused.value)


SEEDS = [encoded("JPEG"), encoded("JPEG", progressive=True), encoded("PNG"), encoded("WEBP"), with_exif(8), archive()]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An image with bytes changed, removed, inserted or repeated."""
    body = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, max(len(body) - 1, 0)))
        change = draw(st.sampled_from(["flip", "cut", "insert", "repeat", "end"]))
        if change == "flip" and body:
            body[at] ^= 1 << draw(st.integers(0, 7))
        elif change == "cut":
            del body[at : at + draw(st.integers(1, 50))]
        elif change == "insert":
            body[at:at] = draw(st.binary(max_size=30))
        elif change == "repeat":
            body[at:at] = body[at : at + 100]
        else:
            del body[at:]
    return bytes(body)


@settings(max_examples=400)
@given(body=damaged() | st.binary(max_size=300), kind=st.sampled_from([*TYPES, "text/plain"]))
def test_any_bytes_give_an_image_or_a_sentence(body: bytes, kind: str) -> None:
    try:
        upload = read_upload(body, kind, most_pixels=PIXELS)
    except HttpError as error:
        assert 400 <= error.status < 500 and "\n" not in str(error)
    else:
        assert upload.image.mode == "RGB" and upload.width * upload.height <= PIXELS


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=damaged(), kind=st.sampled_from(list(TYPES)), form=st.booleans())
def test_uploads_never_give_an_internal_error(client: TestClient, body: bytes, kind: str, form: bool) -> None:
    if form:
        answer = client.post("/api/v1/search", files={"image": ("x", body, kind)})
    else:
        answer = client.post("/api/v1/search", content=body, headers={"content-type": kind})
    assert answer.status_code < 500
    assert answer.status_code == 200 or set(answer.json()) == {"error"}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.binary(max_size=400),
    boundary=st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=20) | st.just("x"),
    path=st.sampled_from(["/api/v1/search", "/search", "/login", "/decide", "/watch"]),
    begun=st.booleans(),
)
def test_forms_of_any_bytes_never_give_an_internal_error(
    client: TestClient, body: bytes, boundary: str, path: str, begun: bool
) -> None:
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"\r\n\r\n'.encode() if begun else b""
    kind = {"content-type": f"multipart/form-data; boundary={boundary}"}
    assert 400 <= client.post(path, content=head + body, headers=kind).status_code < 500
