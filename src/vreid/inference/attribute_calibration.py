"""Calibrate the confidence of a model's attributes on labelled images that it was not trained on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vreid.data.record_images import RecordImages
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.inference.attribute_heads import fit_angle_temperature, fit_class_temperature
from vreid.inference.embedder import Embedder


def attribute_temperatures(model: Embedder, records: Records) -> dict[str, float]:
    """Fit the temperature of each attribute head on the images of `records` with that label.

    The result is the fact "temperatures" of a model file (`vreid export --calibrate`). Heads without labels among the
    images are left out.

    Raises:
        InputError: no head has labels, or an image cannot be read.
    """
    facts = model.backend.facts
    targets = {name: _targets(records, name, facts.labels.get(name)) for name in facts.heads}
    known = {name: ~np.isnan(target) for name, target in targets.items()}
    used = np.logical_or.reduce([np.zeros(len(records), dtype=bool), *known.values()])
    if not used.any():
        heads = ", ".join(facts.heads) or "no attributes"
        raise InputError(f"no image has a label of the heads of {model.source} ({heads}); give labelled images.")
    outputs = model.head_outputs(iter(RecordImages(records[used])))
    made = {}
    for name, target in targets.items():
        rows = known[name][used]
        if not rows.any():
            continue
        if name in facts.labels:
            made[name] = fit_class_temperature(outputs[name][rows], target[used][rows].astype(np.int64))
        else:
            made[name] = fit_angle_temperature(outputs[name][rows], target[used][rows])
    return made


def _targets(records: Records, name: str, classes: tuple[str, ...] | None) -> NDArray[np.float64]:
    """The class (N,) of each image, or its degrees where there are no classes; NaN where it is not known."""
    if name == "orientation":
        degrees = records.orientation.astype(np.float64) % 360
        if classes is None:
            return degrees
        bounds = np.array([one.split("-") for one in classes], dtype=np.float64)
        inside = (degrees[:, None] >= bounds[:, 0]) & (degrees[:, None] < bounds[:, 1])
        return np.where(inside.any(axis=1), inside.argmax(axis=1), np.nan)
    number_of = {one: number for number, one in enumerate(classes or ())}
    return np.array([number_of.get(value, np.nan) for value in getattr(records, name).values], dtype=np.float64)
