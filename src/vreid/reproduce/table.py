"""Tables from rows and result lines: mean and spread over seeds, the paper's figures, and effects."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from vreid.errors import InputError
from vreid.files import atomic_write
from vreid.reproduce.effects import Effect, effect
from vreid.reproduce.result_lines import Line
from vreid.reproduce.rows import AnyRow, compared_with

if TYPE_CHECKING:
    import rich.table


FLAGS = {"re-ranked": "reranked", "transductive": "transductive"}
FACTS = {"initialisation": "initialisation", "simulator": "simulator_version"}
"""Columns of a table -> keys of a line's metrics, or of its facts."""


@dataclass(frozen=True)
class Entry:
    """The rows with one name.

    Attributes:
        name: the name.
        seeds: number of rows.
        lines: the lines of the rows that have run.
        mean, spread: of each metric over `lines`, in percent; the spread is the sample standard deviation, absent for a
            single line.
        paper: the paper's figures, in percent.
        facts: protocol, re-ranked, transductive, initialisation, simulator version, seeds as text.
        errors: errors of the failed rows.
        effect: effect against the row that the paper compares it with.
    """

    name: str
    seeds: int
    lines: tuple[Line, ...]
    mean: Mapping[str, float]
    spread: Mapping[str, float]
    paper: Mapping[str, float]
    facts: Mapping[str, str]
    errors: tuple[str, ...]
    effect: Effect | None = None


def tabulate(rows: Iterable[AnyRow], lines: Iterable[Line]) -> list[Entry]:
    """Build one entry per name, in the order of the rows; rows without a line count as not yet run.

    Raises:
        InputError: rows with one name differ in more than their seeds, or a row is compared with a missing one.
    """
    by_hash = {line.hash: line for line in lines}
    groups: dict[str, list[AnyRow]] = {}
    for row in rows:
        group = groups.setdefault(row.name, [])
        if group and row.seeded(0) != group[0].seeded(0):
            raise InputError(
                f"Rows named {row.name!r} differ in more than their seeds; give each setting a unique name."
            )
        group.append(row)
    return [_entry(name, groups, by_hash) for name in groups]


def published(name: str, figures: Mapping[str, float]) -> Entry:
    """Build the entry of a row that only the paper has."""
    return Entry(name, 0, (), {}, {}, figures, {}, ())


def _entry(name: str, groups: Mapping[str, Sequence[AnyRow]], by_hash: Mapping[str, Line]) -> Entry:
    rows = groups[name]
    hashes = dict.fromkeys(row.hash for row in rows)  # equal rows count once
    found = [by_hash[hashed] for hashed in hashes if hashed in by_hash]
    done = tuple(line for line in found if not line.error)
    values = {metric: [100 * line.numbers[metric] for line in done] for metric in (done[0].numbers if done else ())}
    facts: dict[str, str] = {}
    if done:
        metrics, about = done[0].metrics, done[0].facts
        reported = {name: "yes" if metrics.get(key) else "no" for name, key in FLAGS.items()}
        facts = {"protocol": str(metrics.get("protocol", "")), **reported}
        facts |= {name: str(about.get(key, "")) for name, key in FACTS.items()}
        facts["steps"] = str(metrics.get("steps", ""))
        unlabelled = [f"{line.facts['labels']}." for line in done if "labels" in line.facts]
        facts["notes"] = " ".join(dict.fromkeys([*unlabelled, *(note for line in done for note in line.notes)]))
        facts["drawn by"] = "; ".join(_seeds(line) for line in done)
        facts["submission"] = "; ".join(str(line.facts.get("submission", "")) for line in done)
    return Entry(
        name=name,
        seeds=len(hashes),
        lines=done,
        mean={metric: fmean(each) for metric, each in values.items()},
        spread={metric: stdev(each) for metric, each in values.items() if len(each) > 1},
        paper=rows[0].paper,
        facts=facts,
        errors=tuple(line.error for line in found if line.error),
        effect=_effect(rows, groups, by_hash),
    )


def _seeds(line: Line) -> str:
    return " ".join(f"{what} {seed}" for what, seed in dict(line.facts.get("seeds", {})).items())


