"""Run all diagnostics that the given features, data and model allow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from vreid.data.dataset import Dataset
from vreid.data.protocols import Protocol
from vreid.data.records import UNKNOWN, Records
from vreid.diagnostics.camera_gap import camera_gap
from vreid.diagnostics.diagnosis import Diagnosis, Part
from vreid.diagnostics.embedding import embedding
from vreid.diagnostics.gallery_size import compare_baselines, gallery_growth
from vreid.diagnostics.leaks import leaks
from vreid.diagnostics.open_set_identification import reliability, unknown_vehicles
from vreid.diagnostics.renderings import compare_renderings
from vreid.diagnostics.shortcuts import shortcuts
from vreid.diagnostics.worst_slices import worst_slices
from vreid.errors import InputError
from vreid.progress import Progress
from vreid.retrieval.evaluation.evaluate import evaluate_distances
from vreid.retrieval.features import Sides
from vreid.retrieval.postprocessing.pipeline import PostProcessing

if TYPE_CHECKING:
    from vreid.training.extract import TrainedModel


def diagnose(
    sides: Sides,
    protocol: Protocol,
    post: PostProcessing | None = None,
    *,
    dataset: Dataset | None = None,
    model: TrainedModel | None = None,
    validation: Sides | None = None,
    renderings: Mapping[str, Sides] | None = None,
    device: str = "cpu",
    seed: int = 0,
    progress: Progress | None = None,
) -> Diagnosis:
    """Diagnose features; parts that are not available are listed with the reason.

    Args:
        sides: query and gallery features.
        protocol: the evaluation protocol; if it draws galleries, the full gallery is searched instead.
        post: post-processing; camera gap, gallery size and occlusion always use plain features.
        dataset: data set with training images, for the checks of leaks and shortcuts.
        model: the model of the features, for occlusion and activation maps.
        validation: features to calibrate a threshold on.
        renderings: features of other renderings of the same images, by name.
        device: device of the model.
        seed: random seed.
        progress: listener that counts the images that are read and extracted.

    Raises:
        InputError: validation features, renderings or a model that do not belong to the features; a negative seed.

    Example:
        >>> search = RetrievalRun.load("features")                                               # doctest: +SKIP
        >>> diagnose((search.query, search.gallery), search.protocol)["camera gap"].sentence     # doctest: +SKIP
        '12.1 (10.3 to 14.0) % of the variance of the features lies between cameras, ...'
    """
    from vreid.diagnostics.saliency import check_model, error_saliency, occlusion

    if seed < 0:
        raise InputError(f"diagnose: seed {seed} is negative; give 0 or more.")
    post = post or PostProcessing()
    protocol = replace(protocol, repeats=0)
    query, gallery = sides
    labelled = not (query.records.identity.codes == UNKNOWN).any()
    parts: list[Part] = []
    left_out: list[tuple[str, str]] = []

    def attempt(name: str, part: Callable[[], Part | list[Part]]) -> None:
        try:
            found = part()
        except InputError as error:
            left_out.append((name, str(error)))
        else:
            parts.extend([found] if isinstance(found, Part) else found)

    if model:
        check_model(sides, model)
    if dataset:
        attempt("leaks", lambda: leaks(dataset, progress))
    else:
        left_out.append(("leaks", "needs the data set (--data)."))
    if not labelled:
        attempt("camera gap", lambda: camera_gap(query, gallery, protocol, seed=seed))
        left_out.append(("everything else", "some queries have no identity."))
        return Diagnosis(tuple(parts), tuple(left_out))
    distances = post.under(protocol, query).apply(query, gallery)
    metrics = evaluate_distances(distances, protocol)
    attempt("baselines", lambda: compare_baselines(query, gallery, protocol, metrics, seed=seed, progress=progress))
    attempt("camera gap", lambda: camera_gap(query, gallery, protocol, seed=seed))
    attempt("neighbours", lambda: embedding(query, gallery, seed=seed))
    attempt("slices", lambda: worst_slices(distances, metrics, protocol, seed=seed))
    attempt("gallery size", lambda: gallery_growth(query, gallery, protocol, seed=seed))
    if validation:  # unsuitable features are an error here, not a missing part
        parts.append(unknown_vehicles(sides, protocol, post, validation=validation, seed=seed))
    else:
        attempt("unknown vehicles", lambda: unknown_vehicles(sides, protocol, post, seed=seed))
    attempt("reliability of distances", lambda: reliability(sides, protocol, post, seed=seed))
    if renderings:
        parts.append(compare_renderings(sides, renderings, protocol, post, seed=seed))
    if model:
        attempt(
            "occlusion",
            lambda: occlusion(sides, model, protocol, device=device, seed=seed, progress=progress),
        )
        attempt(
            "activation maps", lambda: error_saliency(distances, metrics, protocol, model, device=device, seed=seed)
        )
    else:
        left_out.append(("occlusion", "needs the model (--model)."))
    train = dataset.train if dataset else query.records[:0]
    for where, records in (("training images", train), ("test images", _once(query.records, gallery.records))):
        if len(records):
            attempt("shortcuts, " + where, partial(shortcuts, records, where, seed=seed, progress=progress))
    return Diagnosis(tuple(parts), tuple(left_out))


def _once(query: Records, gallery: Records) -> Records:
    """Return the images of both sides, each once."""
    if query == gallery:
        return gallery
    both = Records.concat([query, gallery])
    _, first = np.unique(both.path, return_index=True)
    return both[np.sort(first)]
