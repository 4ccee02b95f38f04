"""Path of the weights that a MODEL argument names; nothing here needs torch."""

from __future__ import annotations

from pathlib import Path

from vreid.errors import InputError
from vreid.files import reading

MODEL = "model.safetensors"
"""Name of the trained model in a run folder; its presence says that the run is complete."""


def model_file(source: Path | str) -> Path:
    """Return the .safetensors file that a MODEL argument names: itself, or that of a run folder.

    Raises:
        InputError: nothing there, a run that is not finished, or another kind of file.
    """
    path = Path(source)
    if path.is_dir():
        if not (path / MODEL).exists():
            what = "is not finished; resume it" if (path / "config.json").exists() else "holds no trained model"
            raise InputError(f"{path}: {what}, or name a folder that holds {MODEL}.")
        path = path / MODEL
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: is neither a run folder nor a .safetensors file; give one of these.")
    with reading(path):
        return path
