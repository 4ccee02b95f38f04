"""Plugins: parts that a module adds by name, `--import`, entry points, and one sentence where a plugin fails."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from support.command_line import Run
from vreid import names, plugins
from vreid.data.readers.families import FAMILIES
from vreid.errors import InputError
from vreid.losses.metric import ADDED_LOSSES
from vreid.models.backbones import BACKBONES
from vreid.recipes import RECIPES


@pytest.fixture(autouse=True)
def tables_stay(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test adds is gone after it."""
    modules = set(sys.modules)
    tables: list[dict[str, object]] = [BACKBONES, RECIPES, ADDED_LOSSES, names.RECIPES]  # type: ignore[list-item]
    before, families = [dict(table) for table in tables], list(FAMILIES)
    yield
    for table, rows in zip(tables, before, strict=True):
        table.clear()
        table.update(rows)
    FAMILIES[:] = families
    for name in set(sys.modules) - modules:
        del sys.modules[name]


RECIPE = '''
from dataclasses import replace
from vreid import plugins
from vreid.recipes import recipe

def fast():
    """A recipe of one epoch."""
    return replace(recipe("small", {"epochs": "1"}), recipe="fast")

plugins.add_recipe("fast", fast)
'''


@pytest.mark.parametrize(
    "line", ["--import {p} show recipes", "show recipes --import={p}", "show --import {p} recipes"][:]
)
def test_import_stands_before_or_behind_a_command(line: str, run: Run, tmp_path: Path) -> None:
    plugin = tmp_path / "my_plugin.py"
    plugin.write_text(RECIPE, encoding="utf-8")
    outcome = run(line.format(p=plugin))
    assert outcome.code == 0 and "\nfast: A recipe of one epoch.\n" in outcome.out, outcome
    assert "fast: A recipe of one epoch." in run(f"train --help --import {plugin}").out


FAILURES = {
    "import nowhere_at_all\n": ", line 1: ModuleNotFoundError: No module named 'nowhere_at_all'",
    "\n1 / 0\n": ", line 2: ZeroDivisionError: division by zero",
    "def f(:\n": ", line 1: SyntaxError: invalid syntax",
    "raise SystemExit(3)\n": ", line 1: SystemExit: 3",
    "from vreid import plugins\nplugins.add_recipe('small', None)\n": ": recipe 'small': exists already",
    "from vreid import plugins\nplugins.add_backbone('a b', None)\n": ": backbone 'a b': is not one word",
}


@pytest.mark.parametrize("text", FAILURES, ids=lambda text: text.split()[-1])
def test_a_plugin_that_fails_is_one_sentence(text: str, run: Run, tmp_path: Path) -> None:
    plugin = tmp_path / "broken.py"
    plugin.write_text(text, encoding="utf-8")
    outcome = run(f"--import {plugin} show")
    assert outcome.code == 2 and outcome.out == "" and outcome.err.count("\n") == 1
    assert outcome.err.startswith(f"vreid: plugin {plugin}{FAILURES[text]}"), outcome.err


def test_a_plugin_that_is_not_there(run: Run, tmp_path: Path) -> None:
    assert (
        run(f"--import {tmp_path}/none.py show").err == f"vreid: --import {tmp_path}/none.py: there is no such file.\n"
    )
    assert "plugin no_such_module: ModuleNotFoundError" in run("--import no_such_module show").err


def test_a_plugin_that_fails_while_it_works_is_named(run: Run, tmp_path: Path) -> None:
    plugin = tmp_path / "late.py"
    reader = "def find(path):\n    raise KeyError('camera')\n"
    plugin.write_text(f"{reader}from vreid import plugins\nplugins.add_reader('none', find, None)\n", encoding="utf-8")
    plugins.load(str(plugin))
    try:
        FAMILIES[0].find(tmp_path)
    except KeyError as error:
        assert plugins.failure(error) == f"plugin {plugin}, line 2: KeyError: 'camera'"
    assert plugins.failure(ValueError("elsewhere")) == ""


def test_a_plugin_is_imported_once(tmp_path: Path) -> None:
    plugin = tmp_path / "once.py"
    plugin.write_text(RECIPE.replace('"fast"', '"once"'), encoding="utf-8")
    plugins.load(str(plugin))
    plugins.load(str(plugin))
    with pytest.raises(InputError, match="recipe 'once': exists already"):
        plugins.add_recipe("once", RECIPES["small"])


def test_entry_points_of_installed_packages_are_imported(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_package.py").write_text(RECIPE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    entry = metadata.EntryPoint("theirs", "their_package", plugins.GROUP)
    monkeypatch.setattr(metadata, "entry_points", lambda group: [entry] if group == plugins.GROUP else [])
    assert "\nfast: A recipe of one epoch.\n" in run("show recipes").out
