"""Plugins: modules that add backbones, losses, readers, recipes or steps when they are imported.

`vreid --import my_plugin.py COMMAND ...` imports a file (or an installed module) before the command runs; packages with
an entry point in the group `vreid.plugins` are always imported. In Python, import the module directly. Each function
below registers one part; docs/guides/extending.md has an example of each.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module, util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vreid import names
from vreid.errors import InputError, named

if TYPE_CHECKING:
    from torch import nn

    from vreid.data.dataset import Dataset
    from vreid.retrieval.postprocessing.state import SearchState
    from vreid.training.train_config import TrainConfig

GROUP = "vreid.plugins"
"""Entry point group whose modules are imported before each command."""
_LOADED: dict[str, str] = {}
"""File of each plugin -> name given by the user."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def add_backbone(name: str, build: Callable[[], nn.Module], *, parameters: float = 0, cost: float = 0) -> None:
    """Add a backbone for `model.backbone=NAME`.

    Args:
        name: a new name.
        build: function that returns the module, (B, 3, H, W) -> (B, D, h, w), with the attribute `num_features` = D.
        parameters: number of parameters in millions, for the cost estimate of `vreid table`.
        cost: billions of multiply-adds per 256 x 256 image, for the same estimate.

    Raises:
        InputError: the name exists or is not one word.
    """
    from vreid.models.backbones import BACKBONES, Backbone

    _free("backbone", name, BACKBONES)
    BACKBONES[name] = Backbone(build, parameters, cost)


def add_loss(name: str, build: Callable[[int, int], nn.Module]) -> None:
    """Add a loss for `losses.metric=NAME` (weight: `losses.metric_weight`).

    Args:
        name: a new name.
        build: function of the number of classes and the feature length D that returns the module: features (B, D)
            float32 and labels (B,) -> scalar. Learned weights are parameters of the module.

    Raises:
        InputError: the name exists or is not one word.
    """
    from vreid.losses.metric import ADDED_LOSSES

    _free("loss", name, ADDED_LOSSES)
    ADDED_LOSSES[name] = build


def add_reader(signs: str, find: Callable[[Path], Path | None], read: Callable[..., Dataset]) -> None:
    """Add a data set reader; it is tried before the built-in ones.

    Args:
        signs: short description of how such a folder or file is recognised.
        find: function from the user's path to the location of the data set; None if it is not of this kind.
        read: function that reads the data set there; called with `on_finding` (see `vreid.data.findings.Finding`).
    """
    from vreid.data.readers.families import FAMILIES, DatasetFamily

    FAMILIES.insert(0, DatasetFamily(signs, find, read))


def add_recipe(name: str, build: Callable[[], TrainConfig]) -> None:
    """Add a recipe for `vreid train NAME`.

    Args:
        name: a new name, equal to `build().recipe`.
        build: function that returns the configuration; its docstring documents the recipe.

    Raises:
        InputError: the name exists or is not one word.
    """
    from vreid.recipes import RECIPES

    _free("recipe", name, RECIPES)
    RECIPES[name] = build
    names.RECIPES[name] = f"{build.__module__}:{build.__qualname__}"


def add_step(
    name: str, config: type[Any], run: Callable[[SearchState, Any], SearchState], *, after: str, why: str = ""
) -> None:
    """Add a step for `--post NAME=VALUE:VALUE`.

    Args:
        name: a new name.
        config: a frozen dataclass, all of whose fields have defaults; VALUEs are those of its fields, in order. Its
            docstring documents the step.
        run: function from one search state (`vreid.retrieval.postprocessing.state`) to the next.
        after: name of the preceding step.
        why: why the result of a query depends on other queries or on statistics of the gallery; "" if it does not.

    Raises:
        InputError: the name exists or is not one word, there is no step `after`, or `config` is invalid.
    """
    from vreid.retrieval.postprocessing.steps import ADDED, PRESETS, STEPS, Step

    _free("step", name, {**STEPS, **PRESETS})
    named("step", STEPS, after)
    try:
        hash(config())
    except TypeError as error:
        raise InputError(f"step {name!r}: give a frozen dataclass whose fields all have defaults ({error}).") from None
    if any(step.config is config for step in STEPS.values()):
        raise InputError(
            f"step {name!r}: {config.__name__} is the configuration of another step; define a separate class."
        )
    _insert(STEPS, after, name, Step(ADDED, config, run, why=why))
    _insert(names.STEPS, after, name, f"{config.__module__}:{config.__qualname__}")


def load(source: str) -> None:
    """Import a plugin, a .py file or a module by its dotted name; a plugin is imported only once.

    Raises:
        InputError: there is no such file or module, or its import fails; the message names plugin, line and error.
    """
    if not source.endswith(".py"):
        _imported(source, lambda: import_module(source))
        return
    path = Path(source).resolve()
    if not path.is_file():
        raise InputError(f"--import {source}: file not found; name a .py file or an installed module.")
    if str(path) in _LOADED:
        return
    name = f"vreid_plugin_{path.stem}"
    spec = util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module, loader = util.module_from_spec(spec), spec.loader
    sys.modules[name] = module
    _LOADED[str(path)] = source
    _imported(source, lambda: loader.exec_module(module))


def load_installed() -> None:
    """Import the plugins of installed packages: entry points in the group `vreid.plugins`.

    Raises:
        InputError: as `load`.
    """
    from importlib import metadata  # not at the top: `vreid --help` does not need it

    for entry in metadata.entry_points(group=GROUP):
        _imported(entry.value, entry.load)


def failure(error: BaseException) -> str:
    """Describe an error raised inside a plugin in one sentence; "" for other errors."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename in _LOADED:
            return f"plugin {_LOADED[frame.filename]}, line {frame.lineno}: {type(error).__name__}: {error}"
    return ""


def _imported(source: str, run: Callable[[], Any]) -> None:
    try:
        module = run()
    except (Exception, SystemExit) as error:
        if isinstance(error, InputError):
            raise InputError(f"plugin {source}: {error}") from error
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise InputError(failure(error) or f"plugin {source}{where}: {type(error).__name__}: {error}") from error
    file = getattr(module, "__file__", None)
    if file:
        _LOADED[file] = source


def _free(what: str, name: str, table: Mapping[str, Any]) -> None:
    if not _NAME.fullmatch(name):
        raise InputError(f"{what} {name!r}: invalid name; use letters, digits, - and _, with a letter first.")
    if name in table:
        raise InputError(f"{what} {name!r}: already exists; choose another name.")


def _insert(table: dict[str, Any], after: str, name: str, value: Any) -> None:
    """Insert into `table` after the key `after`."""
    rows = list(table.items())
    place = list(table).index(after) + 1
    table.clear()
    table.update([*rows[:place], (name, value), *rows[place:]])
