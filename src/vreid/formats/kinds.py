"""Detect file formats by contents, and describe unexpected ones in messages."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vreid.errors import InputError
from vreid.files import reading

FLOOR = 64 << 20
"""Memory in bytes that any file may declare, however small it is."""
RATIO = 32
"""Maximum ratio of declared memory to file size; compressed float features reach 2, sparse ones 10."""

_HEAD = 4096


class Kind(NamedTuple):
    """A file format.

    Attributes:
        name: description with article, "a Git LFS pointer".
        fix: suggested fix; "" for formats that can be read.
    """

    name: str
    fix: str = ""


_UNPACK = "unpack it and give the file inside"
_EXPORT = "give the PyTorch weights that it was exported from: torch.save(model.state_dict(), FILE)"

KINDS: Mapping[str, Kind] = {
    "npy": Kind("a NumPy array (.npy)"),
    "npz": Kind("an archive of NumPy arrays (.npz)"),
    "safetensors": Kind("a safetensors file"),
    "torch": Kind("a PyTorch file"),
    "torch-old": Kind("a PyTorch file of the old format"),
    "mat": Kind("a MATLAB file"),
    "parquet": Kind("a Parquet table"),
    "text": Kind("a text file"),
    "empty": Kind("an empty file", "download or copy it again"),
    "lfs": Kind("a Git LFS pointer, not the file that it stands for", "fetch the file with `git lfs pull`"),
    "html": Kind("an HTML page", "download the file itself instead of the page about it"),
    "json": Kind("a JSON file", "save numbers as .npz or .safetensors"),
    "onnx": Kind("an ONNX model", _EXPORT),
    "torchscript": Kind("a TorchScript archive", _EXPORT),
    "gguf": Kind("a GGUF file", "give the PyTorch weights"),
    "hdf5": Kind("an HDF5 file", "save its arrays as .npz or .safetensors"),
    "mat73": Kind("a MATLAB 7.3 file (HDF5)", "save it in MATLAB with save(..., '-v7')"),
    "arrow": Kind("an Arrow or Feather file", "save it as .parquet or .csv"),
    "pickle": Kind(
        "a pickle, which may run code when it is opened", "save plain arrays with torch.save or numpy.savez"
    ),
    "tar": Kind("a tar archive", _UNPACK),
    "zip": Kind("a zip archive", _UNPACK),
    "gzip": Kind("gzip-compressed", _UNPACK),
    "bzip2": Kind("bzip2-compressed", _UNPACK),
    "xz": Kind("xz-compressed", _UNPACK),
    "zstd": Kind("zstd-compressed", _UNPACK),
    "7z": Kind("a 7z archive", _UNPACK),
    "rar": Kind("a rar archive", _UNPACK),
    "image": Kind("an image", "check the name"),
    "pdf": Kind("a PDF document", "check the name"),
    "broken-zip": Kind("a zip archive that is cut short or damaged", "download or copy it again"),
    "unknown": Kind("damaged, or of no known format", "download or copy it again"),
}

_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\x93NUMPY", "npy"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"MATLAB 7.3 MAT-file", "mat73"),
    (b"MATLAB 5.0 MAT-file", "mat"),
    (b"PAR1", "parquet"),
    (b"ARROW1", "arrow"),
    (b"FEA1", "arrow"),
    (b"version https://git-lfs", "lfs"),
    (b"GGUF", "gguf"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"\xff\xd8\xff", "image"),
    (b"\x89PNG\r\n", "image"),
    (b"%PDF-", "pdf"),
    # The first pickle of an old PyTorch file is its magic number.
    (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "torch-old"),
)
_HTML = re.compile(rb"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body|meta|title)\b", re.I | re.S)
# ir_version, then the producer's name as text, or an opset, or the graph.
_ONNX = re.compile(rb"\x08[\x01-\x20](\x12[\x01-\x7f][ -~]|[\x1a\x22\x32\x3a\x42])")


def kind_of(path: Path | str) -> str:
    """Detect the format of the file `path` from its contents; return a key of `KINDS`.

    Raises:
        InputError: the file cannot be read.
    """
    with reading(path), open(path, "rb") as file:
        head = file.read(_HEAD)
        size = file.seek(0, 2)
    if not head:
        return "empty"
    for start, kind in _STARTS:
        if head.startswith(start):
            return kind
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _archive(path)
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8:
        return "safetensors"
    if head[512:520] == b"\x89HDF\r\n\x1a\n":
        return "hdf5"
    if head[257:262] == b"ustar":
        return "tar"
    if re.match(rb"\x80[\x02-\x05]", head) or (re.match(rb"[(}\]c]", head) and _ends_as_pickle(path, size)):
        return "pickle"
    if str(path).lower().endswith(".onnx") or _ONNX.match(head):
        return "onnx"
    stripped = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if _HTML.match(stripped):
        return "html"
    if b"\0" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "unknown"
    if head.count(b"\n") + head.count(b"\r") + head.count(b"\t") < sum(byte < 32 for byte in head):
        return "unknown"
    return "json" if stripped.startswith((b"{", b"[")) else "text"


def _ends_as_pickle(path: Path | str, size: int) -> bool:
    """Whether the last byte is a pickle's STOP (pickles of protocol 0 and 1 have no signature)."""
    with open(path, "rb") as file:
        file.seek(size - 1)
        return file.read(1) == b"."


