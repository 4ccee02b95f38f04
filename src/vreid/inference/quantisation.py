"""Eight-bit forms of ONNX graphs by onnxruntime's static quantisation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from vreid.inference.onnx_backend import IMAGES

QUANTISED = ("Conv", "Gemm", "MatMul")
FIRST, LAST = 8, 1
"""Convolutions at the beginning, and products at the end, that stay float32: they lose most."""


class _Calibration(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Images one at a time, as onnxruntime asks for them."""

    def __init__(self, images: Sequence[NDArray[np.uint8]]) -> None:
        self._left: Iterator[NDArray[np.uint8]] = iter(images)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        image = next(self._left, None)
        return None if image is None else {IMAGES: image[None]}


def quantise(model: Any, images: Sequence[NDArray[np.uint8]]) -> Any:
    """Return a model whose convolutions and products with weights compute in int8, per channel.

    Args:
        model: an ONNX model (ModelProto).
        images: (H, W, 3) uint8 each, from which the ranges of activations are taken.
    """
    with TemporaryDirectory() as folder:
        plain, prepared, made = (str(Path(folder) / name) for name in ("plain.onnx", "prepared.onnx", "int8.onnx"))
        onnx.save(model, plain)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)  # folds normalisation into convolutions
        graph = onnx.load(prepared).graph
        quantize_static(
            prepared,
            made,
            _Calibration(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=_kept(graph),
        )
        return onnx.load(made)


def _kept(graph: Any) -> list[str]:
    """Names of the nodes that stay float32.

    These are the ends of the network, depth-wise convolutions (few weights, of very different sizes), and products of
    two computed matrices, as in resizing.
    """
    shapes = {one.name: list(one.dims) for one in graph.initializer}
    learned: list[str] = []
    kept: list[str] = []
    for node in graph.node:
        if node.op_type in QUANTISED:
            shape = shapes.get(node.input[1])
            depthwise = node.op_type == "Conv" and shape is not None and shape[1] == 1
            (kept if shape is None or depthwise else learned).append(node.name)
    return [*kept, *learned[:FIRST], *learned[-LAST:]]
