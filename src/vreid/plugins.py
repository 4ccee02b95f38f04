"""Extending vreid without a fork: a plugin is a module that adds parts by name when it is imported.

`vreid --import my_plugin.py COMMAND ...` imports a file (or an installed module) before the command runs; packages that
declare an entry point in the group `vreid.plugins` are imported always. In Python, import the module yourself. Each
function below adds one part to the table that holds vreid's own; docs/guides/extending.md has an example of each.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module, metadata, util
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
"""Group of entry points whose modules are imported before each command."""
_LOADED: dict[str, str] = {}
"""Plugins by the file that holds them, with the name that the user gave."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def add_backbone(name: str, build: Callable[[], nn.Module], *, parameters: float = 0, cost: float = 0) -> None:
    """Add a backbone for `model.backbone=NAME`.

    Args:
        name: not yet taken.
        build: makes the module, (B, 3, H, W) -> (B, D, h, w), which has D as `num_features`.
        parameters: how many, in millions; for the plan of `vreid table`.
        cost: thousand million multiply-adds of an image of 256 x 256 pixels; for the same plan.

    Raises:
        InputError: the name is taken or is not one word.
    """
    from vreid.models.backbones import BACKBONES, Backbone

    _free("backbone", name, BACKBONES)
    BACKBONES[name] = Backbone(build, parameters, cost)


def add_loss(name: str, build: Callable[[int, int], nn.Module]) -> None:
    """Add a loss for `losses.metric=NAME` (weight: `losses.metric_weight`).

    Args:
        name: not yet taken.
        build: called with the number of classes and the feature length D; makes the module, features (B, D) float32 and
            labels (B,) -> one number. What the module learns are parameters.

    Raises:
        InputError: the name is taken or is not one word.
    """
    from vreid.losses.metric import ADDED_LOSSES

    _free("loss", name, ADDED_LOSSES)
    ADDED_LOSSES[name] = build


def add_reader(signs: str, find: Callable[[Path], Path | None], read: Callable[..., Dataset]) -> None:
    """Add a reader of a data set; it is asked before vreid's own.

    Args:
        signs: what such a folder or file is recognised by, in a few words.
        find: the place of the data set, given the path that the user names; None where it is none of these.
        read: makes the data set of that place; called with `on_finding`, which takes `vreid.data.findings.Finding`.
    """
    from vreid.data.readers.families import FAMILIES, DatasetFamily

    FAMILIES.insert(0, DatasetFamily(signs, find, read))


def add_recipe(name: str, build: Callable[[], TrainConfig]) -> None:
    """Add a recipe for `vreid train NAME`.

    Args:
        name: not yet taken; `build().recipe` is the same.
        build: makes the configuration; its docstring is the recipe's.

    Raises:
        InputError: the name is taken or is not one word.
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
        name: not yet taken.
        config: a frozen dataclass; the values that are written are those of its fields, in their order, all with
            defaults. Its docstring documents the step.
        run: the step: the state of a search (`vreid.retrieval.postprocessing.state`) to the next.
        after: the step behind which it runs.
        why: why the result for one query depends on more than it and single gallery images; "" if it does not.

    Raises:
        InputError: the name is taken or is not one word, or there is no step `after`; or `config` does not fit.
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
            f"step {name!r}: {config.__name__} is the configuration of another step; make a class of its own."
        )
    _insert(STEPS, after, name, Step(ADDED, config, run, why=why))
    _insert(names.STEPS, after, name, f"{config.__module__}:{config.__qualname__}")


def load(source: str) -> None:
    """Import a plugin: a .py file, or a module by its dotted name. A plugin that is imported already stays as it is.

    Raises:
        InputError: there is no such file or module, or it fails; the sentence names plugin, line and error.
    """
    if not source.endswith(".py"):
        _imported(source, lambda: import_module(source))
        return
    path = Path(source).resolve()
    if not path.is_file():
        raise InputError(f"--import {source}: there is no such file.")
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
    for entry in metadata.entry_points(group=GROUP):
        _imported(entry.value, entry.load)


def failure(error: BaseException) -> str:
    """What failed inside a plugin, in one sentence; "" if `error` was not raised there."""
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
        raise InputError(f"{what} {name!r}: is not one word of letters, digits, - and _; choose another name.")
    if name in table:
        raise InputError(f"{what} {name!r}: exists already; choose another name.")


def _insert(table: dict[str, Any], after: str, name: str, value: Any) -> None:
    """Insert into `table` behind the key `after`."""
    rows = list(table.items())
    place = list(table).index(after) + 1
    table.clear()
    table.update([*rows[:place], (name, value), *rows[place:]])
