"""Run an exported model in onnxruntime; imports neither torch nor the package onnx."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from vreid.errors import InputError
from vreid.files import parse_errors
from vreid.formats.facts import fact
from vreid.inference.backend import NetworkOutputs
from vreid.inference.model_facts import ModelFacts
from vreid.inference.onnx_file import FACTS, verify_onnx

IMAGES, FEATURE, NECK = "images", "feature", "neck"
"""Input (N, H, W, 3) uint8; outputs: the unit feature and the raw one after the neck, (N, D); heads by their names."""


class OnnxBackend:
    """An ONNX file of vreid as a backend; see `vreid.inference.backend.Backend`.

    Threads are as many as `OMP_NUM_THREADS` says, else one a core.

    Args:
        path: the file.
        weights: see `vreid.inference.onnx_file.verify_onnx`.
        device: "cpu", or "cuda" with onnxruntime-gpu installed ("auto": if it is).

    Raises:
        InputError: the file is absent, damaged or not of vreid, its weights are not beside it, or there is no such
            device.
    """

    name = "onnxruntime"

    def __init__(self, path: Path | str, device: str = "cpu", weights: Path | None = None) -> None:
        self.source = Path(path)
        verify_onnx(path, weights)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=_providers(device))
        except InputError:
            raise
        except Exception as error:  # onnxruntime has its own exceptions, one for each kind of failure
            raise InputError(f"{path}: cannot be run ({str(error).splitlines()[0]}); export it again.") from error
        with parse_errors(path):
            facts = json.loads(self._session.get_modelmeta().custom_metadata_map[FACTS])
            self.facts = ModelFacts.of(facts, path)
            self.hash = fact(facts, "hash", str)
            self.num_features = fact(facts, "num_features", int)

    def run(self, images: NDArray[np.uint8], *, heads: bool = False) -> NetworkOutputs:
        """Run the network on (N, H, W, 3) images of any size, which it resizes."""
        names = [NECK, *(self.facts.heads if heads else ())]
        features, *outputs = self._outputs(names, images)
        return NetworkOutputs(features, dict(zip(names[1:], outputs, strict=True)))

    def unit_features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features (N, D) of length 1, as the file gives them to programs other than vreid."""
        return self._outputs([FEATURE], images)[0]

    def _outputs(self, names: list[str], images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        try:
            return list(self._session.run(names, {IMAGES: images}))
        except Exception as error:  # onnxruntime has its own exceptions, one for each kind of failure
            raise InputError(
                f"{self.source}: cannot be run ({str(error).splitlines()[0]}); export it again."
            ) from error


def _providers(device: str) -> list[Any]:
    """Execution providers of `device`, the first that works."""
    if device not in ("cpu", "auto") and not device.startswith("cuda"):
        raise InputError(f"device {device!r}: onnxruntime runs models on cpu or cuda; use one of these.")
    has_gpu = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if device.startswith("cuda") and not has_gpu:
        raise InputError(f"device {device!r}: this onnxruntime has no CUDA; pip install onnxruntime-gpu, or use cpu.")
    if device == "cpu" or not has_gpu:
        return ["CPUExecutionProvider"]
    number = int(device.partition(":")[2] or 0)
    return [("CUDAExecutionProvider", {"device_id": number}), "CPUExecutionProvider"]
