"""Command show: document the names that commands accept. The help of other commands ends with its lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from inspect import cleandoc
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from vreid import names
from vreid.cli.documentation import documentation, parse
from vreid.cli.options import Json, print_json
from vreid.console import echo
from vreid.errors import InputError, named

_TABLES: Mapping[str, str] = {
    "step-presets": "vreid.retrieval.postprocessing.steps:PRESETS",
    "protocols": "vreid.data.protocols:PROTOCOLS",
    "recipes": "vreid.recipes:RECIPES",
    "translations": "vreid.recipes.spgan:TRANSLATIONS",
    "adaptations": "vreid.adaptation.adapt_config:PRESETS",
    "crop-configs": "vreid.training.crop:CROP_CONFIGS",
    "worlds": "vreid.simulator.city.presets:PRESETS",
}
"""Tables of settings by kind of name."""


def step_lines() -> Iterator[str]:
    """Yield one line per step of `--post`."""
    yield "Steps of --post, in the order in which they run (see vreid show steps NAME for their values):"
    for name, place in names.STEPS.items():
        found = documentation(place)
        yield f"{name}{found.usage}: {found.summary}"


def recipe_lines() -> Iterator[str]:
    """Yield one line per recipe."""
    yield "Recipes (see vreid show recipes NAME for the settings that --set changes):"
    for name, place in names.RECIPES.items():
        yield f"{name}: {documentation(place).summary}"


def ending_with(lines: Callable[[], Iterator[str]]) -> type[TyperCommand]:
    """Return a command class whose help ends with `lines`, which are read only when help is shown."""

    class WithLines(TyperCommand):
        def format_help(self, ctx: Any, formatter: Any) -> None:
            self.epilog = "\n\n".join(line.replace("[", r"\[") for line in lines())
            super().format_help(ctx, formatter)

    return WithLines


WithSteps, WithRecipes = ending_with(step_lines), ending_with(recipe_lines)
"""Commands whose help lists the steps of `--post`, or the recipes."""


def show(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="[KIND]", help="List one kind: steps, step-presets, protocols, recipes, ...; default: all."
        ),
    ] = "",
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Show the meaning and settings of one name.")] = "",
    as_json: Json = False,
) -> None:
    """Show the names that commands accept (steps, presets, protocols, recipes, ...) with meaning and settings."""
    kinds = {
        constant.lower().replace("_", "-"): value
        for constant, value in vars(names).items()
        if constant.isupper() and not constant.startswith("_")
    }
    if not kind:
        if as_json:
            print_json({one: list(listed) for one, listed in kinds.items()})
        else:
            echo(*(f"{one}: {', '.join(listed)}" for one, listed in kinds.items()), sep="\n")
        return
    listed = named("kind of name", kinds, kind)
    if not name:
        meanings = {one: meaning(kind, one, listed) for one in listed}
        lines = (f"{one}: {text}" if text else one for one, text in meanings.items())
        print_json(meanings) if as_json else echo(*lines, sep="\n")
        return
    named(kind.removesuffix("s"), dict.fromkeys(listed), name)
    text, settings = _page(kind, name, listed)
    if as_json:
        rows = [dict(zip(("key", "value", "description"), row, strict=True)) for row in settings]
        print_json({"name": name, "text": text, "settings": rows})
        return
    echo(f"{name}{documentation(names.STEPS[name]).usage if kind == 'steps' else ''}\n{text}".rstrip())
    for key, value, description in settings:
        echo(f"  {key} = {value}" + (f"  {description}" if description else ""))


def meaning(kind: str, name: str, listed: Any) -> str:
    """Describe a name in one line; "" if the name needs no description."""
    if isinstance(listed, Mapping):
        return documentation(listed[name]).summary
    if kind in ("step-presets", "protocols"):
        value = _table(kind)[name]
        return value if isinstance(value, str) else value.description.removeprefix(f"{name}: ")
    return ""


def _page(kind: str, name: str, listed: Any) -> tuple[str, list[tuple[str, str, str]]]:
    """Return the documentation of a name and its settings as (key, value, description)."""
    if kind == "steps":
        found = documentation(listed[name])
        return found.text, [(key, value, found.attributes.get(key, "")) for key, value in found.defaults.items()]
    if kind not in _TABLES:
        raise InputError(f"show {kind} {name}: has no settings; see the help of the commands that accept it.")
    value = _table(kind)[name]
    if callable(value):
        value = value()
    text = documentation(listed[name]).text if isinstance(listed, Mapping) else meaning(kind, name, listed)
    return text, list(_settings(value)) if is_dataclass(value) else []


def _table(kind: str) -> Mapping[str, Any]:
    module, _, table = _TABLES[kind].partition(":")
    found: Mapping[str, Any] = getattr(import_module(module), table)
    return found


def _settings(config: Any, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (dotted key, value, description) of each setting of nested dataclasses.

    Descriptions come from the Attributes sections of their docstrings.
    """
    described: dict[str, str] = {}
    for base in reversed(type(config).__mro__):
        described |= parse(cleandoc(base.__doc__ or "")).attributes
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from _settings(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", str(value), described.get(field.name, "")
