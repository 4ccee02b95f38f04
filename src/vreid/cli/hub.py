"""Command group `hub`: models on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vreid.cli.extras import require_extras
from vreid.cli.options import Json, Model, print_json
from vreid.console import echo

group = typer.Typer(help="Upload and download models with their cards (Hugging Face Hub).", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="hub://OWNER/NAME, with @REVISION for a certain one.")]


@group.command("push")
def push(
    model: Model,
    name: Name,
    private: Annotated[bool, typer.Option("--private", help="Create a private repository.")] = False,
    as_json: Json = False,
) -> None:
    """Upload a trained model and its card, which states licence, provenance and the hash of the file."""
    require_extras("hub")
    from vreid.training.model_file import model_file
    from vreid.training.model_hub import push_model

    address = push_model(model_file(model), name, private=private)
    print_json({"address": address}) if as_json else echo(address)


@group.command("pull")
def pull(
    name: Name,
    out: Annotated[Path, typer.Option(help="Folder for model and card; usable as a MODEL.")],
    as_json: Json = False,
) -> None:
    """Download a model and check it against the hash that its card states; as a MODEL, NAME does the same."""
    require_extras("hub")
    from vreid.training.model_hub import pull_model

    path = pull_model(name, out)
    print_json({"model": str(path)}) if as_json else echo(f"The model: {path}")
