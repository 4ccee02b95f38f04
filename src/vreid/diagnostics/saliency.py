"""Saliency: retrieval with the centre or the border of images occluded, and activation maps.

Shapes: B images in a batch, H x W pixels of the network's input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vreid.data.loading import test_loader
from vreid.data.protocols import Protocol
from vreid.data.records import Records
from vreid.diagnostics.diagnosis import BarChart, Part, SaliencyMap, SaliencyMaps
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
"""Share of width and height that the middle covers: 36 % of the image, most of the vehicle."""
MOST_VEHICLES = 60
"""Maximum number of vehicles in the occlusion test, drawn by the seed."""
WORST = 6
"""Number of errors whose activation maps are shown."""
SAMPLE = 200
"""Maximum number of queries over which activation is measured."""
BATCH = 64
OCCLUDED = ("nothing", "the border", "the middle")


def occlusion(
    sides: Sides,
    trained: TrainedModel,
    protocol: Protocol,
    *,
    device: str = "cpu",
    seed: int = 0,
    progress: Progress | None = None,
) -> Part:
    """Measure the mAP of up to 60 vehicles with nothing, the border or the middle of images occluded by mean grey.

    A model that retrieves vehicles better with the middle occluded than with the border occluded relies on background.

    Args:
        sides: query and gallery features, for their records; features are extracted again.
        trained: the model of the features, from `load_trained`.
        protocol: the evaluation protocol.
        device: "cpu", "cuda", ...
        seed: random seed of the vehicles and the intervals.
        progress: listener that counts images.

    Raises:
        InputError: another model, or an unreadable image.
    """
    check_model(sides, trained)
    query, gallery = (side.records for side in sides)
    names = np.intersect1d(query.identity.values[query.identity.known], gallery.identity.values[gallery.identity.known])
    chosen = np.random.default_rng([seed, 7]).permutation(names)[:MOST_VEHICLES]
    picked = [records[np.isin(records.identity.values, chosen)] for records in (query, gallery)]
    occluded = [_features(trained, records, device, progress) for records in picked]
    evaluated = [
        evaluate_retrieval(occluded[0][name], occluded[1][name], PostProcessing(), protocol) for name in OCCLUDED
    ]
    columns = np.stack([metrics.average_precision for metrics in evaluated], axis=1)
    columns = np.column_stack([columns, columns[:, 2] - columns[:, 1]])
    nothing, border, middle, more = means(columns, picked[0].identity.codes, seed=seed)
    warning = more.low > 0
    return Part(
        name="occlusion",
        sentence=f"mAP of {len(chosen)} vehicles is {nothing} %; {border} % with the border of the images occluded, "
        f"{middle} % with the middle occluded" + (": the model relies on the background." if warning else "."),
        numbers={
            "nothing occluded": nothing,
            "border occluded": border,
            "middle occluded": middle,
            "middle minus border occluded": more,
        },
        warning=warning,
        fix="train on images with varied backgrounds (crops, random erasing, masks), and test on new cameras",
        needs="identities, images, the model",
        limits="The model was not trained on occluded images, and the two occlusions hide different areas "
        f"({1 - MIDDLE**2:.0%} and {MIDDLE**2:.0%}).",
        chart=BarChart(
            {"occluded": {"nothing": nothing, "the border": border, "the middle": middle}},
            "mAP in percent, with 95 % interval",
        ),
    )


def error_saliency(
    distances: Distances,
    metrics: Metrics,
    protocol: Protocol,
    trained: TrainedModel,
    *,
    device: str = "cpu",
    seed: int = 0,
) -> Part:
    """Compute activation maps of the worst errors: the query, its first candidate and its nearest match.

    Also measures the share of the activation in the middle of the image over a sample of queries.

    Args:
        distances: distances after post-processing.
        metrics: metrics of the distances under `protocol`.
        protocol: the evaluation protocol.
        trained: the model of the features.
        device: "cpu", "cuda", ...
        seed: random seed of the sample.

    Raises:
        InputError: there are no errors, or as `activation_maps`.
    """
    late = np.where(metrics.first_hit == 0, np.inf, metrics.first_hit)
    wrong = np.flatnonzero((metrics.relevant > 0) & (late > 1))
    if not len(wrong):
        raise InputError("activation maps: there are no errors to show; every first candidate is right.")
    worst = set(wrong[np.argsort(-late[wrong], kind="stable")][:WORST].tolist())
    query, gallery = distances.query, distances.gallery
    tracks = protocol.unit == "tracklet"  # a tracklet is represented by its first image
    image_of_unit = np.unique(tracklet_units(gallery)[0], return_index=True)[1] if tracks else np.arange(len(gallery))
    rows: dict[int, list[tuple[str, Records]]] = {}
    for row, values, matches in evaluated_rows(distances, protocol):
        if row in worst:
            nearest = matches[np.argmin(values[matches])]
            rows[row] = [
                ("query", query[row]),
                ("first candidate, wrong", gallery[image_of_unit[values.argmin()]]),
                ("nearest match", gallery[image_of_unit[nearest]]),
            ]
    shown = [rows[row] for row in sorted(rows, key=lambda row: (-late[row], row))]
    heat = iter(activation_maps(trained, Records.concat([image for row in shown for _, image in row]), device))
    maps_of_errors = [[_saliency_map(name, image, next(heat)) for name, image in row] for row in shown]
    sample = query[np.sort(np.random.default_rng([seed, 9]).permutation(len(query))[:SAMPLE])]
    maps = activation_maps(trained, sample, device)
    inside = (maps * _middle(*maps.shape[1:])).sum(axis=(1, 2)) / np.maximum(maps.sum(axis=(1, 2)), 1e-9)
    share = means(inside, sample.identity.codes, seed=seed)[0]
    return Part(
        name="activation maps",
        sentence=f"{share} % of the activation lies in the middle of the images, which is {100 * MIDDLE**2:.0f} % of "
        "their area.",
        numbers={"activation in the middle": share},
        warning=share.high < MIDDLE**2,
        fix="check that vehicles are in the middle of the images, and what surrounds them",
        needs="identities, images, the model",
        limits="The maps show the energy of the last feature map, not its influence on the distance. Maps of small "
        "images have few cells.",
        chart=SaliencyMaps(maps_of_errors),
    )


def _saliency_map(name: str, image: Records, heat: NDArray[np.float32]) -> SaliencyMap:
    box = None if np.isnan(image.box[0]).any() else tuple(image.box[0].tolist())
    camera = f", {image.camera.values[0]}" if image.camera.values[0] else ""
    return SaliencyMap(f"{name}{camera}", str(image.path[0]), box, heat)


def check_model(sides: Sides, trained: TrainedModel) -> None:
    """Check that the features were extracted with this model.

    Raises:
        InputError: they were extracted with another one.
    """
    for side in sides:
        if side.model and side.model != trained.hash:
            raise InputError(f"{trained.source}: these features were extracted with another model; give that one.")


def activation_maps(trained: TrainedModel, records: Records, device: str = "cpu") -> NDArray[np.float32]:
    """Compute activation maps (N, H, W) in 0 to 1: the energy of the last feature map, resized to the network's input.

    Raises:
        InputError: an unreadable image, or a backbone without a feature map (a transformer).
    """
    from vreid.training.crop import CropConfig, heat_maps

    if getattr(trained.model.backbone, "pools", False):
        raise InputError("activation maps: this backbone has no feature map; use a convolutional network.")
    trained.model.to(device).eval()
    out = []
    for images, _, _ in test_loader(records, trained.transform, batch_size=BATCH, device=device):
        out.append(heat_maps(trained, images, CropConfig(border=0)))
    heat = np.concatenate(out)
    low, high = (function(axis=(1, 2), keepdims=True) for function in (heat.min, heat.max))
    return np.asarray((heat - low) / np.maximum(high - low, 1e-9), dtype=np.float32)


def _features(trained: TrainedModel, records: Records, device: str, progress: Progress | None) -> dict[str, FeatureSet]:
    """Extract features with each of `OCCLUDED`; an occluded pixel is 0, the mean after normalisation."""
    import torch

    trained.model.to(device).eval()
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in OCCLUDED}
    with job(progress, "occlusion", len(records)) as listener, torch.inference_mode():
        for images, rows, _ in test_loader(records, trained.transform, batch_size=BATCH, device=device):
            middle = _middle(*images.shape[2:])
            for name, mask in zip(OCCLUDED, (np.ones_like(middle), middle, 1 - middle), strict=True):
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
