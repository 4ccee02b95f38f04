"""The core install reads, simulates, checks, ranks and evaluates; what needs an extra says which, in one sentence."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from support.command_line import Run
from vreid.cli.extras import EXTRAS, missing_extras

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OPTIONAL = ("tracking", "milvus", "ray", "object-storage")  # not part of `all`, so not installed here
HEAVY = [module for extra, modules in EXTRAS.items() if extra not in OPTIONAL for module in modules]


def packages(requirements: Sequence[str]) -> set[str]:
    return {requirement.partition(">")[0] for requirement in requirements}


def test_the_core_is_what_reading_ranking_and_evaluation_need() -> None:
    assert packages(PROJECT["dependencies"]) == {"numpy", "scipy", "pillow", "safetensors", "typer", "rich"}
    (everything,) = PROJECT["optional-dependencies"]["all"]
    named = everything.removeprefix("vehicle-reid[").removesuffix("]").split(",")
    left_out = {"all", "fuzz", "openvino", "model", "site", *OPTIONAL}  # model is part of export
    assert {*named, *left_out} == set(PROJECT["optional-dependencies"])


def test_extras_install_the_modules_that_commands_look_for() -> None:
    distributions = metadata.packages_distributions()
    for extra, modules in EXTRAS.items():
        if extra in OPTIONAL:
            continue
        found = {name.lower() for module in modules for name in distributions[module]}
        named = {one for one in PROJECT["optional-dependencies"][extra] if not one.startswith("vehicle-reid[")}
        assert packages(sorted(named)) <= found


@pytest.mark.parametrize(
    ("line", "hidden", "extras"),
    [
        ("train small --data {w} --out r", "torch", "train"),
        ("extract run {w} --out f", "timm", "train"),
        ("adapt run {w} --out a", "sklearn torch", "train,adapt"),
        ("data crop run {w} --out c.csv", "torch", "train"),
        ("data translate train {w} {w} --out t", "torch", "train"),
        ("data translate apply t {w} --out u", "torchvision", "train"),
        ("export run --out m.safetensors", "torch", "train"),
        ("demo --out d", "matplotlib", "report"),
        ("table dmt.1 --out t", "matplotlib", "report"),
        ("report f --out p.html", "jinja2", "report"),
        ("report f --out p.html --diagnose", "sklearn", "adapt"),
        ("report f --out p.html --diagnose --model m", "torch", "train"),
        ("check {w} --page p.html", "jinja2", "report"),
    ],
)
def test_a_missing_extra_is_named_before_any_work(
    run: Run, tiny_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, hidden: str, extras: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for module in hidden.split():
        monkeypatch.setitem(sys.modules, module, None)
    outcome = run(line.format(w=tiny_world))
    names = ", ".join(sorted(hidden.split(), key=HEAVY.index))
    package = f"'vehicle-reid[{extras}]'"
    sentence = f"vreid: this command needs {names}: pip install {package}, or 'vehicle-reid[all]' for everything.\n"
    assert (outcome.code, outcome.out, outcome.err) == (2, "", sentence)
    assert not list(tmp_path.iterdir())


def test_any_failed_import_of_an_extra_gives_the_same_message(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    def broken(**_: object) -> None:
        raise ModuleNotFoundError("No module named 'sklearn.cluster'", name="sklearn.cluster")

    monkeypatch.setattr("vreid.environment.environment_facts", broken)
    assert run("info").err.startswith("vreid: this command needs sklearn: pip install 'vehicle-reid[adapt]'")
    assert missing_extras(["colorsys"]) == ""


def test_the_core_alone_simulates_checks_and_evaluates(tiny_world: Path, tmp_path: Path) -> None:
    assert all(find_spec(module) for module in HEAVY), "nothing would be hidden"
    np.save(tmp_path / "f.npy", np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32))
    rows = [f"{row}.jpg,{row % 3},{'ab'[row % 2]}" for row in range(6)]
    (tmp_path / "t.csv").write_text("\n".join(["path,identity,camera", *rows]), encoding="utf-8")
    lines = [
        f"check {tiny_world}",
        "evaluate f.npy --records t.csv --post rerank=2:1:0.3",
        "rank f.npy --records t.csv --out r.csv",
        "simulate w --preset tiny --workers 1",
        "info",
    ]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({HEAVY!r}))\n"
        "from vreid.cli import app\n"
        f"for line in {lines!r}: assert not app(line.split(), standalone_mode=False), line\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
