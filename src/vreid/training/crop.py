"""Weakly supervised cropping: boxes from the activation maps of a re-identification model, without box labels.

Source: Zhu et al., "VOC-ReID: Vehicle Re-identification based on Vehicle-Orientation-Camera", CVPRW 2020, and its
code; DMT (Luo et al., "An Empirical Study of Vehicle Re-Identification on the AI City Challenge", CVPRW 2021, section
3.2) cites it and gives no numbers. The defaults are those of VOC's code, as shares where it has literals for 256 x 256.

Shape legend: B images, D channels, h x w activation map, H x W pixels. A box is x1, y1, x2, y2, half-open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vreid.data.images import image_size, region
from vreid.data.loading import test_loader
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.progress import Progress, job
from vreid.ranges import check_settings, in_range
from vreid.training.extract import TrainedModel, load_trained
from vreid.training.precision import Precision, autocast, choose_precision

COARSEST, FEWEST_CELLS, SMALLEST = 16, 8, 128
"""Largest stride of the map in pixels, smallest map side in cells, smallest image side in pixels."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class CropConfig:
    """Settings of cropping in the order of the steps; the defaults are VOC's.

    Attributes:
        exponent: the activation of a cell is the sum over channels of |feature| to this power.
        border: share of the map's height and width that is set to zero on every side.
        ratio: threshold of the foreground as a multiple of the mean activation.
        largest_component: use only the largest connected component of the foreground.
        margin: enlarge the box by this share of its width and height, half of it on either side.
        enlargement: factors of (x1, y1) and of (x2, y2), relative to the upper left corner of the image.
        min_area: smallest area of a box as a share of the image; below it the whole image is used.

    Raises:
        InputError: a number is out of range.
    """

    exponent: float = in_range(2.0, least=0.1, most=10)
    border: float = in_range(0.25, least=0, most=0.49)
    ratio: float = in_range(1.0, least=0, most=100)
    largest_component: bool = False
    margin: float = in_range(0.0, least=-0.9, most=10)
    enlargement: tuple[float, float] = in_range((0.7, 1.2), least=0, most=10, ascending=True)
    min_area: float = in_range(0.1, least=0, most=1)

    def __post_init__(self) -> None:
        check_settings(self, "crop ")


CROP_CONFIGS: Mapping[str, CropConfig] = {
    "voc": CropConfig(),
    "even": CropConfig(border=0.125, ratio=0.6, margin=0.1, enlargement=(1.0, 1.0)),
}
"""Settings by name. "voc" assumes loosely cropped images and cuts off parts of vehicles in tight ones; "even" treats
all sides alike and was chosen on loose and tight simulated images (docs/guides/crops.md)."""


def crop_config(name: str) -> CropConfig:
    """Return the settings called `name`.

    Raises:
        InputError: unknown name; the known names are listed.
    """
    if name not in CROP_CONFIGS:
        raise InputError(f"There is no crop config {name!r}; choose among {', '.join(CROP_CONFIGS)}.")
    return CROP_CONFIGS[name]


def activation(maps_BDhw: Tensor, exponent: float = 2.0) -> Tensor:
    """Compute the activation of each cell, the sum over channels of |feature|^exponent: (B, D, h, w) -> (B, h, w).

    Example:
        >>> activation(torch.tensor([[[[1.0, -2.0]], [[3.0, 0.0]]]]))
        tensor([[[10.,  4.]]])
    """
    return maps_BDhw.float().abs().pow(exponent).sum(dim=1)


def without_border(activation_Bhw: Tensor, border: float) -> Tensor:
    """Set the outer floor(border h) rows and floor(border w) columns on every side to zero."""
    height, width = activation_Bhw.shape[1:]
    top, left = int(border * height), int(border * width)
    kept = torch.zeros_like(activation_Bhw)
    inside = (slice(None), slice(top, height - top), slice(left, width - left))
    kept[inside] = activation_Bhw[inside]
    return kept


