"""Training targets for each head, and side information (SIE) for a TransReID.

The classifier's target is the identity (or the camera, or the orientation); further heads predict the domain and the
attributes. Each target also has values for the mirror image. Classes are numbered from 0 without gaps; an image whose
label is unknown or not used has NO_LABEL and is ignored in that loss. Shapes: N training images, B images of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from vreid.data.devices import to_device
from vreid.data.records import Labels, Records
from vreid.errors import InputError
from vreid.losses import NO_LABEL
from vreid.models.transreid import TransReIDOptions
from vreid.ranges import in_range

TargetName = Literal["identity", "camera", "orientation"]
HeadName = Literal["domain", "color", "vehicle_type", "orientation"]
SIDE = "sie_"
"""Prefix of the names of side information in a batch: inputs of the backbone, not targets."""
POSITIVES = "positives"
"""Name of the labels that define positive pairs, for batches and the triplet loss; the classifier may use fewer."""


@dataclass(frozen=True)
class LabelConfig:
    """Use of labels and encoding of orientations; the defaults are those of StRDAN's paper.

    Attributes:
        identity_on: the classifier is trained on "all" images, or on "real" ones only (StRDAN's code); the triplet loss
            and the batches always use all identities.
        attributes_on: heads color, vehicle_type and orientation are trained on "synthetic" images only (StRDAN), or on
            all "labelled" images (VeRi's real images have colour and type).
        orientation: "bins" (classes), or "circle" (regression of sine and cosine; only for the head, not for a target).
        bins: number of bins of the circle; bins that do not occur are not classes.
        bin_edges: "left": bin b holds [b w, (b + 1) w) for the width w; "right": (b w, (b + 1) w], and 0 lies in bin 0
            (the codes of StRDAN and, for angles with one decimal, of DMT).
    """

    identity_on: Literal["all", "real"] = "all"
    attributes_on: Literal["synthetic", "labelled"] = "synthetic"
    orientation: Literal["bins", "circle"] = "bins"
    bins: int = in_range(6, least=2, most=360)
    bin_edges: Literal["left", "right"] = "left"


class TrainingTarget(NamedTuple):
    """Target of one output: `values` (N,) for the images and `mirrored` (N,) for their mirror images.

    Both are int64 classes below `outputs`, or float32 degrees where two `outputs` are their sine and cosine.
    `names` are those of the classes in their order; empty for angles.
    """

    values: Tensor
    mirrored: Tensor
    outputs: int
    names: tuple[str, ...] = ()


Targets = Mapping[str, TrainingTarget]


def orientation_bins(degrees: ArrayLike, bins: int, edges: Literal["left", "right"] = "left") -> NDArray[np.int64]:
    """Return the bin of each angle in degrees, NO_LABEL for NaN; see `LabelConfig` for the edges.

    Example:
        >>> orientation_bins([0, 60, 359.9, np.nan], 6).tolist(), orientation_bins([0, 60, 61], 6, "right").tolist()
        ([0, 1, 5, -1], [0, 0, 1])
    """
    turned = np.asarray(degrees, dtype=np.float64) % 360 * bins / 360
    number = np.floor(turned) if edges == "left" else np.maximum(np.ceil(turned) - 1, 0)
    return np.nan_to_num(number, nan=NO_LABEL).astype(np.int64)


def bin_names(bins: int) -> tuple[str, ...]:
    """Return the names of orientation bins, their bounds in degrees.

    Example:
        >>> bin_names(4)
        ('0-90', '90-180', '180-270', '270-360')
    """
    return tuple(f"{360 * number / bins:g}-{360 * (number + 1) / bins:g}" for number in range(bins))


def mirrored_orientation(degrees: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the orientation in the mirror image, (360 - theta) mod 360.

    0 degrees faces the camera, so mirroring exchanges left and right but not front and rear.
    """
    turned: NDArray[np.float32] = (360 - degrees) % 360
    return turned


def labelled(records: Records, target: TargetName) -> Records:
    """Return the images with a known target.

    Raises:
        InputError: no image has a known target.
    """
    known = ~np.isnan(records.orientation) if target == "orientation" else _column(records, target).known
    if not known.any():
        fix = "training needs labels" if target == "identity" else f"add {target} labels, or set target=identity"
        raise InputError(f"There is no training image with a known {target}; {fix}.")
    return records[known]


def make_targets(
    records: Records, target: TargetName, heads: tuple[HeadName, ...], config: LabelConfig, *, flips: bool
) -> Targets:
    """Build the targets of the classifier (under the name `target`), of each head, and POSITIVES.

    Args:
        records: N training images, all with a known target (see `labelled`).
        target: target of the classifier.
        heads: names of further heads.
        config: use of labels.
        flips: whether images are flipped in training, so that bins that occur only in mirror images are classes too.

    Raises:
        InputError: the classifier or a head has no labels, or only one class.
    """
    everything = np.ones(len(records), dtype=bool)
    synthetic = records.domain.values == "synthetic"
    made = {POSITIVES: _target(records, target, everything, config, flips)}
    real_only = target == "identity" and config.identity_on == "real"
    made[target] = _target(records, target, ~synthetic, config, flips) if real_only else made[POSITIVES]
    if not made[target].outputs:
        raise InputError(
            "labels.identity_on is real, but all training images are synthetic; add a real data set, or set it to all."
        )
    if made[target].outputs < 2 and target != "identity":  # the batch sampler reports too few identities
        raise InputError(f"All training images have the same {target}; training needs two or more, add other images.")
    for name in heads:
        if name == "orientation" and config.orientation == "circle":
            made[name] = _angles(records, synthetic if config.attributes_on == "synthetic" else everything)
        else:
            counts = synthetic if name != "domain" and config.attributes_on == "synthetic" else everything
            made[name] = _target(records, name, counts, config, flips)
        _check_trainable(name, made[name], config)
    return made


def batch_labels(
    targets: Targets, rows: NDArray[np.int64], flipped: NDArray[np.bool_], device: torch.device
) -> dict[str, Tensor]:
    """Return the targets (B,) of the images in `rows` (B,), those of the mirror image where `flipped` (B,)."""
    index, mirror = torch.from_numpy(rows), torch.from_numpy(flipped)
    return {
        name: to_device(torch.where(mirror, target.mirrored[index], target.values[index]), device)
        for name, target in targets.items()
    }


def side_information(options: TransReIDOptions, cameras: Sequence[str], records: Records) -> Targets:
    """Build the side information (camera and view) of images for a TransReID with embeddings; otherwise empty.

    Args:
        options: options with the numbers of embeddings.
        cameras: names of the training cameras; other and unknown cameras are -1.
        records: N images of training or test.
    """
    sides = {}
    if options.sie_cameras > 1:
        number_of = {name: number for number, name in enumerate(cameras)}
        codes = torch.tensor([number_of.get(name, NO_LABEL) for name in records.camera.values], dtype=torch.int64)
        sides["camera"] = TrainingTarget(codes, codes, options.sie_cameras)
    if options.sie_views > 1:
        centred = np.float32(180 / options.sie_views)  # the first view is centred at 0 degrees
        values, mirrored = (
            torch.from_numpy(orientation_bins(angles + centred, options.sie_views))
            for angles in (records.orientation, mirrored_orientation(records.orientation))
        )
        sides["view"] = TrainingTarget(values, mirrored, options.sie_views)
    return sides


def side_cameras(options: TransReIDOptions, records: Records) -> tuple[str, ...]:
    """Return the names of the training cameras in the order of their embeddings; empty without camera embeddings.

    Raises:
        InputError: the number of embeddings differs from that of cameras, or views have no known orientation.
    """
    if options.sie_views > 1 and np.isnan(records.orientation).all():
        raise InputError(
            f"transreid.sie_views is {options.sie_views}, but no training image has a known orientation; set it to 0."
        )
    cameras = tuple(map(str, records.camera.compact().names))
    if options.sie_cameras <= 1:
        return ()
    if len(cameras) != options.sie_cameras:
        raise InputError(
            f"transreid.sie_cameras is {options.sie_cameras}, but the training images come from "
            f"{len(cameras)} known cameras; set it to {len(cameras)}."
        )
    return cameras


def _target(records: Records, name: str, counts: NDArray[np.bool_], config: LabelConfig, flips: bool) -> TrainingTarget:
    """Build a target with classes without gaps; images where `counts` is false have no label."""
    if name == "orientation":
        degrees = np.where(counts, records.orientation, np.float32(np.nan))
        both = [
            orientation_bins(angles, config.bins, config.bin_edges)
            for angles in (degrees, mirrored_orientation(degrees))
        ]
        names = bin_names(config.bins)
    else:
        column = _column(records, name)
        both = [np.where(counts, column.codes, NO_LABEL).astype(np.int64)] * 2
        names = tuple(map(str, column.names))
    seen = np.concatenate(both) if flips else both[0]
    present = np.unique(seen[seen >= 0])
    classes = [np.where(np.isin(codes, present), np.searchsorted(present, codes), NO_LABEL) for codes in both]
    values, mirrored = (torch.from_numpy(codes.astype(np.int64)) for codes in classes)
    return TrainingTarget(values, mirrored, len(present), tuple(names[code] for code in present))


def _angles(records: Records, counts: NDArray[np.bool_]) -> TrainingTarget:
    degrees = np.where(counts, records.orientation, np.float32(np.nan)).astype(np.float32)
    found = int((~np.isnan(degrees)).sum())
    return TrainingTarget(torch.from_numpy(degrees), torch.from_numpy(mirrored_orientation(degrees)), 2 if found else 0)


def _column(records: Records, name: str) -> Labels:
    column: Labels = getattr(records, name)
    return column


def _check_trainable(name: str, target: TrainingTarget, config: LabelConfig) -> None:
    if target.outputs >= 2:
        return
    if name == "domain":
        raise InputError(
            "The head domain needs real and synthetic training images, but all are of one domain; "
            "add a data set of the other, or remove domain from heads."
        )
    which = "synthetic training image" if config.attributes_on == "synthetic" else "training image"
    if target.outputs == 0:
        also = ", set labels.attributes_on=labelled to use real ones" if which[0] == "s" else ""
        raise InputError(f"The head {name} has no labels: no {which} has that label{also}, or remove it from heads.")
    raise InputError(
        f"The head {name} needs two or more classes, but each labelled {which} has the same; remove it from heads."
    )
