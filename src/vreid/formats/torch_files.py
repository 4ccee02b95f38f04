"""Safe reader of PyTorch files: builds tensors and arrays without importing or running code named in the file.

`torch.load(weights_only=True)` builds only tensors and containers. Checkpoints of other programs also hold settings,
paths, NumPy arrays and whole modules; for each class named in a file, a stand-in without behaviour is registered, which
keeps the contents. NumPy arrays are rebuilt from their bytes.
"""

from __future__ import annotations

import math
import pickletools
import re
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

from vreid.errors import InputError
from vreid.files import reading
from vreid.formats.kinds import check_size

_NAME = "vreid stand-in of"
_FIX = "save plain tensors: torch.save(model.state_dict(), FILE) for weights, a dict of tensors for features"
_RUNS_CODE = {
    *("os", "posix", "nt", "sys", "subprocess", "shutil", "socket", "importlib", "runpy", "pty", "ctypes"),
    *("webbrowser", "pickle", "marshal"),
}
_RUNS_CODE_BUILTINS = {"eval", "exec", "compile", "open", "__import__", "input", "breakpoint"}
_OWN = r"torch\.(_utils|_tensor|storage)\.|torch\.\w+$|collections\.OrderedDict$|_codecs\.encode$"


@dataclass(frozen=True)
class Inert:
    """The contents of an object whose class is not imported.

    Attributes:
        name: the class with its module, "argparse.Namespace".
        attributes: its attributes as plain values.
    """

    name: str
    attributes: Mapping[str, Any]


