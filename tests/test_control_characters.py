"""Control characters in paths and labels never reach a terminal: messages, tables, progress and JSON show escapes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.table import Table
from rich.text import Text

from support.command_line import Run
from vreid.console import Console, echo
from vreid.formatting import printable, printable_json

TITLE = "\x1b]0;owned\x07"
NASTY = f"a{TITLE}\x1b[2J\x9b31m\u202e\u2066\u200f\u2028\x7f\r\x08[bold]b"
STEERING = "\x1b\x07\x9b\u202e\u2066\u200f\u2028\x7f\r\x08"


def clean(text: str) -> bool:
    return not set(STEERING) & set(text)


def test_what_is_printable_stays_and_the_rest_is_shown() -> None:
    assert printable("plain \N{PLUS-MINUS SIGN} Größe 車\n\tline") == "plain \N{PLUS-MINUS SIGN} Größe 車\n\tline"
    assert printable("\u0645\u200c\u0645") == "\u0645\u200c\u0645"  # a joiner that Persian needs
    assert printable("a\x1b[2J\x9b\u202e\udc80") == r"a\x1b[2J\x9b\u202e\udc80"
    assert clean(printable(NASTY)) and printable(NASTY).endswith("[bold]b")


def test_json_means_the_same() -> None:
    value = {NASTY: [NASTY, "\U000e0041", "Größe"]}
    text = printable_json(json.dumps(value, ensure_ascii=False))
    assert clean(text) and json.loads(text) == value and "Größe" in text


@pytest.mark.parametrize("terminal", [True, False])
def test_tables_and_texts_of_the_console(terminal: bool) -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=200, highlight=False, color_system=None)
    table = Table(title=NASTY, caption=NASTY)
    table.add_column(NASTY)
    table.add_row(NASTY)
    table.add_row(Text(NASTY))
    console.print(table)
    console.print(NASTY, soft_wrap=True)
    reported = (
        file.getvalue().replace("\x1b[0m", "").replace("\x1b[1m", "").replace("\x1b[3m", "").replace("\x1b[2;3m", "")
    )
    assert clean(reported) and reported.count("owned") >= 5 and reported.count("[bold]b") >= 5


def test_say_prints_lines(capsys: pytest.CaptureFixture[str]) -> None:
    echo(NASTY, Path("b"), sep="\n")
    out = capsys.readouterr().out
    assert clean(out) and out.endswith("[bold]b\nb\n")


def test_commands_show_escapes(run: Run, tmp_path: Path) -> None:
    for line in (f"check '{tmp_path}/{NASTY}.csv'", f"evaluate '{tmp_path}/{NASTY}' --post '{NASTY}'", f"'{NASTY}'"):
        outcome = run(line)
        assert outcome.code == 2 and clean(outcome.out + outcome.err) and outcome.err.count("\n") == 1, outcome
    table = tmp_path / "t\x1b]0;x\x07\u202e.csv"
    rows = [
        f"{side}\x1b[2J\x9b{number}.jpg,{number % 3},c\x1b[31m{side}\u202e,{side}"
        for number in range(6)
        for side in ("query", "gallery")
    ]
    table.write_text("path,identity,camera,split\n" + "\n".join(rows), encoding="utf-8")
    np.save(tmp_path / "f.npy", np.random.default_rng(0).normal(size=(12, 4)))
    for line in (
        f"evaluate {tmp_path}/f.npy --records '{table}'",
        f"evaluate {tmp_path}/f.npy --records '{table}' --by camera-pair",
        f"evaluate {tmp_path}/f.npy --records '{table}' --json",
        f"rank {tmp_path}/f.npy --records '{table}' --out '{tmp_path}/r\x1b[2J.csv'",
        f"report {tmp_path}/f.npy --records '{table}' --out '{tmp_path}/r\x1b[2J.html'",
        f"check '{table}'",
        f"check '{table}' --json",
    ):
        outcome = run(line)
        assert outcome.code in (0, 1, 2), outcome
        assert clean(outcome.out + outcome.err), (line, outcome)
