"""The command line: thin commands over the library. Exit code 0 done, 1 done with findings, 2 wrong input."""

from __future__ import annotations

import io
import os
import shlex
import sys
from contextlib import suppress
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vreid import __version__, plugins
from vreid.cli import (
    ablation,
    adapt,
    crop,
    data,
    demo,
    models,
    open_set,
    report,
    search,
    show,
    split,
    submission,
    table,
    translate,
    tuning,
    weights,
)
from vreid.cli.extras import missing
from vreid.console import say
from vreid.errors import InputError
from vreid.files import system_error
from vreid.threads import wait_passively


class Commands(TyperGroup):
    """The commands; `--import` may stand before or behind their names."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move `--import PLUGIN` to the front, where it belongs to all commands."""
        first: list[str] = []
        rest: list[str] = []
        words = iter(args)
        for word in words:
            if word == "--":
                rest += [word, *words]
            elif word == "--import":
                first += [word, *([value] if (value := next(words, None)) is not None else [])]
            else:
                (first if word.startswith("--import=") else rest).append(word)
        return super().parse_args(ctx, [*first, *rest])


app = typer.Typer(
    name="vreid",
    cls=Commands,
    help="Vehicle re-identification: where else was this vehicle seen, when, and how sure?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"vreid {__version__}")
        raise typer.Exit


INTERRUPTED = 130
"""Exit code after Ctrl-C."""
BROKEN_PIPE = 141
"""Exit code when nobody reads standard output any more: that of programs which SIGPIPE ends."""
MISTAKE = 70
"""Exit code after an error that is not the user's."""
TRACEBACK = "VREID_TRACEBACK"
"""Environment variable with which such an error shows its traceback."""


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
    import_: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="PLUGIN",
            help="A .py file or module that adds backbones, losses, readers, steps or recipes; with any command.",
        ),
    ] = None,
) -> None:
    """Import the plugins: those of installed packages, and those that --import names."""
    plugins.load_installed()
    for plugin in import_ or ():
        plugins.load(plugin)


MOVED = {"--tune": ("tune", "--on"), "--calibrate": ("calibrate", "--out"), "--ablate": ("ablate", "")}
"""Options that `evaluate` had: the command that replaces each, and the name of the option there."""

DATA, TRAINING, RETRIEVAL, PAPERS, TOOLS = "Data", "Training", "Retrieval", "Papers", "Tools"
"""Headings of `vreid --help`."""

app.command("simulate", rich_help_panel=DATA)(data.simulate_command)
app.command("check", rich_help_panel=DATA)(data.check)
split.group.command("crop")(crop.crop_command)
split.group.add_typer(translate.group, name="translate")
app.add_typer(split.group, name="data", rich_help_panel=DATA)
app.command("train", rich_help_panel=TRAINING, cls=show.WithRecipes)(models.train_command)
app.command("adapt", rich_help_panel=TRAINING)(adapt.adapt_command)
app.command("extract", rich_help_panel=TRAINING)(models.extract_command)
app.add_typer(weights.group, name="weights", rich_help_panel=TRAINING)
app.command("evaluate", rich_help_panel=RETRIEVAL, cls=show.WithSteps)(search.evaluate_command)
app.command("ablate", rich_help_panel=RETRIEVAL, cls=show.WithSteps)(ablation.ablate_command)
app.command("tune", rich_help_panel=RETRIEVAL, cls=show.WithSteps)(tuning.tune_command)
app.command("calibrate", rich_help_panel=RETRIEVAL, cls=show.WithSteps)(open_set.calibrate_command)
app.command("rank", rich_help_panel=RETRIEVAL, cls=show.WithSteps)(search.rank_command)
app.command("report", rich_help_panel=RETRIEVAL, cls=show.WithSteps)(report.report_command)
app.add_typer(submission.app, name="submission", rich_help_panel=RETRIEVAL)
app.command("table", rich_help_panel=PAPERS)(table.table_command)
app.command("demo", rich_help_panel=TOOLS)(demo.demo)
app.command("show", rich_help_panel=TOOLS)(show.show)
app.command("sheet", rich_help_panel=TOOLS)(data.sheet)
app.command("info", rich_help_panel=TOOLS)(demo.info)


