"""The command line: thin commands over the library. Exit code 0 done, 1 done with findings, 2 wrong input."""

from __future__ import annotations

import sys

import typer

from vreid.cli import data, demo, models, search
from vreid.errors import InputError

app = typer.Typer(
    name="vreid",
    help="Vehicle re-identification: where else was this vehicle seen, when, and how sure?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

INTERRUPTED = 130
"""Exit code after Ctrl-C."""

app.command()(demo.demo)
app.command("simulate")(data.simulate_command)
app.command()(data.sheet)
app.command()(data.check)
app.command("train")(models.train_command)
app.command("extract")(models.extract_command)
app.command("rank")(search.rank_command)
app.command("evaluate")(search.evaluate_command)
app.command("report")(search.report_command)
app.command()(demo.info)


def main() -> None:
    """Run the command line; wrong input is one sentence on standard error and exit code 2, never a traceback."""
    try:
        app()
    except InputError as error:
        print(f"vreid: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "torchvision", "timm"):
            raise
        print(f"vreid: this command needs {error.name}; install vehicle-reid[train].", file=sys.stderr)
        raise SystemExit(2) from None
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            print("vreid: stopped; the same command goes on where it was (train: with --resume).", file=sys.stderr)
        raise
    except OSError as error:
        print(f"vreid: {error.filename or 'a file'}: {error.strerror or error}.", file=sys.stderr)
        raise SystemExit(2) from None
