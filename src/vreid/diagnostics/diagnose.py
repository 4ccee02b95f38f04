"""`diagnose`: every part that the features, and what is given beside them, allow."""

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
from vreid.diagnostics.gallery_size import floors, gallery_growth
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
    """Look at features from every side; what cannot be had is left out, with the reason.

    Args:
        sides: query and gallery features.
        protocol: how rankings are judged; where it draws galleries, one search of everything is looked at.
        post: post-processing whose result is looked at; the camera gap, the gallery's size and the covered pictures are
            about plain features.
        dataset: with the training pictures, to look for leaks and for shortcuts there.
        model: the one that made the features, to see where it looks.
        validation: features to calibrate a threshold on.
        renderings: features of other renderings of the same images, by name.
        device: for the model.
        seed: of everything drawn.
        progress: listener, counts the pictures that are read and extracted.

    Raises:
        InputError: validation features, renderings or a model that do not belong to the features; a negative seed.

    Example:
        >>> search = RetrievalRun.load("features")                                               # doctest: +SKIP
        >>> diagnose((search.query, search.gallery), search.protocol)["camera gap"].sentence     # doctest: +SKIP
        '12.1 (10.3 to 14.0) % of the variance of the features lies between cameras, ...'
    """
    from vreid.diagnostics.saliency import check_model, occlusion, worst_looks

    if seed < 0:
        raise InputError(f"diagnose: seed {seed} is negative; give 0 or more.")
    post = post or PostProcessing()
    protocol = replace(protocol, repeats=0)
    query, gallery = sides
    labelled = not (query.records.identity.codes == UNKNOWN).any()
    made: list[Part] = []
    left_out: list[tuple[str, str]] = []

    def attempt(name: str, part: Callable[[], Part | list[Part]]) -> None:
        try:
            found = part()
        except InputError as error:
            left_out.append((name, str(error)))
        else:
            made.extend([found] if isinstance(found, Part) else found)

    if model:
        check_model(sides, model)
    if dataset:
        attempt("leaks", lambda: leaks(dataset, progress))
    else:
        left_out.append(("leaks", "the data set was not given (--data)."))
    if not labelled:
        attempt("camera gap", lambda: camera_gap(query, gallery, protocol, seed=seed))
        left_out.append(("everything else", "some queries have no identity."))
        return Diagnosis(tuple(made), tuple(left_out))
    distances = post.under(protocol, query).apply(query, gallery)
    metrics = evaluate_distances(distances, protocol)
    attempt("floors", lambda: floors(query, gallery, protocol, metrics, seed=seed, progress=progress))
    attempt("camera gap", lambda: camera_gap(query, gallery, protocol, seed=seed))
    attempt("neighbours", lambda: embedding(query, gallery, seed=seed))
    attempt("slices", lambda: worst_slices(distances, metrics, protocol, seed=seed))
    attempt("gallery size", lambda: gallery_growth(query, gallery, protocol, seed=seed))
    if validation:  # features that do not belong here are a mistake, not a lack
        made.append(unknown_vehicles(sides, protocol, post, validation=validation, seed=seed))
    else:
        attempt("unknown vehicles", lambda: unknown_vehicles(sides, protocol, post, seed=seed))
    attempt("reliability of distances", lambda: reliability(sides, protocol, post, seed=seed))
    if renderings:
        made.append(compare_renderings(sides, renderings, protocol, post, seed=seed))
    if model:
        attempt(
            "where the model looks",
            lambda: occlusion(sides, model, protocol, device=device, seed=seed, progress=progress),
        )
        attempt("activation maps", lambda: worst_looks(distances, metrics, protocol, model, device=device, seed=seed))
    else:
        left_out.append(("where the model looks", "the model was not given (--model)."))
    train = dataset.train if dataset else query.records[:0]
    for where, records in (("training pictures", train), ("test pictures", _once(query.records, gallery.records))):
        if len(records):
            attempt("shortcuts, " + where, partial(shortcuts, records, where, seed=seed, progress=progress))
    return Diagnosis(tuple(made), tuple(left_out))


def _once(query: Records, gallery: Records) -> Records:
    """All images of both sides; where every image is a query, once."""
    if query == gallery:
        return gallery
    both = Records.concat([query, gallery])
    _, first = np.unique(both.path, return_index=True)
    return both[np.sort(first)]