def _effect(
    rows: Sequence[AnyRow], groups: Mapping[str, Sequence[AnyRow]], by_hash: Mapping[str, Line]
) -> Effect | None:
    candidates = compared_with(rows[0], [row for group in groups.values() for row in group])
    if not candidates:
        return None
    if absent := [name for name in candidates if name not in groups]:
        raise InputError(f"Row {rows[0].name!r} is compared with {absent[0]!r}, which is not in the table; add it.")
    metric = next(iter(rows[0].paper or groups[candidates[0]][0].paper), "mAP")
    against = max(candidates, key=lambda name: _mean(groups[name], by_hash, metric))
    others = {tuple(row.seeds.items()): by_hash.get(row.hash) for row in groups[against]}
    pairs = [(by_hash.get(row.hash), others.get(tuple(row.seeds.items()))) for row in rows]
    there = [groups[name][0].paper[metric] for name in candidates if metric in groups[name][0].paper]
    change = rows[0].paper[metric] - max(there) if metric in rows[0].paper and there else None
    done = [(one, other) for one, other in pairs if one and other and one.numbers and other.numbers]
    return effect(against, metric, done, change)


def _mean(rows: Sequence[AnyRow], by_hash: Mapping[str, Line], metric: str) -> float:
    """Mean of a metric over the rows that have it; -1 if none has."""
    found = [by_hash[row.hash].numbers.get(metric, -1.0) for row in rows if row.hash in by_hash]
    return fmean(found) if found else -1.0


def write_csv(entries: Sequence[Entry], out: Path | str) -> None:
    """Write entries as CSV.

    Columns: mean, spread and the paper's figure of each metric in percent; the effect with its interval, the paper's
    difference and the direction, in points; the facts.

    Raises:
        InputError: `out` cannot be written.
    """
    metrics = _metrics(entries)
    facts = list(dict.fromkeys(fact for entry in entries for fact in entry.facts))
    columns = [column for metric in metrics for column in (metric, f"{metric} spread", f"{metric} paper")]
    compared = ["against", "metric", "change", "low", "high", "change paper", "direction"]
    with atomic_write(out) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row", *columns, *compared, "seeds", "seeds done", *facts, "error"])
        for entry in entries:
            cells = [source.get(metric) for metric in metrics for source in (entry.mean, entry.spread, entry.paper)]
            writer.writerow(
                [
                    entry.name,
                    *map(_cell, cells),
                    *_effect_columns(entry.effect),
                    entry.seeds,
                    len(entry.lines),
                    *(entry.facts.get(fact, "") for fact in facts),
                    "; ".join(entry.errors),
                ]
            )


def _effect_columns(found: Effect | None) -> list[str]:
    if found is None:
        return [""] * 7
    points = [found.change, *found.interval, found.paper]
    return [found.against, found.metric, *map(_cell, points), found.direction or ""]


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def terminal_table(entries: Sequence[Entry]) -> rich.table.Table:
    """The table for a terminal: mean and spread of every mAP and of rank1, the paper's figures behind them."""
    from rich import box
    from rich.table import Table

    chosen = [name for name in _metrics(entries) if name.startswith("mAP") or name == "rank1"]
    table = Table("", box=box.SIMPLE_HEAD)
    for metric in chosen:
        table.add_column(metric, justify="right", no_wrap=True)
        table.add_column("paper", justify="right")
    for name in ("change (95 %)", "paper", "direction", "seeds", "re-ranked", "transductive", "initialisation"):
        table.add_column(name)
    for entry in entries:
        cells = [cell for metric in chosen for cell in (_shown(entry, metric), f"{entry.paper.get(metric, '')}")]
        facts = [entry.facts.get(name, "") for name in ("re-ranked", "transductive", "initialisation")]
        seeds = f"{len(entry.lines)} of {entry.seeds}" + (f", {len(entry.errors)} failed" if entry.errors else "")
        seeds += ", no labels" if entry.lines and not entry.mean else ""
        table.add_row(entry.name, *cells, *_effect_cells(entry.effect), seeds, *facts)
    return table


def _metrics(entries: Sequence[Entry]) -> list[str]:
    return list(dict.fromkeys(metric for entry in entries for metric in (*entry.mean, *entry.paper)))


def _shown(entry: Entry, metric: str) -> str:
    if metric not in entry.mean:
        return ""
    spread = f" \N{PLUS-MINUS SIGN} {entry.spread[metric]:.1f}" if metric in entry.spread else ""
    return f"{entry.mean[metric]:.1f}{spread}"


def _effect_cells(found: Effect | None) -> tuple[str, str, str]:
    if found is None:
        return "", "", ""
    low, high = found.interval
    paper = "" if found.paper is None else f"{found.paper:+.1f}"
    return f"{found.change:+.1f} ({low:+.1f} to {high:+.1f})", paper, found.direction or ""