def resized(activation_Bhw: Tensor, height: int, width: int) -> NDArray[np.float32]:
    """Resize activation maps bilinearly, aligned at cell centres: (B, h, w) -> (B, H, W)."""
    size = (height, width)
    larger = torch.nn.functional.interpolate(activation_Bhw[:, None], size=size, mode="bilinear", align_corners=False)
    heat: NDArray[np.float32] = larger[:, 0].cpu().numpy()
    return heat


def foreground(heat_HW: NDArray[np.float32], ratio: float) -> NDArray[np.bool_]:
    """Threshold a heat map (H, W), shifted to minimum 0, at `ratio` times its mean; empty for a constant map."""
    above = heat_HW - heat_HW.min()
    mask: NDArray[np.bool_] = (above >= ratio * above.mean()) & bool(above.any())
    return mask


def largest_component(mask_HW: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest 4-connected component of a mask; of equally large ones, the first in reading order."""
    from scipy.ndimage import label

    parts, count = label(mask_HW)
    largest = 1 + int(np.argmax(np.bincount(parts.ravel(), minlength=2)[1:])) if count else 1
    return np.asarray(parts == largest)


def extent(mask_HW: NDArray[np.bool_]) -> Box | None:
    """Return the bounding box of a mask; None if the mask is empty.

    Example:
        >>> extent(np.array([[False, False, False], [False, True, True]]))
        (1, 1, 3, 2)
    """
    columns, rows = np.flatnonzero(mask_HW.any(axis=0)), np.flatnonzero(mask_HW.any(axis=1))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def enlarged(box: Box, margin: float, enlargement: tuple[float, float]) -> Box:
    """Enlarge a box by `margin` of its size, half on either side, then multiply (x1, y1) and (x2, y2) by two factors.

    Example:
        >>> enlarged((10, 20, 30, 40), 0.5, (1, 1)), enlarged((10, 20, 30, 40), 0, (0.5, 2))
        ((5.0, 15.0, 35.0, 45.0), (5.0, 10.0, 60.0, 80.0))
    """
    x1, y1, x2, y2 = box
    across, down = margin * (x2 - x1) / 2, margin * (y2 - y1) / 2
    shrink, stretch = enlargement
    return (x1 - across) * shrink, (y1 - down) * shrink, (x2 + across) * stretch, (y2 + down) * stretch


def box_of(
    heat_HW: NDArray[np.float32], width: int, height: int, config: CropConfig
) -> tuple[int, int, int, int] | None:
    """Derive a box in integer pixels of a width x height image from its heat map.

    Returns:
        The box; None if the foreground is empty or the box covers less than `min_area` of the image.
    """
    mask = foreground(heat_HW, config.ratio)
    found = extent(largest_component(mask) if config.largest_component else mask)
    if found is None:
        return None
    down, across = height / heat_HW.shape[0], width / heat_HW.shape[1]
    scaled = (found[0] * across, found[1] * down, found[2] * across, found[3] * down)
    x1, y1, x2, y2 = enlarged(scaled, config.margin, config.enlargement)
    left, top, right, bottom = max(0, floor(x1)), max(0, floor(y1)), min(width, ceil(x2)), min(height, ceil(y2))
    if right <= left or bottom <= top or (right - left) * (bottom - top) < config.min_area * width * height:
        return None
    return left, top, right, bottom


def heat_maps(trained: TrainedModel, images_B3HW: Tensor, config: CropConfig) -> NDArray[np.float32]:
    """Compute heat maps (B, H, W) of network inputs with zero borders; model and images are on the same device."""
    with torch.inference_mode():
        maps_BDhw = trained.model.backbone(images_B3HW.contiguous(memory_format=torch.channels_last))
        activation_Bhw = without_border(activation(maps_BDhw, config.exponent), config.border)
    return resized(activation_Bhw, *images_B3HW.shape[2:])


def find_boxes(
    model: Path | str,
    records: Records,
    config: CropConfig = CROP_CONFIGS["voc"],
    *,
    device: str = "cpu",
    workers: int | None = None,
    batch_size: int = 64,
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> Records:
    """Find vehicle boxes: return the records as crops, with `box` from activation maps and variant "crop".

    If a record has a box (in a full frame), the search is limited to it. If no box is found, or it is too small, the
    crop is the whole image or the given box; a note reports how many.

    Args:
        model: a run folder or model file whose map has a stride of at most 16 and at least 8 x 8 cells, for images of
            at least 128 x 128: recipe crop_model, or crop_model_small.
        records: N images; labels are not used.
        config: settings of cropping.
        device: "cpu", "cuda", ...
        workers: processes that load images (None: chosen for the device).
        batch_size: images per batch.
        precision: number type of convolutions, as in `vreid.training.extract`.
        progress: listener; counts images.

    Raises:
        InputError: an image cannot be read, or the model's map is too coarse.

    Example:
        >>> crops = find_boxes("runs/crop_model", dataset.train)                                  # doctest: +SKIP
        >>> Records.concat([dataset.train, crops])                                                # doctest: +SKIP
        Records: 105,434 images, 440 identities, 40 cameras, ...
    """
    trained = load_trained(model)
    reject_coarse(trained)
    place = torch.device(device)
    trained.model.to(place).to(memory_format=torch.channels_last)
    dtype = choose_precision(precision, place, trained.model, training=False).dtype
    loader = test_loader(records, trained.transform, batch_size=batch_size, workers=workers, device=place)
    boxes, whole = np.empty((len(records), 4), dtype=np.float32), 0
    with job(progress, "find boxes", len(records)) as listener:
        for images, rows, _ in loader:
            with autocast(dtype, place):
                heat = heat_maps(trained, images, config)
            for row, heat_HW in zip(rows, heat, strict=True):
                left, top, right, bottom = image_region(records, int(row))
                found = box_of(heat_HW, right - left, bottom - top, config)
                whole += found is None
                x1, y1, x2, y2 = found or (0, 0, right - left, bottom - top)
                boxes[row] = left + x1, top + y1, left + x2, top + y2
            listener.advance(len(rows))
        if whole:
            listener.note(f"{whole:,} of {len(records):,} images are not cropped: no box of sufficient size was found.")
    return records.with_(box=boxes, variant=["crop"] * len(records))


def image_region(records: Records, row: int) -> tuple[int, int, int, int]:
    """Return the region of the image file that record `row` shows, in integer pixels: its box or the whole image.

    Raises:
        InputError: the image cannot be read, or its box lies outside of it.
    """
    path = records.path[row]
    size = image_size(path)
    if size is None:
        raise InputError(f"{path}: the image size cannot be read; copy it again.")
    box = records.box[row]
    return (0, 0, *size) if np.isnan(box[0]) else region(box.tolist(), *size, path)


def reject_coarse(trained: TrainedModel) -> None:
    """Check that a model's map is fine enough to locate a vehicle (for a 48 x 48 image it has only 3 x 3 cells).

    Raises:
        InputError: no map, a stride above `COARSEST`, fewer than `FEWEST_CELLS` cells a side, images below `SMALLEST`.
    """
    height, width = trained.transform.height, trained.transform.width
    fix = (
        f"boxes need images of {SMALLEST} x {SMALLEST} or more and a map of stride {COARSEST}; "
        "train one with recipe crop_model, or crop_model_small."
    )
    if min(height, width) < SMALLEST:
        raise InputError(f"{trained.source}: is for images of {height} x {width}; {fix}")
    with torch.inference_mode():
        maps = trained.model.backbone(torch.zeros(1, 3, height, width))
    if maps.ndim != 4:
        raise InputError(f"{trained.source}: its backbone returns no feature map; {fix}")
    down, across = maps.shape[2:]
    if min(down, across) < FEWEST_CELLS or down * COARSEST < height or across * COARSEST < width:
        raise InputError(
            f"{trained.source}: its map of an image of {height} x {width} has {down} x {across} cells; {fix}"
        )
