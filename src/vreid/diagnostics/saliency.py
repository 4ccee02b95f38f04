"""Where a model looks: retrieval with the middle or the border of the pictures covered, and maps of its activation.

B pictures in a batch, H x W pixels of the network's input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vreid.data.loading import test_loader
from vreid.data.protocols import Protocol
from vreid.data.records import Records
from vreid.diagnostics.diagnosis import BarChart, Looked, Looks, Part
from vreid.diagnostics.estimates import means
from vreid.errors import InputError
from vreid.progress import Progress, job
from vreid.retrieval.distances import Distances
from vreid.retrieval.evaluation.evaluate import evaluate_retrieval, evaluated_rows
from vreid.retrieval.evaluation.metrics import Metrics
from vreid.retrieval.features import FeatureSet, Sides
from vreid.retrieval.postprocessing.pipeline import PostProcessing
from vreid.retrieval.postprocessing.tracklet_features import tracklet_units

if TYPE_CHECKING:
    from vreid.training.extract import TrainedModel

MIDDLE = 0.6
"""Share of the width and height that the middle takes: about 36 % of the picture, the vehicle's larger part."""
MOST_VEHICLES = 60
"""Vehicles whose pictures are extracted anew, drawn by the seed."""
WORST = 6
"""Errors whose activation maps are shown."""
SAMPLE = 200
"""Queries over which activation is measured."""
BATCH = 64
COVERED = ("nothing", "the border", "the middle")


def occlusion(
    sides: Sides,
    trained: TrainedModel,
    protocol: Protocol,
    *,
    device: str = "cpu",
    seed: int = 0,
    progress: Progress | None = None,
) -> Part:
    """mAP of up to 60 vehicles among themselves, with nothing, the border or the middle covered by the mean grey.

    A model that finds vehicles better when their middle is covered than when their border is, reads the background.

    Args:
        sides: query and gallery features, for their records; they are extracted anew.
        trained: from `load_model`; must be the one that made the features.
        protocol: how rankings are judged.
        device: "cpu", "cuda", ...
        seed: of the vehicles drawn and the intervals.
        progress: listener, counts pictures.

    Raises:
        InputError: another model, or an unreadable picture.
    """
    check_model(sides, trained)
    query, gallery = (side.records for side in sides)
    names = np.intersect1d(query.identity.values[query.identity.known], gallery.identity.values[gallery.identity.known])
    chosen = np.random.default_rng([seed, 7]).permutation(names)[:MOST_VEHICLES]
    picked = [records[np.isin(records.identity.values, chosen)] for records in (query, gallery)]
    covered = [_features(trained, records, device, progress) for records in picked]
    evaluated = [evaluate_retrieval(covered[0][name], covered[1][name], PostProcessing(), protocol) for name in COVERED]
    columns = np.stack([metrics.average_precision for metrics in evaluated], axis=1)
    columns = np.column_stack([columns, columns[:, 2] - columns[:, 1]])
    nothing, border, middle, more = means(columns, picked[0].identity.codes, seed=seed)
    warning = more.low > 0
    return Part(
        name="where the model looks",
        sentence=f"mAP of {len(chosen)} vehicles among themselves is {nothing} %; with the border of the pictures "
        f"covered {border} %, with the middle covered {middle} %"
        + (": the model finds vehicles by what is around them." if warning else "."),
        numbers={
            "nothing covered": nothing,
            "border covered": border,
            "middle covered": middle,
            "middle covered less border covered": more,
        },
        warning=warning,
        fix="train on pictures with other backgrounds (crops, random erasing, masks), test on cameras not trained on",
        needs="identities, pictures, the model",
        limits="A covered picture is a new kind of picture to the model; the two covers hide different areas "
        f"({1 - MIDDLE**2:.0%} and {MIDDLE**2:.0%}).",
        chart=BarChart(
            {"covered": {"nothing": nothing, "the border": border, "the middle": middle}},
            "mAP in percent, with 95 % interval",
        ),
    )