def main() -> None:
    """Run the command line; whatever goes wrong is one sentence on standard error, never a traceback.

    Exit codes beyond 0, 1 and 2 are `INTERRUPTED`, `BROKEN_PIPE` and `MISTAKE`.
    """
    wait_passively()
    try:
        _unbreakable_output()
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except SystemExit:  # typer's answer to a broken pipe; commands end with typer.Exit
        code = BROKEN_PIPE
    except Exception as error:
        code = _report_error(error)
    if code == INTERRUPTED:
        _say("stopped; the same command goes on where it was (train: with --resume).")
    raise SystemExit(code or 0)


def _unbreakable_output() -> None:
    """Names that the terminal's encoding lacks are shown as escapes; a closed stream swallows what it is given."""
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _report_error(error: Exception) -> int:
    """Say what `error` means to whoever typed the command; return the exit code."""
    if isinstance(error, InputError):
        _say(str(error))
    elif isinstance(error, BrokenPipeError):  # the reader of our output (head, less) has seen enough
        _forget_output()
        return BROKEN_PIPE
    elif isinstance(error, OSError) and error.filename:
        _say(str(system_error(error.filename, "used", error)))
    elif isinstance(error, OSError):
        _forget_output()
        _say(str(system_error("the output", "written", error)))
    elif isinstance(error, UnicodeEncodeError):
        _say(f"{error.object!r}: this name cannot be used with this machine's language setting; set PYTHONUTF8=1.")
    elif isinstance(error, ModuleNotFoundError) and missing([error.name or ""]):
        _say(missing([error.name or ""]))
    elif isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error):
        _say("memory ran out; use smaller images, batches or a smaller data set, or a machine with more memory.")
    elif hasattr(error, "format_message"):  # the command line could not be understood
        _say(_usage(error)) if error.format_message() else None  # without words: its help was shown
    elif os.environ.get(TRACEBACK):
        raise error
    elif plugins.failure(error):
        _say(plugins.failure(error))
    else:
        _say(
            f"a mistake in vreid itself ({type(error).__name__}: {error}); with {TRACEBACK}=1 in the environment "
            "the same command shows where; please report that."
        )
        return MISTAKE
    return 2


def _usage(error: Any) -> str:
    if moved := _moved(sys.argv[1:]):
        return moved
    command = getattr(getattr(error, "ctx", None), "command_path", "vreid")
    return f"{error.format_message().rstrip('.')}; `{command} --help` lists what there is."


def _moved(arguments: list[str]) -> str:
    """The command line that does what options of `evaluate` once did, in one sentence; "" if there is none of these."""
    if "evaluate" not in arguments:
        return ""
    place = arguments.index("evaluate")
    words = [word for argument in arguments[place + 1 :] for word in _split(argument)]
    option = next((option for option in MOVED if option in words), "")
    if not option:
        return ""
    command, renamed = MOVED[option]
    rest = [renamed if word == option else word for word in words]
    rest = [word for word in rest if word and word not in MOVED]
    line = shlex.join(["vreid", *arguments[:place], command, *rest])
    return f"evaluate {option} is a command of its own now: {line}"


def _split(argument: str) -> list[str]:
    """An option and its value as two words."""
    option, equals, value = argument.partition("=")
    return [option, value] if equals and option in MOVED else [argument]


def _say(sentence: str) -> None:
    """One line on standard error, whatever line ends a file name or a system's message may hold."""
    say("vreid:", " ".join(sentence.splitlines()), file=sys.stderr)


def _forget_output() -> None:
    """Drop what standard output still holds: Python would try to write it once more at its end."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        with suppress(OSError):
            output = sys.stdout.fileno()
            os.dup2(os.open(os.devnull, os.O_WRONLY), output)
