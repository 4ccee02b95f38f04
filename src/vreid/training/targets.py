"""What each output of a model is to say of every training image, and of its mirror image.

The classifier's target is the identity (or the camera, or the orientation); heads beside it say the domain and the
attributes. Targets are classes numbered from 0 without gaps, only those that occur; an image whose label is unknown or
does not count has NO_LABEL and takes no part in that loss. What a TransReID is told besides the image (side
information) is made here too. Shapes: N training images, B of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from vreid.data.records import Labels, Records
from vreid.errors import InputError
from vreid.losses import NO_LABEL
from vreid.models.transreid import TransReIDOptions
from vreid.ranges import in_range

TargetName = Literal["identity", "camera", "orientation"]
HeadName = Literal["domain", "color", "vehicle_type", "orientation"]
SIDE = "sie_"
"""What a batch's names of side information begin with: of what the backbone is told, not asked."""
MATES = "mates"
"""Name of the target by which images are mates, for batches and the triplet loss; the classifier may learn fewer."""


@dataclass(frozen=True)
class LabelConfig:
    """Which labels count, and what is made of an orientation; the defaults are StRDAN's as its paper has them.

    Attributes:
        identity_on: "all" images, or "real" ones only (StRDAN's code), for the classifier; the triplet loss and the
            batches take all identities in any case.
        attributes_on: heads of color, vehicle_type and orientation learn from "synthetic" images only (StRDAN), or from
            whatever is "labelled" (VeRi's real images have colour and type).
        orientation: "bins" (classes), or "circle": sine and cosine are predicted; for the head, not for a target.
        bins: how many bins the circle is divided into; those that do not occur are no class.
        bin_edges: "left": bin b holds [b w, (b + 1) w) for the width w; "right": (b w, (b + 1) w], and 0 lies in bin 0
            (the codes of StRDAN and, for angles with one decimal, of DMT).
    """

    identity_on: Literal["all", "real"] = "all"
    attributes_on: Literal["synthetic", "labelled"] = "synthetic"
    orientation: Literal["bins", "circle"] = "bins"
    bins: int = in_range(6, least=2, most=360)
    bin_edges: Literal["left", "right"] = "left"


class TrainingTarget(NamedTuple):
    """What one output is to say: `values` (N,) of the images and `mirrored` (N,) of their mirror images.

    Both are int64 classes below `outputs`, or float32 degrees where two `outputs` are their sine and cosine.
    """

    values: Tensor
    mirrored: Tensor
    outputs: int


Targets = Mapping[str, TrainingTarget]


def orientation_bins(degrees: ArrayLike, bins: int, edges: Literal["left", "right"] = "left") -> NDArray[np.int64]:
    """Bin of each angle in degrees, NO_LABEL for NaN; see `LabelConfig` for the edges.

    Example:
        >>> orientation_bins([0, 60, 359.9, np.nan], 6).tolist(), orientation_bins([0, 60, 61], 6, "right").tolist()
        ([0, 1, 5, -1], [0, 0, 1])
    """
    turned = np.asarray(degrees, dtype=np.float64) % 360 * bins / 360
    number = np.floor(turned) if edges == "left" else np.maximum(np.ceil(turned) - 1, 0)
    return np.nan_to_num(number, nan=NO_LABEL).astype(np.int64)


def mirrored_orientation(degrees: NDArray[np.float32]) -> NDArray[np.float32]:
    """Orientation that the mirror image shows: (360 - theta) mod 360.

    0 degrees faces the camera, so left and right are exchanged and front and rear stay.
    """
    turned: NDArray[np.float32] = (360 - degrees) % 360
    return turned


def labelled(records: Records, target: TargetName) -> Records:
    """The images whose target is known.

    Raises:
        InputError: there are none.
    """
    known = ~np.isnan(records.orientation) if target == "orientation" else _column(records, target).known
    if not known.any():
        fix = "training needs labels" if target == "identity" else f"add {target} labels, or set target=identity"
        raise InputError(f"There is no training image with a known {target}; {fix}.")
    return records[known]


