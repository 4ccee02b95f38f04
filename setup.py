"""Adds the optional compiled core: without a compiler (or without its source) everything works in numpy."""

from pathlib import Path

from setuptools import setup

CORE = Path("src/vreid/retrieval/_core.cpp")


def extensions() -> list:
    """The compiled core as an optional extension, or nothing."""
    if not CORE.exists():
        return []
    from pybind11.setup_helpers import Pybind11Extension

    extension = Pybind11Extension("vreid.retrieval._core", [str(CORE)], cxx_std=17)
    extension.optional = True
    return [extension]


setup(ext_modules=extensions())