def worst_looks(
    distances: Distances,
    metrics: Metrics,
    protocol: Protocol,
    trained: TrainedModel,
    *,
    device: str = "cpu",
    seed: int = 0,
) -> Part:
    """Activation maps of the worst errors: the query, its first candidate and its nearest mate; and of a sample of
    queries, how much of the activation lies in the middle of the picture.

    Args:
        distances: after all steps. metrics: theirs under `protocol`.
        trained: the model that made the features.

    Raises:
        InputError: nothing is wrong, or as `attention`.
    """
    late = np.where(metrics.first_hit == 0, np.inf, metrics.first_hit)
    wrong = np.flatnonzero((metrics.relevant > 0) & (late > 1))
    if not len(wrong):
        raise InputError("worst errors: there are none; every first candidate is right.")
    worst = set(wrong[np.argsort(-late[wrong], kind="stable")][:WORST].tolist())
    query, gallery = distances.query, distances.gallery
    tracks = protocol.unit == "tracklet"  # shown by its first image
    image_of_unit = np.unique(tracklet_units(gallery)[0], return_index=True)[1] if tracks else np.arange(len(gallery))
    rows: dict[int, list[tuple[str, Records]]] = {}
    for row, values, mates in evaluated_rows(distances, protocol):
        if row in worst:
            nearest = mates[np.argmin(values[mates])]
            rows[row] = [
                ("query", query[row]),
                ("first candidate, wrong", gallery[image_of_unit[values.argmin()]]),
                ("nearest right one", gallery[image_of_unit[nearest]]),
            ]
    shown = [rows[row] for row in sorted(rows, key=lambda row: (-late[row], row))]
    heat = iter(attention(trained, Records.concat([image for row in shown for _, image in row]), device))
    looks = [[_looked(name, image, next(heat)) for name, image in row] for row in shown]
    sample = query[np.sort(np.random.default_rng([seed, 9]).permutation(len(query))[:SAMPLE])]
    maps = attention(trained, sample, device)
    inside = (maps * _middle(*maps.shape[1:])).sum(axis=(1, 2)) / np.maximum(maps.sum(axis=(1, 2)), 1e-9)
    share = means(inside, sample.identity.codes, seed=seed)[0]
    return Part(
        name="activation maps",
        sentence=f"{share} % of the activation lies in the middle of the pictures, {100 * MIDDLE**2:.0f} % of their "
        "area.",
        numbers={"activation in the middle": share},
        warning=share.high < MIDDLE**2,
        fix="look whether the vehicles stand in the middle of the pictures, and what the model sees around them",
        needs="identities, pictures, the model",
        limits="The energy of the last feature map: where the network is excited, which is not yet why it decides. "
        "Small pictures have maps of few cells, which say little.",
        chart=Looks(looks),
    )


def _looked(name: str, image: Records, heat: NDArray[np.float32]) -> Looked:
    box = None if np.isnan(image.box[0]).any() else tuple(image.box[0].tolist())
    camera = f", {image.camera.values[0]}" if image.camera.values[0] else ""
    return Looked(f"{name}{camera}", str(image.path[0]), box, heat)


def check_model(sides: Sides, trained: TrainedModel) -> None:
    """Refuse a model that did not make the features.

    Raises:
        InputError: it is another one.
    """
    for side in sides:
        if side.model and side.model != trained.hash:
            raise InputError(f"{trained.source}: is not the model that made these features; give that one.")


def attention(trained: TrainedModel, records: Records, device: str = "cpu") -> NDArray[np.float32]:
    """(N, H, W) activation maps from 0 to 1: the energy of the last feature map, enlarged to the network's input.

    Raises:
        InputError: an unreadable picture, or a backbone without a map (a transformer).
    """
    from vreid.training.crop import CropConfig, heat_maps

    if getattr(trained.model.backbone, "pools", False):
        raise InputError("activation maps: this backbone pools its map itself; they need a convolutional network.")
    trained.model.to(device).eval()
    out = []
    for images, _, _ in test_loader(records, trained.transform, batch_size=BATCH, device=device):
        out.append(heat_maps(trained, images, CropConfig(border=0)))
    heat = np.concatenate(out)
    low, high = (function(axis=(1, 2), keepdims=True) for function in (heat.min, heat.max))
    return np.asarray((heat - low) / np.maximum(high - low, 1e-9), dtype=np.float32)


def _features(trained: TrainedModel, records: Records, device: str, progress: Progress | None) -> dict[str, FeatureSet]:
    """Features of the pictures with each of `COVERED`; a covered pixel is 0, which is the mean after normalisation."""
    import torch

    trained.model.to(device).eval()
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in COVERED}
    with job(progress, "cover pictures", len(records)) as listener, torch.inference_mode():
        for images, rows, _ in test_loader(records, trained.transform, batch_size=BATCH, device=device):
            middle = _middle(*images.shape[2:])
            for name, mask in zip(COVERED, (np.ones_like(middle), middle, 1 - middle), strict=True):
                made = trained.model(images * torch.from_numpy(mask).to(images))
                parts[name].append(made.float().cpu().numpy())
            listener.advance(len(rows))
    return {
        name: FeatureSet(np.concatenate(values), records, model=f"{trained.hash} {name}").normalise()
        for name, values in parts.items()
    }


def _middle(height: int, width: int) -> NDArray[np.float32]:
    """(H, W) 1 in the middle, 0 in the border."""
    mask = np.zeros((height, width), dtype=np.float32)
    top, left = round(height * (1 - MIDDLE) / 2), round(width * (1 - MIDDLE) / 2)
    mask[top : height - top, left : width - left] = 1
    return mask
