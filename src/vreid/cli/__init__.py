"""The command line: thin commands over the library. Exit codes: 0 success, 1 findings or failed rows, 2 wrong input."""

from __future__ import annotations

import io
import os
import shlex
import sys
from contextlib import redirect_stderr, suppress
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vreid import __version__, plugins
from vreid.cli import (
    ablation,
    adapt,
    calibrate_store,
    crop,
    data,
    demo,
    export,
    hub,
    ingest,
    models,
    open_set,
    report,
    search,
    search_store,
    serve,
    show,
    split,
    store,
    store_size,
    submission,
    table,
    translate,
    trips,
    tuning,
    weights,
)
from vreid.cli.extras import missing_extras
from vreid.console import echo
from vreid.errors import InputError
from vreid.files import system_error
from vreid.threads import wait_passively


class Commands(TyperGroup):
    """Command group that accepts `--import` before or after the name of the command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move `--import PLUGIN` to the front, where it is an option of the group."""
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
    help="Vehicle re-identification: simulate and check data, train, adapt, search, evaluate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        echo(f"vreid {__version__}")
        raise typer.Exit


INTERRUPTED = 130
"""Exit code after Ctrl-C."""
BROKEN_PIPE = 141
"""Exit code if the reader of standard output has closed it, as for a program ended by SIGPIPE."""
INTERNAL_ERROR = 70
"""Exit code after an unexpected error (a bug)."""
TRACEBACK = "VREID_TRACEBACK"
"""Environment variable that makes an unexpected error show its traceback."""


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
            help="Import a plugin (.py file or module) that adds backbones, losses, readers, steps or recipes.",
        ),
    ] = None,
) -> None:
    """Import the plugins of installed packages and those given with --import."""
    plugins.load_installed()
    for plugin in import_ or ():
        plugins.load(plugin)


MOVED = {"--tune": ("tune", "--on"), "--calibrate": ("calibrate", "--out"), "--ablate": ("ablate", "")}
"""Former options of `evaluate`: the command that replaces each, and the name of the option there."""

DATA, CAMERAS, TRAINING, RETRIEVAL, PAPERS, TOOLS = "Data", "Own cameras", "Training", "Retrieval", "Papers", "Tools"
"""Panel titles of `vreid --help`."""

app.command("simulate", rich_help_panel=DATA)(data.simulate_command)
app.command("check", rich_help_panel=DATA)(data.check)
split.group.command("crop")(crop.crop_command)
split.group.add_typer(translate.group, name="translate")
app.add_typer(split.group, name="data", rich_help_panel=DATA)
app.command("ingest", rich_help_panel=CAMERAS)(ingest.ingest_command)
app.command("search", rich_help_panel=CAMERAS)(search_store.search_command)
app.command("label", rich_help_panel=CAMERAS)(calibrate_store.label_command)
app.command("serve", rich_help_panel=CAMERAS)(serve.serve_command)
store.group.command("size")(store_size.size_command)
app.add_typer(store.group, name="store", rich_help_panel=CAMERAS)
app.command("trips", rich_help_panel=CAMERAS)(trips.trips_command)
app.command("train", rich_help_panel=TRAINING, cls=show.WithRecipes)(models.train_command)
app.command("adapt", rich_help_panel=TRAINING)(adapt.adapt_command)
app.command("extract", rich_help_panel=TRAINING)(models.extract_command)
app.command("export", rich_help_panel=TRAINING)(export.export_command)
app.add_typer(hub.group, name="hub", rich_help_panel=TRAINING)
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
    """Run the command line; print any error as one sentence on standard error, without a traceback.

    Further exit codes are `INTERRUPTED`, `BROKEN_PIPE` and `INTERNAL_ERROR`.
    """
    wait_passively()
    try:
        _make_output_robust()
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except SystemExit:  # typer's answer to a broken pipe; commands end with typer.Exit
        code = BROKEN_PIPE
    except Exception as error:
        from vreid.training.distributed import reporting_once

        with reporting_once() as first, redirect_stderr(sys.stderr if first else io.StringIO()):
            code = _report_error(error)
    if code == INTERRUPTED:
        _print_error("interrupted; run the same command again to continue (train, adapt: with --resume).")
    raise SystemExit(code or 0)


def _make_output_robust() -> None:
    """Escape characters that the terminal cannot encode; replace closed standard streams with the null device."""
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _report_error(error: Exception) -> int:
    """Print `error` for the user and return the exit code."""
    if isinstance(error, InputError):
        _print_error(str(error))
    elif isinstance(error, BrokenPipeError):  # the reader of the output (head, less) has closed it
        _discard_output()
        return BROKEN_PIPE
    elif isinstance(error, OSError) and error.filename:
        _print_error(str(system_error(error.filename, "used", error)))
    elif isinstance(error, OSError):
        _discard_output()
        _print_error(str(system_error("the output", "written", error)))
    elif isinstance(error, UnicodeEncodeError):
        _print_error(f"{error.object!r}: the locale's encoding cannot represent this name; set PYTHONUTF8=1.")
    elif isinstance(error, ModuleNotFoundError) and missing_extras([error.name or ""]):
        _print_error(missing_extras([error.name or ""]))
    elif isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error):
        _print_error("out of memory; use smaller images, smaller batches, a smaller data set or more memory.")
    elif hasattr(error, "format_message"):  # a usage error
        _print_error(_usage(error)) if error.format_message() else None  # empty if the help was shown instead
    elif os.environ.get(TRACEBACK):
        raise error
    elif plugins.failure(error):
        _print_error(plugins.failure(error))
    else:
        _print_error(
            f"internal error ({type(error).__name__}: {error}); set {TRACEBACK}=1 and run the same command again to "
            "see the traceback, and please report it."
        )
        return INTERNAL_ERROR
    return 2


def _usage(error: Any) -> str:
    if moved := _moved(sys.argv[1:]):
        return moved
    command = getattr(getattr(error, "ctx", None), "command_path", "vreid")
    return f"{error.format_message().rstrip('.')}; see `{command} --help`."


def _moved(arguments: list[str]) -> str:
    """Suggest the command that replaces a former option or command; "" if none is used."""
    if "weights" in arguments[:-1] and arguments[arguments.index("weights") + 1] == "export":
        line = shlex.join(["vreid", *(word for word in arguments if word != "weights")])
        return f"weights export is now a separate command: {line}"
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
    return f"evaluate {option} is now a separate command: {line}"


def _split(argument: str) -> list[str]:
    """Split `--option=value` of a former option into two words."""
    option, equals, value = argument.partition("=")
    return [option, value] if equals and option in MOVED else [argument]


def _print_error(sentence: str) -> None:
    """Print one line on standard error, even if a file name or system message holds line ends."""
    echo("vreid:", " ".join(sentence.splitlines()), file=sys.stderr)


def _discard_output() -> None:
    """Discard buffered standard output, which Python would try to write again at exit."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        with suppress(OSError):
            output = sys.stdout.fileno()
            os.dup2(os.open(os.devnull, os.O_WRONLY), output)
