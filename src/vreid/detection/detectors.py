"""Detectors of vehicles by name; all of them come from other packages or files, none is part of vreid."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module, util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vreid.detection.detected_boxes import COCO_VEHICLES, Detector
from vreid.errors import InputError
from vreid.files import read_lines_bounded

NAMES = "rfdetr[:SIZE], FILE.onnx, MODULE:FUNCTION, FILE.py:FUNCTION or 'command: PROGRAM ARGUMENTS'"
"""What `load_detector` takes."""

VEHICLES = frozenset(
    {"bus", "car", "motorbike", "motorcycle", "pickup", "suv", "taxi", "tractor", "trailer", "truck", "van", "vehicle"}
)
"""Class names that are kept; names that a detector made of several words count by their last ("pickup truck")."""


@dataclass(frozen=True)
class CommandDetector:
    """A program that is given a video or a folder of frames and prints the boxes of all frames as MOTChallenge lines.

    Attributes:
        arguments: the program and its arguments; "{}" stands for the path, which else comes last.
    """

    arguments: tuple[str, ...]


def load_detector(
    name: str, *, confidence: float = 0.3, classes: Sequence[str] | Path | None = None
) -> Detector | CommandDetector:
    """Load a detector.

    Args:
        name: "rfdetr" (the package of that name, Apache-2.0; "rfdetr:small" for another size than nano); an ONNX file,
            see `vreid.detection.onnx_detector`; "module:function" or "file.py:function", a `Detector`;
            "command: program arguments", see `CommandDetector`.
        confidence: of boxes that rfdetr and ONNX files give, at least.
        classes: names of the classes in their order, or a text file with a name per line; for ONNX files without names.

    Raises:
        InputError: there is no such detector, package, file or function.
    """
    import shlex

    if isinstance(classes, Path):
        classes = [line.strip() for line in read_lines_bounded(classes).decode("utf-8", "replace").splitlines()]
    if name.startswith("command:"):
        try:
            arguments = tuple(shlex.split(name.removeprefix("command:")))
        except ValueError as error:
            raise InputError(f"--detector {name!r}: {error}; quote the command as a shell does.") from error
        if not arguments:
            raise InputError("--detector 'command:' names no program; write 'command: PROGRAM ARGUMENTS'.")
        return CommandDetector(arguments)
    if name.lower().endswith(".onnx"):
        from vreid.detection.onnx_detector import OnnxDetector

        return OnnxDetector(Path(name), confidence=confidence, classes=classes)
    head, _, rest = name.partition(":")
    if head == "rfdetr":
        return _rfdetr(rest or "nano", confidence)
    if not rest:
        raise InputError(f"--detector {name}: there is no such detector; give {NAMES}.")
    place, _, function = name.rpartition(":")
    try:
        found = getattr(_module(place), function)
    except (ImportError, AttributeError, FileNotFoundError) as error:
        raise InputError(f"--detector {name}: cannot be loaded ({error}); give {NAMES}.") from error
    if not callable(found):
        raise InputError(f"--detector {name}: is {type(found).__name__}, not a function of a frame.")
    loaded: Detector = found
    return loaded


def _module(place: str) -> Any:
    """Import a module by its dotted name, or a .py file."""
    if not place.endswith(".py"):
        return import_module(place)
    spec = util.spec_from_file_location(f"vreid_detector_{Path(place).stem}", place)
    assert spec is not None and spec.loader is not None
    module = util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _rfdetr(size: str, confidence: float) -> Detector:
    """RF-DETR of a size ("nano", "small", "medium", "base", "large"); its package downloads the weights once."""
    try:
        package = import_module("rfdetr")
    except ImportError as error:
        raise InputError(f"--detector rfdetr: needs the package rfdetr ({error}); pip install rfdetr.") from error
    model = getattr(package, f"RFDETR{size.capitalize()}", None)
    if model is None:
        raise InputError(f"--detector rfdetr:{size}: there is no such size; try nano, small, medium or large.")
    predict = model().predict

    def detector(frame: NDArray[np.uint8]) -> Any:
        found = predict(frame, threshold=confidence)
        if found.class_id is not None and "class_name" not in found.data:  # older versions
            found.data["class_name"] = np.array([COCO_VEHICLES.get(int(one), "other") for one in found.class_id])
        return found

    return detector