def make_targets(
    records: Records, target: TargetName, heads: tuple[HeadName, ...], config: LabelConfig, *, flips: bool
) -> Targets:
    """Targets of the classifier (under the name `target`), of each head, and MATES.

    Args:
        records: N training images, all with a known target (see `labelled`).
        target: what the classifier tells apart.
        heads: what the heads say.
        config: which labels count.
        flips: whether mirror images occur in training, so that bins which only they show are classes too.

    Raises:
        InputError: a head or the classifier has no label to learn from, or nothing to tell apart.
    """
    everything = np.ones(len(records), dtype=bool)
    synthetic = records.domain.values == "synthetic"
    made = {MATES: _target(records, target, everything, config, flips)}
    real_only = target == "identity" and config.identity_on == "real"
    made[target] = _target(records, target, ~synthetic, config, flips) if real_only else made[MATES]
    if not made[target].outputs:
        raise InputError(
            "labels.identity_on is real, but all training images are synthetic; add a real data set, or set it to all."
        )
    if made[target].outputs < 2 and target != "identity":  # too few identities are told where batches are drawn
        raise InputError(f"All training images have the same {target}, so there is nothing to tell apart; add others.")
    for name in heads:
        if name == "orientation" and config.orientation == "circle":
            made[name] = _angles(records, synthetic if config.attributes_on == "synthetic" else everything)
        else:
            counts = synthetic if name != "domain" and config.attributes_on == "synthetic" else everything
            made[name] = _target(records, name, counts, config, flips)
        _refuse_unteachable(name, made[name], config)
    return made


def batch_labels(
    targets: Targets, rows: NDArray[np.int64], flipped: NDArray[np.bool_], device: torch.device
) -> dict[str, Tensor]:
    """Targets (B,) of the images in `rows` (B,), those of the mirror image where `flipped` (B,)."""
    index, mirror = torch.from_numpy(rows), torch.from_numpy(flipped)
    return {
        name: torch.where(mirror, target.mirrored[index], target.values[index]).to(device)
        for name, target in targets.items()
    }


def side_information(options: TransReIDOptions, cameras: Sequence[str], records: Records) -> Targets:
    """What a TransReID with embeddings of cameras or views is told of images, by name; else nothing.

    Args:
        options: how many embeddings there are.
        cameras: names of the training cameras; others, and unknown ones, are -1.
        records: N images of training or test.
    """
    reported = {}
    if options.sie_cameras > 1:
        number_of = {name: number for number, name in enumerate(cameras)}
        codes = torch.tensor([number_of.get(name, NO_LABEL) for name in records.camera.values], dtype=torch.int64)
        reported["camera"] = TrainingTarget(codes, codes, options.sie_cameras)
    if options.sie_views > 1:
        centred = np.float32(180 / options.sie_views)  # the first view is around 0, not from 0 on
        values, mirrored = (
            torch.from_numpy(orientation_bins(angles + centred, options.sie_views))
            for angles in (records.orientation, mirrored_orientation(records.orientation))
        )
        reported["view"] = TrainingTarget(values, mirrored, options.sie_views)
    return reported


def side_cameras(options: TransReIDOptions, records: Records) -> tuple[str, ...]:
    """Names of the training cameras in the order of their embeddings; none where there are no embeddings.

    Raises:
        InputError: there are more or fewer embeddings than cameras, or views without a known orientation.
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
    """Classes without gaps; images for which `counts` is off have none."""
    if name == "orientation":
        degrees = np.where(counts, records.orientation, np.float32(np.nan))
        both = [
            orientation_bins(angles, config.bins, config.bin_edges)
            for angles in (degrees, mirrored_orientation(degrees))
        ]
    else:
        both = [np.where(counts, _column(records, name).codes, NO_LABEL).astype(np.int64)] * 2
    seen = np.concatenate(both) if flips else both[0]
    present = np.unique(seen[seen >= 0])
    classes = [np.where(np.isin(codes, present), np.searchsorted(present, codes), NO_LABEL) for codes in both]
    values, mirrored = (torch.from_numpy(codes.astype(np.int64)) for codes in classes)
    return TrainingTarget(values, mirrored, len(present))


def _angles(records: Records, counts: NDArray[np.bool_]) -> TrainingTarget:
    degrees = np.where(counts, records.orientation, np.float32(np.nan)).astype(np.float32)
    found = int((~np.isnan(degrees)).sum())
    return TrainingTarget(torch.from_numpy(degrees), torch.from_numpy(mirrored_orientation(degrees)), 2 if found else 0)


def _column(records: Records, name: str) -> Labels:
    column: Labels = getattr(records, name)
    return column


def _refuse_unteachable(name: str, target: TrainingTarget, config: LabelConfig) -> None:
    if target.outputs >= 2:
        return
    if name == "domain":
        raise InputError(
            "The head domain needs real and synthetic training images, but all are of one domain; "
            "add a data set of the other, or take domain out of heads."
        )
    which = "synthetic training image" if config.attributes_on == "synthetic" else "training image"
    if target.outputs == 0:
        also = ", set labels.attributes_on=labelled to learn from real ones" if which[0] == "s" else ""
        raise InputError(
            f"The head {name} has nothing to learn: no {which} has that label{also}, or take it out of heads."
        )
    raise InputError(
        f"The head {name} has nothing to tell apart: each labelled {which} has the same; take it out of heads."
    )
