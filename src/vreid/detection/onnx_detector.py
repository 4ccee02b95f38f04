"""Detectors in ONNX files, run by onnxruntime.

Three forms of outputs are read:

    one output (1, 4 + C, A) or (1, A, 5 + C)     YOLO: centre, size and scores of C classes of A anchors, in pixels of
                                                  the input; the second form has an objectness before the scores
    one output (1, A, 6)                          YOLO with its own suppression: x1, y1, x2, y2, score, class
    outputs "dets" (1, Q, 4), "labels" (1, Q, C)  RF-DETR: centre and size as shares of the frame, logits of C classes

Frames are scaled into the input with their aspect and grey margins for YOLO, without it for RF-DETR.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vreid.detection.detected_boxes import COCO_VEHICLES, DetectedBoxes
from vreid.errors import InputError
from vreid.files import reading

_SIDE = 640  # of inputs of any size
_GREY = 114
_OVERLAP = 0.6  # intersection over union from which two boxes are of one vehicle
_COCO = 91
_MEAN, _DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # of ImageNet


class OnnxDetector:
    """A detector in an ONNX file; a `vreid.detection.detected_boxes.Detector`.

    Args:
        path: the file.
        confidence: minimum score of a box.
        classes: names of the classes; None: those in the file's metadata ("names", as Ultralytics' exports have), or
            COCO's for 91 classes.

    Raises:
        InputError: the file is missing, is not ONNX, or has other inputs or outputs.
    """

    def __init__(self, path: Path, *, confidence: float, classes: Sequence[str] | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
        options.log_severity_level = 3
        with reading(path):
            path.open("rb").close()
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has its own exceptions, one for each kind of failure
            raise InputError(f"{path}: cannot be run ({str(error).splitlines()[0]}); export it again.") from error
        self._path, self._confidence = path, confidence
        inputs, outputs = self._session.get_inputs(), [output.name for output in self._session.get_outputs()]
        shape = inputs[0].shape if inputs else []
        if len(inputs) != 1 or len(shape) != 4 or shape[1] != 3:
            raise InputError(f"{path}: takes {shape}, not one image (1, 3, height, width); export a detector.")
        self._input, self._type = inputs[0].name, np.float16 if "float16" in inputs[0].type else np.float32
        self._height, self._width = (side if isinstance(side, int) else _SIDE for side in shape[2:])
        self._shares = {"dets", "labels"} <= set(outputs)
        self._outputs = ["dets", "labels"] if self._shares else outputs[:1]
        self._classes = _class_names(self._session.get_modelmeta().custom_metadata_map, classes)

    def __call__(self, frame: NDArray[np.uint8]) -> DetectedBoxes:
        """Detect the objects in an RGB frame (H, W, 3).

        Raises:
            InputError: the outputs have another form than those above.
        """
        image, scale = self._scaled(frame)
        found = self._session.run(self._outputs, {self._input: image[None].astype(self._type)})
        found = [np.asarray(one[0], dtype=np.float64) for one in found]
        names = self._classes
        if self._shares:
            boxes, scores = _corners(found[0]), 1 / (1 + np.exp(-found[1]))
            if names is None and scores.shape[1] == _COCO:
                names = COCO_VEHICLES
            scale = np.array([frame.shape[1], frame.shape[0]] * 2, dtype=np.float64)
        else:
            boxes, scores = _yolo(found[0], self._path)
            scale = 1 / scale
        best = scores.argmax(axis=1)
        score = scores[np.arange(len(best)), best]
        kept = score >= self._confidence
        boxes, best, score = boxes[kept] * scale, best[kept], score[kept]
        rows = np.arange(len(boxes)) if self._shares else suppress(boxes, score, best)
        boxes = np.clip(boxes[rows], 0, np.array([frame.shape[1], frame.shape[0]] * 2))
        data = {} if names is None else {"class_name": np.array([names.get(int(one), "other") for one in best[rows]])}
        return DetectedBoxes(boxes, score[rows], best[rows], None, data)

    def _scaled(self, frame: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The input (3, H, W) of a frame, and input pixels per frame pixel of x1, y1, x2, y2."""
        image = Image.fromarray(frame)
        if self._shares:
            pixels = np.asarray(image.resize((self._width, self._height), Image.Resampling.BILINEAR)) / 255.0
            return ((pixels - _MEAN) / _DEVIATION).transpose(2, 0, 1), np.ones(4)
        factor = min(self._width / image.width, self._height / image.height)
        size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
        canvas = np.full((self._height, self._width, 3), _GREY, np.uint8)
        canvas[: size[1], : size[0]] = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
        return canvas.transpose(2, 0, 1) / 255.0, np.full(4, factor)


def _class_names(metadata: Mapping[str, str], classes: Sequence[str] | None) -> Mapping[int, str] | None:
    if classes is not None:
        return dict(enumerate(classes))
    try:
        names: Any = ast.literal_eval(metadata.get("names", ""))
    except (ValueError, SyntaxError):
        return None
    if isinstance(names, (list, tuple)):
        return {number: str(name) for number, name in enumerate(names)}
    return {int(number): str(name) for number, name in names.items()} if isinstance(names, dict) else None


def _yolo(found: NDArray[np.float64], path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners (A, 4) and scores (A, C) of a YOLO output."""
    if found.ndim == 2 and found.shape[1] == 6 and found.shape[0] > 6:  # x1, y1, x2, y2, score, class
        scores = np.zeros((len(found), int(found[:, 5].max(initial=0)) + 1))
        scores[np.arange(len(found)), found[:, 5].astype(int)] = found[:, 4]
        return found[:, :4], scores
    if found.ndim != 2 or min(found.shape) < 5:
        raise InputError(f"{path}: its output has shape {found.shape}, not that of a detector; see --detector.")
    if found.shape[0] < found.shape[1]:  # (4 + C, A)
        return _corners(found[:4].T), found[4:].T
    return _corners(found[:, :4]), found[:, 5:] * found[:, 4:5]


def _corners(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Corners (N, 4) from centre, width and height."""
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def suppress(boxes: NDArray[np.float64], score: NDArray[np.float64], label: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the rows of the boxes (N, 4) that overlap none of a higher score (N,) and the same label (N,), best first.

    Boxes of different labels suppress each other only if they are nearly the same: a car that is found as a truck, too.
    """
    order = np.argsort(-score, kind="stable")
    area = (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=1)
    kept: list[int] = []
    while len(order):
        first, order = order[0], order[1:]
        kept.append(int(first))
        low = np.maximum(boxes[first, :2], boxes[order, :2])
        high = np.minimum(boxes[first, 2:], boxes[order, 2:])
        shared = (high - low).clip(0).prod(axis=1)
        overlap = shared / np.maximum(area[first] + area[order] - shared, 1e-9)
        order = order[overlap <= np.where(label[order] == label[first], _OVERLAP, (1 + _OVERLAP) / 2)]
    return np.array(kept, dtype=np.intp)
