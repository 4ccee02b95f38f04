"""Adds the optional compiled core: without a compiler everything works in numpy and scipy, slower."""

import sys
from pathlib import Path

from setuptools import setup

FOLDER = Path("src/vreid/retrieval/nearest")


def extensions() -> list:
    """The compiled core; it is left out where it cannot be built."""
    try:
        from pybind11.setup_helpers import Pybind11Extension
    except ImportError:
        return []
    options = ["/O2"] if sys.platform == "win32" else ["-O3", "-pthread", "-Wall", "-Wextra"]
    extension = Pybind11Extension(
        "vreid.retrieval.nearest._core",
        [str(FOLDER / "_core.cpp")],
        depends=[str(header) for header in sorted(FOLDER.glob("_core_*.h"))],
        cxx_std=17,
        extra_compile_args=options,
    )
    extension.optional = True
    return [extension]


setup(ext_modules=extensions())
