"""Export a trained model to ONNX: float32, int8, or a graph that takes its weights from a safetensors file."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from vreid.data.images import read_image
from vreid.errors import InputError
from vreid.files import atomic_write, reading, verify_tensors
from vreid.inference.model_facts import ModelFacts
from vreid.inference.onnx_backend import OnnxBackend
from vreid.inference.onnx_file import FACTS, SEAL, UNSEALED, WEIGHTS, seal
from vreid.inference.onnx_graph import OPSET, PREFIX, make_graph
from vreid.inference.parity import FLOAT32, INT8, Parity, measure, random_images, simulated_images
from vreid.inference.quantisation import quantise
from vreid.inference.torch_backend import TorchBackend
from vreid.training.extract import TrainedModel, load_trained, threshold_of
from vreid.training.validation import Validation

SIMULATED = 24
"""Simulated images that an export is checked on."""
CALIBRATION = 128
"""Simulated images from which the ranges of int8 are taken."""
_TYPES = {"F16": onnx.TensorProto.FLOAT16, "F32": onnx.TensorProto.FLOAT}


@dataclass(frozen=True)
class OnnxExport:
    """What was written, and how near it is to the original."""

    path: Path
    parity: Parity


def export_onnx(
    source: Path | str,
    out: Path | str,
    *,
    int8: bool = False,
    graph_only: bool = False,
    facts: Mapping[str, Any] | None = None,
    check: Sequence[Path | str] = (),
    validation: Validation | None = None,
) -> OnnxExport:
    """Write a model as one ONNX file that takes uint8 RGB images (N, H, W, 3) of any size.

    The file is compared with the model on random, simulated and given images first, and not written if it differs.

    Args:
        source: a run folder, "default", or the .safetensors file of a trained model.
        out: the .onnx file.
        int8: compute in eight bits, less than half the bytes; another model than the original, whose features and
            threshold are not its own.
        graph_only: take the weights from `source`, a .safetensors file in half or single precision that lies beside
            `out` under the same stem.
        facts: facts to add to the file, such as "threshold", "temperatures", "licence" and "card".
        check: image files that are compared too.
        validation: labelled images on which mAP is compared too.

    Raises:
        InputError: see `vreid.training.extract.load_trained` and `vreid.inference.parity.measure`; or the options
            contradict each other, or `out` cannot be written.
    """
    out = Path(out)
    if out.suffix != ".onnx":
        raise InputError(f"{out}: an ONNX file ends in .onnx; rename it.")
    if int8 and graph_only:
        raise InputError("an int8 file holds its own weights; leave out graph_only or int8.")
    trained = load_trained(source)
    if graph_only and (trained.source.resolve() != out.with_suffix(".safetensors").resolve()):
        raise InputError(
            f"{out}: takes its weights from {out.with_suffix('.safetensors')}; give that file as the model."
        )
    simulated = simulated_images(CALIBRATION if int8 else SIMULATED)
    model = make_graph(trained)
    described = _described(trained, {**trained.facts, **(facts or {})})
    if int8:
        model = quantise(model, simulated)
        values = b"".join(one.SerializeToString() for one in model.graph.initializer)
        digest = hashlib.sha256(f"{trained.hash} int8 ".encode() + values)
        described |= {"precision": "int8", "hash": digest.hexdigest()}
        described.pop("threshold", None)  # of distances of the original
    metadata = {FACTS: json.dumps(described, sort_keys=True), SEAL: UNSEALED}
    if graph_only:
        metadata[WEIGHTS] = verify_tensors(trained.source)
        _take_weights_from(model, trained.source)
    _finish(model, metadata)
    images = [
        *random_images(),
        *((f"simulated image {number + 1}", image) for number, image in enumerate(simulated[:SIMULATED])),
        *((str(path), np.asarray(read_image(path))) for path in check),
    ]
    with atomic_write(out) as temporary:
        temporary.write_bytes(seal(model.SerializeToString(deterministic=True)))
        return OnnxExport(out, _checked(trained, temporary, out, images, INT8 if int8 else FLOAT32, validation))


def _checked(
    trained: TrainedModel,
    written: Path,
    out: Path,
    images: Sequence[tuple[str, NDArray[np.uint8]]],
    tolerance: Any,
    validation: Validation | None,
) -> Parity:
    exported = OnnxBackend(written, weights=out.with_suffix(".safetensors"))
    exported.source = out
    return measure(TorchBackend(trained, precision="float32"), exported, images, tolerance, validation)


def _described(trained: TrainedModel, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of the ONNX file."""
    ModelFacts.of({**facts, "transform": asdict(trained.transform)}, trained.source)  # they can be read
    if "threshold" in facts:
        threshold_of(facts["threshold"], trained.hash, trained.hash)
    left_out = ("kind", "model", "num_identities", "cameras")
    return {
        **{name: value for name, value in facts.items() if name not in left_out},
        "kind": "onnx",
        "transform": asdict(trained.transform),
        "hash": trained.hash,
        "num_features": trained.model.num_features,
        "opset": OPSET,
        "precision": "float32",
    }


def _finish(model: Any, metadata: dict[str, str]) -> None:
    """Name the producer and write the metadata; what the exporter notes of its own source is removed."""
    from vreid import __version__

    model.producer_name, model.producer_version, model.doc_string = "vreid", __version__, ""
    for node in model.graph.node:
        node.doc_string = ""
    onnx.helper.set_model_props(model, metadata)
    if WEIGHTS not in metadata:  # the checker looks for weights in the working directory
        onnx.checker.check_model(model)


def _take_weights_from(model: Any, path: Path) -> None:
    """Replace the weights of the graph by references into a safetensors file, half precision cast to float32.

    Raises:
        InputError: a weight is not in the file as F16 or F32.
    """
    with reading(path), open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        stored = json.loads(file.read(size))
    begin = 8 + size
    kept, casts = [], []
    for tensor in model.graph.initializer:
        name = tensor.name.removeprefix(PREFIX)
        if name == tensor.name:
            kept.append(tensor)
            continue
        entry = stored.get(name, {})
        if entry.get("dtype") not in _TYPES or entry["shape"] != list(tensor.dims):
            raise InputError(f"{path}: does not hold {name} in half or single precision; export it (`vreid export`).")
        half = entry["dtype"] == "F16"
        reference = onnx.TensorProto(
            name=f"{tensor.name}.half" if half else tensor.name,
            data_type=_TYPES[entry["dtype"]],
            dims=tensor.dims,
            data_location=onnx.TensorProto.EXTERNAL,
        )
        start, end = entry["data_offsets"]
        place = {"location": path.name, "offset": str(begin + start), "length": str(end - start)}
        for key, value in place.items():
            reference.external_data.add(key=key, value=value)
        kept.append(reference)
        if half:
            casts.append(onnx.helper.make_node("Cast", [reference.name], [tensor.name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)
