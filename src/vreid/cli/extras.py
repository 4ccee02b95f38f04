"""Optional extras of the package `vehicle-reid`, and the error for a missing one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec

from vreid.errors import InputError

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "train": ("torch", "torchvision", "timm"),
    "report": ("matplotlib", "jinja2", "markupsafe"),
    "adapt": ("sklearn", "joblib"),
    "model": ("onnxruntime",),
    "export": ("onnx", "onnxruntime"),
    "hub": ("huggingface_hub",),
    "parquet": ("pyarrow",),
    "video": ("av",),
    "serve": (
        "fastapi",
        "uvicorn",
        "jinja2",
        "python_multipart",
        "argon2",
        "itsdangerous",
        "prometheus_client",
        "limits",
    ),
    "milvus": ("pymilvus",),
    "tracking": ("trackers", "supervision"),
    "ray": ("ray",),
    "object-storage": ("fsspec", "s3fs", "gcsfs"),
}
"""Modules of each extra; pyproject.toml names their packages."""


def require_extras(*extras: str) -> None:
    """Check that extras are installed, at the start of a command that uses them.

    Raises:
        InputError: one is missing; the message names its modules and the command that installs it.
    """
    absent = [module for extra in extras for module in EXTRAS[extra] if find_spec(module) is None]
    if absent:
        raise InputError(missing_extras(absent))


def extra_of(model: str) -> str:
    """Return the extra that runs a MODEL: "model" for an .onnx file, and for "default" without torch; else "train"."""
    return "model" if model.endswith(".onnx") or (model == "default" and find_spec("torch") is None) else "train"


def missing_extras(modules: Iterable[str]) -> str:
    """Return the error message for modules that cannot be imported; "" if no extra installs any of them.

    Example:
        >>> missing_extras(["sklearn.cluster"])
        "this command needs sklearn: pip install 'vehicle-reid[adapt]', or 'vehicle-reid[all]' for everything."
    """
    tops = [module.partition(".")[0] for module in modules]
    first = {next((extra for extra, known in EXTRAS.items() if top in known), "") for top in tops}
    extras = [extra for extra in EXTRAS if extra in first]
    package = f"vehicle-reid[{','.join(extras)}]"
    sentence = f"this command needs {', '.join(tops)}: pip install '{package}', or 'vehicle-reid[all]' for everything."
    return sentence if extras else ""
