"""What an `Embedder` needs of the library that runs the network."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vreid.inference.model_facts import ModelFacts

BackendName = Literal["auto", "onnxruntime", "torch"]


class NetworkOutputs(NamedTuple):
    """Raw features after the neck (N, D), and the outputs (N, K) of each head by name."""

    features: NDArray[np.float32]
    heads: Mapping[str, NDArray[np.float32]]


class Backend(Protocol):
    """A network in evaluation mode; safe to call from several threads.

    Attributes:
        name: the library that runs it.
        facts: what the model file says.
        hash: of weights and preprocessing; equal hashes, comparable features.
        num_features: D.
        source: the model file.
    """

    name: str
    facts: ModelFacts
    hash: str
    num_features: int
    source: Path

    def run(self, images: NDArray[np.uint8], *, heads: bool = False) -> NetworkOutputs:
        """Run the network on images (N, H, W, 3) of the model's size, N >= 1; heads are left out unless asked for."""


def installed(module: str) -> bool:
    """Whether `module` can be imported."""
    return find_spec(module) is not None