class _DType:
    """Stand-in for numpy.dtype: code and byte order of numbers or text only."""

    def __init__(self, code: Any = "", *_: Any) -> None:
        self.code, self.order = str(code), "="

    def __setstate__(self, state: Any) -> None:
        self.order = str(state[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        order = self.order if self.order in ("<", ">") else "="
        if self.code[:1] not in "biufcSU" or not self.code[1:].isdigit():
            raise ValueError(f"an array of {self.code or 'unknown'} values")
        return np.dtype(order + self.code)


class _Array:
    """Stand-in for numpy.ndarray while a file is read."""

    def __init__(self, *_: Any) -> None:
        self.value: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, by_columns, data = state
        shape = tuple(int(length) for length in shape)
        if isinstance(data, list):  # an array of objects
            self.value = data
            return
        values = np.frombuffer(bytes(data), dtype=dtype.dtype)
        if len(values) != math.prod(shape):
            raise ValueError("an array whose size does not match its shape")
        self.value = values.reshape(shape[::-1]).T if by_columns else values.reshape(shape)


def _scalar(dtype: _DType, data: Any = b"") -> Any:
    return np.frombuffer(bytes(data), dtype=dtype.dtype)[0].item()


def _path(*parts: Any) -> str:
    return str(PurePosixPath(*map(str, parts)))


class _List:
    """Stand-in for other list classes."""

    def __new__(cls, *_: Any) -> Any:
        return []


class _Dict:
    """Stand-in for other dictionary classes; constructor arguments (a default factory) are dropped."""

    def __new__(cls, *_: Any) -> Any:
        return OrderedDict()


def _reconstructed(kind: Any, *_: Any) -> Any:
    return kind()


_KNOWN: Mapping[str, Any] = {
    **{f"numpy.{core}.multiarray._reconstruct": _Array for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    "numpy.dtype": _DType,
    "collections.deque": _List,
    "collections.defaultdict": _Dict,
    "copyreg._reconstructor": _reconstructed,
    **{
        f"pathlib.{local}{kind}": _path
        for local in ("", "_local.")
        for kind in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path")
    },
    **{f"builtins.{kind.__name__}": kind for kind in (list, tuple, dict, frozenset)},
}
"""Name in a file -> its stand-in; names that are neither here nor known to torch get an inert class."""


def load_torch(path: Path | str, kind: str = "torch") -> Any:
    """Read a file of `torch.save`: tensors, arrays, containers, numbers, text, and `Inert` for other objects.

    Args:
        path: the file.
        kind: "torch" or "torch-old" (see `kind_of`).

    Raises:
        InputError: the file is damaged, has an implausible size, names functions that run code, or has an unsupported
            structure.
    """
    import torch

    names: set[str] = set()
    try:
        with reading(path), warnings.catch_warnings(action="ignore"):  # about old pickles
            if kind == "torch":
                _check_archive(path)
            names = _names(path, kind)
            _refuse_code(path, names)
            # torch checks its own names first, so that no stand-in replaces a function that builds tensors.
            stand_ins = [(_KNOWN.get(name) or _stand_in(name), name) for name in sorted(names)]
            allowed = torch.serialization.safe_globals([*stand_ins, (_Array, "vreid.formats._Array")])
            with allowed, open(path, "rb") as file:  # given a path, torch relies on its suffix
                loaded = torch.load(file, map_location="cpu", weights_only=True)
        return _Plain(path).of(loaded)
    except InputError:
        raise
    except Exception as error:  # damaged files raise almost any exception
        unusual = sorted(name for name in names - set(_KNOWN) if not re.match(_OWN, name))
        if unusual:
            raise InputError(
                f"{path}: holds objects that cannot be read ({', '.join(unusual[:3])}); {_FIX}."
            ) from error
        raise InputError(f"{path}: is damaged, or was not written by torch.save; download or save it again.") from error


def _check_archive(path: Path | str) -> None:
    """Raise if an archive is compressed: torch.save never compresses."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    size = Path(path).stat().st_size
    if sum(entry.file_size for entry in entries) > size or any(entry.compress_type for entry in entries):
        raise InputError(f"{path}: is compressed, as no file of torch.save is; unpack it and save it again.")


def _names(path: Path | str, kind: str) -> set[str]:
    """Return all classes and functions named in the pickle."""
    if kind == "torch":
        with zipfile.ZipFile(path) as archive:
            inner = next(name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl")
            with archive.open(inner) as file:
                return _named_in(file)
    with open(path, "rb") as file:  # magic number, protocol, system, then the object
        return set().union(*(_named_in(file) for _ in range(4)))


def _named_in(file: IO[bytes]) -> set[str]:
    found = set()
    for code, argument, _ in pickletools.genops(file):
        if code.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
            found.add(f"{module}.{name}")
    return found


def _refuse_code(path: Path | str, names: set[str]) -> None:
    for name in sorted(names):
        module, _, last = name.rpartition(".")
        opens = module in ("builtins", "io", "_io") and last in _RUNS_CODE_BUILTINS
        if opens or module.partition(".")[0] in _RUNS_CODE:
            raise InputError(
                f"{path}: would call {name} when unpickled, which files of weights or features never need; it was not "
                "opened. Get the file from a trusted source."
            )


def _stand_in(name: str) -> Callable[..., Any]:
    """Create a stand-in class that keeps the contents of an object of class `name`.

    torch fills only containers of known classes, of which only OrderedDict can also hold attributes.
    """

    def make(cls: type, *_: Any, **__: Any) -> Any:
        made: OrderedDict[Any, Any] = OrderedDict()
        made.__dict__[_NAME] = name
        return made

    return type("StandIn", (), {"__new__": make})


class _Plain:
    """Convert loaded objects to plain containers, tensors, arrays and `Inert`, counting their memory."""

    def __init__(self, path: Path | str) -> None:
        self.path, self.bytes = path, 0
        self.done: dict[int, Any] = {}

    def of(self, value: Any) -> Any:
        import torch

        if isinstance(value, torch.Tensor):
            self.bytes += 4 * value.numel()
            check_size(self.path, self.bytes)  # before a stride of 0 is expanded
            return value.detach()
        if isinstance(value, _Array):
            return self.of(value.value)
        if isinstance(value, _DType):
            return value.code
        if isinstance(value, type) or callable(value):
            return Inert(getattr(value, "__name__", "a class"), {})
        if not isinstance(value, (dict, list, tuple)):
            return value
        if id(value) in self.done:
            return self.done[id(value)]
        self.done[id(value)] = Inert("a container that holds itself", {})
        made: Any
        if isinstance(value, dict):
            made = {self.of(key) if isinstance(key, _Array) else key: self.of(item) for key, item in value.items()}
            attributes = dict(getattr(value, "__dict__", {}))
            name = attributes.pop(_NAME, None)
            if name is not None and not made:
                made = Inert(str(name), {str(key): self.of(item) for key, item in attributes.items()})
        else:
            made = [self.of(item) for item in value]
            made = tuple(made) if isinstance(value, tuple) else made
        self.done[id(value)] = made
        return made
