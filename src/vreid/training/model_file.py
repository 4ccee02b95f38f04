"""Resolve a MODEL argument to a file, without importing torch."""

from __future__ import annotations

from pathlib import Path

from vreid.errors import InputError
from vreid.files import reading
from vreid.training.model_hub import HUB, MODEL, pull_model, verify_card

DEFAULT = "default"
"""The MODEL argument (text, not a path) that names the model of the package."""
BUNDLED = Path(__file__).parents[1] / "models" / "bundled"
"""Folder of the package with `default.safetensors`, `default.onnx` and the model card `default.md`."""


def model_file(source: Path | str, *, onnx: bool = False) -> Path:
    """Return the file that a MODEL argument names: the file itself, that of a run folder, or the bundled one.

    Args:
        source: a run folder, a .safetensors file, "default", or hub://OWNER/NAME; `Path("default")` is a folder of that
            name.
        onnx: also accept an .onnx file.

    Raises:
        InputError: nothing exists at the path, the run is not finished, it is another kind of file, or a model card
            beside it states another hash.
    """
    if source == DEFAULT:
        return bundled_model()
    if isinstance(source, str) and source.startswith(HUB):
        return pull_model(source)
    path = Path(source)
    if path.is_dir():
        if not (path / MODEL).exists():
            unfinished = (path / "config.json").exists()
            what = "is not finished; resume it, or" if unfinished else "holds no trained model;"
            raise InputError(f"{path}: {what} name a folder that holds {MODEL}.")
        path = path / MODEL
    if path.suffix == ".onnx" and not onnx:
        raise InputError(f"{path}: an ONNX file cannot do this; give the .safetensors file that it was exported from.")
    if path.suffix not in (".safetensors", ".onnx"):
        raise InputError(f"{path}: is neither a run folder nor a .safetensors file; give one of these.")
    with reading(path):
        pass
    if path.name == MODEL:
        verify_card(path)
    return path


def bundled_model() -> Path:
    """Return the weights file of the model in the package.

    Raises:
        InputError: this build has none.
    """
    path = BUNDLED / "default.safetensors"
    if not path.exists():
        raise InputError(f"{DEFAULT}: this build of vreid has no bundled model; give a run folder or a model file.")
    return path
