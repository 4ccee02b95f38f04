"""`vreid demo` and `vreid info`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vreid import names
from vreid.cli.extras import needs
from vreid.cli.options import Device, Json, Seed, print_json, print_rows, resolve, settings
from vreid.console import say


class Start(StrEnum):
    """What the demo's model starts from."""

    simulated = "simulated"
    random = "random"


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path("runs/demo"),
    preset: Annotated[str, typer.Option(help=f"Size of the simulated world: {', '.join(names.WORLDS)}.")] = "demo",
    seed: Seed = 0,
    start: Annotated[Start, typer.Option(help="The trunk that is shipped, pretrained on another city, or none.")] = (
        Start.simulated
    ),
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe.")] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Simulate a city, train on it, find vehicles again at cameras never seen, and write a page that shows it all."""
    needs("train", "adapt", "report")
    from vreid.console import ProgressBars
    from vreid.demo import run_demo
    from vreid.recipes.demo import DemoConfig

    recipe = {Start.simulated: "small", Start.random: "small_random"}[start]
    config = DemoConfig(preset=preset, seed=seed, recipe=recipe, overrides=settings(set_))
    with ProgressBars(quiet=as_json) as bars:
        result = run_demo(config, out, device=resolve(device), bars=bars)
    if as_json:
        print_json(json.loads(result.summary.read_text(encoding="utf-8")))
        return
    print_rows([(row.name, row.metrics) for row in (*result.baselines, *result.rows)])
    for finding in result.findings:
        say(f"found: {finding}")
    say(f"Simulated data: this shows that the code works, not that it works on roads.\nThe page: {result.report}")


def info(
    full: Annotated[
        bool, typer.Option("--full", help="Also import torch: the device, its number type, torch's threads.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show installed versions, cores, threads and the compiled core."""
    from vreid.environment import environment_facts

    facts = environment_facts(full=full)
    print_json(facts) if as_json else say(*(f"{name}: {value}" for name, value in facts.items()), sep="\n")
