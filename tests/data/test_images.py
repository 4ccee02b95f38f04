"""Images of every kind through `read_image`: exact pixels, or one sentence that says what is wrong with the file."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from support.command_line import Run, reported, state
from vreid.data.images import MAX_PIXELS, image_size, read_image
from vreid.errors import InputError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 128, 0), (0, 0, 255), (255, 255, 255)
UPRIGHT = np.array([[RED, GREEN, BLUE], [WHITE, (10, 20, 30), (7, 7, 7)]], dtype=np.uint8)
"""Two rows of three pixels, no two alike."""
STORED: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}
"""How an upright image is stored by a camera that writes this EXIF orientation (TIFF 6.0, tag 274)."""


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def pixels(path: Path) -> list[list[list[int]]]:
    image = read_image(path)
    assert image.mode == "RGB"
    assert image_size(path) == image.size
    out: list[list[list[int]]] = np.asarray(image).tolist()
    return out


# ---------------------------------------------------------------- what can be read


@pytest.mark.parametrize("orientation", [*STORED, 0, 9])
@pytest.mark.parametrize("kind", [".png", ".webp", ".tif"])
def test_exif_rotation(orientation: int, kind: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(STORED.get(orientation, STORED[1])(UPRIGHT))
    options = {"lossless": True, "exact": True} if kind == ".webp" else {}
    path = saved(tmp_path / f"a{kind}", Image.fromarray(stored), exif=exif, **options)
    assert pixels(path) == UPRIGHT.tolist()


def test_a_box_is_in_pixels_of_the_upright_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "a.png", Image.fromarray(np.ascontiguousarray(STORED[6](UPRIGHT))), exif=exif)
    assert np.asarray(read_image(path, box=(1, 0, 3, 1))).tolist() == UPRIGHT[:1, 1:].tolist()


KINDS: dict[str, tuple[Callable[[Path], Path], list[list[tuple[int, int, int]]]]] = {
    "grey": (
        lambda p: saved(p / "a.png", Image.fromarray(np.array([[0, 90, 255]], np.uint8))),
        [[(0, 0, 0), (90, 90, 90), WHITE]],
    ),
    "grey with alpha": (
        lambda p: saved(p / "a.png", Image.fromarray(np.array([[[90, 0], [200, 255]]], np.uint8))),
        [[(90, 90, 90), (200, 200, 200)]],
    ),
    "alpha is dropped": (
        lambda p: saved(p / "a.png", Image.fromarray(np.array([[[9, 8, 7, 0]]], np.uint8))),
        [[(9, 8, 7)]],
    ),
    "1-bit": (
        lambda p: saved(p / "a.png", Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")),
        [[(0, 0, 0), WHITE]],
    ),
    "16-bit PNG": (
        lambda p: saved(p / "a.png", Image.fromarray(np.array([[0, 255, 256, 40000, 65535]], np.uint16))),
        [[(0, 0, 0), (0, 0, 0), (1, 1, 1), (156, 156, 156), WHITE]],
    ),
    "16-bit TIFF": (
        lambda p: saved(p / "a.tif", Image.fromarray(np.array([[0, 40000, 65535]], np.uint16))),
        [[(0, 0, 0), (156, 156, 156), WHITE]],
    ),
    "big-endian TIFF": (
        lambda p: saved(p / "a.tif", Image.frombytes("I;16B", (2, 1), b"\x9c\x40\xff\xff")),
        [[(156, 156, 156), WHITE]],
    ),
    "16-bit colour PNG": (lambda p: _png(p / "a.png", 16, 2, struct.pack(">3H", 40000, 0, 65535)), [[(156, 0, 255)]]),
    "palette": (lambda p: saved(p / "a.png", _palette()), [[RED, GREEN, BLUE]]),
    "palette with transparency": (lambda p: saved(p / "a.png", _palette(), transparency=1), [[RED, GREEN, BLUE]]),
    "palette with alpha": (
        lambda p: saved(p / "a.png", _palette(), transparency=b"\x00\x80\xff"),
        [[RED, GREEN, BLUE]],
    ),
    "animated GIF": (
        lambda p: saved(p / "a.gif", _palette(), save_all=True, append_images=[Image.new("RGB", (3, 1))]),
        [[RED, GREEN, BLUE]],
    ),
    "animated WebP": (
        lambda p: saved(
            p / "a.webp",
            Image.new("RGB", (2, 1), RED),
            save_all=True,
            lossless=True,
            append_images=[Image.new("RGB", (2, 1), BLUE)],
        ),
        [[RED, RED]],
    ),
    "animated PNG": (
        lambda p: saved(
            p / "a.png", Image.new("RGB", (2, 1), RED), save_all=True, append_images=[Image.new("RGB", (2, 1), BLUE)]
        ),
        [[RED, RED]],
    ),
    "two pages": (
        lambda p: saved(
            p / "a.tif", Image.new("RGB", (1, 1), RED), save_all=True, append_images=[Image.new("RGB", (1, 1), BLUE)]
        ),
        [[RED]],
    ),
    "CMYK TIFF": (lambda p: saved(p / "a.tif", Image.new("CMYK", (1, 1), (0, 255, 255, 0))), [[RED]]),
    "BMP named JPEG": (lambda p: saved(p / "a.jpg", Image.new("RGB", (1, 1), RED), format="BMP"), [[RED]]),
    "junk for a colour profile": (
        lambda p: saved(p / "a.png", Image.new("RGB", (1, 1), RED), icc_profile=b"junk" * 9),
        [[RED]],
    ),
    "junk for EXIF": (
        lambda p: saved(p / "a.png", Image.new("RGB", (1, 1), RED), exif=b"Exif\x00\x00junk" * 3),
        [[RED]],
    ),
}


def _palette() -> Image.Image:
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *GREEN, *BLUE])
    image.putdata([0, 1, 2])
    return image


def _png(path: Path, depth: int, colour: int, row: bytes, width: int = 1, height: int = 1) -> Path:
    """A PNG typed by hand: `height` equal rows."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(b"\0" + row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_images(kind: str, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    make, expected = KINDS[kind]
    assert pixels(make(tmp_path)) == np.array(expected).tolist()
    assert not list(recwarn)


