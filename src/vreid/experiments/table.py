"""A table out of rows and lines: mean and spread over seeds, the paper's figures beside them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from vreid.errors import InputError
from vreid.experiments.lines import Line
from vreid.experiments.rows import Row, World
from vreid.files import replacing

if TYPE_CHECKING:
    import rich.table


FLAGS = {"re-ranked": "reranked", "transductive": "transductive"}
FACTS = {"initialisation": "initialisation", "simulator": "simulator_version"}
"""What a table says of a row, and where a line has it."""


@dataclass(frozen=True)
class Entry:
    """The rows of one name.

    Attributes:
        name: theirs.
        seeds: how many rows there are; lines: those of them that have numbers.
        mean, spread: of each metric over `lines`, in percent; the spread is the sample's standard deviation, absent
            where there is but one.
        paper: the paper's figures, in percent.
        facts: protocol, re-ranked, transductive, initialisation, simulator version, in words.
        errors: of the rows that failed.
    """

    name: str
    seeds: int
    lines: tuple[Line, ...]
    mean: Mapping[str, float]
    spread: Mapping[str, float]
    paper: Mapping[str, float]
    facts: Mapping[str, str]
    errors: tuple[str, ...]


def tabulate(rows: Iterable[Row], lines: Iterable[Line]) -> list[Entry]:
    """One entry a name, in the order of the rows; rows without a line count as not yet run.

    Raises:
        InputError: rows of one name differ in more than their seeds, or in the paper's figures.
    """
    by_hash = {line.hash: line for line in lines}
    groups: dict[str, list[Row]] = {}
    for row in rows:
        group = groups.setdefault(row.name, [])
        if group and _seedless(row) != _seedless(group[0]):
            raise InputError(
                f"Rows named {row.name!r} differ in more than their seeds; give each setting its own name."
            )
        group.append(row)
    return [_entry(name, group, by_hash) for name, group in groups.items()]


def _seedless(row: Row) -> Row:
    data = replace(row.data, seed=0) if isinstance(row.data, World) else row.data
    return replace(row, data=data, training=replace(row.training, seed=0))


def _entry(name: str, rows: Sequence[Row], by_hash: Mapping[str, Line]) -> Entry:
    hashes = dict.fromkeys(row.hash for row in rows)  # the same row twice is one
    found = [by_hash[hashed] for hashed in hashes if hashed in by_hash]
    done = tuple(line for line in found if not line.error)
    values = {metric: [100 * line.numbers[metric] for line in done] for metric in (done[0].numbers if done else ())}
    facts: dict[str, str] = {}
    if done:
        metrics, about = done[0].metrics, done[0].facts
        told = {name: "yes" if metrics.get(key) else "no" for name, key in FLAGS.items()}
        facts = {"protocol": str(metrics.get("protocol", "")), **told}
        facts |= {name: str(about.get(key, "")) for name, key in FACTS.items()}
    return Entry(
        name=name,
        seeds=len(hashes),
        lines=done,
        mean={metric: fmean(each) for metric, each in values.items()},
        spread={metric: stdev(each) for metric, each in values.items() if len(each) > 1},
        paper=rows[0].paper,
        facts=facts,
        errors=tuple(line.error for line in found if line.error),
    )


def write_csv(entries: Sequence[Entry], out: Path | str) -> None:
    """Write one line an entry: for each metric its mean, spread and the paper's figure, in percent; then the facts.

    Raises:
        InputError: `out` cannot be written.
    """
    metrics = _metrics(entries)
    facts = list(dict.fromkeys(fact for entry in entries for fact in entry.facts))
    columns = [column for metric in metrics for column in (metric, f"{metric} spread", f"{metric} paper")]
    with replacing(out) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row", *columns, "seeds", "seeds done", *facts, "error"])
        for entry in entries:
            cells = [source.get(metric) for metric in metrics for source in (entry.mean, entry.spread, entry.paper)]
            writer.writerow([entry.name, *("" if cell is None else f"{cell:.2f}" for cell in cells), entry.seeds,
                             len(entry.lines), *(entry.facts.get(fact, "") for fact in facts),
                             "; ".join(entry.errors)])  # fmt: skip


def terminal_table(entries: Sequence[Entry], metrics: Sequence[str] = ()) -> rich.table.Table:
    """The table for a terminal: mean and spread in percent, the paper's figure behind each metric that it gives.

    Args:
        entries: of `tabulate`.
        metrics: which; (): every mAP, and rank1.
    """
    from rich import box
    from rich.table import Table

    chosen = metrics or [name for name in _metrics(entries) if name.startswith("mAP") or name == "rank1"]
    table = Table("", box=box.SIMPLE_HEAD)
    for metric in chosen:
        table.add_column(metric, justify="right", no_wrap=True)
        table.add_column("paper", justify="right")
    for name in ("seeds", "re-ranked", "transductive", "initialisation"):
        table.add_column(name)
    for entry in entries:
        cells = [cell for metric in chosen for cell in (_shown(entry, metric), f"{entry.paper.get(metric, '')}")]
        facts = [entry.facts.get(name, "") for name in ("re-ranked", "transductive", "initialisation")]
        seeds = f"{len(entry.lines)} of {entry.seeds}" + (f", {len(entry.errors)} failed" if entry.errors else "")
        table.add_row(entry.name, *cells, seeds, *facts)
    return table


def _metrics(entries: Sequence[Entry]) -> list[str]:
    return list(dict.fromkeys(metric for entry in entries for metric in (*entry.mean, *entry.paper)))


def _shown(entry: Entry, metric: str) -> str:
    if metric not in entry.mean:
        return ""
    spread = f" \N{PLUS-MINUS SIGN} {entry.spread[metric]:.1f}" if metric in entry.spread else ""
    return f"{entry.mean[metric]:.1f}{spread}"
