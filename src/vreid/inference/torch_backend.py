"""Run a trained model in torch."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vreid.inference.backend import NetworkOutputs
from vreid.inference.model_facts import ModelFacts
from vreid.training.extract import TrainedModel
from vreid.training.precision import Precision, autocast, choose_precision


class TorchBackend:
    """A `TrainedModel` as a backend; see `vreid.inference.backend.Backend`.

    Args:
        trained: the model; it is moved to `device`.
        device: "cpu", "cuda", ...
        precision: number type of convolutions; "auto" is that of `vreid extract`.

    Attributes:
        precision: the number type that was chosen.
    """

    name = "torch"

    def __init__(self, trained: TrainedModel, device: str = "cpu", precision: Precision = "auto") -> None:
        self.trained = trained
        self.device = torch.device(device)
        self.facts = ModelFacts.of({**trained.facts, "transform": asdict(trained.transform)}, trained.source)
        self.hash, self.source = trained.hash, trained.source
        self.num_features = trained.model.num_features
        self._model = trained.model.to(self.device).to(memory_format=torch.channels_last).eval()
        self.precision = choose_precision(precision, self.device, self._model, training=False).dtype

    def run(self, images: NDArray[np.uint8], *, heads: bool = False) -> NetworkOutputs:
        """Run the network on (N, H, W, 3) images of its size."""
        batch = (
            torch.from_numpy(images if images.flags.writeable else images.copy()).to(self.device).permute(0, 3, 1, 2)
        )
        with torch.inference_mode(), autocast(self.precision, self.device):
            normalised = self.trained.transform.finish(batch).contiguous(memory_format=torch.channels_last)
            if not heads:
                return NetworkOutputs(_array(self._model(normalised)), {})
            features, outputs = self._model.describe(normalised)
        return NetworkOutputs(_array(features), {name: _array(outputs[name]) for name in self.facts.heads})


def _array(values: Any) -> NDArray[np.float32]:
    made: NDArray[np.float32] = values.float().cpu().numpy()
    return made
