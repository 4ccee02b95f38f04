"""Detectors in ONNX files: outputs of YOLO and RF-DETR, scaling into the input, suppression, names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vreid.detection.detectors import load_detector
from vreid.detection.onnx_detector import suppress
from vreid.errors import InputError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
FRAME = np.random.default_rng(0).integers(0, 255, (120, 160, 3)).astype(np.uint8)


def save(path: Path, outputs: dict[str, Any], side: int | str = 64, names: str = "") -> str:
    """A network that gives these outputs for every image."""
    from onnx import TensorProto, helper, numpy_helper

    arrays = {name: np.asarray(value, dtype=np.float32)[None] for name, value in outputs.items()}
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value)) for name, value in arrays.items()
    ]
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape) for name, value in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if names:
        model.metadata_props.add(key="names", value=names)
    onnx.save(model, path)
    return str(path)


def boxes_of(name: str, **settings: Any) -> list[tuple[list[int], str]]:
    found = load_detector(name, **settings)(FRAME)  # type: ignore[operator]
    return [
        (np.round(box).astype(int).tolist(), str(kind))
        for box, kind in zip(found.xyxy, found.data.get("class_name", [""] * len(found.xyxy)), strict=True)
    ]


def test_yolo_output(tmp_path: Path) -> None:
    """Input pixels are 0.4 of those of a frame of 160 x 120 in an input of 64 x 64."""
    anchors = np.zeros((6, 20))
    anchors[:, 0] = [20, 16, 8, 16, 0.9, 0.1]  # a car
    anchors[:, 1] = [20.5, 16, 8, 16, 0.8, 0.0]  # the same again
    anchors[:, 2] = [48, 32, 16, 8, 0.1, 0.7]  # a truck
    anchors[:, 3] = [10, 10, 4, 4, 0.2, 0.1]  # not sure
    name = save(tmp_path / "yolo.onnx", {"output0": anchors}, names="{0: 'car', 1: 'truck'}")
    assert boxes_of(name) == [([40, 20, 60, 60], "car"), ([100, 70, 140, 90], "truck")]
    assert boxes_of(name, classes=["bus", "van"])[0][1] == "bus"
    assert len(boxes_of(name, confidence=0.15)) == 3
    (tmp_path / "names.txt").write_text("suv\npickup\n")
    assert boxes_of(name, classes=tmp_path / "names.txt")[1][1] == "pickup"


def test_yolo_output_with_objectness_and_without_names(tmp_path: Path) -> None:
    anchors = np.zeros((30, 7))
    anchors[3] = [20, 16, 8, 16, 0.9, 0.1, 0.9]
    anchors[4] = [40, 16, 8, 16, 0.3, 0.1, 0.9]  # 0.27
    assert boxes_of(save(tmp_path / "yolo.onnx", {"output": anchors})) == [([40, 20, 60, 60], "")]


def test_yolo_output_that_is_suppressed_already(tmp_path: Path) -> None:
    rows = np.zeros((300, 6))
    rows[0] = [16, 8, 24, 24, 0.9, 2]
    name = save(tmp_path / "yolo.onnx", {"output0": rows}, names="['a', 'b', 'car']")
    assert boxes_of(name) == [([40, 20, 60, 60], "car")]


def test_input_of_any_size(tmp_path: Path) -> None:
    anchors = np.zeros((5, 20))
    anchors[:, 0] = [200, 160, 80, 160, 0.9]
    name = save(tmp_path / "yolo.onnx", {"output0": anchors}, side="side", names="{0: 'car'}")
    assert boxes_of(name) == [([40, 20, 60, 60], "car")]  # 640 x 640: 4 input pixels a frame pixel


def test_rfdetr_output(tmp_path: Path) -> None:
    boxes, logits = np.zeros((10, 4)), np.full((10, 91), -9.0)
    boxes[0], logits[0, 3] = [50 / 160, 40 / 120, 20 / 160, 40 / 120], 2
    boxes[1], logits[1, 1] = [0.5, 0.5, 0.1, 0.1], 2
    name = save(tmp_path / "rfdetr.onnx", {"dets": boxes, "labels": logits})
    assert boxes_of(name) == [([40, 20, 60, 60], "car"), ([72, 54, 88, 66], "other")]


def test_files_that_are_no_detector(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(InputError, match=r"text\.onnx: cannot be run"):
        load_detector(str(tmp_path / "text.onnx"))
    with pytest.raises(InputError, match="its output has shape"):
        boxes_of(save(tmp_path / "class.onnx", {"logits": np.zeros(1000)}))


def test_suppression() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 6], [30, 0, 40, 10], [0, 0, 10, 9.9]], dtype=float)
    score = np.array([0.5, 0.9, 0.8, 0.1, 0.3])
    assert suppress(boxes, score, np.array([0, 0, 1, 0, 1])).tolist() == [1, 2, 3]
    assert suppress(boxes[:0], score[:0], np.zeros(0, dtype=int)).tolist() == []