@pytest.mark.parametrize(
    "options", [{"progressive": True}, {"icc_profile": b"junk" * 9}, {"exif": b"Exif\x00\x00junk"}]
)
@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [("RGB", RED, RED), ("L", 90, (90, 90, 90)), ("CMYK", (0, 255, 255, 0), RED)],
)
def test_kinds_of_jpeg(
    mode: str, colour: tuple[int, ...], expected: tuple[int, ...], options: dict[str, object], tmp_path: Path
) -> None:
    path = saved(tmp_path / "a.jpg", Image.new(mode, (16, 16), colour), quality=95, **options)
    found = np.asarray(read_image(path)).astype(int)
    assert found.shape == (16, 16, 3)
    assert np.abs(found - expected).max() <= 2  # JPEG rounds


# ---------------------------------------------------------------- what cannot


def _truncated(kind: str) -> list[bytes]:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, kind, **({"progressive": True} if kind == "JPEG" else {}))
    whole = buffer.getvalue()
    return [whole[: round(len(whole) * share)] for share in (0, 0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9)]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP"])
def test_truncated_images(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    for data in _truncated(kind):
        path.write_bytes(data)
        with pytest.raises(InputError) as caught:
            read_image(path)
        sentence = str(caught.value)
        assert sentence.startswith(f"{path}: ") and sentence.endswith(".") and "; " in sentence
        assert "\n" not in sentence


def test_what_is_no_image(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    for content in (b"\n", b"not an image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"):
        path.write_bytes(content)  # PostScript would be given to another program
        with pytest.raises(InputError, match=r"a.jpg: is not an image that can be read; use JPEG or PNG\."):
            read_image(path)
        assert image_size(path) is None
    with pytest.raises(InputError, match=r"none.jpg: the image is missing; put it there or remove its row"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)"):
        read_image(tmp_path)
    floats = saved(tmp_path / "a.tif", Image.fromarray(np.full((4, 4), 0.5, np.float32)))
    with pytest.raises(InputError, match=r"a.tif: holds floating-point values; save it with 8 or 16 bits"):
        read_image(floats)


def test_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    for name in ("pipe.jpg", "device.jpg"):
        with pytest.raises(InputError, match=rf"{name}: is a pipe, a socket or a device"):
            read_image(tmp_path / name)
        assert image_size(tmp_path / name) is None


@pytest.mark.parametrize("width", [MAX_PIXELS // 1000 + 8, 10 * MAX_PIXELS // 1000])
def test_images_of_100_megapixels_are_rejected_before_they_are_decoded(
    width: int, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    path = _png(tmp_path / "a.png", 1, 0, bytes(width // 8), width, height=1000)
    assert path.stat().st_size < 200_000
    with pytest.raises(InputError, match=r"a.png: the image has .* more than 100 megapixels; crop the vehicles"):
        read_image(path)
    assert not list(recwarn)


def test_a_image_just_below_the_limit_is_read(tmp_path: Path) -> None:
    path = _png(tmp_path / "a.png", 1, 0, bytes(1250), 10_000, height=2000)
    assert read_image(path, box=(9_990, 1_990, 10_000, 2_000)).size == (10, 10)


def test_a_bomb_of_text_in_a_png_is_reported(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.new("RGB", (1, 1)))
    data = path.read_bytes()
    text = b"k\0\0" + zlib.compress(bytes(80_000_000), 9)
    bomb = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    path.write_bytes(data[:33] + bomb + data[33:])
    with pytest.raises(InputError, match=r"a.png: the image cannot be decoded"):
        read_image(path)


# ---------------------------------------------------------------- through the commands


def _damaged_table(folder: Path) -> Path:
    rows = ["path,identity,camera"]
    for number in range(4):
        Image.new("RGB", (24, 24), (60 * number, 100, 200)).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{number // 2},{number % 2}")
    (folder / "vehicles.csv").write_text("\n".join(rows) + "\n")
    return folder / "vehicles.csv"


DAMAGED: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:60]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no image"),
    "missing": Path.unlink,
    "pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "100 megapixels": lambda path: _png(path, 1, 0, bytes(12_501), 100_008, height=1000),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_images_in_commands(damage: str, run: Run, made: Path, tmp_path: Path) -> None:
    table = _damaged_table(tmp_path)
    DAMAGED[damage](tmp_path / "2.png")
    before = state(tmp_path)
    found = run(f"check {table} --json")
    assert found.code == 1 and found.err == ""
    assert "line 4" in found.out  # the row of the image
    assert state(tmp_path) == before
    reported(run(f"extract {made}/run {table} --out {tmp_path}/features"), f"{tmp_path}/2.png: ")
    assert state(tmp_path) == before


def test_a_video_is_named_as_one(tmp_path: Path) -> None:
    (tmp_path / "cam.mp4").write_bytes(b"\0\0\0\x1cftypisom")
    with pytest.raises(InputError, match=r"cam\.mp4: is a video, and this command reads images"):
        read_image(tmp_path / "cam.mp4")
