"""Extras of the package `vehicle-reid` and the modules that they install; missing ones are one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec

from vreid.errors import InputError

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "train": ("torch", "torchvision", "timm"),
    "report": ("matplotlib", "jinja2", "markupsafe"),
    "adapt": ("sklearn", "joblib"),
}
"""Modules by extra; pyproject.toml names their packages."""


def needs(*extras: str) -> None:
    """Check at the start of a command that the extras which it uses are installed.

    Raises:
        InputError: some are not; the sentence names their modules and the command that installs them.
    """
    absent = [module for extra in extras for module in EXTRAS[extra] if find_spec(module) is None]
    if absent:
        raise InputError(missing(absent))


def missing(modules: Iterable[str]) -> str:
    """What to say where `modules` cannot be imported; "" if no extra installs any of them.

    Example:
        >>> missing(["sklearn.cluster"])
        "this command needs sklearn: pip install 'vehicle-reid[adapt]', or 'vehicle-reid[all]' for everything."
    """
    tops = [module.partition(".")[0] for module in modules]
    extras = [extra for extra, known in EXTRAS.items() if not set(known).isdisjoint(tops)]
    package = f"vehicle-reid[{','.join(extras)}]"
    sentence = f"this command needs {', '.join(tops)}: pip install '{package}', or 'vehicle-reid[all]' for everything."
    return sentence if extras else ""