def _archive(path: Path | str) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError):
        return "broken-zip"
    folder = next((name.removesuffix("data.pkl") for name in names if re.fullmatch(r"([^/]+/)?data\.pkl", name)), None)
    if folder is not None:
        return (
            "torchscript"
            if any(name.startswith((f"{folder}code/", f"{folder}constants.pkl")) for name in names)
            else "torch"
        )
    return "npz" if all(name.endswith(".npy") for name in names) else "zip"


def not_wanted(path: Path | str, kind: str, wanted: str, fix: str = "") -> InputError:
    """Return the error for a file of another kind than `wanted` ("a file of weights").

    Example:
        >>> print(not_wanted("a.pth", "html", "a file of weights"))
        a.pth: is an HTML page, not a file of weights; download the file itself instead of the page about it.
    """
    known = KINDS[kind]
    stated = known.name if kind in ("lfs", "unknown", "broken-zip") else f"{known.name}, not {wanted}"
    return InputError(f"{path}: is {stated}; {known.fix or fix}.")


def check_size(path: Path | str, needed: int) -> None:
    """Raise if a file declares implausibly more memory than its size on disk.

    Args:
        path: the file.
        needed: bytes of its contents in memory, as declared in the file.

    Raises:
        InputError: `needed` is more than `FLOOR` and more than `RATIO` times the file size.
    """
    size = Path(path).stat().st_size
    if needed > max(FLOOR, RATIO * size):
        raise InputError(
            f"{path}: a file of {size:,} bytes declares {needed:,} bytes of numbers, which is implausible for features "
            "or weights; save them as plain arrays, uncompressed."
        )


def described_type(value: Any) -> str:
    """Describe a value read from a file, for a message: "a list of 3 values", "a number".

    Example:
        >>> described_type([1, 2, 3]), described_type({"epoch": 3, "lr": 0.1}), described_type("a")
        ('a list of 3 values', 'a dictionary (epoch, lr)', 'text')
    """
    if isinstance(value, dict):
        names = ", ".join(str(name)[:40] for name in list(value)[:5])
        return f"a dictionary ({names}{', ...' if len(value) > 5 else ''})" if value else "an empty dictionary"
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of {len(value):,} values"
    if hasattr(value, "shape"):
        return f"an array of shape {tuple(value.shape)}"
    simple = {
        str: "text",
        bytes: "bytes",
        int: "a number",
        float: "a number",
        bool: "a truth value",
        type(None): "nothing",
    }
    return simple.get(type(value), f"an object of class {type(value).__name__}")
