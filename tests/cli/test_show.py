"""`vreid show` and the help of commands: names, meanings and settings come from docstrings, without heavy imports."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from support.command_line import Run
from vreid import names
from vreid.cli.documentation import documentation, parse
from vreid.configuration import known_keys
from vreid.data.protocols import PROTOCOLS
from vreid.recipes import RECIPES
from vreid.retrieval.postprocessing.steps import STEPS

ROOT = Path(__file__).parents[2]
HEAVY = {"numpy", "scipy", "torch", "PIL", "sklearn", "matplotlib", "jinja2", "safetensors"}
MOST_MODULES = 600
"""Modules after `vreid --help`: the standard library's, typer's and rich's, and a few of vreid; numpy alone has 150."""


def plain(text: str) -> str:
    return " ".join(text.replace("│", " ").split())


@pytest.mark.parametrize("line", ["--help", "train --help", "evaluate --help", "data translate train --help"])
def test_help_imports_nothing_heavy(line: str) -> None:
    code = (
        "import sys\nfrom vreid.cli import app\n"
        f"app({line.split()!r}, standalone_mode=False)\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), len(sys.modules), file=sys.stderr)"
    )
    environment = {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    heavy, _, count = done.stderr.strip().rpartition(" ")
    assert heavy == "[]" and int(count) < MOST_MODULES, done.stderr


def test_commands_without_training_never_import_torch(tiny_world: Path, trips_world: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the bundled model would run in torch")
    image = next((trips_world / "images").rglob("*.jpg"))
    lines = [  # each with the modules that nothing so far needs
        ("show", HEAVY | {"onnxruntime"}),
        (f"check {tiny_world}", {"matplotlib", "onnxruntime"}),
        (f"ingest {trips_world} --store site", {"matplotlib"}),
        (f"search site {image}", {"matplotlib"}),
        ("store info site", {"matplotlib"}),
        ("trips site --out trips", set()),
    ]
    code = f"""if True:
        import sys
        from vreid.cli import app
        for line, unused in {lines!r}:
            app(line.split(), standalone_mode=False)
            early = (unused | {{"torch", "torchvision", "timm", "sklearn"}}) & set(sys.modules)
            assert not early, (line, early)
    """
    environment = {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_help_groups_commands_by_task(run: Run) -> None:
    shown = run("--help").out
    places = [shown.index(f"─ {heading} ─") for heading in ("Data", "Training", "Retrieval", "Papers", "Tools")]
    assert places == sorted(places) and "─ Commands ─" not in shown


def test_help_quotes_the_docstrings_of_steps_and_recipes(run: Run) -> None:
    for command in ("evaluate", "rank", "report", "submission write"):
        shown = plain(run(f"{command} --help").out)
        for name, place in names.STEPS.items():
            found = documentation(place)
            assert plain(f"{name}{found.usage}: {found.summary}") in shown
    shown = plain(run("train --help").out)
    assert all(plain(f"{name}: {documentation(place).summary}") in shown for name, place in names.RECIPES.items())


def test_every_setting_of_a_step_is_documented() -> None:
    for name, step in STEPS.items():
        if step.config is not None:
            found = documentation(names.STEPS[name])
            settings = [field.name for field in fields(step.config)]
            assert list(found.defaults) == settings and set(settings) <= set(found.attributes), name
            assert found.defaults == {field.name: repr(field.default) for field in fields(step.config)}, name


def test_show_lists_kinds_names_and_settings(run: Run) -> None:
    kinds = json.loads(run("show --json").out)
    assert kinds["protocols"] == list(PROTOCOLS) and f"protocols: {', '.join(PROTOCOLS)}\n" in run("show").out
    assert run("show protocols").out.startswith("market: gallery images of the query's own vehicle")
    assert "rerank=7:2:0.6" in run("show step-presets dmt").out
    page = run("show steps rerank").out
    assert page.startswith("rerank=K1:K2:LAMBDA:NEIGHBOURS\nk-reciprocal re-ranking") and "\n  k1 = 20  length" in page
    recipe = json.loads(run("show recipes small --json").out)
    assert [row["key"] for row in recipe["settings"]] == list(known_keys(RECIPES["small"]()))
    described = {row["key"]: row["description"] for row in recipe["settings"]}
    assert described["epochs"] == "passes of the sampler." and described["transform.pad"].startswith("black border")
    assert json.loads(run("show worlds tiny --json").out)["settings"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("show step", "There is no kind of name 'step'; did you mean 'steps'?"),
        ("show steps rerankk", "There is no step 'rerankk'; did you mean 'rerank'?"),
        ("show slices gap", "show slices gap: has no settings"),
    ],
)
def test_show_of_an_unknown_name_names_the_nearest(run: Run, line: str, message: str) -> None:
    outcome = run(line)
    assert outcome.code == 2 and message in outcome.err and outcome.err.count("\n") == 1


def test_docstrings_are_parsed_as_they_are_written() -> None:
    attributes = "Attributes:\n    a, b: two\n        numbers: 1, 2\n    c: 3\n\nRaises:\n    E: no"
    found = parse(f"One step,\nin two lines.\n\nMore.\n\n{attributes}")
    assert (found.summary, found.text) == ("One step, in two lines.", "One step,\nin two lines.\n\nMore.")
    assert found.attributes == {"a": "two numbers: 1, 2", "b": "two numbers: 1, 2", "c": "3"}
