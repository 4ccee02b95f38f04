"""Plugins: parts that a module adds by name, `--import`, entry points, and one sentence where a plugin fails."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.command_line import Run
from vreid import names, plugins
from vreid.data.protocols import MARKET
from vreid.data.readers.families import FAMILIES
from vreid.data.records import Records
from vreid.errors import InputError
from vreid.losses.metric import ADDED_LOSSES
from vreid.models.backbones import BACKBONES
from vreid.recipes import RECIPES
from vreid.retrieval import FeatureSet, PostProcessing
from vreid.retrieval.evaluation.ablation import ablation
from vreid.retrieval.postprocessing.reranking import ReRanking
from vreid.retrieval.postprocessing.state import SearchState
from vreid.retrieval.postprocessing.steps import STEPS


@pytest.fixture(autouse=True)
def tables_stay(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test adds is gone after it."""
    modules = set(sys.modules)
    tables: tuple[dict[str, Any], ...] = (BACKBONES, RECIPES, ADDED_LOSSES, STEPS, names.RECIPES, names.STEPS)
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
    "from vreid import plugins\nplugins.add_recipe('small', None)\n": ": recipe 'small': already exists",
    "from vreid import plugins\nplugins.add_backbone('a b', None)\n": ": backbone 'a b': invalid name",
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
        run(f"--import {tmp_path}/none.py show").err
        == f"vreid: --import {tmp_path}/none.py: file not found; name a .py file or an installed module.\n"
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
    with pytest.raises(InputError, match="recipe 'once': already exists"):
        plugins.add_recipe("once", RECIPES["small"])


def test_entry_points_of_installed_packages_are_imported(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_package.py").write_text(RECIPE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    entry = metadata.EntryPoint("theirs", "their_package", plugins.GROUP)
    monkeypatch.setattr(metadata, "entry_points", lambda group: [entry] if group == plugins.GROUP else [])
    assert "\nfast: A recipe of one epoch.\n" in run("show recipes").out


@dataclass(frozen=True)
class Scale:
    """Multiply features.

    Attributes:
        factor: what they are multiplied by.
    """

    factor: float = 2.0


@dataclass(frozen=True)
class Shift:
    """Add to features."""

    by: int = 1


@dataclass(frozen=True)
class NoDefault:
    path: str


def scaled(state: SearchState, config: Scale) -> SearchState:
    return replace(state, unit_UD=config.factor * state.unit_UD)


def shifted(state: SearchState, config: Shift) -> SearchState:
    return replace(state, unit_UD=state.unit_UD + config.by)


def sides() -> tuple[FeatureSet, FeatureSet]:
    made = []
    for side in range(2):
        features = np.random.default_rng(side).normal(size=(6, 4)).astype(np.float32)
        identity, paths = [f"v{row % 3}" for row in range(6)], [f"{side}{row}" for row in range(6)]
        records = Records.of(path=paths, identity=identity, camera=[f"c{side}"] * 6)
        made.append(FeatureSet(features, records).normalise())
    return made[0], made[1]


def test_added_steps_are_steps_like_others() -> None:
    plugins.add_step("shift", Shift, shifted, after="tracklets", why="no reason")
    plugins.add_step("scale", Scale, scaled, after="tracklets")
    assert list(STEPS)[3:6] == ["tracklets", "scale", "shift"] == list(names.STEPS)[3:6]
    post = PostProcessing.parse("shift=3, rerank=2:1:0.3, scale")
    assert post.describe() == "scale, shift=3, rerank=2:1:0.3"
    assert post == PostProcessing(added=(Shift(3), Scale()), reranking=ReRanking(2, 1, 0.3))
    assert "no reason" in post.transductive_reasons
    query, gallery = sides()
    found = PostProcessing.parse("scale=3, shift=2").apply(query, gallery).matrix()
    expected = ((query.features[:, None] - (3 * gallery.features + 2)) ** 2).sum(axis=2)
    assert np.allclose(found, expected, atol=1e-4)
    rows = ablation(post, query, gallery, MARKET)
    cumulative = [row.name for row in rows if row.kind == "cumulative"]
    assert cumulative == ["plain search", "+ rerank=2:1:0.3", "+ scale", "+ shift=3"]
    assert rows[-1].post.describe() == "scale, rerank=2:1:0.3"


def test_added_steps_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="step 'rerank': already exists"):
        plugins.add_step("rerank", Scale, scaled, after="norm")
    with pytest.raises(InputError, match="There is no step 'nrom'; did you mean 'norm'"):
        plugins.add_step("scale", Scale, scaled, after="nrom")
    with pytest.raises(InputError, match="give a frozen dataclass whose fields all have defaults"):
        plugins.add_step("scale", NoDefault, scaled, after="norm")
    plugins.add_step("scale", Scale, scaled, after="norm")
    with pytest.raises(InputError, match="Scale is the configuration of another step"):
        plugins.add_step("scale-2", Scale, scaled, after="norm")
    with pytest.raises(InputError, match="scale: occurs twice"):
        PostProcessing.parse("scale=1, scale=2")
    with pytest.raises(InputError, match="step scale=much: factor is 'much'; write scale=FACTOR"):
        PostProcessing.parse("scale=much")
    for added in ((Scale(1), Scale(2)), (Shift(),)):
        with pytest.raises(InputError, match="does not belong to an added step, or the step is given twice"):
            PostProcessing(added=added)
