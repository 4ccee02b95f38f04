"""Names that commands offer stand once, in `vreid.names`, and agree with the tables that hold their values."""

from __future__ import annotations

import ast
from collections.abc import Collection
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest

from vreid import names
from vreid.adaptation.adapt_config import PRESETS as ADAPTATIONS
from vreid.data import split
from vreid.data.protocols import PROTOCOLS
from vreid.diagnostics.slices import MATCH_BINS, QUERY_BINS
from vreid.recipes import RECIPES
from vreid.recipes.spgan import TRANSLATIONS
from vreid.reproduce.tables import TABLES
from vreid.reproduce.tables.scales import scale_named
from vreid.retrieval.postprocessing import ensemble
from vreid.retrieval.postprocessing.steps import PRESETS, STEPS
from vreid.simulator.city.presets import PRESETS as WORLDS
from vreid.simulator.city.traffic import TRAFFIC_PRESETS
from vreid.simulator.formats.layouts import LAYOUTS
from vreid.simulator.formats.trip_files import TRIPS
from vreid.simulator.formats.video_files import VIDEOS
from vreid.simulator.render.sheet import SHEETS
from vreid.store.plates import BLURS
from vreid.store.search import ORDERS
from vreid.training.crop import CROP_CONFIGS
from vreid.training.views import VIEWS

CLI = Path(__file__).parents[1] / "src" / "vreid" / "cli"
TABLES_OF = {
    "STEPS": STEPS,
    "STEP_PRESETS": [name for name in PRESETS if not name.startswith("plain")],
    "PROTOCOLS": PROTOCOLS,
    "SLICES": [*MATCH_BINS, *QUERY_BINS],
    "FUSIONS": get_args(ensemble.How),
    "VIEWS": VIEWS,
    "RECIPES": RECIPES,
    "RERANKINGS": ORDERS,
    "BLURS": BLURS,
    "TRANSLATIONS": TRANSLATIONS,
    "ADAPTATIONS": ADAPTATIONS,
    "CROP_CONFIGS": CROP_CONFIGS,
    "HOLD_OUTS": get_args(split.By),
    "WORLDS": WORLDS,
    "TRAFFIC": TRAFFIC_PRESETS,
    "LAYOUTS": [*LAYOUTS, VIDEOS, TRIPS],
    "SHEETS": SHEETS,
    "TABLES": TABLES,
    "SCALES": [scale_named("smoke").name, scale_named("gpu").name, "paper"],
}


@pytest.mark.parametrize("name", TABLES_OF)
def test_names_are_the_keys_of_their_table_in_its_order(name: str) -> None:
    assert list(getattr(names, name)) == list(TABLES_OF[name])


def test_every_list_of_names_is_compared() -> None:
    lists = {name for name, value in vars(names).items() if name.isupper() and not name.startswith("_")}
    assert lists == set(TABLES_OF)


def documented(place: str) -> object:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def test_recipes_and_steps_are_documented_where_they_are_implemented() -> None:
    for table, places in ((RECIPES, names.RECIPES), (TRANSLATIONS, names.TRANSLATIONS)):
        for name, place in places.items():
            build = table[name]
            assert documented(place) is (build.func if isinstance(build, partial) else build)
    for name, place in names.STEPS.items():
        assert STEPS[name].config in (documented(place), None)


def test_commands_repeat_no_list_of_names() -> None:
    lists: list[Collection[str]] = [getattr(names, name) for name in TABLES_OF]
    for file in sorted(CLI.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words = {word.strip(" .,:;()'") for word in node.value.replace(":", ",").split(",")}
                for listed in lists:
                    assert len(words & set(listed)) < 3, f"{file.name}: {node.value!r} lists names of vreid.names"
