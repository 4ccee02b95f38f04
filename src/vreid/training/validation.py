"""Validation during training, on labelled query and gallery images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vreid.data.augment import TestTransform
from vreid.data.dataset import Dataset, fingerprint
from vreid.data.protocols import Protocol
from vreid.data.records import UNKNOWN, Records
from vreid.errors import InputError
from vreid.models.reid_model import ReidModel
from vreid.ranges import check_number
from vreid.retrieval.evaluation.evaluate import evaluate_retrieval
from vreid.retrieval.evaluation.metrics import Metrics
from vreid.retrieval.features import FeatureSet
from vreid.retrieval.postprocessing.pipeline import PostProcessing
from vreid.training.extract import extract
from vreid.training.precision import Precision


@dataclass(frozen=True, eq=False)
class Validation:
    """Labelled images on which a model is evaluated during training, without post-processing.

    Attributes:
        name: of the data set.
        query, gallery: images with identities.
        protocol: how rankings are evaluated.
        every: epochs between two evaluations; the last epoch is always evaluated.
        keep_best: keep the weights of the epoch with the highest mAP instead of the last ones.

    Raises:
        InputError: `every` is below 1, a query has no identity, or no query has a match in the gallery.
    """

    name: str
    query: Records
    gallery: Records
    protocol: Protocol
    every: int = 1
    keep_best: bool = False

    def __post_init__(self) -> None:
        check_number("validation every", self.every, least=1, whole=True)
        sides = (self.query, self.gallery)
        if not all(len(side) for side in sides) or (self.query.identity.codes == UNKNOWN).any():
            raise InputError(
                f"{self.name}: has no labelled test to validate on; name a data set with labelled query and gallery "
                "images (`vreid data split` makes one from training images)."
            )
        rng = np.random.default_rng(0)  # evaluate random vectors to find wrong labels before training
        try:
            query, gallery = (FeatureSet(rng.normal(size=(len(s), 4)).astype(np.float32), s).normalise() for s in sides)
            self._metrics(query, gallery)
        except InputError as error:
            raise InputError(f"{self.name}, to validate on: {error}") from error

    @classmethod
    def of(cls, dataset: Dataset, *, every: int = 1, keep_best: bool = False) -> Validation:
        """Use the query and gallery images of a data set with its own protocol."""
        return cls(dataset.name, dataset.query, dataset.gallery, dataset.protocol, every, keep_best)

    def evaluate(
        self, model: ReidModel, transform: TestTransform, *, device: str, workers: int | None, precision: Precision
    ) -> Metrics:
        """Evaluate `model` and restore its training mode and the state of random numbers.

        Raises:
            InputError: an image cannot be read, or the features are not finite.
        """
        modes = [(module, module.training) for module in model.modules()]
        place = torch.device(device)
        sides = (self.query,) if self.query == self.gallery else (self.query, self.gallery)
        try:
            with torch.random.fork_rng([place] if place.type == "cuda" else []):
                features = [
                    extract(model, side, transform=transform, device=device, workers=workers, precision=precision)
                    for side in sides
                ]
        finally:
            for module, training in modes:
                module.training = training
        return self._metrics(features[0], features[-1])

    def _metrics(self, query: FeatureSet, gallery: FeatureSet) -> Metrics:
        return evaluate_retrieval(query, gallery, PostProcessing(), self.protocol)

    def as_dict(self) -> dict[str, Any]:
        """Return values that identify the evaluation, for data.json and the metadata of a model."""
        return {
            "data": self.name,
            "query": fingerprint(self.query),
            "gallery": fingerprint(self.gallery),
            "protocol": self.protocol.name,
            "every": self.every,
        }

    def __str__(self) -> str:
        return (
            f"{self.name} ({len(self.query):,} queries, {len(self.gallery):,} gallery images, "
            f"{self.protocol.description.rstrip('.')})"
        )
