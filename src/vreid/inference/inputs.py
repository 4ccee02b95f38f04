"""Images as people have them: paths, PIL, numpy, torch, lists and generators of these, with boxes; one at a time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vreid.data.images import cut, read_image
from vreid.errors import InputError

_EDGE = 1e-3  # float images may exceed 0..1 by rounding


def images_of(images: Any, boxes: Any = None) -> Iterator[Image.Image]:
    """Give RGB images one after the other, cut to their boxes; only one is decoded at a time.

    Args:
        images: a path, a PIL image, a numpy array (H, W, 3) or (N, H, W, 3) uint8 RGB, a torch tensor (3, H, W) or
            (N, 3, H, W) uint8 or float 0..1, or an iterable of these.
        boxes: x1, y1, x2, y2 in pixels: (N, 4) on one image, which gives N; or for several images one entry each,
            (4,) or (K, 4). An object with `xyxy` (supervision's `Detections`) stands for its boxes.

    Raises:
        InputError: an image cannot be read, is of another kind, or has no box or one outside of it; it is named.
    """
    if boxes is None:
        for number, image in enumerate(_several(images)):
            yield _image(image, number)
        return
    if is_one(images):
        image = _image(images, 0)
        for box in _boxes(boxes, "boxes"):
            yield cut(image, box.tolist(), _name(images, 0))
        return
    per_image = iter([boxes] if hasattr(boxes, "xyxy") else boxes)
    for number, one in enumerate(_several(images)):
        of_image = next(per_image, None)
        if of_image is None:
            raise InputError(f"{_name(one, number)}: has no boxes; give one entry of boxes for each image.")
        image = _image(one, number)
        for box in _boxes(of_image, f"boxes of {_name(one, number)}"):
            yield cut(image, box.tolist(), _name(one, number))
    if next(per_image, None) is not None:
        raise InputError("boxes: are more than the images; give one entry for each image.")


def is_one(images: Any) -> bool:
    """Whether `images` is one image, not several."""
    if isinstance(images, (str, os.PathLike, Image.Image)):
        return True
    return getattr(images, "ndim", 0) in (2, 3)


def _several(images: Any) -> Iterable[Any]:
    if is_one(images):
        return (images,)
    if isinstance(images, np.ndarray) and images.dtype != object and images.ndim != 4:
        raise InputError(
            f"images: an array of shape {images.shape} is no image; give (H, W, 3) or (N, H, W, 3) uint8 in RGB."
        )
    if not isinstance(images, Iterable):
        raise InputError(f"images: {type(images).__name__} is no image; give a path, a PIL image, an array or a list.")
    return images


def _image(image: Any, number: int) -> Image.Image:
    """One image as PIL RGB."""
    if isinstance(image, (str, os.PathLike)):
        return read_image(os.fspath(image))
    if isinstance(image, Image.Image):
        return image if image.mode == "RGB" else image.convert("RGB")
    name = _name(image, number)
    if hasattr(image, "detach"):  # torch is not imported for its tensors
        array = image.detach().cpu().numpy()
        if array.ndim != 3 or array.shape[0] != 3:
            raise InputError(f"{name}: a tensor of shape {array.shape} is no image; give (3, H, W) in RGB.")
        array = np.moveaxis(array, 0, 2)
        if array.dtype.kind == "f":
            array = _bytes_of(array, name)
    else:
        array = np.asarray(image)
        if array.ndim != 3 or array.shape[2] != 3:
            raise InputError(f"{name}: an array of shape {array.shape} is no image; give (H, W, 3) in RGB.")
    if array.dtype != np.uint8:
        raise InputError(f"{name}: is of type {array.dtype}; give uint8 values from 0 to 255.")
    if not array.size:
        raise InputError(f"{name}: has no pixels; leave it out.")
    return Image.fromarray(np.ascontiguousarray(array))


def _bytes_of(values: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Float values 0..1 as 0..255."""
    values = values.astype(np.float32)
    if not (np.isfinite(values).all() and (values >= -_EDGE).all() and (values <= 1 + _EDGE).all()):
        raise InputError(f"{name}: float values must be from 0 to 1; divide by 255, or give uint8.")
    levels: NDArray[np.uint8] = np.round(255 * np.clip(values, 0, 1)).astype(np.uint8)
    return levels


def _boxes(boxes: Any, name: str) -> NDArray[np.float64]:
    """(N, 4) boxes of an image."""
    boxes = getattr(boxes, "xyxy", boxes)
    boxes = boxes.detach().cpu().numpy() if hasattr(boxes, "detach") else boxes
    try:
        array = np.asarray(boxes, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: are no numbers ({error}); give rows of x1, y1, x2, y2.") from error
    array = array.reshape(-1, 4) if array.size == 0 or array.shape == (4,) else array
    if array.ndim != 2 or array.shape[1] != 4 or not np.isfinite(array).all():
        raise InputError(f"{name}: shape {array.shape} must be rows of four finite numbers, x1, y1, x2, y2.")
    return array


def _name(image: Any, number: int) -> str:
    return os.fspath(image) if isinstance(image, (str, os.PathLike)) else f"image {number + 1}"
