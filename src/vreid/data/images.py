"""Read image files as upright RGB, with one-sentence errors. Requires only Pillow."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vreid.data.video import VIDEOS
from vreid.errors import InputError
from vreid.files import reject_endless, system_error
from vreid.object_storage import opened

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")
"""Formats that are read, whatever the file extension. Some other Pillow formats start external programs."""
MAX_PIXELS = 100_000_000
"""Larger images are rejected before decoding: a crop of a vehicle has some 10^4 pixels, a frame some 10^6."""


def read_image(path: Path | str, *, box: Sequence[float] | None = None) -> Image.Image:
    """Return the image in `path` as 8-bit RGB, upright (EXIF rotation applied), cut to `box` where one is given.

    Grey, palette, CMYK and 16-bit images are converted; an alpha channel is dropped; of an animation, the first frame
    is returned. `box` is x1, y1, x2, y2 in pixels of the upright image, half-open; it is widened to whole pixels and
    clipped to the image.

    Raises:
        InputError: the file is missing, not an image, truncated, or too large, or `box` lies outside of the image.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images (our limit is stricter) and of odd EXIF data
            with opened(path) as content, Image.open(content, formats=FORMATS) as file:
                if file.width * file.height > MAX_PIXELS:
                    raise _too_large(path, f"{file.width} x {file.height}")
                file.load()
                image = _upright_rgb(file, path)
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(path, "far more") from error
    except FileNotFoundError as error:
        raise InputError(f"{path}: the image is missing; put it there or remove its row from the labels.") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: {_kind(path)}.") from error
    except Exception as error:  # Pillow's decoders raise nearly everything on damaged files
        if isinstance(error, OSError) and error.errno:  # the system's, not a decoder's
            raise system_error(path, "read", error) from error
        reason = str(error) or type(error).__name__
        raise InputError(f"{path}: the image cannot be decoded ({reason}); copy it again.") from error
    return image if box is None else cut(image, box, path)


_MAGIC = {
    b"ftyphei": "is a HEIC image; convert it to JPEG",
    b"ftyphev": "is a HEIC image; convert it to JPEG",
    b"ftypmif1": "is a HEIF image; convert it to JPEG",
    b"ftypavi": "is an AVIF image; convert it to JPEG",
    b"version https://git-lfs": "is a Git LFS pointer, not the image; run git lfs pull",
    b"<!DOCTYPE html": "is an HTML page, not an image; download it again",
    b"<html": "is an HTML page, not an image; download it again",
}
"""Signatures (at offset 0 or 4) of files that are not readable images."""


def _kind(path: Path | str) -> str:
    """Describe a file that is not a readable image, with the fix."""
    if str(path).lower().endswith(VIDEOS):
        return "is a video, and this command reads images; add it to a store with vreid ingest"
    with opened(path) as file:
        start = file.read(64)
    if not start:
        return "is empty (0 bytes); copy it again"
    if str(path).lower().endswith(VIDEOS):
        return "is a video, not an image; make a store of it (vreid ingest)"
    known = (text for magic, text in _MAGIC.items() if start.lstrip()[4:].startswith(magic) or start.startswith(magic))
    return next(known, "is not an image that can be read; use JPEG or PNG")


def _too_large(path: Path | str, size: str) -> InputError:
    limit = MAX_PIXELS // 10**6
    return InputError(
        f"{path}: the image has {size} pixels, more than {limit} megapixels; crop the vehicles or downscale it."
    )


def _upright_rgb(image: Image.Image, path: Path | str) -> Image.Image:
    # Only rotate where there is something to rotate: exif_transpose copies the image otherwise.
    if _orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        if image.mode == "F":
            raise InputError(f"{path}: holds floating-point values; save it with 8 or 16 bits a channel.")
        # 16-bit grey: convert("RGB") would clip everything above 255 to white.
        image = Image.fromarray((np.clip(values, 0, 65535).astype(np.uint16) >> 8).astype(np.uint8))
    return image.convert("RGB") if image.mode != "RGB" else image


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; 1 (upright) if it is missing or damaged, because the pixels may be intact."""
    if image.format == "TIFF":  # turned by Pillow itself
        return 1
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:
        return 1


def image_size(path: Path | str) -> tuple[int, int] | None:
    """Return width and height of the upright image in pixels from its header; None if they cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reject_endless(path)
            with Image.open(path, formats=FORMATS) as file:
                return (file.height, file.width) if _orientation(file) in (5, 6, 7, 8) else (file.width, file.height)
    except Exception:  # `read_image` reports what is wrong
        return None


def cut(image: Image.Image, box: Sequence[float], path: Path | str) -> Image.Image:
    """Return the part of `image` in `box` as `read_image` does; `path` is named where there is none.

    Raises:
        InputError: the box lies outside the image.
    """
    return image.crop(region(box, image.width, image.height, path))


def region(box: Sequence[float], width: int, height: int, path: Path | str) -> tuple[int, int, int, int]:
    """Widen `box` to whole pixels and clip it to an image of width x height; `path` is used in the message.

    Raises:
        InputError: the box lies outside the image.
    """
    x1, y1 = max(0, math.floor(box[0])), max(0, math.floor(box[1]))
    x2, y2 = min(width, math.ceil(box[2])), min(height, math.ceil(box[3]))
    if x2 <= x1 or y2 <= y1:
        shown = ", ".join(f"{value:g}" for value in box)
        raise InputError(f"{path}: box ({shown}) lies outside the image of {width} x {height} pixels; correct its row.")
    return x1, y1, x2, y2
