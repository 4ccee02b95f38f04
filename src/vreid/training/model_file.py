"""Resolve a MODEL argument to a weights file, without importing torch."""

from __future__ import annotations

from pathlib import Path

from vreid.errors import InputError
from vreid.files import reading

MODEL = "model.safetensors"
"""Name of the trained model in a run folder; a run that has it is complete."""


def model_file(source: Path | str) -> Path:
    """Return the .safetensors file that a MODEL argument names: the file itself, or that of a run folder.

    Raises:
        InputError: nothing exists at the path, the run is not finished, or it is another kind of file.
    """
    path = Path(source)
    if path.is_dir():
        if not (path / MODEL).exists():
            unfinished = (path / "config.json").exists()
            what = "is not finished; resume it, or" if unfinished else "holds no trained model;"
            raise InputError(f"{path}: {what} name a folder that holds {MODEL}.")
        path = path / MODEL
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: is neither a run folder nor a .safetensors file; give one of these.")
    with reading(path):
        return path
