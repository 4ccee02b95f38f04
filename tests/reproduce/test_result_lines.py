"""Result lines and tables: reading, verification, merging, averaging."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from vreid.data.findings import Finding
from vreid.errors import InputError
from vreid.reproduce.result_lines import Line, merge, read_lines, write_lines
from vreid.reproduce.rows import Row, SimulatedWorld, with_seeds
from vreid.reproduce.table import tabulate, terminal_table, write_csv
from vreid.training.train_config import TrainConfig

PLAIN = Row("plain", SimulatedWorld("tiny", seed=1), TrainConfig(recipe="tiny"), paper={"mAP": 46.2})
OTHER = replace(PLAIN, name="no flip", views=("original",), paper={})


def line_of(row: Row, value: float = 0.25, error: str = "") -> Line:
    metrics = {"mAP": value, "rank1": 1.0, "protocol": "market", "reranked": False, "transductive": True}
    facts = {"initialisation": "random", "simulator_version": 3}
    return Line(row.hash, row.name, row.evaluated.links, {} if error else metrics, facts=facts, error=error)


def test_lines_are_read_as_they_were_written(tmp_path: Path) -> None:
    lines = [line_of(PLAIN), line_of(OTHER, error='torn \N{EN DASH} "apart"\nhere')]
    write_lines(tmp_path / "a.jsonl", lines)
    assert read_lines(tmp_path / "a.jsonl") == lines
    assert (tmp_path / "a.jsonl").read_bytes().count(b"\n") == 2


def test_rows_of_several_machines_merge_by_hash(tmp_path: Path) -> None:
    third = replace(PLAIN, name="third", normalise=False)
    write_lines(tmp_path / "a.jsonl", [line_of(PLAIN), line_of(OTHER, error="no memory")])
    write_lines(tmp_path / "b.jsonl", [line_of(third), line_of(OTHER), line_of(PLAIN, 0.25 + 1e-9)])
    write_lines(tmp_path / "c.jsonl", [line_of(PLAIN, error="late")])
    files = [tmp_path / f"{name}.jsonl" for name in "abc"]
    assert merge(files) == [line_of(PLAIN), line_of(OTHER), line_of(third)]
    assert merge(files[::-1]) == [line_of(PLAIN, 0.25 + 1e-9), line_of(third), line_of(OTHER)]


def test_conflicting_results_for_one_hash_are_reported(tmp_path: Path) -> None:
    for name, value in (("a", 0.25), ("b", 0.26)):
        write_lines(tmp_path / f"{name}.jsonl", [line_of(OTHER), line_of(PLAIN, value)])
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    with pytest.raises(InputError, match=r"b.jsonl, line 2: 'plain' has mAP = 0.26, but 0.25 in .*a.jsonl, line 2"):
        merge(files)
    found: list[Finding] = []
    assert merge(files, found.append) == [line_of(OTHER), line_of(PLAIN)] and len(found) == 1


def changed(**changes: Any) -> str:
    return json.dumps(asdict(line_of(PLAIN)) | changes)


LINKS = [list(link) for link in PLAIN.evaluated.links]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value"),
        (changed()[:200], "is not a result line"),
        ("[1, 2]", "columns are not"),
        ('{"event": "epoch", "loss": 1.5}', "columns are not"),
        (changed(further=1), "columns are not"),
        (changed(hash="0" * 16), "hash does not match its links"),
        (changed(links=[]), "hash does not match"),
        (changed(links=LINKS[:-1]), "hash does not match"),
        (changed(links=3), "is not a result line"),
        (changed(links=LINKS[1:]), "does not precede it"),
        (changed(metrics=None), "is not a result line"),
        (changed(metrics={}), "neither metrics nor an error"),
        (changed(error="torn"), "neither metrics nor an error, or both"),
        (changed(metrics={"mAP": 46.2}), "not between 0 and 1"),
        (changed(metrics={"mAP": float("nan")}), "not between 0 and 1"),
        ("[" * 100_000, "is not a result line"),
    ],
)
def test_invalid_lines_raise_with_file_and_line(text: str, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    write_lines(file, [line_of(OTHER)])
    with open(file, "a", encoding="utf-8") as opened:
        opened.write(text + "\n" + changed() + "\n")
    with pytest.raises(InputError) as refused:
        merge([file])
    assert f"{file}, line 2: " in str(refused.value) and reason in str(refused.value)
    assert "remove it, or run its row again" in str(refused.value)
    found: list[Finding] = []
    assert merge([file], found.append) == [line_of(OTHER), line_of(PLAIN)] and len(found) == 1


def test_missing_and_binary_files_raise(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.jsonl: cannot be read"):
        merge([tmp_path / "absent.jsonl"])
    (tmp_path / "a.jsonl").write_bytes(b"\xff\xfe\x00\n")
    with pytest.raises(InputError, match=r"a.jsonl, line 1: is not a result line"):
        read_lines(tmp_path / "a.jsonl")


def test_a_table_has_mean_and_spread_over_seeds_beside_the_papers_figures(tmp_path: Path) -> None:
    rows = list(with_seeds([PLAIN, OTHER], (1, 2, 3)))
    lines = [line_of(row, value) for row, value in zip(rows[:3], (0.2, 0.3, 0.4), strict=True)]
    lines += [line_of(rows[3], 0.5), line_of(rows[4], error="no memory")]
    plain, other = tabulate([*rows, rows[0]], lines)
    assert (plain.name, plain.seeds, len(plain.lines), plain.errors) == ("plain", 3, 3, ())
    assert plain.mean["mAP"] == pytest.approx(30) and plain.spread["mAP"] == pytest.approx(10)
    assert (plain.spread["rank1"], plain.paper) == (0, {"mAP": 46.2})
    assert (other.seeds, len(other.lines), other.errors, other.spread) == (3, 1, ("no memory",), {})

    write_csv([plain, other], tmp_path / "t.csv")
    first, second = csv.DictReader((tmp_path / "t.csv").read_text().splitlines())
    assert (first["mAP"], first["mAP spread"], first["mAP paper"]) == ("30.00", "10.00", "46.20")
    assert (second["row"], second["mAP spread"], second["seeds done"], second["error"]) == (
        "no flip",
        "",
        "1",
        "no memory",
    )
    assert (first["protocol"], first["re-ranked"], first["transductive"], first["simulator"]) == (
        "market",
        "no",
        "yes",
        "3",
    )

    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(terminal_table([plain, other]))
    text = console.export_text()
    assert "30.0 \N{PLUS-MINUS SIGN} 10.0" in text and "46.2" in text and "1 of 3, 1 failed" in text


def test_rows_not_yet_run_are_listed() -> None:
    (entry,) = tabulate([PLAIN], [line_of(OTHER)])
    assert (entry.seeds, entry.lines, entry.mean, entry.paper) == (1, (), {}, {"mAP": 46.2})


def test_rows_that_differ_in_more_than_seeds_are_not_averaged() -> None:
    with pytest.raises(InputError, match="'plain' differ in more than their seeds"):
        tabulate([PLAIN, replace(OTHER, name="plain", paper=PLAIN.paper)], [])
