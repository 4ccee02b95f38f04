"""ONNX files of vreid: facts as metadata, a hash over all other bytes, and the file of weights that a graph needs.

Neither torch nor the package onnx is needed to read them: the hash and the name of the weights are found in the bytes.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from vreid.errors import InputError
from vreid.files import reading, verify_tensors

FACTS = "vreid"
"""Metadata key of the facts, in JSON."""
SEAL = "vreid.sha256"
"""Metadata key of the SHA-256 of all other bytes of the file."""
WEIGHTS = "vreid.weights"
"""Metadata key of the SHA-256 that the safetensors file with the weights stores, in a graph without weights."""
UNSEALED = "0" * 64
"""Value of `SEAL` while the hash is computed."""


def _entry(key: str) -> re.Pattern[bytes]:
    """A string of 64 characters under `key` in protobuf: tag 2 (0x12), length 64 (0x40)."""
    return re.compile(re.escape(key.encode()) + rb"\x12\x40([0-9a-f]{64})")


def seal(content: bytes) -> bytes:
    """Return a serialised model, which has `SEAL` = `UNSEALED` among its metadata, with its hash there."""
    found = list(_entry(SEAL).finditer(content))
    if not found:
        raise ValueError(f"the model has no metadata {SEAL}")
    start, end = found[-1].span(1)
    return content[:start] + _digest(content, start, end).encode() + content[end:]


def _digest(content: bytes, start: int, end: int) -> str:
    return hashlib.sha256(content[:start] + UNSEALED.encode() + content[end:]).hexdigest()


def verify_onnx(path: Path | str, weights: Path | None = None) -> None:
    """Check an ONNX file of vreid against the hash stored in it, and that it finds the weights that it needs.

    Args:
        path: the file.
        weights: the file of weights of a graph without any; None: beside it, under the same stem.

    Raises:
        InputError: absent, changed since it was written, not written by vreid, or its weights are absent or others.
    """
    with reading(path):
        content = Path(path).read_bytes()
    found = list(_entry(SEAL).finditer(content))
    if not found:
        raise InputError(f"{path}: was not written by vreid, or is damaged; write one with `vreid export MODEL`.")
    if _digest(content, *found[-1].span(1)) != found[-1][1].decode():
        raise InputError(
            f"{path}: is damaged: its contents do not match the hash stored in it; restore it from a copy, or export "
            "it again."
        )
    needed = _weights_of(content)
    weights = weights or Path(path).with_suffix(".safetensors")
    if needed and verify_tensors(weights) != needed:
        raise InputError(f"{path}: needs the weights that it was exported with, and {weights.name} has others.")


def _weights_of(content: bytes) -> str:
    found = list(_entry(WEIGHTS).finditer(content))
    return found[-1][1].decode() if found else ""


def graph_of(weights: Path) -> Path | None:
    """Return the ONNX graph beside a .safetensors file that takes its weights from it; None without one."""
    graph = weights.with_suffix(".onnx")
    if not graph.is_file():
        return None
    with reading(graph):
        needed = _weights_of(graph.read_bytes())
    return graph if needed and verify_tensors(weights) == needed else None
