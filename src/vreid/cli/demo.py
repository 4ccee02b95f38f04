"""Commands demo and info."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vreid import names
from vreid.cli.extras import require_extras
from vreid.cli.options import Device, Json, Seed, parse_settings, print_json, print_rows, resolve
from vreid.console import echo


class InitialWeights(StrEnum):
    """Initial weights of the demo's backbone."""

    simulated = "simulated"
    random = "random"


def demo(
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("runs/demo"),
    preset: Annotated[str, typer.Option(help=f"Size of the simulated world: {', '.join(names.WORLDS)}.")] = "demo",
    seed: Seed = 0,
    initialisation: Annotated[
        InitialWeights,
        typer.Option("--start", help="Initial weights: simulated (shipped, pretrained on another city) or random."),
    ] = InitialWeights.simulated,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe.")] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Simulate a city, train on it, search for vehicles at new cameras, and write an HTML report."""
    require_extras("train", "adapt", "report")
    from vreid.demo import run_demo
    from vreid.progress_bars import ProgressBars
    from vreid.recipes.demo import DemoConfig

    recipe = {InitialWeights.simulated: "small", InitialWeights.random: "small_random"}[initialisation]
    config = DemoConfig(preset=preset, seed=seed, recipe=recipe, overrides=parse_settings(set_))
    with ProgressBars(quiet=as_json) as bars:
        result = run_demo(config, out, device=resolve(device), bars=bars)
    if as_json:
        print_json(json.loads(result.summary.read_text(encoding="utf-8")))
        return
    print_rows([(row.name, row.metrics) for row in (*result.baselines, *result.rows)])
    for finding in result.findings:
        echo(f"data problem: {finding}")
    echo(f"The data is simulated: these numbers say nothing about real roads.\nReport: {result.report}")


def info(
    full: Annotated[
        bool, typer.Option("--full", help="Also show device, precision and threads of torch (imports torch).")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show installed versions, CPU cores, threads and the compiled core."""
    from vreid.environment import environment_facts

    facts = environment_facts(full=full)
    print_json(facts) if as_json else echo(*(f"{name}: {value}" for name, value in facts.items()), sep="\n")
