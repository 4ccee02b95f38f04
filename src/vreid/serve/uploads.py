"""Uploaded images: JPEG, PNG or WebP, within limits of bytes, pixels and time, and nothing else in the same file.

The body is read into memory, so nothing of an upload touches the file system. The format is recognised by the first
bytes and must be the declared one. The structure of the file is walked to its end before it is decoded: what follows
the image (an archive, a page, a second image) is refused, and so is an image that declares too many pixels.
"""

from __future__ import annotations

import io
import math
import re
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageOps

from vreid.serve.http_errors import HttpError

TYPES = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}
"""Pillow's format of each content type that is accepted."""
LEAST_SIDE = 8
"""Fewest pixels of each side."""

_DECODED = 1280  # pixels of the longer side from which on a JPEG is decoded at half its size, or less
_ANCILLARY = 1 << 20  # most bytes of metadata; ICC profiles and EXIF are some 10 kB
_SCRIPT = re.compile(rb"<\s*(?:script|html|svg|body|iframe|\?php|!doctype)", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Upload:
    """An uploaded image.

    Attributes:
        image: upright, 8-bit RGB; of a large photograph a smaller version.
        width, height: pixels of the upright image as it was sent.
    """

    image: Image.Image
    width: int
    height: int

    def cut(self, box: tuple[float, float, float, float] | None) -> Image.Image:
        """Cut out x1, y1, x2, y2 in pixels of the image as it was sent; None: all of it.

        Raises:
            HttpError: 422 the box lies outside of the image or is too small.
        """
        if box is None:
            return self.image
        x1, y1, x2, y2 = max(0.0, box[0]), max(0.0, box[1]), min(self.width, box[2]), min(self.height, box[3])
        if x2 - x1 < LEAST_SIDE or y2 - y1 < LEAST_SIDE:
            raise HttpError(
                422,
                f"the box {', '.join(f'{side:g}' for side in box)} leaves fewer than {LEAST_SIDE} pixels of the "
                f"image of {self.width} x {self.height}; give x1,y1,x2,y2 in its pixels.",
            )
        across, down = self.image.width / self.width, self.image.height / self.height
        return self.image.crop((int(x1 * across), int(y1 * down), math.ceil(x2 * across), math.ceil(y2 * down)))


def read_upload(body: bytes, content_type: str, *, most_pixels: int) -> Upload:
    """Read an uploaded image.

    Args:
        body: the file.
        content_type: as the client declares it.
        most_pixels: width times height.

    Raises:
        HttpError: 415 another type, or one that is not the declared one; 413 too many pixels; 422 empty, damaged or
            with something else in the same file.
    """
    declared = content_type.partition(";")[0].strip().lower()
    if declared not in TYPES:
        raise HttpError(415, f"the content type is {declared[:60]!r}; send {', '.join(TYPES)}.")
    if not body:
        raise HttpError(422, "the image is empty; choose another file.")
    found = sniff(body)
    if found != declared:
        what = found or "no JPEG, PNG or WebP image"
        raise HttpError(415, f"the file is {what}, but declared as {declared}; send it as what it is.")
    try:
        end, metadata = _STRUCTURES[found](body)
    except (struct.error, IndexError, ValueError):
        raise HttpError(422, "the image is damaged; copy it again.") from None
    if end != len(body):
        raise HttpError(422, f"{len(body) - end:,} bytes follow the image in the same file; save the image alone.")
    if sum(map(len, metadata)) > _ANCILLARY:
        raise HttpError(422, "the image has more than 1 MiB of metadata; save it without.")
    if any(_SCRIPT.search(part) for part in metadata):
        raise HttpError(422, "the metadata of the image hold a page or a script; save it without metadata.")
    return _decode(body, TYPES[found], most_pixels)


def sniff(body: bytes) -> str:
    """Return the content type that the first bytes show, "" if it is none of `TYPES`."""
    if body.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if body.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if body[:4] == b"RIFF" and body[8:12] == b"WEBP":
        return "image/webp"
    return ""


def _decode(body: bytes, kind: str, most_pixels: int) -> Upload:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images: our limit is stricter
            with Image.open(io.BytesIO(body), formats=[kind]) as file:
                _check_size(file.size, most_pixels)
                if kind != "JPEG" and getattr(file, "n_frames", 1) != 1:
                    raise HttpError(422, "the file is an animation; send one image.")
                width, height = file.size
                file.draft("RGB", (_DECODED, _DECODED))
                image = ImageOps.exif_transpose(file)
                turned = (image.width > image.height) != (width > height) and width != height
                size = (height, width) if turned else (width, height)
                return Upload(image.convert("RGB"), *size)
    except HttpError:
        raise
    except Image.DecompressionBombError:
        raise HttpError(413, f"the image has more than {most_pixels:,} pixels; send a smaller one.") from None
    except Exception:  # Pillow's decoders raise nearly everything on damaged files
        raise HttpError(422, "the image cannot be decoded; copy it again.") from None


def _check_size(size: tuple[int, int], most_pixels: int) -> None:
    width, height = size
    if width * height > most_pixels:
        raise HttpError(413, f"the image has {width} x {height} pixels; send at most {most_pixels:,} in all.")
    if min(size) < LEAST_SIDE:
        raise HttpError(422, f"the image has {width} x {height} pixels; send at least {LEAST_SIDE} on each side.")


def _jpeg(body: bytes) -> tuple[int, list[bytes]]:
    """Return where a JPEG ends and its application segments and comments."""
    place = 2
    metadata: list[bytes] = []
    while True:
        if body[place] != 0xFF:
            raise ValueError("no marker")
        while body[place + 1] == 0xFF:  # fill bytes
            place += 1
        marker = body[place + 1]
        place += 2
        if marker == 0xD9:
            further = any(part.startswith(b"MPF\0") for part in metadata) and body.startswith(b"\xff\xd8", place)
            return place + (_jpeg(body[place:])[0] if further else 0), metadata
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:
            continue
        if marker in (0x00, 0xD8):
            raise ValueError("a marker that does not belong there")
        (length,) = struct.unpack_from(">H", body, place)
        if length < 2 or place + length > len(body):
            raise ValueError("segment too long")
        if 0xE0 <= marker <= 0xEF or marker == 0xFE:
            metadata.append(body[place + 2 : place + length])
        place += length
        if marker == 0xDA:
            place = _after_scan(body, place)


def _after_scan(body: bytes, place: int) -> int:
    """Return where the entropy-coded data from `place` on end: at a marker that is no restart."""
    while True:
        place = body.index(b"\xff", place)
        following = body[place + 1]
        if following == 0x00 or 0xD0 <= following <= 0xD7:
            place += 2
        elif following == 0xFF:
            place += 1
        else:
            return place


def _png(body: bytes) -> tuple[int, list[bytes]]:
    """Return where a PNG ends and its ancillary chunks."""
    place = 8
    metadata: list[bytes] = []
    while True:
        length, kind = struct.unpack_from(">I4s", body, place)
        end = place + 12 + length
        if end > len(body):
            raise ValueError("chunk too long")
        if kind[0] & 0x20:
            metadata.append(body[place + 8 : place + 8 + length])
        place = end
        if kind == b"IEND":
            return place, metadata


def _webp(body: bytes) -> tuple[int, list[bytes]]:
    """Return where a WebP ends and its chunks that are not pixels."""
    (size,) = struct.unpack_from("<I", body, 4)
    end = 8 + size + (size & 1)
    if end > len(body):
        raise ValueError("too long")
    place = 12
    metadata: list[bytes] = []
    while place + 8 <= end:
        kind, length = struct.unpack_from("<4sI", body, place)
        if place + 8 + length > end:
            raise ValueError("chunk too long")
        if kind not in (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF"):
            metadata.append(body[place + 8 : place + 8 + length])
        place += 8 + length + (length & 1)
    return end, metadata


_STRUCTURES: dict[str, Callable[[bytes], tuple[int, list[bytes]]]] = {
    "image/jpeg": _jpeg,
    "image/png": _png,
    "image/webp": _webp,
}
